"""A link: this node's side of everything that passes between it and one peer.

It outlives connections: while there is none, the router's messages wait in their routes. Frames
are packed when they are made and gathered in `out`, which is written once at the end of the
loop's tick. What arrives is dispatched here: answers to the router's calls, requests to cells; what
is not the common case goes to `Arrivals`.

A link is also the `Sink` of the calls that its peer makes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, CallError, CodecError
from ringcast.logger import get_logger

from ..actors.messages import Message
from ..actors.naming import NAME_MAX
from ..actors.ref import is_spawned, unknown_messages
from ..discovery.gate import boot_time
from ..discovery.packed import SMALL, look_through
from ..security.identity import Identity
from . import wire
from .calls import PLAIN, Call, Parcel, unencodable
from .cell import NOT_NOW, SUSPENDED, Cell
from .codec import OUT_OF_BAND, Codec
from .effect import Answer, Effect, Request, Told, effect_in
from .envelope import Envelope
from .failures import error_to_wire
from .inflight import LIGHT, SMALL_BATCH, Account, Weighed
from .limits import not_held_back
from .routes import Route
from .runner import SLICE
from .wire import REPLY, REQUEST, TELL  # names of the module itself: looked up for each frame

if TYPE_CHECKING:
    from .arrivals import Arrivals
    from .connection import Connection
    from .guard import Sieve
    from .kinds import Kind
    from .router import Router

FLUSH_AT = 64
"""Frames that are written without waiting for the tick's end: the peer begins while more are made."""

CANCELLED_KEPT = 10.0
"""Seconds for which a cancel that overtook its call is remembered."""

CANCELLED_MAX = 65_536
"""Such cancels that are remembered of one peer; the oldest gives way."""

ANSWERS_KEPT = 1.0
"""Seconds that an answer waits for a connection to who asked."""


class Link:
    """This node's side of the traffic with one peer."""

    def __init__(
        self,
        peer: str,
        node_id: str,
        router: Router,
        arrivals: Arrivals,
        codec: Codec,
        connect: Callable[[Link], None],
        learn: Callable[[str, bytes | None], Kind],
        blob: Callable[[str], bytes | None],
    ) -> None:
        """Begin without a connection."""
        self.peer = peer
        self.node_id = node_id
        self.router = router
        self.arrivals = arrivals
        self.loop = router.loop
        self.gate = router.gate
        self.vigil = router.vigil
        self.trouble = "it has not been dialled yet"
        self.max_message = 0
        """Bytes of the largest message that both nodes take; known while the link is up."""
        self.is_up = False
        self.is_silent = False
        """Whether the peer has said that it sends nothing more over this connection."""
        self.identity: Identity | None = None
        """Who the peer has proved to be when the link came up last; None without TLS."""
        self.incarnation = 0
        """Of the peer's run at the other end of the connection, as its hello says; 0 if it was no member yet."""
        self.sieve: Sieve | None = None
        """What the peer's frames have to pass, where not all are allowed; see `Guard`."""
        self.connection: Connection | None = None
        self.routes: dict[Route, None] = {}
        self.backlog: list[Parcel] = []
        self.messages: dict[int, tuple[Kind, Message]] = {}
        self.cancelled: dict[int, float] = {}
        self.received = 0
        self.account = Account(router.in_flight, router.link_in_flight_bytes, self._ask_to_hold)
        """What the peer's messages take that wait here."""
        self.is_held = False
        """Whether new messages to the peer wait in their routes."""
        self._holders: set[str] = set()
        self._size = 0
        """Bytes of the frame that is taken in, if it is none of a small batch."""
        self.void_dials = 0
        """The peer gave up its dials up to this number when this link came up: one may still arrive."""
        self.log = get_logger("ringcast").bind(node=node_id, peer=peer)
        self._connect = connect
        self._learn = learn
        self._blob = blob
        self._out: list[bytes] = []
        self._behind: dict[int, deque[tuple[bytes, list[memoryview], bool]]] = {}
        """By call: answers that wait for a large one of the same stream to have left."""
        self._kept: list[tuple[int, int, bytes, list[memoryview]]] = []
        """Answers that wait for a connection: the incarnation of who asked, the call's number, and the answer."""
        self._controls = 0
        self._inline_until = 0.0
        self._defined: dict[int, Message] = {}
        self.use(codec)

    def use(self, codec: Codec) -> None:
        """Use a codec: which one depends on what both nodes allow."""
        self.codec = codec
        self.pack = codec.pack
        self.pack_parts = codec.pack_parts

    # ---- the connection --------------------------------------------------------------------------

    def up(self, connection: Connection, codec: Codec, max_message: int) -> None:
        """Take a connection whose handshake is done; an older one is closed."""
        if self.connection is not None:
            self.down(self.connection, "it was replaced by a newer connection")
        self.use(codec)
        self.max_message = max_message
        self.connection = connection
        self.identity = connection.identity
        self.sieve = self._make_sieve()
        connection.link = self
        connection.unpacker = codec.unpacker(wire.MAX_BATCH * 2)
        connection.small_unpacker = codec.unpacker(SMALL * 2, SMALL)
        self._defined.clear()
        self.messages.clear()
        self._out.clear()
        self._size = 0
        self._holders.clear()
        self.is_held = self.is_silent = False
        self.account.reset()
        self.is_up = True
        self.trouble = ""
        backlog, self.backlog = self.backlog, []
        for parcel in backlog:
            if parcel.buffers or len(parcel.frame) >= wire.PIECE_BYTES:
                self.send_bulk(parcel, None)
            else:
                self.send(parcel.message, parcel.frame)
        self.router.routes.link_up(self)
        self._send_kept()

    def _make_sieve(self) -> Sieve | None:
        return self.arrivals.guard.sieve(self, self.arrivals.seals)

    def down(self, connection: Connection, why: str) -> None:
        """Note the end of a connection."""
        if connection is not self.connection:
            return
        self.connection = None
        self.is_up = False
        self._holders.clear()
        self.is_held = False
        self.account.reset()
        self.trouble = why
        self._out.clear()
        self._behind.clear()
        connection.close()
        self.arrivals.link_lost(self)
        self.router.routes.link_down(self, why)

    def connect_soon(self) -> None:
        """See that there is a connection, in time."""
        self._connect(self)

    @property
    def owes(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self.backlog or self._out or self._kept) or (
            self.connection is not None and self.connection.is_sending
        )

    @property
    def is_full(self) -> bool:
        """Whether the socket takes no more for now."""
        return self.connection is not None and self.connection.is_paused

    async def drained(self) -> None:
        """Wait until the socket takes more."""
        if self.connection is not None:
            await self.connection.drained()

    def hold_back(self, holder: str, held: bool) -> None:
        """Let new messages wait in their routes, or send them again.

        Args:
            holder: Who wants it: the peer, whose mailboxes are full, or the connection, whose line is.
            held: Whether it does. They are sent again when nobody does.
        """
        (self._holders.add if held else self._holders.discard)(holder)
        if self.is_held != bool(self._holders):
            self.is_held = bool(self._holders)
            if self.is_held:
                self.router.routes.hold(self)
            else:
                self.router.routes.release(self)
                if self.connection is not None:
                    self.connection.go_on()

    def _ask_to_hold(self, held: bool) -> None:
        if self.connection is not None:
            self.send_frame([wire.HOLD, held])

    # ---- sending -------------------------------------------------------------------------------

    def send(self, message: Message, frame: bytes) -> None:
        """Send a packed frame about a message."""
        if message.number not in self._defined:
            self._define(message)
        out = self._out
        if not out:
            self.loop.call_soon(self.flush)
        out.append(frame)
        if len(out) >= FLUSH_AT:
            self.flush()

    def send_frame(self, frame: list[Any]) -> None:
        """Send a frame that is about no message."""
        if self.connection is not None:
            if not self._out:
                self.loop.call_soon(self.flush)
            self._out.append(self.pack(frame))

    def send_control(self, frame: list[Any]) -> None:
        """Send a frame that large messages themselves need; it does not make the line a shared one."""
        self._controls += 1
        self.send_frame(frame)

    def flush(self) -> None:
        """Write what has been gathered: one write for a tick's frames.

        What turns have said leaves under a lease only, and is looked at here, for a turn may have ended long ago:
        something else may have kept the loop since.
        """
        out = self._out
        if out:
            if boot_time() >= self.gate.until and self.connection is not None and not self._may_sort():
                return
            out, self._out = self._out, []
            controls, self._controls = self._controls, 0
            if out and self.connection is not None:
                self.connection.write(out, len(out) > controls)

    # ---- without a lease -------------------------------------------------------------------------

    def may_write(self) -> bool:
        """Return whether large messages may be written now; if not, `Connection.go_on` follows."""
        if boot_time() < self.gate.until:
            return True
        if self.vigil.hold(self):
            return False
        if self.connection is not None:
            self.connection.drop_effects()
        return True

    def _may_sort(self) -> bool:
        """The gate is closed: wait, or leave out what turns have said if waiting is over; return whether it is."""
        if self.vigil.hold(self):
            return False
        self._leave_out()
        return True

    def go_on(self) -> None:
        """The lease is back: what has waited is written."""
        self.flush()
        if self.connection is not None:
            self.connection.go_on()

    def give_up(self) -> None:
        """It is not: what turns have said is left out, and who waits for it is told; the rest is written."""
        self._drop_kept()
        connection = self.connection
        if connection is None:
            return
        self._leave_out()
        out, self._out = self._out, []
        self._controls = 0
        if out:
            connection.write(out)
        connection.drop_effects()
        connection.go_on()

    def _leave_out(self) -> None:
        """Replace what turns have said, in what has been gathered, by what says so."""
        out, self._out = self._out, []
        told: set[int] = set()
        for frame in out:
            match effect_in(frame):
                case Answer(number):
                    if number not in told:
                        told.add(number)
                        self._out.append(self._instead(number))
                case Request(number):
                    call = self.router.calls.pop(number, None)
                    error = self.vigil.suppressed(NOT_SENT)
                    if call is not None:
                        call.fail(self.arrivals.blamed(call, error))
                case Told(message_number):
                    self._not_told(self._defined[message_number])
                case None:
                    self._out.append(frame)

    def _not_told(self, message: Message) -> None:
        error = self.vigil.suppressed(NOT_SENT)
        self.arrivals.host.dead.add(message.class_name, message.name, str(error))

    def _instead(self, number: int) -> bytes:
        """Return what the peer gets instead of an answer that may not leave; a stream gets it once, and ends."""
        error = self._packed_error(self.vigil.suppressed())
        self.arrivals.host.stop_stream(self, number)
        return self.pack([wire.ERROR, number, error])

    def _packed_error(self, error: CallError) -> list[Any]:
        return error_to_wire(error, self.node_id, self.codec)

    def _define(self, message: Message) -> None:
        self._defined[message.number] = message
        frame = [
            wire.DEFINE,
            message.number,
            message.class_name,
            message.name,
            message.streams,
            self._blob(message.class_name),
        ]
        self.send_frame(frame)

    def too_large(self, size: int) -> CodecError | None:
        """Return what refuses a message that is larger than both nodes take."""
        if size <= self.max_message:
            return None
        return CodecError(
            f"a message of {size} bytes is larger than nodes {self.node_id} and {self.peer} both take "
            f"({self.max_message} bytes): send less at once, or raise NodeConfig(max_message_bytes=…) on both"
        )

    def send_bulk(self, parcel: Parcel, route: Route | None) -> None:
        """Send a large message in pieces."""
        if parcel.message.number not in self._defined:
            self._define(parcel.message)
        effect: Effect | None = None
        if parcel.is_nested:
            effect = Request(parcel.number) if parcel.number else Told(parcel.message.number)
        self._send_parts(parcel.frame, parcel.buffers or [], route, may_be_held=not parcel.is_nested, effect=effect)

    def _send_parts(
        self,
        frame: bytes,
        buffers: list[memoryview],
        route: Route | None,
        then: Callable[[], None] | None = None,
        may_be_held: bool = False,
        effect: Effect | None = None,
    ) -> None:
        connection = self.connection
        if connection is None:
            return
        parts = [memoryview(frame), *buffers]
        number = connection.next_bulk()
        self.flush()  # what was said before must be ahead, such as the definition of the message

        def sent() -> None:
            if route is not None:
                self.loop.call_soon(self.router.routes.bulk_sent, route, self)
            if then is not None:
                self.loop.call_soon(then)

        announce = self.pack([wire.BULK, number, [part.nbytes for part in parts]])
        connection.send_parts(
            number,
            announce,
            parts,
            sent,
            is_answer=route is None,
            may_be_held=route is not None and may_be_held,
            effect=effect,
        )

    def dropped(self, effect: Effect) -> None:
        """A large message that a turn has sent was dropped before it began to leave."""
        match effect:
            case Answer(number):
                self._behind.pop(number, None)
                self._out.append(self._instead(number))
                self.loop.call_soon(self.flush)
            case Request(number):
                call = self.router.calls.pop(number, None)
                if call is not None:
                    call.fail(self.arrivals.blamed(call, self.vigil.suppressed(NOT_SENT)))
            case Told(message_number):
                self._not_told(self._defined[message_number])

    def send_cancel(self, message: Message, number: int, key: Any, expired: bool) -> None:
        """Cancel a call of ours, or ask where it is, because its time has run out."""
        self.send(message, self.pack([wire.CANCEL, number, message.number, key, expired]))

    def grant(self, message: Message, key: Any, count: int) -> None:
        """Give the peer back credit for `count` messages to an actor."""
        if self.connection is not None:
            self.send(message, self.pack([wire.GRANT, message.number, key, count]))

    # ---- answering the peer's calls (Sink) -----------------------------------------------------------

    def reply(self, number: int, value: Any) -> None:
        """Answer an ask of the peer."""
        try:
            if type(value) in PLAIN or (type(value) is bytes and len(value) < OUT_OF_BAND):
                pack = self.pack  # it is no method: the interpreter calls a local quicker
                frame = pack([REPLY, number, value])
                if len(frame) < wire.PIECE_BYTES and self.is_up:
                    out = self._out
                    if not out:
                        self.loop.call_soon(self.flush)
                    out.append(frame)
                    return
                buffers: list[memoryview] = []
            else:
                frame, buffers = self.pack_parts([wire.REPLY, number, value])
            self._send_answer(number, frame, buffers)
        except CodecError as error:
            self.fail(number, unencodable(None, None, self.node_id, error))

    def _send_answer(self, number: int, frame: bytes, buffers: list[memoryview]) -> None:
        if self.connection is None:
            self._keep_answer(number, frame, buffers)
        elif buffers or len(frame) >= wire.PIECE_BYTES:
            size = len(frame) + sum(buffer.nbytes for buffer in buffers)
            if (error := self.too_large(size)) is not None:
                raise error
            self._send_parts(frame, buffers, None, effect=Answer(number))
        else:
            if not self._out:
                self.loop.call_soon(self.flush)
            self._out.append(frame)

    def _keep_answer(self, number: int, frame: bytes, buffers: list[memoryview]) -> None:
        """Keep an answer to who asked through another node and is not connected yet, for `ANSWERS_KEPT` seconds."""
        member = self.arrivals.host.kinds.members.get(self.peer)
        if member is None:
            return
        if not self._kept:
            self.loop.call_later(ANSWERS_KEPT, self._drop_kept)
            self.arrivals.host.tenancy.unsaid += 1
            self.connect_soon()
        self._kept.append((member.incarnation, number, frame, buffers))

    def _drop_kept(self) -> None:
        if self._kept:
            self._kept = []
            self.arrivals.host.tenancy.unsaid -= 1

    def _send_kept(self) -> None:
        kept = self._kept
        self._drop_kept()
        for incarnation, number, frame, buffers in kept:
            if self.incarnation in (0, incarnation):  # a later run numbers its calls anew
                self._send_answer(number, frame, buffers)

    def fail(self, number: int, error: BaseException) -> None:
        """Answer a call of the peer with an error."""
        self.refuse(number, error_to_wire(error, self.node_id, self.codec))

    def refuse(self, number: int, error: list[Any]) -> None:
        """Answer a call of the peer with an error as it stands on the wire."""
        self._send_next(number, self.pack([wire.ERROR, number, error]), [], is_effect=False)

    def item(self, number: int, value: Any) -> None:
        """Send an item of a stream."""
        frame, buffers = self.pack_parts([wire.ITEM, number, value])
        if buffers and (error := self.too_large(len(frame) + sum(buffer.nbytes for buffer in buffers))) is not None:
            raise error
        self._send_next(number, frame, buffers)

    def end(self, number: int) -> None:
        """End a stream."""
        self._send_next(number, self.pack([wire.END, number]), [])

    def _send_next(self, number: int, frame: bytes, buffers: list[memoryview], is_effect: bool = True) -> None:
        """Send an answer of which there may be several; none overtakes a large one before it."""
        behind = self._behind.get(number)
        if behind is not None:
            behind.append((frame, buffers, is_effect))
        elif not buffers and len(frame) < wire.PIECE_BYTES:
            self._send_answer(number, frame, buffers)
        elif self.connection is not None:
            self._behind[number] = deque()
            effect = Answer(number) if is_effect else None
            self._send_parts(frame, buffers, None, lambda: self._answer_sent(number), effect=effect)

    def _answer_sent(self, number: int) -> None:
        behind = self._behind.pop(number, None)
        while behind:
            self._send_next(number, *behind.popleft())
            if number in self._behind:
                self._behind[number] = behind
                return

    # ---- receiving -----------------------------------------------------------------------------

    def receive(self, frames: Iterable[list[Any]]) -> None:
        """Take in frames, the common kinds first."""
        calls = self.router.calls
        messages = self.messages
        codec = self.codec
        account = self.account
        light = account.light
        connection = self.connection
        cancelled = self.cancelled
        is_large = connection is not None and connection.batch_bytes > SMALL_BATCH
        if is_large:
            frames = self._measured(frames)
        if account.is_refusing:
            frames = self._refusing(frames)
        if self.sieve is not None:
            frames = self.sieve(frames)
        codec.failure = None  # of a frame that never came whole, perhaps of another link
        now = monotonic()
        self._inline_until = now + SLICE
        if cancelled:
            self.arrivals.forget_old_cancels(self, now)
        count = light_ones = 0
        try:
            for frame in frames:
                count += 1
                code = frame[0]
                if codec.failure is not None:
                    self._undecodable(frame)
                elif code == REPLY:
                    call = calls.pop(frame[1], None)
                    if call is not None and not call.done():
                        call.set_result(frame[2])
                elif code == REQUEST:
                    kind, message = messages[frame[2]]
                    cell = kind.cells.get(frame[3])
                    if cell is None or message.function is None or (cancelled and frame[1] in cancelled):
                        self.arrivals.message(self, kind, message, frame)
                    elif is_large or (cell.task is None and cell.since != now and message.is_plain):
                        self._request(cell, message, frame, now)
                    else:
                        number, deadline = frame[1], now + frame[4] * 0.001
                        if type(number) is not int or type(deadline) is not float:
                            raise CodecError(_NO_REQUEST)
                        light_ones += 1
                        cell.accept_remote((message, frame[6:], None, self, number, deadline, light, None), self)
                elif code == TELL:
                    kind, message = messages[frame[1]]
                    cell = kind.cells.get(frame[2])
                    if cell is None or message.function is None:
                        self.arrivals.message(self, kind, message, frame)
                    else:
                        chain = light
                        if is_large and self._size:
                            chain = account.chain((), self._size)
                            account.add(chain.weight)
                        else:
                            light_ones += 1
                        cell.accept_remote((message, frame[4:], None, None, 0, _FOREVER, chain, None), self)
                else:
                    self._receive_rare(code, frame)
        finally:
            self.received += count
            if light_ones:
                account.add(light_ones * LIGHT)

    def _request(self, cell: Cell, message: Message, frame: list[Any], now: float) -> None:
        """Begin a request at once, if the actor is idle and this tick has time; else put it into the mailbox.

        What follows in the same batch for an actor that has had its turn goes into the mailbox, too: one
        drain of many is cheaper than as many single turns.
        """
        number, deadline = frame[1], now + frame[4] * 0.001
        if type(number) is not int or type(deadline) is not float:
            raise CodecError(_NO_REQUEST)
        chain = self.account.chain((), self._size) if self._size else self.account.light
        envelope: Envelope = (message, frame[6:], None, self, number, deadline, chain, None)
        if cell.task is None and cell.since != now and message.is_plain and monotonic() < self._inline_until:
            try:
                value = cell.run_now(envelope, now)
            except (Exception, asyncio.CancelledError) as error:
                cell.owe(self, message)
                self.fail(number, error)
                return
            if value is not NOT_NOW:
                cell.owe(self, message)
                if value is not SUSPENDED:
                    self.reply(number, value)
                return
        chain.account.add(chain.weight)
        cell.accept_remote(envelope, self)

    def _measured(self, frames: Iterable[list[Any]]) -> Iterator[list[Any]]:
        """Yield frames of a large batch, or one that came in pieces, and know the size of each."""
        assert self.connection is not None
        unpacker = self.connection.unpacker
        try:
            if unpacker is None or frames is not unpacker:
                self._size = self.connection.batch_bytes
                yield from frames
                return
            before = unpacker.tell()
            for frame in frames:
                now = unpacker.tell()
                self._size = now - before if now - before > SMALL_BATCH else 0
                before = now
                yield frame
        finally:
            self._size = 0

    def weigh(self, chain: tuple[Any, ...]) -> Weighed:
        """Return the chain of the message that is taken in, with what it weighs."""
        return self.account.chain(chain, self._size or LIGHT)

    def _refusing(self, frames: Iterable[list[Any]]) -> Iterator[list[Any]]:
        """Yield the frames that are no messages; refuse those, for the peer did not hold them back."""
        for frame in frames:
            code = frame[0]
            if self.codec.failure is not None or code not in _MESSAGES:
                yield frame
            elif code in (wire.TELL, wire.TELL_X):
                self._lose(frame[1], frame[2], not_held_back(self.node_id, self.peer))
            else:
                self.fail(frame[1], not_held_back(self.node_id, self.peer))
                if code == wire.FOR_CLIENT:
                    self.grant(unknown_messages(frame[2], "?"), frame[4], 1)
                else:
                    self._grant_one(frame[2], frame[3])

    def receive_bulk(self, head: bytes, buffers: list[bytes]) -> None:
        """Take in a large message that is whole."""
        try:
            frame = self.codec.unpack_parts(head, buffers)
        except CodecError as error:
            look_through(head)
            frame = self.codec.unpacker(len(head) + 1)
            frame.feed(head)
            frame = frame.unpack()
            self.codec.failure = error
            self._undecodable(frame)
            return
        self.receive((frame,))

    def _receive_rare(self, code: int, frame: list[Any]) -> None:
        calls = self.router.calls
        match code:
            case wire.GRANT:
                kind, _ = self.messages[frame[1]]
                node = self.peer if is_spawned(frame[2]) else None
                self.router.routes.granted(kind.name, frame[2], node, self, frame[3])
            case wire.REQUEST_X | wire.TELL_X:
                kind, message = self.messages[frame[2] if code == wire.REQUEST_X else frame[1]]
                self.arrivals.message(self, kind, message, frame)
            case wire.ERROR:
                call = calls.pop(frame[1], None)
                if call is not None:
                    call.refuse(frame[2], self)
            case wire.ITEM:
                call = calls.get(frame[1])
                if call is not None and (stream := call.reader()) is not None:
                    stream.feed(frame[2])
                elif call is not None and type(call) is Call:
                    self.arrivals.streamed(self, call)
            case wire.END:
                call = calls.pop(frame[1], None)
                if call is not None and (stream := call.reader()) is not None:
                    stream.end()
                elif call is not None and type(call) is Call:
                    self.arrivals.streamed(self, call)
            case wire.PULL:
                self.arrivals.pull(self, frame[1], frame[2])
            case wire.CANCEL:
                kind, message = self.messages[frame[2]]
                self.arrivals.cancel(self, kind, message, frame[1], frame[3], frame[4])
            case wire.DEFINE:
                self._learn_message(*frame[1:6])
            case wire.MOVED:
                self.router.routes.moved(frame[1], frame[2], frame[3])
            case wire.LOST:
                kind, message = self.messages[frame[1]]
                self.arrivals.lost(kind, message, frame[2], frame[3])
            case wire.SYSTEM:
                if type(frame[1]) is not int or type(frame[2]) is not str:
                    raise CodecError("a verb that is none")
                self.arrivals.system(self, frame[1], frame[2], frame[3:])
            case wire.FOR_CLIENT:
                self.arrivals.for_client(self, frame)
            case wire.BULK:
                assert self.connection is not None
                self.connection.expect(frame[1], frame[2])
            case wire.HOLD:
                self.hold_back("peer", frame[1] is True)
            case wire.ACK:
                if self.connection is not None:
                    self.connection.acknowledged(frame[1])
            case wire.BYE:
                self.trouble = "it has left the cluster"
                self.is_silent = True
            case _:
                raise CodecError(f"a frame of unknown kind {code!r}")

    def _learn_message(self, number: int, class_name: str, name: str, streams: bool, blob: bytes | None) -> None:
        if len(self.messages) >= wire.DEFINITIONS:
            raise CodecError(f"it has defined {len(self.messages)} messages, as many as one connection may")
        if not (isinstance(class_name, str) and isinstance(name, str)) or max(len(class_name), len(name)) > NAME_MAX:
            raise CodecError(f"it has defined a message whose name is none, or longer than {NAME_MAX} characters")
        try:
            kind = self._learn(class_name, blob)
        except CodecError as error:
            self.log.warning("a class that came by value could not be loaded", name=class_name, error=str(error))
            kind = self._learn(class_name, None)
        self.messages[number] = (kind, kind.message(name) or unknown_messages(class_name, name))

    def _undecodable(self, frame: list[Any]) -> None:
        """Answer a frame of which some value could not be decoded; the link goes on."""
        error = self.codec.take_failure()
        assert error is not None
        code = frame[0]
        if code in (wire.REPLY, wire.ITEM):
            call = self.router.calls.pop(frame[1], None)
            if call is not None:
                if code == wire.ITEM:
                    call.fail(error)
                else:
                    call.fail(unencodable(call.route.name, call.message.name, self.peer, error))
        elif code in (wire.REQUEST, wire.REQUEST_X):
            what = f"the arguments could not be decoded on node {self.node_id}: {error}"
            self.fail(frame[1], CodecError(what))
            self._grant_one(frame[2], frame[3])
        elif code in (wire.TELL, wire.TELL_X):
            self._lose(frame[1], frame[2], error)
        elif code == wire.SYSTEM:
            self.fail(frame[1], CallError(f"node {self.node_id}: {error}", certainty=NOT_SENT))
        else:
            raise error

    def _lose(self, message_number: int, key: Any, error: Exception) -> None:
        """Tell the peer that a told message of its was dropped."""
        self._grant_one(message_number, key)
        _, message = self.messages[message_number]
        self.send(message, self.pack([wire.LOST, message.number, key, str(error)]))

    def _grant_one(self, message_number: int, key: Any) -> None:
        _, message = self.messages[message_number]
        self.grant(message, key, 1)


_FOREVER = float("inf")
_NO_REQUEST = "a request whose number or limit is none"
_MESSAGES = frozenset({wire.REQUEST, wire.REQUEST_X, wire.TELL, wire.TELL_X, wire.FOR_CLIENT})
