"""Nodes by a name that resolves to all of them, such as a headless Service of Kubernetes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ringcast.errors import ConfigError
from ringcast.logger import get_logger

from .address import join_address
from .source import Announcement

__all__ = ["Dns"]

_INTERVAL = 5.0
"""Seconds between look-ups. Lowering it finds new nodes sooner, at the name service's cost."""


class Dns:
    """Looks a name up again and again: `Dns("shop.default.svc.cluster.local", 7400)`."""

    is_explicit = False

    def __init__(self, name: str, port: int) -> None:
        """Take the name that resolves to the nodes, and the port that they listen on.

        Raises:
            ConfigError: If either is none.
        """
        if not name or ":" in name:
            raise ConfigError(f"Dns takes a name and a port, such as Dns('shop.svc', 7400), not {name!r}")
        if not 0 < port < 65536:
            raise ConfigError(f"Dns takes a port from 1 to 65535, not {port!r}")
        self._name = name
        self._port = port
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"Dns({self._name!r}, {self._port})"

    async def start(
        self, announcement: Announcement, found: Callable[[str], None], gone: Callable[[str], None]
    ) -> None:
        """Begin to look up; addresses that no longer resolve are withdrawn."""
        if self._task is not None:
            raise ConfigError("a Dns(...) serves one node; give each node its own")
        self._task = asyncio.create_task(self._look_up(found, gone), name=f"ringcast look up {self._name}")

    async def announce(self, announcement: Announcement) -> None:
        """A name has no tags."""

    async def stop(self) -> None:
        """End looking up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _look_up(self, found: Callable[[str], None], gone: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        shown: set[str] = set()
        is_warned = False
        while True:
            try:
                answers = await loop.getaddrinfo(self._name, self._port)
                addresses = {join_address(str(answer[4][0]), self._port) for answer in answers}
            except (OSError, UnicodeError) as error:
                if not is_warned:
                    is_warned = True
                    what = "the name does not resolve; it is looked up again and again"
                    get_logger("ringcast.discovery").warning(what, name=self._name, reason=str(error))
            else:
                is_warned = False
                for address in sorted(addresses - shown):
                    found(address)
                for address in sorted(shown - addresses):
                    gone(address)
                shown = addresses
            await asyncio.sleep(_INTERVAL)
