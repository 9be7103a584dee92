"""The peers of a node: one link each, dialled when there is something to send.

One connection for each pair. When both dial at once, the one that was dialled by the node with the
lower id stays: its owner refuses the other as `busy`, and the other waits for it. Dials are numbered,
and each hello says the number of the latest: so a dial that was given up for a connection that came
up meanwhile, and arrives late, does not replace it. A refusal because two nodes do not fit (protocol,
cluster, identity) names both sides' values and is not retried quickly.
"""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TYPE_CHECKING, Any, cast

import msgpack
import structlog

from ringcast.errors import HandshakeRefused, Unreachable

from ..discovery.member import View
from ..discovery.preamble import preamble
from .codec import Codec
from .connection import Connection
from .link import Link
from .wire import BYE, HEAD, PROTOCOL

if TYPE_CHECKING:
    from .arrivals import Arrivals
    from .config import NodeConfig
    from .host import Host
    from .router import Router

HANDSHAKE = 3.0
"""Seconds that a handshake may take."""
FIRST_RETRY = 0.05
LAST_RETRY = 2.0
LAST_WORDS = 1.0
"""Seconds that a leaving node takes to send on what others have sent to it."""

CHANNEL = b"A"
"""The channel of links in the connection's preamble."""


class Peers:
    """The links of one node."""

    def __init__(
        self,
        node_id: str,
        cluster: str,
        config: NodeConfig,
        codec: Codec,
        plain_codec: Codec,
        router: Router,
        host: Host,
        arrivals: Arrivals,
    ) -> None:
        """Know what the handshake tells; the member's address and incarnation come with the view."""
        self.node_id = node_id
        self.cluster = cluster
        self.config = config
        self.router = router
        self.host = host
        self.arrivals = arrivals
        self.incarnation = 0
        self.address = ""
        self.links: dict[str, Link] = {}
        self._codec = codec
        self._plain_codec = plain_codec
        self._dials: dict[str, asyncio.Task[None]] = {}
        self._last_dial = 0
        self._greeting: set[Connection] = set()
        self._known: set[str] = set()
        self._rng = random.Random(node_id)
        self._stopped = False
        self.log = structlog.get_logger("ringcast").bind(node=node_id)

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

    def stats(self) -> dict[str, int | float]:
        """Return counts, by name."""
        links = self.links.values()
        return {
            "frames_received": sum(link.received for link in links),
            "links_up": sum(link.is_up for link in links),
        }

    def install(self, view: View) -> None:
        """Let the links to nodes go that are not members any more."""
        members = {member.id for member in view.members}
        for gone in self._known - members:
            self._drop(gone)
        self._known = members

    def _drop(self, node_id: str) -> None:
        dial = self._dials.pop(node_id, None)
        if dial is not None:
            dial.cancel()
        link = self.links.pop(node_id, None)
        if link is None:
            return
        backlog, link.backlog = link.backlog, []
        for parcel in backlog:  # never sent: the next owner gets them
            self.arrivals.place_again(parcel)
        if link.connection is not None:
            link.down(link.connection, "the node has left the cluster or was lost")

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
            try:
                await self._attempt(link)
            except HandshakeRefused as error:
                link.trouble = str(error)
                self.log.warning("a peer refused the connection", peer=link.peer, reason=str(error))
                delay = LAST_RETRY
            except (OSError, TimeoutError, Unreachable) as error:
                link.trouble = str(error) or type(error).__name__
            if not link.is_up:
                await asyncio.sleep(delay * (0.75 + self._rng.random() / 2))
                delay = min(delay * 2, LAST_RETRY)

    async def _attempt(self, link: Link) -> None:
        member = self.host.kinds.members.get(link.peer)
        if member is None:
            raise Unreachable(f"node {link.peer} is no member of the present view")
        hostname, _, port = member.address.rpartition(":")
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def greet(connection: Connection, hello: dict[str, Any]) -> None:
            try:
                if hello.get("busy"):
                    raise Unreachable(f"node {link.peer} is dialling this node itself")
                self._check(hello, link.peer)
            except (HandshakeRefused, Unreachable) as error:
                if not answer.done():
                    answer.set_exception(error)
                connection.close()
                return
            link.void_dials = _dials_of(hello)
            self._up(link, connection, hello)
            if not answer.done():
                answer.set_result(None)

        def closed(connection: Connection, why: str) -> None:
            if connection.link is None:
                if not answer.done():
                    answer.set_exception(Unreachable(f"no handshake with node {link.peer}: {why}"))
            else:
                link.down(connection, why)

        connection = self._connection(greet, closed)
        try:
            async with asyncio.timeout(HANDSHAKE):
                await asyncio.get_running_loop().create_connection(lambda: connection, hostname.strip("[]"), int(port))
                assert connection.transport is not None
                self._last_dial += 1
                connection.transport.write(preamble(CHANNEL) + _frame(self._hello(link.peer)))
                await answer
        finally:
            if connection.link is None:
                connection.close()
            if answer.done() and not answer.cancelled():
                answer.exception()

    # ---- accepting -----------------------------------------------------------------------------

    async def accept(self, sock: socket.socket) -> None:
        """Take a connection whose preamble was read."""
        if self._stopped:
            sock.close()
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = self._connection(self._greeted, self._ended)
        self._greeting.add(connection)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
            await asyncio.sleep(HANDSHAKE)
            if connection in self._greeting:
                connection.abort("it said no hello in time")
        except OSError as error:
            self.log.debug("a connection ended before its handshake", error=str(error))
            sock.close()
        finally:
            self._greeting.discard(connection)

    def _greeted(self, connection: Connection, hello: dict[str, Any]) -> None:
        self._greeting.discard(connection)
        assert connection.transport is not None
        peer = str(hello.get("node"))
        try:
            self._check(hello, None)
            self._check_meant(hello)
        except HandshakeRefused as error:
            self.log.warning("refused a connection", peer=peer, reason=str(error))
            connection.transport.write(_frame({"refused": str(error)}))
            connection.close()
            return
        link = self.link(peer)
        dial = self._dials.get(peer)
        dialling = dial is not None and not dial.done() and not link.is_up
        if (dialling and self.node_id < peer) or _dials_of(hello) <= link.void_dials:
            connection.transport.write(_frame({"refused": "busy", "busy": True}))
            connection.close()
            return
        connection.transport.write(_frame(self._hello(peer)))
        link.void_dials = _dials_of(hello)
        if dial is not None:
            del self._dials[peer]
            dial.cancel()
        self._up(link, connection, hello)

    def _ended(self, connection: Connection, why: str) -> None:
        self._greeting.discard(connection)
        if connection.link is not None:
            connection.link.down(connection, why)

    # ---- the handshake ---------------------------------------------------------------------------

    def _connection(self, greet: Any, closed: Any) -> Connection:
        return Connection(greet, closed, self.config.bulk_window_bytes, self.config.max_message_bytes)

    def _hello(self, to: str) -> dict[str, Any]:
        member = self.host.kinds.members.get(to)
        return {
            "protocol": list(PROTOCOL),
            "cluster": self.cluster,
            "node": self.node_id,
            "incarnation": self.incarnation,
            "address": self.address,
            "to": to,
            "to_incarnation": 0 if member is None else member.incarnation,
            "pickle": self.config.pickle,
            "max_message": self.config.max_message_bytes,
            "dials": self._last_dial,
        }

    def _check(self, hello: dict[str, Any], expected: str | None) -> None:
        """Refuse a peer that does not fit.

        Raises:
            HandshakeRefused: Naming both sides' values.
        """
        if "refused" in hello:
            raise HandshakeRefused(f"the peer says: {hello['refused']}")
        node = hello.get("node")
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

    def _check_meant(self, hello: dict[str, Any]) -> None:
        meant, incarnation = hello.get("to"), hello.get("to_incarnation")
        if meant != self.node_id or incarnation not in (0, self.incarnation):
            raise HandshakeRefused(
                f"node {hello.get('node')} dialled node {meant} (incarnation {incarnation}), and this is node "
                f"{self.node_id} (incarnation {self.incarnation}): its address was reused"
            )

    def _up(self, link: Link, connection: Connection, hello: dict[str, Any]) -> None:
        theirs = hello.get("max_message")
        ours = self.config.max_message_bytes
        link.up(connection, self._codec_for(hello), min(theirs, ours) if isinstance(theirs, int) else ours)

    def _codec_for(self, hello: dict[str, Any]) -> Codec:
        return self._codec if self.config.pickle and hello.get("pickle") is True else self._plain_codec

    # ---- the end -----------------------------------------------------------------------------

    async def stop(self) -> None:
        """Send what was handed over here to be sent on, say goodbye and close all connections."""
        for _ in range(round(LAST_WORDS / 0.01)):
            if not any(link.owes for link in self.links.values()):
                break
            await asyncio.sleep(0.01)
        for link in self.links.values():
            for parcel in link.backlog:
                self.arrivals.undeliverable(parcel, f"node {self.node_id} left before it could send it on")
            link.backlog.clear()
        self._stopped = True
        for dial in list(self._dials.values()):
            dial.cancel()
        for connection in list(self._greeting):
            connection.abort("the node has left")
        open_connections = [link.connection for link in self.links.values() if link.connection is not None]
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
