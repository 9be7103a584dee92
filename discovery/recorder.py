"""Writing the voter's record beside the loop, in order, so that a slow disk delays votes and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from .archive import Archive
from .effects import Record, Send

__all__ = ["Recorder"]


class Recorder:
    """The pen of one voter."""

    def __init__(
        self,
        archive: Archive,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_written: Callable[[Iterable[Send]], None],
    ) -> None:
        """Write into this archive.

        Args:
            archive: Where the record is kept.
            spawn: Starts tasks and owns them; that one fails ends the node.
            on_written: Takes what had to wait for a record.
        """
        self._archive = archive
        self._spawn = spawn
        self._on_written = on_written
        self._record: Record | None = None
        self._waiting: list[Send] = []
        self._is_writing = False

    def write(self, record: Record, then: Iterable[Send]) -> None:
        """Write the record; one that has not been begun gives way to it."""
        self._record = record
        self._waiting += then
        if not self._is_writing:
            self._is_writing = True
            self._spawn(self._write())

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while (record := self._record) is not None:
            then, self._waiting, self._record = self._waiting, [], None
            await loop.run_in_executor(None, self._archive.save, record)
            self._on_written(then)
        self._is_writing = False
