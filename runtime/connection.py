"""One TCP connection between two nodes: the handshake, batches of frames, pieces of large messages.

Batches are gathered by the link and written once per tick of the loop. A large message leaves in
pieces, from where its buffers lie, and at most `window` bytes of pieces are under way: what is
small waits behind little. The receiver keeps the slices that arrive and joins them once.

Handshake: after the preamble both ends prove by TLS who they are. Then the dialler sends its hello,
and the acceptor answers with its own or with a refusal that names both sides' values. Nothing is
decoded before TLS is done and the peer's identity fits, and nothing but a hello before the hello.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import msgpack

from ringcast.errors import CodecError

from ..security.identity import Identity
from ..security.trust import explained
from .codec import FrameUnpacker
from .wire import ACK, HEAD, MAX_BATCH, PIECE_BIT, PIECE_BYTES, PIECE_HEAD

if TYPE_CHECKING:
    from .link import Link

MAX_HELLO = 16 * 1024
SHARED_WINDOW = 32 * 1024
"""Bytes of pieces under way while small messages use the line, too: what a small one waits behind."""
SHARED_FOR = 1.0
"""Seconds after a small message for which the line counts as shared."""


class Bulk:
    """A large message that arrives in pieces, each copied to its place at once.

    To join them at the end would stop the loop for as long as the message is large. A `BytesIO`
    gives up its buffer as a bytes object without another copy.
    """

    __slots__ = ("_done", "_lengths", "_part", "missing")

    def __init__(self, lengths: list[int]) -> None:
        """Expect parts of these lengths, one after the other."""
        self.missing = sum(lengths)
        self._lengths = deque(lengths)
        self._part = BytesIO()
        self._done: list[bytes] = []

    def take(self, chunk: memoryview) -> None:
        """Take in what follows."""
        self.missing -= len(chunk)
        while True:
            room = self._lengths[0] - self._part.tell()
            self._part.write(chunk[:room])
            if len(chunk) < room:
                return
            self._done.append(self._part.getvalue())
            self._lengths.popleft()
            self._part = BytesIO()
            chunk = chunk[room:]
            if not self._lengths:
                return

    def parts(self) -> list[bytes]:
        """Return the parts of a message that is whole."""
        return self._done


@dataclass(slots=True, eq=False)
class Outgoing:
    """A large message that leaves in pieces."""

    number: int
    parts: deque[memoryview]
    sent: Callable[[], None]


class Connection(asyncio.Protocol):
    """The transport's side of a link.

    `opened` is called when the peer may speak, TLS done; `greet` with the peer's hello, once; `closed`
    with the reason, once.
    """

    def __init__(
        self,
        opened: Callable[[Connection], None],
        greet: Callable[[Connection, dict[str, Any]], None],
        closed: Callable[[Connection, str], None],
        window: int,
        max_message_bytes: int,
    ) -> None:
        """Wait for a transport; then for the hello."""
        self._opened = opened
        self._greet = greet
        self._closed = closed
        self._window = window
        self._max_message = max_message_bytes
        self.transport: asyncio.Transport | None = None
        self.link: Link | None = None
        self.identity: Identity | None = None
        """Who the peer has proved to be; None without TLS."""
        self.error: Exception | None = None
        """What ended the connection, if the peer did not just close it."""
        self.unpacker: FrameUnpacker | None = None
        self.is_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._buffer: bytearray | None = None
        self._need = 4
        self._piece = 0
        self._piece_left = 0
        self._incoming: dict[int, Bulk] = {}
        self._outgoing: deque[Outgoing] = deque()
        self._bulks = 0
        self._in_flight = 0
        self._shared_until = 0.0
        self._taken = 0

    # ---- asyncio.Protocol --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the link, and wake whoever waits for room."""
        self.transport = None
        self.resume_writing()
        self.error = exc
        self._closed(self, "the peer closed it" if exc is None else explained(exc))

    def pause_writing(self) -> None:
        """Note that the socket takes no more for now."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Go on with what waited for the socket."""
        self.is_paused = False
        if self._drained is not None:
            if not self._drained.done():
                self._drained.set_result(None)
            self._drained = None
        self._pump()

    async def drained(self) -> None:
        """Wait until the socket takes more."""
        if self.is_paused:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)

    def data_received(self, data: bytes) -> None:
        """Take in whole batches and pieces of pieces."""
        try:
            self._parse(data)
        except (CodecError, ValueError, TypeError, KeyError, IndexError, msgpack.UnpackException) as error:
            self.abort(f"it sent what is no frame: {error!r}")
            return
        if self._taken and self.link is not None and self.transport is not None:
            taken, self._taken = self._taken, 0
            self.link.send_control([ACK, taken])

    def _parse(self, data: bytes) -> None:
        buffer = self._buffer
        if buffer is not None:
            buffer += data
            if len(buffer) < self._need:
                return
            data = bytes(buffer)
            self._buffer = None
        position, end = 0, len(data)
        view = memoryview(data)
        if self._piece_left:
            position = self._take_piece(view, 0)
        while end - position >= 4:
            size: int = HEAD.unpack_from(data, position)[0]
            if size & PIECE_BIT:
                if end - position < 8:
                    break
                self._piece = PIECE_HEAD.unpack_from(data, position)[1]
                self._piece_left = (size ^ PIECE_BIT) - 4
                if not 0 < self._piece_left <= self._incoming[self._piece].missing:
                    raise CodecError("a piece is longer than its message")
                position = self._take_piece(view, position + 8)
                continue
            if size > (MAX_BATCH if self.link is not None else MAX_HELLO):
                raise CodecError(f"a batch of {size} bytes is too large")
            if end - position - 4 < size:
                break
            self._batch(view[position + 4 : position + 4 + size])
            position += 4 + size
        if position < end:
            left = end - position
            self._need = 4
            if left >= 4:
                size = HEAD.unpack_from(data, position)[0]
                self._need = 8 if size & PIECE_BIT else 4 + size
            self._buffer = bytearray(view[position:])

    def _take_piece(self, view: memoryview, position: int) -> int:
        """Take in as much of the present piece as is there; return where it ends."""
        chunk = view[position : position + self._piece_left]
        size = len(chunk)
        bulk = self._incoming[self._piece]
        bulk.take(chunk)
        self._piece_left -= size
        self._taken += size
        if bulk.missing == 0:
            del self._incoming[self._piece]
            self._whole(bulk)
        return position + size

    def _batch(self, batch: memoryview) -> None:
        if self.link is None:
            hello: Any = cast(Any, msgpack).unpackb(batch, strict_map_key=True)
            if not isinstance(hello, dict):
                raise CodecError("it sent no hello")
            self._greet(self, cast("dict[str, Any]", hello))
            return
        unpacker = self.unpacker
        assert unpacker is not None
        unpacker.feed(batch)
        self.link.receive(unpacker)

    def _whole(self, bulk: Bulk) -> None:
        assert self.link is not None
        head, *buffers = bulk.parts()
        self.link.receive_bulk(head, buffers)

    @property
    def is_sending(self) -> bool:
        """Whether pieces of a large message have still to be written."""
        return bool(self._outgoing)

    # ---- for the link --------------------------------------------------------------------------

    def expect(self, number: int, lengths: list[int]) -> None:
        """A large message begins.

        Raises:
            CodecError: If it is larger than this node takes.
        """
        bulk = Bulk(lengths)
        if bulk.missing > self._max_message or len(lengths) > 10_000 or min(lengths) < 0:
            raise CodecError(
                f"a message of {bulk.missing} bytes is larger than NodeConfig(max_message_bytes={self._max_message})"
            )
        if bulk.missing == 0:
            raise CodecError("a large message of no bytes")
        self._incoming[number] = bulk

    def write(self, frames: list[bytes], is_traffic: bool = True) -> None:
        """Write frames as one batch, or a few if they are many; `is_traffic` if they are about messages."""
        transport = self.transport
        if transport is None:
            return
        if self._outgoing and is_traffic:
            self._shared_until = monotonic() + SHARED_FOR
        total = sum(map(len, frames))
        if total > MAX_BATCH // 2 and len(frames) > 1:
            half = len(frames) // 2
            self.write(frames[:half], is_traffic)
            self.write(frames[half:], is_traffic)
            return
        transport.write(b"".join([HEAD.pack(total), *frames]))

    def next_bulk(self) -> int:
        """Return a number for a large message."""
        self._bulks = (self._bulks + 1) & 0x7FFFFFFF
        return self._bulks

    def send_parts(self, number: int, parts: list[memoryview], sent: Callable[[], None]) -> None:
        """Begin to send a large message; `sent` is called when its last piece is written."""
        self._outgoing.append(Outgoing(number, deque(part.cast("B") for part in parts if part.nbytes), sent))
        self._pump()

    def acknowledged(self, count: int) -> None:
        """The peer has taken in `count` bytes of pieces."""
        self._in_flight -= count
        self._pump()

    def _pump(self) -> None:
        """Write pieces, one of each large message in turn, while there is room under way."""
        outgoing = self._outgoing
        if not outgoing:
            return
        window, size = self._window, PIECE_BYTES
        if monotonic() < self._shared_until:
            window, size = SHARED_WINDOW, SHARED_WINDOW // 2
        while outgoing and self.transport is not None and not self.is_paused and self._in_flight < window:
            current = outgoing.popleft()
            part = current.parts.popleft()
            piece = part[:size]
            if len(part) > size:
                current.parts.appendleft(part[size:])
            self._in_flight += len(piece)
            self.transport.writelines([PIECE_HEAD.pack(PIECE_BIT | (len(piece) + 4), current.number), piece])
            if current.parts:
                outgoing.append(current)
            else:
                current.sent()

    def close(self) -> None:
        """Close once what is written has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self, why: str) -> None:
        """Close at once, because of `why`."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abort()
            self._closed(self, why)
            self._closed = _ignore


def _ignore(connection: Connection, why: str) -> None:
    """Stand in once the end was told."""
