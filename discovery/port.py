"""The listening port: takes connections, reads their preambles, and hands them on.

Those that are more than their address's ration are closed unread; of those that have not said what they
want there are only so many (see `admission`).

No task waits for a connection: its socket stands in one table from the moment it was accepted until
it is handed on or closed, so that nothing that is cancelled can leave it open.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

from .address import is_loopback
from .admission import Admission, Pending, Rates, origin_of
from .preamble import PREAMBLE_BYTES, channel_of

__all__ = ["Port"]

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
        members: The hosts of the members of the present view.
        strangers: How many connections did not say what they want, as it is said.
        turned_away: How many were closed because their address had sent too many.
    """

    def __init__(
        self,
        listener: socket.socket,
        on_connection: Callable[[socket.socket, bytes], None],
        admission: Admission | None = None,
    ) -> None:
        """Serve `listener`, which stays the caller's to close, once `open` is called."""
        self._listener = listener
        self._on_connection = on_connection
        self._admission = admission if admission is not None else Admission()
        self._rates = Rates(self._admission)
        self._places: Pending[socket.socket] = Pending(self._admission)
        self._pending: dict[socket.socket, _Caller] = {}
        self._pause: asyncio.TimerHandle | None = None
        self.members: frozenset[str] = frozenset()
        self.strangers = 0
        self.turned_away = 0

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
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._listener)
                self._pause = loop.call_later(_ACCEPT_PAUSE, self.open)
                return
            self._take(connection, address[0])

    def _take(self, connection: socket.socket, host: str) -> None:
        loop = asyncio.get_running_loop()
        origin, is_near = origin_of(host), self._is_near(connection, host)
        if not self._rates.takes(origin, is_near=is_near, now=loop.time()):
            self.turned_away += 1
            connection.close()
            return
        crowded = self._places.add(connection, origin, is_near=is_near)
        if crowded is not None:
            self._refuse(crowded)
        connection.setblocking(False)
        self._pending[connection] = _Caller(loop.call_later(self._admission.timeout, self._refuse, connection))
        loop.add_reader(connection, self._listen_to, connection)

    def _is_near(self, connection: socket.socket, host: str) -> bool:
        """Say whether an address is this machine's own, or a member's."""
        if is_loopback(host) or host in self.members:
            return True
        try:
            own: str = connection.getsockname()[0]
        except OSError:  # it has hung up already
            return False
        return host == own

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
        self._places.discard(connection)
        self._pending.pop(connection).until.cancel()
        asyncio.get_running_loop().remove_reader(connection)
