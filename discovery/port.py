"""The listening port: takes connections, reads their preambles, and hands them on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from .preamble import PREAMBLE_BYTES, channel_of, receive_exactly

__all__ = ["Port"]

_PREAMBLE_LIMIT = 3.0
"""Seconds in which a connection must have said what it wants."""

_PENDING_MAX = 64
"""Connections that have not said it yet; the oldest gives way, for the honest speak at once."""

_ACCEPT_PAUSE = 0.1
"""Seconds until the next try when the process has no file descriptor left."""


class Port:
    """Accepts on one socket until it is closed."""

    def __init__(
        self,
        listener: socket.socket,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_connection: Callable[[socket.socket, bytes], None],
    ) -> None:
        """Serve `listener`, which stays the caller's to close; `spawn` starts tasks and owns them."""
        self._listener = listener
        self._spawn = spawn
        self._on_connection = on_connection
        self._pending: dict[asyncio.Task[None], None] = {}
        self.strangers = 0

    async def serve(self) -> None:
        """Accept for ever; ends by cancellation."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listener)
            except OSError:
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            connection.setblocking(False)
            if len(self._pending) >= _PENDING_MAX:
                self.strangers += 1
                next(iter(self._pending)).cancel()
            task = self._spawn(self._introduce(connection))
            self._pending[task] = None
            task.add_done_callback(lambda task: self._pending.pop(task, None))

    async def _introduce(self, connection: socket.socket) -> None:
        channel = None
        try:
            async with asyncio.timeout(_PREAMBLE_LIMIT):
                channel = channel_of(await receive_exactly(connection, PREAMBLE_BYTES))
        except (OSError, TimeoutError):
            pass
        finally:
            if channel is None:
                self.strangers += 1
                connection.close()
        if channel is not None:
            self._on_connection(connection, channel)
