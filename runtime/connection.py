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
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import msgpack

from ringcast.errors import CodecError

from ..discovery.packed import SMALL, look_through
from ..security.identity import Identity
from ..security.trust import explained
from .allowance import Allowance
from .codec import FrameUnpacker
from .effect import Effect
from .inflight import SMALL_BATCH
from .wire import ACK, BATCH, BATCH_FRAMES, BULKS, HEAD, PIECE_BIT, PIECE_BYTES, PIECE_HEAD

if TYPE_CHECKING:
    from .link import Link

MAX_HELLO = 16 * 1024
"""Bytes of what is said before the link is up."""
UNSENT_HELD = 8 << 20
"""Bytes that the peer has not taken from which on new messages to it wait in their routes."""
LONG_LISTS = 16
"""Batches that are looked through at once after one that had a longer list: such lists come in rows."""
NIL = b"\xc0"
_head = HEAD.pack
_head_of = HEAD.unpack_from
GRACE = 0.25
"""Seconds in which what the socket holds already is read, if this node's loop stood still."""
JOINED = 1 << 20
"""Bytes of a part of a large message up to which it is joined at its end: a tenth of a millisecond."""
LONG_PIECE = 4 * PIECE_BYTES
"""Bytes of a piece on a line that large messages have to themselves, as far as there is room under way."""
SHARED_WINDOW = 32 * 1024
"""Bytes of pieces under way while small messages use the line, too: what a small one waits behind."""
SHARED_FOR = 1.0
"""Seconds after a small message for which the line counts as shared."""


class Bulk:
    """A large message that arrives in pieces, copied as they come.

    What it claims allocates nothing: its memory grows as pieces come.

    A part of up to `JOINED` bytes is joined when it is whole, which is quickest: memory that grows is
    moved, and asked of the kernel, again and again. To join a larger one would stop the loop for as long as it
    is large, so its pieces are copied to their place at once. A `BytesIO` gives up its buffer as a bytes object
    without another copy.
    """

    __slots__ = ("_chunks", "_done", "_lengths", "_part", "_room", "missing", "size")

    def __init__(self, lengths: list[int]) -> None:
        """Expect parts of these lengths, one after the other."""
        self.missing = self.size = sum(lengths)
        self._lengths = deque(lengths)
        self._done: list[bytes] = []
        self._next()

    def _next(self) -> None:
        self._room = self._lengths.popleft()
        self._chunks: list[bytes] = []
        self._part = BytesIO() if self._room > JOINED else None

    def take(self, chunk: memoryview) -> None:
        """Take in what follows."""
        self.missing -= len(chunk)
        while True:
            own = chunk[: self._room]
            if self._part is not None:
                self._part.write(own)
            else:  # a copy: a view would hold on to all that came with it
                self._chunks.append(bytes(own))
            self._room -= len(own)
            if self._room:
                return
            self._done.append(b"".join(self._chunks) if self._part is None else self._part.getvalue())
            chunk = chunk[len(own) :]
            if not self._lengths:
                return
            self._next()

    def parts(self) -> list[bytes]:
        """Return the parts of a message that is whole."""
        return self._done


@dataclass(slots=True, eq=False)
class Outgoing:
    """A large message that leaves in pieces."""

    number: int
    parts: deque[memoryview]
    size: int
    is_answer: bool
    """Whether the peer has asked for it: then it counts as unsent."""
    may_be_held: bool
    """Whether it waits while new messages to the peer are held back."""
    announce: bytes
    sent: Callable[[], None]
    effect: Effect | None
    """What of a turn's it is: then it leaves under a lease only."""


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
        allowance: Allowance,
    ) -> None:
        """Wait for a transport; then for the hello.

        Args:
            opened: Is called when the peer may speak.
            greet: Is called with its hello.
            closed: Is called with the reason.
            window: Bytes of pieces that may be under way.
            allowance: What the peer may cost.
        """
        self._opened = opened
        self._greet = greet
        self._closed = closed
        self._window = window
        self._allowance = allowance
        self.transport: asyncio.Transport | None = None
        self.link: Link | None = None
        self.identity: Identity | None = None
        """Who the peer has proved to be; None without TLS."""
        self.error: Exception | None = None
        """What ended the connection, if the peer did not just close it."""
        self.unpacker: FrameUnpacker | None = None
        self.small_unpacker: FrameUnpacker | None = None
        """Decodes small batches without a look through them, since its lists are short."""
        self.short_unpacker: Callable[[], FrameUnpacker] | None = None
        """Makes what decodes lists of up to `SHORT` elements; None where all larger batches are looked through."""
        self._short: FrameUnpacker | None = None
        self._long_lists = 0
        self.batch_bytes = 0
        """Bytes of what is taken in now: a batch, or a large message."""
        self.room = 0
        """Bytes of large messages that may be under way to the peer; one that is larger goes alone."""
        self.is_paused = False
        self._drained: asyncio.Future[None] | None = None
        self._buffer: bytearray | None = None
        self._need = 4
        self._piece = 0
        self._piece_left = 0
        self._incoming: dict[int, Bulk] = {}
        self._outgoing: deque[Outgoing] = deque()
        self._waiting: deque[Outgoing] = deque()
        self._sending = 0
        self._unsent = 0
        self._is_holding = False
        self._half: asyncio.TimerHandle | None = None
        self._last = 0.0
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
        self._is_holding = False
        self.resume_writing()
        self._forget_half()
        self.error = exc
        self._closed(self, "the peer closed it" if exc is None else explained(exc))

    def pause_writing(self) -> None:
        """Note that the socket takes no more for now."""
        self.is_paused = True

    def resume_writing(self) -> None:
        """Go on with what waited for the socket."""
        self.is_paused = False
        if self._is_holding and self.link is not None:
            self._is_holding = False
            self.link.hold_back("line", False)
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
        link = self.link
        if link is not None:
            link.hears()
        try:
            size = len(data) - 4
            unpacker = self.small_unpacker
            if (
                0 < size <= SMALL
                and unpacker is not None
                and link is not None
                and self._buffer is None
                and not self._piece_left
                and _head_of(data)[0] == size
            ):  # one small batch and nothing else, as where one is asked at a time
                self._take_in(data[4:], size, link, unpacker)
            else:
                self._parse(data)
        except (
            CodecError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
            msgpack.UnpackException,
        ) as error:
            self.abort(f"it sent what is no frame: {error!r:.1000}")
            if link is not None:
                link.heard()
            return
        if self._buffer is not None or self._piece_left or self._incoming:
            self._last = monotonic()
            if self._half is None:
                self._watch_half(self._allowance.half_frame_timeout)
        if self._taken and self.link is not None and self.transport is not None:
            taken, self._taken = self._taken, 0
            self.link.send_control([ACK, taken])
        if link is not None:
            link.heard()

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
            if size > (self._allowance.batch_bytes if self.link is not None else MAX_HELLO):
                raise CodecError(f"a batch of {size} bytes is too large")
            if end - position - 4 < size:
                break
            self._batch(data, view, position + 4, size)
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

    def _batch(self, data: bytes, view: memoryview, start: int, size: int) -> None:
        batch = view[start : start + size]
        link = self.link
        if link is None:
            self._greet(self, hello_of(batch))
            return
        unpacker = self.small_unpacker if size <= SMALL else None
        if unpacker is None:
            if size <= SMALL_BATCH and (frames := self._with_short_lists(batch, link)) is not None:
                self.batch_bytes = size
                link.receive(frames)
                return
            if data.find(b"\xdc", start, start + size) >= 0 or data.find(b"\xdd", start, start + size) >= 0:
                look_through(batch)
            unpacker = self.unpacker
            assert unpacker is not None
        self._take_in(batch, size, link, unpacker)

    def _with_short_lists(self, batch: memoryview, link: Link) -> list[Any] | None:
        """Return the frames of a batch whose lists have no more than `SHORT` elements each.

        None if one has more, or if anything is wrong: then nothing was taken in, and the usual way says what. That way
        looks through what holds a byte that could begin a long list. Of 64 frames one nearly always does, in a number
        for example, and the look takes a third of what decoding does.
        """
        if self._long_lists:
            self._long_lists -= 1
            return None
        if self._short is None:
            if self.short_unpacker is None:
                return None
            self._short = self.short_unpacker()
        unpacker = self._short
        link.codec.failure = None
        with contextlib.suppress(Exception):  # a list was longer; whatever else it is, the usual way says it
            unpacker.feed(batch)
            frames = list(unpacker)
            unpacker.feed(NIL)  # a frame that has begun would go on with it
            if unpacker.unpack() is None and link.codec.failure is None:
                return frames
        self._short = None
        self._long_lists = LONG_LISTS
        return None

    def _take_in(self, batch: bytes | memoryview, size: int, link: Link, unpacker: FrameUnpacker) -> None:
        unpacker.feed(batch)
        self.batch_bytes = size
        link.receive(unpacker)
        unpacker.feed(NIL)  # a frame that has begun would go on with it
        if unpacker.unpack() is not None:
            raise CodecError("a batch ends in the middle of a frame")

    def _whole(self, bulk: Bulk) -> None:
        assert self.link is not None
        self.link.account.arrived(bulk.size)
        head, *buffers = bulk.parts()
        self.batch_bytes = bulk.size
        self.link.receive_bulk(head, buffers)

    def _watch_half(self, seconds: float, is_last_chance: bool = False) -> None:
        self._half = asyncio.get_running_loop().call_later(seconds, self._look_at_half, is_last_chance)

    def _look_at_half(self, is_last_chance: bool) -> None:
        """Close if the peer has stopped in the middle of something."""
        self._half = None
        if self.transport is None or not (self._buffer is not None or self._piece_left or self._incoming):
            return
        limit = self._allowance.half_frame_timeout
        silent = monotonic() - self._last
        if silent < limit:
            self._watch_half(limit - silent)
        elif is_last_chance:
            self.abort(f"it stopped in the middle of a frame for {limit:.3g} s")
        else:  # it may be this node that stood still, and the rest may be in the socket
            self._watch_half(GRACE, is_last_chance=True)

    def _forget_half(self) -> None:
        if self._half is not None:
            self._half.cancel()
            self._half = None

    @property
    def is_sending(self) -> bool:
        """Whether pieces of a large message have still to be written, or the socket has not taken all."""
        unsent = self.transport.get_write_buffer_size() if self.transport is not None else 0
        return bool(self._outgoing or self._waiting or unsent)

    # ---- for the link --------------------------------------------------------------------------

    def expect(self, number: int, lengths: list[int]) -> None:
        """A large message begins.

        Raises:
            CodecError: If it is larger than this node takes.
        """
        if type(number) is not int or type(lengths) is not list or not 0 < len(lengths) <= 10_000:
            raise CodecError("a large message of no parts, or of too many")
        if not all(type(length) is int and length >= 0 for length in lengths):
            raise CodecError("a large message whose parts have no lengths")
        bulk = Bulk(lengths)
        limit = self._allowance.message_bytes
        if not 0 < bulk.size <= limit:
            raise CodecError(f"a message of {bulk.size} bytes is larger than NodeConfig(max_message_bytes={limit})")
        coming = sum(other.size for other in self._incoming.values())
        if number in self._incoming or len(self._incoming) >= BULKS:
            raise CodecError(f"more than {BULKS} large messages at a time, or two of one number")
        if coming and coming + bulk.size > self._allowance.in_flight_bytes:
            raise CodecError(f"large messages of {coming + bulk.size} bytes at a time")
        self._incoming[number] = bulk
        assert self.link is not None
        self.link.account.announce(bulk.size)

    def write(self, frames: list[bytes], is_traffic: bool = True) -> None:
        """Write frames as one batch, or a few if they are many; `is_traffic` if they are about messages."""
        transport = self.transport
        if transport is None:
            return
        if self._outgoing and is_traffic:
            self._shared_until = monotonic() + SHARED_FOR
        if self.is_paused and not self._has_room(transport):
            return
        if len(frames) == 1:
            [frame] = frames
            transport.write(_head(len(frame)) + frame)
            return
        total = sum(map(len, frames))
        if total > BATCH or len(frames) > BATCH_FRAMES:
            half = len(frames) // 2
            self.write(frames[:half], is_traffic)
            self.write(frames[half:], is_traffic)
            return
        transport.write(b"".join(_batches(frames, total)))

    def _has_room(self, transport: asyncio.Transport) -> bool:
        """Hold back what is new while the peer takes nothing, and give it up when its answers are too many."""
        unsent = transport.get_write_buffer_size()
        if unsent > self._allowance.unsent_bytes:
            self.abort(f"it does not take its answers: {unsent} bytes wait for it")
            return False
        if unsent > UNSENT_HELD and not self._is_holding and self.link is not None:
            self._is_holding = True
            self.link.hold_back("line", True)
        return True

    def next_bulk(self) -> int:
        """Return a number for a large message."""
        self._bulks = (self._bulks + 1) & 0x7FFFFFFF
        return self._bulks

    def send_parts(
        self,
        number: int,
        announce: bytes,
        parts: list[memoryview],
        sent: Callable[[], None],
        *,
        is_answer: bool,
        may_be_held: bool,
        effect: Effect | None = None,
    ) -> None:
        """Begin to send a large message, when few enough are under way.

        Args:
            number: From `next_bulk`.
            announce: The frame that says what comes.
            parts: The message.
            sent: Is called when the last piece is written.
            is_answer: Whether the peer has asked for it: then it counts as unsent.
            may_be_held: Whether it waits while new messages to the peer are held back.
            effect: What of a turn's it is, if it is.
        """
        size = sum(part.nbytes for part in parts)
        if is_answer:
            if self._unsent and self._unsent + size > self._allowance.unsent_bytes:
                self.abort(f"it does not take its answers: large ones of {self._unsent + size} bytes wait for it")
                return
            self._unsent += size
        pieces = deque(part.cast("B") for part in parts if part.nbytes)
        self._waiting.append(Outgoing(number, pieces, size, is_answer, may_be_held, announce, sent, effect))
        self.go_on()

    def go_on(self) -> None:
        """Send what waits of large messages, as far as it may be sent now."""
        self._begin()
        self._pump()

    def drop_effects(self) -> None:
        """Send no more of what turns have said: the lease is lost.

        Of what has begun to leave the peer would wait for the rest, so then the connection ends.
        """
        if any(one.effect is not None for one in self._outgoing):
            self.abort("this node has lost its lease in the middle of a large message of one of its actors")
            return
        kept = deque(one for one in self._waiting if one.effect is None)
        dropped, self._waiting = [one for one in self._waiting if one.effect is not None], kept
        for one in dropped:
            if one.is_answer:
                self._unsent -= one.size
            if self.link is not None and one.effect is not None:
                self.link.dropped(one.effect)
            one.sent()

    def _may_write(self) -> bool:
        """Return whether large messages may leave now; else `go_on` or `drop_effects` follows."""
        return self.link is None or self.link.may_write()

    def _begin(self) -> None:
        """Announce the large messages that may be under way beside those that are."""
        is_held = self.link is not None and self.link.is_held
        if not self._waiting or not self._may_write():
            return
        while self._waiting and len(self._outgoing) < BULKS and self.transport is not None:
            begun = next((one for one in self._waiting if not (is_held and one.may_be_held)), None)
            if begun is None or (self._sending and self._sending + begun.size > self.room):
                return
            self._waiting.remove(begun)
            self._sending += begun.size
            self._outgoing.append(begun)
            self.transport.write(HEAD.pack(len(begun.announce)) + begun.announce)

    def acknowledged(self, count: int) -> None:
        """The peer has taken in `count` bytes of pieces.

        Raises:
            CodecError: If that is more than were under way.
        """
        if type(count) is not int or not 0 < count <= self._in_flight:
            raise CodecError(f"it has taken in {count!r:.100} bytes of {self._in_flight} that are under way")
        self._in_flight -= count
        self._pump()

    def _pump(self) -> None:
        """Write pieces, one of each large message in turn, while there is room under way."""
        outgoing = self._outgoing
        if not outgoing or not self._may_write():
            return
        window, size = self._window, LONG_PIECE
        if monotonic() < self._shared_until:
            window, size = SHARED_WINDOW, SHARED_WINDOW // 2
        least = min(size, PIECE_BYTES)
        while outgoing and self.transport is not None and not self.is_paused and self._in_flight < window:
            current = outgoing.popleft()
            part = current.parts.popleft()
            piece = part[: min(size, max(window - self._in_flight, least))]
            if len(part) > len(piece):
                current.parts.appendleft(part[len(piece) :])
            self._in_flight += len(piece)
            self.transport.writelines([PIECE_HEAD.pack(PIECE_BIT | (len(piece) + 4), current.number), piece])
            if current.parts:
                outgoing.append(current)
            else:
                self._sending -= current.size
                if current.is_answer:
                    self._unsent -= current.size
                self._begin()
                current.sent()

    def close(self) -> None:
        """Close once what is written has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self, why: str) -> None:
        """Close at once, because of `why`."""
        transport, self.transport = self.transport, None
        self._forget_half()
        if transport is not None:
            transport.abort()
            self._closed(self, why)
            self._closed = _ignore


def _batches(frames: list[bytes], total: int) -> list[bytes]:
    """Return frames with the heads of their batches, for one write: none in a small batch has to be weighed alone."""
    if total > SMALL_BATCH and len(frames) > 1:
        half = len(frames) // 2
        ahead, behind = frames[:half], frames[half:]
        size = sum(map(len, ahead))
        return _batches(ahead, size) + _batches(behind, total - size)
    return [HEAD.pack(total), *frames]


def hello_of(batch: memoryview | bytes) -> dict[str, Any]:
    """Return what a peer says first; nothing is built of what it only claims.

    Raises:
        ValueError: If it is no dict by names.
    """
    look_through(batch, depth=4)
    hello: Any = cast(Any, msgpack).unpackb(batch, strict_map_key=True)
    if not isinstance(hello, dict):
        raise CodecError("it sent no hello")
    return cast("dict[str, Any]", hello)


def _ignore(connection: Connection, why: str) -> None:
    """Stand in once the end was told."""
