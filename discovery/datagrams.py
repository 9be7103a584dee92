"""The UDP socket: datagrams out and in, with names resolved aside.

Members may advertise names. A datagram to one that is not resolved yet is dropped, like any
other lost datagram, while the name service is asked; answers are kept for a while.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from ipaddress import ip_address
from typing import Any

from .address import split_address

__all__ = ["Datagrams"]

_RECEIVE_BYTES = 2048
"""More than any datagram of ours: a longer one is cut, and so found malformed."""

_BURST = 64
"""Datagrams read at a time before other work has its turn."""

_RESOLVED_FOR = 30.0
"""Seconds that a resolved name is used."""

_NAMES_MAX = 1024
"""Names that are kept; the one that was asked for longest ago gives way."""


class Datagrams:
    """Sends and receives on one bound socket until it is closed."""

    def __init__(
        self,
        sock: socket.socket,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_datagram: Callable[[bytes], None],
        on_send_failed: Callable[[], None],
    ) -> None:
        """Read from `sock`, which stays the caller's to close; `spawn` starts tasks and owns them."""
        self._sock = sock
        self._spawn = spawn
        self._on_datagram = on_datagram
        self._on_send_failed = on_send_failed
        self._loop = asyncio.get_running_loop()
        self._resolved: dict[str, tuple[float, str | None]] = {}
        self.sent = 0
        self.received = 0
        self._loop.add_reader(sock, self._on_readable)

    def close(self) -> None:
        """Read no more."""
        self._loop.remove_reader(self._sock)

    def send(self, address: str, data: bytes) -> None:
        """Send one datagram; a failure of this machine is reported, others are just losses."""
        host, port = split_address(address)
        literal = self._literal(host)
        if literal is None:
            return
        try:
            self._sock.sendto(data, (literal, port))
            self.sent += 1
        except (BlockingIOError, ConnectionRefusedError, socket.gaierror):
            pass  # A full queue, an answer to an earlier datagram, another family's address: as good as lost.
        except OSError:
            self._on_send_failed()

    def _literal(self, host: str) -> str | None:
        try:
            return str(ip_address(host))
        except ValueError:
            asked_at, literal = self._resolved.get(host, (float("-inf"), None))
            if self._loop.time() >= asked_at + _RESOLVED_FOR:
                self._keep(host, literal)
                self._spawn(self._resolve(host))
            return literal

    async def _resolve(self, host: str) -> None:
        try:
            found = await self._loop.getaddrinfo(host, None, family=self._sock.family)
        except (OSError, UnicodeError):
            return
        self._keep(host, str(found[0][4][0]))

    def _keep(self, host: str, literal: str | None) -> None:
        self._resolved.pop(host, None)
        if len(self._resolved) >= _NAMES_MAX:
            del self._resolved[next(iter(self._resolved))]
        self._resolved[host] = (self._loop.time(), literal)

    def _on_readable(self) -> None:
        for _ in range(_BURST):
            try:
                data = self._sock.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # What the network said of an earlier datagram.
            self.received += 1
            self._on_datagram(data)
