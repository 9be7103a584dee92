"""A client's connection to its cluster: one node of those that it was told of, and another when that ends.

For the router of a client all actors are at one peer, the gateway: whichever node is connected. So what
is said of links between nodes holds here too. What waits to be sent when a connection ends goes to the
next node; what was sent has an unknown fate, and only `read_only` asks are sent again.

A node that leaves, or lets a client go for another reason, says BYE first. The client then says the same,
sends nothing more there, and dials anew, while the old connection stays for the answers that are due.

Calls are named, and their arguments sealed, as `wire` says of clients. What a node may say to a client
is answers, and little else: anything that is for nodes ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgpack

from ringcast.errors import NOT_SENT, CodecError, ConfigError, HandshakeRefused, Unreachable
from ringcast.logger import get_logger

from ..actors.messages import Message
from ..actors.ref import display
from ..discovery.address import split_address
from ..discovery.preamble import preamble
from ..discovery.source import Announcement, Source
from ..security.channels import ALPN, CLIENTS
from ..security.identity import NODE, Identity, identity_of
from ..security.tunnel import Tunnel
from . import wire
from .calls import Call, unencodable
from .connection import Connection
from .link import Link

if TYPE_CHECKING:
    from .guard import Sieve
    from .papers import Papers
    from .router import Router

GATEWAY = "gateway"
"""Stands for the node that is connected, whichever it is, where a router needs the id of an owner."""
HANDSHAKE = 3.0
"""Seconds for one node to answer."""
FIRST_RETRY = 0.05
LAST_RETRY = 2.0
IN_FLIGHT_BYTES = 64 << 20
"""Bytes of large answers that may be under way to a client."""
LAST_WORDS = 1.0
"""Seconds for large messages that are still leaving when the client closes."""


class GatewayLink(Link):
    """A client's side of its connection."""

    def __init__(self, router: Router, uplink: Uplink) -> None:
        """Begin without a connection."""
        kinds = router.host.kinds
        super().__init__(
            GATEWAY,
            router.node_id,
            router,
            router.routes.arrivals,
            router.host.codec,
            lambda link: uplink.connect(),
            kinds.learn,
            kinds.blob,
        )
        self._uplink = uplink

    def too_large(self, size: int) -> CodecError | None:
        """Return what refuses a message that is larger than client and node both take."""
        if size <= self.max_message:
            return None
        return CodecError(
            f"a message of {size} bytes is larger than a client may send ({self.max_message} bytes): send less at "
            f"once, or raise NodeConfig(client_max_message_bytes=…) on the nodes and Client(max_message_bytes=…)"
        )

    def send_cancel(self, message: Message, number: int, key: Any, expired: bool) -> None:
        """Cancel a call, or ask where it is."""
        self.send_frame([wire.CANCEL, number, expired])

    def _make_sieve(self) -> Sieve | None:
        return None

    def _define(self, message: Message) -> None:
        """A client's calls are named in full."""

    def receive(self, frames: Iterable[list[Any]]) -> None:
        """Take in what a node says to a client."""
        count = 0
        for frame in frames:
            count += 1
            if (failure := self.codec.take_failure()) is not None:
                raise failure
            self._take(frame)
        self.received += count

    def _take(self, frame: list[Any]) -> None:
        calls, routes = self.router.calls, self.router.routes
        match frame:
            case [wire.REPLY, number, sealed]:
                call = calls.pop(number, None)
                if call is not None and not call.done() and (answer := self._opened(call, sealed)) is not None:
                    call.set_result(answer[0])
            case [wire.ERROR, number, error]:
                call = calls.pop(number, None)
                if call is not None:
                    call.refuse(error, self)
            case [wire.ITEM, number, sealed]:
                call = calls.get(number)
                if call is None:
                    return
                if type(call) is Call:
                    self.arrivals.streamed(self, call)
                elif (reader := call.reader()) is not None and (item := self._opened(call, sealed)) is not None:
                    reader.feed(item[0])
            case [wire.END, number]:
                call = calls.pop(number, None)
                if call is not None and type(call) is Call:
                    self.arrivals.streamed(self, call)
                elif call is not None and (reader := call.reader()) is not None:
                    reader.end()
            case [wire.GRANT, class_name, key, node, int() as count]:
                routes.granted(class_name, key, node, self, count)
            case [wire.LOST, class_name, method, key, reason]:
                self.router.host.dead.add(display(class_name, key), method, reason)
            case [wire.BULK, number, lengths] if self.connection is not None:
                self.connection.expect(number, lengths)
            case [wire.ACK, count] if self.connection is not None:
                self.connection.acknowledged(count)
            case [wire.AUTHORITIES, bytes() as nodes]:
                if self.identity is not None and self.identity.allow is None:  # a limited node has no say in that
                    self._uplink.papers.learn(nodes)
            case [wire.HOLD, bool() as held]:
                self.hold_back("peer", held)
            case [wire.BYE, *reason]:
                self._uplink.dismissed(self, str(reason[0]) if reason else "it has left the cluster")
            case _:
                raise CodecError(f"a node has no business to send a client {frame!r:.100}")

    def _opened(self, call: Call, sealed: object) -> tuple[Any] | None:
        """Return what was sealed; None if it cannot be decoded here, and the caller was told so."""
        try:
            if not isinstance(sealed, bytes):
                raise CodecError("it came unsealed")
            return (self.codec.unpack(sealed),)
        except CodecError as error:
            self.router.calls.pop(call.number, None)
            call.fail(unencodable(call.route.name, call.message.name, self.peer, error))
            return None


class Uplink:
    """Keeps a client connected. For the routes of its router it is the peers: all at one link."""

    def __init__(
        self,
        where: Sequence[str | Source],
        papers: Papers,
        router: Router,
        make_connection: Callable[..., Connection],
        max_message_bytes: int,
    ) -> None:
        """Know where nodes may be; see `Client`.

        Raises:
            ConfigError: If an address is none.
        """
        self.papers = papers
        self.router = router
        self.sources = [place for place in where if not isinstance(place, str)]
        self.addresses: list[str] = []
        for place in where:
            if isinstance(place, str):
                try:
                    split_address(place)
                except ValueError as error:
                    raise ConfigError(f"a client takes addresses such as '10.0.0.5:7400': {error}") from None
                self.addresses.append(place)
        self.gateway: GatewayLink
        self.node: str | None = None
        """The id of the node that is connected."""
        self.troubles: dict[str, Exception] = {}
        """By address: why it was not connected last."""
        self.changed = asyncio.Event()
        """Is set when a connection is there, or when all addresses have been tried in vain."""
        self._make_connection = make_connection
        self._max_message = max_message_bytes
        self._dialling: asyncio.Task[None] | None = None
        self._dismissed: set[Link] = set()
        """Links on which nothing is sent any more, and answers are due."""
        self._stopped = False
        self._rng = random.Random()
        self.log = get_logger("ringcast").bind(client=papers.credential().identity.name)

    def link(self, node_id: str) -> Link:
        """Return the one link."""
        return self.gateway

    async def start(self) -> None:
        """Look for nodes, and dial; the router has its loop."""
        self.gateway = GatewayLink(self.router, self)
        nobody = Announcement(tags=(), node_id="", address="", is_loopback=True)
        for source in self.sources:
            await source.start(nobody, self._found, self._gone)
        self.connect()

    def _found(self, address: str) -> None:
        if address not in self.addresses:
            self.addresses.append(address)

    def _gone(self, address: str) -> None:
        if address in self.addresses:
            self.addresses.remove(address)

    def connect(self) -> None:
        """See that there is a connection, in time."""
        if not self._stopped and not self.gateway.is_up and (self._dialling is None or self._dialling.done()):
            self._dialling = self.router.host.background(self._dial())

    async def _dial(self) -> None:
        """Dial one node after the other, with growing pauses between the rounds."""
        delay, said = FIRST_RETRY, ""
        while not self._stopped:
            for address in self._rng.sample(self.addresses, len(self.addresses)):
                try:
                    await self._attempt(address)
                except (HandshakeRefused, ConfigError, OSError, TimeoutError, Unreachable) as error:
                    self.troubles[address] = error
                    self.gateway.trouble = self.explain()
                else:
                    self.troubles.clear()
                    self.changed.set()
                    return
            self.changed.set()
            if (why := self.explain()) != said:
                said = why
                self.log.warning("no node is connected; dialling goes on", reason=why)
            await asyncio.sleep(delay * (0.75 + self._rng.random() / 2))
            delay = min(delay * 2, LAST_RETRY)

    def explain(self) -> str:
        """Return why no node is connected, for people."""
        if not self.addresses:
            return "no address of a node is known"
        return "; ".join(f"{address}: {error or type(error).__name__}" for address, error in self.troubles.items())

    async def _attempt(self, address: str) -> None:
        """Dial one node; return when it is connected."""
        loop = asyncio.get_running_loop()
        host, port = split_address(address)
        answer: asyncio.Future[None] = loop.create_future()
        identity: Identity | None = None

        def opened(connection: Connection) -> None:
            nonlocal identity
            assert connection.transport is not None
            try:
                connection.identity = identity = self._node_behind(connection.transport.get_extra_info("ssl_object"))
            except HandshakeRefused as error:
                refuse(connection, error)
                return
            hello = {
                "protocol": list(wire.PROTOCOL),
                "cluster": self.papers.cluster,
                "max_message": self._max_message,
                "in_flight": IN_FLIGHT_BYTES,
            }
            connection.transport.write(framed(hello))

        def refuse(connection: Connection, error: Exception) -> None:
            if not answer.done():
                answer.set_exception(error)
            connection.close()

        def greet(connection: Connection, hello: dict[str, Any]) -> None:
            try:
                node, limit, room = _checked(hello, identity)
            except HandshakeRefused as error:
                refuse(connection, error)
                return
            if answer.done():
                connection.close()
                return
            self.node = node
            self.gateway.peer = node
            connection.room = room
            self.gateway.up(connection, self.gateway.codec, min(limit, self._max_message))
            self.log.debug("connected", node=node, address=address)
            answer.set_result(None)

        def closed(connection: Connection, why: str) -> None:
            if connection.link is not None:
                self._lost(connection.link, connection, why)
            elif not answer.done():
                kind = HandshakeRefused if isinstance(connection.error, ssl.SSLError) else Unreachable
                answer.set_exception(kind(why))

        connection = self._make_connection(opened, greet, closed)
        protocol = Tunnel(self.papers.dialling(), connection, prologue=preamble(CLIENTS))
        raw: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(HANDSHAKE):
                raw, _ = await loop.create_connection(lambda: protocol, host, port)
                await answer
        except TimeoutError:
            raise Unreachable(f"it has not answered within {HANDSHAKE} s", certainty=NOT_SENT) from None
        finally:
            if connection.link is None and raw is not None:
                raw.close()
            if answer.done() and not answer.cancelled():
                answer.exception()

    def _node_behind(self, tls: ssl.SSLObject) -> Identity:
        """Return which node has answered.

        Raises:
            HandshakeRefused: If it is none of the cluster.
        """
        if tls.selected_alpn_protocol() != ALPN[CLIENTS]:
            raise HandshakeRefused("it does not take clients: is it an older node?")
        der = tls.getpeercert(True)
        assert der is not None, "TLS has verified it"
        identity = identity_of(der)
        if identity.role != NODE or identity.cluster != self.papers.cluster:
            raise HandshakeRefused(f"it is {identity}, and this client's credential is for {self.papers.cluster!r}")
        return identity

    def dismissed(self, link: GatewayLink, why: str) -> None:
        """A node lets this client go: what is new goes elsewhere, what it was asked it still answers."""
        link.send_frame([wire.BYE])
        if link is self.gateway and not self._stopped:
            self.log.info("dismissed", node=self.node, reason=why)
            self.node = None
            self._dismissed.add(link)
            self.gateway = GatewayLink(self.router, self)
            self.gateway.trouble = why
            self.router.routes.view_changed(0)  # all routes lead to the new link from now on
            self.connect()

    def _lost(self, link: Link, connection: Connection, why: str) -> None:
        if link is self.gateway and link.connection is connection:
            self.log.info("disconnected", node=self.node, reason=why)
            self.node = None
        self._dismissed.discard(link)
        link.down(connection, why)
        self.connect()

    async def flushed(self) -> None:
        """Return when large messages have left, or after a while."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                while self.gateway.owes:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """Close; the router has stopped."""
        self._stopped = True
        for source in self.sources:
            await source.stop()
        for link in (self.gateway, *self._dismissed):
            if link.connection is not None:
                link.send_frame([wire.BYE])
                link.flush()
                link.down(link.connection, "the client was closed")
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.gather(self._dialling, return_exceptions=True)


def framed(hello: dict[str, Any]) -> bytes:
    """Return a hello, its length first."""
    body = cast("bytes", cast(Any, msgpack).packb(hello))
    return wire.HEAD.pack(len(body)) + body


def check_protocol(hello: dict[str, Any], peer: str, me: str) -> None:
    """Refuse a hello of other versions.

    Raises:
        HandshakeRefused: Naming both sides' values.
    """
    match hello.get("protocol"):
        case [int() as lowest, int() as highest] if lowest <= wire.PROTOCOL[1] and highest >= wire.PROTOCOL[0]:
            return
        case versions:
            raise HandshakeRefused(
                f"{peer} speaks protocol versions {versions!r:.100}, {me} speaks {list(wire.PROTOCOL)}: upgrade the "
                f"older one"
            )


def _checked(hello: dict[str, Any], identity: Identity | None) -> tuple[str, int, int]:
    """Return the node's id, the largest message that it takes, and the bytes of such that may be under way.

    Raises:
        HandshakeRefused: If it refuses, or is somebody else than its certificate says.
    """
    if "refused" in hello:
        raise HandshakeRefused(f"the node says: {hello['refused']}")
    node, limit, room = hello.get("node"), hello.get("max_message"), hello.get("in_flight")
    if not isinstance(limit, int) or not isinstance(room, int):
        raise HandshakeRefused("its hello has no limits: is it an older node?")
    if not isinstance(node, str) or identity is None or not identity.speaks_for(node):
        raise HandshakeRefused(f"it says that it is node {node!r:.100}, and its certificate is that of {identity}")
    check_protocol(hello, f"node {node}", "this client")
    return node, limit, room
