import pytest

from ringcast.discovery.address import ListenOn, is_loopback, is_wildcard, join_address, split_address
from ringcast.discovery.dns import Dns
from ringcast.discovery.multicast import Zeroconf
from ringcast.discovery.preamble import channel_of, preamble
from ringcast.discovery.source import Seeds
from ringcast.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "parts"),
    [("10.0.0.5:7400", ("10.0.0.5", 7400)), ("node-2:0", ("node-2", 0)), ("[::1]:7400", ("::1", 7400))],
)
def test_split_and_join_are_inverse(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":1",
        "host:",
        "host:x",
        "host:65536",
        "host:-1",
        "host:²",
        "h" * 99 + ":1",
        "h\0:1",
        "a b:1",
        "h\n:1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not of the form|longer than"):
        split_address(text)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("127.0.0.1:0", range(1)),
        ("h:7400", range(7400, 7401)),
        ("my-host:7400-7402", range(7400, 7403)),
        ("[::]:5-5", range(5, 6)),
    ],
)
def test_listen_says_which_ports_to_try(text: str, ports: range) -> None:
    assert ListenOn.parse(text).ports == ports


@pytest.mark.parametrize("text", ["7400", "h:2-1", "h:0-9", "h:1-", "h:-2", "h:1-2-3", ":7400"])
def test_what_cannot_be_listened_on_says_what_it_takes(text: str) -> None:
    with pytest.raises(ConfigError, match=r"takes 'host:port'.*'host:first-last'"):
        ListenOn.parse(text)


def test_hosts_are_told_apart() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "10.0.0.5", "node")] == [True] * 3 + [
        False
    ] * 2
    assert [is_wildcard(host) for host in ("0.0.0.0", "::", "127.0.0.1", "node")] == [True] * 2 + [False] * 2


def test_preamble_names_a_channel_in_eight_bytes() -> None:
    assert preamble(b"A") == b"RCST\x01A\0\0"
    assert channel_of(preamble(b"A")) == b"A"
    for wrong in (b"", b"RCST\x01", b"RCST\x01A\0", b"RCST\x01A\0\1", b"RCST\x02A\0\0", b"GET / HT"):
        assert channel_of(wrong) is None


@pytest.mark.parametrize("wrong", ["h:1", ["h"], [7], ["h:0"]])
def test_seeds_say_what_they_take(wrong: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"Seeds takes a list of 'host:port'"):
        Seeds(wrong)


@pytest.mark.parametrize(("name", "port"), [("", 1), ("h:1", 1), ("h", 0), ("h", 65536)])
def test_dns_says_what_it_takes(name: str, port: int) -> None:
    with pytest.raises(ConfigError, match="Dns takes"):
        Dns(name, port)


@pytest.mark.parametrize("wrong", ["10.0.0.5", [], ["eth0"]])
def test_zeroconf_says_what_it_takes(wrong: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"Zeroconf\(interfaces=...\) takes a list"):
        Zeroconf(wrong)


def test_sources_show_how_they_were_made() -> None:
    assert repr(Seeds(["h:1"])) == "Seeds(['h:1'])"
    assert repr(Dns("h", 1)) == "Dns('h', 1)"
    assert repr(Zeroconf()) == "Zeroconf()"
    assert repr(Zeroconf(["10.0.0.5"])) == "Zeroconf(interfaces=['10.0.0.5'])"
