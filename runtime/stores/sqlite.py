"""A store in one SQLite file, for the processes of one machine.

The file is in WAL mode with ``synchronous=FULL``: what was acknowledged outlasts a crash of the process, of
the system and a power cut, as long as the disk does what it says. A file on a network file system is not
promised anything, for its locks and its shared memory do not work there.

What is asked for in one tick of the loop is one group, and is done in order; what queues up while one transaction is
committed goes into the next one together (*group commit*): one fsync for all of it.

There are two places where a group can be done. A thread of its own takes any; a few writes, while the thread
has nothing to do and the disk is quick, are done on the loop's thread, once a tick (`haste` says when). Only one
of the two has work at any time, so what is asked for first is done first. Where another process is in the way, it is
the thread that waits. And it is the thread that copies the log back into the file.

References:
    DeWitt et al. "Implementation techniques for main memory database systems". SIGMOD 1984: group commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic, thread_time
from typing import Any, TypeVar

from ringcast.errors import NOT_SENT, StoreError

from .haste import Haste
from .port import Claim, Claimed, Told, Write, Written
from .sqlitefile import CHECKPOINT, Answer, Job, SQLiteFile, claiming, due, prune, replying, store_id, writing

__all__ = ["SQLiteStore"]

T = TypeVar("T")

BUSY = 10.0
"""Seconds to wait for other processes' transactions."""

GROUP_MAX = 1024
"""Parts of one transaction, at most: the last of them is not to make the first wait for long."""


LONELY = 8
"""Groups of one, one after the other, after which the next one does not wait for the end of its tick."""

PAGES = 512
"""Pages, about, that may be written on the loop's thread at once."""

ALONE = 0.002
"""Seconds of a tick in which one row may be written again and again, while others wait."""


class SQLiteStore:
    """See `Store`."""

    def __init__(self, path: Path, busy: float = BUSY) -> None:
        """Mean a file, which is made with its folder when the store is opened.

        Args:
            path: The file.
            busy: Seconds to wait for other processes' transactions. Raising it makes callers wait longer for
                a process that was stopped in the middle of one.
        """
        self.name = f"sqlite:///{path}"
        self.prompt = 0
        """Groups that were done on the loop's thread."""
        self._file = SQLiteFile(path, self.name, busy)
        self._haste = Haste()
        self._asked: list[Job] = []
        """What was asked for in this tick."""
        self._count = 0
        """How much that was, with what is done by now; writes of one row, one after the other, are one."""
        self._row: str | None = None
        """The row of the first write of this tick, while there is no other one."""
        self._alone_until = 0.0
        """When others are to run again, monotonic."""
        self._was_tried = False
        """Whether the last of it was tried on the loop's thread, and could not be done there."""
        self._alone = 0
        """Groups of one that followed one another until now."""
        self._under_way = 0
        """Jobs that the thread has; while there are any, the file is the thread's."""
        self._used = 0.0
        """The loop's processor time when the thread began with what it has."""
        self._jobs: queue.SimpleQueue[list[Job] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Future[None]

    @property
    def groups(self) -> int:
        """Transactions that were committed, of which each held one write or many."""
        return self._file.groups

    async def open(self) -> str:
        """See `Store`."""
        if self._thread is None:
            self._loop = loop = asyncio.get_running_loop()
            opened: asyncio.Future[None] = loop.create_future()
            self._ended = loop.create_future()
            self._thread = threading.Thread(target=self._run, args=(opened,), name="ringcast-sqlite", daemon=True)
            self._thread.start()
            try:
                await opened
            except StoreError:
                self._thread = None
                raise
        return await self._do(store_id, writes=False)

    async def claim(self, claim: Claim) -> Claimed | None:
        """See `Store`."""
        done: asyncio.Future[Claimed | None] = self._future()
        self._ask(claiming(claim, partial(_settle, done)))
        return await done

    async def write(self, write: Write) -> Written:
        """See `Store`."""
        done: asyncio.Future[Written] = self._future()
        self._ask(writing(write, partial(_settle, done)))
        return await done

    def begin(self, write: Write, told: Told[Written], /) -> None:
        """See `PromptStore`."""
        if self._thread is None:
            told(None, self._closed())
        else:
            self._ask(writing(write, told))

    async def reply(self, id: str, key: str, now: float) -> bytes | None:
        """See `Store`."""
        done: asyncio.Future[bytes | None] = self._future()
        self._ask(replying(id, key, now, partial(_settle, done)))
        return await done

    async def due(self, before: float, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        """See `Store`."""
        return await self._do(partial(due, before, after, limit), writes=False)

    async def prune(self, now: float) -> int:
        """See `Store`."""
        return await self._do(partial(prune, now), writes=True)

    async def close(self) -> None:
        """See `Store`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            if self._asked:
                self._hand_over(self._asked)
                self._asked = []
            self._jobs.put(None)
            await self._ended
            thread.join()  # it has said that it ends; the loop does not wait

    async def _do(self, work: Callable[[sqlite3.Connection], T], *, writes: bool) -> T:
        """Have the thread do something that may take longer."""
        done: asyncio.Future[T] = self._future()
        self._ask(Job(work, partial(_settle, done), int(writes), is_short=False))
        return await done

    def _future(self) -> asyncio.Future[Any]:
        if self._thread is None:
            raise self._closed()
        return self._loop.create_future()

    def _closed(self) -> StoreError:
        return StoreError(f"{self.name} is not open", certainty=NOT_SENT)

    def _ask(self, job: Job) -> None:
        """Do something at the end of the tick, or now, if those before were each alone in theirs.

        In one tick that is done for one row, and not for long: of another row there might be more to come, to be done
        together, and others are to run in between.
        """
        self._asked.append(job)
        id = None if job.row is None else job.row.id
        if is_first := self._count == 0:
            self._loop.call_soon(self._begin)
            is_alone = self._alone >= LONELY
            self._row, self._alone_until = id, monotonic() + ALONE
        elif id is not None and id == self._row:
            is_alone = not self._was_tried and self._alone >= LONELY and monotonic() < self._alone_until
        else:
            self._row = None
            self._count += 1
            return
        self._count = 1
        if is_alone:
            self._was_tried = not self._try_at_once(is_first=is_first)

    def _begin(self) -> None:
        """Do what was asked for in the last tick, here or on the thread."""
        self._alone = self._alone + 1 if self._count == 1 else 0
        self._count = 0
        was_tried, self._was_tried = self._was_tried, False
        if not self._asked:  # it is done already, or the store was closed
            self._haste.rest(thread_time())
            return
        if was_tried or not self._try_at_once():
            group, self._asked = self._asked, []
            self._hand_over(group)

    def _try_at_once(self, *, is_first: bool = True) -> bool:
        """Do what was asked for on the loop's thread, if that may be; `is_first` is false of what follows in a tick."""
        group = self._asked
        haste, file = self._haste, self._file
        now = monotonic()
        may_be = haste.is_due(len(group), now, thread_time()) if is_first else haste.is_quick(now)
        if not may_be or self._under_way or file.pages >= CHECKPOINT:
            return False
        pages = 0
        for job in group:
            pages += job.pages
            if not job.is_short or pages > PAGES:
                return False
        answers = file.at_once(group)
        if answers is None:
            return False
        self._asked = []
        self.prompt += 1
        self._took(file.last, len(group))
        _tell(answers)
        if is_first:
            haste.rest(thread_time())
        return True

    def _hand_over(self, group: list[Job]) -> None:
        if not self._under_way:
            self._used = thread_time()
        self._under_way += len(group)
        self._jobs.put(group)

    def _took(self, seconds: float, count: int) -> None:
        if seconds:
            self._haste.took(seconds, count, monotonic())

    def _done(self, answers: list[Answer], seconds: float, count: int) -> None:
        """Hear from the thread: of its jobs it has so many less."""
        self._under_way -= count
        used, before = thread_time(), self._used
        self._used = used
        if used - before < seconds / 2:  # else it was the loop that the thread has waited for, not the disk
            self._took(seconds, len(answers))
        _tell(answers)

    # ---- on the thread -----------------------------------------------------------------------------

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            self._file.open()
        except (sqlite3.Error, OSError) as error:
            self._say(_settle, opened, None, self._file.refusal(f"cannot be opened: {error}"))
            return
        self._say(_settle, opened, None, None)
        with contextlib.closing(self._file):
            is_last = False
            while not is_last and (group := self._jobs.get()) is not None:
                with contextlib.suppress(queue.Empty):
                    while len(group) < GROUP_MAX and not is_last:
                        following = self._jobs.get_nowait()
                        if following is None:
                            is_last = True
                        else:
                            group.extend(following)
                for start in range(0, len(group), GROUP_MAX):
                    self._carry_out(group[start : start + GROUP_MAX])
        self._say(_settle, self._ended, None, None)

    def _carry_out(self, group: list[Job]) -> None:
        answers = self._file.in_turn(group)
        if self._file.pages < CHECKPOINT:
            self._say(self._done, answers, self._file.last, len(group))
            return
        self._say(self._done, answers, self._file.last, 0)  # nobody waits for the log; the file is still the thread's
        self._file.copy_back()
        self._say(self._done, [], 0.0, len(group))

    def _say(self, what: Callable[..., None], *parts: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and whoever asked with it
            self._loop.call_soon_threadsafe(what, *parts)


def _tell(answers: list[Answer]) -> None:
    for told, result, error in answers:
        told(result, error)


def _settle(done: asyncio.Future[Any], result: Any, error: StoreError | None) -> None:
    """Tell who waits for a future."""
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)
