"""What durable state costs: asks that are saved, beside the bare statement; and actors that are idle.

The bare statement is `INSERT … ON CONFLICT` of a state of the same size, on a connection and a file of its own with
the same pragmas, in turn with the actors: each round has a ratio of its own, and the median is told.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from ringcast import DurableActor, Node

from .figures import Figure

__all__ = ["Purse", "passivated", "saves"]

IN_FLIGHT = 256
SAVES = 500
"""Asks of one actor in a round, one after the other; as many bare statements."""
WARM_UP = 1500
PARTS = 5
"""Turns that the two take in a round."""


@dataclass
class Coins:
    """A state."""

    n: int = 0
    note: str = "x" * 80


class Purse(DurableActor[Coins], name="chaos.Purse", idle_after=0.2):
    """Is changed by each ask."""

    async def add(self, n: int) -> int:
        self.state.n += n
        return self.state.n


_TABLE = "CREATE TABLE bare (id TEXT PRIMARY KEY, ver INTEGER, payload BLOB) WITHOUT ROWID"
_BARE = """INSERT INTO bare VALUES (?, 1, ?)
    ON CONFLICT (id) DO UPDATE SET ver = ver + 1, payload = excluded.payload"""


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", _TABLE):
        connection.execute(statement)
    return connection


def _bare(connection: sqlite3.Connection, times: int) -> float:
    """Return the seconds that a bare statement takes."""
    began = time.perf_counter()
    for _ in range(times):
        connection.execute(_BARE, ("one", b"x" * 100))
    return (time.perf_counter() - began) / times


async def saves(rounds: int) -> AsyncGenerator[Figure, None]:
    """Ask durable actors on SQLite, one at a time and 256 at once."""
    alone: list[float] = []
    together: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with Node(discovery=[], cluster=f"saves-{id(alone)}", store=f"sqlite:///{folder}/state.db") as node:
            one = node.ref(Purse, "one")
            many = [node.ref(Purse, number) for number in range(IN_FLIGHT)]

            async def ask(ref: Purse, times: int) -> None:
                for _ in range(times):
                    await ref.add(1)

            connection = _connect(Path(folder) / "bare.db")
            # Both files are written until their logs grow no more: to grow a file costs more than to write in it.
            await asyncio.gather(ask(one, WARM_UP), *(ask(ref, 1) for ref in many))
            _bare(connection, WARM_UP)
            for _ in range(rounds):
                bare, ours = 0.0, 0.0
                for _ in range(PARTS):  # in turn: the disk is another one from second to second
                    bare += _bare(connection, SAVES // PARTS) / PARTS
                    began = time.perf_counter()
                    await ask(one, SAVES // PARTS)
                    ours += (time.perf_counter() - began) / SAVES
                alone.append(ours / bare)
                began = time.perf_counter()
                await asyncio.gather(*(ask(ref, 20) for ref in many))
                together.append(bare * IN_FLIGHT * 20 / (time.perf_counter() - began))
            connection.close()
    ratio, times = statistics.median(alone), statistics.median(together)
    yield Figure(
        "durable ask on SQLite, one actor, one at a time",
        f"{ratio:.2f} times the bare statement ({min(alone):.2f} to {max(alone):.2f})",
        "<= 1.3",
        ratio <= 1.3,
    )
    yield Figure(
        f"  {IN_FLIGHT} in flight over as many actors",
        f"{times:.1f} times the bare rate ({min(together):.1f} to {max(together):.1f})",
        ">= 8",
        times >= 8,
    )


async def passivated(count: int) -> AsyncGenerator[Figure, None]:
    """Touch so many durable actors once, and let them go idle."""
    each, reads = await left_by(count)
    what = f"{count:,} durable actors, touched once and idle: memory of each"
    yield Figure(what, f"{each:.0f} bytes", "<= 300", each <= 300)
    yield Figure("  claims for one of them that is called again", f"{reads}", "1", reads == 1)


async def left_by(count: int) -> tuple[float, float]:
    """Return the bytes that each of so many idle actors leaves, and how many claims one takes to be back."""
    with tempfile.TemporaryDirectory() as folder:
        async with Node(discovery=[], cluster=f"idle-{id(folder)}", store=f"sqlite:///{folder}/state.db") as node:
            await _touch(node, range(1000))
            gc.collect()
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            for first in range(1000, 1000 + count, 500):
                await _touch(node, range(first, first + 500))
            while len(node._router.routes):  # noqa: ASYNC110  they are forgotten after half a minute
                await asyncio.sleep(0.1)
            gc.collect()
            each = (tracemalloc.get_traced_memory()[0] - before) / count
            tracemalloc.stop()
            claims = node.stats()["state_claims"]
            await node.ref(Purse, 1000).add(1)
            return each, node.stats()["state_claims"] - claims


async def _touch(node: Node, keys: range) -> None:
    await asyncio.gather(*(node.ref(Purse, key).add(1) for key in keys))
    for key in keys:
        await node.stop(node.ref(Purse, key))
