"""Durable actors under kills and stops: five processes of one cluster on one store, and what is in it afterwards.

Each process writes to all actors, each operation with an idempotency key and until it is done. What was
acknowledged was printed by its writer. At the end a node of its own reads every actor: its operations must hold each
acknowledged one, and none twice; the epochs that wrote them must only have grown.

Registers are judged beside that: each actor also keeps how many operations there were when each was applied, as it
was answered. Operations of one actor are applied one after the other, so the answers of one writer must grow, and no
two operations have the same.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.servers import NoServer, postgresql_server
from ringcast import CallError, DurableActor, Node, Seeds, StoreError, run, using

from .figures import Figure

__all__ = ["durable"]

PROCESSES, ACTORS, HANDS = 5, 200, 24
TARGET = 50_000
"""Acknowledged operations, in two minutes."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Journal:
    """What was applied to one actor, and by which activations."""

    applied: list[str] = field(default_factory=list[str])
    epochs: list[int] = field(default_factory=list[int])


class Ledger(DurableActor[Journal], name="chaos.Ledger"):
    """Applies operations; the number of each is its answer."""

    async def apply(self, operation: str) -> int:
        journal = self.state
        journal.applied.append(operation)
        if not journal.epochs or journal.epochs[-1] != self.context.epoch:
            journal.epochs.append(self.context.epoch)
        return len(journal.applied)

    async def journal(self) -> Journal:
        return self.state


async def _write(node: Node, name: str) -> None:
    chance = random.Random(name)
    number = 0
    while True:
        number += 1
        operation, key = f"{name}.{number}", chance.randrange(ACTORS)
        ref = using(node.ref(Ledger, key), idempotency_key=operation, timeout=5.0)
        while True:
            try:
                place = await ref.apply(operation)
                break
            except (CallError, StoreError):
                await asyncio.sleep(0.01)
        os.write(1, f"{key} {operation} {place}\n".encode())


async def child(store: str, cluster: str, ports: list[int], number: int, name: str) -> None:
    """One process: a member that writes with several hands, until it is killed."""
    seeds = Seeds([f"127.0.0.1:{port}" for port in ports])
    listen = f"127.0.0.1:{ports[number]}"
    async with Node(cluster=cluster, listen=listen, discovery=[seeds], store=store) as node:
        await asyncio.gather(*(_write(node, f"{name}.{hand}") for hand in range(HANDS)))


class _Process:
    """A member that is started again when it was killed, and all that was ever acknowledged to it."""

    def __init__(self, arguments: list[str], number: int) -> None:
        self._arguments = arguments
        self._number = number
        self.run = 0
        self.said: list[tuple[int, str, int]] = []
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]

    async def start(self) -> None:
        self.run += 1
        program = [sys.executable, "-m", "benchmarks.chaos.state", *self._arguments, str(self._number)]
        self._process = await asyncio.create_subprocess_exec(
            *program, f"{self._number}.{self.run}", stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            if line.endswith(b"\n"):
                key, operation, place = line.decode().split()
                self.said.append((int(key), operation, int(place)))

    async def kill(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def stop(self, seconds: float) -> None:
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)


async def _judge(store: str, said: list[tuple[int, str, int]]) -> tuple[int, int, int, int]:
    """Return how many acknowledged operations are lost, were applied twice, were answered wrongly; and the claims."""
    by_key: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for key, operation, place in said:
        by_key[key].append((operation, place))
    lost = twice = wrong = claims = 0
    async with Node(cluster=f"judge-{os.getpid()}", discovery=[], store=store) as node:
        for key in range(ACTORS):
            journal = await node.ref(Ledger, key).journal()
            place_of = {operation: place for place, operation in enumerate(journal.applied, 1)}
            twice += len(journal.applied) - len(place_of)
            lost += sum(operation not in place_of for operation, _ in by_key[key])
            wrong += sum(place_of.get(operation, place) != place for operation, place in by_key[key])
            wrong += journal.epochs != sorted(set(journal.epochs))
            claims += len(journal.epochs)
    return lost, twice, wrong, claims


async def durable(seconds: int) -> AsyncGenerator[Figure, None]:
    """Kill and stop processes for so long, on SQLite and, where it is installed, on PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        async for figure in _on(f"sqlite:///{folder}/state.db", "SQLite", seconds):
            yield figure
    try:
        with postgresql_server() as server:
            async for figure in _on(server.address, "PostgreSQL", seconds):
                yield figure
    except NoServer as error:
        yield Figure("durable actors on PostgreSQL", f"not here: {error}", "", None)


async def _on(store: str, name: str, seconds: int) -> AsyncGenerator[Figure, None]:
    chance = random.Random(1)
    async with _processes(store) as processes:
        end = time.monotonic() + seconds
        kills = stops = 0
        while time.monotonic() < end:
            await asyncio.sleep(chance.uniform(1.0, 3.0))
            victim = chance.choice(processes)
            if chance.random() < 0.6:
                kills += 1
                await victim.kill()
                await asyncio.sleep(chance.uniform(0.0, 1.0))
                await victim.start()
            else:
                stops += 1
                await victim.stop(chance.uniform(0.1, 4.0))
    said = [one for process in processes for one in process.said]
    lost, twice, wrong, claims = await _judge(store, said)
    target = TARGET * seconds // 120
    what = f"durable actors on {name}, {kills} kills and {stops} stops"
    yield Figure(f"{what}: acknowledged operations", f"{len(said):,}", f"at least {target:,}", len(said) >= target)
    yield Figure(
        "  acknowledged and lost; applied twice; answered wrongly",
        f"{lost}; {twice}; {wrong}",
        "0; 0; 0",
        not (lost or twice or wrong),
    )
    yield Figure("  activations that wrote", f"{claims:,}", "", None)


@asynccontextmanager
async def _processes(store: str) -> AsyncIterator[list[_Process]]:
    base = 20_000 + os.getpid() % 20_000
    ports = ",".join(str(base + number) for number in range(PROCESSES))
    processes = [_Process([store, f"chaos-{os.getpid()}", ports], number) for number in range(PROCESSES)]
    for process in processes:
        await process.start()
    try:
        yield processes
    finally:
        for process in processes:
            await process.kill()


if __name__ == "__main__":
    where, cluster, ports, number, name = sys.argv[1:]
    run(child(where, cluster, [int(port) for port in ports.split(",")], int(number), name))
