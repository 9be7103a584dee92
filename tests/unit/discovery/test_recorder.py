"""Records are written in order, beside the loop, and what waits for one waits for that one."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Iterable
from typing import Any

import pytest

from ringcast.discovery.agreement_messages import Release
from ringcast.discovery.archive import Archive
from ringcast.discovery.effects import Record, Send
from ringcast.discovery.record import decode_record
from ringcast.discovery.recorder import Recorder
from ringcast.runtime.simulation.disk import VirtualDisk

LIMIT = 10.0


def word(number: int) -> Send:
    return Send("peer:1", Release("l", number))


class SlowDisk(VirtualDisk):
    """A disk whose syncs wait for a test to let them go on."""

    def __init__(self) -> None:
        super().__init__(random.Random(1))
        self.may_sync = threading.Event()
        self.may_sync.set()
        self.threads: set[int] = set()

    def sync(self, path: str) -> None:
        self.threads.add(threading.get_ident())
        assert self.may_sync.wait(LIMIT)
        super().sync(path)


class Bench:
    """A recorder, and what it let go of together with what was on the disk then."""

    def __init__(self) -> None:
        self.disk = SlowDisk()
        self.archive = Archive(self.disk)
        self.disk.threads.clear()
        self.written: list[tuple[int, list[Send]]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.recorder = Recorder(self.archive, self.spawn, self.on_written)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    def on_written(self, then: Iterable[Send]) -> None:
        self.written.append((decode_record(self.disk.read("voter")).incarnation, list(then)))

    async def done(self) -> None:
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*self.tasks)


async def test_what_waits_for_a_record_leaves_when_it_is_on_disk() -> None:
    bench = Bench()
    bench.recorder.write(Record(1), [word(1)])
    assert bench.written == []
    await bench.done()
    assert bench.written == [(1, [word(1)])]
    bench.recorder.write(Record(2), [])
    await bench.done()
    assert bench.written[1:] == [(2, [])]


async def test_a_record_that_was_not_begun_gives_way_and_nothing_that_waited_is_lost() -> None:
    bench = Bench()
    bench.disk.may_sync.clear()
    bench.recorder.write(Record(1), [word(1)])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for number in (2, 3, 4):
        bench.recorder.write(Record(number), [word(number)])
    bench.disk.may_sync.set()
    await bench.done()
    assert bench.written == [(1, [word(1)]), (4, [word(2), word(3), word(4)])]
    assert len(bench.tasks) == 1


async def test_the_loop_goes_on_while_a_slow_disk_syncs() -> None:
    bench = Bench()
    bench.disk.may_sync.clear()
    bench.recorder.write(Record(1), [])
    for _ in range(100):
        await asyncio.sleep(0)
    assert bench.written == []
    bench.disk.may_sync.set()
    await bench.done()
    assert threading.get_ident() not in bench.disk.threads


async def test_a_disk_that_fails_lets_nothing_go() -> None:
    bench = Bench()

    def fail() -> None:
        raise OSError("no space left")

    bench.disk.on_sync = fail
    bench.recorder.write(Record(1), [word(1)])
    with pytest.raises(OSError, match="no space"):
        await bench.done()
    assert bench.written == []
