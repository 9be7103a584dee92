"""The work on one SQLite file: what is asked for is done in groups, each in one transaction.

If one part of a group fails, the group is undone and each part tried by itself.

Several processes share the file by its lock. Whoever has it may be stopped (SIGSTOP): the others then wait
for `busy` seconds and refuse, with nothing written.

An fsync that fails leaves it open whether the transaction will be there after a crash; that is an unknown
outcome, and the write is said again (`commit`). A full disk is not: the transaction's last frame, which
makes it valid, was not written.

References:
    SQLite documentation, "Write-Ahead Logging" and "PRAGMA synchronous".
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar, cast

from ringcast.errors import NOT_SENT, StoreError

from .port import COMMITTED, FENCED, Claim, Claimed, Outcome, Told, Write, Written

__all__ = ["Answer", "Job", "SQLiteFile", "claiming", "due", "prune", "replying", "store_id", "writing"]

T = TypeVar("T")

CHECKPOINT = 800
"""Pages of the log, about, from which on it is copied back. SQLite would do so by itself in the middle of
the commit that makes it 1,000."""

_PAGE = 4096
_ROWS_MAX = 256
"""Rows that one statement writes."""

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
    """CREATE TRIGGER IF NOT EXISTS ringcast_unclaimed AFTER INSERT ON ringcast_state WHEN new.view < 0
        BEGIN SELECT RAISE(ABORT, 'a row is written that nobody has claimed'); END""",
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


_ROWS = """INSERT INTO ringcast_state AS old (id, ver, op_id, schema, payload, due, lineage, view, owner) VALUES {}
    ON CONFLICT (id) DO UPDATE SET ver = ver + 1, op_id = excluded.op_id, schema = excluded.schema,
    payload = excluded.payload, due = excluded.due WHERE old.ver = excluded.ver"""
"""Written so, each row is looked up once; by `UPDATE … FROM` it takes a third longer. All of them are there, for they
were claimed, and `_TABLES` has a trigger that refuses the statement if one is not."""
_ROW = "(?,?,?,?,?,?,'',-1,'')"

_LEFT_OPEN = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERNAL})
"""Errors that a statement may end with although it was committed, if it is a transaction of its own."""


@dataclass(slots=True)
class Job:
    """Something to do."""

    work: Callable[[sqlite3.Connection], Any]
    """Does it; of what is a `row` nothing is left to do."""
    told: Told[Any]
    """Is told the result, on the loop's thread."""
    pages: int = 0
    """Pages of the log that it takes, about; 0 if it only reads."""
    if_unknown: Callable[[str], Any] | None = None
    """Makes the result of an unknown outcome; None if that is an error."""
    is_short: bool = True
    """Whether it reads and writes a row or two."""
    row: Write | None = None
    """What it is, if it is no more than the write of one row: such are written together."""


Answer = tuple[Told[Any], Any, "StoreError | None"]


class SQLiteFile:
    """One connection. It may be used by any thread, by one at a time."""

    def __init__(self, path: Path, name: str, busy: float) -> None:
        """Mean a file; see `SQLiteStore`."""
        self.groups = 0
        """Transactions that were committed."""
        self.pages = 0
        """Pages that were written into the log since it was copied back, about."""
        self.last = 0.0
        """Seconds that the last commit took, with what was written in it; 0.0 if the last group only read."""
        self.path = path
        self._name = name
        self._busy = busy
        self._random = random.Random()
        self._connection: sqlite3.Connection

    def open(self) -> None:
        """Open the file, and make in it what is not there."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # `_patiently` waits, not SQLite.
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=0, check_same_thread=False)
        try:
            # SQLite itself does not wait here while another process sets the file up, or mends it after a kill.
            self._patiently(lambda: connection.execute("PRAGMA journal_mode = WAL").fetchone())
            connection.execute("PRAGMA synchronous = FULL")
            self._patiently(lambda: connection.execute("BEGIN IMMEDIATE"))
            for table in _TABLES:
                connection.execute(table)
            connection.execute("INSERT OR IGNORE INTO ringcast_store VALUES (1, ?)", (uuid.uuid4().hex,))
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def at_once(self, group: list[Job]) -> list[Answer] | None:
        """Do a group in one transaction, unless another process is in the way: then None, and nothing was done."""
        return self._together(group, is_patient=False)

    def in_turn(self, group: list[Job]) -> list[Answer]:
        """Do a group in one transaction, or one by one if that fails; wait for other processes."""
        answers = self._together(group)
        if answers is None:
            answers = [answer for job in group for answer in self._together([job]) or ()]
        return answers

    def copy_back(self) -> None:
        """Copy the log's pages back into the file, unless others prevent it or somebody has turned it off."""
        self.pages = 0
        with contextlib.suppress(sqlite3.Error):  # the log goes on growing, as it does beside a reader
            if self._connection.execute("PRAGMA wal_autocheckpoint").fetchone()[0]:
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def refusal(self, why: str) -> StoreError:
        """Return what says that something was surely not done."""
        return StoreError(f"{self._name} {why}", certainty=NOT_SENT)

    def _together(self, group: list[Job], *, is_patient: bool = True) -> list[Answer] | None:
        """Do a group; return None if none of it was done, and it is to be tried in another way."""
        connection = self._connection
        if len(group) == 1 and (row := group[0].row) is not None:
            return self._alone(group[0], row, is_patient=is_patient)
        pages = sum(job.pages for job in group)
        self.last = 0.0
        began = perf_counter()
        try:
            if pages:
                if is_patient:
                    self._patiently(partial(connection.execute, "BEGIN IMMEDIATE"))
                    began = perf_counter()  # what others have kept us waiting says nothing of the disk
                else:
                    connection.execute("BEGIN IMMEDIATE")
            answers = self._answers(group, is_patient=is_patient)
        except Exception as error:
            self._undo()
            if len(group) > 1 or (not is_patient and _is_busy(error)):
                return None
            return [(group[0].told, None, self.refusal(f"refused: {error}"))]
        if pages:
            try:
                connection.execute("COMMIT")
            except sqlite3.Error as error:
                self._undo()
                if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
                    return [(job.told, None, self.refusal(f"refused: {error}")) for job in group]
                return [self._unknown(job, f"the commit failed: {error}") for job in group]
            self.groups += 1
            self.pages += pages
            self.last = perf_counter() - began
        return answers

    def _alone(self, job: Job, row: Write, *, is_patient: bool) -> list[Answer] | None:
        """Write one row, by a statement that is a transaction of its own."""
        began = self.last = 0.0

        def work() -> Written:
            nonlocal began
            began = perf_counter()  # what others have kept us waiting says nothing of the disk
            return _write(row, self._connection)

        try:
            written = self._patiently(work) if is_patient else work()
        except Exception as error:
            if not is_patient and _is_busy(error):
                return None
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _LEFT_OPEN:
                return [self._unknown(job, f"the commit failed: {error}")]
            return [(job.told, None, self.refusal(f"refused: {error}"))]
        self.groups += 1
        self.pages += job.pages
        self.last = perf_counter() - began
        return [(job.told, written, None)]

    def _answers(self, group: list[Job], *, is_patient: bool) -> list[Answer]:
        """Do a group's parts in their order, writes of rows that follow one another by one statement."""
        connection = self._connection
        answers: list[Answer] = []
        rows: list[tuple[Job, Write]] = []
        for job in group:
            if job.row is not None:
                rows.append((job, job.row))
                continue
            if rows:
                self._write_rows(rows, answers)
                rows = []
            result = self._patiently(partial(job.work, connection)) if is_patient else job.work(connection)
            answers.append((job.told, result, None))
        if rows:
            self._write_rows(rows, answers)
        return answers

    def _write_rows(self, rows: list[tuple[Job, Write]], answers: list[Answer]) -> None:
        for start in range(0, len(rows), _ROWS_MAX):
            part = rows[start : start + _ROWS_MAX]
            found = _write_rows(self._connection, [row for _, row in part])
            answers.extend((job.told, written, None) for (job, _), written in zip(part, found, strict=True))

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do what other processes may be in the way of, which does nothing then: again until `busy` is over."""
        end = time.monotonic() + self._busy
        pause = 0.0002
        while True:
            try:
                return work()
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or time.monotonic() > end:
                    raise
            time.sleep(pause * self._random.uniform(0.5, 1.5))  # in step, two processes would meet again
            pause = min(pause * 1.5, 0.01)

    def _undo(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _unknown(self, job: Job, why: str) -> Answer:
        if job.if_unknown is None:
            return job.told, None, self.refusal(why)
        return job.told, job.if_unknown(why), None


# ---- what there is to do -------------------------------------------------------------------------------


def store_id(connection: sqlite3.Connection) -> str:
    """Return the store's id."""
    return cast("str", connection.execute("SELECT id FROM ringcast_store").fetchone()[0])


def claiming(claim: Claim, told: Told[Claimed | None]) -> Job:
    """Return the job that is a claim."""

    def work(connection: sqlite3.Connection) -> Claimed | None:
        parts = claim.id, claim.lineage, claim.view, claim.owner
        rows = connection.execute(_CLAIM, parts).fetchall()  # all of it: an open cursor would hold the lock
        return Claimed(*rows[0]) if rows else None

    return Job(work, told, pages=2)


def writing(write: Write, told: Told[Written]) -> Job:
    """Return the job that is a write."""
    # The row's own, those that it spills over, those of the index of reminders, and of each reply and its indexes.
    pages = 1 + len(write.payload or b"") // _PAGE
    if write.due is not None:
        pages += 2
    if not write.replies:
        return Job(_nothing, told, pages, _is_unknown, True, write)
    return Job(partial(_write, write), told, pages + 3 * len(write.replies), _is_unknown)


def replying(id: str, key: str, now: float, told: Told[bytes | None]) -> Job:
    """Return the job that looks for a remembered reply."""

    def work(connection: sqlite3.Connection) -> bytes | None:
        statement = "SELECT reply FROM ringcast_reply WHERE id = ? AND key = ? AND expires > ?"
        found = connection.execute(statement, (id, key, now)).fetchone()
        return None if found is None else cast("bytes", found[0])

    return Job(work, told)


def due(
    before: float, after: tuple[float, str] | None, limit: int, connection: sqlite3.Connection
) -> list[tuple[float, str]]:
    """Return a page of rows with reminders that are due."""
    return connection.execute(_DUE, (before, *(after or (float("-inf"), "")), limit)).fetchall()


def prune(now: float, connection: sqlite3.Connection) -> int:
    """Forget replies that have expired; return how many."""
    return connection.execute("DELETE FROM ringcast_reply WHERE expires <= ?", (now,)).rowcount


def _nothing(connection: sqlite3.Connection) -> None:
    """Do nothing."""


def _is_unknown(why: str) -> Written:
    return Written(Outcome.UNKNOWN, why)


def _is_busy(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _write(write: Write, connection: sqlite3.Connection) -> Written:
    parts = write.op_id, write.schema, write.payload, write.due, write.id, write.ver
    if connection.execute(_WRITE, parts).rowcount:
        if write.replies:
            _remember(connection, write)
        return COMMITTED
    return _found(write, connection)


def _found(write: Write, connection: sqlite3.Connection) -> Written:
    """Return what became of a write that a row did not take: it may have it already."""
    found = connection.execute("SELECT op_id FROM ringcast_state WHERE id = ?", (write.id,)).fetchone()
    return COMMITTED if found is not None and found[0] == write.op_id else FENCED


def _write_rows(connection: sqlite3.Connection, rows: list[Write]) -> Sequence[Written]:
    """Write rows by one statement: while it runs, other threads do."""
    if len(rows) == 1 or len({row.id for row in rows}) < len(rows):  # of two of one row, either might be taken
        return [_write(row, connection) for row in rows]
    parts: list[Any] = []
    for row in rows:
        parts += (row.id, row.ver, row.op_id, row.schema, row.payload, row.due)
    size = 1 << (len(rows) - 1).bit_length()  # few sizes, so the statements are there
    parts += (rows[-1].id, -1, None, 0, None, None) * (size - len(rows))  # of no row is this the version
    if connection.execute(_ROWS.format(",".join([_ROW] * size)), parts).rowcount == len(rows):
        return [COMMITTED] * len(rows)
    return [_found(row, connection) for row in rows]


def _remember(connection: sqlite3.Connection, write: Write) -> None:
    ver = write.ver + 1
    connection.executemany(_REMEMBER, [(write.id, one.key, ver, one.reply, one.expires) for one in write.replies])
    if write.keep is not None:
        connection.execute(_KEEP, (write.id, write.id, write.keep))
