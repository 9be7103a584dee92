"""Watches across nodes: exactly one notice, also when what is watched has moved or was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from ringcast import TEMPORARY, Actor, Node, Seeds, Unreachable, props, watching
from ringcast.actors.placement import Near
from tests.unit.runtime.places import new_cluster


class Watched(Actor, idle_after=None):
    async def ping(self) -> str:
        return "pong"

    async def quit(self) -> None:
        await self.context.stop(self.context.me)


class Watcher(Actor):
    def __init__(self) -> None:
        self._notices: list[tuple[Any, str]] = []
        self._told = asyncio.Event()

    async def watch(self, ref: Any) -> None:
        await self.context.watch(ref)

    async def on_terminated(self, ref: Any, reason: str) -> None:
        self._notices.append((ref, reason))
        self._told.set()

    async def told(self) -> list[tuple[Any, str]]:
        await self._told.wait()
        return self._notices


@asynccontextmanager
async def nodes(count: int, callers: int = 0) -> AsyncIterator[list[Node]]:
    """Yield nodes of one cluster; the last `callers` of them host nothing."""
    cluster = new_cluster()
    async with AsyncExitStack() as stack:
        found: list[Node] = []
        for position in range(count):
            seeds = [Seeds([found[0].address])] if found else []
            hosts: list[str] | None = [] if position >= count - callers else None
            found.append(await stack.enter_async_context(Node(cluster=cluster, discovery=seeds, hosts=hosts)))
        for node in found:
            await node.wait_for_members(count, 10)
        yield found


async def owned_by(node: Node, caller: Node) -> Watched:
    for key in range(1000):
        ref = caller.ref(Watched, key)
        if (await caller.locate(ref)).id == node.id:
            return ref
    raise AssertionError("the node owns nothing")


async def test_a_watch_follows_a_keyed_actor_that_moves() -> None:
    async with nodes(3, callers=1) as (first, second, caller):
        ref = await owned_by(second, caller)
        assert await ref.ping() == "pong"
        async with watching(ref) as ended:
            await second.leave()
            assert await ref.ping() == "pong", "it is active on the other node"
            assert not ended.done(), "a move is no end"
            await caller.stop(ref)
            async with asyncio.timeout(5):
                assert await ended == "stopped"
        assert first.ready


async def test_what_is_lost_with_its_node_has_ended_for_a_watcher_elsewhere() -> None:
    async with nodes(3, callers=1) as (first, second, caller):
        near = Near(await owned_by(second, caller))
        ref = await caller.spawn(props(Watched), restart=TEMPORARY, on=near)
        assert (await caller.locate(ref)).id == second.id
        watcher = await caller.spawn(props(Watcher), on=Near(await owned_by(first, caller)))
        await watcher.watch(ref)
        await second.leave()
        async with asyncio.timeout(5):
            notices = await watcher.told()
        assert [(noticed == ref, reason) for noticed, reason in notices] == [(True, "leaving")]
        with pytest.raises(Unreachable):
            await ref.ping()


async def test_an_end_is_told_once_and_an_ended_watch_hears_nothing() -> None:
    async with nodes(2, callers=1) as (_, caller):
        ref = await caller.spawn(props(Watched))
        watcher = await caller.spawn(props(Watcher))
        await watcher.watch(ref)
        async with watching(ref):
            pass
        await caller.stop(ref)
        async with asyncio.timeout(5):
            assert [reason for _, reason in await watcher.told()] == ["stopped"]
        async with watching(ref) as ended, asyncio.timeout(5):
            assert await ended == "ended", "who comes late hears of it at once"
