"""An outlet: what this node says to one peer, from the frame that is packed to the write.

Frames are gathered in `_out`: until all is taken in that has arrived, or to the end of the loop's tick. What is said
first after the peer was heard does not wait. What turns have said leaves under a lease only. An outlet is also the
`Sink` of the calls that the peer makes.

The other half, what the peer says, is the `Link`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, CallError, CodecError

from ..actors.messages import Message
from ..discovery.gate import boot_time
from . import wire
from .calls import PLAIN, Parcel, unencodable
from .codec import OUT_OF_BAND, Codec
from .effect import Answer, Effect, Request, Told, effect_in
from .failures import error_to_wire
from .inflight import Account
from .wire import REPLY  # a name of the module itself: looked up for each answer

if TYPE_CHECKING:
    from .arrivals import Arrivals
    from .connection import Connection
    from .router import Router
    from .routes import Route

FLUSH_AT = 128
"""Frames that are written without waiting for the tick's end: the peer begins while more are made."""

ANSWERS_KEPT = 1.0
"""Seconds that an answer waits for a connection to who asked."""

NO, HEARING, TICK = range(3)
"""Until when frames are gathered: they are not; until all is taken in that has arrived; until the tick's end."""


class Outlet:
    """What this node says to one peer."""

    account: Account
    """What the peer's messages take that wait here."""

    def __init__(
        self,
        peer: str,
        node_id: str,
        router: Router,
        arrivals: Arrivals,
        codec: Codec,
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
        self.max_message = 0
        """Bytes of the largest message that both nodes take; known while the link is up."""
        self.is_up = False
        self.connection: Connection | None = None
        self.incarnation = 0
        """Of the peer's run at the other end of the connection, as its hello says; 0 if it was no member yet."""
        self._blob = blob
        self._out: list[bytes] = []
        self._behind: dict[int, deque[tuple[bytes, list[memoryview], bool]]] = {}
        """By call: answers that wait for a large one of the same stream to have left."""
        self._kept: list[tuple[int, int, bytes, list[memoryview]]] = []
        """Answers that wait for a connection: the incarnation of who asked, the call's number, and the answer."""
        self._controls = 0
        self._gathers = NO
        self._leads = False
        """Whether the peer was heard since the last write: then what is said next does not wait for the tick's end."""
        self._is_granted = False
        """Whether what is heard gives credit: then there is a flow of messages, and those gain by being gathered."""
        self._waited = 0
        """What the peer's messages took that waited here when the connection began to take in."""
        self._defined: dict[int, Message] = {}
        self.use(codec)

    def use(self, codec: Codec) -> None:
        """Use a codec: which one depends on what both nodes allow."""
        self.codec = codec
        self.pack = codec.pack
        self.pack_parts = codec.pack_parts

    def connect_soon(self) -> None:
        """See that there is a connection, in time."""
        raise AssertionError("an outlet is connected by its link")

    def _bulk_sent(self, route: Route) -> None:
        """Let those go on that wait behind a large message."""
        raise AssertionError("routes know links")

    # ---- sending -------------------------------------------------------------------------------

    def send(self, message: Message, frame: bytes) -> None:
        """Send a packed frame about a message."""
        if message.number not in self._defined:
            self._define(message)
        out = self._out
        out.append(frame)
        if not self._gathers:
            self._begin_to_gather()
        elif len(out) >= FLUSH_AT:
            self.flush()

    def _begin_to_gather(self) -> None:
        """Write the first frame after the peer was heard at once; gather what follows until the tick's end.

        Who asks, waits, and asks again would else spend a round of the loop, and of the system, between the question
        and its write. Many who ask in one tick have one small batch more in it.
        """
        if self._leads:
            self.flush()
        else:
            self._gather_for_a_tick()

    def _gather_for_a_tick(self) -> None:
        self._gathers = TICK
        self.loop.call_soon(self._tick_over)

    def _tick_over(self) -> None:
        self._gathers = NO
        self.flush()

    def hears(self) -> None:
        """The connection takes in what has arrived: answers are gathered until `heard`."""
        if not self._gathers:
            self._gathers = HEARING
            self._waited = self.account.waiting

    def heard(self) -> None:
        """All is taken in: write the answers, unless messages have to wait here whose answers can go with them."""
        self._leads = not self._is_granted
        self._is_granted = False
        if self._gathers == HEARING:
            if self.account.waiting > self._waited:
                self._gather_for_a_tick()
            else:
                self._gathers = NO
                if self._out:
                    self.flush()

    def send_frame(self, frame: list[Any]) -> None:
        """Send a frame that is about no message."""
        if self.connection is not None:
            self._out.append(self.pack(frame))
            if not self._gathers:
                self._begin_to_gather()

    def send_control(self, frame: list[Any]) -> None:
        """Send a frame that large messages themselves need; it does not make the line a shared one."""
        self._controls += 1
        self.send_frame(frame)

    def flush(self) -> None:
        """Write what has been gathered: one write for a tick's frames.

        What turns have said leaves under a lease only, and is looked at here, for a turn may have ended long ago:
        something else may have kept the loop since.
        """
        if self._out:
            if boot_time() >= self.gate.until and self.connection is not None and not self._may_sort():
                return
            self._leads = False
            out, self._out = self._out, []
            controls, self._controls = self._controls, 0
            connection = self.connection
            if out and connection is not None:
                connection.write(out, len(out) > controls)

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
                self.loop.call_soon(self._bulk_sent, route)
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
                if not self._gathers:
                    self._gather_for_a_tick()
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
                    self._out.append(frame)
                    if not self._gathers:
                        self._gather_for_a_tick()
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
            self._out.append(frame)
            if not self._gathers:
                self._gather_for_a_tick()

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
