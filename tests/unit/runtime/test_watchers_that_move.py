"""A watch goes with its watcher: exactly one notice, whoever moved or was lost in between. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ringcast import PERMANENT, TEMPORARY, Actor, props
from ringcast.actors.placement import Near
from ringcast.testing import Cluster, ClusterNode, cluster, simulated

NOTICES: list[tuple[Any, str]] = []
"""What all watchers of all nodes were told."""


@pytest.fixture(autouse=True)
def _notices() -> None:
    NOTICES.clear()


class Anchor(Actor):
    async def ping(self) -> None:
        pass


class Quarry(Actor, idle_after=None):
    async def ping(self) -> str:
        return "pong"


class Hunter(Actor, idle_after=None):
    def __init__(self, quarry: Any = None) -> None:
        self._quarry = quarry

    async def on_start(self) -> None:
        if self._quarry is not None:
            await self.context.watch(self._quarry)

    async def watch(self, ref: Any) -> None:
        await self.context.watch(ref)

    async def ping(self) -> str:
        return "pong"

    async def fail(self) -> None:
        raise LookupError("told to")

    async def on_terminated(self, ref: Any, reason: str) -> None:
        NOTICES.append((self.context.key, reason))


class Sleepy(Hunter, idle_after=0.2):
    pass


def near(c: Cluster, node: ClusterNode) -> Near:
    """Where `node` is, as long as it is there."""
    anchors = (c.ref(Anchor, key) for key in range(1000))
    return Near(next(anchor for anchor in anchors if c.owner(anchor) is node))


def keyed(c: Cluster, cls: type[Hunter], node: ClusterNode) -> Any:
    refs = (c.ref(cls, key) for key in range(1000))
    return next(ref for ref in refs if c.owner(ref) is node)


async def stop(c: Cluster, ref: Any) -> None:
    await c.node(0).run(lambda node: node.stop(ref))


async def end(c: Cluster, node: ClusterNode, how: str) -> None:
    await (c.kill(node) if how == "kill" else c.leave(node))
    await c.settled()


async def one_notice(c: Cluster, reason: str) -> None:
    await c.until(lambda: bool(NOTICES), 10, "the notice")
    await asyncio.sleep(5)
    assert [why for _, why in NOTICES] == [reason]


@pytest.mark.parametrize("how", ["kill", "leave"])
@pytest.mark.parametrize("on", [1, 2], ids=["apart", "together"])
@simulated
async def test_a_spawned_watcher_that_moves(how: str, on: int) -> None:
    async with cluster(4) as c:
        quarry = await c.node(0).spawn(props(Quarry), name="q", on=near(c, c.node(on)))
        hunter = await c.node(0).spawn(props(Hunter), name="h", on=near(c, c.node(2)))
        await hunter.watch(quarry)
        await end(c, c.node(2), how)
        assert await hunter.ping() == await quarry.ping() == "pong"
        assert NOTICES == []
        await stop(c, quarry)
        await one_notice(c, "stopped")


@pytest.mark.parametrize("how", ["kill", "leave"])
@simulated
async def test_what_was_watched_is_lost_with_its_watcher(how: str) -> None:
    async with cluster(4) as c:
        place = near(c, c.node(2))
        quarry = await c.node(0).spawn(props(Quarry), name="q", on=place, restart=TEMPORARY)
        hunter = await c.node(0).spawn(props(Hunter), name="h", on=place)
        await hunter.watch(quarry)
        await end(c, c.node(2), how)
        assert await hunter.ping() == "pong"
        await c.until(lambda: bool(NOTICES), 10, "the notice")
        await asyncio.sleep(5)
        assert len(NOTICES) == 1


@pytest.mark.parametrize("how", ["kill", "leave"])
@simulated
async def test_a_keyed_watcher_that_moves(how: str) -> None:
    async with cluster(4) as c:
        quarry = await c.node(0).spawn(props(Quarry), name="q", on=near(c, c.node(1)))
        hunter = keyed(c, Hunter, c.node(2))
        await hunter.watch(quarry)
        await end(c, c.node(2), how)
        assert NOTICES == []
        await stop(c, quarry)
        await one_notice(c, "stopped")


@simulated
async def test_a_keyed_watcher_that_a_new_node_takes() -> None:
    async with cluster(4) as c:
        await end(c, c.node(2), "leave")
        quarries = [await c.node(0).spawn(props(Quarry), name=f"q{n}") for n in range(40)]
        for number, quarry in enumerate(quarries):
            await c.ref(Hunter, number).watch(quarry)
        await c.start(c.node(2))
        await c.settled()
        assert any(c.owner(c.ref(Hunter, number)) is c.node(2) for number in range(40))
        for quarry in quarries:
            await stop(c, quarry)
        await c.until(lambda: len(NOTICES) == 40, 10, "the notices")
        await asyncio.sleep(5)
        assert sorted(key for key, _ in NOTICES) == list(range(40))


@pytest.mark.parametrize("how", ["kill", "leave"])
@simulated
async def test_both_move_one_after_the_other(how: str) -> None:
    async with cluster(5) as c:
        quarry = await c.node(0).spawn(props(Quarry), name="q", on=near(c, c.node(1)))
        hunter = await c.node(0).spawn(props(Hunter), name="h", on=near(c, c.node(2)))
        by_key = keyed(c, Hunter, c.node(2))
        await hunter.watch(quarry)
        await by_key.watch(quarry)
        await end(c, c.node(2), how)
        await end(c, c.node(1), how)
        assert NOTICES == []
        await stop(c, quarry)
        await c.until(lambda: len(NOTICES) == 2, 10, "the notices")
        await asyncio.sleep(5)
        assert [reason for _, reason in NOTICES] == ["stopped"] * 2


@simulated
async def test_who_watches_at_each_start_is_told_once() -> None:
    async with cluster(4) as c:
        quarry = await c.node(0).spawn(props(Quarry), name="q", on=near(c, c.node(1)))
        hunter = await c.node(0).spawn(props(Hunter, quarry), name="h", on=near(c, c.node(2)), restart=PERMANENT)
        assert await hunter.ping() == "pong"
        await end(c, c.node(2), "kill")
        assert await hunter.ping() == "pong"
        await hunter.watch(quarry)
        await stop(c, quarry)
        await one_notice(c, "stopped")


@simulated
async def test_a_watcher_that_has_ended_is_told_nothing_and_one_that_sleeps_is_woken() -> None:
    async with cluster(3) as c:
        quarry = await c.node(0).spawn(props(Quarry), name="q", on=near(c, c.node(1)))
        hunter = await c.node(0).spawn(props(Hunter), name="h", on=near(c, c.node(2)))
        sleepy = keyed(c, Sleepy, c.node(2))
        await hunter.watch(quarry)
        await sleepy.watch(quarry)
        await stop(c, hunter)
        await asyncio.sleep(3)
        await stop(c, quarry)
        await one_notice(c, "stopped")


@simulated
async def test_a_node_that_was_cut_off_hears_of_what_ended_meanwhile() -> None:
    async with cluster(5) as c:
        quarry = await c.node(0).spawn(props(Quarry), name="q", on=near(c, c.node(1)))
        hunter = await c.node(0).spawn(props(Hunter), name="h", on=near(c, c.node(2)))
        by_key = keyed(c, Hunter, c.node(2))
        await hunter.watch(quarry)
        await by_key.watch(quarry)
        await c.partition([c.node(2)], [c.node(number) for number in (0, 1, 3, 4)])
        await asyncio.sleep(20)
        assert await hunter.ping() == "pong", "it runs elsewhere"
        await stop(c, quarry)
        await c.heal()
        await c.settled()
        await c.until(lambda: len(NOTICES) >= 2, 10, "the notices")
        await asyncio.sleep(5)
        assert [reason for _, reason in NOTICES] == ["stopped"] * 2
