"""The seeker: messages for spawned actors that are not where they were thought to be.

A message that comes to a node without its actor waits there while the actor's keeper is asked: until the
actor is somewhere, if it is being started again. Then it is sent on, and its sender learns where. What
waits in routes of this node does so in a link that leads nowhere, and is sent when the place is known.
Messages to one actor keep their order.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, ActorStopped, CallError, Unreachable

from ..actors.ref import display
from .envelope import Envelope
from .link import Link
from .mailbox import burden, lighten

if TYPE_CHECKING:
    from .host import Host
    from .kinds import Kind
    from .register import Register
    from .routes import Route

Sought = tuple["Link | None", Envelope, int, "str | None"]
"""The link over which a message came, the message, how often it was sent on, its idempotency key."""


class Seeker:
    """Finds the actors of one node's messages."""

    def __init__(self, host: Host, register: Register) -> None:
        """Belong to one node."""
        self._host = host
        self._register = register
        self._sought: dict[tuple[str, Any], list[Sought]] = {}
        self._looked_up: set[tuple[str, Any]] = set()
        self._nowhere: Link | None = None

    # ---- messages that are here --------------------------------------------------------------------

    def seek(self, link: Link | None, kind: Kind, key: Any, envelope: Envelope, hops: int, once: str | None) -> None:
        """Hold a message until its actor is found."""
        if self._register.whereabouts.is_over(kind.name, key):
            self._host.router.routes.arrivals.place(link, kind, key, envelope, hops, once)
            return
        burden(envelope)
        waiting = self._sought.get((kind.name, key))
        if waiting is not None:
            waiting.append((link, envelope, hops, once))
            return
        self._sought[kind.name, key] = [(link, envelope, hops, once)]
        self._host.background(self._seek(kind, key))

    async def _seek(self, kind: Kind, key: Any) -> None:
        host = None
        with contextlib.suppress(CallError):  # then it is refused, as one that has ended
            host, _ = await self._register.find(kind.name, key)
        for link, envelope, hops, once in self._sought.pop((kind.name, key)):
            lighten(envelope)
            self._send_on(link, kind, key, envelope, hops, once, None if host is None else host[0])

    def _send_on(
        self, link: Link | None, kind: Kind, key: Any, envelope: Envelope, hops: int, once: str | None, to: str | None
    ) -> None:
        arrivals, number = self._host.router.routes.arrivals, envelope[4]
        if link is not None and number and link.cancelled and arrivals.was_cancelled(link, number):
            link.grant(envelope[0], key, 1)
            return
        is_here = key in kind.cells
        if is_here or to is None or to == self._host.node_id:
            arrivals.place(link, kind, key, envelope, hops, once)  # or says that it has ended
            return
        if link is not None:
            link.grant(envelope[0], key, 1)
        try:
            self._host.router.routes.forward(kind, key, envelope, hops, once, to)
        except CallError as error:
            arrivals.refuse(None, key, envelope, error)

    # ---- routes whose end is not known ---------------------------------------------------------------

    @property
    def nowhere(self) -> Link:
        """The link of routes to actors whose place is being asked for: it is never up."""
        if self._nowhere is None:
            routes = self._host.router.routes
            self._nowhere = Link(
                "nowhere",
                self._host.node_id,
                self._host.router,
                routes.arrivals,
                self._host.codec,
                lambda link: None,
                self._host.kinds.learn,
                self._host.kinds.blob,
            )
            self._nowhere.trouble = "the actor is being started again, or its keeper does not say where it is"
        return self._nowhere

    def look_up(self, route: Route) -> None:
        """Find out where a route leads; what waits in it is sent then."""
        actor = route.kind.name, route.key
        if actor not in self._looked_up:
            self._looked_up.add(actor)
            self._host.background(self._look_up(route.kind, route.key))

    async def _look_up(self, kind: Kind, key: Any) -> None:
        routes = self._host.router.routes
        try:
            host, _ = await self._register.find(kind.name, key)
        except CallError as error:
            for route in routes.lost(kind.name, key):
                routes.end(route, error)
            return
        finally:
            self._looked_up.discard((kind.name, key))
        if host is not None:
            routes.found(kind.name, key)
            return
        what, members = display(kind.name, key), self._host.kinds.members
        for route in routes.lost(kind.name, key):
            gone = ActorStopped(f"{what} has ended; spawn it again", certainty=NOT_SENT, actor=what)
            lost = Unreachable(
                f"{what} ran on node {route.node}, which has left the cluster or was lost",
                certainty=NOT_SENT,
                actor=what,
                node=route.node,
            )
            routes.end(route, gone if route.node in members else lost)
