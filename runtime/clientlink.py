"""One client's connection, and its calls, at the client's gateway.

Each call of the client becomes one of the node's own, a `Relayed`: it goes by the node's routes, under
their credit, and its answers go back as they came, sealed. A told message is made the same way, so that
what is under way for a client is known in full; its answer is not passed on, and its failure is a dead
letter at the client.

What a client can have this node keep is bounded here: calls under way and their bytes by number, for
more are refused; nothing at all is kept for names of classes that no member hosts. The connection is
read no further while its frames wait for their turn (`pace`), or while it does not take its answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, CallError, CodecError, MailboxFull, NotAllowed, RingcastError, Unreachable

from ..actors.messages import Message
from ..actors.ref import display
from ..security.identity import Identity
from . import wire
from .behalf import PASSING, check_exposed, named_message, packed_caller
from .budget import Part
from .callframe import CallFrame, frame_of, unpacker
from .calls import Call, Parcel, Reader
from .connection import Connection
from .inflight import LIGHT
from .link import Link
from .pace import LONG
from .weigh import PART, weigh_slowly

if TYPE_CHECKING:
    from .codec import Codec
    from .gateway import Gateway
    from .guard import Sieve
    from .routes import Route

WEIGHED = 1024
"""Bytes of arguments from which on it is looked at how much would be built of them."""
PER_VALUE = 0.5e-6
PER_BYTE = 1e-9
"""Seconds that a value, or a byte, takes where it is decoded or sealed, which may be another node."""
GRACE = 0.5
"""Seconds after a call's limit for which its client may still ask where it is."""
PULL_MAX = 1024
LINGER = 5.0
"""Seconds for which a client that has to go still gets its answers."""


class Receipt(asyncio.Future[None]):
    """Is told when a client's message has found room, and gives its credit back."""

    def __init__(self, call: Relayed) -> None:
        """Belong to a call."""
        super().__init__(loop=call.get_loop())
        self._call = call

    def set_result(self, result: None) -> None:
        """There is room."""
        if not self.done():
            super().set_result(result)
            self._call.client.grant_one(self._call.route.kind.name, self._call.route.key, self._call.route.node)

    def set_exception(self, exception: type[BaseException] | BaseException) -> None:
        """The message was refused."""
        self.set_result(None)
        assert isinstance(exception, BaseException)
        self._call.fail(exception)


class Relayed(Call):
    """A call of a client, as one of this node's own; its answers go back to the client."""

    __slots__ = ("asked", "client", "has_answer", "receipt", "size")

    client: ClientLink
    asked: int
    """The number that the client knows it by; 0 for a told message."""
    receipt: Receipt
    size: int
    """What it counts in its client's account: bytes of its arguments, and of what is kept for it."""
    has_answer: bool

    @property
    def is_answered(self) -> bool:
        """Whether a handler has returned: what it raised comes sealed, and looks like any other error."""
        return self.has_answer

    def set_result(self, result: Any) -> None:
        """Pass the sealed answer on."""
        self.has_answer = True
        if self._is_over() and self.asked:
            self.client.spend_on(result)
            self.client.reply(self.asked, result)

    def refuse(self, wire: list[Any], link: Link | None) -> None:
        """Pass an error on as it came."""
        self._refuse(wire)

    def fail(self, error: BaseException) -> None:
        """Pass on an error of this node."""
        self._refuse(self.client.gateway.seals.error(error))

    def _refuse(self, error: list[Any]) -> None:
        client, message = self.client, self.message
        if self._is_over():
            if self.asked:
                client.refuse(self.asked, error)
            else:
                client.send_frame([wire.LOST, message.class_name, message.name, self.route.key, str(error[1])])

    def _is_over(self) -> bool:
        """Note the end; return False if it was over before."""
        if self.done():
            return False
        super().set_result(None)
        self.client.over(self)
        return True

    @property
    def accepted(self) -> Receipt:
        """Its receipt."""
        return self.receipt

    def reader(self) -> Reader:
        """Return itself: what a stream yields is passed on, too."""
        return self

    def feed(self, item: Any) -> None:
        """Pass an item on."""
        try:
            if self.asked:
                self.client.spend_on(item)
                self.client.item(self.asked, item)
        except CodecError as error:
            self.fail(error)
            self.client.router.abandon(self.number)

    def end(self) -> None:
        """Pass the end of a stream on."""
        if self._is_over() and self.asked:
            self.client.end(self.asked)


class ClientLink(Link):
    """This node's side of one client's connection."""

    def __init__(self, gateway: Gateway, client: Identity) -> None:
        """Belong to a client who has proved who it is."""
        kinds = gateway.host.kinds
        super().__init__(
            f"client {client.name}",
            gateway.trust.node_id,
            gateway.router,
            gateway.arrivals,
            gateway.codec,
            lambda link: None,
            kinds.learn,
            kinds.blob,
        )
        self.gateway = gateway
        self.client = client
        self.budget = gateway.budget_of(client)
        limit = gateway.config.client_in_flight_bytes
        self.account = Part(self.budget, gateway.router.in_flight, limit, self._ask_to_hold)
        self.budget.links.add(self)
        self.ration = self.budget.ration
        self.under_way: set[Relayed] = set()
        self._packed = packed_caller(client)
        self._asked: dict[int, Relayed] = {}
        self._pending: deque[list[Any]] = deque()
        self._owed: dict[tuple[str, Any, str | None], int] = {}
        self._weighing: Generator[None, None, None] | None = None
        """The look at a large call; frames behind it wait."""
        self._is_held = False
        """Whether the connection is not read for now."""
        self._end: asyncio.TimerHandle | None = None
        """What closes the connection in time."""
        self._farewell = "it has said goodbye"
        self._closes: str | None = None
        """Why the connection is closed as soon as what is to be written is written."""
        self._has_left = False

    def up(self, connection: Connection, codec: Codec, max_message: int) -> None:
        """Take the connection; what it says is decoded by an unpacker that builds names, numbers and keys."""
        super().up(connection, codec, max_message)
        connection.unpacker = connection.small_unpacker = unpacker(wire.MAX_BATCH)
        connection.short_unpacker = None

    def _make_sieve(self) -> Sieve | None:
        return None

    def _packed_error(self, error: CallError) -> list[Any]:
        return self.gateway.seals.error(error)

    def down(self, connection: Connection, why: str) -> None:
        """Note the end: nobody waits for what is under way."""
        if connection is not self.connection:
            return
        if self._end is not None:
            self._end.cancel()
        self._pending.clear()
        self._weighing = None
        super().down(connection, why)
        self.budget.links.discard(self)
        for call in list(self._asked.values()):
            self._abandon(call)  # what was told goes on
        self.gateway.gone(self, why)

    def expire_at(self, end: float) -> None:
        """Dismiss the client when its certificate ends, in seconds since 1970."""
        when = datetime.fromtimestamp(end, UTC).isoformat(timespec="seconds")
        why = f"the credential has expired, at {when}; `ringcast secret issue` makes a new one"
        self._end = self.loop.call_later(max(end - time(), 0.0), self.dismiss, why)

    def dismiss(self, why: str, seconds: float = LINGER) -> None:
        """Tell the client to go elsewhere, and why; it has its answers first, if they come within `seconds`."""
        if self._end is not None:
            self._end.cancel()
        self._end = self.loop.call_later(seconds, self.close, why)
        self._farewell = why
        self.send_frame([wire.BYE, why])

    def close(self, why: str) -> None:
        """Close the connection once what was written has left."""
        if self.connection is not None:
            self.flush()
            if self._out:
                self._closes = why  # once there is a lease, or surely none
            else:
                self.down(self.connection, why)

    def go_on(self) -> None:
        """The lease is back."""
        super().go_on()
        self._close_now()

    def give_up(self) -> None:
        """It is not."""
        super().give_up()
        self._close_now()

    def _close_now(self) -> None:
        if self._closes is not None:
            self.close(self._closes)

    def _taken_leave(self) -> None:
        """The client sends no more calls."""
        self._has_left = True
        if not self._asked:
            self.close(self._farewell)

    def spend(self, seconds: float) -> None:
        """Count time that a call takes elsewhere than in a step; a little is not counted."""
        if seconds > LONG:
            self.ration.spend(seconds, monotonic())

    def spend_on(self, sealed: Any) -> None:
        """Count the time that it took to seal an answer."""
        if isinstance(sealed, bytes):
            self.spend(len(sealed) * PER_BYTE)

    # ---- calls under way -----------------------------------------------------------------------------

    def over(self, call: Relayed) -> None:
        """A call has ended, one way or another."""
        if call not in self.under_way:
            return
        self.under_way.discard(call)
        self._asked.pop(call.asked, None)
        self.account.remove(call.size)
        self.budget.calls -= 1
        call.receipt.set_result(None)
        if self._has_left and not self._asked:
            self.loop.call_soon(self.close, self._farewell)  # the answer leaves first

    def grant_one(self, class_name: str, key: Any, node: str | None) -> None:
        """Give back the credit for one message; all of a tick leave together."""
        owed = self._owed
        if not owed:
            self.loop.call_soon(self._grant_all)
        owed[class_name, key, node] = owed.get((class_name, key, node), 0) + 1

    def _grant_all(self) -> None:
        owed, self._owed = self._owed, {}
        for (class_name, key, node), count in owed.items():
            self.send_frame([wire.GRANT, class_name, key, node, count])

    def _abandon(self, call: Relayed) -> None:
        """Cancel a call whose client is gone, or has cancelled it."""
        self.over(call)
        self.router.abandon(call.number)

    # ---- receiving -----------------------------------------------------------------------------------

    def receive(self, frames: Iterable[list[Any]]) -> None:
        """Take in frames; they are dealt with as the gateway's pace allows."""
        was_idle = not self._pending and self._weighing is None
        for count, frame in enumerate(frames):
            if count == wire.BATCH_FRAMES:
                raise CodecError(f"a batch of more than {count} frames")
            if frame[0] == wire.BULK:
                self._expect(frame)  # at once: its pieces may be the very next bytes
            else:
                self._pending.append(frame)
        if was_idle and self._pending:
            self.gateway.pace.enter(self)
        if self._pending or self._weighing is not None or (self.connection is not None and self.connection.is_paused):
            self.hold()

    def _expect(self, frame: list[Any]) -> None:
        """A large call begins."""
        if self.budget.bytes > 2 * self.gateway.config.client_in_flight_bytes:
            raise CodecError("it was asked to hold its messages back, and sends large ones")
        _, number, lengths = frame
        if self.connection is not None:
            self.connection.expect(number, lengths)

    def receive_bulk(self, head: bytes, buffers: list[bytes]) -> None:
        """Take in a large call that is whole."""
        self.receive((frame_of(head, buffers),))

    def step(self) -> bool:
        """Deal with one frame, or with a part of a large one; return whether there is more."""
        connection = self.connection
        if connection is None:
            return False
        try:
            if self._weighing is not None:
                next(self._weighing, None)
            else:
                self.received += 1
                self._take(self._pending.popleft())
        except (CodecError, ValueError, TypeError, LookupError, ArithmeticError) as error:
            connection.abort(f"it sent what is no frame: {error!r:.1000}")
            return False
        if self._pending or self._weighing is not None:
            return True
        if self._is_held:
            self._read_on()
        return False

    def hold(self) -> None:
        """Read no further, until all that came has had its turn and the client has taken its answers."""
        connection = self.connection
        if not self._is_held and connection is not None and connection.transport is not None:
            self._is_held = True
            connection.transport.pause_reading()
            if not self._pending and self._weighing is None:
                self._read_on()

    def _read_on(self) -> None:
        connection = self.connection
        if connection is None or connection.transport is None:
            return
        if connection.is_paused:
            self.gateway.host.background(self._read_on_drained())
        else:
            self._is_held = False
            connection.transport.resume_reading()

    async def _read_on_drained(self) -> None:
        """Read on once the client has taken its answers."""
        await self.drained()
        if self._is_held and not self._pending and self._weighing is None:
            self._read_on()

    def _take(self, frame: list[Any]) -> None:
        match frame:
            case [wire.CALL, *parts]:
                self.gateway.calls += 1
                call_frame = CallFrame.checked(parts)
                if len(call_frame.sealed) > WEIGHED:
                    self._weighing = self._weigh(call_frame)
                else:
                    self._call(call_frame)
            case [wire.CANCEL, int() as number, bool() as expired]:
                call = self._asked.get(number)
                if call is not None and expired:
                    call.deadline = 0.0  # where it is will be looked up at once, and told
                elif call is not None:
                    self._abandon(call)
            case [wire.PULL, int() as number, int() as count] if 0 < count <= PULL_MAX:
                call = self._asked.get(number)
                if call is not None:
                    self.router.pull(call.number, count)
            case [wire.ACK, int() as count] if self.connection is not None and count > 0:
                self.connection.acknowledged(count)
            case [wire.BYE]:
                self._taken_leave()
            case [wire.HOLD, *_]:
                pass  # answers are not held back
            case _:
                raise CodecError(f"a client has no business with {frame!r:.100}")

    def _weigh(self, frame: CallFrame) -> Generator[None, None, None]:
        """See how much would be built of large arguments, in parts, and make the call if that is not too much."""
        config = self.gateway.config
        weighing, values = weigh_slowly(frame.sealed, config.client_decoded_bytes), 0
        try:
            while True:
                try:
                    next(weighing)
                except StopIteration as done:
                    weight = int(done.value)
                    break
                values += PART
                if values > config.client_max_values:
                    weight = config.client_decoded_bytes + 1
                    break
                yield
        finally:
            self._weighing = None
        if weight > config.client_decoded_bytes:
            self._turn_down(
                frame,
                CodecError(
                    f"{frame}: its arguments are more than a client may send at once, {config.client_max_values} "
                    f"values, or {config.client_decoded_bytes} bytes of memory when they are decoded: send less at "
                    f"once, or raw bytes, or raise NodeConfig(client_max_values=…, client_decoded_bytes=…)"
                ),
            )
        else:
            self._call(frame, values * PER_VALUE + len(frame.sealed) * PER_BYTE)

    def _call(self, frame: CallFrame, seconds: float = 0.0) -> None:
        """Make a call for the client, if it is allowed; it takes its owner so many seconds to decode."""
        asked = frame.number
        if asked in self._asked:
            raise CodecError(f"call {asked} was made before, and is not over")
        try:
            message = self._admitted(frame)
            route = self.router.routes.to(frame.class_name, frame.key, frame.node)
        except (NotAllowed, CallError) as error:
            self._turn_down(frame, error)
            return
        self.gateway.route_used(route)
        router = self.router
        number = router.number = router.number + 1
        call = Relayed(loop=self.loop)
        call.number = number
        call.deadline = _deadline(frame, message)
        call.route = route
        call.message = message
        call.link = route.link
        call.parcel = None
        call.client = self
        call.asked = asked
        call.has_answer = False
        call.size = len(frame.sealed) + LIGHT
        call.receipt = Receipt(call)
        router.calls[number] = call
        self.under_way.add(call)
        self.account.add(call.size)
        self.budget.calls += 1
        if asked:
            self._asked[asked] = call
        # A client's idempotency keys are its own: nobody else gets the reply that one remembers.
        if route.link is not None:
            self.spend(seconds)
        once = None if frame.idempotency_key is None else f"client {self.client.name}: {frame.idempotency_key}"
        meta = [frame.sealed, self._packed, not asked, None, None, 0, once]
        names = frame.class_name, frame.method
        self._send_on(
            call, route, [wire.FOR_CLIENT, number, *names, frame.key, frame.ttl_ms, router.routes.view_number, meta]
        )
        router.limits.watch()

    def _send_on(self, call: Relayed, route: Route, head: list[Any]) -> None:
        if route.link is None:
            self.arrivals.for_client(None, head)
            return
        frame, buffers = self.gateway.host.codec.pack_parts(head)
        call.parcel = parcel = Parcel(PASSING, call.number, frame, buffers, call.receipt)
        self.router.routes.send(route, parcel)

    def _admitted(self, frame: CallFrame) -> Message:
        """Return what the call is of, if there is room for it and the rules allow it.

        Raises:
            NotAllowed: Naming the rule.
            CallError: Saying what there is too much of, or that nobody has such an actor.
        """
        self._check_room(frame)
        self.gateway.guard.check(self.client, frame.class_name, frame.key, frame.method)
        kinds = self.gateway.host.kinds
        if not kinds.is_known(frame.class_name):
            raise self._unreachable(frame, "no member of the cluster hosts its class")
        if frame.node is not None and frame.node not in kinds.members:
            raise self._unreachable(frame, f"it ran on node {frame.node}, which has left the cluster or was lost")
        kind = kinds.named(frame.class_name)
        message = kind.message(frame.method)
        if message is not None:
            check_exposed(message, frame.key)
            return message
        if kind.is_here:
            raise self._unreachable(frame, f"its class has no message {frame.method!r} on node {self.node_id}")
        return named_message(frame.class_name, frame.method)

    def _check_room(self, frame: CallFrame) -> None:
        config, calls, size = self.gateway.config, self.budget.calls, self.budget.bytes
        if calls >= config.client_calls or size > 2 * config.client_in_flight_bytes:
            raise MailboxFull(
                f"{frame}: client {self.client.name} has {calls} calls with {size} bytes under way, and "
                f"NodeConfig(client_calls={config.client_calls}, client_in_flight_bytes="
                f"{config.client_in_flight_bytes}) allows no more: send less at once",
                certainty=NOT_SENT,
                actor=display(frame.class_name, frame.key),
                method=frame.method,
                node=self.node_id,
            )

    def _unreachable(self, frame: CallFrame, why: str) -> Unreachable:
        return Unreachable(
            f"{frame} cannot be called: {why}",
            certainty=NOT_SENT,
            actor=display(frame.class_name, frame.key),
            method=frame.method,
            node=self.node_id,
        )

    def _turn_down(self, frame: CallFrame, error: RingcastError) -> None:
        if isinstance(error, NotAllowed):
            self.gateway.guard.refused += 1
            self.log.debug("a call was refused", client=self.client.name, reason=str(error))
        self.grant_one(frame.class_name, frame.key, frame.node)
        if frame.number:
            self.refuse(frame.number, self.gateway.seals.error(error))
        else:
            self.send_frame([wire.LOST, frame.class_name, frame.method, frame.key, str(error)])


def _deadline(frame: CallFrame, message: Message) -> float:
    """Return when a client's call is given up here: its client keeps the limit itself, and asks where it is."""
    if not frame.number or frame.ttl_ms is None or message.streams:
        return float("inf")
    return monotonic() + frame.ttl_ms * 0.001 + GRACE
