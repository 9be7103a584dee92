"""Spawned actors: how one is placed, started, found again by its name, and stopped.

A spawned actor is started by the node that `on=` chooses and stays there until that node leaves or
is lost; its ref carries the node's id. `spawn(name=…)` asks the members for a living actor of that
name first.

What is decided elsewhere: what happens when it fails or ends (family), and how that is carried out
(supervision).
"""

from __future__ import annotations

import asyncio
import math
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import NOT_SENT, ActorStopped, CodecError, RingcastError, Unreachable

from ..actors.actor import actor_type
from ..actors.placement import Labels, LeastLoaded, Local, Near, Placement
from ..actors.props import Props, props
from ..actors.ref import SPAWNED, ActorRef, display, ref_class, require_ref, spawned_path
from ..actors.supervision import PERMANENT, Restart, Strategy
from ..actors.supervisor import ChildSpec, Supervisor, specs_of
from .cell import Cell
from .life import Life
from .ring import Ring as HashRing
from .ring import key_hash, partition_of
from .supervision import Supervision, child_name
from .system import System
from .transaction import open_transaction

if TYPE_CHECKING:
    from .host import Host
    from .kinds import Kind


class Lives:
    """Starts and ends the spawned actors of one node."""

    def __init__(self, host: Host, system: System, root: Strategy, seed: int, patience: float) -> None:
        """Belong to one node.

        Args:
            host: Has the activations.
            system: Reaches other nodes.
            root: How the cluster's root treats its children.
            seed: Of the jitter of restarts.
            patience: See `Supervision`.
        """
        self._host = host
        self._system = system
        self.rng = random.Random(seed)
        self.supervision = Supervision(host, system, root, self.rng, patience)
        system.verbs["spawn"] = self._on_spawn
        system.verbs["has"] = self._on_has
        system.verbs["load"] = self._on_load

    # ---- where the spawn was called --------------------------------------------------------------

    async def spawn(
        self, props: Props[Any], name: str | None, restart: Restart, on: Placement | None, parent: Cell | None
    ) -> ActorRef:
        """Start an actor, or find the living one of that name; see `Node.spawn`."""
        if not isinstance(props, Props):
            raise TypeError(f"spawn takes props(Worker, …), not {props!r}")
        if not isinstance(restart, Restart):
            raise TypeError(f"restart={restart!r}: it takes PERMANENT, TRANSIENT or TEMPORARY")
        if name is not None and (not isinstance(name, str) or not 0 < len(name) <= 200):
            raise TypeError(f"name={name!r}: a spawned actor's name is a string of 1 to 200 characters")
        kind = self._host.kinds.of(actor_type(props.cls))
        key = _key_of(parent, name)
        if name is not None and (living := await self._living(kind, key)) is not None:
            ref, is_up = self._ref(kind, key, living[0]), living[1]
            self._take(parent, ref, restart, is_up=is_up)
            return ref
        placement = on if on is not None else kind.actor.options.placement
        transaction = open_transaction()
        if transaction is not None and not isinstance(placement, Local):
            # As they are now: the turn may change them before it is saved.
            args, kwargs = cast("tuple[Any, Any]", self._host.codec.copy((props.args, props.kwargs)))
            props = replace(props, args=args, kwargs=kwargs)
        where = await self._choose(kind, key, placement)
        ref = self._ref(kind, key, where)
        self._take(parent, ref, restart, is_up=False)
        create = partial(self._create, ref, props, restart, on, parent, is_held=False)
        if transaction is not None:
            transaction.keep(partial(self._create_kept, create, ref, parent), partial(self._gone, ref, parent))
            return ref
        try:
            await create()
        except BaseException:
            self._gone(ref, parent)
            raise
        return ref

    async def _create_kept(self, create: Callable[[], Awaitable[None]], ref: ActorRef, parent: Cell | None) -> None:
        """Make an actor whose spawner has not waited for it."""
        try:
            await create()
        except RingcastError as error:
            self._gone(ref, parent)
            self._host.dead.add(display(ref._type_name, ref._key), "spawn", str(error))

    def _gone(self, ref: ActorRef, parent: Cell | None) -> None:
        """Forget a child that was not started."""
        if parent is not None:
            family = self.supervision.family_of(parent)
            self.supervision.carry_out(parent, family, family.gone(ref))

    async def supervise(self, cls: type[Any], name: str) -> ActorRef:
        """Start a supervisor once for the cluster; see `Node.supervise`."""
        if not (isinstance(cls, type) and issubclass(cls, Supervisor)):
            raise TypeError(
                f"supervise takes a subclass of ringcast.Supervisor, not {cls!r}; for other actors use spawn"
            )
        return await self.spawn(props(cls), name, PERMANENT, None, None)

    async def declare(self, parent: Cell, supervisor: Supervisor) -> None:
        """Have the children that a supervisor declares, those that were kept and new ones, started in order."""
        family = self.supervision.family_of(parent)
        removed = (None if parent.life is None else parent.life.removed) or set[str]()
        kept = {cast("ActorRef", child): cast("ActorRef", child) for child in family}
        declared: list[tuple[ActorRef, Restart]] = []
        for spec in specs_of(supervisor):
            if spec.name not in removed:
                declared.append((await self._declared(parent, spec, kept), spec.restart))
        self.supervision.carry_out(parent, family, family.declare(declared))

    async def _declared(self, parent: Cell, spec: ChildSpec, kept: dict[ActorRef, ActorRef]) -> ActorRef:
        kind = self._host.kinds.of(actor_type(spec.props.cls))
        key = _key_of(parent, spec.name)
        ref = kept.get(self._ref(kind, key, ""))
        if ref is None:
            if (living := await self._living(kind, key)) is not None:
                ref = self._ref(kind, key, living[0])
                self._take(parent, ref, spec.restart, is_up=living[1])
                return ref
            where = await self._choose(kind, key, spec.on if spec.on is not None else kind.actor.options.placement)
            ref = self._ref(kind, key, where)
        await self._create(ref, spec.props, spec.restart, spec.on, parent, is_held=True)
        return ref

    async def _create(
        self,
        ref: ActorRef,
        props: Props[Any],
        restart: Restart,
        on: Placement | None,
        parent: Cell | None,
        *,
        is_held: bool,
    ) -> None:
        """Make the actor's cell where its ref says; the actor is made at once, or held until it is to start."""
        kind, where = self._host.kinds.named(ref._type_name), ref._node
        assert where is not None, "every spawned actor has a node"
        parent_ref = None if parent is None else parent.me
        placement = on if on is not None else kind.actor.options.placement
        args, kwargs = props.args, props.kwargs
        if isinstance(placement, Local):
            await self._on_spawn(kind.name, None, ref._key, args, kwargs, restart.value, parent_ref, is_held)
            return
        try:
            self._host.codec.pack([list(args), kwargs])
        except CodecError:
            raise self._host.codec.explain([list(args), kwargs], "props") from None
        if where == self._host.node_id:
            args, kwargs = cast("tuple[tuple[Any, ...], dict[str, Any]]", self._host.codec.copy((args, kwargs)))
        blob = self._host.kinds.blob(kind.name)
        rest = (list(args), kwargs, restart.value, parent_ref, is_held)
        await self._system.call(where, "spawn", kind.name, blob, ref._key, *rest)

    def _take(self, parent: Cell | None, ref: ActorRef, restart: Restart, *, is_up: bool) -> None:
        """Note a child with its parent."""
        if parent is None:
            return
        family = self.supervision.family_of(parent)
        if family.is_closing:
            raise ActorStopped(
                f"{parent.name} is about to end, and starts no more children",
                certainty=NOT_SENT,
                actor=parent.name,
                node=self._host.node_id,
            )
        if parent.life is not None and parent.life.removed:
            parent.life.removed.discard(child_name(parent.me, ref))
        family.add(ref, restart, is_up=is_up)

    async def _living(self, kind: Kind, key: Any) -> tuple[str, bool] | None:
        """Return the id of the member where an actor of that name lives, and whether it is up there."""
        members = sorted(self._host.kinds.members)
        answers = await asyncio.gather(
            *(self._system.call(member, "has", kind.name, key) for member in members), return_exceptions=True
        )
        for member, answer in zip(members, answers, strict=True):
            if isinstance(answer, bool):
                return member, answer
        return None

    async def _choose(self, kind: Kind, key: Any, placement: Placement) -> str:
        match placement:
            case Local():
                return self._host.node_id
            case Near(ref):
                target = require_ref(ref, "Near")
                name, its_key, node = target._type_name, target._key, target._node
                return self._host.kinds.owner(self._host.kinds.named(name), its_key, node)
            case LeastLoaded():
                ids = self._host.kinds.hosts(kind)
                loads = await asyncio.gather(*(self._system.call(i, "load") for i in ids), return_exceptions=True)
                known = [(load, i) for load, i in zip(loads, ids, strict=True) if isinstance(load, int)]
                if known:
                    return min(known)[1]
            case Labels(wanted):
                members = self._host.kinds.members
                ids = tuple(
                    i
                    for i in self._host.kinds.hosts(kind)
                    if all(members[i].labels.get(label) == value for label, value in wanted)
                )
                if not ids:
                    raise Unreachable(
                        f"no member that hosts {kind.name} carries the labels {dict(wanted)}: start a node with "
                        f"Node(labels={dict(wanted)})",
                        certainty=NOT_SENT,
                        actor=display(kind.name, key),
                    )
                return HashRing(ids).owner(partition_of(key_hash(kind.name, key)))
            case _:
                pass
        return self._host.kinds.owner(kind, key, None)

    def _ref(self, kind: Kind, key: Any, node: str) -> ActorRef:
        return ref_class(kind.actor)(self._host.router, kind.name, key, node)

    async def stop(self, ref: Any) -> None:
        """Stop an actor for good, and return when it has ended; a keyed one is deactivated."""
        target = require_ref(ref, "stop")
        name, key, node = target._type_name, target._key, target._node
        try:
            where = self._host.kinds.owner(self._host.kinds.named(name), key, node)
        except Unreachable:
            if node is None:
                raise
            return  # it ended with its node
        await self._system.call(where, "stop", name, key)

    # ---- where the actor lives ---------------------------------------------------------------------

    async def _on_spawn(
        self,
        name: str,
        blob: bytes | None,
        key: Any,
        args: Any,
        kwargs: dict[str, Any],
        restart: str,
        parent: ActorRef | None,
        is_held: bool,
    ) -> None:
        kind = self._host.kinds.learn(name, blob)
        while (cell := kind.cells.get(key)) is not None and cell.is_going:
            await self._host.next_retired()  # the name is free once its last bearer has gone
        if cell is None:
            life = Life(tuple(args), kwargs, Restart(restart), parent, is_down=is_held)
            self._start(kind, key, life)
        elif is_held and cell.life is not None and cell.life.is_down:  # kept by a supervisor that starts again
            cell.life.args, cell.life.kwargs, cell.life.restart = tuple(args), kwargs, Restart(restart)

    def _start(self, kind: Kind, key: Any, life: Life) -> None:
        if not kind.is_here:
            raise Unreachable(
                f"{display(kind.name, key)} cannot be started: node {self._host.node_id} has not imported its class",
                certainty=NOT_SENT,
                actor=display(kind.name, key),
                node=self._host.node_id,
            )
        cell = self._host.make_cell(kind, key)
        cell.life = life
        if life.parent is None:
            self.supervision.root.add(cell.me, life.restart)
        cell.revive_at(math.inf if life.is_down else monotonic())

    async def _on_has(self, name: str, key: Any) -> bool | None:
        """Say whether an actor of that name lives here, and is up; None if not. Who asks supervises it from now on."""
        cell = self._host.kinds.named(name).cells.get(key)
        if cell is None or cell.is_going:
            return None
        return self.supervision.adopt(cell)

    async def _on_load(self) -> int:
        return sum(len(kind.cells) for kind in self._host.kinds.by_name.values())


def _key_of(parent: Cell | None, name: str | None) -> tuple[str, str]:
    """Return the key of a spawned actor: whose child it is, and its name among its siblings."""
    above = spawned_path(None if parent is None else parent.me)
    return SPAWNED, f"{above}/{name if name is not None else uuid.uuid4().hex[:12]}"
