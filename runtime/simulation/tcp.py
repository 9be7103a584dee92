"""TCP between simulated machines, as far as programs can tell: order, windows, and how connections end.

A connection has two `End`s, one in the kernel of each machine, and a `Flow` in each direction. What is
written goes into the flow as segments that arrive in order. A segment that is lost, or meets a cut path,
is sent again after ever longer pauses, and all that follow wait behind it. A flow takes `WINDOW` bytes
that the receiver has not read yet.

How connections end, as on Linux:

    FIN      the program closed the socket, or ended (also when it was killed), with nothing unread
    RST      it did so with something unread; or a segment came for a connection that is not there
    timeout  nothing was acknowledged for TCP_USER_TIMEOUT; or, where nothing was under way, the
             questions of SO_KEEPALIVE were not answered for so long

A machine that loses its power says nothing. When it is back its kernel knows no connection, and resets.
"""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from .network import RESEND, RESEND_MAX, Network

if TYPE_CHECKING:
    from .machine import Machine
    from .world import World

WINDOW = 256 * 1024
"""Bytes that may be under way and unread in one direction."""

USER_TIMEOUT = 924.6
"""Seconds after which Linux gives up if a program sets no TCP_USER_TIMEOUT."""

IDLE = 30.0
"""Seconds between two looks at an idle connection with SO_KEEPALIVE, if a program sets no TCP_KEEPIDLE."""

ANSWER_TIMEOUT = 9.0
"""Seconds without an answer to these that end a connection, if a program sets no TCP_USER_TIMEOUT."""


class End:
    """One end of a connection, in its machine's kernel.

    Attributes:
        machine: Where it is.
        local: Its own address.
        remote: The other end's.
        error: What ended the connection, once something has.
        is_closed: Whether its program has closed it, or is gone.
        on_change: Is called when there is more to read, or an end.
        on_room: Is called when there is room to write again.
    """

    def __init__(self, machine: Machine, local: tuple[str, int], remote: tuple[str, int]) -> None:
        """Be one end; `join` connects two."""
        self.machine = machine
        self.local = local
        self.remote = remote
        self.error: OSError | None = None
        self.is_closed = False
        self.on_change: Callable[[], None] = _nothing
        self.on_room: Callable[[], None] = _nothing
        self.user_timeout = USER_TIMEOUT
        self.idle = IDLE
        self._unanswered_since: float | None = None
        self.is_ended = False
        self._unread: deque[bytes] = deque()
        self._unread_bytes = 0
        self._boot = machine.boots
        self.out: Flow
        self.into: Flow

    @property
    def is_there(self) -> bool:
        """Whether the kernel still knows it."""
        return self.machine.is_on and self._boot == self.machine.boots and self.error is None

    # ---- for the program ---------------------------------------------------------------------------

    def read(self, count: int) -> bytes:
        """Return what has come, at most so many bytes; nothing at the end.

        Raises:
            BlockingIOError: If nothing is there yet.
            OSError: If the connection was broken.
        """
        unread = self._unread
        if not unread:
            if self.error is not None:
                raise self.error
            if self.is_ended:
                return b""
            raise BlockingIOError(errno.EAGAIN, "nothing has come")
        if len(unread) == 1 and len(unread[0]) <= count:
            data = unread.popleft()
        else:
            parts: list[bytes] = []
            left = count
            while unread and left:
                part = unread.popleft()
                if len(part) > left:
                    unread.appendleft(part[left:])
                    part = part[:left]
                parts.append(part)
                left -= len(part)
            data = b"".join(parts)
        self._unread_bytes -= len(data)
        self.into.has_been_read()
        return data

    @property
    def is_readable(self) -> bool:
        """Whether `read` would return or raise something else than BlockingIOError."""
        return bool(self._unread) or self.is_ended or self.error is not None

    def write(self, data: bytes, lead: float) -> int:
        """Send as much as there is room for; return how many bytes that is.

        Raises:
            OSError: If the connection is broken.
        """
        if self.error is not None:
            raise self.error
        return self.out.take(data, lead)

    def finish(self, lead: float) -> None:
        """Say that nothing more will be written."""
        if self.error is None:
            self.out.finish(lead)

    def close(self, lead: float) -> None:
        """The program wants to know nothing more of it."""
        if self.is_closed:
            return
        self.is_closed = True
        self.on_change = self.on_room = _nothing
        if self.error is not None or not self.is_there:
            return
        if self._unread:
            self.reset_other()
            self.error = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        else:
            self.finish(lead)

    def keep_alive(self) -> None:
        """Ask from time to time whether the other end is there."""
        self.machine.network.world.later(self.idle, self._ask)

    # ---- for the flows -----------------------------------------------------------------------------

    @property
    def unread_bytes(self) -> int:
        """How many bytes have come and were not read."""
        return self._unread_bytes

    def arrived(self, data: bytes | None) -> None:
        """Data, or None for the end, has come in its turn."""
        if data is None:
            self.is_ended = True
        elif self.is_closed:
            self.reset_other()
            return
        else:
            self._unread.append(data)
            self._unread_bytes += len(data)
        self.on_change()

    def reset_other(self) -> None:
        """Tell the other end that there is no connection."""
        other = self.out.target
        self.machine.network.after_a_packet(self.local[0], self.remote[0], other.was_reset)

    def was_reset(self) -> None:
        """The other end's kernel says that there is no connection."""
        self.fail(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def fail(self, error: OSError) -> None:
        """The connection is broken."""
        if self.is_there:
            self.error = error
            self.on_change()
            self.on_room()

    def timed_out(self) -> None:
        """Nothing was acknowledged for too long."""
        self.fail(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))

    def _ask(self) -> None:
        if not self.is_there or self.is_closed:
            return
        network, here, there = self.machine.network, self.local[0], self.remote[0]
        if not (network.is_open(here, there) and network.is_open(there, here)):
            self._stay_unanswered(network.world)
        elif not self.out.target.is_there:
            self.was_reset()
        else:
            self._unanswered_since = None
            self.keep_alive()

    def _stay_unanswered(self, world: World) -> None:
        if self._unanswered_since is None:
            self._unanswered_since = world.now
        limit = ANSWER_TIMEOUT if self.user_timeout == USER_TIMEOUT else self.user_timeout
        left = self._unanswered_since + limit - world.now
        if left <= 1e-9:
            self.timed_out()
        else:
            world.later(min(self.idle, left), self._ask)


class Flow:
    """One direction of a connection: segments that arrive in order."""

    def __init__(self, network: Network, source: End, target: End) -> None:
        """Carry what `source` writes to `target`."""
        self.source = source
        self.target = target
        self._network = network
        self._under_way: deque[tuple[float, bytes | None]] = deque()
        self._under_way_bytes = 0
        self._last = 0.0
        self._is_finished = False
        self._wants_room = False
        self._trouble_since: float | None = None
        self._pause = RESEND
        self._where = f"{source.local[0]}>{target.local[0]}"

    def take(self, data: bytes, lead: float) -> int:
        """Send as much as the window has room for."""
        room = WINDOW - self._under_way_bytes - self.target.unread_bytes
        if room <= 0:
            self._wants_room = True
            return 0
        if len(data) > room:
            self._wants_room = True
            data = data[:room]
        self._send(bytes(data), lead)
        return len(data)

    def finish(self, lead: float) -> None:
        """Send the end."""
        if not self._is_finished:
            self._is_finished = True
            self._send(None, lead)

    def has_been_read(self) -> None:
        """The receiver has room again: its window's update goes back."""
        if self._wants_room and self.target.unread_bytes + self._under_way_bytes <= WINDOW // 2:
            self._wants_room = False
            source = self.source
            seconds = self._network.time_of(self.target.local[0], source.local[0], is_resent=True)
            self._network.world.later(seconds or 0.0, lambda: source.on_room())

    def _send(self, data: bytes | None, lead: float) -> None:
        network, world = self._network, self._network.world
        network.segments += 1
        seconds = network.time_of(self.source.local[0], self.target.local[0], is_resent=True)
        when = world.now + lead + (seconds or 0.0)
        if when < self._last:
            when = self._last  # behind what was sent before
        self._last = when
        self._under_way.append((when, data))
        if data is not None:
            self._under_way_bytes += len(data)
        world.later(when - world.now, self._arrive)

    def _arrive(self) -> None:
        if self._trouble_since is None:
            self._deliver()

    def _deliver(self) -> None:
        """Hand over what is due, if it gets through and is acknowledged."""
        network, world = self._network, self._network.world
        here, there = self.source.local[0], self.target.local[0]
        if not self._under_way or not self.source.is_there:
            self._trouble_since = None
            return
        if not network.is_open(here, there):
            self._wait()
            return
        while self._under_way and self._under_way[0][0] <= world.now:
            _, data = self._under_way.popleft()
            if not self.target.is_there:
                if self.target.machine.is_on and data is not None:
                    network.after_a_packet(there, here, self.source.was_reset)
                continue
            if data is not None:
                self._under_way_bytes -= len(data)
                world.trace.arrived(world.now, self._where, data if len(data) < 2048 else data[:2048])
            self.target.arrived(data)
        if network.is_open(there, here):
            self._trouble_since, self._pause = None, RESEND
        else:
            self._wait()

    def _wait(self) -> None:
        """Send again later what was not acknowledged."""
        world = self._network.world
        if self._trouble_since is None:
            self._trouble_since = world.now
            world.later(self.source.user_timeout, self._give_up)
        world.later(self._pause, self._try_again)
        self._pause = min(self._pause * 2, RESEND_MAX)

    def _try_again(self) -> None:
        if self._trouble_since is None:
            return
        network, here, there = self._network, self.source.local[0], self.target.local[0]
        if not self._under_way:  # delivered, but nothing of it was acknowledged
            if network.is_open(here, there) and network.is_open(there, here):
                self._trouble_since, self._pause = None, RESEND
            elif self.source.is_there:
                self._wait()
            return
        self._deliver()

    def _give_up(self) -> None:
        since = self._trouble_since
        if since is not None and self._network.world.now - since >= self.source.user_timeout - 1e-9:
            self.source.timed_out()


def join(one: End, other: End) -> None:
    """Connect two ends."""
    network = one.machine.network
    one.out = other.into = Flow(network, one, other)
    other.out = one.into = Flow(network, other, one)


def refused() -> ConnectionRefusedError:
    """Return what a dial raises to an address where nobody listens."""
    return ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")


def option_value(name: str, level: int, option: int, value: object) -> int | None:
    """Return the value of the TCP option of that name; None if it is another one that is set."""
    is_it = level == socket.IPPROTO_TCP and option == getattr(socket, name, -1)
    return value if is_it and isinstance(value, int) else None


def _nothing() -> None:
    """Stand in while nobody listens."""
