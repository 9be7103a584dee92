"""The router: where a call goes, and what becomes of it.

A `Route` is this node's way to one actor: the owner by the ring (or the node of a spawned actor),
the link to it, and how much credit is left there. A ref keeps its route; a view that changes
makes all routes stale at once, by a number, and each is aimed anew when it is next used.

A `Call` is an ask or a stream that waits for its answer. Its number is unique on this node, so the
answer may come from any peer, after the call was forwarded, say. Limits are kept by one coarse
sweep and not by a timer each. When a limit passes, the owner is asked where the call is, and has
`REPORT` seconds to tell.

Messages without credit, or to a peer that is not connected, wait in their route, in order; what
waits was certainly not sent, and goes to the new owner when the view changes.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import (
    EXECUTED,
    MAYBE_EXECUTED,
    NOT_SENT,
    CallCycle,
    CallError,
    CallTimeout,
    Certainty,
    CodecError,
    MailboxFull,
    NodeStopped,
    Unreachable,
)

from ..actors.messages import Message
from ..actors.ref import ActorRef, display
from ..actors.turn import CHAIN, DEADLINE, TRACE, ChainEntry, Turn, current_turn, new_chain
from . import wire
from .cell import NOT_NOW, SUSPENDED
from .envelope import Envelope
from .failures import error_from_wire, error_to_wire
from .once import Remembered
from .streams import Inflow

if TYPE_CHECKING:
    from .arrivals import Arrivals
    from .cell import Cell
    from .host import Host, Kind
    from .link import Link
    from .peers import Peers

SWEEP = 0.025
"""Seconds between two looks at the limits of pending calls."""
REPORT = 0.1
"""Seconds that an owner has to say where a call is whose time has run out."""
ROUTE_IDLE = 30.0

_SCALARS = frozenset({int, str, float, bool, bytes, type(None)})
"""Arguments that pass as they are between actors of one node."""

PLAIN = frozenset({int, str, float, bool, type(None), dict, list, tuple})
"""Types that are packed into the frame itself; anything else may be, or hold, a large buffer."""


class Route:
    """This node's way to one actor."""

    __slots__ = ("credit", "held", "key", "kind", "link", "node", "used", "version", "waiting")

    def __init__(self, kind: Kind, key: Any, node: str | None) -> None:
        """Aim at nothing yet."""
        self.kind = kind
        self.key = key
        self.node = node
        self.version = 0
        self.link: Link | None = None
        self.credit = 0
        self.held = 0
        """Large messages under way; later ones wait so that none overtakes."""
        self.waiting: deque[Parcel] = deque()
        self.used = 0.0

    @property
    def name(self) -> str:
        """The actor's name for people."""
        return display(self.kind.name, self.key)


class Parcel:
    """A packed message: what is sent, or waits in a route to be sent."""

    __slots__ = ("buffers", "frame", "message", "number", "taken")

    def __init__(
        self,
        message: Message,
        number: int,
        frame: bytes,
        buffers: list[memoryview] | None,
        taken: asyncio.Future[None] | None,
    ) -> None:
        """Keep the frame; `taken` is resolved for a teller when it has been sent."""
        self.message = message
        self.number = number
        self.frame = frame
        self.buffers = buffers
        self.taken = taken

    @property
    def is_given_up(self) -> bool:
        """Whether its teller has stopped waiting, and was told that it was not sent."""
        return self.taken is not None and self.taken.done()


class Call(asyncio.Future[Any]):
    """An ask or a stream that waits for its answer: the future that the caller awaits."""

    __slots__ = ("deadline", "link", "message", "number", "parcel", "route")

    number: int
    deadline: float
    """Monotonic seconds; inf for a stream, whose reader keeps the limits."""
    route: Route
    message: Message
    link: Link | None
    """On whom the answer depends; None for this node."""
    parcel: Parcel | bytes | None
    """The packed message, or its frame, for a call to a peer."""

    def fail(self, error: BaseException) -> None:
        """Give the caller an error."""
        if not self.done():
            self.set_exception(error)
            self.exception()  # whoever abandoned it need not be warned

    def reader(self) -> Inflow | None:
        """Return who reads the answers of a stream, if somebody still does."""
        return None


class StreamCall(Call):
    """A stream that is open here: a call whose answers are many."""

    __slots__ = ("stream",)

    stream: weakref.ref[Inflow]

    def fail(self, error: BaseException) -> None:
        """Give the reader an error."""
        if (stream := self.stream()) is not None:
            stream.fail(error)

    def reader(self) -> Inflow | None:
        """Return who reads."""
        return self.stream()


class LocalSink:
    """Where answers to callers on this node go."""

    def __init__(self, router: Router, peer: str) -> None:
        """Belong to the router of node `peer`."""
        self._router = router
        self.peer = peer

    def reply(self, number: int, value: Any) -> None:
        """Resolve the caller's future with an isolated copy."""
        call = self._router.calls.pop(number, None)
        if call is None or call.done():
            return
        if type(value) not in _SCALARS:
            try:
                value = self._router.isolate(value)
            except CodecError as error:
                call.fail(unencodable(call.route.name, call.message.name, self.peer, error))
                return
        call.set_result(value)

    def fail(self, number: int, error: BaseException) -> None:
        """Fail the caller."""
        call = self._router.calls.pop(number, None)
        if call is not None:
            call.fail(self._router.localize(error))

    def item(self, number: int, value: Any) -> None:
        """Hand an isolated item to the reader."""
        call = self._router.calls.get(number)
        if call is not None and (stream := call.reader()) is not None:
            stream.feed(self._router.isolate(value))

    def end(self, number: int) -> None:
        """End the reader's stream."""
        call = self._router.calls.pop(number, None)
        if call is not None and (stream := call.reader()) is not None:
            stream.end()


_FOREVER = math.inf


def _ttl(seconds: float) -> int:
    """Return a limit for the wire: whole milliseconds, at least one."""
    return int(seconds * 1000) or 1


def unencodable(actor: str | None, method: str | None, node: str, error: BaseException) -> CallError:
    """Return what a caller gets whose reply cannot travel; whom it had asked is filled in at its node."""
    whom = "the handler" if actor is None else f"{actor}.{method}"
    failure = CallError(
        f"{whom} ran, but its reply cannot travel: {error}",
        certainty=EXECUTED,
        actor=actor,
        method=method,
        node=node,
    )
    failure.__cause__ = error
    return failure


class Router:
    """The calls of one node. Also the `Caller` that refs are bound to."""

    def __init__(self, node_id: str, ask_timeout: float, copy_local: bool) -> None:
        """Start with no view; the node sets the parts and the loop before the first call."""
        self.node_id = node_id
        self.loop: asyncio.AbstractEventLoop
        self.ask_timeout = ask_timeout
        self.copy_local = copy_local
        self.host: Host
        self.peers: Peers
        self.arrivals: Arrivals
        self.version = 1
        self.view_number = 0
        self.number = 0
        self.calls: dict[int, Call] = {}
        self.routes: dict[tuple[str, Any], Route] = {}
        self.sink = LocalSink(self, node_id)
        self.holding: dict[object, list[tuple[str, Any]]] = {}
        self.stopped: str | None = f"node {node_id} has not started; use `async with node:`"
        self._asked: set[int] = set()
        """Calls whose time has run out, and whose owner was asked where they are."""
        self._sweeper: asyncio.TimerHandle | None = None
        self._tidied = monotonic()

    # ---- the verbs -----------------------------------------------------------------------------

    def ask(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call | tuple[Any]:
        """Send an ask at once; see `Caller.ask`. The common case is written out, for speed."""
        route: Route | None = ref._route  # pyright: ignore[reportPrivateUsage]
        if route is None or route.version != self.version:
            route = self.aim(ref, message)
        if (
            kwargs
            or ref._options is not None  # pyright: ignore[reportPrivateUsage]
            or current_turn.get() is not None
            or self.holding
        ):
            return self._ask(ref, route, message, args, kwargs, None)
        number = self.number = self.number + 1
        now = monotonic()
        deadline = now + (message.options.timeout or self.ask_timeout)
        link = route.link
        frame = None
        if link is None:
            for arg in args:
                if type(arg) not in _SCALARS:
                    args, _ = self.isolate_arguments(args, {})
                    break
            host = self.host
            cell = route.kind.cells.get(route.key)
            if cell is None:
                cell = host.activate(route.kind, route.key)
            envelope: Envelope = (message, args, None, self.sink, number, deadline, (), None)
            begun = False
            if cell.task is None and message.is_plain and (now < host.inline_until or host.open_window(now)):
                try:
                    value = cell.run_now(envelope, now)
                except Exception as error:
                    raise self.localize(error) from None
                if value is SUSPENDED:
                    begun = True
                elif value is not NOT_NOW:
                    return (value if type(value) in _SCALARS else self._answer(route, message, value),)
        else:
            for arg in args:
                if type(arg) not in PLAIN:
                    return self._ask(ref, route, message, args, kwargs, None)
            try:
                frame = link.pack(
                    [wire.REQUEST, number, message.number, route.key, _ttl(deadline - now), self.view_number, *args]
                )
            except CodecError:
                raise self._cannot_travel(args, kwargs) from None
        call = self.calls[number] = Call(loop=self.loop)
        call.number = number
        call.deadline = deadline
        call.route = route
        call.message = message
        call.link = link
        call.parcel = frame
        if frame is None:
            if not begun:
                cell.accept_local(envelope)
        elif route.credit > 0 and not route.held and len(frame) < wire.PIECE_BYTES:
            route.credit -= 1
            link.send(message, frame)
        else:
            self.send(route, Parcel(message, number, frame, None, None))
        if self._sweeper is None:
            self._sweep_soon()
        return call

    def _answer(self, route: Route, message: Message, value: Any) -> Any:
        """Return an isolated copy of a reply that was there at once."""
        try:
            return self.isolate(value)
        except CodecError as error:
            raise unencodable(route.name, message.name, self.node_id, error) from error

    def _ask(
        self,
        ref: ActorRef,
        route: Route,
        message: Message,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        stream: Inflow | None,
    ) -> Call:
        """Send an ask or open a stream with everything that the common case leaves out."""
        options = ref._options  # pyright: ignore[reportPrivateUsage]
        turn = current_turn.get()
        now = monotonic()
        limit = (options.timeout if options is not None else None) or message.options.timeout or self.ask_timeout
        chain: tuple[ChainEntry, ...] = ()
        trace: str | None = None
        if turn is not None:
            trace = self.trace_of(turn)
            if options is None or not options.detached:
                cell: Cell = turn[0]
                chain = (*turn[2][CHAIN], (cell.kind.name, cell.key, cell.epoch, turn[1]))
                if stream is None:
                    limit = min(limit, turn[2][DEADLINE] - now)
                    if limit <= 0:
                        raise self._no_time(route, message)
        self._check_holding(route, message)
        deadline = now + limit
        once = options.idempotency_key if options is not None else None
        link = route.link
        number = self.number = self.number + 1
        call: Call
        if stream is None:
            call = Call(loop=self.loop)
            call.deadline = deadline
        else:
            if once is not None:
                raise TypeError("a stream takes no idempotency key: it has no one reply to remember")
            call = StreamCall(loop=self.loop)
            call.stream = weakref.ref(stream)
            call.deadline = math.inf
            stream.limit = limit
        call.number = number
        call.route = route
        call.message = message
        call.link = link
        call.parcel = None
        if link is None:
            if kwargs or not all(type(arg) in _SCALARS for arg in args):
                args, kwargs = self.isolate_arguments(args, kwargs)
            self.calls[number] = call
            envelope: Envelope = (message, args, kwargs or None, self.sink, number, deadline, chain, trace)
            self.host.deliver(route.kind, route.key, envelope, once)
        else:
            meta = [list(args), kwargs, [list(entry) for entry in chain], trace, None, 0, once]
            head = [wire.REQUEST_X, number, message.number, route.key, _ttl(limit), self.view_number, meta]
            call.parcel = parcel = self._parcel(link, message, number, head, args, kwargs)
            self.calls[number] = call
            self.send(route, parcel)
        if self._sweeper is None:
            self._sweep_soon()
        return call

    def tell(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[None] | None:
        """Send a told message; see `Caller.tell`. The common case is written out, for speed."""
        route: Route | None = ref._route  # pyright: ignore[reportPrivateUsage]
        if route is None or route.version != self.version:
            route = self.aim(ref, message)
        if kwargs or ref._options is not None or current_turn.get() is not None:  # pyright: ignore[reportPrivateUsage]
            return self._tell(ref, route, message, args, kwargs)
        link = route.link
        if link is None:
            for arg in args:
                if type(arg) not in _SCALARS:
                    args, _ = self.isolate_arguments(args, {})
                    break
            cell = route.kind.cells.get(route.key)
            if cell is None:
                cell = self.host.activate(route.kind, route.key)
            accepted = cell.accept_local((message, args, None, None, 0, _FOREVER, (), None))
            return None if accepted is None else self._accepted(route, message, accepted, self.ask_timeout)
        for arg in args:
            if type(arg) not in PLAIN:
                return self._tell(ref, route, message, args, kwargs)
        try:
            frame = link.pack([wire.TELL, message.number, route.key, self.view_number, *args])
        except CodecError:
            raise self._cannot_travel(args, kwargs) from None
        if route.credit > 0 and len(frame) < wire.PIECE_BYTES:
            route.credit -= 1
            link.send(message, frame)
            return link.drained() if link.is_full else None
        parcel = Parcel(message, 0, frame, None, self.loop.create_future())
        return self._sent(route, parcel, self.ask_timeout)

    def _tell(
        self, ref: ActorRef, route: Route, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[None] | None:
        """Send a told message with everything that the common case leaves out."""
        options = ref._options  # pyright: ignore[reportPrivateUsage]
        turn = current_turn.get()
        now = monotonic()
        own = options.timeout if options is not None else None
        deadline = math.inf if own is None else now + own
        limit = own or self.ask_timeout
        trace = None
        if turn is not None:
            trace = self.trace_of(turn)
            if not (options and options.detached):
                limit = max(min(limit, turn[2][DEADLINE] - now), 0.0)
        link = route.link
        if link is None:
            args, kwargs = self.isolate_arguments(args, kwargs)
            cell = route.kind.cells.get(route.key)
            if cell is None:
                cell = self.host.activate(route.kind, route.key)
            accepted = cell.accept_local((message, args, kwargs or None, None, 0, deadline, (), trace))
            return None if accepted is None else self._accepted(route, message, accepted, limit)
        ttl = None if own is None else _ttl(own)
        head = [wire.TELL_X, message.number, route.key, self.view_number, [list(args), kwargs, ttl, trace, 0]]
        parcel = self._parcel(link, message, 0, head, args, kwargs)
        parcel.taken = self.loop.create_future()
        return self._sent(route, parcel, limit)

    def _sent(self, route: Route, parcel: Parcel, limit: float) -> Awaitable[None] | None:
        """Send a told message as far as there is credit."""
        taken = parcel.taken
        assert taken is not None
        self.send(route, parcel)
        return None if taken.done() else self._accepted(route, parcel.message, taken, limit)

    async def _accepted(
        self, route: Route, message: Message, accepted: asyncio.Future[None], limit: float
    ) -> None:
        """Wait until a told message has found room.

        Raises:
            MailboxFull: If it has not, within the limit.
            Unreachable: If its owner was not connected all the while.
        """
        try:
            async with asyncio.timeout(limit):
                await accepted
        except TimeoutError:
            for parcel in route.waiting:
                if parcel.taken is accepted:
                    route.waiting.remove(parcel)
                    break
            raise self._not_taken(route, message) from None

    def _parcel(
        self,
        link: Link,
        message: Message,
        number: int,
        head: list[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Parcel:
        try:
            return Parcel(message, number, *link.pack_parts(head), None)
        except CodecError:
            raise self._cannot_travel(args, kwargs) from None

    def _cannot_travel(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> CodecError:
        """Return the error that names the argument which cannot travel."""
        codec = self.host.codec
        for position, arg in enumerate(args):
            try:
                codec.pack(arg)
            except CodecError:
                return codec.explain(arg, f"args[{position}]")
        return codec.explain(kwargs, "kwargs")

    def _tell_options(
        self, ref: ActorRef, turn: Turn | None, kwargs: dict[str, Any]
    ) -> tuple[float, str | None, dict[str, Any]]:
        options = ref._options  # pyright: ignore[reportPrivateUsage]
        deadline = math.inf
        if options is not None and options.timeout is not None:
            deadline = monotonic() + options.timeout
        return deadline, None if turn is None else self.trace_of(turn), kwargs

    def stream(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Inflow:
        """Return the iterator of a streamed reply; see `Caller.stream`."""
        return Inflow(self, ref, message, args, kwargs)

    def open_stream(
        self, stream: Inflow, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> int:
        """Ask for a stream; return the call's number."""
        call = self._ask(ref, self.aim(ref, message), message, args, kwargs, stream)
        if not message.options.read_only:
            holder = self._holder()
            stream.holder = holder
            self.holding.setdefault(holder, []).append(stream.held)
        return call.number

    def stream_closed(self, stream: Inflow) -> None:
        """Forget that somebody holds this stream open."""
        holder, stream.holder = stream.holder, None
        self._release(holder, stream.held)

    def _release(self, holder: object, name: tuple[str, Any]) -> None:
        held = self.holding.get(holder)
        if held is not None:
            held.remove(name)
            if not held:
                del self.holding[holder]

    def _holder(self) -> object:
        turn = current_turn.get()
        return asyncio.current_task() if turn is None else (turn[0], turn[1])

    def _check_holding(self, route: Route, message: Message) -> None:
        if not self.holding or new_chain.get():
            return
        held = self.holding.get(self._holder())
        if held and (route.kind.name, route.key) in held:
            raise CallCycle(
                f"{route.name}.{message.name} was called while a stream of {route.name} is open here, which holds "
                f"its turn: close the stream first, or mark the streaming handler @handler(read_only=True)",
                certainty=NOT_SENT,
                actor=route.name,
                method=message.name,
                node=self.node_id,
            )

    def pull(self, number: int, count: int) -> None:
        """Give a stream's owner room for `count` more items."""
        call = self.calls.get(number)
        if call is None:
            return
        if call.link is None:
            self.host.pull(self.sink, number, count)
        else:
            call.link.send_frame([wire.PULL, number, count])

    def silent_stream(self, ref: ActorRef, message: Message, limit: float) -> CallTimeout:
        """Return what a reader gets whose stream yields nothing for its limit."""
        name = display(ref._type_name, ref._key)  # pyright: ignore[reportPrivateUsage]
        return CallTimeout(
            f"{name}.{message.name} yielded nothing for {limit:.1f} s; give it more with using(ref, timeout=…)",
            certainty=MAYBE_EXECUTED,
            actor=name,
            method=message.name,
        )

    def abandon(self, number: int) -> None:
        """Cancel a call that nobody waits for any more."""
        call = self.calls.pop(number, None)
        if call is None:
            return
        if not call.done():
            call.cancel()
        if self._unsend(call.route, number) is None:
            self._cancel(call, number, expired=False)

    def abandon_later(self, number: int, holder: object, held: tuple[str, Any]) -> None:
        """Close a stream from wherever a collector runs."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._release, holder, held)
            self.loop.call_soon_threadsafe(self.abandon, number)

    def _cancel(self, call: Call, number: int, *, expired: bool) -> None:
        route = call.route
        if call.link is None:
            if not self.host.cancel(route.kind, route.key, self.sink, number, expired) and expired:
                call.fail(self._timed_out(call, "its place is unknown"))
        elif call.link.is_up:
            call.link.send_cancel(call.message, number, route.key, expired)

    # ---- routes ------------------------------------------------------------------------------

    def aim(self, ref: ActorRef, message: Message) -> Route:
        """Return the route of a ref, aimed at the present owner.

        Raises:
            NodeStopped: If this node does not run.
            Unreachable: If no member hosts the actor; certainty NOT_SENT.
        """
        if self.stopped is not None:
            raise NodeStopped(self.stopped, certainty=NOT_SENT, method=message.name, node=self.node_id)
        type_name, key, node = ref._type_name, ref._key, ref._node  # pyright: ignore[reportPrivateUsage]
        route = self.routes.get((type_name, key))
        if route is None:
            route = self.routes[type_name, key] = Route(self.host.kind(type_name), key, node)
        ref._route = route  # pyright: ignore[reportPrivateUsage]
        try:
            self.aim_at(route)
        except CallError as error:
            error.method = message.name
            raise
        return route

    def aim_at(self, route: Route) -> None:
        """Aim a route at the present owner, if the view has changed since."""
        if route.version == self.version:
            return
        owner = self.host.owner(route.kind, route.key, route.node)
        link = None if owner == self.node_id else self.peers.link(owner)
        route.used = monotonic()
        if link is not route.link or route.version == 0:
            if route.link is not None:
                route.link.routes.discard(route)
            route.link = link
            route.held = 0
            if link is not None:
                link.routes.add(route)
                route.credit = wire.WINDOW if link.is_up else 0
                if not link.is_up:
                    link.connect_soon()
        route.version = self.version
        if route.waiting:
            self._flush(route)

    def view_changed(self, number: int) -> None:
        """Aim every route anew that has something waiting; the others when they are next used."""
        self.version += 1
        self.view_number = number
        for route in list(self.routes.values()):
            if route.waiting:
                self._reaim(route)

    def _reaim(self, route: Route) -> None:
        try:
            self.aim_at(route)
        except CallError as error:
            waiting, route.waiting = route.waiting, deque()
            for parcel in waiting:
                self._fail_parcel(parcel, error)

    def _fail_parcel(self, parcel: Parcel, error: BaseException) -> None:
        if parcel.taken is not None and not parcel.taken.done():
            parcel.taken.set_exception(error)
        if parcel.number and (call := self.calls.pop(parcel.number, None)) is not None:
            call.fail(error)

    def send(self, route: Route, parcel: Parcel) -> None:
        """Send a message, or let it wait behind the others in its route."""
        route.waiting.append(parcel)
        self._flush(route)

    def _flush(self, route: Route) -> None:
        """Send what waits in a route, as far as there is credit."""
        link = route.link
        waiting = route.waiting
        if link is None:
            while waiting:
                self._deliver_here(route, waiting.popleft())
            return
        if waiting and not link.is_up:
            link.connect_soon()
            return
        while waiting and route.credit > 0 and not route.held:
            parcel = waiting.popleft()
            if parcel.is_given_up:
                continue
            route.credit -= 1
            if parcel.number and (call := self.calls.get(parcel.number)) is not None:
                call.link = link
                call.parcel = parcel
            if parcel.buffers or len(parcel.frame) >= wire.PIECE_BYTES:
                route.held += 1
                link.send_bulk(parcel, route)
            else:
                link.send(parcel.message, parcel.frame)
            if parcel.taken is not None and not parcel.taken.done():
                parcel.taken.set_result(None)

    def bulk_sent(self, route: Route, link: Link) -> None:
        """A large message has left whole: those behind it may follow."""
        if route.link is link and route.held:
            route.held -= 1
            self._flush(route)

    def _deliver_here(self, route: Route, parcel: Parcel) -> None:
        """Deliver a packed message on this node, which became the owner while it waited."""
        if parcel.is_given_up or (parcel.number and parcel.number not in self.calls):
            return
        if parcel.number:
            self.calls[parcel.number].link = None
        if parcel.taken is not None and not parcel.taken.done():
            parcel.taken.set_result(None)
        frame = self.host.codec.unpack_parts(parcel.frame, parcel.buffers or ())
        self.arrivals.message(None, route.kind, parcel.message, frame)

    def _unsend(self, route: Route, number: int) -> Parcel | None:
        """Take a message that still waits out of its route."""
        for index, parcel in enumerate(route.waiting):
            if parcel.number == number:
                del route.waiting[index]
                return parcel
        return None

    def granted(self, kind_name: str, key: Any, link: Link, count: int) -> None:
        """A peer has found room for `count` messages to an actor."""
        route = self.routes.get((kind_name, key))
        if route is not None and route.link is link:
            route.credit = min(route.credit + count, wire.WINDOW)
            if route.waiting:
                self._flush(route)

    # ---- peers come and go -----------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A peer is connected: what waited for it is sent."""
        for route in list(link.routes):
            route.credit = wire.WINDOW
            route.held = 0
            self._flush(route)

    def link_down(self, link: Link, why: str) -> None:
        """A connection has ended: calls under way on it have an unknown fate."""
        for route in link.routes:
            route.credit = 0
            route.held = 0
        for number, call in list(self.calls.items()):
            if call.link is not link or self._is_waiting(call, number):
                continue
            if call.message.options.read_only and not call.message.streams and call.parcel is not None:
                self._again(number, call)
                continue
            del self.calls[number]
            call.fail(
                Unreachable(
                    f"{call.route.name}.{call.message.name}: the connection to node {link.peer} ended before "
                    f"the answer came ({why}); ask again if the call may run twice",
                    certainty=MAYBE_EXECUTED,
                    actor=call.route.name,
                    method=call.message.name,
                    node=link.peer,
                )
            )
        if any(route.waiting for route in link.routes):
            link.connect_soon()

    def _is_waiting(self, call: Call, number: int) -> bool:
        return any(parcel.number == number for parcel in call.route.waiting)

    def _again(self, number: int, call: Call) -> None:
        """Send a read-only call again: to the same owner once it is back, or to the next."""
        parcel = call.parcel
        if not isinstance(parcel, Parcel):
            parcel = Parcel(call.message, number, parcel, None, None)
        call.route.waiting.append(parcel)
        self._reaim(call.route)
        self._flush(call.route)  # a route that was not stale is as it was

    def forward(self, kind: Kind, key: Any, envelope: Envelope, hops: int, once: str | None = None) -> None:
        """Send a message that waited here, or arrived here, on to the actor's owner.

        The answer goes straight to whoever asked, who is told on whom it depends now.

        Raises:
            Unreachable: If nobody owns the actor, or the message was sent on too often.
        """
        message, args, kwargs, sink, number, deadline, chain, trace = envelope
        if isinstance(sink, Remembered):
            for waiting, waiter in sink.waiting():
                self.forward(kind, key, (message, args, kwargs, waiting, waiter, deadline, chain, trace), hops, sink.key)
            return
        owner = self.host.owner(kind, key, None)
        if hops >= wire.MAX_HOPS:
            raise Unreachable(
                f"{display(kind.name, key)}.{message.name} was sent on {hops} times while its route was changing",
                certainty=NOT_SENT,
                actor=display(kind.name, key),
                method=message.name,
                node=self.node_id,
                place="in a route that was changing",
            )
        ttl = None if deadline == math.inf else max(int((deadline - monotonic()) * 1000), 0)
        link = self.peers.link(owner)
        head: list[Any]
        if sink is None:
            head = [wire.TELL_X, message.number, key, self.view_number, [list(args), kwargs or {}, ttl, trace, hops + 1]]
        else:
            origin = sink.peer
            meta = [list(args), kwargs or {}, [list(entry) for entry in chain], trace, origin, hops + 1, once]
            head = [wire.REQUEST_X, number, message.number, key, ttl, self.view_number, meta]
            if sink is self.sink:
                if number in self.calls:
                    self.calls[number].link = link
            elif owner != origin:
                self.peers.link(origin).send_frame([wire.MOVED, number, owner, self.view_number])
        frame, buffers = link.pack_parts(head)
        parcel = Parcel(message, 0, frame, buffers, None)
        if link.is_up and not buffers and len(frame) < wire.PIECE_BYTES:
            link.send(message, frame)
        elif link.is_up:
            link.send_bulk(parcel, None)
        else:
            link.backlog.append(parcel)
            link.connect_soon()

    def moved(self, number: int, node: str) -> None:
        """A call of ours was forwarded: its answer now depends on another node."""
        call = self.calls.get(number)
        if call is not None:
            call.link = None if node == self.node_id else self.peers.link(node)

    # ---- limits ------------------------------------------------------------------------------

    def _sweep_soon(self) -> None:
        delay = max(SWEEP, len(self.calls) / 400_000)
        self._sweeper = self.loop.call_later(delay, self._sweep)

    def _sweep(self) -> None:
        now = monotonic()
        self._sweeper = None
        if self._asked:
            self._asked.intersection_update(self.calls)
        for number, call in [entry for entry in self.calls.items() if entry[1].deadline <= now]:
            self._expire(number, call, now)
        if now - self._tidied > ROUTE_IDLE:
            self._tidied = now
            self._tidy(now)
        if self.calls:
            self._sweep_soon()

    def _tidy(self, now: float) -> None:
        """Forget routes that are not in use; a ref that still has one aims anew."""
        for name, route in list(self.routes.items()):
            if not route.waiting and not route.held and now - route.used > ROUTE_IDLE:
                if any(call.route is route for call in self.calls.values()):
                    continue
                route.version = -1
                if route.link is not None:
                    route.link.routes.discard(route)
                del self.routes[name]

    def _expire(self, number: int, call: Call, now: float) -> None:
        if self._unsend(call.route, number) is not None:
            del self.calls[number]
            call.fail(self._not_taken(call.route, call.message))
        elif number in self._asked or (call.link is not None and not call.link.is_up):
            del self.calls[number]
            call.fail(self._timed_out(call, "its place is unknown: the owner did not say"))
        else:
            self._asked.add(number)
            call.deadline = now + REPORT
            self._cancel(call, number, expired=True)
            if call.link is None:
                self.calls.pop(number, None)

    def _not_taken(self, route: Route, message: Message) -> CallError:
        if route.link is not None and not route.link.is_up:
            return Unreachable(
                f"{route.name}.{message.name} was not sent: node {route.link.peer}, which owns the actor, is not "
                f"connected ({route.link.trouble}); the message waited for its whole time limit",
                certainty=NOT_SENT,
                actor=route.name,
                method=message.name,
                node=route.link.peer,
            )
        node = self.node_id if route.link is None else route.link.peer
        return self.mailbox_full(route.name, message.name, node, "waiting for room in the mailbox")

    def mailbox_full(self, actor: str, method: str, node: str, place: str) -> MailboxFull:
        """Return what a sender gets for whom there was no room in time."""
        return MailboxFull(
            f"{actor} has a full mailbox: {method} found no room within its time limit; send less, give it more "
            f"time, or split the actor",
            certainty=NOT_SENT,
            actor=actor,
            method=method,
            node=node,
            place=place,
        )

    def _timed_out(self, call: Call, place: str) -> CallTimeout:
        certainty: Certainty = MAYBE_EXECUTED
        return CallTimeout(
            f"{call.route.name}.{call.message.name} did not answer within its time limit",
            certainty=certainty,
            actor=call.route.name,
            method=call.message.name,
            node=self.node_id if call.link is None else call.link.peer,
            place=place,
        )

    def _no_time(self, route: Route, message: Message) -> CallTimeout:
        return CallTimeout(
            f"{route.name}.{message.name} was not sent: the time limit of the running turn is over; use "
            f"using(ref, detached=True) for a call that outlives its caller's limit",
            certainty=NOT_SENT,
            actor=route.name,
            method=message.name,
            node=self.node_id,
        )

    # ---- odds --------------------------------------------------------------------------------

    def isolate(self, value: Any) -> Any:
        """Return a copy that shares nothing mutable, as if it had travelled."""
        return self.host.codec.copy(value) if self.copy_local else value

    def isolate_arguments(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return copies of a call's arguments.

        Raises:
            CodecError: Naming the argument that could not travel to another node either.
        """
        try:
            return self.isolate(args), self.isolate(kwargs) if kwargs else kwargs
        except CodecError:
            raise self._cannot_travel(args, kwargs) from None

    def localize(self, error: BaseException) -> BaseException:
        """Return an error as a caller on this node sees it: as if it had travelled."""
        if error.__traceback__ is None or not self.copy_local:
            return error
        codec = self.host.codec
        return error_from_wire(error_to_wire(error, self.node_id, codec), codec)

    def trace_of(self, turn: Turn) -> str:
        """Return the name of a turn's chain of calls, for logs."""
        cell, number, envelope = turn
        return envelope[TRACE] or f"{self.node_id[:6]}-{cell.epoch:x}.{number:x}"

    async def watch(self, ref: ActorRef, notice: Callable[[str], None]) -> Callable[[], None]:
        """See `Caller.watch`."""
        return await self.host.watches.watch(ref, notice)

    def stats(self) -> dict[str, int | float]:
        """Return counts, by name."""
        links = self.peers.links.values()
        return {
            "calls": self.number,
            "calls_pending": len(self.calls),
            "frames_received": sum(link.received for link in links),
            "links_up": sum(link.is_up for link in links),
            "routes": len(self.routes),
        }

    def stop(self, why: str) -> None:
        """Take no more calls, and fail those that still wait."""
        self.stopped = why
        self.version += 1
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        calls, self.calls = self.calls, {}
        for call in calls.values():
            unsent = call.link is not None and any(p.number for p in call.route.waiting)
            certainty = NOT_SENT if unsent else MAYBE_EXECUTED
            call.fail(NodeStopped(why, certainty=certainty, actor=call.route.name, method=call.message.name))
        for route in self.routes.values():
            for parcel in route.waiting:
                if parcel.taken is not None and not parcel.taken.done():
                    parcel.taken.set_exception(NodeStopped(why, certainty=NOT_SENT, actor=route.name))
            route.waiting.clear()
