"""A store in this process's memory, for tests and simulations: it promises what the others do, but for crashes."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field

from .port import COMMITTED, FENCED, Claim, Claimed, Write, Written

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Row:
    ver: int = 0
    lineage: str = ""
    view: int = 0
    op_id: bytes = b""
    schema: int = 0
    payload: bytes | None = None
    due: float | None = None
    replies: dict[str, tuple[int, bytes, float]] = field(default_factory=dict[str, tuple[int, bytes, float]])
    """By key, oldest first: the version with which it was written, the reply, and when it expires."""


class MemoryStore:
    """See `Store`. Give the same object to several nodes of one process, and they share it."""

    def __init__(self, store_id: str | None = None) -> None:
        """Start without a row; its id is random, unless a simulation says what it is."""
        self.name = "memory:"
        self._id = uuid.uuid4().hex if store_id is None else store_id
        self._rows: dict[str, _Row] = {}

    async def open(self) -> str:
        """See `Store`."""
        return self._id

    async def claim(self, claim: Claim) -> Claimed | None:
        """See `Store`."""
        await asyncio.sleep(0)  # as with the others, something else may happen meanwhile
        row = self._rows.setdefault(claim.id, _Row(lineage=claim.lineage, view=claim.view))
        if row.lineage == claim.lineage and row.view > claim.view:
            return None
        row.ver += 1
        row.lineage, row.view = claim.lineage, claim.view
        return Claimed(row.ver, row.schema, row.payload)

    async def write(self, write: Write) -> Written:
        """See `Store`."""
        await asyncio.sleep(0)
        row = self._rows.get(write.id)
        if row is None or row.ver != write.ver:
            return COMMITTED if row is not None and row.op_id == write.op_id else FENCED
        row.ver += 1
        row.op_id, row.schema, row.payload, row.due = write.op_id, write.schema, write.payload, write.due
        for reply in write.replies:
            row.replies.pop(reply.key, None)
            row.replies[reply.key] = row.ver, reply.reply, reply.expires
        if write.keep is not None:
            for key in list(row.replies)[: max(len(row.replies) - write.keep, 0)]:
                del row.replies[key]
        return COMMITTED

    async def reply(self, id: str, key: str, now: float) -> bytes | None:
        """See `Store`."""
        await asyncio.sleep(0)
        row = self._rows.get(id)
        found = None if row is None else row.replies.get(key)
        return None if found is None or found[2] <= now else found[1]

    async def due(self, before: float, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        """See `Store`."""
        await asyncio.sleep(0)
        found = sorted((row.due, id) for id, row in self._rows.items() if row.due is not None and row.due < before)
        return [one for one in found if after is None or one > after][:limit]

    async def prune(self, now: float) -> int:
        """See `Store`."""
        await asyncio.sleep(0)
        count = 0
        for row in self._rows.values():
            for key in [key for key, (_, _, expires) in row.replies.items() if expires <= now]:
                del row.replies[key]
                count += 1
        return count

    async def close(self) -> None:
        """See `Store`; the rows stay, for whoever has the object."""
