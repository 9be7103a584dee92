"""What arrives from peers and is not the common case: activation, forwarding, options, cancels.

A request for an actor without a cell here either belongs here, and activates it, or is sent on to
the owner, and the sender is told. If the sender has seen a newer view than this node, the request
waits for that view, `HOLD` seconds at most.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, CallError, CodecError, NotAllowed, RingcastError, Unreachable

from ..actors.messages import Message
from ..actors.ref import display, is_spawned
from . import wire
from .behalf import Behalf, ErrorSink, Seals, check_exposed, named_message
from .envelope import Envelope
from .link import CANCELLED_KEPT, CANCELLED_MAX
from .mailbox import burden, lighten
from .ring import check_key
from .streams import StreamDeadline

if TYPE_CHECKING:
    from .calls import Call, Parcel
    from .cell import Cell
    from .guard import Guard
    from .host import Host
    from .kinds import Kind
    from .link import Link
    from .peers import Peers
    from .router import Router

HOLD = 0.25
"""Seconds that a message waits here for the view that its sender has seen already."""

HOLD_FIRST = 2.0
"""The same on a node that has no view yet."""

STRANGERS_MAX = 256
"""Nodes that are asked for answers to be sent to, and that no view has shown yet."""

TEXT_MAX = 1024
"""Characters of an idempotency key, or of the name of a chain."""

CHAIN_ENTRY = ("class name", "key", "epoch", "turn")

Verb = Callable[..., Awaitable[Any]]


class Arrivals:
    """Takes in what peers send, apart from the hot path in `Link.receive`."""

    def __init__(self, node_id: str, host: Host, router: Router) -> None:
        """Belong to one node; `peers`, `verbs`, `seals` and `guard` are set when these are there."""
        self.node_id = node_id
        self.host = host
        self.router = router
        self.peers: Peers
        self.verbs: dict[str, Verb] = {}
        self.seals: Seals
        self.guard: Guard
        self.forwarded = 0

    # ---- requests and tells ------------------------------------------------------------------------

    def message(self, link: Link | None, kind: Kind, message: Message, frame: list[Any]) -> None:
        """Take in a request or a told message; without a link, one of this node's own that came back."""
        code = frame[0]
        if code == wire.FOR_CLIENT:
            self.for_client(link, frame)
            return
        args: list[Any]
        kwargs: dict[str, Any] = {}
        chain: tuple[Any, ...] = ()
        number, ttl, trace, origin, hops, once = 0, None, None, None, 0, None
        if code == wire.REQUEST:
            _, number, _, key, ttl, version, *args = frame
        elif code == wire.TELL:
            _, _, key, version, *args = frame
        elif code == wire.REQUEST_X:
            _, number, _, key, ttl, version, (args, kwargs, links, trace, origin, hops, once) = frame
            chain = tuple(tuple(entry) for entry in links)
        else:
            _, _, key, version, (args, kwargs, ttl, trace, hops) = frame
        if type(args) is not list or type(kwargs) is not dict or not all(type(name) is str for name in kwargs):
            raise CodecError("a message whose arguments are none")
        if not all(len(entry) == len(CHAIN_ENTRY) and isinstance(entry[0], str) for entry in chain):
            raise CodecError("a message of a chain that is none")
        self._check(number, ttl, trace, origin, hops, once)
        if key not in kind.cells and not is_spawned(key):
            check_key(key)
        if message.function is None and (known := kind.message(message.name)) is not None:
            message = known
        sink = self._sink(link, origin, number) if code in (wire.REQUEST, wire.REQUEST_X) else None
        deadline = math.inf if ttl is None else monotonic() + ttl * 0.001
        if message.streams and ttl is not None:
            deadline = StreamDeadline(ttl * 0.001)
        if link is not None:
            chain = link.weigh(chain)
        envelope: Envelope = (message, args, kwargs or None, sink, number, deadline, chain, trace)
        if link is not None and number and link.cancelled and self.was_cancelled(link, number):
            link.grant(message, key, 1)
            return
        self._place(link, kind, key, envelope, version, hops, once)

    def _check(self, number: Any, ttl: Any, trace: Any, origin: Any, hops: Any, once: Any) -> None:
        """Refuse a message whose parts are not what they have to be; what they would harm comes later.

        Raises:
            CodecError: If one is not.
        """
        if not (
            type(number) is int
            and (ttl is None or type(ttl) is int)
            and type(hops) is int
            and all(one is None or (type(one) is str and len(one) <= TEXT_MAX) for one in (trace, origin, once))
        ):
            raise CodecError("a message whose number, limit or names are none")
        is_stranger = origin not in (None, self.node_id) and origin not in self.peers.links
        if is_stranger and len(self.peers.links) > len(self.host.kinds.members) + STRANGERS_MAX:
            # One may be a member of a view that is not here yet; many are made up.
            raise CodecError(f"a message of node {origin!r:.100}, which is none of the members")

    def _sink(self, link: Link | None, origin: str | None, number: int) -> ErrorSink:
        """Return where the answer goes to a message that came over a link, or from here; `origin` if it was sent on."""
        if origin not in (None, self.node_id):
            return self.peers.link(origin)
        if link is not None and origin is None:
            return link
        call = self.router.calls.get(number)
        if call is not None:
            call.link = None  # it has come back: its answer does not depend on who has sent it on
        return self.router.sink

    def for_client(self, link: Link | None, frame: list[Any]) -> None:
        """Take in a call that a gateway makes for a client; without a link, this node is the gateway."""
        _, number, class_name, method, key, ttl, version, (sealed, packed, is_told, trace, origin, hops, once) = frame
        if not (type(class_name) is type(method) is str and type(sealed) is type(packed) is bytes):
            raise CodecError("a client's call whose parts are none")
        self._check(number, ttl, trace, origin, hops, once)
        if not is_spawned(key):
            check_key(key)
        kind = self.host.kinds.named(class_name)
        message = kind.message(method) or named_message(class_name, method)
        sink = Behalf(self._sink(link, origin, number), packed, is_told, self.seals)
        deadline = math.inf if ttl is None else monotonic() + ttl * 0.001
        if message.streams and ttl is not None:
            deadline = StreamDeadline(ttl * 0.001)
        if link is not None and link.cancelled and self.was_cancelled(link, number):
            link.grant(message, key, 1)
            return
        chain = () if link is None else link.weigh(())
        self._place(link, kind, key, (message, sealed, None, sink, number, deadline, chain, trace), version, hops, once)

    def _opened(self, envelope: Envelope, key: Any) -> Envelope:
        """Return a client's call with its arguments, if it is allowed.

        Raises:
            NotAllowed: If the handler is closed to clients.
            CodecError: If the arguments cannot be decoded.
            CallError: If a stream was told.
        """
        message, sealed, _, sink, number, deadline, chain, trace = envelope
        check_exposed(message, key)
        if message.streams and not isinstance(deadline, StreamDeadline):
            raise CallError(f"{message.name} streams its reply: iterate over it", certainty=NOT_SENT)
        try:
            args, kwargs = self.seals.arguments(sealed)
        except CodecError as error:
            raise CodecError(f"the arguments could not be decoded on node {self.node_id}: {error}") from None
        return (message, args, kwargs or None, sink, number, deadline, chain, trace)

    def _place(
        self, link: Link | None, kind: Kind, key: Any, envelope: Envelope, version: int, hops: int, once: str | None
    ) -> None:
        """Deliver a message to its cell here, or send it on."""
        if is_spawned(key) and key not in kind.cells:
            self.host.lives.seeker.seek(link, kind, key, envelope, hops, once)
            return
        self.place(link, kind, key, envelope, hops, once, version)

    def place(
        self,
        link: Link | None,
        kind: Kind,
        key: Any,
        envelope: Envelope,
        hops: int,
        once: str | None,
        version: int = 0,
    ) -> None:
        """Deliver a message to its cell here, or say why not; one to a keyed actor may be sent on."""
        message = envelope[0]
        cell = kind.cells.get(key)
        try:
            kinds = self.host.kinds
            if cell is None and not is_spawned(key) and kinds.owner_or_none(kind, key) != self.node_id:
                if version > self.router.routes.view_number and hops < wire.MAX_HOPS:
                    burden(envelope)

                    def again(waited: asyncio.Task[None]) -> None:
                        if not waited.cancelled():
                            waited.exception()  # the node has ended, which is said below
                        lighten(envelope)
                        self._place(link, kind, key, envelope, self.router.routes.view_number, hops, once)

                    # Who is just let in is known to the others before it knows them.
                    seconds = HOLD if kinds.view is not None else HOLD_FIRST
                    self.host.background(self.host.wait_for_view(seconds)).add_done_callback(again)
                    return
                kinds.owner(kind, key, None)  # raises if there is none
                if link is not None:
                    link.grant(message, key, 1)
                self.forwarded += 1
                self.router.routes.forward(kind, key, envelope, hops, once)
                return
            if message.function is None:
                raise self._unknown(kind, key, message)
            if type(envelope[1]) is bytes:
                envelope = self._opened(envelope, key)
            if cell is None:
                cell = self.host.activate(kind, key)
            admitted = self.host.admit(cell, envelope, once)
        except (CallError, CodecError, NotAllowed) as error:
            self.refuse(link, key, envelope, error)
            return
        except (LookupError, TypeError, ValueError) as error:
            # Not the connection's fault: a client or a limited node may have written it, and others sent it on.
            self.refuse(link, key, envelope, CodecError(f"{message.name}: it came as what is no message: {error!r}"))
            return
        if admitted is None:
            if link is not None:
                link.grant(message, key, 1)
        elif link is None:
            self._accept_own(cell, admitted)
        else:
            burden(admitted)
            cell.accept_remote(admitted, link)

    def _accept_own(self, cell: Cell, envelope: Envelope) -> None:
        """Put a message of this node into the mailbox; a client's waits for room there."""
        call = self.router.calls.get(envelope[4]) if envelope[3] == self.router.sink else None
        accepted = None if call is None else call.accepted
        if accepted is None or accepted.done():
            cell.accept(envelope)
        elif cell.accept_local(envelope, accepted) is None:
            accepted.set_result(None)

    def refuse(self, link: Link | None, key: Any, envelope: Envelope, error: RingcastError) -> None:
        """Answer a message with an error; what was told and has nobody to hear of it is a dead letter."""
        message, sink = envelope[0], envelope[3]
        if link is not None:
            link.grant(message, key, 1)
        if sink is not None:
            sink.fail(envelope[4], error)
        elif link is not None:
            link.send(message, link.pack([wire.LOST, message.number, key, str(error)]))
        else:
            self.host.dead.add(display(message.class_name, key), message.name, str(error))

    def _unknown(self, kind: Kind, key: Any, message: Message) -> CallError:
        if not kind.is_here:
            what = f"node {self.node_id}, which owns it, has not imported its class"
        else:
            what = f"{kind.name} has no message {message.name!r} on node {self.node_id}; is its code older there?"
        return Unreachable(
            f"{display(kind.name, key)}.{message.name}: {what}",
            certainty=NOT_SENT,
            actor=display(kind.name, key),
            method=message.name,
            node=self.node_id,
        )

    def lost(self, kind: Kind, message: Message, key: Any, reason: str) -> None:
        """A told message of ours was dropped by the peer."""
        self.host.dead.add(display(kind.name, key), message.name, reason)

    def place_again(self, parcel: Parcel) -> None:
        """Place a message anew that was to be sent on to a node which is a member no more."""
        frame = self.host.codec.unpack_parts(parcel.frame, parcel.buffers or ())
        self.message(None, self.host.kinds.named(parcel.message.class_name), parcel.message, frame)

    def undeliverable(self, parcel: Parcel, reason: str) -> None:
        """A message that was to be sent on has nowhere to go."""
        frame = self.host.codec.unpack_parts(parcel.frame, parcel.buffers or ())
        if frame[0] == wire.FOR_CLIENT:
            name = display(frame[2], frame[4])
            error = Unreachable(f"{name}: {reason}", certainty=NOT_SENT, actor=name, method=frame[3])
            self._sink(None, frame[7][4], frame[1]).refuse(frame[1], self.seals.error(error))
            return
        key = frame[3] if frame[0] == wire.REQUEST_X else frame[2]
        if frame[0] == wire.REQUEST_X:
            origin = frame[6][4]
            name = display(parcel.message.class_name, key)
            error = Unreachable(f"{name}: {reason}", certainty=NOT_SENT, actor=name, method=parcel.message.name)
            sink = self.router.sink if origin in (None, self.node_id) else self.peers.link(origin)
            sink.fail(frame[1], error)
        else:
            self.host.dead.add(display(parcel.message.class_name, key), parcel.message.name, reason)

    def blamed(self, call: Call, error: BaseException) -> BaseException:
        """Fill in what an error that came back does not know: whom the caller had asked."""
        if isinstance(error, CallError) and error.actor is None:
            error.actor, error.method = call.route.name, call.message.name
            error.args = (f"{error.actor}.{error.method}: {error.args[0]}",)
        return error

    def streamed(self, link: Link, call: Call) -> None:
        """An ask of ours is answered by a stream: its class is not imported here, so its ref did not know."""
        self.router.calls.pop(call.number, None)
        call.fail(
            TypeError(
                f"{call.route.name}.{call.message.name} streams its reply, and its class is not imported on node "
                f"{self.node_id}: import it there, and iterate"
            )
        )
        link.send_cancel(call.message, call.number, call.route.key, False)

    # ---- cancels and streams -------------------------------------------------------------------------

    def cancel(self, link: Link, kind: Kind, message: Message, number: int, key: Any, expired: bool) -> None:
        """Cancel a call of the peer; if it has not come yet, it will be dropped when it does."""
        if self.host.cancel(kind, key, link, number, expired):
            return
        now = monotonic()
        self.forget_old_cancels(link, now)
        link.cancelled[number] = now + CANCELLED_KEPT
        if len(link.cancelled) > CANCELLED_MAX:
            del link.cancelled[next(iter(link.cancelled))]

    def was_cancelled(self, link: Link, number: int) -> bool:
        """Whether the peer has cancelled a call before it was placed; asked once."""
        now = monotonic()
        until = link.cancelled.pop(number, 0.0)
        self.forget_old_cancels(link, now)
        return until > now

    def forget_old_cancels(self, link: Link, now: float) -> None:
        """Forget the oldest: most were too late for an answer."""
        while link.cancelled:
            oldest, until = next(iter(link.cancelled.items()))
            if until > now:
                return
            del link.cancelled[oldest]

    def pull(self, link: Link, number: int, count: int) -> None:
        """The reader of a stream has room for more."""
        self.host.pull(link, number, count)

    def link_lost(self, link: Link) -> None:
        """A peer is not connected any more: its streams have no reader."""
        link.cancelled.clear()
        self.host.close_streams(link)

    # ---- node to node --------------------------------------------------------------------------------

    def system(self, link: Link, number: int, verb: str, args: list[Any]) -> None:
        """Carry out what another node asks of this one."""
        run = self.verbs.get(verb)
        if run is None:
            link.fail(number, CallError(f"node {self.node_id} knows no verb {verb!r}", certainty=NOT_SENT))
            return

        async def answer() -> None:
            try:
                value = await run(*args)
            except Exception as error:
                link.fail(number, error)
            else:
                link.reply(number, value)

        self.host.background(answer())
