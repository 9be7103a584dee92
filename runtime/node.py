"""`Node`: one member of a cluster, where the parts of the runtime are put together.

The node has two threads: the application's, with the actors and the links, and the membership's.
What the membership finds comes over as views, events and sockets, in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import sys
import weakref
import zlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import ModuleType, TracebackType
from typing import Any, NoReturn, Self, TypeVar, cast

from ringcast.errors import NOT_SENT, ConfigError, NodeStopped
from ringcast.logger import get_logger

from ..actors.actor import Actor, imported_types, on_defined
from ..actors.placement import Labels, Placement
from ..actors.props import Props
from ..actors.ref import ActorRef, require_ref
from ..actors.supervision import PERMANENT, Restart
from ..discovery.fields import HOSTS_MAX
from ..discovery.gate import Gate
from ..discovery.member import Event, LeaseLost, LeaseRegained, Member, View, ViewChanged
from ..discovery.source import Source
from ..security.channels import CLIENTS, CONTROL, LINKS
from ..security.material import Certificates
from ..security.secret import Where
from .allowance import client_bounds
from .arrivals import Arrivals
from .behalf import Seals
from .codec import Codec
from .config import NodeConfig
from .control import Control
from .dead import DeadLetters
from .durability import Durability
from .gateway import Gateway
from .greeting import admission_of
from .groups import Groups, digest_of
from .guard import Authorize, Guard
from .host import Host
from .kinds import Kinds
from .lives import Lives
from .logs import set_up_logs
from .options import options, store_option
from .peers import Peers
from .ring import foresee
from .router import Router
from .stores import Store
from .system import System
from .tenancy import Tenancy
from .vigil import Vigil
from .watchdog import Watchdog
from .watched import Watched
from .watches import Watches
from .wills import Wills

A = TypeVar("A")


GOODBYES = 1.0
"""Seconds that a leaving node waits until others have heard which of its actors have ended."""

REFRESH = 1.0
"""Seconds between two looks at the files of the secret and of certificates."""

CLASSES_SETTLE = 0.02
"""Seconds to wait after a class was defined: a module defines several."""


class Node:
    """One member of a cluster: ``async with Node() as node:``."""

    def __init__(
        self,
        *,
        cluster: str | None = None,
        listen: str | None = None,
        advertise: str | None = None,
        discovery: Sequence[Source] | None = None,
        hosts: Sequence[str | ModuleType] | None = None,
        labels: Mapping[str, str] | None = None,
        config: NodeConfig | None = None,
        secret: Where | None = None,
        tls: Certificates | bool | None = None,
        authorize: Authorize | None = None,
        store: str | Store | Callable[[], Store] | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        expect: int | None = None,
        bootstrap: str | None = None,
        split_brain: str | None = None,
        **unknown: Any,
    ) -> None:
        """Describe a node; it starts with `start`, or by ``async with``.

        Args:
            cluster: Nodes of other clusters are not seen. Default ``default``.
            listen: ``"host:port"`` for TCP and UDP, or ``"host:first-last"`` to take a free port of a
                range. Default ``127.0.0.1:0``: loopback only, any port.
            advertise: The address that others dial; found out by default.
            discovery: Where to look for other nodes: `Zeroconf()` (default), `Seeds`, `Dns`; ``[]`` is alone.
            hosts: Modules whose actor classes this node hosts; default all that are imported; ``[]`` none.
            labels: What the node says of itself, for placement.
            config: Limits and switches.
            secret: The cluster's secret, or a credential made from it: a file's path, or the secret's bytes.
                Default is what ``RINGCAST_SECRET_FILE`` names, and on the loopback one that is made for this user.
            tls: `Certificates` of an authority of your own; default is what the secret makes. False, on the
                loopback only, is connections in clear that anybody on this machine may open.
            authorize: ``authorize(caller, actor, method)`` is asked about each message that comes from clients and
                from other nodes: True lets it pass, False or a reason refuses it; see `Authorize`.
            store: Where durable actors keep their state: ``memory:``, ``sqlite:///path``, ``postgresql://…``,
                ``redis://…`` (which promises less: see docs/state.md), a `Store`, or a function that makes one when
                the first durable actor needs it. All nodes of a cluster need the
                same. Default on the loopback is a SQLite file of this user, one for each cluster's name; a node that
                listens beyond has no default, and runs durable actors only with one.
            data_dir: A folder of this node's own, in which it keeps its id and its votes. With it a node that is
                started again may vote for views as before; without it each start is another node.
            expect: How many nodes the cluster begins with: it begins when more than half of them are there.
                Default: the first node begins it when it finds no other.
            bootstrap: ``"auto"``, or ``"join"`` for a node that waits for a cluster and never begins one.
            split_brain: ``"majority"``: what has lost touch with the majority of the members serves nothing.
                ``"static:3"``: nor does anybody as long as there are fewer than 3 members.
            unknown: Anything else is refused, by its name.

        Raises:
            ConfigError: If an option is unknown or wrong.
        """
        for option in unknown:
            known = "cluster, listen, advertise, discovery, hosts, labels, config, secret, tls, authorize, store"
            more = "data_dir, expect, bootstrap, split_brain"
            raise ConfigError(f"Node has no option {option!r}; it takes {known}, {more}")
        if config is not None and not isinstance(config, NodeConfig):
            raise ConfigError(f"config={config!r}: it takes a NodeConfig(…)")
        if authorize is not None and not callable(authorize):
            raise ConfigError(f"authorize={authorize!r}: it takes a function of the caller, the actor and the method")
        set_up_logs()
        self._authorize = authorize
        self._options = options(
            cluster,
            listen,
            advertise,
            discovery,
            hosts,
            labels,
            secret,
            tls,
            data_dir=data_dir,
            expect=expect,
            bootstrap=bootstrap,
            split_brain=split_brain,
        )
        self._store = store_option(store, self._options.cluster, self._options.is_local)
        self._trust = self._options.trust
        self._config = config if config is not None else NodeConfig()
        self.id = self._trust.node_id
        self.dead_letters = DeadLetters(self._config.dead_letters, self.id)
        self._log = get_logger("ringcast").bind(node=self.id)
        self._events: weakref.WeakKeyDictionary[asyncio.Queue[Event | None], None] = weakref.WeakKeyDictionary()
        self._state = "new"
        self._left: asyncio.Future[None] | None = None
        self._first_view: asyncio.Future[None] | None = None
        self._has_membership = True
        self._changed = asyncio.Event()
        self._has_begun = asyncio.Event()
        self._put_together()

    def _put_together(self) -> None:
        from ..discovery.membership import Membership  # not before there is a node: it is a tenth of what is loaded

        config = self._config
        self._profile = profile = config.membership_profile(is_local=self._options.is_local)
        self._gate = gate = Gate()
        self._vigil = vigil = Vigil(self.id, gate, profile.lease)
        self._groups = groups = Groups(self._options.quorum)
        self._router = router = Router(
            self.id,
            config.ask_timeout,
            config.copy_local,
            config.in_flight_bytes,
            config.link_in_flight_bytes,
            gate,
            vigil,
        )
        allows_pickle = config.allows_pickle(is_encrypted=self._trust.is_encrypted)
        self._codec, plain = self._make_codec(allows_pickle), self._make_codec(False)
        kinds = Kinds(self.id, router, allows_pickle, groups)
        self._host = host = Host(self.id, router, kinds, self._codec, self.dead_letters)
        self._tenancy = tenancy = Tenancy(self.id, kinds, gate, vigil)
        host.gate, host.tenancy, host.move_seconds, tenancy.host = gate, tenancy, profile.drain, host
        self._arrivals = arrivals = Arrivals(self.id, host, router)
        self._peers = Peers(self._trust, config, self._codec, plain, router, host, arrivals)
        self._system = system = System(self.id, router, host, config.ask_timeout)
        system.peers = self._peers
        routes = router.routes
        router.host = routes.host = host
        routes.peers, routes.arrivals, routes.has_register = self._peers, arrivals, True
        arrivals.peers, arrivals.verbs = self._peers, system.verbs
        arrivals.seals = seals = self._make_seals()
        arrivals.guard = guard = Guard(self.id, self._options.cluster, self._authorize)
        self._gateway = Gateway(self._trust, config, plain, router, host, arrivals, guard, seals)
        host.lives = Lives(host, system, config.root, seed=zlib.crc32(self.id.encode()), patience=config.drain_timeout)
        host.watches, host.watched, host.wills = Watches(host, system), Watched(host, system), Wills(host, system)
        host.durability = self._durability = Durability(
            host,
            plain,
            self._store,
            max_state_bytes=config.max_state_bytes,
            patience=config.store_timeout,
            start_patience=config.store_start_timeout,
        )
        self._watchdog = Watchdog(self.id, config.slow_turn, config.stuck_after, self._give_up)
        self._membership = Membership(
            trust=self._trust,
            listen=self._options.listen,
            advertise=self._options.advertise,
            labels=self._options.labels,
            hosts=frozenset(),
            hosts_by_value=allows_pickle and self._options.hosts is None,
            discovery=self._options.discovery,
            profile=profile,
            gate=gate,
            shares_of=groups.shares_of,
            on_met=foresee,
            on_opened=lambda opened: self._from_thread(tenancy.wake),
            on_lease=lambda: self._from_thread(vigil.leased),
            on_fence=lambda why, me: self._from_thread(self._fence, me),
            on_view=lambda view: self._from_thread(self._install, view),
            on_event=lambda event: self._from_thread(self._tell, event),
            on_connection=lambda sock, channel: self._from_thread(self._take, sock, channel),
            on_failure=lambda error: self._from_thread(self._membership_failed, error),
            admission=admission_of(config),
            archive=self._options.archive,
            expect=self._options.expect,
            may_found=self._options.may_found,
            trusts_refusal=config.trust_refused,
            config_digest=digest_of(self._options.split_brain),
        )
        groups.changed = self._membership.reshare
        self._durability.on_opened = self._names_store
        tenancy.emptied = self._membership.emptied
        self._peers.on_up = host.lives.register.linked
        vigil.refused += [tenancy, routes, self._peers]
        vigil.on_changed = self._lease_changed
        self._control = Control(self, host, self._trust, self._membership, config)

    def _make_codec(self, allow_pickle: bool) -> Codec:
        return Codec(
            allow_pickle=allow_pickle,
            ref_type=ActorRef,
            ref_to_wire=lambda ref: [ref._type_name, ref._key, ref._node],
            ref_from_wire=lambda parts: self._host.kinds.ref_from_wire(parts),
            actor_type=Actor,
        )

    def _make_seals(self) -> Seals:
        codec = Codec(
            allow_pickle=False,
            ref_type=ActorRef,
            ref_to_wire=lambda ref: [ref._type_name, ref._key, ref._node],
            ref_from_wire=lambda parts: self._host.kinds.known_ref(*parts),
            actor_type=Actor,
            bounds=client_bounds(self._config),
            has_tracebacks=self._config.client_tracebacks,
        )
        return Seals(codec, self.id, self._options.cluster, has_tracebacks=self._config.client_tracebacks)

    # ---- beginning and end -------------------------------------------------------------------------

    async def start(self) -> None:
        """Join the cluster; return when this node is a member.

        Raises:
            ConfigError: If the port is in use, or an option does not fit.
            HandshakeRefused: If a seed belongs to another cluster.
            StoreError: If the store that was named is not there.
            NodeStopped: If it was started before, or is told to leave meanwhile.
        """
        if self._state != "new":
            raise NodeStopped(
                f"node {self.id} is {self._state}: a node starts once, make a new one", certainty=NOT_SENT
            )
        self._state = "starting"
        self._loop = asyncio.get_running_loop()
        self._router.loop = self._router.routes.loop = self._router.limits.loop = self._loop
        self._host.loop = self._host.runners.loop = self._vigil.loop = self._loop
        self._first_view = self._loop.create_future()
        self._membership.update(hosts=self._hosted())
        self._joining = joining = asyncio.ensure_future(self._join(self._first_view))
        try:
            await joining
        except BaseException:
            await self._end(f"node {self.id} could not start")
            self._has_begun.set()
            task = asyncio.current_task()
            if joining.cancelled() and not (task is not None and task.cancelling()):
                what = f"node {self.id} was told to leave before it had joined"
                raise NodeStopped(what, certainty=NOT_SENT) from None
            raise
        self._forget_definitions = on_defined(self._class_defined)
        self._class_defined()  # those that came while we joined
        self._watchdog.start(self._loop)
        self._host.background(self._follow_trust())
        self._router.stopped = None
        self._state = "running"
        self._has_begun.set()
        self._log.info("node has joined", cluster=self._options.cluster, address=self.address, view=self.view.number)

    async def _join(self, first_view: asyncio.Future[None]) -> None:
        await self._durability.start(self._hosted())
        await self._membership.start()
        await first_view
        with contextlib.suppress(TimeoutError):  # a node whose cluster has no majority at present is a member, too
            async with asyncio.timeout(self._profile.lease):
                await self._vigil.first.wait()

    async def leave(self) -> None:
        """Hand the actors over and leave; any number of times. A start under way ends with `NodeStopped`.

        Running calls finish within `NodeConfig.drain_timeout`; new ones go to the new owners.
        """
        if self._left is not None:  # also when it is stopped already, and not all has ended
            await asyncio.shield(self._left)
            return
        if self._state in ("new", "stopped"):
            self._state = "stopped"
            return
        if self._state == "starting":
            self._joining.cancel()
            await self._has_begun.wait()
            if not self._is_running:
                return
        if self._left is None:
            self._left = asyncio.ensure_future(self._leave())
        await asyncio.shield(self._left)

    async def _leave(self) -> None:
        self._state = "leaving"
        self._host.lives.register.is_taking = False
        self._forget_definitions()
        if self._has_membership:
            await self._hand_over(self._config.drain_timeout)
        else:  # there is no lease, and no view by which anything could be handed over
            self._vigil.end()
            await asyncio.gather(self._host.drain(0.0), self._gateway.leave(0.0))
        await self._end(f"node {self.id} has left its cluster")
        self._watchdog.stop()
        for queue in self._events:
            queue.put_nowait(None)
        self._changed.set()
        self._log.info("node has left")

    async def _hand_over(self, patience: float) -> None:
        """Let turns end and others take over what is here, within so many seconds; then be in no view any more."""
        with contextlib.suppress(Exception):
            await self._membership.announce_leaving()
        await asyncio.gather(self._host.drain(patience), self._gateway.leave(patience))
        await self._host.watches.handed_over(patience)
        await self._host.lives.handed_over(patience)
        await self._system.posted(GOODBYES)
        await self._peers.pay()
        self._vigil.end()
        await self._membership.release()
        await self._peers.hear_out()

    async def _end(self, why: str) -> None:
        """Close all and leave nothing running."""
        self._state = "stopped"
        self._router.stop(why)
        self._host.end(why)
        self._gateway.stop()
        await self._peers.stop()
        await self._host.stop_background()
        await self._durability.stop()
        await self._membership.stop()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave."""
        await self.leave()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        """Run the node with a service: ``FastAPI(lifespan=node.lifespan)``."""
        async with self:
            yield

    # ---- actors --------------------------------------------------------------------------------

    def ref(self, cls: type[A], key: Any) -> A:
        """Return the ref of a keyed actor, typed as its class.

        Args:
            cls: An actor class whose constructor needs no arguments.
            key: A str, int, bytes, UUID, or a tuple of these.

        Raises:
            TypeError: If `cls` is no actor class, needs arguments, or the key is of another type.
        """
        return cast(A, self._host.kinds.ref(cls, key))

    async def spawn(
        self,
        props: Props[A],
        name: str | None = None,
        restart: Restart = PERMANENT,
        on: Placement | None = None,
    ) -> A:
        """Start an actor with an explicit life; its supervisor is the cluster's root.

        Args:
            props: ``props(Worker, …)``.
            name: If an actor of this class and name lives, its ref is returned.
            restart: `PERMANENT`, `TRANSIENT` or `TEMPORARY`.
            on: Where it is to run; default is the class's ``placement``.

        Raises:
            CodecError: If an argument cannot travel, unless ``on=Local()``.
            Unreachable: If no member can run it.
        """
        self._require_running("spawn")
        return cast(A, await self._host.lives.spawn(props, name, restart, on, None))

    async def supervise(self, cls: type[A], name: str) -> A:
        """Start a supervisor with its children, once for the cluster; return the ref of the living one of that name.

        Args:
            cls: A subclass of `Supervisor` whose constructor needs no arguments.
            name: Its name; the same class under another name is another tree.

        Raises:
            TypeError: If `cls` is no such class.
            Unreachable: If no member hosts it.
        """
        self._require_running("supervise")
        return cast(A, await self._host.lives.supervise(cls, name))

    async def stop(self, ref: object) -> None:
        """Stop an actor for good; a keyed one is deactivated. Returns when it has ended."""
        self._require_running("stop")
        await self._host.lives.stop(ref)

    async def locate(self, ref: object) -> Member:
        """Return the member where an actor is, or would be activated.

        Raises:
            Unreachable: If no member hosts it.
        """
        self._require_running("locate")
        target = require_ref(ref, "locate")
        return self._host.kinds.members[await self._host.lives.locate(target)]

    # ---- the cluster -----------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Where others dial this node: ``"host:port"``."""
        return self._membership.address

    @property
    def cluster(self) -> str:
        """The name of the cluster."""
        return self._options.cluster

    @property
    def ready(self) -> bool:
        """Whether calls can be routed, which takes a lease; for readiness probes."""
        return self._is_running and self._gate.is_open

    @property
    def _is_running(self) -> bool:
        return self._state == "running"

    @property
    def view(self) -> View:
        """The present view.

        Raises:
            NodeStopped: Before the node has started.
        """
        view = self._host.kinds.view
        if view is None:
            raise NodeStopped(f"node {self.id} has not started; use `async with node:`", certainty=NOT_SENT)
        return view

    @property
    def was_drained(self) -> bool:
        """Whether an operator has told this node to leave (`ringcast drain`)."""
        return self._control.was_told_to_leave

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of the present view, most senior first."""
        return self.view.members

    async def wait_for_members(self, n: int, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Return when the cluster has at least `n` members.

        Raises:
            TimeoutError: If it has fewer after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while len(self.members) < n:
                    self._require_running("wait_for_members")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            seen = ", ".join(f"{member.id} ({member.address})" for member in self.members)
            raise TimeoutError(
                f"cluster {self._options.cluster!r} has {len(self.members)} of {n} members after {timeout} s: {seen}; "
                f"`ringcast members` shows what the others see"
            ) from None

    def events(self) -> AsyncIterator[Event]:
        """Iterate over what happens to the membership from this call on, until the node leaves.

        `LeaseLost` and `LeaseRegained` say that this node itself has stopped to serve, cut off from the majority,
        and that it serves again.
        """
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._events[queue] = None
        return self._events_in(queue)

    async def _events_in(self, queue: asyncio.Queue[Event | None]) -> AsyncIterator[Event]:
        while (self._state != "stopped" or not queue.empty()) and (event := await queue.get()) is not None:
            yield event

    def stats(self) -> dict[str, int | float]:
        """Return counts of what happened on this node, by name."""
        return {
            **self._host.stats(),
            **self._host.lives.register.stats(),
            **self._router.stats(),
            **self._peers.stats(),
            **self._gateway.stats(),
            **self._durability.stats(),
            **{f"membership_{name}": value for name, value in self._membership.stats().items()},
            "dead_letters": self.dead_letters.total,
            "forwarded": self._arrivals.forwarded,
            "control_refused": self._control.refused,
            "loop_lag_s_max": self._watchdog.lag_max,
        }

    def __repr__(self) -> str:
        """Show the id, the cluster and the state."""
        return f"<Node {self.id} of cluster {self._options.cluster!r}, {self._state}>"

    # ---- from the membership ----------------------------------------------------------------------

    def _from_thread(self, function: Any, *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the application's loop has ended
            self._loop.call_soon_threadsafe(function, *args)

    def _install(self, view: View) -> None:
        if self._state == "stopped":
            return
        try:
            me = view.member(self.id)  # the membership's own thread may be a run further by now
            assert me is not None, "a node is told of views that it is in"
            self._peers.incarnation, self._peers.address = me.incarnation, me.address
            self._tenancy.shares = self._membership.shares
            self._host.install(view)
            self._peers.install(view)
            self._host.watches.view_changed(view)
            self._host.watched.view_changed(view)
            self._host.wills.view_changed(view)
        except Exception as error:  # a view that is half installed is worse than no node
            self._membership_failed(error)
            return
        self._changed.set()

    def _tell(self, event: Event) -> None:
        for queue in self._events:
            queue.put_nowait(event)
        # The last word of a view: so nobody who asks for events after the start hears of the start.
        if isinstance(event, ViewChanged) and self._first_view is not None and not self._first_view.done():
            self._first_view.set_result(None)

    def _lease_changed(self, is_serving: bool) -> None:
        me = self._membership.me
        self._tell(LeaseRegained(me) if is_serving else LeaseLost(me))

    def _fence(self, me: Member) -> None:
        """This run of the node is over: nothing that has acted in it acts, or has effects, from now on."""
        if self._state == "stopped":
            return
        self._peers.incarnation, self._peers.address = me.incarnation, me.address
        self._host.wills.fenced()
        self._host.fence()
        self._host.watches.fenced()
        self._host.watched.fenced()
        self._host.lives.register.fenced()
        self._router.routes.fenced()
        self._router.sink.give_up()
        for link in [*self._peers.links.values(), *self._gateway.links]:
            link.give_up()
        self._vigil.fenced()
        self._gate.passed()
        self._vigil.leased()

    def _take(self, sock: socket.socket, channel: bytes) -> None:
        if channel == LINKS:
            # The others may have the view that lets this node in before it has.
            self._peers.incarnation = self._peers.incarnation or self._membership.me.incarnation
            self._host.background(self._peers.accept(sock))
        elif channel == CONTROL:
            self._host.background(self._control.serve(sock))
        else:
            assert channel == CLIENTS, "the membership passes on no other"
            self._host.background(self._gateway.accept(sock))

    def _membership_failed(self, error: BaseException) -> None:
        self._log.critical("the membership has failed, so this node stops", exc_info=error)
        if self._first_view is not None and not self._first_view.done():
            self._first_view.set_exception(error)
        else:
            self._has_membership = False
            if self._state == "running":
                self._host.background(self.leave())

    def _give_up(self) -> None:
        """The loop has stood still for too long (called on the watchdog's thread): the others go on without us."""
        self._membership.give_up(f"the event loop of node {self.id} stood still for {self._config.stuck_after} s")

    # ---- trust -------------------------------------------------------------------------------

    async def _follow_trust(self) -> None:
        """Use what the secret's file, or a certificate's, holds now; connections that are there stay."""
        while True:
            await asyncio.sleep(REFRESH)
            self._peers.recheck()
            try:
                has_changed = self._trust.refresh()
            except Exception as error:  # whatever is in a file, the node goes on with what it has
                self._log.error("a file of the secret or of a certificate could not be followed", exc_info=error)
                continue
            if has_changed:
                self._membership.refresh()
                self._gateway.trust_changed()

    # ---- odds --------------------------------------------------------------------------------

    def _hosted(self) -> frozenset[str]:
        """Return the names of the classes that this node hosts: imported, wanted, and its labels match."""
        modules = self._options.hosts
        hosted = frozenset(
            actor.name
            for actor in imported_types()
            if (modules is None or _within(actor.cls.__module__, modules))
            and (
                not isinstance(actor.options.placement, Labels)
                or all(self._options.labels.get(name) == value for name, value in actor.options.placement.wanted)
            )
        )
        if len(hosted) > HOSTS_MAX:
            raise ConfigError(
                f"{len(hosted)} actor classes are imported, and a node hosts at most {HOSTS_MAX}: Node(hosts=…)"
            )
        return hosted

    def _class_defined(self) -> None:
        """A class was defined, maybe on another thread: tell the others soon."""
        self._from_thread(lambda: self._loop.call_later(CLASSES_SETTLE, self._update_hosts))

    def _update_hosts(self) -> None:
        hosted = self._hosted()
        if self._state == "running" and hosted != self._membership.me.hosts:
            self._membership.update(hosts=hosted)
            self._durability.look(hosted)

    def _names_store(self, store_id: str) -> None:
        if store_id != self._membership.me.store:
            self._membership.update(store=store_id)

    def _require_running(self, what: str) -> None:
        if self._state not in ("running", "leaving"):
            self._refuse(what)

    def _refuse(self, what: str) -> NoReturn:
        raise NodeStopped(
            f"{what}: node {self.id} is {self._state}; use it inside `async with node:`", certainty=NOT_SENT
        )


def _within(module: str, wanted: Sequence[str]) -> bool:
    if module == "__main__":
        from ..actors.naming import main_module_name

        module = main_module_name() or module
        if "__main__" in wanted:
            return True
    return any(module == name or module.startswith(f"{name}.") for name in wanted)


def run(main: Any) -> Any:
    """Run a coroutine to its end, under uvloop where it is installed: ``ringcast.run(main())``.

    What is imported by then is set aside from garbage collection (`gc.freeze`): to look through all of it
    stops the loop for tens of milliseconds, and a peer's large messages can make that happen again and again.
    """
    gc.freeze()
    if sys.platform != "win32":
        try:
            import uvloop
        except ImportError:
            pass
        else:
            return uvloop.run(main)
    return asyncio.run(main)
