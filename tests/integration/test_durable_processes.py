"""Nodes that do not know of each other share a store, and are killed and stopped: the worst that membership can do.

Each believes that it owns every actor, so each claim fences another's activation, all the time.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ringcast import Node
from tests.integration.durable_worker import ACTORS, Log
from tests.servers import postgresql_server, redis_server

PROCESSES = 3
ROUNDS = 8
WORKER = Path(__file__).with_name("durable_worker.py")


class Worker:
    """One process; what it has said stays known when it is killed."""

    def __init__(self, store: str, name: str) -> None:
        self.store = store
        self.name = name
        self.run = 0
        self.acknowledged: list[tuple[int, str]] = []
        self.heard = asyncio.Event()
        self.process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def start(self) -> None:
        """Start it, under a name of its own each time."""
        self.run += 1
        program = sys.executable, str(WORKER), self.store, f"{self.name}{self.run}"
        environment = {**os.environ, "RINGCAST_LOG": "critical", "PYTHONPATH": str(WORKER.parents[2])}
        self.process = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE, env=environment)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.endswith(b"\n"):  # what was cut off was not said
                key, operation = line.decode().split()
                self.acknowledged.append((int(key), operation))
                self.heard.set()

    async def progress(self) -> None:
        """Return when it has acknowledged something more."""
        self.heard.clear()
        async with asyncio.timeout(30):
            await self.heard.wait()

    async def kill(self) -> None:
        """Kill it, and hear its last words."""
        self.process.kill()
        await self.process.wait()
        await self._reading


@pytest_asyncio.fixture(params=["sqlite", "postgresql", "redis"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of an empty store."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/state.db"
        return
    with (postgresql_server if request.param == "postgresql" else redis_server)() as server:
        yield server.address


async def test_no_acknowledged_write_is_lost_and_none_is_applied_twice(store: str) -> None:
    chance = random.Random(3)
    workers = [Worker(store, name) for name in "abc"[:PROCESSES]]
    for worker in workers:
        await worker.start()
    for _ in range(ROUNDS):
        await asyncio.gather(*(worker.progress() for worker in workers))
        victim = chance.choice(workers)
        if chance.random() < 0.5:
            await victim.kill()
            await victim.start()
        else:  # it is stopped wherever it is, and goes on when others have written to its actors
            victim.process.send_signal(signal.SIGSTOP)
            others = [worker for worker in workers if worker is not victim]
            try:
                async with asyncio.timeout(0.3):
                    await asyncio.gather(*(worker.progress() for worker in others))
            except TimeoutError:
                pass  # stopped inside a commit of SQLite, it holds up the others
            victim.process.send_signal(signal.SIGCONT)
    for worker in workers:
        await worker.kill()

    async with Node(cluster="checker", discovery=[], store=store) as node:
        journals = [await node.ref(Log, key).journal() for key in range(ACTORS)]
    acknowledged = [one for worker in workers for one in worker.acknowledged]
    assert len(acknowledged) == len(set(acknowledged)) > 100
    for key, journal in enumerate(journals):
        applied = journal.applied
        assert len(applied) == len(set(applied)), "an operation was applied twice"
        lost = {operation for where, operation in acknowledged if where == key} - set(applied)
        assert not lost, "an acknowledged write is lost"
        assert journal.epochs == sorted(set(journal.epochs)), "epochs only grow"
