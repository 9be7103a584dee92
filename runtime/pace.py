"""The pace of a gateway: all clients together get a slice of each tick of the loop.

What clients send is worked off in steps, one of each client in turn, until the slice is over; the rest
waits for the next tick, and no more is read meanwhile. So however much they send, members and actors are
served in between. A step is a chunk of bytes from the socket (a handshake's, too), one frame, or a part
of the look at a large one.

Some steps cannot be cut: the arguments of a large call are decoded at once. So each credential has a
`Ration` of the time that its long steps take. Who has used it up waits, unread, until others
have had the rest of the time: a stall of `t` seconds comes once in `t / share` seconds at most, whatever
the credential's clients send, and over however many connections. Steps are measured by the processor's
time, so a busy machine is not held against anybody. Short steps are never rationed, nor is what is not the
client's doing: a step in which all the node's garbage was collected, and the end of a handshake, which comes
before it is known whose it is, and once for each of a thousand small clients of one name.

References:
    ITU-T I.371, Annex A: the virtual scheduling algorithm, which a `Ration` is.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections import deque
from time import monotonic, thread_time
from typing import Protocol

from ..security.tunnel import Tunnel

SLICE = 0.00025
"""Seconds of a tick for what clients have sent. Raising it lets all others wait longer: an ask takes some ticks."""

CHUNK = 16 * 1024
"""Bytes that are opened in a step: a whole record, at most."""

LONG = 0.001
"""Seconds of a step from which on it is counted."""

AT_ONCE = 0.01
"""Seconds of long steps that a client who had none for a while may take at once: a few large messages."""


class Ration:
    """How much of the loop's time the long steps of one credential's clients may take."""

    def __init__(self, share: float) -> None:
        """Start with all of it; `share` is a part of 1."""
        self._share = share
        self._paid_until = float("-inf")

    def spend(self, seconds: float, now: float) -> None:
        """Count time that was taken."""
        self._paid_until = max(self._paid_until, now) + seconds / self._share

    def wait(self, now: float) -> float:
        """Return for how many seconds there is nothing left; 0 or less if there is."""
        return self._paid_until - now - AT_ONCE / self._share

    def is_full(self, now: float) -> bool:
        """Return whether it is as if nothing had ever been taken."""
        return self._paid_until <= now


class Stepper(Protocol):
    """What works off what a client has sent, as the pace sees it."""

    @property
    def ration(self) -> Ration:
        """What its long steps are counted in."""
        ...

    def step(self) -> bool:
        """Do a little; return whether there is more."""
        ...

    def hold(self) -> None:
        """Have no more read until the last step: there is no time for it now. Any number of times."""
        ...


class Pace:
    """Takes the steps of one node's clients."""

    def __init__(self) -> None:
        """Start with none."""
        self._waiting: deque[Stepper] = deque()
        self._is_open = False
        self._is_running = False
        self._until = 0.0

    def enter(self, client: Stepper) -> None:
        """Take steps for a client that has something to do, and is not in line: now, as far as this tick has time."""
        self._waiting.append(client)
        if not self._is_open:
            self._open()
        if not self._is_running:
            self._run()

    def _open(self) -> None:
        self._is_open = True
        self._until = monotonic() + SLICE
        asyncio.get_running_loop().call_soon(self._close)

    def _close(self) -> None:
        self._is_open = False
        if self._waiting:
            self._open()
            self._run()

    def _run(self) -> None:
        self._is_running = True
        try:
            while self._waiting and (now := monotonic()) < self._until:
                self._step(self._waiting.popleft(), now)
        finally:
            self._is_running = False
        for client in self._waiting:
            client.hold()

    def _step(self, client: Stepper, now: float) -> None:
        ration = client.ration  # as it is now: a connection's last step as a stranger's is not its credential's
        wait = ration.wait(now)
        if wait > 0:
            client.hold()
            asyncio.get_running_loop().call_later(wait, self.enter, client)
            return
        young = gc.get_count()[-1]
        began = thread_time()
        if client.step():
            self._waiting.append(client)
        took = thread_time() - began
        if took > LONG and gc.get_count()[-1] >= young:  # else it was a full collection, of all the node's garbage
            ration.spend(took, now)


class PacedTunnel(Tunnel):
    """A client's TLS connection: what comes is opened, and passed on, at the gateway's pace.

    Attributes:
        ration: What its steps are counted in: the client's, once it is known who that is.
    """

    def __init__(self, context: ssl.SSLContext, inside: asyncio.Protocol, pace: Pace, ration: Ration) -> None:
        """Wait for a transport; `ration` is for the handshake."""
        super().__init__(context, inside, is_server=True)
        self.ration = ration
        self._pace = pace
        self._unopened: deque[bytes] = deque()
        self._is_in_line = False
        self._is_wanted = True
        self._is_reading = True

    def data_received(self, data: bytes) -> None:
        """Take in what came when it is its turn: at once, if nothing else is to be done."""
        self._unopened.extend(data[start : start + CHUNK] for start in range(0, len(data), CHUNK))
        self._enter()
        if self._unopened:
            self.hold()

    def _enter(self) -> None:
        if self._unopened and self._is_wanted and not self._is_in_line:
            self._is_in_line = True
            self._pace.enter(self)

    def step(self) -> bool:
        """Open a little."""
        if self._is_wanted:
            self._open_one(self._unopened.popleft())
        if not self._unopened:
            self._read_on()
        self._is_in_line = self._is_wanted and bool(self._unopened)
        return self._is_in_line

    def _open_one(self, data: bytes) -> None:
        if self.is_closing():
            return
        try:
            super().data_received(data)
        except Exception as error:  # it must not end in whoever's turn it was when this came
            what = "a client's connection was closed: what it sent made an error"
            asyncio.get_running_loop().call_exception_handler({"message": what, "exception": error})
            self.abort()

    def hold(self) -> None:
        """Read no more."""
        if self._is_reading:
            self._is_reading = False
            super().pause_reading()

    def _read_on(self) -> None:
        if not self._is_reading:
            self._is_reading = True
            super().resume_reading()

    def pause_reading(self) -> None:
        """Pass nothing more on; the socket is read until something comes."""
        self._is_wanted = False

    def resume_reading(self) -> None:
        """Pass on what has been read, and read on."""
        self._is_wanted = True
        self._enter()
