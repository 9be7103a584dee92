"""Writes that must not commit, and writes that must not be lost: what each store does with stale ones, and what is
left of SQLite's file when the power is cut between any two steps of a commit.

A disk has what was synced and, of what was written since, any blocks. SQLite's log is synced at each commit; pages
that are copied back are written in place and synced, and only then is the log written over from its start. So a cut
is made by mixing blocks of what the files held before and after a step.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.servers import NoServer, Server, postgresql_server, redis_server
from ringcast.runtime.stores import Claim, Outcome, Reply, Store, Write, store_at
from ringcast.runtime.stores.sqlite import SQLiteStore

from .figures import Figure

__all__ = [
    "BLOCK",
    "Cuts",
    "Storm",
    "cut",
    "numbered",
    "numbers_in",
    "on_disk",
    "power_cuts",
    "stale_writes",
    "torn",
    "writes",
]

BLOCK = 512
"""Bytes that a disk writes whole."""
CUTS = 1000
"""Power cuts, at least."""
ROWS, ROUNDS = 20, 5


async def writes(stale: int) -> AsyncGenerator[Figure, None]:
    """Say so many stale writes to each store, and cut the power a thousand times."""
    with tempfile.TemporaryDirectory() as folder:
        for name, address in (("memory", "memory:"), ("SQLite", f"sqlite:///{folder}/state.db")):
            yield await _stale(name, address, stale)
        servers: list[tuple[str, Callable[[], AbstractContextManager[Server]]]]
        servers = [("PostgreSQL", postgresql_server), ("Redis", redis_server)]
        for name, server in servers:
            try:
                with server() as running:
                    yield await _stale(name, running.address, stale)
            except NoServer as error:
                yield Figure(f"stale writes to {name}", f"not here: {error}", "0 committed", None)
        found = Cuts()
        seed = 0
        while found.count < CUTS:
            (where := Path(folder) / f"cut-{seed}").mkdir()
            found += await power_cuts(where, seed)
            seed += 1
    what = f"{found.count:,} power cuts in the middle of a commit or of a copy back, on SQLite"
    measured = f"{found.lost} lost, {found.invented} not asked for"
    yield Figure(what, measured, "0, 0", not (found.lost or found.invented))


async def _stale(name: str, address: str, count: int) -> Figure:
    store = store_at(address)
    await store.open()
    try:
        storm = await stale_writes(store, count)
    finally:
        await store.close()
    measured = f"{storm.committed} committed; {storm.refused} of {storm.good} good ones refused"
    return Figure(f"{storm.stale:,} stale writes to {name}", measured, "0; 0", not (storm.committed or storm.refused))


@dataclass
class Storm:
    """What became of writes.

    Attributes:
        stale: Those of activations that others had followed.
        committed: Of these, those that took effect.
        good: Those of the newest activations.
        refused: Of these, those that did not.
    """

    stale: int = 0
    committed: int = 0
    good: int = 0
    refused: int = 0


async def stale_writes(store: Store, count: int) -> Storm:
    """Have activations that were fenced write, between claims and writes of those that were not."""
    found = Storm()
    vers = {f"s{number}": await _claimed(store, f"s{number}") for number in range(ROWS)}

    async def storm(id: str) -> None:
        for _ in range(ROUNDS):
            old, new = vers[id], await _claimed(store, id)
            stale = [store.write(_write(old - back % 3, b"stale", id)) for back in range(count // (ROWS * ROUNDS))]
            *others, good = await asyncio.gather(*stale[::2], *stale[1::2], store.write(_write(new, b"good", id)))
            found.stale += len(others)
            found.committed += sum(one.outcome is not Outcome.FENCED for one in others)
            found.good += 1
            found.refused += good.outcome is not Outcome.COMMITTED
            vers[id] = new + 1

    ids = list(vers)
    for start in range(0, ROWS, ROUNDS):
        await asyncio.gather(*(storm(id) for id in ids[start : start + ROUNDS]))
    for id in ids:
        claimed = await store.claim(Claim(id, "one", 1, "node"))
        found.committed += claimed is None or claimed.payload != b"good"
    return found


async def _claimed(store: Store, id: str) -> int:
    claimed = await store.claim(Claim(id, "one", 1, "node"))
    assert claimed is not None, "nobody else claims"
    return claimed.ver


def _write(ver: int, payload: bytes, id: str) -> Write:
    return Write(id, ver, os.urandom(16), 1, payload)


# ---- power cuts -----------------------------------------------------------------------------------------


@dataclass
class Cuts:
    """What was found after power cuts.

    Attributes:
        count: How many.
        lost: Those after which an acknowledged write was not there.
        invented: Those after which something was there that nobody had written.
    """

    count: int = 0
    lost: int = 0
    invented: int = 0

    def __add__(self, other: Cuts) -> Cuts:
        return Cuts(self.count + other.count, self.lost + other.lost, self.invented + other.invented)


def numbered(id: str, ver: int, number: int, size: int = 100) -> Write:
    """Return a write of a number, with a reply that has it, too."""
    payload = b"%d " % number + b"." * size
    return Write(id, ver, os.urandom(16), 1, payload, replies=(Reply(f"k{number}", b"%d" % number, time.time() + 60),))


def numbers_in(path: Path) -> dict[str, int]:
    """Return what each row holds, as whoever comes after a crash finds it; its replies must be there, too."""
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("SELECT id, payload FROM ringcast_state WHERE payload IS NOT NULL").fetchall()
        found = {id: int(payload.split()[0]) for id, payload in rows}
        for id, number in found.items():
            last = connection.execute(
                "SELECT max(CAST(substr(key, 2) AS INTEGER)) FROM ringcast_reply WHERE id = ?", (id,)
            )
            assert last.fetchone() == (number,), "a write and its reply are there together or not at all"
        return found
    finally:
        connection.close()


def on_disk(*paths: Path) -> list[bytes]:
    """Return what files hold."""
    return [path.read_bytes() for path in paths]


def cut(there: Path, file: bytes, log: bytes) -> dict[str, int]:
    """Return what is found after a power cut left this of a file and its log."""
    there.write_bytes(file)
    Path(f"{there}-wal").write_bytes(log)
    Path(f"{there}-shm").unlink(missing_ok=True)
    return numbers_in(there)


def torn(old: bytes, new: bytes, block: int, chance: random.Random) -> bytes:
    """Return what may be on the disk while `new` is written over `old` and nothing is synced: some of its blocks."""
    whole = bytearray(old.ljust(len(new), b"\0"))
    for at in range(0, len(new), block):
        if new[at : at + block] != bytes(whole[at : at + block]) and chance.random() < 0.5:
            whole[at : at + block] = new[at : at + block]
    return bytes(whole[: chance.randint(min(len(old), len(new)), len(whole))])


@dataclass
class _Powered:
    """A store on a disk whose power is cut."""

    folder: Path
    chance: random.Random
    found: Cuts = field(default_factory=Cuts)
    acknowledged: dict[str, int] = field(default_factory=dict[str, int])
    vers: dict[str, int] = field(default_factory=dict[str, int])

    def cut(self, file: bytes, log: bytes, newest: dict[str, int]) -> None:
        """Look at what a cut leaves; `newest` was being written."""
        there = cut(self.folder / "cut.db", file, log)
        self.found.count += 1
        self.found.lost += any(
            there.get(id) not in (number, newest.get(id, number)) for id, number in self.acknowledged.items()
        )
        self.found.invented += not set(there) <= {*self.acknowledged, *newest}

    async def group(self, store: SQLiteStore, number: int) -> dict[str, int]:
        """Write a number to some rows at once."""
        ids = self.chance.sample(sorted(self.vers), self.chance.randint(1, 4))
        sizes = [self.chance.randint(0, 9000) for _ in ids]
        done = await asyncio.gather(
            *(store.write(numbered(id, self.vers[id], number, size)) for id, size in zip(ids, sizes, strict=True))
        )
        assert {one.outcome for one in done} == {Outcome.COMMITTED}
        for id in ids:
            self.vers[id] += 1
        return dict.fromkeys(ids, number)


async def power_cuts(folder: Path, seed: int) -> Cuts:
    """Cut between any two steps: while a commit is written, while the log is copied back, while it is begun anew."""
    here = folder / "state.db"
    log = Path(f"{here}-wal")
    store, disk = SQLiteStore(here), _Powered(folder, random.Random(seed))
    await store.open()
    await store._do(lambda found: found.execute("PRAGMA wal_autocheckpoint = 0").fetchall(), writes=False)
    disk.vers = {f"row {number}": await _claimed(store, f"row {number}") for number in range(5)}
    number = 0
    for _ in range(6):
        for _ in range(10):
            file, before = on_disk(here, log)
            number += 1
            newest = await disk.group(store, number)
            (after,) = on_disk(log)
            for _ in range(5):  # a commit is under way: the log is written, and not synced
                disk.cut(file, torn(before, after, BLOCK, disk.chance), newest)
            disk.acknowledged |= newest
            disk.cut(file, after, {})
        file, before = on_disk(here, log)
        await store._do(lambda found: found.execute("PRAGMA wal_checkpoint(FULL)").fetchall(), writes=False)
        (copied,) = on_disk(here)
        for _ in range(5):  # the pages are copied back, and not synced; the log is whole
            disk.cut(torn(file, copied, BLOCK, disk.chance), before, {})
        number += 1
        newest = await disk.group(store, number)
        (after,) = on_disk(log)
        for _ in range(5):  # the log begins anew, over the old one
            disk.cut(copied, torn(before, after, BLOCK, disk.chance), newest)
        disk.acknowledged |= newest
    await store.close()
    return disk.found
