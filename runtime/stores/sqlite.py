"""A store in one SQLite file, for the processes of one machine.

The file is in WAL mode with ``synchronous=FULL``: what was acknowledged outlasts a crash of the process, of
the system and a power cut, as long as the disk does what it says. A file on a network file system is not
promised anything, for its locks and its shared memory do not work there.

All work is done on a thread of its own, in order. What queues up while one transaction is committed goes
into the next one together (*group commit*): one fsync for all of it. If one part of a group fails, the group
is undone and each part tried by itself.

Several processes share the file by its lock. Whoever has it may be stopped (SIGSTOP): the others then wait
for `busy` seconds and refuse, with nothing written.

An fsync that fails leaves it open whether the transaction will be there after a crash; that is an unknown
outcome, and the write is said again (`commit`). A full disk is not: the transaction's last frame, which
makes it valid, was not written.

References:
    DeWitt et al. "Implementation techniques for main memory database systems". SIGMOD 1984: group commit.
    SQLite documentation, "Write-Ahead Logging" and "PRAGMA synchronous".
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from ringcast.errors import NOT_SENT, StoreError

from .port import COMMITTED, FENCED, Claim, Claimed, Outcome, Write, Written

__all__ = ["SQLiteStore"]

T = TypeVar("T")

BUSY = 10.0
"""Seconds to wait for other processes' transactions."""

GROUP_MAX = 1024
"""Parts of one transaction, at most: the last of them is not to make the first wait for long."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS ringcast_state (
        id TEXT PRIMARY KEY, ver INTEGER NOT NULL, lineage TEXT NOT NULL, view INTEGER NOT NULL, owner TEXT NOT NULL,
        op_id BLOB, schema INTEGER NOT NULL DEFAULT 0, payload BLOB, due REAL) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS ringcast_due ON ringcast_state (due, id) WHERE due IS NOT NULL",
    """CREATE TABLE IF NOT EXISTS ringcast_reply (
        id TEXT NOT NULL, key TEXT NOT NULL, ver INTEGER NOT NULL, reply BLOB NOT NULL, expires REAL NOT NULL,
        PRIMARY KEY (id, key)) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS ringcast_reply_age ON ringcast_reply (id, ver)",
    "CREATE INDEX IF NOT EXISTS ringcast_reply_expires ON ringcast_reply (expires)",
    "CREATE TABLE IF NOT EXISTS ringcast_store (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL)",
)
_CLAIM = """INSERT INTO ringcast_state AS s (id, ver, lineage, view, owner) VALUES (?, 1, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET ver = s.ver + 1, lineage = excluded.lineage, view = excluded.view,
    owner = excluded.owner WHERE s.lineage <> excluded.lineage OR s.view <= excluded.view
    RETURNING ver, schema, payload"""
_WRITE = """UPDATE ringcast_state SET ver = ver + 1, op_id = ?, schema = ?, payload = ?, due = ?
    WHERE id = ? AND ver = ?"""
_REMEMBER = "INSERT OR REPLACE INTO ringcast_reply (id, key, ver, reply, expires) VALUES (?, ?, ?, ?, ?)"
_KEEP = """DELETE FROM ringcast_reply WHERE id = ? AND ver <= coalesce(
    (SELECT ver FROM ringcast_reply WHERE id = ? ORDER BY ver DESC LIMIT 1 OFFSET ?), -1)"""
_DUE = """SELECT due, id FROM ringcast_state WHERE due IS NOT NULL AND due < ? AND (due, id) > (?, ?)
    ORDER BY due, id LIMIT ?"""


@dataclass(slots=True)
class _Job:
    """Something to do on the thread."""

    work: Callable[[sqlite3.Connection], Any]
    done: asyncio.Future[Any]
    writes: bool
    if_unknown: Callable[[str], Any] | None = None
    """Makes the result of an unknown outcome; None if that is an error."""


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
        self.groups = 0
        """Transactions that were committed, of which each held one write or many."""
        self._path = path
        self._busy = busy
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._ended: asyncio.Future[None]
        self._random = random.Random()

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
        return await self._do(_read_id, writes=False)

    async def claim(self, claim: Claim) -> Claimed | None:
        """See `Store`."""

        def work(connection: sqlite3.Connection) -> Claimed | None:
            parts = claim.id, claim.lineage, claim.view, claim.owner
            rows = connection.execute(_CLAIM, parts).fetchall()  # all of it: an open cursor would hold the lock
            return Claimed(*rows[0]) if rows else None

        return await self._do(work, writes=True)

    async def write(self, write: Write) -> Written:
        """See `Store`."""

        def work(connection: sqlite3.Connection) -> Written:
            parts = write.op_id, write.schema, write.payload, write.due, write.id, write.ver
            if connection.execute(_WRITE, parts).rowcount:
                if write.replies:
                    _remember(connection, write)
                return COMMITTED
            found = connection.execute("SELECT op_id FROM ringcast_state WHERE id = ?", (write.id,)).fetchone()
            return COMMITTED if found is not None and found[0] == write.op_id else FENCED

        return await self._do(work, writes=True, if_unknown=lambda why: Written(Outcome.UNKNOWN, why))

    async def reply(self, id: str, key: str, now: float) -> bytes | None:
        """See `Store`."""

        def work(connection: sqlite3.Connection) -> bytes | None:
            statement = "SELECT reply FROM ringcast_reply WHERE id = ? AND key = ? AND expires > ?"
            found = connection.execute(statement, (id, key, now)).fetchone()
            return None if found is None else cast("bytes", found[0])

        return await self._do(work, writes=False)

    async def due(self, before: float, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        """See `Store`."""
        parts = before, *(after or (float("-inf"), "")), limit
        return await self._do(lambda connection: connection.execute(_DUE, parts).fetchall(), writes=False)

    async def prune(self, now: float) -> int:
        """See `Store`."""
        statement = "DELETE FROM ringcast_reply WHERE expires <= ?"
        return await self._do(lambda connection: connection.execute(statement, (now,)).rowcount, writes=True)

    async def close(self) -> None:
        """See `Store`."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await self._ended
            thread.join()  # it has said that it ends; the loop does not wait

    async def _do(
        self,
        work: Callable[[sqlite3.Connection], T],
        *,
        writes: bool,
        if_unknown: Callable[[str], T] | None = None,
    ) -> T:
        if self._thread is None:
            raise StoreError(f"{self.name} is not open", certainty=NOT_SENT)
        done: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put(_Job(work, done, writes, if_unknown))
        return await done

    # ---- on the thread -----------------------------------------------------------------------------

    def _run(self, opened: asyncio.Future[None]) -> None:
        try:
            connection = self._connect()
        except (sqlite3.Error, OSError) as error:
            self._answer([(opened, None, self._refusal(f"cannot be opened: {error}"))])
            return
        self._answer([(opened, None, None)])
        with contextlib.closing(connection):
            while (job := self._jobs.get()) is not None:
                group = [job]
                is_last = False
                with contextlib.suppress(queue.Empty):
                    while len(group) < GROUP_MAX and not is_last:
                        following = self._jobs.get_nowait()
                        if following is None:
                            is_last = True
                        else:
                            group.append(following)
                self._carry_out(connection, group)
                if is_last:
                    break
        self._refuse_rest()
        self._answer([(self._ended, None, None)])

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, isolation_level=None, timeout=0)  # `_patiently` waits
        try:
            # SQLite itself does not wait here while another process sets the file up, or mends it after a kill.
            self._patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
            connection.execute("PRAGMA synchronous = FULL")
            self._begin(connection)
            for table in _TABLES:
                connection.execute(table)
            connection.execute("INSERT OR IGNORE INTO ringcast_store VALUES (1, ?)", (uuid.uuid4().hex,))
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return connection

    def _carry_out(self, connection: sqlite3.Connection, group: list[_Job]) -> None:
        """Do all of a group in one transaction, or one by one if that fails."""
        writes = any(job.writes for job in group)
        answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            if writes:
                self._begin(connection)
            for job in group:
                answers.append((job.done, self._patiently(partial(job.work, connection)), None))
        except Exception as error:
            self._undo(connection)
            if len(group) > 1:
                for job in group:
                    self._carry_out(connection, [job])
            else:
                self._answer([(group[0].done, None, self._refusal(f"refused: {error}"))])
            return
        if writes:
            try:
                connection.execute("COMMIT")
                self.groups += 1
            except sqlite3.Error as error:
                self._undo(connection)
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                    answers = [(job.done, None, self._refusal(f"refused: {error}")) for job in group]
                else:
                    answers = [self._unknown(job, f"the commit failed: {error}") for job in group]
        self._answer(answers)

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes, as soon as the other processes let us."""
        self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"))

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do what other processes may be in the way of, which does nothing then: again until `busy` is over."""
        end = time.monotonic() + self._busy
        pause = 0.0002
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise
            time.sleep(pause * self._random.uniform(0.5, 1.5))  # in step, two processes would meet again
            pause = min(pause * 1.5, 0.01)

    def _undo(self, connection: sqlite3.Connection) -> None:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _unknown(self, job: _Job, why: str) -> tuple[asyncio.Future[Any], Any, BaseException | None]:
        if job.if_unknown is None:
            return job.done, None, self._refusal(why)
        return job.done, job.if_unknown(why), None

    def _refusal(self, why: str) -> StoreError:
        return StoreError(f"{self.name} {why}", certainty=NOT_SENT)

    def _refuse_rest(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    self._answer([(job.done, None, self._refusal("was closed"))])

    def _answer(self, answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and whoever asked with it
            self._loop.call_soon_threadsafe(_tell, answers)


def _tell(answers: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for done, result, error in answers:
        if done.done():
            continue
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)


def _remember(connection: sqlite3.Connection, write: Write) -> None:
    ver = write.ver + 1
    connection.executemany(_REMEMBER, [(write.id, one.key, ver, one.reply, one.expires) for one in write.replies])
    if write.keep is not None:
        connection.execute(_KEEP, (write.id, write.id, write.keep))


def _read_id(connection: sqlite3.Connection) -> str:
    return cast("str", connection.execute("SELECT id FROM ringcast_store").fetchone()[0])
