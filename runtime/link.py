"""A link: this node's side of everything that passes between it and one peer.

It outlives connections: while there is none, the router's messages wait in their routes. What arrives
is dispatched here: answers to the router's calls, requests to cells; what is not the common case goes to
`Arrivals`. What leaves is gathered and written by the half of it that is an `Outlet`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, CallError, CodecError
from ringcast.logger import get_logger

from ..actors.messages import Message
from ..actors.naming import NAME_MAX
from ..actors.ref import is_spawned, unknown_messages
from ..discovery.packed import SHORT, SMALL, look_through
from ..security.identity import Identity
from . import wire
from .calls import Call, Parcel, unencodable
from .cell import NOT_NOW, SUSPENDED, Cell
from .codec import Codec
from .envelope import Envelope
from .inflight import LIGHT, SMALL_BATCH, Account, Weighed
from .limits import not_held_back
from .outlet import HEARING, NO, Outlet
from .routes import Route
from .runner import SLICE
from .wire import REPLY, REQUEST, TELL  # names of the module itself: looked up for each frame

if TYPE_CHECKING:
    from .arrivals import Arrivals
    from .connection import Connection
    from .guard import Sieve
    from .kinds import Kind
    from .router import Router

CANCELLED_KEPT = 10.0
"""Seconds for which a cancel that overtook its call is remembered."""

CANCELLED_MAX = 65_536
"""Such cancels that are remembered of one peer; the oldest gives way."""


class Link(Outlet):
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
        super().__init__(peer, node_id, router, arrivals, codec, blob)
        self.trouble = "it has not been dialled yet"
        self.is_silent = False
        """Whether the peer has said that it sends nothing more over this connection."""
        self.identity: Identity | None = None
        """Who the peer has proved to be when the link came up last; None without TLS."""
        self.sieve: Sieve | None = None
        """What the peer's frames have to pass, where not all are allowed; see `Guard`."""
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
        self._inline_until = 0.0

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
        connection.short_unpacker = lambda: codec.unpacker(SMALL_BATCH * 2, SHORT)
        self._defined.clear()
        self.messages.clear()
        self._out.clear()
        self._size = 0
        self._holders.clear()
        self.is_held = self.is_silent = self._leads = False
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
        if self._gathers == HEARING:  # it ended in the middle of what was heard, and perhaps nobody says `heard`
            self._gathers = NO
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

    def _bulk_sent(self, route: Route) -> None:
        self.router.routes.bulk_sent(route, self)

    def _ask_to_hold(self, held: bool) -> None:
        if self.connection is not None:
            self.send_frame([wire.HOLD, held])

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
        count = grouped = heavy_ones = 0
        cell: Cell | None
        filled: Cell | None = None
        group: list[Envelope] = []  # what is for `filled`, put into its mailbox at once
        # Most messages are followed by their like, and that is not looked up: the kind of frame that was put into
        # `group` last, its message and its key.
        running: Any = _NO_KIND
        running_as = running_to = None
        like: Any = None
        try:
            for frame in frames:
                code = frame[0]
                if code == running:
                    if code == TELL:
                        if frame[1] == running_as and frame[2] == running_to and codec.failure is None:
                            args = (frame[4],) if len(frame) == 5 else frame[4:]
                            group.append((like, args, None, None, 0, _FOREVER, light, None))
                            continue
                    elif frame[2] == running_as and frame[3] == running_to and codec.failure is None:
                        number, deadline = frame[1], now + frame[4] * 0.001
                        if type(number) is not int or type(deadline) is not float:
                            raise CodecError(_NO_REQUEST)
                        group.append((like, frame[6:], None, self, number, deadline, light, None))
                        continue
                if codec.failure is None:
                    if code == REPLY:
                        count += 1
                        call = calls.pop(frame[1], None)
                        if call is not None and not call.done():
                            call.set_result(frame[2])
                        continue
                    if code == REQUEST:
                        kind, message = messages[frame[2]]
                        cell = kind.cells.get(frame[3])
                        if not (cell is None or message.function is None or (cancelled and frame[1] in cancelled)):
                            if is_large or (cell.task is None and cell.since != now and message.may_begin):
                                if filled is not None:
                                    grouped += self._fill(filled, group)
                                    filled, running = None, _NO_KIND
                                count += 1
                                self._request(cell, message, frame, now, count + grouped == 1)
                                continue
                            number, deadline = frame[1], now + frame[4] * 0.001
                            if type(number) is not int or type(deadline) is not float:
                                raise CodecError(_NO_REQUEST)
                            if cell is not filled:
                                if filled is not None:
                                    grouped += self._fill(filled, group)
                                filled, running = cell, _NO_KIND
                            if not cancelled:
                                running, like, running_as, running_to = code, message, frame[2], frame[3]
                            group.append((message, frame[6:], None, self, number, deadline, light, None))
                            continue
                    elif code == TELL:
                        kind, message = messages[frame[1]]
                        cell = kind.cells.get(frame[2])
                        if not (cell is None or message.function is None):
                            if cell is not filled:
                                if filled is not None:
                                    grouped += self._fill(filled, group)
                                filled, running = cell, _NO_KIND
                            chain = light
                            if not is_large:
                                running, like, running_as, running_to = code, message, frame[1], frame[2]
                            elif self._size:
                                chain = account.chain((), self._size)
                                account.add(chain.weight)
                                heavy_ones += 1
                            group.append((message, frame[4:], None, None, 0, _FOREVER, chain, None))
                            continue
                if filled is not None:
                    grouped += self._fill(filled, group)
                    filled, running = None, _NO_KIND
                count += 1
                if codec.failure is not None:
                    self._undecodable(frame)
                elif code in (REQUEST, TELL):
                    kind, message = messages[frame[2] if code == REQUEST else frame[1]]
                    self.arrivals.message(self, kind, message, frame)
                else:
                    self._receive_rare(code, frame)
        finally:
            if filled is not None:
                grouped += self._fill(filled, group)
            self.received += count + grouped
            if grouped > heavy_ones:
                account.add((grouped - heavy_ones) * LIGHT)

    def _fill(self, cell: Cell, group: list[Envelope]) -> int:
        """Put messages that have come one after the other for one actor into its mailbox; return how many."""
        cell.accept_many(group, self)
        count = len(group)
        group.clear()
        return count

    def _request(self, cell: Cell, message: Message, frame: list[Any], now: float, is_first: bool) -> None:
        """Begin a request at once, if the actor is idle and this tick has time; else put it into the mailbox.

        The first of a batch finds all of that time.

        What follows in the same batch for an actor that has had its turn goes into the mailbox, too: one
        drain of many is cheaper than as many single turns.
        """
        number, deadline = frame[1], now + frame[4] * 0.001
        if type(number) is not int or type(deadline) is not float:
            raise CodecError(_NO_REQUEST)
        chain = self.account.chain((), self._size) if self._size else self.account.light
        envelope: Envelope = (message, frame[6:], None, self, number, deadline, chain, None)
        is_idle = cell.task is None and cell.since != now and message.may_begin
        if is_idle and (is_first or monotonic() < self._inline_until):
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
                self._is_granted = True
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
_NO_KIND = object()
"""What no frame begins with, whoever has sent it."""

_NO_REQUEST = "a request whose number or limit is none"
_MESSAGES = frozenset({wire.REQUEST, wire.REQUEST_X, wire.TELL, wire.TELL_X, wire.FOR_CLIENT})
