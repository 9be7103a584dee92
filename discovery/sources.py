"""The sources of one node at work: where others may be, and where this one says that it is."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from .source import Announcement, Source

__all__ = ["Sources"]

_LIMIT = 5.0
"""Seconds that a source may take to begin or to end."""


class Sources:
    """All sources of one node. One that does not work is logged, and the others go on.

    Attributes:
        named: The addresses that a person has named, as far as they are known.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        log: Any,
        on_found: Callable[[str], None],
        on_gone: Callable[[str], None],
    ) -> None:
        """Start with nothing found.

        Args:
            sources: Where to look.
            spawn: Starts tasks and owns them.
            log: Takes the warnings.
            on_found: Is told an address where somebody seems to be.
            on_gone: Is told one where nobody is any more, unless a person has named it.
        """
        self.named: set[str] = set()
        self._sources = sources
        self._spawn = spawn
        self._log = log
        self._on_found = on_found
        self._on_gone = on_gone
        self._started: list[Source] = []

    async def start(self, announcement: Announcement) -> None:
        """Start one after the other."""
        for source in self._sources:
            await self._start(source, announcement)

    def announce(self, announcement: Announcement) -> None:
        """Say something else of this node from now on."""
        for source in self._started:
            self._spawn(self._announce(source, announcement))

    async def stop(self) -> None:
        """Withdraw what was announced, and end."""
        for source in self._started:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LIMIT):
                    await source.stop()

    async def _start(self, source: Source, announcement: Announcement) -> None:
        def found(address: str) -> None:
            if source.is_explicit:
                self.named.add(address)
            self._on_found(address)

        def gone(address: str) -> None:
            # What a person has named is dialled for ever: whoever announces it as well, and withdraws
            # that, must not be able to end it.
            if address not in self.named:
                self._on_gone(address)

        try:
            async with asyncio.timeout(_LIMIT):
                await source.start(announcement, found, gone)
        except (OSError, TimeoutError) as error:
            self._log.warning("discovery does not work", source=repr(source), reason=repr(error))
        # Not one that is another node's, and said so: that node will stop it.
        self._started.append(source)

    async def _announce(self, source: Source, announcement: Announcement) -> None:
        try:
            async with asyncio.timeout(_LIMIT):
                await source.announce(announcement)
        except (OSError, TimeoutError) as error:
            self._log.warning(
                "discovery does not follow the change of the secret", source=repr(source), reason=repr(error)
            )
