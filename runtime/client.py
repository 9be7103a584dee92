"""`Client`: calls from a process that is no member of the cluster.

A client takes no part: it hosts nothing, hears no gossip, sends and takes no pickles. It holds one
connection to one node, and its refs are those of a node: the same router packs its calls, waits for
answers, keeps limits and streams. All that differs is that every route leads to the one node that is
connected (`uplink`), and that calls are named and sealed, as `wire` says.
"""

from __future__ import annotations

import asyncio
import math
import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, overload

from ringcast.errors import NOT_SENT, CodecError, ConfigError, HandshakeRefused, NotAllowed, Unreachable

from ..actors.actor import Actor
from ..actors.messages import Message
from ..actors.ref import ActorRef
from ..discovery.gate import Gate
from ..discovery.multicast import Zeroconf
from ..discovery.source import Source
from . import wire
from .allowance import Allowance
from .arrivals import Arrivals
from .calls import Call, Parcel
from .codec import Codec
from .connection import Connection
from .dead import DeadLetters
from .host import Host
from .kinds import Kind, Kinds
from .logs import set_up_logs
from .papers import Papers
from .ring import check_key
from .router import Router
from .uplink import GATEWAY, IN_FLIGHT_BYTES, Uplink
from .vigil import Vigil

if TYPE_CHECKING:
    from ..security.credential import Credential
    from ..security.secret import Where
    from .routes import Route

A = TypeVar("A")

WINDOW_BYTES = 512 * 1024
HALF_FRAME = 10.0
DEAD_LETTERS_KEPT = 100


class Client:
    """Calls actors of a cluster from outside: ``async with Client(["host:7400"], credential="web.credential")``.

    Attributes:
        dead_letters: Told messages that were lost after a node had accepted them, as far as that is known.
    """

    def __init__(
        self,
        nodes: str | Source | Sequence[str | Source],
        *,
        credential: str | os.PathLike[str] | Credential | None = None,
        cluster: str | None = None,
        secret: Where | None = None,
        ask_timeout: float = 30.0,
        connect_timeout: float = 10.0,
        max_message_bytes: int = 16 << 20,
    ) -> None:
        """Describe a client; it connects with `start`, or by ``async with``.

        Args:
            nodes: Addresses of nodes, ``"host:port"``, and sources of such, `Seeds` or `Dns`. One is connected;
                when its connection ends, another.
            credential: What ``ringcast secret issue --role client`` has made: the path of its file, which is
                read again when it changes. Without one, the client issues itself a credential from the cluster's
                secret, which it finds as a node would: for processes that may have it, such as those of the same
                user on the same machine.
            cluster: The cluster's name; default is the credential's.
            secret: The cluster's secret, where there is no credential: a file's path, or the secret's bytes.
            ask_timeout: Seconds that an ask may take that says nothing else.
            connect_timeout: Seconds within which `start` has to find a node.
            max_message_bytes: The largest message; nodes have a limit of their own, and the lower one holds.

        Raises:
            ConfigError: If an option is wrong, or a credential or secret cannot be used.
        """
        for name, value in (("ask_timeout", ask_timeout), ("connect_timeout", connect_timeout)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ConfigError(f"Client({name}={value!r}): it takes seconds greater than 0")
        where = [nodes] if isinstance(nodes, str) or callable(getattr(nodes, "start", None)) else list(_many(nodes))
        for place in where:
            if isinstance(place, Zeroconf) or not (isinstance(place, str) or callable(getattr(place, "start", None))):
                raise ConfigError(f"a client takes addresses 'host:port', Seeds([…]) and Dns(…), not {place!r}")
        if not where:
            raise ConfigError("a client takes the address of at least one node, such as Client(['10.0.0.5:7400'])")
        set_up_logs()
        papers = Papers(credential, secret, cluster)
        self.name = papers.credential().identity.name
        me = f"client-{self.name}-{uuid.uuid4().hex[:6]}"
        self._router = router = _Router(me, ask_timeout)
        router.stopped = f"client {self.name} is not connected; use `async with client:`"
        codec = Codec(
            allow_pickle=False,
            ref_type=ActorRef,
            ref_to_wire=lambda ref: [ref._type_name, ref._key, ref._node],
            ref_from_wire=lambda parts: self._kinds.ref_by_name(*parts),
            actor_type=Actor,
        )
        self._kinds = _Kinds(me, router)
        self.dead_letters = DeadLetters(DEAD_LETTERS_KEPT, me)
        self._host = host = Host(me, router, self._kinds, codec, self.dead_letters)
        arrivals = Arrivals(me, host, router)
        router.host = router.routes.host = host
        router.routes.arrivals = arrivals
        allowance = Allowance(
            batch_bytes=wire.MAX_BATCH,
            message_bytes=max_message_bytes,
            in_flight_bytes=IN_FLIGHT_BYTES,
            expansion=1,
            unsent_bytes=IN_FLIGHT_BYTES,
            half_frame_timeout=HALF_FRAME,
        )
        self._connect_timeout = connect_timeout
        self._uplink = Uplink(
            cast("list[str | Source]", where),
            papers,
            router,
            partial(Connection, window=WINDOW_BYTES, allowance=allowance),
            max_message_bytes,
        )
        router.routes.peers = self._uplink
        self._state = "new"

    async def start(self) -> None:
        """Connect; return when a node is there.

        Raises:
            Unreachable: If none has answered within `connect_timeout`; says why each has not.
            HandshakeRefused: If all that answered refuse this client, or are refused by it.
        """
        if self._state != "new":
            raise ConfigError(f"client {self.name} is {self._state}: a client starts once, make a new one")
        self._state = "running"
        router, host, uplink = self._router, self._host, self._uplink
        router.loop = router.routes.loop = router.limits.loop = asyncio.get_running_loop()
        host.loop = host.runners.loop = router.loop
        router.stopped = None
        await uplink.start()
        try:
            async with asyncio.timeout(self._connect_timeout):
                while not uplink.gateway.is_up:
                    uplink.changed.clear()
                    await uplink.changed.wait()
                    _raise_refusal(uplink)
        except TimeoutError:
            why = uplink.explain()
            await self.close()
            raise Unreachable(
                f"no node has answered client {self.name} within {self._connect_timeout} s ({why}): is one running "
                f"there, and can it be reached? `ringcast doctor --node HOST:PORT` says more",
                certainty=NOT_SENT,
            ) from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect, any number of times; calls that still wait fail."""
        was, self._state = self._state, "closed"
        if was == "running":
            await self._uplink.flushed()
            self._router.stop(f"client {self.name} was closed")
            await self._uplink.stop()
            await self._host.stop_background()

    async def __aenter__(self) -> Self:
        """Connect."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        await self.close()

    def __repr__(self) -> str:
        """Show who it is, and whether a node is connected."""
        return f"<Client {self.name}, {f'connected to node {self.node}' if self.node else self._state}>"

    @property
    def node(self) -> str | None:
        """The id of the node that is connected; None while none is."""
        return self._uplink.node

    @overload
    def ref(self, cls: type[A], key: Any) -> A: ...
    @overload
    def ref(self, cls: str, key: Any) -> Any: ...
    def ref(self, cls: type[A] | str, key: Any) -> A | Any:
        """Return the ref of a keyed actor, typed as its class.

        Args:
            cls: The actor class; or its name on the wire, such as ``"shop.carts:Cart"``, where it cannot be
                imported: then any method is taken for a message, and none for a stream.
            key: A str, int, bytes, UUID, or a tuple of these.

        Raises:
            TypeError: If `cls` is no actor class, needs arguments, or the key is of another type.
        """
        if isinstance(cls, str):
            check_key(key)
            return self._kinds.ref_by_name(cls, key, None)
        return cast(A, self._kinds.ref(cls, key))


def _many(nodes: object) -> Sequence[object]:
    if isinstance(nodes, (list, tuple)):
        return cast("Sequence[object]", nodes)
    raise ConfigError(f"a client takes a list of addresses, such as Client(['10.0.0.5:7400']), not {nodes!r}")


def _raise_refusal(uplink: Uplink) -> None:
    """Raise why nobody takes this client, if that will not change: all who answered refuse it.

    Raises:
        HandshakeRefused: Saying why for each address.
    """
    answered = [error for error in uplink.troubles.values() if not isinstance(error, (OSError, Unreachable))]
    if answered and not uplink.gateway.is_up and len(uplink.troubles) == len(uplink.addresses):
        raise HandshakeRefused(f"no node takes this client: {uplink.explain()}")


class _Kinds(Kinds):
    """The actor classes of a client: all belong to whichever node is connected."""

    def __init__(self, me: str, router: Router) -> None:
        super().__init__(me, router, False)

    def owner(self, kind: Kind, key: Any, node: str | None) -> str:
        """Return the gateway."""
        return GATEWAY


class _Router(Router):
    """The router of a client: its calls are named and sealed."""

    def __init__(self, me: str, ask_timeout: float) -> None:
        gate = Gate()
        gate.grant(math.inf)  # a client has no actors, and needs no lease
        super().__init__(me, ask_timeout, False, IN_FLIGHT_BYTES, IN_FLIGHT_BYTES, gate, Vigil(me, gate, math.inf))

    def ask(self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Send an ask at once; see `Caller.ask`."""
        return self._ask(ref, self._route(ref, message), message, args, kwargs, None)

    def tell(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[None] | None:
        """Send a told message; see `Caller.tell`."""
        return self._tell(ref, self._route(ref, message), message, args, kwargs)

    def _route(self, ref: ActorRef, message: Message) -> Route:
        route: Route | None = ref._route
        return route if route is not None and route.version == self.routes.version else self.aim(ref, message)

    def _parcel(
        self,
        route: Route,
        message: Message,
        number: int,
        head: list[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Parcel:
        """Return the CALL that stands for a REQUEST_X or a TELL_X."""
        link, is_ask = route.link, head[0] == wire.REQUEST_X
        assert link is not None
        ttl, once = (head[4], head[6][6]) if is_ask else (head[4][2], None)
        try:
            sealed = self.host.codec.pack([list(args), kwargs])
        except CodecError:
            raise self._cannot_travel(args, kwargs) from None
        names = message.class_name, message.name
        frame, buffers = link.pack_parts([wire.CALL, number, *names, route.key, route.node, ttl, sealed, once])
        return Parcel(message, number, frame, buffers, None)

    async def watch(self, ref: ActorRef, notice: Callable[[str], None]) -> Callable[[], None]:
        """Refuse: what a node does for its members is not open to clients.

        Raises:
            NotAllowed: Always.
        """
        raise NotAllowed(f"{ref!r} cannot be watched by a client: that is for members; ask one of your actors to tell")
