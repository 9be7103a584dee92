"""One TCP connection between two memberships, from its socket to its end.

Over TLS a link is the inside of a `Tunnel`: it sees no byte before both ends have proved who they are.
Without TLS, which there is on the loopback only, it is the socket's own protocol.

A link passes three stages, and each has its limits:

    unproven     `PROVING_LIMIT` seconds from the first moment: to connect, to shake hands and, for who
                 was dialled, to hear a first frame that is understood
    understood   `FRAME_LIMIT` seconds for a frame that has begun; between frames it may be silent for ever
    ended        told once, with how it ended: that the other end's kernel closed a proven connection
                 is evidence that a program is gone; that nothing was heard, or that this end closed, is none

Nothing is promised of a frame that was sent: the cores repeat what matters.
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import HandshakeRefused

from ..security.channels import MEMBERSHIP
from ..security.identity import Identity
from ..security.trust import explained
from ..security.tunnel import Tunnel
from .frames import Frames, framed
from .preamble import preamble
from .sockets import connected, fail_fast, stay

if TYPE_CHECKING:
    from .links import Links

__all__ = ["FRAME_BYTES_MAX", "Ending", "Link"]

FRAME_BYTES_MAX = 4 << 20
"""A longer claimed length closes the link; nothing is allocated for it."""

FIRST_FRAME_BYTES_MAX = 64 << 10
"""The same, for a first frame of who has proved nothing, as without TLS."""

PROVING_LIMIT = 3.0
"""Seconds in which a link must have become one that is believed."""

FRAME_LIMIT = 10.0
"""Seconds that a frame may take from its first byte to its last."""

CLOSE_LIMIT = 1.0
"""Seconds that last words may take to leave."""

WAITING_MAX = 64
"""Frames that wait for a dial; the oldest gives way, for the cores repeat them anyway."""

UNSENT_BYTES_MAX = 8 << 20
"""A peer that takes nothing for so long that this much is unsent is cut off."""

_TLS_HELLO = b"\x16\x03"
_TLS_ALERT = b"\x15\x03"
_NO_TLS = bytes(5)
"""What tells somebody who began with TLS that it is not spoken here: no record begins like this."""


class Ending(enum.Enum):
    """How a connection ended."""

    FINISHED = "the other end closed it"
    RESET = "the other end, or its kernel, reset it"
    SILENT = "nothing was taken or acknowledged any more"
    REFUSED = "the TLS of one end refused what the other sent"
    CLOSED_HERE = "this node closed it"


class Link(asyncio.Protocol):
    """One connection, or one that is being dialled.

    Attributes:
        dialled: The address that this node dialled, or None when it was dialled.
        is_watch: Whether it is kept for what its end will prove, and outlasts silence.
        peer: The address that the other end names as its own, once it has spoken.
        speaker: Id and incarnation of who speaks at the other end, once it has spoken.
        identity: Who the other end has proved to be; None without TLS, and before it has.
        objection: What this node, or the other, has against the connection, in words, if that is known.
    """

    def __init__(self, links: Links, dialled: str | None, *, is_watch: bool = False) -> None:
        """Be one of the `links`; there is no connection yet."""
        self.dialled = dialled
        self.is_watch = is_watch
        self.peer: str | None = None
        self.speaker: tuple[str, int] | None = None
        self.identity: Identity | None = None
        self.objection: HandshakeRefused | None = None
        self._links = links
        self._work: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None
        self._is_attached = False
        self._raw: asyncio.Transport | None = None
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._frames = Frames(FIRST_FRAME_BYTES_MAX)
        self._is_amid = False
        self._ending: Ending | None = None
        self._has_ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._set_timer(PROVING_LIMIT)

    @property
    def is_connected(self) -> bool:
        """Whether there was a connection, proven or not."""
        return self._is_attached

    @property
    def host(self) -> str:
        """The IP address of the other end, as the socket knows it."""
        peer = None if self._raw is None else self._raw.get_extra_info("peername")
        return str(peer[0]) if peer else "unknown"

    # ---- towards a connection ----------------------------------------------------------------------

    def dial(self, address: str) -> None:
        """Connect to the address, and talk to whoever is there."""
        self._begin(self._dial(address))

    def adopt(self, connection: socket.socket) -> None:
        """Talk over a connection that another node has dialled."""
        self._socket = connection
        self._begin(self._attach())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = self._links.spawn(work)
        self._work.add_done_callback(self._on_worked)

    def _on_worked(self, work: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step runs nothing of what it was to do, not even its
        # `finally`: so the socket is the link's, and not the task's, until a transport has it.
        if not self._is_attached:
            if self._socket is not None:
                self._socket.close()
            self._end(None)

    async def _dial(self, address: str) -> None:
        try:
            self._socket = await connected(address)
        except (OSError, ValueError) as error:
            self._end(error)
        else:
            await self._attach()

    async def _attach(self) -> None:
        assert self._socket is not None
        opening = preamble(MEMBERSHIP) if self.dialled else b""
        trust = self._links.trust
        context = trust.dialling(MEMBERSHIP) if self.dialled else trust.serving(MEMBERSHIP)
        outside: asyncio.Protocol = self
        if context is not None:
            outside = Tunnel(context, self, is_server=not self.dialled, prologue=opening)
        (stay if self.is_watch else fail_fast)(self._socket)
        self._is_attached = True
        loop = asyncio.get_running_loop()
        self._raw, _ = await loop.connect_accepted_socket(lambda: outside, self._socket)
        self._links.raw[self._raw] = None
        if self._ending is not None:  # while the transport was made
            self._raw.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both ends are proven, or there is no TLS: say what waits to be said."""
        self._transport = cast(asyncio.Transport, transport)
        if isinstance(transport, Tunnel):
            try:
                self.identity = self._links.admitted(transport.get_extra_info("ssl_object"))
            except HandshakeRefused as error:
                self.objection = error
                self.close()
                return
            self._frames.limit = FRAME_BYTES_MAX
        elif self.dialled:
            self._transport.write(preamble(MEMBERSHIP))
        if self.dialled:
            self._set_timer(None)
        for data in self._waiting:
            self._transport.write(framed(data))
        self._waiting.clear()
        self._links.proved(self)

    # ---- what comes and goes -----------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send the bytes as a frame, now or once the other end is proven."""
        if self._ending is not None or self._has_ended:
            return
        if self._transport is None:
            del self._waiting[: len(self._waiting) - WAITING_MAX + 1]
            self._waiting.append(data)
        elif self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            self.cut(Ending.SILENT)
        else:
            self._transport.write(framed(data))

    def data_received(self, data: bytes) -> None:
        """Pass whole frames on."""
        self._frames.add(data)
        was_amid = self._is_amid
        try:
            while self._ending is None and (frame := self._frames.take()) is not None:
                was_amid = False
                if not self._links.on_frame(self, frame):
                    self.close()
        except ValueError:
            self._break_off()
        if self._ending is not None or (self.speaker is None and not self.dialled):
            return
        self._is_amid = len(self._frames) > 0
        if not self._is_amid:
            self._set_timer(None)
        elif not was_amid:
            self._set_timer(FRAME_LIMIT)

    def understood(self, speaker: tuple[str, int], peer: str) -> str:
        """The other end has said something that makes sense; return the address that it goes by.

        That is the one it named first: it cannot take the place of many.
        """
        self.speaker = speaker
        self.peer = self.peer or peer
        self._frames.limit = FRAME_BYTES_MAX
        return self.peer

    def _break_off(self) -> None:
        """What comes are no frames: say so if it helps, and end."""
        assert self._transport is not None
        if self._frames.starts_with(_TLS_ALERT):
            self.objection = HandshakeRefused("it speaks TLS, and this node was started with tls=False")
        elif self._frames.starts_with(_TLS_HELLO):
            self._transport.write(_NO_TLS)
        self._links.broken += 1
        self.close()

    # ---- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close, once what was written has left."""
        if self._ending is None:
            self._ending = Ending.CLOSED_HERE
            if self._transport is None:
                self._abort()
            else:
                self._transport.close()
                self._set_timer(CLOSE_LIMIT)

    def cut(self, ending: Ending = Ending.CLOSED_HERE) -> None:
        """Close at once; the rest is lost."""
        self._ending = self._ending or ending
        self._abort()

    def _abort(self) -> None:
        if self._work is not None:
            self._work.cancel()
        if self._raw is not None:
            self._raw.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, or its handshake failed."""
        if isinstance(exc, ssl.SSLError) and self._ending is None:
            self.objection = HandshakeRefused(explained(exc))
        self._end(exc)

    def _end(self, error: Exception | None) -> None:
        if not self._has_ended:
            self._has_ended = True
            self._set_timer(None)
            self._links.ended(self, self._ending or _ending_of(error), error)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.cut, Ending.SILENT)


def _ending_of(error: Exception | None) -> Ending:
    match error:
        case None:
            return Ending.FINISHED
        case ssl.SSLError():
            return Ending.REFUSED
        case ConnectionError():
            return Ending.RESET
        case _:
            return Ending.SILENT
