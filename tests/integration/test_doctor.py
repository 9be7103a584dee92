"""What `ringcast doctor` finds, each thing provoked: on the loopback, and between network namespaces."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ringcast import Node, Seeds, Zeroconf
from ringcast.runtime.browse import Announced, announcements
from ringcast.runtime.examination import Datagrams, Examined, Unfit, examine, try_datagrams
from ringcast.runtime.interfaces import interfaces, multicast_fails
from ringcast.security.material import FromSecret
from ringcast.security.private import create_private
from ringcast.security.secret import Key, Secret, new_key
from ringcast.security.trust import Trust
from tests.integration.shops import LIMIT, Shop

OLD, NEW, OTHER = new_key(1000.0), new_key(2000.0), new_key(3000.0)
DAY = 86400.0
Program = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def secret(*keys: Key) -> bytes:
    return Secret(keys).render().encode()


def trust(node: Node, *keys: Key, cluster: str | None = None, ahead: float = 0.0) -> Trust:
    return Trust(FromSecret(secret(*keys or (OLD,)), None), cluster or node.cluster, clock=lambda: time.time() + ahead)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node(cluster=f"doctor-{uuid.uuid4().hex}", discovery=[], secret=secret(OLD)) as node:
        yield node


async def unfit(trust: Trust, address: str, limit: float = 5.0) -> Unfit:
    found = await examine(trust, address, limit)
    assert isinstance(found, Unfit)
    assert found.todo
    return found


async def test_a_node_that_is_well(node: Node) -> None:
    found = await examine(trust(node), node.address, 5.0)
    assert isinstance(found, Examined)
    assert found.status["id"] == node.id
    assert abs(found.skew) < 1.0
    assert await try_datagrams(trust(node), node.address, found.status, 5.0) == Datagrams(there=True, back=True)


@pytest.mark.parametrize("ahead", [5.0, -5.0, 5000.0])
async def test_clock_skew(node: Node, ahead: float) -> None:
    found = await examine(trust(node), node.address, 5.0, clock=lambda: time.time() - ahead)
    assert isinstance(found, Examined)
    assert abs(found.skew - ahead) < 1.0


async def test_the_wrong_port(node: Node, unused_tcp_port: int) -> None:
    found = await unfit(trust(node), f"127.0.0.1:{unused_tcp_port}")
    assert "no node listens there" in found.found


async def test_a_name_that_is_none(node: Node) -> None:
    found = await unfit(trust(node), "nobody.invalid:7400")
    assert "cannot be resolved" in found.found


async def test_another_secret_tells_who_it_says_it_is(node: Node) -> None:
    found = await unfit(trust(node, OTHER), node.address)
    assert "it has another secret, or none of this cluster" in found.found
    assert f"it says that it is node {node.id} of cluster '{node.cluster}', signed by key {OLD.id}" in found.found
    assert f"Here {OTHER.id} is accepted" in found.todo


async def test_another_cluster(node: Node) -> None:
    found = await unfit(trust(node, cluster="elsewhere"), node.address)
    assert f"of cluster '{node.cluster}', and this is cluster 'elsewhere'" in found.found


async def test_a_key_that_the_node_does_not_know_yet(node: Node) -> None:
    found = await unfit(trust(node, NEW, OLD), node.address)
    assert found.found == f"it does not accept the key {NEW.id} with which this side signs"
    assert "copy the secret's file" in found.todo


@pytest.mark.parametrize(("ahead", "said"), [(-7 * DAY, "has expired there"), (7 * DAY, "clock may be ahead")])
async def test_a_certificate_that_has_ended_or_not_begun(node: Node, ahead: float, said: str) -> None:
    found = await unfit(trust(node, ahead=ahead), node.address)
    assert "it refuses this side's certificate" in found.found
    assert said in found.found
    assert "set the clocks" in found.todo


@asynccontextmanager
async def listening(answer: Program) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def test_other_programs_and_hung_ones(node: Node) -> None:
    over = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.0 400 Bad request\r\n\r\n")
        writer.close()

    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()

    async with listening(silent) as address:
        assert "nothing is said there" in (await unfit(trust(node), address, 0.2)).found
        over.set()
    for program in (web, closing):
        async with listening(program) as address:
            assert "it is no node that speaks TLS" in (await unfit(trust(node), address)).found


async def test_a_node_without_tls() -> None:
    async with Node(cluster=f"doctor-{uuid.uuid4().hex}", discovery=[], secret=secret(OLD), tls=False) as node:
        found = await unfit(trust(node), node.address)
        assert "it is no node that speaks TLS" in found.found
        assert "--no-tls" in found.todo
        in_clear = Trust(FromSecret(secret(OLD), None), node.cluster, is_encrypted=False)
        assert isinstance(await examine(in_clear, node.address, 5.0), Examined)


async def test_multicast_works_where_it_does_and_else_says_why() -> None:
    assert await multicast_fails("127.0.0.1") is None
    assert await multicast_fails("203.0.113.77") in ("No such device", "Cannot assign requested address")
    assert "127.0.0.1" in {interface.address for interface in interfaces()}


async def test_announcements_are_heard_with_their_tags() -> None:
    cluster = f"doctor-{uuid.uuid4().hex}"
    async with Node(cluster=cluster, discovery=[Zeroconf()], secret=secret(OLD)) as node:
        wanted = Announced(trust(node).tags[0], node.address)
        async with announcements(["127.0.0.1"]) as found, asyncio.timeout(LIMIT):
            while await found.get() != wanted:
                pass
        async with announcements(["127.0.0.1"], trust(node).tags) as found, asyncio.timeout(LIMIT):
            assert await found.get() == wanted


LOOK = ("--interface", "127.0.0.1", "--json")


async def diagnosis(shop: Shop, *arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Return the exit code, and the findings by level."""
    code, out, err = await shop.say("doctor", *LOOK, *arguments)
    assert err == ""
    document = json.loads(out)
    by_level: dict[str, list[dict[str, str]]] = {"ok": [], "warning": [], "problem": []}
    for finding in document["findings"]:
        by_level[finding["level"]].append(finding)
    assert document["counts"] == {level: len(findings) for level, findings in by_level.items()}
    return code, by_level


async def test_the_command_over_nodes_of_ours_and_of_others(shop: Shop) -> None:
    create_private(shop.folder / "secret", secret(OLD).decode())
    create_private(shop.folder / "other", secret(OTHER).decode())
    async with shop.up("--secret", "secret") as up, shop.up("--secret", "other") as other:
        ready, stranger = await up.ready(), await other.ready()
        async with Node(
            cluster=shop.cluster, discovery=[Seeds([ready["address"]])], hosts=[], secret=secret(OLD)
        ) as node:
            await node.wait_for_members(2, LIMIT)
            # This node announces nothing: it is heard of from the other.
            code, found = await diagnosis(shop, "--secret", "secret", "--seconds", "2")
        assert (code, found["problem"]) == (0, [])
        abouts = {finding["about"] for finding in found["ok"]}
        assert f"node {ready['node']} ({ready['address']})" in abouts
        assert f"node {node.id} ({node.address})" in abouts
        assert any(finding["found"] == "UDP works, there and back" for finding in found["ok"])
        foreign = [finding for finding in found["warning"] if finding["about"].startswith("announcements ")]
        assert [stranger["address"] in finding["found"] for finding in foreign].count(True) == 1

        code, found = await diagnosis(shop, "--secret", "secret", "--seconds", "0", "--node", stranger["address"])
    assert code == 1
    (problem,) = found["problem"]
    assert problem["about"] == f"node {stranger['address']}"
    assert "it has another secret" in problem["found"]


async def test_the_command_where_nobody_is(shop: Shop) -> None:
    code, found = await diagnosis(shop, "--seconds", "0.5")
    assert code == 1
    assert "there is none to examine" in found["problem"][0]["found"]
    code, out, _ = await shop.say("doctor", "--interface", "127.0.0.1", "--seconds", "0.1")
    assert code == 1
    assert "PROBLEM nodes: there is none to examine" in out
    assert "        -> start one with `ringcast up`" in out
    code, _, err = await shop.say("doctor", "--interface", "203.0.113.77")
    assert (code, "'203.0.113.77' is no address of this machine" in err) == (2, True)


# ---- two machines: network namespaces --------------------------------------------------------------


INWARD = "iif", "cable", "dport", "7400"
OUTWARD = "iif", "lo", "sport", "7400"


class Lan:
    """Two network namespaces with a cable between them."""

    def __init__(self, names: tuple[str, str]) -> None:
        self.names = names
        self.addresses = "10.77.0.1", "10.77.0.2"

    def ip(self, number: int, *arguments: str) -> None:
        subprocess.run(["ip", "-n", self.names[number], *arguments], check=True, capture_output=True)

    def command(self, number: int, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[number], sys.executable, "-m", "ringcast", *arguments]

    def drop_udp(self, *matches: Sequence[str]) -> None:
        """Have the first machine lose datagrams, silently, as a firewall does: by a rule of its routing."""
        self.ip(0, "rule", "add", "pref", "10", "lookup", "local")
        self.ip(0, "rule", "del", "pref", "0")
        for match in matches:
            self.ip(0, "rule", "add", "pref", "5", "ipproto", "udp", *match, "blackhole")


@contextmanager
def no_root_no_lan() -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no network namespaces can be made here: {getattr(error, 'stderr', b'') or error}")


@pytest.fixture
def lan() -> Generator[Lan, None, None]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("no network namespaces can be made here: it takes root, and the command `ip`")
    lan = Lan((f"rcd{uuid.uuid4().hex[:8]}", f"rcd{uuid.uuid4().hex[:8]}"))
    made = list[str]()
    try:
        with no_root_no_lan():
            for name in lan.names:
                subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
                made.append(name)
            one, two = lan.names
            cable = ["ip", "link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", two]
            subprocess.run(cable, check=True, capture_output=True)
            for number, address in enumerate(lan.addresses):
                lan.ip(number, "addr", "add", f"{address}/24", "dev", "cable")
                lan.ip(number, "link", "set", "lo", "up")
                lan.ip(number, "link", "set", "cable", "up")
        yield lan
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=True)


@asynccontextmanager
async def node_in(lan: Lan, folder: Path) -> AsyncIterator[dict[str, Any]]:
    create_private(folder / "secret", secret(OLD).decode())
    listen = f"{lan.addresses[0]}:7400"
    process = await asyncio.create_subprocess_exec(
        *lan.command(0, "up", "--json", "--secret", str(folder / "secret"), "--listen", listen),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT):
            yield json.loads(await process.stdout.readline())
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def seen_from_afar(lan: Lan, folder: Path, *arguments: str) -> list[dict[str, str]]:
    process = await asyncio.create_subprocess_exec(
        *lan.command(1, "doctor", "--json", "--secret", str(folder / "secret"), *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    findings: list[dict[str, str]] = json.loads(out)["findings"]
    return findings


async def test_two_machines_that_see_each_other(lan: Lan, tmp_path: Path) -> None:
    async with node_in(lan, tmp_path) as ready:
        found = await seen_from_afar(lan, tmp_path, "--seconds", "2")
    assert {finding["level"] for finding in found} == {"ok"}
    assert any(finding["about"] == f"interface cable ({lan.addresses[1]})" for finding in found)
    assert any(finding["found"] == f"with this secret and cluster: {ready['address']}" for finding in found)


@pytest.mark.parametrize(
    ("matches", "said"),
    [
        ([INWARD], "UDP does not arrive there"),
        ([OUTWARD], "UDP from there does not arrive here"),
        ([INWARD, OUTWARD], "TCP works and UDP does not, in either direction"),
    ],
)
async def test_a_firewall_that_drops_datagrams(
    lan: Lan, tmp_path: Path, matches: list[tuple[str, ...]], said: str
) -> None:
    async with node_in(lan, tmp_path) as ready:
        with no_root_no_lan():
            lan.drop_udp(*matches)
        found = await seen_from_afar(lan, tmp_path, "--seconds", "0", "--node", ready["address"])
    (problem,) = (finding for finding in found if finding["level"] == "problem")
    assert problem["about"] == f"node {ready['node']} ({ready['address']})"
    assert problem["found"] == said
    assert "open UDP, too" in problem["todo"]


async def test_no_multicast_and_no_machine_there(lan: Lan, tmp_path: Path) -> None:
    create_private(tmp_path / "secret", secret(OLD).decode())
    lan.ip(1, "link", "set", "cable", "down")
    nobody = f"{lan.addresses[0]}:7400"
    found = await seen_from_afar(lan, tmp_path, "--seconds", "0", "--node", nobody)
    by_about = {finding["about"]: finding for finding in found}
    assert "no multicast" in by_about[f"interface cable ({lan.addresses[1]})"]["found"]
    assert by_about[f"node {nobody}"]["level"] == "problem"
