"""A cluster of real processes, found by multicast on the loopback: killed, stopped, blocked."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ringcast import (
    MAYBE_EXECUTED,
    Actor,
    MemberLost,
    Node,
    NodeConfig,
    Unreachable,
    props,
    submit,
    tell,
    using,
)
from tests.integration.cluster_node import Counter
from tests.unit.runtime.places import eventually

ROOT = Path(__file__).parents[2]
RECOVERY = 6.0
"""Seconds within which the keys of a killed node must answer again."""

_clusters = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Child:
    """A node process."""

    process: asyncio.subprocess.Process
    node_id: str

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
async def child(cluster: str) -> AsyncIterator[Child]:
    environment = {**os.environ, "RINGCAST_LOG": "error", "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.cluster_node",
        cluster,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            line = await process.stdout.readline()
        word, node_id = line.decode().split()
        assert word == "READY"
        yield Child(process, node_id)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        process._transport.close()  # type: ignore[attr-defined]  # else its pipe outlives the loop


@dataclass(frozen=True, slots=True)
class Cluster:
    """Node processes, and a member here that hosts nothing."""

    node: Node
    children: dict[int, Child]
    """By process id."""

    async def keys_by_pid(self, count: int = 60) -> dict[int, list[int]]:
        pids = await asyncio.gather(*(self.counter(key).where() for key in range(count)))
        found: dict[int, list[int]] = {pid: [] for pid in self.children}
        for key, pid in enumerate(pids):
            found[pid].append(key)
        return found

    def counter(self, key: int) -> Counter:
        return self.node.ref(Counter, key)


@asynccontextmanager
async def cluster(count: int) -> AsyncIterator[Cluster]:
    name = f"processes-{os.getpid()}-{next(_clusters)}"
    async with AsyncExitStack() as stack:
        children = await asyncio.gather(*(stack.enter_async_context(child(name)) for _ in range(count)))
        node = Node(cluster=name, hosts=[], config=NodeConfig(ask_timeout=20.0))
        await stack.enter_async_context(node)
        await node.wait_for_members(count + 1, 20)
        yield Cluster(node, {child.pid: child for child in children})


async def answers_again(found: Cluster, keys: list[int]) -> None:
    """Ask until every key answers, as an application would that may run a call twice."""
    async with asyncio.timeout(RECOVERY):
        for key in keys:
            while True:
                try:
                    await using(found.counter(key), timeout=RECOVERY).add()
                except Unreachable:
                    continue
                break


async def test_five_processes_lose_three() -> None:
    async with cluster(5) as found:
        keys = await found.keys_by_pid()
        assert all(keys.values()), "sixty keys of five nodes, and a node has none"
        survivors = list(keys)[3:]
        for key in keys[survivors[0]]:
            assert await found.counter(key).add(5) == 5

        victim, *others = list(keys)[:3]
        hanging = [submit(found.counter(key).hang) for key in keys[victim][1:]]
        reading = submit(found.counter(keys[victim][0]).read, 0.3)
        stream = found.counter(keys[victim][0]).ticks()
        assert await anext(stream) == 0
        await found.children[victim].kill()
        for task in hanging:
            async with asyncio.timeout(RECOVERY):
                with pytest.raises(Unreachable) as info:
                    await task
            assert info.value.certainty is MAYBE_EXECUTED
        async with asyncio.timeout(RECOVERY):
            with pytest.raises(Unreachable):
                async for _ in stream:
                    pass
            assert await reading in found.children.keys() - {victim}, "the runtime asks again what only reads"
        await answers_again(found, keys[victim])
        for key in keys[survivors[0]]:
            assert await found.counter(key).add() == 6, "who was not on the lost node keeps its memory"

        await asyncio.gather(*(found.children[pid].kill() for pid in others))
        await answers_again(found, [key for pid in others for key in keys[pid]])
        assert await found.counter(keys[survivors[0]][0]).add() == 7
        await eventually(lambda: len(found.node.members) == 3, RECOVERY)


async def test_a_class_of_a_function_runs_in_another_process() -> None:
    class Here(Actor):
        async def pid(self) -> int:
            return os.getpid()

        async def tell_to(self, counter: Counter) -> None:
            await tell(counter.add, 3)

        async def fail(self) -> None:
            raise LookupError("over there")

    async with cluster(1) as found:
        (pid,) = found.children
        ref = found.node.ref(Here, "h")
        assert await ref.pid() == pid
        await ref.tell_to(found.counter(1))
        assert await found.counter(1).add(1) == 4
        with pytest.raises(LookupError, match="over there"):
            await ref.fail()
        assert await (await found.node.spawn(props(Here))).pid() == pid


async def test_a_node_that_is_told_to_stop_hands_over_without_failures() -> None:
    async with cluster(3) as found:
        keys = await found.keys_by_pid(30)
        stop = asyncio.Event()
        asked = 0

        async def ask_always(key: int) -> None:
            nonlocal asked
            while not stop.is_set():
                await found.counter(key).add()
                asked += 1

        callers = [asyncio.create_task(ask_always(key)) for key in range(30)]
        leaver = next(iter(found.children.values()))
        assert keys[leaver.pid]
        slow = submit(found.counter(keys[leaver.pid][0]).read, 0.5)
        await found.counter(0).where()
        assert await leaver.terminate() == 0
        assert await slow == leaver.pid, "a running call ends where it runs"
        before = asked
        await eventually(lambda: asked >= before + 300)
        stop.set()
        await asyncio.gather(*callers)
        assert leaver.pid not in await asyncio.gather(*(found.counter(key).where() for key in range(30)))


async def test_a_handler_that_blocks_its_loop_does_not_lose_its_node() -> None:
    async with cluster(2) as found:
        events = found.node.events()
        keys = await found.keys_by_pid(20)
        blocked, other = keys
        await found.counter(keys[blocked][1]).add(3)
        blocking = submit(found.counter(keys[blocked][0]).block, 8.0)
        assert await found.counter(keys[other][0]).add() == 1
        assert await blocking == blocked
        assert await found.counter(keys[blocked][1]).add() == 4
        await found.node.leave()
        assert not [event async for event in events if isinstance(event, MemberLost)]
