"""What a spawned actor has and a keyed one has not: arguments, a parent, children, an end.

A spawned actor is started by the node that `on=` chooses and stays there until that node leaves or
is lost; its ref carries the node's id. `spawn(name=…)` asks the members for a living actor of that
name first.

When it fails, it is started again there after its supervisor's backoff, as `restart` says. Past
the intensity it is retried at the backoff's limit and shown as failing. (Strategies that take
siblings along, escalation, and restarts on another node come with supervision across nodes.)
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import NOT_SENT, CallError, CodecError, Unreachable

from ..actors.actor import actor_type
from ..actors.placement import Labels, LeastLoaded, Local, Near, Placement
from ..actors.props import Props
from ..actors.ref import SPAWNED, ActorRef, display, ref_class, require_ref, spawned_path
from ..actors.supervision import PERMANENT, TEMPORARY, Restart, Strategy
from .cell import Cell
from .ring import Ring as HashRing
from .ring import key_hash, partition_of
from .system import System

if TYPE_CHECKING:
    from .host import Host
    from .kinds import Kind


@dataclass(slots=True, eq=False)
class Life:
    """The explicit life of a spawned actor.

    Attributes:
        args: The constructor's positional arguments.
        kwargs: The constructor's keyword arguments.
        restart: Whether it is started again after a failure or a normal end.
        parent: The ref of the actor that spawned it; None for the cluster's root.
        strategy: How its supervisor treats failures.
        recent: Monotonic times of the latest restarts, for the intensity.
        failing: Whether it is past its supervisor's intensity and retried at the backoff's limit.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    restart: Restart
    parent: ActorRef | None
    strategy: Strategy
    recent: deque[float] = field(default_factory=lambda: deque[float]())
    failing: bool = False

    def intensity_exceeded(self, now: float) -> bool:
        """Note a restart, and say whether there were too many of them within the strategy's window."""
        recent = self.recent
        recent.append(now)
        while recent and recent[0] < now - self.strategy.within:
            recent.popleft()
        return len(recent) > self.strategy.max_restarts


class Lives:
    """Starts and ends the spawned actors of one node."""

    def __init__(self, host: Host, system: System, root: Strategy, seed: int) -> None:
        """Belong to one node; `root` is how the cluster's root treats its children."""
        self._host = host
        self._system = system
        self._root = root
        self.rng = random.Random(seed)
        system.verbs["spawn"] = self._on_spawn
        system.verbs["has"] = self._on_has
        system.verbs["stop"] = self._on_stop
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
        actor = actor_type(props.cls)
        kind = self._host.kinds.of(actor)
        above = spawned_path(None if parent is None else parent.me)
        key = (SPAWNED, f"{above}/{name}" if name is not None else f"{above}/{uuid.uuid4().hex[:12]}")
        placement = on if on is not None else actor.options.placement
        parent_ref = None if parent is None else parent.me
        strategy = self._root if parent is None else parent.kind.actor.options.supervision
        if name is not None and (living := await self._living(kind, key)) is not None:
            return self._child(parent, self._ref(kind, key, living))
        life = [restart.value, parent_ref, strategy.max_restarts, strategy.within]
        if isinstance(placement, Local):
            if key not in kind.cells:
                self._start(kind, key, Life(props.args, props.kwargs, restart, parent_ref, strategy))
            where = self._host.node_id
        else:
            try:
                self._host.codec.pack([list(props.args), props.kwargs])
            except CodecError:
                raise self._host.codec.explain([list(props.args), props.kwargs], "props") from None
            where = await self._choose(kind, key, placement)
            blob = self._host.kinds.blob(kind.name)
            args, kwargs = list(props.args), props.kwargs
            if where == self._host.node_id:
                args, kwargs = cast("tuple[list[Any], dict[str, Any]]", self._host.codec.copy((args, kwargs)))
            await self._system.call(where, "spawn", kind.name, blob, key, args, kwargs, life, strategy.backoff)
        return self._child(parent, self._ref(kind, key, where))

    def _child(self, parent: Cell | None, ref: ActorRef) -> ActorRef:
        """Note a child with its parent, and return it."""
        if parent is not None:
            if parent.children is None:
                parent.children = []
            if ref not in parent.children:
                parent.children.append(ref)
        return ref

    async def _living(self, kind: Kind, key: Any) -> str | None:
        """Return the id of the member where an actor of that name lives."""
        members = sorted(self._host.kinds.members)
        answers = await asyncio.gather(
            *(self._system.call(member, "has", kind.name, key) for member in members), return_exceptions=True
        )
        return next((member for member, has in zip(members, answers, strict=True) if has is True), None)

    async def _choose(self, kind: Kind, key: Any, placement: Placement) -> str:
        match placement:
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

    async def stop_children(self, cell: Cell) -> None:
        """Stop what an actor has spawned, last started first."""
        children, cell.children = cell.children, None
        for child in reversed(children or ()):
            try:
                await self.stop(child)
            except CallError as error:
                self._host.log.warning("a child could not be stopped", actor=repr(child), error=str(error))

    # ---- where the actor lives ---------------------------------------------------------------------

    async def _on_spawn(
        self,
        name: str,
        blob: bytes | None,
        key: Any,
        args: list[Any],
        kwargs: dict[str, Any],
        life: list[Any],
        backoff: Any,
    ) -> None:
        kind = self._host.kinds.learn(name, blob)
        restart, parent, max_restarts, within = life
        strategy = Strategy(max_restarts, within, backoff)
        if key not in kind.cells:
            self._start(kind, key, Life(tuple(args), kwargs, Restart(restart), parent, strategy))

    def _start(self, kind: Kind, key: Any, life: Life) -> None:
        if not kind.is_here:
            raise Unreachable(
                f"{display(kind.name, key)} cannot be started: node {self._host.node_id} has not imported its class",
                certainty=NOT_SENT,
                actor=display(kind.name, key),
                node=self._host.node_id,
            )
        cell = kind.cells[key] = Cell(self._host, kind, key)
        self._host.activations += 1
        cell.life = life
        cell.revive_at(monotonic())

    async def _on_has(self, name: str, key: Any) -> bool:
        cell = self._host.kinds.named(name).cells.get(key)
        return cell is not None and cell.retiring is None

    async def _on_load(self) -> int:
        return sum(len(kind.cells) for kind in self._host.kinds.by_name.values())

    async def _on_stop(self, name: str, key: Any) -> None:
        kind = self._host.kinds.named(name)
        cell = kind.cells.get(key)
        if cell is None:
            return
        cell.retire("stopped")
        while kind.cells.get(key) is cell:
            await self._host.next_retired()

    def goes_on(self, cell: Cell, *, failed: bool) -> bool:
        """Whether a spawned actor that failed or ended itself is started again."""
        life = cell.life
        assert life is not None
        if cell.retiring not in (None, "ended") or life.restart is TEMPORARY:
            return False
        if not failed:
            return life.restart is PERMANENT
        life.failing = life.intensity_exceeded(monotonic())
        return True

    def ended(self, cell: Cell, reason: str) -> None:
        """Tell who watches a spawned actor that it has ended for good; its parent forgets it, if it is here."""
        parent = None if cell.life is None else cell.life.parent
        if parent is not None:
            above = self._host.kinds.named(parent._type_name).cells.get(parent._key)
            if above is not None and above.children and cell.me in above.children:
                above.children.remove(cell.me)
        self._host.watches.ended(cell.kind.name, cell.key, reason)
