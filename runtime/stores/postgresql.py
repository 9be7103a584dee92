"""A store in a PostgreSQL database, for any number of machines.

Each commit is one statement, so it costs one round trip and one flush of the server's log. What queues up while
one is under way shares the next (*group commit*): one statement writes many rows, each by its own compare-and-set.
If the server refuses a group, nothing of it was written, and each part is tried by itself. Remembered replies are
looked up in groups likewise. ``synchronous_commit`` is on: what was acknowledged
outlasts a crash of the server. It outlasts the loss of the server only if a synchronous standby takes over:
a fail-over to an asynchronous one goes back in time, and forgets acknowledged writes.

A connection that ends, or a server that is silent for `SILENCE`, leaves the outcome of a write unknown; an error
that the server reports is a refusal, and nothing was written.

References:
    PostgreSQL documentation, "Asynchronous Commit"; "Data-Modifying Statements in WITH".
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

import asyncpg

from ringcast.errors import NOT_SENT, StoreError

from .group import Grouped
from .port import COMMITTED, FENCED, Claim, Claimed, Outcome, Write, Written

__all__ = ["PostgreSQLStore"]

T = TypeVar("T")
_asyncpg = cast("Any", asyncpg)  # it has no types

CONNECTIONS = 8
"""Connections of one node, at most. Each is a process at the server."""

WRITERS = 2
"""Groups of writes under way, and of look-ups, at most: while the server flushes one, the next is prepared."""

GROUP_MAX, GROUP_BYTES = 256, 1 << 20
"""Parts and bytes of a group, at most: the last of them is not to make the first wait for long."""

SILENCE = 10.0
"""Seconds that the server may take for one statement, or to let a connection begin."""

_TABLES = """
CREATE TABLE IF NOT EXISTS ringcast_state (
    id TEXT PRIMARY KEY, ver BIGINT NOT NULL, lineage TEXT NOT NULL, view BIGINT NOT NULL, owner TEXT NOT NULL,
    op_id BYTEA, schema INTEGER NOT NULL DEFAULT 0, payload BYTEA, due DOUBLE PRECISION);
CREATE INDEX IF NOT EXISTS ringcast_due ON ringcast_state (due, id) WHERE due IS NOT NULL;
CREATE TABLE IF NOT EXISTS ringcast_reply (
    id TEXT NOT NULL, key TEXT NOT NULL, ver BIGINT NOT NULL, reply BYTEA NOT NULL, expires DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (id, key));
CREATE INDEX IF NOT EXISTS ringcast_reply_age ON ringcast_reply (id, ver);
CREATE INDEX IF NOT EXISTS ringcast_reply_expires ON ringcast_reply (expires);
CREATE TABLE IF NOT EXISTS ringcast_store (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL);
"""
_CLAIM = """INSERT INTO ringcast_state AS s (id, ver, lineage, view, owner) VALUES ($1, 1, $2, $3, $4)
    ON CONFLICT (id) DO UPDATE SET ver = s.ver + 1, lineage = excluded.lineage, view = excluded.view,
    owner = excluded.owner WHERE s.lineage <> excluded.lineage OR s.view <= excluded.view
    RETURNING ver, schema, payload"""
_UPDATE = """UPDATE ringcast_state SET ver = ver + 1, op_id = $3, schema = $4, payload = $5, due = $6
    WHERE id = $1 AND ver = $2 RETURNING ver"""
_REMEMBERED = f"""WITH written AS ({_UPDATE}),
    remembered AS (
        INSERT INTO ringcast_reply (id, key, ver, reply, expires)
        SELECT $1, one.key, written.ver, one.reply, one.expires
        FROM written, unnest($7::text[], $8::bytea[], $9::float8[]) AS one (key, reply, expires)
        ON CONFLICT (id, key) DO UPDATE SET ver = excluded.ver, reply = excluded.reply, expires = excluded.expires)"""
_REMEMBER = f"{_REMEMBERED} SELECT ver FROM written"
# The parts of one statement see what was there before it: of the older replies, the new ones' places are free.
_REMEMBER_AND_FORGET = f"""{_REMEMBERED},
    forgotten AS (
        DELETE FROM ringcast_reply WHERE id = $1 AND NOT key = ANY ($7::text[]) AND EXISTS (SELECT FROM written)
        AND ver <= coalesce((
            SELECT ver FROM ringcast_reply WHERE id = $1 AND NOT key = ANY ($7::text[])
            ORDER BY ver DESC LIMIT 1 OFFSET greatest($10::int - cardinality($7::text[]), 0)), -1))
    SELECT ver FROM written"""
_ALL_WRITES = """WITH written AS (
        UPDATE ringcast_state AS s SET ver = s.ver + 1, op_id = a.op_id, schema = a.schema, payload = a.payload,
            due = a.due
        FROM unnest($1::text[], $2::bigint[], $3::bytea[], $4::integer[], $5::bytea[], $6::float8[])
            AS a (id, ver, op_id, schema, payload, due)
        WHERE s.id = a.id AND s.ver = a.ver RETURNING s.id, s.ver, s.op_id),
    remembered AS (
        INSERT INTO ringcast_reply (id, key, ver, reply, expires)
        SELECT written.id, one.key, written.ver, one.reply, one.expires
        FROM written JOIN unnest($7::bytea[], $8::text[], $9::bytea[], $10::float8[])
            AS one (op_id, key, reply, expires) ON one.op_id = written.op_id
        ON CONFLICT (id, key) DO UPDATE SET ver = excluded.ver, reply = excluded.reply, expires = excluded.expires)
    SELECT op_id FROM written"""
_ALL_REPLIES = """SELECT r.id, r.key, r.reply, r.expires FROM unnest($1::text[], $2::text[]) AS a (id, key)
    JOIN ringcast_reply AS r ON r.id = a.id AND r.key = a.key"""
_DUE = """SELECT due, id FROM ringcast_state WHERE due IS NOT NULL AND due < $1 AND (due, id) > ($2, $3)
    ORDER BY due, id LIMIT $4"""


class _Connection(asyncpg.Connection):  # type: ignore[misc]
    """A connection that is given back to the pool as it is: nothing here leaves anything in its session."""

    def get_reset_query(self) -> str:
        """Return nothing to say: else it would be a round trip after each statement."""
        return ""


class PostgreSQLStore:
    """See `Store`."""

    def __init__(self, address: str, connections: int = CONNECTIONS) -> None:
        """Mean a database.

        Args:
            address: As libpq takes it: ``postgresql://user:password@host:port/database?sslmode=verify-full``.
            connections: Connections to it at a time, at most.
        """
        parts = urlsplit(address)
        self.name = f"postgresql://{parts.hostname}:{parts.port or 5432}{parts.path}"
        self._address = address
        self._connections = connections
        self._pool: Any = None
        self._id = ""
        self._opening = asyncio.Lock()
        self._writes = Grouped(self._write_all, at_once=WRITERS, most=GROUP_MAX, size=_bytes_of, most_bytes=GROUP_BYTES)
        self._replies = Grouped(self._reply_all, at_once=WRITERS, most=GROUP_MAX)

    async def open(self) -> str:
        """See `Store`."""
        async with self._opening:
            if self._pool is None:
                pool: Any = None
                try:
                    pool = await _asyncpg.create_pool(
                        self._address,
                        min_size=1,
                        max_size=self._connections,
                        connection_class=_Connection,
                        timeout=SILENCE,
                        command_timeout=SILENCE,
                        server_settings={"synchronous_commit": "on", "application_name": "ringcast"},
                    )
                    self._id = await self._make_tables(pool)
                except (_asyncpg.PostgresError, _asyncpg.InterfaceError, OSError, ValueError) as error:
                    if pool is not None:
                        pool.terminate()
                    raise self._refusal(error) from error
                self._pool = pool
        return self._id

    async def _make_tables(self, pool: Any) -> str:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(7214063)")  # two at once would get in their way
            await connection.execute(_TABLES)
            await connection.execute(
                "INSERT INTO ringcast_store VALUES (1, $1) ON CONFLICT DO NOTHING", uuid.uuid4().hex
            )
            return cast("str", await connection.fetchval("SELECT id FROM ringcast_store"))

    async def claim(self, claim: Claim) -> Claimed | None:
        """See `Store`."""
        parts = claim.id, claim.lineage, claim.view, claim.owner
        row = await self._refused(lambda connection: connection.fetchrow(_CLAIM, *parts))
        return None if row is None else Claimed(row["ver"], row["schema"], row["payload"])

    async def write(self, write: Write) -> Written:
        """See `Store`."""
        if write.keep is not None:
            return await self._write(write)
        return await self._writes.ask(write)

    async def _write(self, write: Write) -> Written:
        statement = _UPDATE
        parts: list[Any] = [write.id, write.ver, write.op_id, write.schema, write.payload, write.due]
        if write.replies or write.keep is not None:
            statement = _REMEMBER
            replies = write.replies
            parts += [[one.key for one in replies], [one.reply for one in replies], [one.expires for one in replies]]
            if write.keep is not None:
                statement = _REMEMBER_AND_FORGET
                parts.append(write.keep)
        try:
            ver = await self._do(lambda connection: connection.fetchval(statement, *parts))
            if ver is not None:
                return COMMITTED
            return (await self._whose([write]))[0]
        except _Lost as lost:
            return Written(Outcome.UNKNOWN, str(lost))

    async def _write_all(self, writes: list[Write]) -> list[Written | Exception]:
        """Write a group in one statement, each part of it if its row has the version that it names."""
        if len(writes) > 1:
            writes_in_order = sorted(writes, key=lambda write: write.id)  # so that groups do not lock crosswise
            replies = [(write.op_id, one.key, one.reply, one.expires) for write in writes for one in write.replies]
            columns = [
                [getattr(write, name) for write in writes_in_order]
                for name in ("id", "ver", "op_id", "schema", "payload", "due")
            ]
            columns += [[one[number] for one in replies] for number in range(4)]
            try:
                rows = await self._do(lambda connection: connection.fetch(_ALL_WRITES, *columns))
            except _Lost as lost:
                return [Written(Outcome.UNKNOWN, str(lost))] * len(writes)
            except StoreError as error:
                if not _is_of_one(error):
                    return [error] * len(writes)  # nothing was written
            else:
                written = {row["op_id"] for row in rows}
                others = [write for write in writes if write.op_id not in written]
                found: dict[bytes, Written | Exception] = {}
                if others:
                    try:
                        found = dict(zip((one.op_id for one in others), await self._whose(others), strict=True))
                    except _Lost as lost:
                        found = {one.op_id: Written(Outcome.UNKNOWN, str(lost)) for one in others}
                    except StoreError as error:
                        found = {one.op_id: error for one in others}
                return [found.get(write.op_id, COMMITTED) for write in writes]
        return await asyncio.gather(*(_or_error(self._write(write)) for write in writes))

    async def _whose(self, writes: list[Write]) -> list[Written]:
        """Return the outcomes of writes whose rows have other versions: one may be there from an earlier try."""
        statement = "SELECT op_id FROM ringcast_state WHERE id = ANY ($1::text[])"
        rows = await self._do(lambda connection: connection.fetch(statement, [write.id for write in writes]))
        there = {row["op_id"] for row in rows}
        return [COMMITTED if write.op_id in there else FENCED for write in writes]

    async def reply(self, id: str, key: str, now: float) -> bytes | None:
        """See `Store`."""
        return await self._replies.ask((id, key, now))

    async def _reply_all(self, asked: list[tuple[str, str, float]]) -> list[bytes | Exception | None]:
        ids, keys = [one[0] for one in asked], [one[1] for one in asked]
        try:
            rows = await self._refused(lambda connection: connection.fetch(_ALL_REPLIES, ids, keys))
        except StoreError as error:
            if len(asked) == 1 or not _is_of_one(error):
                return [error] * len(asked)
            return [(await self._reply_all([one]))[0] for one in asked]
        found = {(row["id"], row["key"]): (row["reply"], row["expires"]) for row in rows}
        return [None if (one := found.get((id, key))) is None or one[1] <= now else one[0] for id, key, now in asked]

    async def due(self, before: float, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        """See `Store`."""
        parts = before, *(after or (float("-inf"), "")), limit
        rows = await self._refused(lambda connection: connection.fetch(_DUE, *parts))
        return [(row["due"], row["id"]) for row in rows]

    async def prune(self, now: float) -> int:
        """See `Store`."""
        statement = "DELETE FROM ringcast_reply WHERE expires <= $1"
        done = await self._refused(lambda connection: connection.execute(statement, now))
        return int(done.rpartition(" ")[2])

    async def close(self) -> None:
        """See `Store`."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                async with asyncio.timeout(SILENCE):
                    await pool.close()
                    await self._writes.end()
                    await self._replies.end()
            except (TimeoutError, OSError, _asyncpg.PostgresError, _asyncpg.InterfaceError):
                pool.terminate()

    async def _do(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Do something on a connection of the pool.

        Raises:
            StoreError: If it was surely not done.
            _Lost: If it may have been done.
        """
        pool = self._pool
        if pool is None:
            raise StoreError(f"{self.name} is not open", certainty=NOT_SENT)
        try:
            connection = await pool.acquire(timeout=SILENCE)
        except (_asyncpg.PostgresError, _asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise self._refusal(error) from error
        try:
            return await work(connection)
        except _asyncpg.PostgresError as error:
            # The server's own word; but one that shuts down says so of statements that it may have committed.
            if str(error.sqlstate)[:2] in ("57", "08"):
                raise _Lost(f"{self.name}: {error}") from error
            raise self._refusal(error) from error
        except (_asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise _Lost(f"{self.name}: {error or type(error).__name__}") from error
        finally:
            try:
                await pool.release(connection)
            except (_asyncpg.PostgresError, _asyncpg.InterfaceError, OSError, TimeoutError):
                connection.terminate()

    async def _refused(self, work: Callable[[Any], Awaitable[T]]) -> T:
        """Do something that may be done twice: a lost connection is as good as a refusal."""
        try:
            return await self._do(work)
        except _Lost as lost:
            raise StoreError(str(lost), certainty=NOT_SENT) from lost

    def _refusal(self, error: BaseException) -> StoreError:
        return StoreError(f"{self.name}: {error or type(error).__name__}", certainty=NOT_SENT)


class _Lost(Exception):
    """The connection ended before the answer came."""


def _is_of_one(error: StoreError) -> bool:
    """Whether a group was refused for what one part of it says, or for a deadlock, so that the others may do."""
    cause: Any = error.__cause__
    return isinstance(cause, _asyncpg.PostgresError) and str(cause.sqlstate)[:2] in ("21", "22", "23", "40", "54")


async def _or_error(answer: Awaitable[Written]) -> Written | Exception:
    try:
        return await answer
    except StoreError as error:
        return error


def _bytes_of(write: Write) -> int:
    return len(write.payload or b"") + sum(len(one.reply) for one in write.replies)
