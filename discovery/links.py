"""TCP connections between memberships: frames out and in, dialling when there is none.

A frame is its length in four bytes and then sealed bytes. A link serves both directions;
whoever has something to say to an address uses the link that is there. Nothing is promised
of a frame that was sent: the cores repeat what matters.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from ..security.identity import Identity
from .address import split_address
from .preamble import MEMBERSHIP_CHANNEL, preamble

__all__ = ["Link", "Links"]

FRAME_BYTES_MAX = 4 << 20
"""A longer claimed length closes the link; nothing is allocated for it."""

_DIAL_LIMIT = 3.0
"""Seconds that a dial may take."""

_FIRST_FRAME_LIMIT = 3.0
"""Seconds in which whoever dialled must have sent a first frame that was understood."""

_WAITING_MAX = 64
"""Frames that wait for a dial; the oldest gives way, for the cores repeat them anyway."""

_UNSENT_BYTES_MAX = 8 << 20
"""A peer that takes nothing for so long that this much is unsent is cut off."""

_UNACKNOWLEDGED_MS_MAX = 5000
"""The kernel drops a link whose data stays unacknowledged: a half-open one must not swallow
frames for the quarter of an hour that TCP would try."""


@dataclass(eq=False, slots=True)
class Link:
    """One connection, or one that is being dialled.

    Attributes:
        dialled: The address that this node dialled, or None when it was dialled.
        peer: The address that the other end names as its own, once it has spoken.
        identity: Who the other end has proved to be; None without TLS.
    """

    dialled: str | None
    peer: str | None = None
    identity: Identity | None = None
    writer: asyncio.StreamWriter | None = None
    waiting: list[bytes] = field(default_factory=list[bytes])

    def write(self, frame: bytes) -> None:
        """Send the frame, now or when the dial succeeds."""
        if self.writer is None:
            del self.waiting[: len(self.waiting) - _WAITING_MAX + 1]
            self.waiting.append(frame)
            return
        if self.writer.transport.get_write_buffer_size() > _UNSENT_BYTES_MAX:
            self.writer.transport.abort()
            return
        self.writer.write(frame)


class Links:
    """All links of one node.

    Callbacks: `on_frame(link, data)` returns whether the link may stay, `on_refused(address)`
    when nobody listens where this node dialled, `on_lost(address)` when the other end of an
    established link is gone.
    """

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_frame: Callable[[Link, bytes], bool],
        on_refused: Callable[[str], None],
        on_lost: Callable[[str], None],
    ) -> None:
        """Start with none; `spawn` starts tasks and owns them."""
        self._spawn = spawn
        self._on_frame = on_frame
        self._on_refused = on_refused
        self._on_lost = on_lost
        self._by_address: dict[str, Link] = {}
        self._dials: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self.broken = 0

    def __len__(self) -> int:
        """Return how many addresses have a link."""
        return len(self._by_address)

    def send(self, address: str, data: bytes, answering: Link | None = None) -> None:
        """Send the sealed bytes to the address, over the link that is answered if there is one."""
        frame = len(data).to_bytes(4, "big") + data
        link = answering if answering is not None else self._by_address.get(address)
        if link is None:
            if self._is_closing:
                return
            link = self._by_address[address] = Link(dialled=address)
            dial = self._spawn(self._dial(link, address))
            self._dials.add(dial)
            dial.add_done_callback(self._dials.discard)
        link.write(frame)

    def adopt(self, connection: socket.socket) -> None:
        """Take over a connection that was dialled by another node."""
        self._spawn(self._serve(Link(dialled=None), connection))

    def name(self, link: Link, peer: str) -> None:
        """The other end of the link goes by this address: use the link to reach it."""
        link.peer = peer
        self._by_address.setdefault(peer, link)

    async def flush(self) -> None:
        """Dial no more, and wait until the dials under way have sent what waits for them."""
        self._is_closing = True
        await asyncio.gather(*self._dials, return_exceptions=True)

    async def _dial(self, link: Link, address: str) -> None:
        try:
            host, port = split_address(address)
            async with asyncio.timeout(_DIAL_LIMIT):
                reader, writer = await asyncio.open_connection(host, port)
        except ConnectionRefusedError:
            self._forget(link)
            self._on_refused(address)
            return
        except (OSError, TimeoutError, UnicodeError):
            self._forget(link)
            return
        writer.write(preamble(MEMBERSHIP_CHANNEL))
        self._establish(link, reader, writer)

    async def _serve(self, link: Link, connection: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=connection)
        except OSError:
            connection.close()
            return
        self._establish(link, reader, writer)

    def _establish(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _fail_fast(writer)
        link.writer = writer
        for frame in link.waiting:
            writer.write(frame)
        link.waiting.clear()
        self._spawn(self._converse(link, reader, writer))

    async def _converse(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            limit = None if link.dialled else _FIRST_FRAME_LIMIT
            while self._on_frame(link, await _read_frame(reader, limit)):
                limit = None
        except (OSError, EOFError):
            pass
        except ValueError:
            self.broken += 1
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self._forget(link)
            # What was said last, such as a refusal, still goes out; nothing waits for it.
            writer.close()
        if link.peer is not None and not self._is_closing:
            self._on_lost(link.peer)

    def _forget(self, link: Link) -> None:
        for address in (link.dialled, link.peer):
            if address is not None and self._by_address.get(address) is link:
                del self._by_address[address]


async def _read_frame(reader: asyncio.StreamReader, limit: float | None) -> bytes:
    """Return the next frame; ValueError when it cannot be one, OSError when it is late."""
    async with asyncio.timeout(limit):
        length = int.from_bytes(await reader.readexactly(4), "big")
        if length > FRAME_BYTES_MAX:
            raise ValueError(f"a frame of {length} bytes")
        return await reader.readexactly(length)


def _fail_fast(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS_MAX)
