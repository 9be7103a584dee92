"""A store in a Redis server, for any number of machines. It promises less than the others.

Claims and writes are scripts, which a Redis server runs one at a time and whole: fencing is as good as
elsewhere, as long as it is the same server with the same data. What was acknowledged is another matter:

* With ``appendfsync everysec``, Redis' default with ``appendonly yes``, a crash of its machine loses up to a
  second of acknowledged writes. Without ``appendonly``, all since the last snapshot, also when only the
  process dies. With ``appendfsync always`` nothing.
* A fail-over to a replica loses what the replica had not received, and may let an old version back in: then
  a stale activation can write over what was acknowledged.

`open` logs a warning unless the server says ``appendonly yes`` and ``appendfsync always``. Redis Cluster is not
supported: rows and the index of what is due would lie on different servers.

References:
    Redis documentation, "Redis persistence"; "Scripting with Lua", on atomicity.
"""

from __future__ import annotations

import uuid
from math import ceil
from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from ringcast.errors import NOT_SENT, StoreError
from ringcast.logger import get_logger

from .port import COMMITTED, FENCED, Claim, Claimed, Outcome, Write, Written

__all__ = ["RedisStore"]

_ConnectionPool = cast("Any", BlockingConnectionPool)  # some of it has no types

SILENCE = 10.0
"""Seconds that the server may take for one command, or to let a connection begin."""

CONNECTIONS = 64
"""Connections of one node, at most; who finds none free waits."""

_STATE, _REPLY, _REPLIES = "ringcast:state:", "ringcast:reply:", "ringcast:replies:"
"""Before a row's id: its hash; its replies, by key; their keys, by version."""
_DUE, _ID = "ringcast:due", "ringcast:id"

_CLAIM = """
local found = redis.call('HMGET', KEYS[1], 'ver', 'lineage', 'view')
if found[1] and found[2] == ARGV[1] and tonumber(found[3]) > tonumber(ARGV[2]) then return false end
local ver = redis.call('HINCRBY', KEYS[1], 'ver', 1)
redis.call('HSET', KEYS[1], 'lineage', ARGV[1], 'view', ARGV[2], 'owner', ARGV[3])
local state = redis.call('HMGET', KEYS[1], 'schema', 'payload')
return {ver, state[1] or '0', state[2]}
"""
# Numbers pass through Lua as floats, exact up to 2**53; versions are compared as the text that they are kept as.
_WRITE = """
local found = redis.call('HMGET', KEYS[1], 'ver', 'op_id')
if found[1] ~= ARGV[1] then return found[2] == ARGV[2] and 1 or 0 end
local ver = redis.call('HINCRBY', KEYS[1], 'ver', 1)
redis.call('HSET', KEYS[1], 'op_id', ARGV[2], 'schema', ARGV[3])
if ARGV[4] == '1' then redis.call('HSET', KEYS[1], 'payload', ARGV[5]) else redis.call('HDEL', KEYS[1], 'payload') end
if ARGV[6] == '' then redis.call('ZREM', KEYS[2], ARGV[7]) else redis.call('ZADD', KEYS[2], ARGV[6], ARGV[7]) end
local prefix = ARGV[8]
for at = 10, #ARGV, 3 do
  redis.call('SET', prefix .. ARGV[at], ARGV[at + 1], 'PXAT', ARGV[at + 2])
  redis.call('ZADD', KEYS[3], ver, ARGV[at])
end
if ARGV[9] ~= '' then
  for _, key in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1 - tonumber(ARGV[9]))) do redis.call('DEL', prefix .. key) end
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - tonumber(ARGV[9]))
end
return 1
"""


class RedisStore:
    """See `Store`, and the module for what it does not promise."""

    def __init__(self, address: str, connections: int = CONNECTIONS) -> None:
        """Mean a database of a server.

        Args:
            address: ``redis://user:password@host:port/database``, or ``rediss://…`` over TLS.
            connections: Connections to it at a time, at most.
        """
        parts = urlsplit(address)
        self.name = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}"
        self._pool = _ConnectionPool.from_url(
            address,
            max_connections=connections,
            timeout=SILENCE,
            socket_timeout=SILENCE,
            socket_connect_timeout=SILENCE,
            protocol=2,  # what answers look like must not depend on the driver's version
            retry=Retry(NoBackoff(), 0),  # a write that the driver sends again would be fenced by itself
        )
        self._is_open = False
        self._log = get_logger("ringcast").bind(store=self.name)

    async def open(self) -> str:
        """See `Store`."""
        was_open, self._is_open = self._is_open, True
        try:
            await self._refused("SET", _ID, uuid.uuid4().hex, "NX")
            found: bytes = await self._refused("GET", _ID)
            if not was_open:
                await self._look_at_promises()
        except BaseException:
            self._is_open = was_open
            raise
        return found.decode()

    async def _look_at_promises(self) -> None:
        """Warn if acknowledged writes may be lost; a server that will not say is taken at its owner's word."""
        told: dict[str, str] = {}
        try:
            for name in ("appendonly", "appendfsync"):
                found: list[bytes] = await self._do("CONFIG", "GET", name)
                told[name] = found[1].decode() if found else "?"
        except (StoreError, _Lost):
            return
        if told != {"appendonly": "yes", "appendfsync": "always"}:
            self._log.warning(
                "this Redis server may lose acknowledged state in a crash: set appendonly yes and appendfsync always, "
                "or use postgresql://",
                **told,
            )

    async def claim(self, claim: Claim) -> Claimed | None:
        """See `Store`."""
        parts = claim.lineage, str(claim.view), claim.owner
        found = await self._refused(*_script(_CLAIM, _STATE + claim.id), *parts)
        return None if found is None else Claimed(int(found[0]), int(found[1]), found[2])

    async def write(self, write: Write) -> Written:
        """See `Store`."""
        parts: list[str | bytes] = [
            str(write.ver),
            write.op_id,
            str(write.schema),
            "0" if write.payload is None else "1",
            write.payload or b"",
            "" if write.due is None else repr(write.due),
            write.id,
            f"{_REPLY}{write.id}:",
            "" if write.keep is None else str(write.keep),
        ]
        for one in write.replies:
            parts += [one.key, one.reply, str(max(ceil(one.expires * 1000), 1))]
        try:
            is_there = await self._do(*_script(_WRITE, _STATE + write.id, _DUE, _REPLIES + write.id), *parts)
        except _Lost as lost:
            return Written(Outcome.UNKNOWN, str(lost))
        return COMMITTED if is_there else FENCED

    async def reply(self, id: str, key: str, now: float) -> bytes | None:
        """See `Store`; what has expired is judged by the server's clock, too."""
        return cast("bytes | None", await self._refused("GET", f"{_REPLY}{id}:{key}"))

    async def due(self, before: float, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        """See `Store`."""
        last = after or (float("-inf"), "")
        found: list[tuple[float, str]] = []
        start, page = 0, limit
        while len(found) < limit and page == limit:  # what is due at the very time of the last one comes again
            between = str(last[0]), f"({before!r}", "BYSCORE", "LIMIT", str(start), str(limit), "WITHSCORES"
            parts: list[bytes] = await self._refused("ZRANGE", _DUE, *between)
            rows = [(float(due), id.decode()) for id, due in zip(parts[::2], parts[1::2], strict=True)]
            found += [row for row in rows if row > last]
            page = len(rows)
            start += limit
        return found[:limit]

    async def prune(self, now: float) -> int:
        """See `Store`: Redis forgets by itself."""
        return 0

    async def close(self) -> None:
        """See `Store`."""
        self._is_open = False
        await self._pool.aclose()

    async def _do(self, *command: str | bytes) -> Any:
        """Send a command, and return what the server answers.

        Raises:
            StoreError: If it was surely not done.
            _Lost: If it may have been done.
        """
        if not self._is_open:
            raise StoreError(f"{self.name} is not open", certainty=NOT_SENT)
        try:
            connection = await self._pool.get_connection()
        except (RedisError, OSError) as error:
            raise self._refusal(error) from error
        try:
            await connection.send_command(*command)
            return await connection.read_response()
        except ResponseError as error:  # the server's own word: it did nothing
            raise self._refusal(error) from error
        except (RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise _Lost(f"{self.name}: {error or type(error).__name__}") from error
        except BaseException:  # a cancel: the answer is still to come, and must not meet the next question
            await connection.disconnect(nowait=True)
            raise
        finally:
            await self._pool.release(connection)

    async def _refused(self, *command: str | bytes) -> Any:
        """Do something that may be done twice: a lost connection is as good as a refusal."""
        try:
            return await self._do(*command)
        except _Lost as lost:
            raise StoreError(str(lost), certainty=NOT_SENT) from lost

    def _refusal(self, error: BaseException) -> StoreError:
        return StoreError(f"{self.name}: {error or type(error).__name__}", certainty=NOT_SENT)


def _script(text: str, *keys: str) -> tuple[str, ...]:
    """Return the command that runs a script, which the server keeps compiled by its text's digest."""
    return "EVAL", text, str(len(keys)), *keys


class _Lost(Exception):
    """The connection ended before the answer came."""
