"""Routes: this node's way to each actor that it speaks with.

A `Route` knows the owner by the ring (or the node of a spawned actor), the link to it, and how much
credit is left there. A ref keeps its route; a view that changes makes all routes stale at once, by a
number, and each is aimed anew when it is next used.

Messages without credit, or to a peer that is not connected, wait in their route, in order; what
waits was certainly not sent, and goes to the new owner when the view changes.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Collection
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from ringcast.errors import MAYBE_EXECUTED, NOT_SENT, ActorStopped, CallError, NodeStopped, Unreachable

from ..actors.ref import display, is_spawned
from . import wire
from .behalf import PASSING, Behalf
from .calls import Call, Parcel
from .envelope import Envelope, Sink
from .limits import no_room_in_time, not_in_time
from .once import Remembered
from .strain import Strain
from .streams import StreamDeadline

if TYPE_CHECKING:
    from .arrivals import Arrivals
    from .host import Host
    from .kinds import Kind
    from .link import Link
    from .vigil import Vigil

IDLE = 30.0
"""Seconds after which a route that is not used is forgotten."""

ADRIFT = 1.0
"""Seconds that whoever has sent a call on to a node that is gone has, to hear of that and send it elsewhere."""

NOTHING: Final[deque[Parcel]] = deque(maxlen=0)
"""What waits in a route in which nothing has waited yet: a deque of its own takes more than the rest of it."""


class Linked(Protocol):
    """Who has the links: a node's peers, or a client's one."""

    def link(self, node_id: str) -> Link:
        """Return the link to a node."""
        ...


class Route:
    """This node's way to one actor."""

    __slots__ = (
        "credit",
        "crowd",
        "held",
        "kept",
        "key",
        "kind",
        "link",
        "node",
        "strain",
        "used",
        "version",
        "waiting",
    )

    def __init__(self, kind: Kind, key: Any, node: str | None) -> None:
        """Aim at nothing yet."""
        self.kind = kind
        self.key = key
        self.node = node
        self.version = 0
        self.link: Link | None = None
        self.credit = 0
        self.kept = 0
        """Credit that is set aside: new messages to the node are held back, or the actor is under strain."""
        self.held = 0
        """Large messages under way; later ones wait so that none overtakes."""
        self.waiting: deque[Parcel] = NOTHING
        """Messages that wait to be sent; `wait` puts them there."""
        self.used = 0.0
        self.strain: Strain | None = None
        """What is seen of an actor that lets limits pass; None for others."""
        self.crowd: Strain | None = None
        """The same of told messages that wait for room."""

    def wait(self, parcel: Parcel) -> None:
        """Put a message behind the others."""
        if self.waiting is NOTHING:
            self.waiting = deque()
        self.waiting.append(parcel)

    @property
    def name(self) -> str:
        """The actor's name for people."""
        return display(self.kind.name, self.key)


def _is_counted(call: Call) -> bool:
    """Whether a call waits for the ones before it, and has one answer within one limit."""
    return call.deadline < math.inf and not call.message.options.read_only


class Routes:
    """The routes of one node, and what waits in them."""

    def __init__(self, node_id: str, calls: dict[int, Call], vigil: Vigil) -> None:
        """Start with no view; the node sets the loop and the parts before the first call."""
        self.loop: asyncio.AbstractEventLoop
        self.host: Host
        self.peers: Linked
        self.arrivals: Arrivals
        self.sink: Sink
        self.version = 1
        """Grows with each view: a route of another version is stale."""
        self.view_number = 0
        self._node_id = node_id
        self._vigil = vigil
        self._calls = calls
        self._routes: dict[tuple[str, Any, str | None], Route] = {}
        self._spawned: dict[tuple[str, Any], list[Route]] = {}
        self.has_register = False
        """Whether the places of spawned actors can be asked for; a client's node does that for it."""
        self._tidier: asyncio.TimerHandle | None = None
        self.refused = 0
        """Calls that were not sent, for their actors were too far behind to answer in time."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._routes)

    # ---- aiming ------------------------------------------------------------------------------

    def to(self, type_name: str, key: Any, node: str | None) -> Route:
        """Return the route to an actor, aimed at its present owner; `node` is where a spawned one runs.

        Raises:
            Unreachable: If no member hosts the actor; certainty NOT_SENT.
        """
        # By node, too: a client may name any, and must not lead others' calls there.
        route = self._routes.get((type_name, key, node))
        if route is None:
            route = self._routes[type_name, key, node] = Route(self.host.kinds.named(type_name), key, node)
            if node is not None:
                self._spawned.setdefault((type_name, key), []).append(route)
            if self._tidier is None:
                self._tidier = self.loop.call_later(IDLE, self._tidy)
        self._aim(route)
        return route

    def _aim(self, route: Route) -> None:
        """Aim a route at the present owner, if the view has changed since."""
        if route.version == self.version:
            return
        owner = self._end_of(route)
        if owner is None:
            link: Link | None = self.host.lives.seeker.nowhere
            self.host.lives.seeker.look_up(route)
        else:
            link = None if owner == self._node_id else self.peers.link(owner)
        route.used = monotonic()
        if link is not route.link or route.version == 0:
            if route.link is not None:
                route.link.routes.pop(route, None)
            route.link = link
            route.held = 0
            route.strain = route.crowd = None
            if link is not None:
                link.routes[route] = None
                self._credit(route, wire.WINDOW if link.is_up else 0)
                if not link.is_up:
                    link.connect_soon()
        route.version = self.version
        if route.waiting:
            self._flush(route)

    def _end_of(self, route: Route) -> str | None:
        """Return the id of the node that a route leads to; None for a spawned actor that has to be asked for."""
        if route.node is None:  # most are of keyed actors, and have an owner
            kinds = self.host.kinds
            return kinds.owner_or_none(route.kind, route.key) or kinds.owner(route.kind, route.key, None)
        if not self.has_register or not is_spawned(route.key):  # or it leads to a node itself
            return self.host.kinds.owner(route.kind, route.key, route.node)
        return self.host.lives.register.whereabouts.of(route.kind.name, route.key, route.node)

    def found(self, type_name: str, key: Any) -> None:
        """It is known now where a spawned actor is, or it may be elsewhere: aim its routes anew."""
        for route in self._spawned.get((type_name, key), ()):
            route.version = -1
            if route.waiting:
                self._reaim(route)

    def lost(self, type_name: str, key: Any) -> list[Route]:
        """Return the routes to a spawned actor that is nowhere."""
        nowhere = self.host.lives.seeker.nowhere
        return [route for route in self._spawned.get((type_name, key), ()) if route.link is nowhere]

    def end(self, route: Route, error: CallError) -> None:
        """Refuse what waits for a spawned actor that has ended; what was told is a dead letter."""
        waiting, route.waiting = route.waiting, NOTHING
        route.version = -1
        for parcel in waiting:
            if parcel.taken is not None and not parcel.taken.done() and isinstance(error, ActorStopped):
                parcel.taken.set_result(None)
                self.host.dead.add(route.name, parcel.message.name, str(error))
            self._refuse(parcel, error)

    def view_changed(self, number: int) -> None:
        """Aim every route anew that has something waiting; the others when they are next used."""
        self.version += 1
        self.view_number = number
        for route in list(self._routes.values()):
            if route.waiting:
                self._reaim(route)

    def _reaim(self, route: Route) -> None:
        try:
            self._aim(route)
        except CallError as error:
            waiting, route.waiting = route.waiting, NOTHING
            for parcel in waiting:
                self._refuse(parcel, error)

    def _refuse_all(self, route: Route) -> None:
        """Refuse what waits in a route: its peer is not connected, and this node serves nothing."""
        waiting, route.waiting = route.waiting, NOTHING
        for parcel in waiting:
            self._refuse(parcel, self._vigil.refusal(route.name, parcel.message.name))

    def go_on(self) -> None:
        """The lease is back; peers that are back tell by their links."""

    def give_up(self) -> None:
        """The lease is lost: refuse what waits for peers that are not connected."""
        for route in list(self._routes.values()):
            if route.waiting and route.link is not None and not route.link.is_up:
                self._refuse_all(route)

    def fenced(self) -> None:
        """This run of the node is over: drop what its turns had still to say."""
        for route in self._routes.values():
            nested = [parcel for parcel in route.waiting if parcel.is_nested]
            for parcel in nested:
                route.waiting.remove(parcel)
                self._refuse(parcel, self._vigil.suppressed(NOT_SENT))

    def _refuse(self, parcel: Parcel, error: BaseException) -> None:
        if parcel.taken is not None and not parcel.taken.done():
            parcel.taken.set_exception(error)
        if parcel.number and (call := self._calls.pop(parcel.number, None)) is not None:
            call.fail(error)

    def forget(self, route: Route) -> bool:
        """Forget a route unless something waits in it; a ref that still has it aims anew."""
        if route.waiting or route.held:
            return False
        name = (route.kind.name, route.key, route.node)
        if self._routes.get(name) is route:
            route.version = -1
            if route.link is not None:
                route.link.routes.pop(route, None)
            del self._routes[name]
            if route.node is not None:
                routes = self._spawned[name[0], name[1]]
                routes.remove(route)
                if not routes:
                    del self._spawned[name[0], name[1]]
        return True

    def _tidy(self) -> None:
        """Forget routes that are not in use."""
        now = monotonic()
        in_use = {call.route for call in self._calls.values()}
        for route in list(self._routes.values()):
            if now - route.used >= IDLE and route not in in_use:
                self.forget(route)
        self._tidier = self.loop.call_later(IDLE, self._tidy) if self._routes else None

    # ---- sending -----------------------------------------------------------------------------

    def send(self, route: Route, parcel: Parcel) -> None:
        """Send a message, or let it wait behind the others in its route; under strain it may be refused."""
        if route.strain is not None and not self._admits(route, route.strain, parcel):
            return
        route.wait(parcel)
        self._flush(route)

    def _flush(self, route: Route) -> None:
        """Send what waits in a route, as far as there is credit; leave out what nobody waits for."""
        link = route.link
        waiting = route.waiting
        if link is not None and waiting and not link.is_up:
            if self._vigil.is_lost:
                self._refuse_all(route)
            else:
                link.connect_soon()
            return
        if route.kept:
            assert link is not None
            if link.is_held:
                self._flush_nested(route)
            else:  # under strain: what comes has been admitted
                route.credit, route.kept = route.kept, 0
                self._send_waiting(route, link)
                self._credit(route, route.credit + route.kept)
            return
        self._send_waiting(route, link)

    def _send_waiting(self, route: Route, link: Link | None) -> None:
        """Send what waits in a route."""
        waiting = route.waiting
        calls = self._calls
        strain = route.strain
        refused = 0
        while waiting and (link is None or (route.credit > 0 and not route.held)):
            parcel = waiting.popleft()
            call = calls.get(parcel.number)
            if (
                strain is not None  # then it may have waited here since it was admitted, and have no time left
                and call is not None
                and not parcel.is_again
                and _is_counted(call)
                and not self._in_time(route, strain, parcel, call, len(waiting) + refused + 1)
            ):
                refused += 1
                continue
            if link is None or call is None or parcel.is_large:
                route.credit -= self._leave(route, parcel)
                continue
            parcel.is_sent = True  # an ask, as most are: `_leave`, written out
            call.link = link
            call.parcel = parcel
            route.credit -= 1
            link.send(parcel.message, parcel.frame)

    def _flush_nested(self, route: Route) -> None:
        """Send what running turns have to say, while new messages to the node are held back."""
        nested = [parcel for parcel in route.waiting if parcel.is_nested]
        for parcel in nested:
            if route.kept <= 0 or route.held:
                return
            route.waiting.remove(parcel)
            route.kept -= self._leave(route, parcel)

    def _leave(self, route: Route, parcel: Parcel) -> int:
        """Send a message whose turn it is; return the credit that it takes, nothing if it was not sent to a peer."""
        link = route.link
        taken = parcel.taken
        call = self._calls.get(parcel.number)
        if (taken is not None and taken.done()) or (parcel.number and call is None):
            return 0
        is_large = parcel.is_large
        if link is not None and is_large and (error := link.too_large(parcel.size)) is not None:
            self._refuse(parcel, error)
            return 0
        parcel.is_sent = True
        if call is not None:
            call.link = link
            call.parcel = parcel
        if taken is not None:
            taken.set_result(None)
        if link is None:  # this node became the owner while it waited
            frame = self.host.codec.unpack_parts(parcel.frame, parcel.buffers or ())
            self.arrivals.message(None, route.kind, parcel.message, frame)
            return 0
        if is_large:
            route.held += 1
            link.send_bulk(parcel, route)
        else:
            link.send(parcel.message, parcel.frame)
        return 1

    def _credit(self, route: Route, credit: int) -> None:
        """Give a route its credit, or set it aside."""
        is_aside = route.strain is not None or (route.link is not None and route.link.is_held)
        route.credit, route.kept = (0, credit) if is_aside else (credit, 0)

    def hold(self, link: Link) -> None:
        """Let new messages to a node wait: it has too many that wait there, or the line to it is full.

        What running turns send goes on (see `inflight`).
        """
        for route in link.routes:
            self._credit(route, route.credit + route.kept)

    def release(self, link: Link) -> None:
        """Send them again."""
        for route in list(link.routes):
            self._credit(route, route.credit + route.kept)
            if route.waiting:
                self._flush(route)

    # ---- actors that have too much to do -----------------------------------------------------------

    def slow(self, slow: Collection[Call], late: Collection[Call], now: float) -> None:
        """Calls wait for long, or for too long: from now on it is seen how far their actors are behind."""
        new: set[Route] = set()
        for call in (*slow, *late):
            route = call.route
            if route.strain is None and route.link is not None and _is_counted(call):
                route.strain = Strain(now)
                self._credit(route, route.credit + route.kept)  # so that all that is new comes by `send`
                new.add(route)
        for call in late:
            if call.route.strain is not None and _is_counted(call):
                call.route.strain.late(now)
        if new:
            for call in self._calls.values():
                if call.route in new and call.route.strain is not None and _is_counted(call):
                    call.route.strain.count(call)

    def crowded(self, route: Route, now: float) -> Strain:
        """Tellers wait for long: from now on it is seen how quickly they find room; return what sees it."""
        if route.crowd is None:
            route.crowd = Strain(now)
        return route.crowd

    def admit_teller(self, route: Route, parcel: Parcel, limit: float) -> None:
        """Count a told message that has to wait for room.

        Raises:
            MailboxFull: If it would not find any within its limit, in seconds.
        """
        crowd, now = route.crowd, monotonic()
        assert crowd is not None, "who is not crowded admits all"
        assert parcel.taken is not None, "somebody waits for it"
        if crowd.is_over(now):
            route.crowd = None
        elif not crowd.admits(limit, now):
            self.refused += 1
            raise no_room_in_time(route, parcel.message, crowd, limit, self._node_id)
        else:
            crowd.count_teller(parcel.taken)

    def _admits(self, route: Route, strain: Strain, parcel: Parcel) -> bool:
        """Return whether a message is to be sent to an actor under strain; it is refused if not."""
        call = self._calls.get(parcel.number)
        now = monotonic()
        if strain.is_over(now):
            route.strain = None
            self._credit(route, route.credit + route.kept)
            return True
        if call is None or not _is_counted(call):
            return True
        if not self._in_time(route, strain, parcel, call, 0):
            return False
        strain.count(call)
        return True

    def _in_time(self, route: Route, strain: Strain, parcel: Parcel, call: Call, behind: int) -> bool:
        """Return whether there is time for a call, of which so many under way are not ahead; it is refused if not."""
        now = monotonic()
        left = call.deadline - now
        if strain.admits(left, now, behind):
            return True
        self.refused += 1
        self._refuse(parcel, not_in_time(route, call.message, strain, left, self._node_id))
        return False

    def bulk_sent(self, route: Route, link: Link) -> None:
        """A large message has left whole: those behind it may follow."""
        if route.link is link and route.held:
            route.held -= 1
            self._flush(route)

    def granted(self, kind_name: str, key: Any, node: str | None, link: Link, count: int) -> None:
        """A peer has found room for `count` messages to an actor; `node` is where a spawned one runs."""
        if node is not None and self.has_register:
            routes = [route for route in self._spawned.get((kind_name, key), ()) if route.link is link]
            route = min(routes, key=lambda route: route.credit + route.kept, default=None)
        else:
            route = self._routes.get((kind_name, key, node))
        if route is not None and route.link is link:
            self._credit(route, min(route.credit + route.kept + count, wire.WINDOW))
            if route.waiting:
                self._flush(route)

    # ---- peers come and go -----------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """A peer is connected: what waited for it is sent."""
        for route in list(link.routes):
            self._credit(route, wire.WINDOW)
            route.held = 0
            self._flush(route)

    def link_down(self, link: Link, why: str) -> None:
        """A connection has ended: calls under way on it have an unknown fate."""
        for route in link.routes:
            route.credit = route.kept = 0
            route.held = 0
        for number, call in list(self._calls.items()):
            if call.link is not link or call.is_waiting:
                continue
            if call.parcel is not None and self._may_run_again(call):
                self._again(call)
                continue
            self._lose(number, call, link.peer, why)
        if any(route.waiting for route in link.routes):
            link.connect_soon()

    def _lose(self, number: int, call: Call, node: str, why: str) -> None:
        """End a call of which nobody knows whether it has run."""
        del self._calls[number]
        call.fail(
            Unreachable(
                f"{call.route.name}.{call.message.name}: the connection to node {node} ended before the answer came "
                f"({why}); ask again if the call may run twice",
                certainty=MAYBE_EXECUTED,
                actor=call.route.name,
                method=call.message.name,
                node=node,
            )
        )

    def peer_gone(self, link: Link) -> None:
        """A member is gone to which this node was not connected: calls may have been sent on to it by others."""
        for number, call in list(self._calls.items()):
            if call.link is link and not call.is_waiting:
                self._adrift(number, call, link.peer)

    def _adrift(self, number: int, call: Call, node: str) -> None:
        """A call was sent on to a node that is gone: it is lost, or its sender still has it and sends it elsewhere."""
        if call.parcel is not None and self._may_run_again(call):
            self._again(call)
            return
        link = call.link

        def lose() -> None:
            if self._calls.get(number) is call and call.link is link:
                self._lose(number, call, node, "the node is gone, to which another one had sent it on")

        self.loop.call_later(ADRIFT, lose)

    def _may_run_again(self, call: Call) -> bool:
        """Whether a call may be sent twice: a read-only one, or one that a durable actor knows by its key."""
        message, sent = call.message, call.parcel
        if message.streams:
            return False
        if message.options.read_only:
            return True
        if not message.is_transaction or not isinstance(sent, Parcel):
            return False
        frame = self.host.codec.unpack_parts(sent.frame, sent.buffers or ())
        return frame[0] == wire.REQUEST_X and frame[6][6] is not None

    def _again(self, call: Call) -> None:
        """Send a call again: to the same owner once it is back, or to the next."""
        sent = call.parcel
        frame, buffers = (sent.frame, sent.buffers) if isinstance(sent, Parcel) else (sent, None)
        assert frame is not None
        call.parcel = parcel = Parcel(call.message, call.number, frame, buffers, None)
        parcel.is_again = True
        call.route.wait(parcel)
        self._reaim(call.route)
        self._flush(call.route)  # a route that was not stale is as it was

    # ---- forwarding ----------------------------------------------------------------------------

    def forward(
        self, kind: Kind, key: Any, envelope: Envelope, hops: int, once: str | None = None, to: str | None = None
    ) -> None:
        """Send a message that waited here, or arrived here, on to the actor's owner; `to` is a spawned one's node.

        The answer goes straight to whoever asked, who is told on whom it depends now.

        Raises:
            Unreachable: If nobody owns the actor, or the message was sent on too often.
        """
        message, args, kwargs, sink, number, deadline, chain, trace = envelope
        if isinstance(sink, Remembered):
            for waiting, waiter in sink.waiting():
                self.forward(
                    kind, key, (message, args, kwargs, waiting, waiter, deadline, chain, trace), hops, sink.key, to
                )
            return
        owner = self.host.kinds.owner(kind, key, None) if to is None else to
        if hops >= wire.MAX_HOPS:
            raise Unreachable(
                f"{display(kind.name, key)}.{message.name} was sent on {hops} times while its route was changing",
                certainty=NOT_SENT,
                actor=display(kind.name, key),
                method=message.name,
                node=self._node_id,
                place="in a route that was changing",
            )
        ttl: int | None
        if isinstance(deadline, StreamDeadline):
            ttl = int(deadline.limit * 1000)
        else:
            ttl = None if deadline == math.inf else max(int((deadline - monotonic()) * 1000), 0)
        link = self.peers.link(owner)
        head: list[Any]
        if sink is None:
            head = [
                wire.TELL_X,
                message.number,
                key,
                self.view_number,
                [list(args), kwargs or {}, ttl, trace, hops + 1],
            ]
        else:
            origin = sink.peer
            if isinstance(sink, Behalf):
                sealed = args if type(args) is bytes else sink.seals.seal([list(args), kwargs or {}])
                meta = [sealed, sink.packed, sink.is_told, trace, origin, hops + 1, once]
                names = kind.name, message.name
                head = [wire.FOR_CLIENT, number, *names, key, ttl, self.view_number, meta]
                message = PASSING
            else:
                meta = [list(args), kwargs or {}, [list(entry) for entry in chain], trace, origin, hops + 1, once]
                head = [wire.REQUEST_X, number, message.number, key, ttl, self.view_number, meta]
            if sink == self.sink:
                if number in self._calls:
                    self._calls[number].link = link
            else:  # also if it owns the actor itself by now: its call must not end with the connection to this node
                self.peers.link(origin).send_frame([wire.MOVED, number, owner, self.view_number])
        frame, buffers = link.pack_parts(head)
        parcel = Parcel(message, 0, frame, buffers, None)
        if link.is_up and not parcel.is_large:
            link.send(message, frame)
        elif link.is_up:
            link.send_bulk(parcel, None)
        else:
            link.backlog.append(parcel)
            link.connect_soon()

    def moved(self, number: int, node: str, view: int) -> None:
        """A call of ours was forwarded under a view: its answer now depends on another node."""
        call = self._calls.get(number)
        if call is not None and node not in self.host.kinds.members and view < self.view_number:
            self._adrift(number, call, node)
        elif call is not None and node in self.host.kinds.members:
            call.link = None if node == self._node_id else self.peers.link(node)
            if call.route.node is not None and self.has_register:
                member = self.host.kinds.members[node]
                route = call.route
                self.host.lives.register.whereabouts.learn(route.kind.name, route.key, member.identity)
                self.found(route.kind.name, route.key)

    def stop(self, why: str) -> None:
        """Refuse what still waits."""
        self.version += 1
        if self._tidier is not None:
            self._tidier.cancel()
        for route in self._routes.values():
            waiting, route.waiting = route.waiting, NOTHING
            for parcel in waiting:
                self._refuse(parcel, NodeStopped(why, certainty=NOT_SENT, actor=route.name, method=parcel.message.name))
