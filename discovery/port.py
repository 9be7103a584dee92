"""The listening port: takes connections, reads their preambles, and hands them on.

No task waits for a connection: its socket stands in one table from the moment it was accepted until
it is handed on or closed, so that nothing that is cancelled can leave it open.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from .preamble import PREAMBLE_BYTES, channel_of

__all__ = ["Port"]

_PREAMBLE_LIMIT = 3.0
"""Seconds in which a connection must have said what it wants."""

_PENDING_MAX = 64
"""Connections that have not said it yet; the oldest gives way, for the honest speak at once."""

_ACCEPTED_AT_ONCE = 16
"""Connections that are accepted in one turn of the loop: what else is due comes in between."""

_ACCEPT_PAUSE = 0.1
"""Seconds until the next try when the process has no file descriptor left."""


@dataclass(slots=True)
class _Caller:
    until: asyncio.TimerHandle
    said: bytes = b""


class Port:
    """Accepts on one socket until it is closed.

    Attributes:
        strangers: How many connections did not say what they want, as it is said.
    """

    def __init__(self, listener: socket.socket, on_connection: Callable[[socket.socket, bytes], None]) -> None:
        """Serve `listener`, which stays the caller's to close, once `open` is called."""
        self._listener = listener
        self._on_connection = on_connection
        self._pending: dict[socket.socket, _Caller] = {}
        self._pause: asyncio.TimerHandle | None = None
        self.strangers = 0

    def open(self) -> None:
        """Accept from now on; needs the running loop."""
        self._pause = None
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Accept no more, and close what has said nothing yet."""
        asyncio.get_running_loop().remove_reader(self._listener)
        if self._pause is not None:
            self._pause.cancel()
        for connection in tuple(self._pending):
            self._release(connection)
            connection.close()

    def _accept(self) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                self._pause = loop.call_later(_ACCEPT_PAUSE, self.open)
                return
            self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        if len(self._pending) >= _PENDING_MAX:
            self._refuse(next(iter(self._pending)))
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        self._pending[connection] = _Caller(loop.call_later(_PREAMBLE_LIMIT, self._refuse, connection))
        loop.add_reader(connection, self._listen_to, connection)

    def _listen_to(self, connection: socket.socket) -> None:
        caller = self._pending[connection]
        try:
            # Not a byte more: what follows is for whoever takes the connection.
            said = connection.recv(PREAMBLE_BYTES - len(caller.said))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            said = b""
        caller.said += said
        if said and len(caller.said) < PREAMBLE_BYTES:
            return
        channel = channel_of(caller.said)
        if channel is None:
            self._refuse(connection)
        else:
            self._release(connection)
            self._on_connection(connection, channel)

    def _refuse(self, connection: socket.socket) -> None:
        self.strangers += 1
        self._release(connection)
        connection.close()

    def _release(self, connection: socket.socket) -> None:
        self._pending.pop(connection).until.cancel()
        asyncio.get_running_loop().remove_reader(connection)
