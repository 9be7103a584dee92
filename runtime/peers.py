"""The peers of a node: one link each, dialled when there is something to send.

One connection for each pair. When both dial at once, the one that was dialled by the node with the
lower id stays: its owner refuses the other as `busy`, and the other waits for it. Between two dials the owner takes
the other, which may come through where its own did not. Dials are numbered, and each hello says the number of the
latest: so a dial that was given up for a connection that came up meanwhile, and arrives late, does not replace it.

A refusal because two nodes do not fit (protocol, cluster, identity) names both sides' values and is not retried
quickly.

Both ends are verified by TLS before either says hello. The certificate must speak for the node that
was dialled and for the one that the hello names, and the peer's public key must be the one that the
view has pinned for that member. A peer that no view knows yet is taken on its certificate's word; if
a view then shows it with another key, the connection is dropped. With ``tls=False``, which the loopback
alone allows, who a peer is rests on its word.

When the cluster's secret changes, links stay up: those who hold them were members before and are
still, and a new connection would lose running calls. Who loses the right to be a member loses its
links by the view; whoever dials anew needs a certificate of a key that is accepted now. Links of who is in
no view end with the key, and those of limited nodes with their credential (`recheck`).

Pickles, and classes by value, are code. They travel if both hellos allow it, and neither allows it to
a peer whose certificate limits what it may call, nor, unless told to, to one that has proved nothing.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgpack

from ringcast.errors import HandshakeRefused, Unreachable
from ringcast.logger import get_logger

from ..discovery.member import View
from ..discovery.preamble import preamble
from ..discovery.sockets import fail_fast
from ..security.channels import LINKS
from ..security.identity import LIMITED_MAX, Identity
from ..security.tunnel import Tunnel
from .allowance import Allowance
from .codec import Codec
from .connection import Connection
from .greeting import Greeting
from .link import Link
from .wire import BYE, HEAD, PROTOCOL

if TYPE_CHECKING:
    from ..security.trust import Trust
    from .arrivals import Arrivals
    from .config import NodeConfig
    from .host import Host
    from .router import Router

FIRST_RETRY = 0.05
LAST_RETRY = 2.0
LAST_WORDS = 1.0
"""Seconds that a leaving node takes to send on what others have sent to it."""


class Peers:
    """The links of one node."""

    def __init__(
        self,
        trust: Trust,
        config: NodeConfig,
        codec: Codec,
        plain_codec: Codec,
        router: Router,
        host: Host,
        arrivals: Arrivals,
    ) -> None:
        """Know what the handshake tells; the member's address and incarnation come with the view."""
        self.node_id = trust.node_id
        self.cluster = trust.cluster
        self.trust = trust
        self.config = config
        self.router = router
        self.host = host
        self.arrivals = arrivals
        self.allowance = Allowance.for_nodes(config)
        self.incarnation = 0
        self.address = ""
        self.links: dict[str, Link] = {}
        self._codec = codec
        self._plain_codec = plain_codec
        self._allows_pickle = config.allows_pickle(is_encrypted=trust.is_encrypted)
        self._refused = 0
        self._dials: dict[str, asyncio.Task[None]] = {}
        self._attempted: set[Link] = set()
        """Of those the peers are being dialled in this moment; it is not the pause before they are dialled again."""
        self._last_dial = 0
        self._lingering: dict[Link, None] = {}
        """Links to members that have left, until they close them."""
        self._greeting = Greeting(config, lambda: host.kinds.members)
        self._known: dict[str, bool] = {}
        """The members, and which of them are leaving."""
        self.on_up: Callable[[str], None] = lambda node_id: None
        """Is told of whom there is a connection to now."""
        self._rng = random.Random(self.node_id)
        self._stopped = False
        self.log = get_logger("ringcast").bind(node=self.node_id)

    def link(self, node_id: str) -> Link:
        """Return the link to a peer, connected or not."""
        link = self.links.get(node_id)
        if link is None:
            link = self.links[node_id] = Link(
                node_id,
                self.node_id,
                self.router,
                self.arrivals,
                self._codec,
                self._dial,
                self.host.kinds.learn,
                self.host.kinds.blob,
            )
        return link

    def is_up(self, node_id: str) -> bool:
        """Whether there is a connection to a peer."""
        link = self.links.get(node_id)
        return link is not None and link.is_up

    def stats(self) -> dict[str, int | float]:
        """Return counts, by name."""
        links = self.links.values()
        return {
            "frames_received": sum(link.received for link in links),
            "links_up": sum(link.is_up for link in links),
            "links_refused": self._refused,
        }

    def install(self, view: View) -> None:
        """Let the links to nodes go that are not members any more, and those to whoever is not the member."""
        members = {member.id: member.leaving for member in view.members}
        for gone in sorted(self._known.keys() - members):
            self._drop(gone, has_left=self._known[gone])
        self._known = members
        for member in view.members:
            link = self.links.get(member.id)
            if link is None or link.connection is None:
                continue
            if 0 < link.incarnation < member.incarnation:
                link.down(link.connection, "that run of the node is over")
                continue
            try:
                self._check_pinned(member.id, link.identity)
            except HandshakeRefused as error:
                self.log.warning("dropped a connection", peer=member.id, reason=str(error))
                link.down(link.connection, str(error))

    def recheck(self) -> None:
        """Drop the connections of limited nodes whose credential has ended, and of strangers to key and view."""
        for link in list(self.links.values()):
            identity, connection = link.identity, link.connection
            if connection is None:
                self._forget(link)
                continue
            if identity is None:
                continue
            if self.trust.is_over(identity):
                why = f"the credential of {identity} has ended"
            elif link.peer not in self._known and not self.trust.accepts(identity):
                why = f"{identity} is no member, and its certificate is by a key of the secret that was dropped"
            else:
                continue
            self.log.warning("dropped a connection", peer=link.peer, reason=why)
            link.down(connection, why)

    def _forget(self, link: Link) -> None:
        """Keep nothing of who is in no view and gone: one certificate speaks for any number of nodes."""
        if not (link.peer in self._known or link.routes or link.backlog or link.peer in self._dials):
            del self.links[link.peer]

    def _drop(self, node_id: str, *, has_left: bool = False) -> None:
        dial = self._dials.pop(node_id, None)
        if dial is not None:
            dial.cancel()
        link = self.links.pop(node_id, None)
        if link is None:
            return
        backlog, link.backlog = link.backlog, []
        for parcel in backlog:  # never sent: the next owner gets them
            self.arrivals.place_again(parcel)
        if has_left and link.is_up:
            # It sends on what comes until it has heard that nothing more comes, and then closes the connection.
            link.send_frame([BYE])
            self._lingering[link] = None
            self.router.loop.call_later(2 * LAST_WORDS, self._let_go, link)
        else:
            self._let_go(link)

    def _let_go(self, link: Link) -> None:
        self._lingering.pop(link, None)
        if link.connection is not None:
            link.down(link.connection, "the node has left the cluster or was lost")
        else:
            self.router.routes.peer_gone(link)

    def go_on(self) -> None:
        """The lease is back; links that wait are told by themselves."""

    def give_up(self) -> None:
        """The lease is lost: refuse what was to be sent on to nodes that are not connected."""
        for link in list(self.links.values()):
            if not link.is_up:
                backlog, link.backlog = link.backlog, []
                for parcel in backlog:
                    why = f"node {self.node_id}, to which it was sent, is cut off from the majority of its cluster"
                    self.arrivals.undeliverable(parcel, why)

    # ---- dialling ------------------------------------------------------------------------------

    def _dial(self, link: Link) -> None:
        dial = self._dials.get(link.peer)
        if not self._stopped and not link.is_up and (dial is None or dial.done()):
            task = self.host.background(self._connect(link))
            self._dials[link.peer] = task
            task.add_done_callback(lambda _: self._dialled(link, task))

    def _dialled(self, link: Link, task: asyncio.Task[None]) -> None:
        if self._dials.get(link.peer) is task:
            del self._dials[link.peer]

    async def _connect(self, link: Link) -> None:
        """Dial until there is a connection, from here or from there, or the peer is no member."""
        delay = FIRST_RETRY
        while not link.is_up and self.links.get(link.peer) is link:
            self._attempted.add(link)
            try:
                await self._attempt(link)
            except HandshakeRefused as error:
                link.trouble = str(error)
                self.log.warning("a peer refused the connection", peer=link.peer, reason=str(error))
                delay = LAST_RETRY
            except (OSError, TimeoutError, Unreachable) as error:
                link.trouble = str(error) or type(error).__name__
            finally:
                self._attempted.discard(link)
            if not link.is_up:
                await asyncio.sleep(delay * (0.75 + self._rng.random() / 2))
                delay = min(delay * 2, LAST_RETRY)

    async def _attempt(self, link: Link) -> None:
        member = self.host.kinds.members.get(link.peer)
        if member is None:
            raise Unreachable(f"node {link.peer} is no member of the present view")
        hostname, _, port = member.address.rpartition(":")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[None] = loop.create_future()
        # Counted as it begins: if it is given up for a connection that comes up meanwhile, its hello may still
        # leave, and the peer, which was told this number, must not take it for a newer connection.
        # From the incarnation on, so that they go on growing when the node starts again under its id.
        self._last_dial = max(self._last_dial, self.incarnation) + 1
        number = self._last_dial

        def opened(connection: Connection) -> None:
            try:
                self._identify(connection, link.peer)
            except HandshakeRefused as error:
                refuse(connection, error)
                return
            assert connection.transport is not None
            prologue = b"" if self.trust.is_encrypted else preamble(LINKS)
            hello = self._hello(link.peer, connection.identity) | {"dials": number}
            connection.transport.write(prologue + _frame(hello))

        def refuse(connection: Connection, error: Exception) -> None:
            if not answer.done():
                answer.set_exception(error)
            connection.close()

        def greet(connection: Connection, hello: dict[str, Any]) -> None:
            try:
                if hello.get("busy"):
                    raise Unreachable(f"node {link.peer} is dialling this node itself")
                self._check(hello, link.peer, connection.identity)
            except (HandshakeRefused, Unreachable) as error:
                refuse(connection, error)
                return
            link.void_dials = _dials_of(hello)
            self._up(link, connection, hello)
            if not answer.done():
                answer.set_result(None)

        def closed(connection: Connection, why: str) -> None:
            if connection.link is None:
                if not answer.done():
                    kind = HandshakeRefused if isinstance(connection.error, ssl.SSLError) else Unreachable
                    answer.set_exception(kind(f"no handshake with node {link.peer} at {member.address}: {why}"))
            else:
                link.down(connection, why)

        connection = self._connection(opened, greet, closed)
        context = self.trust.dialling(LINKS)
        protocol = connection if context is None else Tunnel(context, connection, prologue=preamble(LINKS))
        raw: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(self.config.handshake_timeout):
                raw, _ = await loop.create_connection(lambda: protocol, hostname.strip("[]"), int(port))
                if (sock := raw.get_extra_info("socket")) is not None:  # under uvloop, if it has ended already
                    fail_fast(sock)
                await answer
        finally:
            if connection.link is None and raw is not None:
                raw.close()
            if not answer.cancel() and not answer.cancelled():  # whoever closes it from now on tells nobody
                answer.exception()

    # ---- accepting -----------------------------------------------------------------------------

    async def accept(self, sock: socket.socket) -> None:
        """Take a connection whose preamble was read."""
        if self._stopped:
            sock.close()
            return
        fail_fast(sock)
        connection = self._connection(self._accepted, self._greeted, self._ended)
        context = self.trust.serving(LINKS)
        protocol = connection if context is None else Tunnel(context, connection, is_server=True)
        self._greeting.add(connection, sock)
        raw: asyncio.Transport | None = None
        try:
            raw, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock)
            await asyncio.sleep(self.config.handshake_timeout)
        except OSError:
            sock.close()
        finally:
            if connection in self._greeting:
                self._ended(connection, "it said no hello in time")
                if raw is not None:
                    raw.abort()

    def _accepted(self, connection: Connection) -> None:
        try:
            self._identify(connection, None)
        except HandshakeRefused as error:
            self._turn_away(connection, error)

    def _turn_away(self, connection: Connection, error: HandshakeRefused) -> None:
        self._greeting.discard(connection)
        self._refused += 1
        assert connection.transport is not None
        address = connection.transport.get_extra_info("peername")
        self.log.warning("refused a connection", address=address, reason=str(error))
        connection.transport.write(_frame({"refused": str(error)}))
        connection.close()

    def _greeted(self, connection: Connection, hello: dict[str, Any]) -> None:
        assert connection.transport is not None
        try:
            self._check(hello, None, connection.identity)
            self._check_meant(hello)
            self._check_room(connection.identity)
        except HandshakeRefused as error:
            self._turn_away(connection, error)
            return
        self._greeting.discard(connection)
        peer = str(hello["node"])
        link = self.link(peer)
        dial = self._dials.get(peer)
        dialling = link in self._attempted and not link.is_up
        if (dialling and self.node_id < peer) or _dials_of(hello) <= link.void_dials:
            connection.transport.write(_frame({"refused": "busy", "busy": True}))
            connection.close()
            return
        connection.transport.write(_frame(self._hello(peer, connection.identity)))
        link.void_dials = _dials_of(hello)
        if dial is not None:
            del self._dials[peer]
            dial.cancel()
        self._up(link, connection, hello)

    def _ended(self, connection: Connection, why: str) -> None:
        if connection in self._greeting:
            self._greeting.discard(connection)
            self._refused += 1  # and not for all to read: any stranger can do it, any number of times
            self.log.debug("a connection ended before its handshake", reason=why)
        if connection.link is not None:
            connection.link.down(connection, why)

    # ---- the handshake ---------------------------------------------------------------------------

    def _connection(self, opened: Any, greet: Any, closed: Any) -> Connection:
        return Connection(opened, greet, closed, self.config.bulk_window_bytes, self.allowance)

    def _hello(self, to: str, identity: Identity | None = None) -> dict[str, Any]:
        member = self.host.kinds.members.get(to)
        return {
            "protocol": list(PROTOCOL),
            "cluster": self.cluster,
            "node": self.node_id,
            "incarnation": self.incarnation,
            "address": self.address,
            "to": to,
            "to_incarnation": 0 if member is None else member.incarnation,
            "pickle": self._pickles_with(identity),
            "max_message": self.config.max_message_bytes,
            "in_flight": self.config.link_in_flight_bytes,
            "dials": self._last_dial,
        }

    def _identify(self, connection: Connection, expected: str | None) -> None:
        """Note who has proved to be at the other end.

        Raises:
            HandshakeRefused: If it is nobody who has business here, or not the node that was dialled.
        """
        if self.trust.is_encrypted:
            assert connection.transport is not None
            tls = connection.transport.get_extra_info("ssl_object")
            connection.identity = self.trust.peer(tls, LINKS, expected)

    def _check(self, hello: dict[str, Any], expected: str | None, identity: Identity | None) -> None:
        """Refuse a peer that does not fit.

        Raises:
            HandshakeRefused: Naming both sides' values.
        """
        if "refused" in hello:
            raise HandshakeRefused(f"the peer says: {hello['refused']}")
        node = hello.get("node")
        if not isinstance(node, str):
            raise HandshakeRefused(f"it says that it is node {node!r}, which is no node's id")
        protocol = hello.get("protocol")
        if not (
            isinstance(protocol, list)
            and len(protocol) == 2  # pyright: ignore[reportUnknownArgumentType]
            and all(isinstance(version, int) for version in protocol)  # pyright: ignore[reportUnknownVariableType]
            and protocol[0] <= PROTOCOL[1]
            and protocol[1] >= PROTOCOL[0]
        ):
            raise HandshakeRefused(
                f"node {node} speaks protocol versions {protocol}, node {self.node_id} speaks {list(PROTOCOL)}: "
                f"upgrade the older one"
            )
        if hello.get("cluster") != self.cluster:
            raise HandshakeRefused(
                f"node {node} belongs to cluster {hello.get('cluster')!r}, node {self.node_id} to {self.cluster!r}: "
                f"give both the same Node(cluster=…), or keep them apart"
            )
        if expected is not None and node != expected:
            raise HandshakeRefused(f"node {expected} was dialled, and node {node} answered: its address was reused")

        if identity is not None and not identity.speaks_for(node):
            raise HandshakeRefused(
                f"it tells node {self.node_id} that it is node {node}, and its certificate is that of {identity}"
            )
        if identity is not None and not self.trust.accepts(identity):  # the handshake was begun before the change
            raise HandshakeRefused(f"{identity} has shown a certificate by a key of the secret that was dropped")
        self._check_pinned(node, identity)

    def _check_pinned(self, node_id: str, identity: Identity | None) -> None:
        """Refuse who has another key than the view's member of that id: a node has one from start to end.

        Raises:
            HandshakeRefused: Naming both keys.
        """
        member = self.host.kinds.members.get(node_id)
        if member is not None and member.key and identity is not None and identity.key != member.key:
            raise HandshakeRefused(
                f"member {node_id} of the view has the key {member.key.hex()[:16]}…, and who says to be it has proved "
                f"{identity.key.hex()[:16]}…: it is another process"
            )

    def _check_room(self, identity: Identity | None) -> None:
        if identity is not None and identity.allow is not None:
            others = (link.identity for link in self.links.values() if link.is_up)
            if sum(other is not None and other.key == identity.key for other in others) >= LIMITED_MAX:
                raise HandshakeRefused(f"{LIMITED_MAX} nodes with the credential of {identity} are connected already")

    def _check_meant(self, hello: dict[str, Any]) -> None:
        meant, incarnation = hello.get("to"), hello.get("to_incarnation")
        if meant != self.node_id or incarnation not in (0, self.incarnation):
            raise HandshakeRefused(
                f"node {hello.get('node')} dialled node {meant} (incarnation {incarnation}), and this is node "
                f"{self.node_id} (incarnation {self.incarnation}): its address was reused"
            )

    def _up(self, link: Link, connection: Connection, hello: dict[str, Any]) -> None:
        room = hello.get("in_flight")
        connection.room = room if isinstance(room, int) else 0
        theirs = hello.get("max_message")
        ours = self.config.max_message_bytes
        pickles = self._pickles_with(connection.identity) and hello.get("pickle") is True
        codec = self._codec if pickles else self._plain_codec
        run = hello.get("incarnation")
        link.incarnation = run if isinstance(run, int) else 0
        link.up(connection, codec, min(theirs, ours) if isinstance(theirs, int) else ours)
        self.on_up(link.peer)

    def _pickles_with(self, identity: Identity | None) -> bool:
        return self._allows_pickle and (identity is None or identity.allow is None)

    # ---- the end -----------------------------------------------------------------------------

    async def hear_out(self) -> None:
        """Return when members that are connected have said that they send nothing more here; or soon."""
        for _ in range(round(LAST_WORDS / 0.005)):
            links = (link for peer, link in self.links.items() if peer in self._known)
            if all(link.is_silent or not link.is_up for link in links):
                break
            await asyncio.sleep(0.005)

    async def pay(self) -> None:
        """Return when what is owed to peers has been written: answers, and messages to be sent on; or soon."""
        for _ in range(round(LAST_WORDS / 0.01)):
            if not any(link.owes for link in self.links.values()):
                break
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Say goodbye and close all connections."""
        await self.pay()
        for link in self.links.values():
            for parcel in link.backlog:
                self.arrivals.undeliverable(parcel, f"node {self.node_id} left before it could send it on")
            link.backlog.clear()
        self._stopped = True
        for dial in list(self._dials.values()):
            dial.cancel()
        links = (*self.links.values(), *self._lingering)
        open_connections = [link.connection for link in links if link.connection is not None]
        for link in self.links.values():
            link.send_frame([BYE])
            link.flush()
        for connection in open_connections:
            connection.close()
        for _ in range(100):
            if all(connection.transport is None for connection in open_connections):
                return
            await asyncio.sleep(0.01)
        for connection in open_connections:
            connection.abort("the node has left")


def _dials_of(hello: dict[str, Any]) -> int:
    dials = hello.get("dials")
    return dials if isinstance(dials, int) else 0


def _frame(hello: dict[str, Any]) -> bytes:
    body = cast("bytes", cast(Any, msgpack).packb(hello))
    return HEAD.pack(len(body)) + body
