"""The router: the verbs of a ref.

It is the `Caller` behind every ref of the node. An ask, a told message or a stream is aimed by its
route (`routes`), and goes to the cell here or, packed, to a peer's link. What most calls are is
written out in `ask` and `tell`; what few have (options, a running turn, large arguments) is in
`_ask` and `_tell`.
"""

from __future__ import annotations

import asyncio
import math
import os
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import (
    MAYBE_EXECUTED,
    NOT_SENT,
    ActorStopped,
    CallCycle,
    CallError,
    CallTimeout,
    CodecError,
    NodeStopped,
    RingcastError,
)

from ..actors.messages import Message
from ..actors.ref import ActorRef, display
from ..actors.turn import CHAIN, DEADLINE, TRACE, ChainEntry, Turn, new_chain, running_turn
from . import wire
from .calls import PLAIN, SCALARS, Call, LocalSink, Parcel, StreamCall, unencodable
from .cell import NOT_NOW, SUSPENDED
from .envelope import Envelope
from .failures import error_from_wire, error_to_wire, steers
from .inflight import InFlight
from .limits import Limits, no_time
from .outlet import FLUSH_AT
from .routes import Route, Routes
from .streams import Inflow, StreamDeadline
from .tenancy import check_run
from .transaction import open_transaction
from .wire import PIECE_BYTES, TELL  # names of the module itself: looked up for each message

if TYPE_CHECKING:
    from ..discovery.gate import Gate
    from .cell import Cell
    from .host import Host
    from .vigil import Vigil


_FOREVER = math.inf

ALMOST = FLUSH_AT - 1
"""Frames that are gathered before the one that has them written."""


def _ttl(seconds: float) -> int:
    """Return a limit for the wire: whole milliseconds, at least one."""
    return int(seconds * 1000) or 1


class Router:
    """The calls of one node. Also the `Caller` that refs are bound to."""

    def __init__(
        self,
        node_id: str,
        ask_timeout: float,
        copy_local: bool,
        in_flight_bytes: int,
        link_in_flight_bytes: int,
        gate: Gate,
        vigil: Vigil,
    ) -> None:
        """Start with no view; the node sets the parts and the loop before the first call."""
        self.node_id = node_id
        self.gate = gate
        self.vigil = vigil
        self.loop: asyncio.AbstractEventLoop
        self.ask_timeout = ask_timeout
        self.copy_local = copy_local
        self.host: Host
        # Not from 0: an answer to an earlier run of this node, by way of others, must not be taken for one to this.
        self.number = self._first_number = int.from_bytes(os.urandom(4)) >> 2
        self.calls: dict[int, Call] = {}
        self.routes = Routes(node_id, self.calls, vigil)
        self.in_flight = InFlight(in_flight_bytes)
        self.link_in_flight_bytes = link_in_flight_bytes
        self.sink = self.routes.sink = LocalSink(self, node_id)
        self.holding: dict[object, list[tuple[str, Any]]] = {}
        self.stopped: str | None = f"node {node_id} has not started; use `async with node:`"
        self.limits = Limits(node_id, self.calls, self._ask_where, self.routes.slow, self.routes.crowded, ask_timeout)

    # ---- the verbs -----------------------------------------------------------------------------

    def ask(self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | tuple[Any]:
        """Send an ask at once; see `Caller.ask`. The common case is written out, for speed."""
        route: Route | None = ref._route
        if route is None or route.version != self.routes.version:
            route = self.aim(ref, message)
        if kwargs or ref._options is not None or running_turn() is not None or self.holding:
            return self._ask(ref, route, message, args, kwargs, None)
        number = self.number = self.number + 1
        now = monotonic()
        link = route.link
        if link is None:
            for arg in args:
                if type(arg) not in SCALARS:
                    args, _ = self.isolate_arguments(args, {})
                    break
            cell = route.kind.cells.get(route.key)
            if cell is None:
                cell = self.host.activate(route.kind, route.key)
            host = self.host
            may_begin = cell.task is None and message.may_begin and (now < host.inline_until or host.open_window(now))
            if may_begin and message.only_moves:
                value = cell.move_now(message, args, now)
                if value is not NOT_NOW:
                    if monotonic() >= self.gate.until_monotonic:
                        return self._answered_late(route, message, number, now + self.ask_timeout, value)
                    return (value if type(value) in SCALARS else self._answer(route, message, value),)
            deadline = now + (message.options.timeout or self.ask_timeout)
            envelope: Envelope = (message, args, None, self.sink, number, deadline, (), None)
            value = NOT_NOW
            if may_begin:
                try:
                    value = cell.run_now(envelope, now)
                except (Exception, asyncio.CancelledError) as error:
                    raise self.localize(error) from None
                if value is not NOT_NOW and value is not SUSPENDED:
                    if monotonic() >= self.gate.until_monotonic:
                        return self._answered_late(route, message, number, deadline, value)
                    return (value if type(value) in SCALARS else self._answer(route, message, value),)
            call = self.calls[number] = Call(loop=self.loop)
            call.number = number
            call.deadline = deadline
            call.route = route
            call.message = message
            call.link = call.parcel = None
            if value is NOT_NOW:
                cell.accept_local(envelope)
        else:
            for arg in args:
                if type(arg) not in PLAIN:
                    return self._ask(ref, route, message, args, kwargs, None)
            pack = link.pack
            deadline = now + (message.options.timeout or self.ask_timeout)
            ttl = int((deadline - now) * 1000) or 1  # `_ttl`, written out
            try:
                frame = pack([wire.REQUEST, number, message.number, route.key, ttl, self.routes.view_number, *args])
            except CodecError:
                raise self._cannot_travel(args, kwargs) from None
            call = self.calls[number] = Call(loop=self.loop)
            call.number = number
            call.deadline = deadline
            call.route = route
            call.message = message
            call.link = link
            call.parcel = frame
            if route.credit > 0 and not route.held and len(frame) < wire.PIECE_BYTES:
                route.credit -= 1
                link.send(message, frame)
            else:
                call.parcel = parcel = Parcel(message, number, frame, None, None)
                self.routes.send(route, parcel)
        if not self.limits.are_watched:
            self.limits.watch()
        return call

    def _answered_late(self, route: Route, message: Message, number: int, deadline: float, value: Any) -> Call:
        """Return a call whose answer was there at once, and may not leave now."""
        call = self.calls[number] = Call(loop=self.loop)
        call.number = number
        call.deadline = deadline
        call.route = route
        call.message = message
        call.link = call.parcel = None
        self.sink.reply(number, value)
        self.limits.watch()
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
        options = ref._options
        turn = running_turn()
        now = monotonic()
        limit = (options.timeout if options is not None else None) or message.options.timeout or self.ask_timeout
        chain: tuple[ChainEntry, ...] = ()
        trace: str | None = None
        if turn is not None:
            cell: Cell = turn[0]
            check_run(cell)
            trace = self.trace_of(turn)
            if options is None or not options.detached:
                chain = (*turn[2][CHAIN], (cell.kind.name, cell.key, cell.epoch, turn[1]))
                if stream is None:
                    limit = min(limit, turn[2][DEADLINE] - now)
                    if limit <= 0:
                        raise no_time(route, message, self.node_id)
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
            deadline = StreamDeadline(limit)
            stream.limit = limit
        call.number = number
        call.route = route
        call.message = message
        call.link = link
        call.parcel = None
        if link is None:
            if kwargs or not all(type(arg) in SCALARS for arg in args):
                args, kwargs = self.isolate_arguments(args, kwargs)
            self.calls[number] = call
            envelope: Envelope = (message, args, kwargs or None, self.sink, number, deadline, chain, trace)
            try:
                self.host.deliver(route.kind, route.key, envelope, once)
            except CallError:
                del self.calls[number]
                raise
        else:
            meta = [list(args), kwargs, [list(entry) for entry in chain], trace, None, 0, once]
            head = [wire.REQUEST_X, number, message.number, route.key, _ttl(limit), self.routes.view_number, meta]
            call.parcel = parcel = self._parcel(route, message, number, head, args, kwargs)
            parcel.is_nested = turn is not None
            parcel.limit = limit
            self.calls[number] = call
            self.routes.send(route, parcel)
        if not self.limits.are_watched:
            self.limits.watch()
        return call

    def tell(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[None] | None:
        """Send a told message; see `Caller.tell`. The common case is written out, for speed."""
        route: Route | None = ref._route
        if route is None or route.version != self.routes.version:
            route = self.aim(ref, message)
        if kwargs or ref._options is not None or running_turn() is not None:
            return self._tell(ref, route, message, args, kwargs)
        link = route.link
        if link is None:
            for arg in args:
                if type(arg) not in SCALARS:
                    args, _ = self.isolate_arguments(args, {})
                    break
            cell = route.kind.cells.get(route.key)
            if cell is None and (cell := self._activated(route, message)) is None:
                return None
            envelope: Envelope = (message, args, None, None, 0, _FOREVER, (), None)
            queue = cell.queue
            if cell.task is not None and queue is not None and not cell.parked and len(queue) < route.kind.bound:
                queue.append(envelope)  # `Mailbox.accept_local` of an actor that is at work, written out
                return None
            accepted = cell.accept_local(envelope)
            return None if accepted is None else self.limits.accepted(accepted, route, message, self.ask_timeout)
        if len(args) == 1:  # as most have: without a loop, and a list that grows
            [arg] = args
            if type(arg) not in PLAIN:
                return self._tell(ref, route, message, args, kwargs)
            told = [TELL, message.number, route.key, self.routes.view_number, arg]
        else:
            for arg in args:
                if type(arg) not in PLAIN:
                    return self._tell(ref, route, message, args, kwargs)
            told = [TELL, message.number, route.key, self.routes.view_number, *args]
        pack = link.pack
        try:
            frame = pack(told)
        except CodecError:
            raise self._cannot_travel(args, kwargs) from None
        if route.credit > 0 and not route.held and len(frame) < PIECE_BYTES:
            route.credit -= 1
            out = link._out
            if link._gathers and len(out) < ALMOST and message.number in link._defined:
                out.append(frame)  # `Outlet.send` of what only adds to what is gathered, written out
            else:
                link.send(message, frame)
            connection = link.connection
            return link.drained() if connection is not None and connection.is_paused else None  # `Link.is_full`
        parcel = Parcel(message, 0, frame, None, self.loop.create_future())
        return self._sent(route, parcel, self.ask_timeout)

    def _tell(
        self,
        ref: ActorRef,
        route: Route,
        message: Message,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        saved: Turn | None = None,
    ) -> Awaitable[None] | None:
        """Send a told message with everything that the common case leaves out.

        `saved` is the turn that told it, if that is over: its limit does not hold any more.
        """
        if saved is None and (transaction := open_transaction()) is not None:
            args, kwargs = self.isolate_arguments(args, kwargs)
            transaction.keep(partial(self._tell_kept, transaction.turn, ref, message, args, kwargs))
            return None
        options = ref._options
        turn = saved if saved is not None else running_turn()
        now = monotonic()
        own = options.timeout if options is not None else None
        deadline = math.inf if own is None else now + own
        limit = own or self.ask_timeout
        trace = None
        if turn is not None:
            check_run(turn[0])
            trace = self.trace_of(turn)
            if saved is None and not (options and options.detached):
                limit = max(min(limit, turn[2][DEADLINE] - now), 0.0)
        link = route.link
        if link is None:
            args, kwargs = self.isolate_arguments(args, kwargs)
            cell = route.kind.cells.get(route.key)
            if cell is None and (cell := self._activated(route, message)) is None:
                return None
            accepted = cell.accept_local((message, args, kwargs or None, None, 0, deadline, (), trace))
            return None if accepted is None else self.limits.accepted(accepted, route, message, limit)
        ttl = None if own is None else _ttl(own)
        head = [wire.TELL_X, message.number, route.key, self.routes.view_number, [list(args), kwargs, ttl, trace, 0]]
        parcel = self._parcel(route, message, 0, head, args, kwargs)
        parcel.taken = self.loop.create_future()
        parcel.is_nested = turn is not None
        return self._sent(route, parcel, limit)

    def _tell_kept(
        self, turn: Turn, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Send what a turn told, now that it is saved; nobody waits, so a refusal is a dead letter."""

        def refused(error: BaseException) -> None:
            self.host.dead.add(display(ref._type_name, ref._key), message.name, str(error))

        async def taken(waiting: Awaitable[None]) -> None:
            try:
                await waiting
            except RingcastError as error:
                refused(error)

        try:
            waiting = self._tell(ref, self.aim(ref, message), message, args, kwargs, turn)
        except RingcastError as error:
            refused(error)
            return
        if waiting is not None:
            self.host.background(taken(waiting))

    def _sent(self, route: Route, parcel: Parcel, limit: float) -> Awaitable[None] | None:
        """Send a told message as far as there is credit."""
        taken = parcel.taken
        assert taken is not None
        if route.crowd is not None:
            self.routes.admit_teller(route, parcel, limit)
        self.routes.send(route, parcel)
        if not taken.done():
            return self.limits.accepted(taken, route, parcel.message, limit)
        taken.result()  # raises what refused it
        return None

    def _parcel(
        self,
        route: Route,
        message: Message,
        number: int,
        head: list[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Parcel:
        """Return what is to be sent by a route that leads to a peer."""
        link = route.link
        assert link is not None
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

    def stream(self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inflow:
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
        turn = running_turn()
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
        name = display(ref._type_name, ref._key)
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
        if not call.is_waiting:
            self._cancel(call, number, expired=False)

    def abandon_later(self, number: int, holder: object, held: tuple[str, Any]) -> None:
        """Close a stream from wherever a collector runs."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._release, holder, held)
            self.loop.call_soon_threadsafe(self.abandon, number)

    def _cancel(self, call: Call, number: int, *, expired: bool) -> bool:
        """Cancel a call at its owner, or ask where it is; return False if this node has it not, and should."""
        route = call.route
        if call.link is None:
            return self.host.cancel(route.kind, route.key, self.sink, number, expired)
        if call.link.is_up:
            call.link.send_cancel(call.message, number, route.key, expired)
        return True

    def _ask_where(self, call: Call) -> bool:
        return self._cancel(call, call.number, expired=True)

    def aim(self, ref: ActorRef, message: Message) -> Route:
        """Return the route of a ref, aimed at the present owner.

        Raises:
            NodeStopped: If this node does not run.
            Unreachable: If no member hosts the actor; certainty NOT_SENT.
        """
        if self.stopped is not None:
            raise NodeStopped(self.stopped, certainty=NOT_SENT, method=message.name, node=self.node_id)
        try:
            route = self.routes.to(ref._type_name, ref._key, ref._node)
        except CallError as error:
            error.method = message.name
            raise
        ref._route = route
        return route

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

    def _activated(self, route: Route, message: Message) -> Cell | None:
        """Activate the actor of a told message; what is told to one that has ended is a dead letter."""
        try:
            return self.host.activate(route.kind, route.key)
        except ActorStopped as error:
            self.host.dead.add(route.name, message.name, str(error))
            return None

    def localize(self, error: BaseException) -> BaseException:
        """Return an error as a caller on this node sees it: as if it had travelled."""
        if (error.__traceback__ is None or not self.copy_local) and not steers(error):
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
        return {
            "calls": self.number - self._first_number,
            "calls_pending": len(self.calls),
            "calls_refused": self.routes.refused,
            "routes": len(self.routes),
            "in_flight_bytes": self.in_flight.bytes,
            "peers_held": self.in_flight.held,
        }

    def stop(self, why: str) -> None:
        """Take no more calls, and fail those that still wait."""
        self.stopped = why
        self.limits.stop()
        self.in_flight.stop()
        self.routes.stop(why)
        for call in self.calls.values():
            call.fail(NodeStopped(why, certainty=MAYBE_EXECUTED, actor=call.route.name, method=call.message.name))
        self.calls.clear()
