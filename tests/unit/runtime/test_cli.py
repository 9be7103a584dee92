"""The command line as its user sees it: usage, listings, exit codes. The nodes here are fakes."""

import asyncio
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import ringcast
from ringcast import Node
from ringcast.discovery.preamble import preamble
from ringcast.runtime import inquiry
from ringcast.runtime.cli import cli
from ringcast.runtime.control import framed, opened
from ringcast.security.channels import CONTROL
from ringcast.security.trust import Trust

Answer = dict[str, Any]


@pytest.fixture(autouse=True)
def secret_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    for name in ("RINGCAST_SECRET", "RINGCAST_SECRET_FILE"):
        monkeypatch.delenv(name, raising=False)


class FakeNode(socketserver.ThreadingTCPServer):
    """Speaks the control channel; None as an answer is silence until the asker goes."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Answer], Answer | None], name: str) -> None:
        super().__init__(("127.0.0.1", 0), Conversation)
        self.answer = answer
        self.asked: list[Answer] = []
        context = Trust.found(None, "default", node_id=name).serving(CONTROL)
        assert context is not None
        self.context = context

    @property
    def at(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        node = self.server
        assert isinstance(node, FakeNode)
        assert self.request.recv(8, socket.MSG_WAITALL) == preamble(CONTROL)
        with node.context.wrap_socket(self.request, server_side=True) as tls, tls.makefile("rwb") as stream:
            request = opened(stream.read(int.from_bytes(stream.read(4), "big")))
            node.asked.append(request)
            answer = node.answer(request)
            if answer is None:
                stream.read()
            else:
                stream.write(framed(answer))
                stream.flush()


@contextmanager
def listening(answer: Callable[[Answer], Answer | None], name: str = "one") -> Generator[FakeNode, None, None]:
    with FakeNode(answer, name) as node:
        thread = threading.Thread(target=node.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield node
        node.shutdown()
        thread.join()


def member(name: str, address: str, **more: Any) -> Answer:
    known = {"id": name, "address": address, "labels": {"zone": "a"}, "hosts": ["shop:Cart"]}
    return known | {"leaving": False, "started_ms": 1_700_000_000_000} | more


def status_of(name: str, address: str, members: list[Answer], number: int = 3, ready: bool = True) -> Answer:
    return {
        "id": name,
        "address": address,
        "cluster": "shop",
        "pid": 7,
        "ready": ready,
        "view": {"lineage": "l", "number": number},
        "secret": {"signs": "0a1b2c3d", "accepts": ["0a1b2c3d"]},
        "versions": {"ringcast": "1.2.3", "protocol": [1, 1], "python": "3.11.7"},
        "members": members,
        "stats": {"actors": 2, "calls": 30, "links_up": 1, "dead_letters": 4},
    }


def ringcast_(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, env={"RINGCAST_CLUSTER": None, "RINGCAST_LISTEN": None})


@contextmanager
def pair(
    second: Callable[[Answer], Answer | None], number: int = 3
) -> Generator[tuple[FakeNode, FakeNode], None, None]:
    """Two members; `second` makes the other's answer of the one that it should give to status."""
    members: list[Answer] = []

    def answer(request: Answer) -> Answer:
        if request["what"] == "status":
            return status_of("one", one.at, members)
        return {"total": 1, "actors": [actor("shop:Cart['ann']")]}

    def other(request: Answer) -> Answer | None:
        return second(status_of("two", two.at, members, number))

    with listening(answer, "one") as one, listening(other, "two") as two:
        members += [member("one", one.at), member("two", two.at)]
        yield one, two


def actor(name: str, **more: Any) -> Answer:
    shown: Answer = {"actor": name, "class": "shop:Cart", "state": "active", "mailbox": 0, "running": []}
    return shown | {"restart": None, "failures": 0} | more


def test_version() -> None:
    assert ringcast.__version__ in ringcast_("--version").output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "--node", "nowhere"], "'nowhere' is not of the form 'host:port'"),
        (["status", "--timeout", "0"], "0.0 is not in the range x>0"),
        (["actors", "--limit", "0"], "0 is not in the range"),
        (["status", "--secret", "/nowhere/secret"], "the cluster secret /nowhere/secret cannot be read"),
        (["status", "--tls-ca", "ca", "--tls-cert", "cert"], "--tls-ca, --tls-cert and --tls-key go together"),
        (
            ["status", "--no-tls", "--tls-ca", "ca", "--tls-cert", "cert", "--tls-key", "key"],
            "--no-tls goes without certificates",
        ),
        (["status", "--tls-ca", "ca", "--tls-cert", "cert", "--tls-key", "key"], "cannot be read"),
        (["doctor", "--node", "nowhere"], "'nowhere' is not of the form 'host:port'"),
        (["locate", "Cart"], "Missing argument 'KEY'"),
        (["locate", "Cart", "--int", "seven"], "KEY 'seven' cannot be read as int"),
        (["locate", "Cart", "--bytes", "xyz"], "KEY 'xyz' cannot be read as bytes"),
        (["locate", "Cart", "--uuid", "1"], "KEY '1' cannot be read as uuid"),
        (["explode"], "No such command 'explode'"),
    ],
)
def test_what_is_not_understood_is_exit_code_2_and_says_why(arguments: list[str], said: str) -> None:
    result = ringcast_(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_status_of_a_cluster_that_agrees() -> None:
    with pair(lambda status: status) as (one, two):
        shown = ringcast_("status", "--node", two.at)
        document = json.loads(ringcast_("status", "--node", one.at, "--json").stdout)
    assert shown.exit_code == 0
    assert "cluster shop: 2 members, agreed on view l/3" in shown.output
    assert (document["cluster"], document["healthy"], document["agreed"]) == ("shop", True, True)
    assert [(entry["id"], entry["answers"], entry["members"]) for entry in document["nodes"]] == [
        ("one", True, 2),
        ("two", True, 2),
    ]
    assert document["nodes"][0]["stats"]["dead_letters"] == 4


def test_a_member_that_hangs_is_told_apart_and_holds_up_nobody() -> None:
    with pair(lambda _: None) as (one, two):
        shown = ringcast_("status", "--node", one.at, "--timeout", "0.2")
        document = json.loads(ringcast_("status", "--node", one.at, "--timeout", "0.2", "--json").stdout)
        listed = ringcast_("actors", "--node", one.at, "--timeout", "0.2")
    assert shown.exit_code == listed.exit_code == 1
    assert f"two ({two.at}): no answer within 0.2 s" in shown.output
    assert [entry["answers"] for entry in document["nodes"]] == [True, False]
    assert not document["healthy"]
    assert "shop:Cart['ann']" in listed.output
    assert f"two ({two.at}): no answer" in listed.output


def test_differing_views_are_a_problem_once_there_was_time_to_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringcast.runtime.cli.SPREADING", 0.01)
    with pair(lambda status: status, number=4) as (one, two):
        result = ringcast_("status", "--node", one.at)
        assert len(two.asked) == 2
    assert result.exit_code == 1
    assert "the members do not agree: they are in the views l/3, l/4" in result.output


def test_members_are_listed_with_labels_and_state() -> None:
    with listening(lambda _: seen) as node:
        seen = status_of("one", node.at, [member("one", node.at), member("two", "127.0.0.1:2", leaving=True)])
        shown = ringcast_("members", "--node", node.at)
        document = json.loads(ringcast_("members", "--node", node.at, "--json").stdout)
    rows = [line.split() for line in shown.output.splitlines()]
    assert [row[-3:] for row in rows if row and row[0] in ("one", "two")] == [
        ["up", "zone=a", "shop:Cart"],
        ["leaving", "zone=a", "shop:Cart"],
    ]
    assert document["members"][1]["leaving"]
    assert document["seen_by"] == {"id": "one", "address": node.at}


def test_actors_are_filtered_limited_and_safe_to_show() -> None:
    def answer(request: Answer) -> Answer:
        if request["what"] == "status":
            return status_of("one", node.at, [member("one", node.at)])
        running = [{"method": "add", "seconds": 1.25}]
        return {
            "total": 9,
            "actors": [actor("b", running=running, supervisor="root", restarts=47), actor("[red]a\x1b[2J")],
        }

    with listening(answer) as node:
        shown = ringcast_("actors", "--node", node.at, "--class", "Cart", "--limit", "2")
        document = json.loads(ringcast_("actors", "--node", node.at, "--limit", "1", "--json").stdout)
    assert shown.exit_code == 0
    assert node.asked[1] == {"what": "actors", "class": "Cart", "limit": 2}
    assert "[red]a\\x1b[2J" in shown.output
    assert "add 1.2 s" in shown.output
    assert "root" in shown.output
    assert "47" in shown.output
    assert "2 of 9 actors" in shown.output
    assert [entry["actor"] for entry in document["actors"]] == ["[red]a\x1b[2J"]
    assert document["total"] == 9


def test_an_actor_that_waits_is_on_no_node() -> None:
    def answer(request: Answer) -> Answer:
        if request["what"] == "status":
            return status_of("one", node.at, [member("one", node.at)])
        return {"total": 2, "actors": [actor("a"), actor("b", state="waiting: no gpu", waits_for="no gpu")]}

    with listening(answer) as node:
        lines = ringcast_("actors", "--node", node.at).output.splitlines()
        a, b = json.loads(ringcast_("actors", "--node", node.at, "--json").stdout)["actors"]
    assert [line.split()[:4] for line in lines[1:3]] == [
        ["a", "shop:Cart", "one", "active"],
        ["b", "shop:Cart", "-", "waiting:"],
    ]
    assert (a["node"], a["address"]) == ("one", node.at)
    assert (b["node"], b["address"], b["keeper"], b["waits_for"]) == (None, None, "one", "no gpu")


@pytest.mark.parametrize(
    ("arguments", "kind", "key"),
    [
        (["Cart", "ann"], "str", "ann"),
        (["--int", "Cart", "--", "-5"], "int", "-5"),
        (["Cart", "00ff", "--bytes"], "bytes", "00ff"),
        (["Cart", "--uuid", "12345678123456781234567812345678"], "uuid", "12345678123456781234567812345678"),
    ],
)
def test_locate_sends_the_key_as_what_it_is(arguments: list[str], kind: str, key: str) -> None:
    place = {"class": "shop:Cart", "actor": "shop:Cart[…]", "id": "one", "address": "127.0.0.1:1"}

    def answer(request: Answer) -> Answer:
        return status_of("one", node.at, []) if request["what"] == "status" else place | {"active": True}

    with listening(answer) as node:
        result = ringcast_("locate", "--node", node.at, *arguments)
    assert result.exit_code == 0, result.output
    assert node.asked[-1] == {"what": "locate", "class": "Cart", "kind": kind, "key": key}
    assert "shop:Cart[…]: node one (127.0.0.1:1), active" in result.output


def test_whether_a_key_is_active_is_asked_of_its_owner() -> None:
    place = {"class": "shop:Cart", "actor": "shop:Cart['ann']", "id": "two"}
    with listening(lambda _: place | {"address": owner.at, "active": False}) as owner:

        def answer(request: Answer) -> Answer:
            elsewhere = place | {"address": owner.at, "active": None}
            return status_of("one", asked.at, []) if request["what"] == "status" else elsewhere

        with listening(answer) as asked:
            document = json.loads(ringcast_("locate", "Cart", "ann", "--node", asked.at, "--json").stdout)
    assert document == {
        "class": "shop:Cart",
        "actor": "shop:Cart['ann']",
        "node": "two",
        "address": owner.at,
        "active": False,
    }


def test_an_owner_that_does_not_answer_is_a_problem() -> None:
    place = {"class": "shop:Cart", "actor": "shop:Cart['ann']", "id": "two", "address": "127.0.0.1:1"}

    def answer(request: Answer) -> Answer:
        return status_of("one", node.at, []) if request["what"] == "status" else place | {"active": None}

    with listening(answer) as node:
        result = ringcast_("locate", "Cart", "ann", "--node", node.at)
    assert result.exit_code == 1
    assert "the node does not answer" in result.output


def test_what_a_node_refuses_is_said_on_stderr() -> None:
    def answer(request: Answer) -> Answer:
        no_class = {"error": "no member hosts a class 'Nope'"}
        return status_of("one", node.at, []) if request["what"] == "status" else no_class

    with listening(answer) as node:
        result = ringcast_("locate", "Nope", "x", "--json", "--node", node.at)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no member hosts a class 'Nope'" in result.stderr


def test_a_node_that_is_not_there_or_is_none() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        nobody = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        other = ringcast_("status", "--node", nobody)
        thread.join()
    gone = ringcast_("status", "--node", nobody)
    assert other.exit_code == gone.exit_code == 1
    assert f"node {nobody}: " in other.stderr
    assert f"node {nobody}: cannot be reached" in gone.stderr


async def test_a_node_in_clear_is_asked_with_no_tls() -> None:
    async with Node(cluster="default", discovery=[], tls=False) as node:
        in_clear = await asyncio.to_thread(ringcast_, "members", "--node", node.address, "--no-tls", "--json")
        encrypted = await asyncio.to_thread(ringcast_, "members", "--node", node.address)
    assert in_clear.exit_code == 0, in_clear.output
    assert json.loads(in_clear.stdout)["members"][0]["id"] == node.id
    assert encrypted.exit_code == 1
    assert "tls=False" in encrypted.stderr


def test_nobody_found_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async def heard(tags: Collection[str]) -> list[str]:
        assert tags == Trust.found(None, "empty").tags
        return []

    monkeypatch.setattr(inquiry, "heard", heard)
    result = ringcast_("members", "--cluster", "empty")
    assert result.exit_code == 1
    assert "no node of cluster 'empty' answers on this machine. Start one with `ringcast up`" in result.stderr


def test_no_multicast_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    async def heard(_: Collection[str]) -> list[str]:
        raise OSError("no such device")

    monkeypatch.setattr(inquiry, "heard", heard)
    result = ringcast_("members")
    assert result.exit_code == 1
    assert "no multicast on this machine (no such device)" in result.stderr
    assert "--node host:port" in result.stderr


def test_the_views_of_all_that_are_found_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that fell in two is seen as such, whichever half is heard first."""
    monkeypatch.setattr("ringcast.runtime.cli.SPREADING", 0.01)
    with (
        listening(lambda _: status_of("one", one.at, [member("one", one.at)])) as one,
        listening(lambda _: status_of("two", two.at, [member("two", two.at)], number=9), "two") as two,
    ):

        async def heard(_: Collection[str]) -> list[str]:
            return [one.at, two.at]

        monkeypatch.setattr(inquiry, "heard", heard)
        result = ringcast_("status", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert [entry["id"] for entry in document["nodes"]] == ["one", "two"]
    assert not document["agreed"]
