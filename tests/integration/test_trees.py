"""Spawned actors and their trees on nodes that are killed, or leave: real processes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ringcast import TEMPORARY, Labels, Node, NodeConfig, props, using, watching
from tests.integration.tree_node import Leaf, Parent, Tree
from tests.unit.runtime.places import eventually

ROOT = Path(__file__).parents[2]
RECOVERY = 8.0
"""Seconds within which what was lost is there again."""

_clusters = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Child:
    """A node process."""

    process: asyncio.subprocess.Process
    node_id: str
    label: str

    @property
    def pid(self) -> int:
        return self.process.pid

    async def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()


@asynccontextmanager
async def child(cluster: str, label: str) -> AsyncIterator[Child]:
    environment = {**os.environ, "RINGCAST_LOG": "error", "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.tree_node",
        cluster,
        label,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        word, node_id = line.decode().split()
        assert word == "READY"
        yield Child(process, node_id, label)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@asynccontextmanager
async def cluster(size: int) -> AsyncIterator[tuple[Node, list[Child]]]:
    """A node here that hosts nothing, and `size` processes with the labels a, b, …"""
    name = f"test-trees-{os.getpid()}-{next(_clusters)}"
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(Node(cluster=name, hosts=[], config=NodeConfig(drain_timeout=2.0)))
        children = [await stack.enter_async_context(child(name, label)) for label in "abcdef"[:size]]
        await node.wait_for_members(size + 1, timeout=30)
        yield node, children


async def pid_of(ref: Any, *, other_than: int = 0) -> int:
    """Return the process where an actor is, once it is in another one."""
    end = time.monotonic() + RECOVERY
    while True:
        pid: int = await using(ref, timeout=max(end - time.monotonic(), 0.1)).where()
        if pid != other_than:
            return pid


async def test_what_was_lost_with_its_node_runs_again_under_the_same_ref() -> None:
    async with cluster(3) as (node, children):
        refs = [await node.spawn(props(Leaf, str(n)), name=f"leaf-{n}") for n in range(20)]
        short = [await node.spawn(props(Leaf), restart=TEMPORARY) for _ in range(6)]
        where = [await ref.where() for ref in refs]
        victim = next(child for child in children if child.pid in where)
        gone = [ref for ref in short if await ref.where() == victim.pid]
        async with AsyncExitStack() as stack:
            ends = [await stack.enter_async_context(watching(ref)) for ref in gone]
            first = await stack.enter_async_context(watching(refs[0]))
            await victim.kill()
            for ref, pid in zip(refs, where, strict=True):
                assert (await pid_of(ref, other_than=victim.pid) == pid) is (pid != victim.pid)
            async with asyncio.timeout(RECOVERY):
                assert [await end for end in ends] == ["lost" for _ in gone]
                assert [await ref.word() for ref in refs] == [str(n) for n in range(20)]
                await node.stop(refs[0])
                assert await first == "stopped", "a watch follows what was started again"


async def test_a_supervisor_that_is_lost_finds_its_children() -> None:
    async with cluster(3) as (node, children):
        a, b, c = children
        parent = await node.spawn(props(Parent), name="parent", on=Labels(at="a"))
        stays, goes = await parent.have("stays", "b"), await parent.have("goes", "a")
        nameless = await parent.have(None, "c")
        assert [await ref.where() for ref in (stays, goes, nameless)] == [b.pid, a.pid, c.pid]
        async with watching(nameless) as ended, watching(goes) as other:
            await a.kill()
            async with asyncio.timeout(RECOVERY):
                assert await ended == "stopped", "who has no name does not outlive its parent's activation"
            assert not other.done()
            async with child(node.cluster, "a") as again:  # the labels are offered anew
                assert await pid_of(parent, other_than=a.pid) == again.pid
                assert await pid_of(goes, other_than=a.pid) == again.pid
                assert await parent.names() == ["goes", "stays"]
                assert await stays.where() == b.pid, "who was not lost has stayed"
                found = await parent.have("stays", "c")
                assert found == stays
                assert await found.where() == b.pid


async def test_a_tree_outlives_two_nodes_of_five_at_once() -> None:
    async with cluster(5) as (node, children):
        one, two = await asyncio.gather(node.supervise(Tree, name="tree"), node.supervise(Tree, name="tree"))
        assert one == two
        leaves = [await one.child(f"leaf{n}") for n in range(3)]
        pids = {await ref.where() for ref in [one, *leaves]}
        victims = [child for child in children if child.pid in pids][:2]
        victims += [child for child in children if child not in victims][: 2 - len(victims)]
        await asyncio.gather(*(victim.kill() for victim in victims))
        gone = {victim.pid for victim in victims}
        for ref in [one, *leaves]:
            async with asyncio.timeout(RECOVERY):
                while await pid_of(ref) in gone:
                    pass
        assert await one.names() == ["leaf0", "leaf1", "leaf2"]
        assert [await leaf.word() for leaf in leaves] == ["leaf 0", "leaf 1", "leaf 2"]


async def test_names_are_given_once_however_many_ask_at_a_time() -> None:
    async with cluster(3) as (node, _), Node(cluster=node.cluster, hosts=[]) as other:
        await other.wait_for_members(5, timeout=10)
        spawns = [one.spawn(props(Leaf, str(n)), name=f"n{n % 10}") for n in range(40) for one in (node, other)]
        refs = await asyncio.gather(*spawns)
        words = {ref: await ref.word() for ref in refs}
        assert len(words) == 10
        hosts = {
            ref: {await ref.where() for ref in (ref, await other.spawn(props(Leaf), name=f"n{n}"))}
            for n, ref in enumerate(sorted(words, key=repr))
        }
        assert all(len(pids) == 1 for pids in hosts.values())


@pytest.mark.parametrize("graceful", [True, False])
async def test_asks_go_on_while_nodes_leave(graceful: bool) -> None:
    async with cluster(3) as (node, children):
        refs = [await node.spawn(props(Leaf, str(n)), name=f"leaf-{n}") for n in range(12)]
        tree = await node.supervise(Tree, name="tree")
        watcher = await node.spawn(props(Leaf), name="watcher", on=Labels(at="c"))
        await watcher.watch(refs[0])
        victim = children[0]
        if graceful:
            assert await victim.terminate() == 0
        else:
            await victim.kill()
        assert victim.pid not in [await pid_of(ref, other_than=victim.pid) for ref in [*refs, tree]]
        assert [await ref.word() for ref in refs] == [str(n) for n in range(12)]
        assert await tree.names() == ["leaf0", "leaf1", "leaf2"]
        await node.stop(refs[0])
        heard: list[str] = []
        async with asyncio.timeout(RECOVERY):
            while not heard:
                heard = await watcher.told()
        assert heard == ["stopped"]


async def test_a_node_that_leaves_says_where_its_actors_are() -> None:
    async with cluster(2) as (node, children):
        ref = await node.spawn(props(Leaf, "w"), name="w", on=Labels(at="a"))
        ended = False
        async with watching(ref) as end:
            assert await children[0].terminate() == 0
            await eventually(lambda: len(node.members) == 2)
            ended = end.done()
        assert not ended, "it waits for a node with its label"
        async with child(node.cluster, "a"):
            assert await using(ref, timeout=RECOVERY).word() == "w"


async def test_a_watch_is_told_once_though_watcher_and_watched_have_moved() -> None:
    async with cluster(4) as (node, children):
        a, b, *_ = children
        watcher = await node.spawn(props(Leaf), name="watcher", on=Labels(at="a"))
        watched = await node.spawn(props(Leaf), name="watched", on=Labels(at="b"))
        await watcher.watch(watched)
        async with child(node.cluster, "a") as other_a, child(node.cluster, "b") as other_b:
            await a.kill()
            assert await pid_of(watcher, other_than=a.pid) == other_a.pid
            assert await b.terminate() == 0
            assert await pid_of(watched, other_than=b.pid) == other_b.pid
            assert await watcher.told() == [], "to move is no end"
            await node.stop(watched)
            async with asyncio.timeout(RECOVERY):
                while not await watcher.told():
                    pass
            assert await other_b.terminate() == 0
            await eventually(lambda: len(node.members) == 4)
            assert await watcher.told() == ["stopped"]
