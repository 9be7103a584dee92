"""Notes: what a spawned actor takes along when it is started elsewhere, kept with its row in the register.

Whoever notes something waits until all copies of the row have it. What several note at a time is
written together: there is one write under way for each actor, and it carries all that is noted by then.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from .life import Life
from .rows import Row, RowId

if TYPE_CHECKING:
    from .host import Host
    from .register import Register


class NoteBook:
    """Writes what the actors of one node note."""

    def __init__(self, host: Host, register: Register) -> None:
        """Belong to one node."""
        self._host = host
        self._register = register
        self._writing: dict[RowId, asyncio.Task[None]] = {}

    def note(self, life: Life) -> None:
        """Have written what has changed, without waiting for it."""
        if _is_behind(life):
            self._host.background(self.write(life))

    async def write(self, life: Life) -> None:
        """Return when the keepers of an actor know what it has noted by now."""
        while (row := _is_behind(life)) is not None:
            task = self._writing.get(row.id)
            if task is None:
                task = self._writing[row.id] = self._host.background(self._write(life, row))
            await asyncio.wait([task])

    async def settled(self, row_id: RowId) -> None:
        """Wait for the write that is under way, if there is one: the actor goes on elsewhere."""
        task = self._writing.get(row_id)
        if task is not None:
            await asyncio.wait([task])

    async def _write(self, life: Life, row: Row) -> None:
        notes, me = life.notes, self._register.me
        try:
            if me is not None:
                await self._register.noted(row.id, me, notes)
        finally:  # if it is no more of this run of the node, others know what it has noted
            if life.row is not None:
                life.row = replace(life.row, notes=notes)
            del self._writing[row.id]


def _is_behind(life: Life) -> Row | None:
    """Return the row of an actor whose keepers do not know yet what it has noted."""
    return life.row if life.outlives_its_node and life.row is not None and life.row.notes != life.notes else None
