"""A keyed actor's watches outlive any two nodes: its own, and whichever is lost with it. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ringcast import PERMANENT, TEMPORARY, Actor, Restart, props
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
    async def watch(self, ref: Any) -> None:
        await self.context.watch(ref)

    async def ping(self) -> str:
        return "pong"

    async def on_terminated(self, ref: Any, reason: str) -> None:
        NOTICES.append((self.context.key, reason))


class Faithful(Hunter):
    """Watches whom it is named after whenever it starts, as one does that keeps nothing."""

    async def on_start(self) -> None:
        await self.context.watch(self.context.ref(Quarry, self.context.key))


def owned(c: Cluster, cls: type[Actor], node: ClusterNode) -> list[Any]:
    """Return refs of that class that belong to a node."""
    return [ref for ref in (c.ref(cls, key) for key in range(1000)) if c.owner(ref) is node]


async def spawned(c: Cluster, node: ClusterNode, restart: Restart) -> Any:
    return await c.node(0).spawn(props(Quarry), name="q", on=Near(owned(c, Anchor, node)[0]), restart=restart)


async def lose(c: Cluster, *nodes: ClusterNode) -> None:
    """Have nodes be lost at the same moment."""
    await asyncio.gather(*(c.kill(node) for node in nodes))
    await c.settled()


async def notices(c: Cluster, *expected: str) -> None:
    await c.until(lambda: len(NOTICES) >= len(expected), 20, "the notices")
    await asyncio.sleep(10)
    assert sorted(reason for _, reason in NOTICES) == sorted(expected)


@pytest.mark.parametrize("on", [1, 2], ids=["apart", "together"])
@pytest.mark.parametrize("other", [3, 4])
@simulated
async def test_watcher_and_watched_are_lost_at_once_and_the_watched_goes_on(on: int, other: int) -> None:
    async with cluster(6) as c:
        quarry = await spawned(c, c.node(on), PERMANENT)
        hunters = owned(c, Hunter, c.node(2))[:20]
        for hunter in hunters:
            await hunter.watch(quarry)
        await lose(c, c.node(2), c.node(on if on != 2 else other))
        assert await quarry.ping() == "pong"
        await asyncio.sleep(2)  # else who looks for it only now finds that it has ended, and not why
        assert NOTICES == []
        await c.node(0).run(lambda node: node.stop(quarry))
        await notices(c, *["stopped"] * len(hunters))


@pytest.mark.parametrize("on", [1, 2], ids=["apart", "together"])
@simulated
async def test_watcher_and_watched_are_lost_at_once_and_the_watched_has_ended(on: int) -> None:
    async with cluster(5) as c:
        quarry = await spawned(c, c.node(on), TEMPORARY)
        hunters = owned(c, Hunter, c.node(2))[:20]
        for hunter in hunters:
            await hunter.watch(quarry)
        await lose(c, *{c.node(2), c.node(on)})
        await notices(c, *["lost"] * len(hunters))


@pytest.mark.parametrize("on", [1, 2], ids=["apart", "together"])
@simulated
async def test_a_keyed_actor_and_its_watcher_are_lost_at_once(on: int) -> None:
    async with cluster(5) as c:
        quarry = owned(c, Quarry, c.node(on))[0]
        hunter = owned(c, Hunter, c.node(2))[0]
        assert await quarry.ping() == "pong"
        await hunter.watch(quarry)
        await lose(c, *{c.node(2), c.node(on)})
        await notices(c, "lost")


@pytest.mark.parametrize("on", [1, 2], ids=["apart", "together"])
@simulated
async def test_who_watches_whenever_it_starts_is_told_once(on: int) -> None:
    async with cluster(5) as c:
        pairs = ((c.ref(Faithful, key), c.ref(Quarry, key)) for key in range(1000))
        hunter, quarry = next((h, q) for h, q in pairs if c.owner(h) is c.node(2) and c.owner(q) is c.node(on))
        assert await quarry.ping() == await hunter.ping() == "pong"
        await lose(c, *{c.node(2), c.node(on)})
        assert await hunter.ping() == "pong", "it is active again, and watches anew"
        await notices(c, "lost")
        await quarry.ping()
        await c.node(0).run(lambda node: node.stop(quarry))
        await asyncio.sleep(10)
        assert len(NOTICES) <= 2


@pytest.mark.parametrize("seconds", [0.01, 0.3, 0.7, 2.0])
@simulated
async def test_two_nodes_are_lost_one_after_the_other_while_watches_are_handed_on(seconds: float) -> None:
    async with cluster(7) as c:
        quarry = await spawned(c, c.node(2), TEMPORARY)
        hunters = [c.ref(Hunter, key) for key in range(60)]
        for hunter in hunters:
            await hunter.watch(quarry)
        await c.kill(c.node(1))
        await asyncio.sleep(seconds)
        await c.kill(c.node(3))
        await c.settled()
        await asyncio.sleep(2)
        await c.kill(c.node(2))
        await c.settled()
        await notices(c, *["lost"] * 60)


@simulated
async def test_a_watch_that_was_told_is_not_handed_on() -> None:
    async with cluster(5) as c:
        quarry = await spawned(c, c.node(1), PERMANENT)
        for hunter in owned(c, Hunter, c.node(2))[:20]:
            await hunter.watch(quarry)
        await c.node(0).run(lambda node: node.stop(quarry))
        await notices(c, *["stopped"] * 20)
        await lose(c, c.node(2), c.node(1))
        await notices(c, *["stopped"] * 20)


@simulated
async def test_what_two_hand_on_is_told_once() -> None:
    """The second comes when the notice was given already, and nothing else remembers the watch."""
    async with cluster(5) as c:
        quarry = await spawned(c, c.node(1), TEMPORARY)
        hunter = owned(c, Hunter, c.node(2))[0]
        await hunter.watch(quarry)
        wills = [will for node in c.running for will in node.node._host.wills._kept.values()]
        assert len(wills) == 2
        assert wills[0] == wills[1]
        await lose(c, c.node(2), c.node(1))
        await notices(c, "lost")
        assert not any(node.node._host.wills._kept or node.node._host.wills._made for node in c.running)
        will = wills[0]
        for node in c.running:
            node.node._host.wills._kept[will.id] = will
            node.node._host.wills.view_changed(node.node.view)
        await notices(c, "lost")
        assert not any(node.node._host.wills._kept for node in c.running)
