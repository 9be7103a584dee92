"""Connections at their handshake: after the preamble, before the hello has been believed.

The listening port has rationed them (`discovery.admission`); here they cost a TLS handshake each, and the
same numbers hold: so many at a time, so many from one address, and half for addresses of members. Who has
to give way is shut down, and ends as if its peer had hung up.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping

from ..discovery.address import is_loopback
from ..discovery.admission import Admission, Pending, origin_of
from ..discovery.member import Member
from .config import NodeConfig
from .connection import Connection


def admission_of(config: NodeConfig) -> Admission:
    """Return the numbers that the configuration has for new connections."""
    return Admission(
        timeout=config.handshake_timeout,
        pending=config.handshakes_pending,
        pending_each=config.handshakes_per_address,
        rate=config.handshake_rate,
        local_rate=config.local_handshake_rate,
        strangers_rate=config.strangers_handshake_rate,
    )


class Greeting:
    """Those of one channel."""

    def __init__(self, config: NodeConfig, members: Callable[[], Mapping[str, Member]]) -> None:
        """Start with none; `members` tells the members of the present view, by id."""
        self._pending: Pending[Connection] = Pending(admission_of(config))
        self._sockets: dict[Connection, socket.socket] = {}
        self._members = members
        self.crowded_out = 0

    def __contains__(self, connection: Connection) -> bool:
        """Return whether this one is at it."""
        return connection in self._pending

    def __iter__(self) -> Iterator[Connection]:
        """Yield them, oldest first."""
        return iter(self._pending.all())

    def add(self, connection: Connection, sock: socket.socket) -> None:
        """Take one in; the one that has to give way is shut down."""
        try:
            host: str = sock.getpeername()[0]
            is_near = is_loopback(host) or host == sock.getsockname()[0] or self._is_members(host)
        except OSError:  # it has hung up already
            host, is_near = "", False
        crowded = self._pending.add(connection, origin_of(host), is_near=is_near)
        self._sockets[connection] = sock
        if crowded is not None:
            self.crowded_out += 1
            with contextlib.suppress(OSError):
                self._sockets.pop(crowded).shutdown(socket.SHUT_RDWR)

    def discard(self, connection: Connection) -> None:
        """One is done, or gone; any number of times."""
        self._pending.discard(connection)
        self._sockets.pop(connection, None)

    def _is_members(self, host: str) -> bool:
        return any(member.address.rpartition(":")[0].strip("[]") == host for member in self._members().values())
