"""The gateway: a node's side of its clients, which are no members.

A client holds one connection to one node, and that node asks in its place (`clientlink`). So the client
knows one node, and owners know members only; they are told for whom a call is made, and seal what they
answer (`behalf`).

Here connections are taken and ended. Whoever comes proves by TLS to hold a credential: a certificate of
the cluster's authority for clients. The connection ends when the credential does: when the certificate's
time is over, or when the key of the secret that signed it is dropped. Clients that stay are told of new
authorities, so that they know the nodes they dial next.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from ringcast.errors import HandshakeRefused
from ringcast.logger import get_logger

from ..security.channels import CLIENTS
from ..security.identity import Identity
from . import wire
from .allowance import Allowance
from .budget import Budget
from .clientlink import ClientLink
from .connection import Connection
from .greeting import Greeting
from .pace import Pace, PacedTunnel, Ration
from .uplink import check_protocol, framed

if TYPE_CHECKING:
    from ..security.trust import Trust
    from .arrivals import Arrivals
    from .behalf import Seals
    from .codec import Codec
    from .config import NodeConfig
    from .guard import Guard
    from .host import Host
    from .router import Router
    from .routes import Route

ROUTES_MAX = 8192
"""Routes that are kept for clients; those in use count, too."""


class Gateway:
    """The clients of one node."""

    def __init__(
        self,
        trust: Trust,
        config: NodeConfig,
        codec: Codec,
        router: Router,
        host: Host,
        arrivals: Arrivals,
        guard: Guard,
        seals: Seals,
    ) -> None:
        """Use the node's parts; `codec` packs what clients get, without pickle."""
        self.trust = trust
        self.config = config
        self.codec = codec
        self.router = router
        self.host = host
        self.arrivals = arrivals
        self.guard = guard
        self.seals = seals
        self.links: set[ClientLink] = set()
        self.pace = Pace()
        self.calls = 0
        """Those that clients have made or told, refused ones, too."""
        self._budgets: dict[str, Budget] = {}
        self._routes: dict[Route, None] = {}
        self._authorities = trust.node_authorities
        self._greeting = Greeting(config, lambda: host.kinds.members)
        self._is_leaving = False
        self._gone = asyncio.Event()
        self.log = get_logger("ringcast").bind(node=trust.node_id)

    def stats(self) -> dict[str, int | float]:
        """Return counts, by name."""
        return {
            "clients": len(self.links),
            "client_calls_pending": sum(len(link.under_way) for link in self.links),
            "client_calls": self.calls,
            "refused_calls": self.guard.refused,
        }

    # ---- connections -------------------------------------------------------------------------------

    async def accept(self, sock: socket.socket) -> None:
        """Take a connection whose preamble was read."""
        context = self.trust.serving(CLIENTS)
        if context is None:
            self.log.warning("refused a client: with tls=False nobody can tell who it is")
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = self.config
        connection = Connection(
            self._opened, self._greeted, self._ended, config.bulk_window_bytes, Allowance.for_clients(config)
        )
        self._greeting.add(connection, sock)
        try:
            protocol = PacedTunnel(context, connection, self.pace, Ration(config.client_share))
            raw, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock)
            await asyncio.sleep(config.handshake_timeout)
            if connection in self._greeting:
                raw.abort()
        except OSError as error:
            self.log.debug("a client's connection ended before its handshake", error=str(error))
            sock.close()
        finally:
            self._greeting.discard(connection)

    def _opened(self, connection: Connection) -> None:
        assert connection.transport is not None
        tls = connection.transport.get_extra_info("ssl_object")
        try:
            connection.identity = identity = self.trust.peer(tls, CLIENTS)
            self._check_room(identity)
            if time() >= identity.until:  # OpenSSL takes the second in which it ends, too
                raise HandshakeRefused("the credential has expired; `ringcast secret issue` makes a new one")
        except HandshakeRefused as error:
            self._turn_away(connection, error)

    def _check_room(self, identity: Identity) -> None:
        if self._is_leaving:
            raise HandshakeRefused(f"node {self.trust.node_id} leaves its cluster: dial another one")
        if not self.trust.accepts(identity):
            raise HandshakeRefused(_DROPPED)
        own = len(self._budgets[identity.name].links) if identity.name in self._budgets else 0
        if len(self.links) >= self.config.client_connections or own >= self.config.client_connections_each:
            raise HandshakeRefused(
                f"node {self.trust.node_id} has {len(self.links)} clients connected, {own} of them with the credential "
                f"of {identity.name}; NodeConfig(client_connections={self.config.client_connections}, "
                f"client_connections_each={self.config.client_connections_each}) allows no more: try another node"
            )

    def _turn_away(self, connection: Connection, error: HandshakeRefused) -> None:
        self._greeting.discard(connection)
        self.log.warning("refused a client", reason=str(error))
        if connection.transport is not None:
            connection.transport.write(framed({"refused": str(error)}))
        connection.close()

    def _greeted(self, connection: Connection, hello: dict[str, Any]) -> None:
        identity, transport = connection.identity, connection.transport
        assert transport is not None
        if identity is None or connection not in self._greeting:  # it was turned away, and speaks on
            connection.close()
            return
        try:
            check_protocol(hello, f"client {identity.name}", f"node {self.trust.node_id}")
            self._check_room(identity)
            if time() >= identity.until:  # OpenSSL takes the second in which it ends, too
                raise HandshakeRefused("the credential has expired; `ringcast secret issue` makes a new one")
        except HandshakeRefused as error:
            self._turn_away(connection, error)
            return
        self._greeting.discard(connection)
        theirs, ours = hello.get("max_message"), self.config.client_max_message_bytes
        limit = min(theirs, ours) if isinstance(theirs, int) and theirs > 0 else ours
        answer = {
            "protocol": list(wire.PROTOCOL),
            "cluster": self.trust.cluster,
            "node": self.trust.node_id,
            "max_message": limit,
            "in_flight": self.config.client_in_flight_bytes,
        }
        transport.write(framed(answer))
        room = hello.get("in_flight")
        connection.room = room if isinstance(room, int) else 0
        link = ClientLink(self, identity)
        assert isinstance(transport, PacedTunnel)
        transport.ration = link.ration
        self.links.add(link)
        link.up(connection, self.codec, limit)
        link.send_frame([wire.AUTHORITIES, self._authorities])
        link.expire_at(_end_of(transport.get_extra_info("ssl_object")))
        self.log.info("client connected", client=str(identity), clients=len(self.links))

    def _ended(self, connection: Connection, why: str) -> None:
        self._greeting.discard(connection)
        link = connection.link
        if isinstance(link, ClientLink):
            link.down(connection, why)

    def gone(self, link: ClientLink, why: str) -> None:
        """A client's connection has ended."""
        self.links.discard(link)
        self._forget_budgets()
        self._gone.set()
        self.log.info("client disconnected", client=str(link.client), reason=why, clients=len(self.links))

    # ---- change ----------------------------------------------------------------------------------

    def trust_changed(self) -> None:
        """The secret was read anew: close whom it does not accept any more, tell the others of authorities."""
        authorities = self.trust.node_authorities
        is_new, self._authorities = authorities != self._authorities, authorities
        for link in list(self.links):
            if not self.trust.accepts(link.client):
                link.dismiss(_DROPPED)
            elif is_new:
                link.send_frame([wire.AUTHORITIES, authorities])

    def budget_of(self, client: Identity) -> Budget:
        """Return what counts for clients of one name; it is kept until none is connected, and none owes time."""
        self._forget_budgets()
        return self._budgets.setdefault(client.name, Budget(self.config.client_share))

    def _forget_budgets(self) -> None:
        now = monotonic()
        for name in [name for name, budget in self._budgets.items() if budget.is_unused(now)]:
            del self._budgets[name]

    def route_used(self, route: Route) -> None:
        """Note which routes clients use; the one that was not used for longest is forgotten when they are many."""
        routes = self._routes
        routes.pop(route, None)
        routes[route] = None
        if len(routes) > ROUTES_MAX:
            oldest = next(iter(routes))
            del routes[oldest]
            if not self.router.routes.forget(oldest):
                routes[oldest] = None

    async def leave(self, seconds: float) -> None:
        """Send all clients elsewhere; return when they have their answers, or after so many seconds."""
        self._is_leaving = True
        for link in list(self.links):
            link.dismiss(f"node {self.trust.node_id} leaves its cluster", seconds)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.links:
                    self._gone.clear()
                    await self._gone.wait()

    def stop(self) -> None:
        """Close what is still there."""
        for connection in list(self._greeting):
            connection.abort("the node has left")
        for link in list(self.links):
            link.close(f"node {self.trust.node_id} has left its cluster")


_DROPPED = (
    "the key of the cluster's secret that signed this credential was dropped: `ringcast secret issue` makes a new one"
)


def _end_of(tls: ssl.SSLObject) -> float:
    """Return when the peer's certificate ends, in seconds since 1970."""
    certificate = tls.getpeercert()
    assert certificate
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))
