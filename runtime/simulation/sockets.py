"""Sockets of simulated processes: what `socket.socket` is there.

They have the calls that the runtime makes, and are always non-blocking. `watch` is what a loop's
`add_reader` does: the callback runs as long as there is something to read.
"""

from __future__ import annotations

import errno
import socket
from asyncio import Future
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from . import tcp
from .network import SYN_TIMEOUT, SYN_TRIES

if TYPE_CHECKING:
    from .loop import VirtualLoop
    from .machine import Process

RECEIVE_BYTES = 212_992
"""Bytes of datagrams that wait in a socket; more are dropped, as by Linux."""

Address = tuple[str, int]


class VirtualSocket:
    """What both kinds of sockets have.

    Attributes:
        process: Whose it is.
        family: As of the real ones.
        type: As of the real ones.
        is_closed: Whether it was closed, or its process has ended.
    """

    def __init__(self, process: Process, family: int, kind: int) -> None:
        """Be open, and bound to nothing."""
        self.process = process
        self.machine = process.machine
        self.family = family
        self.type = kind
        self.is_closed = False
        self.local: Address = ("0.0.0.0", 0)
        self._watcher: tuple[VirtualLoop, Callable[..., Any], tuple[Any, ...]] | None = None
        self._is_called = False
        self._number = process.take_descriptor(self)

    def __enter__(self) -> Self:
        """Be closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def fileno(self) -> int:
        """Return a number; -1 once closed."""
        return -1 if self.is_closed else self._number

    def setblocking(self, flag: bool) -> None:
        """Nothing blocks here."""

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Take the options that matter in a simulation; see `StreamSocket`."""

    def getsockname(self) -> Address:
        """Return where it is bound."""
        return self.local

    def bind(self, address: Address) -> None:
        """Take an address of the machine.

        Raises:
            OSError: If it is not of the machine, or in use.
        """
        self._check_open()
        host, port = str(address[0]), int(address[1])
        if host not in (self.machine.ip, "0.0.0.0", "127.0.0.1"):
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        self.local = (self.machine.ip if host != "0.0.0.0" else host, self.machine.take_port(self, port))

    def close(self) -> None:
        """Let everything go."""
        if not self.is_closed:
            self.unwatch()
            self.is_closed = True
            self.process.drop_descriptor(self._number)
            self.machine.drop_port(self)
            self._on_close()

    @property
    def is_readable(self) -> bool:
        """Whether there is something to read, or an end."""
        raise NotImplementedError

    def recv(self, count: int) -> bytes:
        """Return what there is; see the real one."""
        raise NotImplementedError

    def watch(self, loop: VirtualLoop, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Have the loop call this whenever there is something to read."""
        self._check_open()
        self._watcher = (loop, callback, args)
        self.notify()

    def unwatch(self) -> bool:
        """Call nobody any more; return whether somebody was called."""
        watched, self._watcher = self._watcher is not None, None
        return watched

    def notify(self) -> None:
        """Something may be there to read."""
        watcher = self._watcher
        if watcher is not None and not self._is_called and self.is_readable:
            self._is_called = True
            watcher[0].call_soon(self._call)

    def _call(self) -> None:
        self._is_called = False
        watcher = self._watcher
        if watcher is None or not self.is_readable:
            return
        watcher[1](*watcher[2])
        self.notify()

    def _on_close(self) -> None:
        """Do what else is to be done at the end."""

    def _check_open(self) -> None:
        if self.is_closed:
            raise OSError(errno.EBADF, "Bad file descriptor")

    def _lead(self) -> float:
        current = self.machine.world.current
        return 0.0 if current is None else current.lead


class DatagramSocket(VirtualSocket):
    """A UDP socket."""

    def __init__(self, process: Process, family: int, kind: int) -> None:
        """Have received nothing."""
        super().__init__(process, family, kind)
        self._received: deque[tuple[bytes, Address]] = deque()
        self._received_bytes = 0

    @property
    def is_readable(self) -> bool:
        """Whether a datagram waits."""
        return bool(self._received)

    def connect(self, address: Address) -> None:
        """Find out where datagrams to there leave; sends nothing."""
        self.local = (self.machine.ip, self.local[1])

    def sendto(self, data: bytes, address: Address) -> int:
        """Send a datagram."""
        self._check_open()
        source = (self.machine.ip, self.local[1])
        self.machine.network.send_datagram(data, source, (str(address[0]), int(address[1])), self._lead())
        return len(data)

    def receive(self, data: bytes, source: Address) -> None:
        """A datagram has come from the network."""
        if self._received_bytes + len(data) <= RECEIVE_BYTES:
            self._received.append((data, source))
            self._received_bytes += len(data)
            self.notify()

    def recvfrom(self, count: int) -> tuple[bytes, Address]:
        """Return the next datagram, cut to `count` bytes, and where it came from."""
        self._check_open()
        if not self._received:
            raise BlockingIOError(errno.EAGAIN, "no datagram has come")
        data, source = self._received.popleft()
        self._received_bytes -= len(data)
        return data[:count], source

    def recv(self, count: int) -> bytes:
        """Return the next datagram."""
        return self.recvfrom(count)[0]


class StreamSocket(VirtualSocket):
    """A TCP socket: one that listens, or one end of a connection."""

    def __init__(self, process: Process, family: int, kind: int) -> None:
        """Neither listen nor be connected."""
        super().__init__(process, family, kind)
        self.end: tcp.End | None = None
        self.backlog = 0
        self._waiting: deque[tcp.End] = deque()
        self._user_timeout = tcp.USER_TIMEOUT
        self._idle = tcp.IDLE
        self._keeps_alive = False

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """Take TCP_USER_TIMEOUT, TCP_KEEPIDLE and SO_KEEPALIVE; the rest makes no difference here."""
        if (milliseconds := tcp.option_value("TCP_USER_TIMEOUT", level, option, value)) is not None:
            self._user_timeout = milliseconds / 1000
        elif (seconds := tcp.option_value("TCP_KEEPIDLE", level, option, value)) is not None:
            self._idle = float(seconds)
        if self.end is not None:
            self.end.user_timeout, self.end.idle = self._user_timeout, self._idle
        if (level, option) == (socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            if value and not self._keeps_alive and self.end is not None:
                self.end.keep_alive()
            self._keeps_alive = bool(value)

    @property
    def is_readable(self) -> bool:
        """Whether a connection waits, or data, or an end."""
        return bool(self._waiting) if self.end is None else self.end.is_readable

    def listen(self, backlog: int) -> None:
        """Take connections."""
        self.backlog = backlog

    @property
    def is_listening(self) -> bool:
        """Whether it takes connections."""
        return self.backlog > 0 and not self.is_closed

    def offer(self, end: tcp.End) -> bool:
        """A connection has come; return whether there is room for it."""
        if len(self._waiting) >= self.backlog:
            return False
        self._waiting.append(end)
        self.notify()
        return True

    def accept(self) -> tuple[StreamSocket, Address]:
        """Return the next connection and where it comes from."""
        self._check_open()
        if not self._waiting:
            raise BlockingIOError(errno.EAGAIN, "no connection has come")
        end = self._waiting.popleft()
        accepted = StreamSocket(self.process, self.family, self.type)
        accepted.local = end.local
        accepted.attach(end)
        return accepted, end.remote

    def attach(self, end: tcp.End) -> None:
        """Be this end of a connection."""
        self.end = end
        end.on_change = self.notify
        end.user_timeout, end.idle = self._user_timeout, self._idle
        if self._keeps_alive:
            end.keep_alive()
        self.notify()

    def connect(self, address: Address, connected: Future[None]) -> None:
        """Connect; the future tells when that is done, or what is wrong."""
        self._check_open()
        if self.local[1] == 0:
            self.local = (self.machine.ip, self.machine.take_port(self, 0))
        self._knock(address, connected, 0)

    def _knock(self, address: Address, connected: Future[None], tries: int) -> None:
        """Send the first packet of a connection, and again if nothing comes back."""
        network, here, there = self.machine.network, self.machine.ip, address[0]

        def is_wanted() -> bool:
            return not self.is_closed and self.end is None and not connected.done()

        def asked() -> None:
            if not (is_wanted() and network.is_open(there, here)):
                return
            listener = network.machines[there].listener(address[1])
            if listener is None:
                network.after_a_packet(there, here, refused)
                return
            mine = tcp.End(self.machine, self.local, address)
            its = tcp.End(listener.machine, address, self.local)
            tcp.join(mine, its)
            if listener.offer(its):
                network.after_a_packet(there, here, lambda: answered(mine))

        def refused() -> None:
            if is_wanted():
                connected.set_exception(tcp.refused())

        def answered(mine: tcp.End) -> None:
            if is_wanted():
                self.attach(mine)
                connected.set_result(None)
            else:
                mine.close(0.0)

        def again() -> None:
            if not is_wanted():
                return
            if tries + 1 >= SYN_TRIES:
                connected.set_exception(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))
            else:
                self._knock(address, connected, tries + 1)

        lead = self._lead() if tries == 0 else 0.0
        if lead:
            self.machine.world.later(lead, lambda: network.after_a_packet(here, there, asked))
        else:
            network.after_a_packet(here, there, asked)
        self.machine.world.later(lead + SYN_TIMEOUT * 2**tries, again)

    def recv(self, count: int) -> bytes:
        """Return what has come, at most so many bytes; nothing at the end."""
        self._check_open()
        if self.end is None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return self.end.read(count)

    def getpeername(self) -> Address:
        """Return the other end's address."""
        if self.end is None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        return self.end.remote

    def _on_close(self) -> None:
        if self.end is not None:
            self.end.close(self._lead())
        for end in self._waiting:
            end.is_closed = True
            end.reset_other()
            end.error = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        self._waiting.clear()
