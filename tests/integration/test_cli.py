"""`ringcast up` as a process, seen by the other commands and by a node of the test's own."""

import asyncio
import json
import os
import signal
import socket

import pytest

from ringcast import Event, MemberJoined, MemberLeft, MemberLost, Node, ViewChanged
from ringcast.discovery.address import split_address
from tests.integration.shops import LIMIT, Shop


class Watcher:
    """Notes what happens to the membership, from when it was made."""

    def __init__(self, node: Node) -> None:
        self.seen: list[Event] = []
        self._more = asyncio.Condition()
        self._task = asyncio.create_task(self._watch(node))

    async def _watch(self, node: Node) -> None:
        async for event in node.events():
            async with self._more:
                self.seen.append(event)
                self._more.notify_all()

    async def until(self, kind: type[Event], *addresses: str) -> None:
        """Wait until an event of the kind was seen for each of the addresses."""
        async with asyncio.timeout(LIMIT), self._more:
            await self._more.wait_for(lambda: set(addresses) <= set(self.addresses(kind)))

    async def until_leaving(self, address: str) -> None:
        """Wait for a view in which that member is leaving."""

        def is_leaving() -> bool:
            views = [event.view for event in self.seen if isinstance(event, ViewChanged)]
            return any(member.leaving and member.address == address for view in views for member in view.members)

        async with asyncio.timeout(LIMIT), self._more:
            await self._more.wait_for(is_leaving)

    def addresses(self, kind: type[Event]) -> list[str]:
        return [
            event.member.address
            for event in self.seen
            if isinstance(event, kind) and not isinstance(event, ViewChanged)
        ]


async def test_a_running_cluster_can_be_looked_at(shop: Shop) -> None:
    async with shop.up("--label", "zone=a") as up:
        ready = await up.ready()
        assert (ready["cluster"], ready["pid"]) == (shop.cluster, up.process.pid)
        assert ready["members"] == [{"id": ready["node"], "address": ready["address"]}]
        async with shop.beside(ready["address"]) as node:
            counter = shop.load().Counter
            await node.ref(counter, "ann").add(1)
            await node.ref(counter, 7).add(1)
            sitting = asyncio.create_task(node.ref(counter, "bob").sit())
            await node.ref(counter, "eve").add(1)  # sent later over the same link, so bob sits now
            at = ("--node", node.address)
            status, members, actors, seven, nobody, unknown = await asyncio.gather(
                shop.tell("status"),  # found by zeroconf
                shop.tell("members", *at),
                shop.tell("actors", "--class", "Counter", *at),
                shop.tell("locate", "--int", f"{shop.module}:Counter", "7", *at),
                shop.tell("locate", "Counter", "7", *at),
                shop.say("locate", "Till", "7", *at),
            )
            sitting.cancel()
            await asyncio.wait({sitting})

    assert (status["cluster"], status["healthy"], status["agreed"]) == (shop.cluster, True, True)
    by_id = {entry["id"]: entry for entry in status["nodes"]}
    assert set(by_id) == {ready["node"], node.id}
    assert by_id[ready["node"]] | {"view": None, "stats": None, "secret": None, "versions": None} == {
        "id": ready["node"],
        "address": ready["address"],
        "leaving": False,
        "answers": True,
        "cluster": shop.cluster,
        "pid": up.process.pid,
        "ready": True,
        "view": None,
        "stats": None,
        "secret": None,
        "versions": None,
        "members": 2,
    }
    assert by_id[ready["node"]]["secret"] == by_id[node.id]["secret"]
    assert by_id[ready["node"]]["stats"]["actors"] == 4

    first = members["members"][0]
    assert (first["id"], first["labels"], first["hosts"]) == (
        ready["node"],
        {"zone": "a"},
        [f"{shop.module}:Counter"],
    )
    assert members["seen_by"] == {"id": node.id, "address": node.address}

    name = f"{shop.module}:Counter"
    assert [entry["actor"] for entry in actors["actors"]] == sorted(
        f"{name}[{key!r}]" for key in ("ann", "bob", "eve", 7)
    )
    assert (actors["total"], actors["silent"]) == (4, [])
    (bob,) = (entry for entry in actors["actors"] if entry["actor"] == f"{name}['bob']")
    assert (bob["node"], bob["address"]) == (ready["node"], ready["address"])
    assert [turn["method"] for turn in bob["running"]] == ["sit"]

    where = {"class": name, "node": ready["node"], "address": ready["address"]}
    assert nobody == where | {"actor": f"{name}['7']", "active": False}
    assert seven == where | {"actor": f"{name}[7]", "active": True}
    assert unknown[0] == 1
    assert f"no member hosts a class 'Till'; hosted are: {name}" in unknown[2]


async def test_sigterm_leaves_gracefully(shop: Shop) -> None:
    async with shop.up() as up:
        ready = await up.ready()
        async with shop.beside(ready["address"]) as node:
            watcher = Watcher(node)
            up.process.terminate()
            await watcher.until(MemberLeft, ready["address"])
            assert await up.code() == 0
            assert watcher.addresses(MemberLost) == []


async def test_a_drained_node_leaves_and_its_process_ends(shop: Shop) -> None:
    async with shop.up() as up:
        ready = await up.ready()
        async with shop.beside(ready["address"]) as node:
            watcher = Watcher(node)
            told = await shop.tell("drain", "--node", node.address, ready["node"][:8])
            assert told == {"node": ready["node"], "address": ready["address"], "gone": True}
            await watcher.until(MemberLeft, ready["address"])
            assert await up.code() == 0
            code, _, error = await shop.say("drain", "--node", node.address, "nobody")
            assert code == 1
            assert "no member is meant by 'nobody'" in error


async def test_a_dissolved_node_starts_over(shop: Shop) -> None:
    async with shop.up() as up:
        ready = await up.ready()
        at = ("--node", ready["address"])

        async def lineage() -> str:
            # Not `tell`: a node without a lease is not ready, and that is what status finds wrong with it meanwhile.
            _, out, _ = await shop.say("status", *at, "--json")
            return str(json.loads(out)["nodes"][0]["view"]["lineage"])

        before = await lineage()
        assert (await shop.say("dissolve", ready["address"], *at))[0] == 1  # nobody says yes
        assert await lineage() == before
        code, told, _ = await shop.say("dissolve", ready["address"], "--yes", *at)
        assert code == 0
        assert "starts over" in told
        async with asyncio.timeout(LIMIT):
            while await lineage() == before:
                pass


async def test_the_second_signal_ends_at_once(shop: Shop) -> None:
    async with shop.up() as up:
        ready = await up.ready()
        async with shop.beside(ready["address"]) as node:
            watcher = Watcher(node)
            counter = shop.load().Counter
            sitting = asyncio.create_task(node.ref(counter, "bob").sit())
            await node.ref(counter, "eve").add(1)
            up.process.send_signal(signal.SIGINT)
            await watcher.until_leaving(ready["address"])  # bob keeps it from going
            assert up.process.returncode is None
            up.process.send_signal(signal.SIGINT)
            assert await up.code() == -signal.SIGINT
            sitting.cancel()


async def test_workers_are_members_and_one_that_dies_is_started_again(shop: Shop) -> None:
    async with shop.up("--workers", "2") as up:
        one, two = await up.ready(), await up.ready()
        async with shop.beside(one["address"]) as node:
            await node.wait_for_members(3, LIMIT)
            assert {member.address for member in node.members} == {
                one["address"],
                two["address"],
                node.address,
            }
            watcher = Watcher(node)
            os.kill(two["pid"], signal.SIGKILL)
            three = await up.ready()
            assert three["pid"] not in (one["pid"], two["pid"])
            await watcher.until(MemberJoined, three["address"])
            await watcher.until(MemberLost, two["address"])

            up.process.terminate()
            await watcher.until(MemberLeft, one["address"], three["address"])
            assert await up.code() == 0
            assert watcher.addresses(MemberLost) == [two["address"]]
    for worker in (one, two, three):
        with pytest.raises(ProcessLookupError):
            os.kill(worker["pid"], 0)


async def test_workers_leave_when_their_supervisor_is_killed(shop: Shop) -> None:
    async with shop.up("--workers", "2", "--listen", "127.0.0.1:20000-29999") as up:
        one, two = await up.ready(), await up.ready()
        ports = {split_address(worker["address"])[1] for worker in (one, two)}
        assert len(ports) == 2
        assert ports < set(range(20000, 30000))
        async with shop.beside(one["address"]) as node:
            await node.wait_for_members(3, LIMIT)
            watcher = Watcher(node)
            up.process.kill()
            await watcher.until(MemberLeft, one["address"], two["address"])
            assert watcher.addresses(MemberLost) == []


async def test_a_module_that_cannot_be_imported_stops_the_node_and_its_workers(shop: Shop) -> None:
    (shop.folder / "broken.py").write_text("\nimport shop_parts\n")
    alone, workers = await asyncio.gather(
        shop.say("up", "broken", "--alone"), shop.say("up", "broken", "--alone", "--workers", "2")
    )
    assert (alone[0], workers[0]) == (1, 1)
    reason = "Error: cannot import module 'broken': ModuleNotFoundError: No module named 'shop_parts' ("
    assert alone[2].startswith(reason)
    assert workers[2].count(reason) in (3, 4)  # the second worker may end as the third attempt does
    assert "workers end before they are ready, so all stop" in workers[2]


async def test_a_port_in_use_is_said(shop: Shop) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, err = await shop.say("up", "--alone", "--listen", where)
    assert code == 1
    assert f"listen='{where}': every port it names is in use" in err


async def test_nobody_there(shop: Shop) -> None:
    code, out, err = await shop.say("status", "--json")
    assert (code, out) == (1, "")
    assert f"no node of cluster '{shop.cluster}' answers on this machine" in err
