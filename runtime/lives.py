"""Spawned actors: how one is placed, started, found again by its name, and stopped.

A spawned actor has a row in the register, which says where it runs and how to start it again when
that node leaves or is lost; a name is given once, by the keeper of the row. Only an actor that ends
with this node and that nobody has named has none.

What is decided elsewhere: where it runs and where it goes on (keeper), what happens when it fails or
ends (family), and how that is carried out (supervision).
"""

from __future__ import annotations

import asyncio
import math
import random
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import NOT_SENT, ActorStopped, CallError, CodecError, RingcastError, Unreachable

from ..actors.actor import actor_type
from ..actors.placement import Local, Placement
from ..actors.props import Props, props
from ..actors.ref import SPAWNED, ActorRef, display, is_spawned, ref_class, require_ref, spawned_path
from ..actors.supervision import PERMANENT, Restart, Strategy
from ..actors.supervisor import ChildSpec, Supervisor, specs_of
from ..discovery.member import Identity
from .cell import Cell
from .life import Life
from .notes import NoteBook
from .register import Register, placement_to_wire
from .rows import Row, RowId
from .seeker import Seeker
from .supervision import Supervision, child_name
from .system import System
from .tenancy import FENCED
from .transaction import open_transaction

AGAIN = 0.02
"""Seconds until a name is claimed again whose last bearer has just ended."""

REPORT = 5.0
"""Seconds that a `stop` waits until the keepers and the supervisor know of the end."""

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
        self.register = Register(host, system)
        self.register.lives = self
        self.notes = NoteBook(host, self.register)
        self.seeker = Seeker(host, self.register)
        self._at_hand: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self._ended: dict[RowId, str] = {}
        """Actors that have ended here, and whose keepers do not know it yet: which call of `spawn` had made them."""
        self._reports: dict[RowId, asyncio.Task[None]] = {}
        system.verbs["renew"] = self._on_renew
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
        ref = self._ref(kind, key, self._host.node_id)
        had_it = parent is not None and parent.children is not None and ref in parent.children
        placement = on if on is not None else kind.actor.options.placement
        transaction = open_transaction()
        if transaction is not None and not isinstance(placement, Local):
            # As they are now: the turn may change them before it is saved.
            args, kwargs = cast("tuple[Any, Any]", self._host.codec.copy((props.args, props.kwargs)))
            props = replace(props, args=args, kwargs=kwargs)
        self._take(parent, ref, restart, is_up=False, is_named=name is not None)
        found = None if had_it else parent
        begin = partial(self._begin, ref, props, restart, on, parent, found, is_named=name is not None)
        if transaction is not None:
            transaction.keep(partial(self._begin_kept, begin, ref), partial(self._gone, ref, found))
            return ref
        return await begin()

    async def _begin(
        self,
        ref: ActorRef,
        props: Props[Any],
        restart: Restart,
        on: Placement | None,
        parent: Cell | None,
        new_parent: Cell | None,
        *,
        is_named: bool,
    ) -> ActorRef:
        """Have the actor made, or found; `new_parent` is whose child it was not before."""
        try:
            where, is_new = await self._create(ref, props, restart, on, parent, is_named=is_named)
        except BaseException:
            self._gone(ref, new_parent)
            raise
        if where is None and parent is not None:
            self.supervision.away(parent, ref)
        if parent is not None and parent.life is not None:
            await self.notes.write(parent.life)  # it may be left out no more
        kind, key = self._host.kinds.named(ref._type_name), ref._key
        if where is not None and not is_new and parent is not None and await self._is_up(where, kind, key):
            family = self.supervision.family_of(parent)
            self.supervision.carry_out(parent, family, family.up(ref, monotonic()))
        return self._ref(kind, key, where or self._host.node_id)

    async def _begin_kept(self, begin: Callable[[], Awaitable[ActorRef]], ref: ActorRef) -> None:
        """Make an actor whose spawner has not waited for it."""
        try:
            await begin()
        except RingcastError as error:
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
        specs = specs_of(supervisor)
        kept = {cast("ActorRef", child): cast("ActorRef", child) for child in family}
        declared: list[tuple[ActorRef, Restart]] = []
        life = parent.life
        if life is not None:
            life.declared, life.is_declaring = frozenset(spec.name for spec in specs), True
        try:
            for spec in specs:
                if life is None or spec.name not in (life.removed or ()):
                    declared.append((await self._declared(parent, spec, kept), spec.restart))
            found = [cast("ActorRef", child) for child in family if family.is_started(child)]
            down = [child for child in found if await self._is_down(child)]
            self.supervision.carry_out(parent, family, family.declare(declared, down))
        finally:
            if life is not None:
                life.is_declaring = False

    async def _declared(self, parent: Cell, spec: ChildSpec, kept: dict[ActorRef, ActorRef]) -> ActorRef:
        kind = self._host.kinds.of(actor_type(spec.props.cls))
        key = _key_of(parent, spec.name)
        ref = kept.get(self._ref(kind, key, ""))
        if ref is not None and await self._renew(ref, spec):
            return ref
        ref = self._ref(kind, key, self._host.node_id)
        where, is_new = await self._create(ref, spec.props, spec.restart, spec.on, parent, is_named=True, is_held=True)
        if not is_new:
            self._take(parent, ref, spec.restart, is_up=where is not None and await self._is_up(where, kind, key))
        if where is None:
            self._take(parent, ref, spec.restart, is_up=False)
            self.supervision.away(parent, ref)
        return self._ref(kind, key, where or self._host.node_id)

    async def _renew(self, ref: ActorRef, spec: ChildSpec) -> bool:
        """Give a child that was kept the arguments of this start; False if it has ended meanwhile."""
        try:
            where = await self.locate(ref)
            args, kwargs = list(spec.props.args), spec.props.kwargs
            if where == self._host.node_id:
                args, kwargs = cast("tuple[list[Any], dict[str, Any]]", self._host.codec.copy((args, kwargs)))
            return bool(await self._system.call(where, "renew", ref._type_name, ref._key, args, kwargs))
        except CodecError:
            raise self._host.codec.explain([list(spec.props.args), spec.props.kwargs], "props") from None
        except CallError:
            return False

    async def _create(
        self,
        ref: ActorRef,
        props: Props[Any],
        restart: Restart,
        on: Placement | None,
        parent: Cell | None,
        *,
        is_named: bool,
        is_held: bool = False,
    ) -> tuple[str | None, bool]:
        """Have the actor made, or held until it is to start; return its node's id, if any, and whether it is new."""
        kind = self._host.kinds.named(ref._type_name)
        placement = on if on is not None else kind.actor.options.placement
        cannot_travel = self._host.kinds.hosts(kind) == (self._host.node_id,) and kind.actor.by_value
        is_local = isinstance(placement, Local) or (cannot_travel and not kind.actor.can_travel)
        packed, args, kwargs = b"", props.args, props.kwargs
        if not is_local:
            try:
                packed = self._host.codec.pack([list(args), kwargs])
            except CodecError:
                raise self._host.codec.explain([list(args), kwargs], "props") from None
        parent_ref = None if parent is None else parent.me
        me = self.register.me
        assert me is not None, "who runs has a view that holds it"
        if is_local and not is_named:
            self._start(kind, ref._key, Life(args, kwargs, restart, parent_ref, is_down=is_held))
            return me[0], True
        row = Row(
            (kind.name, ref._key[1]),
            self._host.codec.pack([packed, placement_to_wire(placement)]),
            restart,
            None if parent_ref is None else (parent_ref._type_name, parent_ref._key),
            is_named,
            is_local,
            uuid.uuid4().hex,
            me if is_local else None,
            (0, 0),
        )
        if is_local:
            self._at_hand[row.claim] = args, kwargs
        try:
            while True:
                found, is_new = await self.register.claim(row, is_held=is_held)
                where = found.host
                if where is None or is_new or await self._is_there(where[0], kind, ref._key):
                    return None if where is None else where[0], is_new
                await self._host.wait_for_view(AGAIN)  # it has ended, and its keeper does not know it yet
        finally:
            self._at_hand.pop(row.claim, None)

    async def _is_there(self, where: str, kind: Kind, key: Any) -> bool:
        try:
            return await self._system.call(where, "has", kind.name, key) is not None
        except CallError:
            return False

    async def _is_down(self, ref: ActorRef) -> bool:
        """Whether a child that was found has nobody who starts it: its last supervisor was lost before it did."""
        try:
            where = await self.locate(ref)
            return await self._system.call(where, "has", ref._type_name, ref._key) is False
        except CallError:
            return False

    async def _is_up(self, where: str, kind: Kind, key: Any) -> bool:
        try:
            return bool(await self._system.call(where, "has", kind.name, key))
        except CallError:
            return False

    def _take(
        self, parent: Cell | None, ref: ActorRef, restart: Restart, *, is_up: bool, is_named: bool = True
    ) -> None:
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
        family.add(ref, restart, is_up=is_up, is_named=is_named)

    def _ref(self, kind: Kind, key: Any, node: str) -> ActorRef:
        return ref_class(kind.actor)(self._host.router, kind.name, key, node)

    async def stop(self, ref: Any, *how: Any) -> None:
        """Stop an actor for good, and return when it has ended; a keyed one is deactivated.

        `how` is the reason, if it is another than that somebody wants it, and whether its supervisor does.
        """
        target = require_ref(ref, "stop")
        name, key, hint = target._type_name, target._key, target._node
        where: str | None = None
        if hint is None:
            where = self._host.kinds.owner(self._host.kinds.named(name), key, None)
            await self._system.call(where, "stop", name, key)
            return
        where, last = self.register.whereabouts.of(name, key, hint), None
        while True:
            if where is None or where == last:
                host, _ = await self.register.find(name, key, or_end=True)
                if host is None or host[0] == last:
                    return
                where = host[0]
            try:
                if await self._system.call(where, "stop", name, key, *how) is not None:
                    return
            except CallError:
                if where in self._host.kinds.members and not how:
                    raise
                await self._host.wait_for_view(AGAIN)
            last = where

    async def locate(self, ref: ActorRef, *, afresh: bool = False) -> str:
        """Return the id of the member where an actor is, or would be activated; `afresh` by its keeper's word.

        Raises:
            Unreachable: If it is nowhere.
        """
        return await self.register.locate(ref, afresh=afresh)

    def is_elsewhere(self, ref: ActorRef) -> bool:
        """Whether a spawned actor is on a member, as far as this node knows."""
        return self.register.whereabouts.of(ref._type_name, ref._key, ref._node or "") is not None

    # ---- where the actor lives ---------------------------------------------------------------------

    async def begin(self, row: Row, kin: Sequence[Row], *, is_held: bool) -> None:
        """Make the cell of a spawned actor, as the leader of its row says.

        Raises:
            CodecError: If its arguments cannot be decoded here.
            Unreachable: If it cannot be made here.
        """
        kinds, key = self._host.kinds, (SPAWNED, row.id[1])
        kind = kinds.named(row.id[0])
        while (cell := kind.cells.get(key)) is not None and (
            cell.life is None or cell.life.row is None or (cell.is_going and cell.life.row.claim != row.claim)
        ):
            await self._host.next_retired()  # the name is free once its last bearer has gone
        if cell is not None:
            assert cell.life is not None, "a spawned actor has a life"
            cell.life.row = row
            return
        if self._ended.get(row.id) == row.claim:
            return  # its keepers will know in a moment
        args, kwargs = self._at_hand.get(row.claim) or self._host.codec.unpack(self._host.codec.unpack(row.spec)[0])
        parent = None if row.parent is None else kinds.ref_by_name(*row.parent, None)
        if parent is not None and is_spawned(parent._key):
            parent = kinds.ref_by_name(parent._type_name, parent._key, self._host.node_id)
        life = Life(tuple(args), kwargs, row.restart, parent, is_down=is_held, row=row)
        life.notes = row.notes
        cell = self._start(kind, key, life)
        self._host.watches.resume(cell)
        for child in kin:
            if child.host is not None:
                self.register.whereabouts.learn(child.id[0], (SPAWNED, child.id[1]), child.host)
        children = [(kinds.ref_by_name(c.id[0], (SPAWNED, c.id[1]), self._host.node_id), c.restart) for c in kin]
        if children:
            self.supervision.take_kin(cell, children)

    async def _on_renew(self, name: str, key: Any, args: Any, kwargs: dict[str, Any]) -> bool:
        """Take new arguments for an actor that a supervisor has kept, and starts again."""
        cell = self._host.kinds.named(name).cells.get(key)
        if cell is None or cell.is_going or cell.life is None:
            return False
        if cell.life.is_down:
            cell.life.args, cell.life.kwargs = tuple(args), kwargs
        return True

    # ---- the end of a life -------------------------------------------------------------------------

    def released(self, cell: Cell, reason: str) -> None:
        """The cell of a spawned actor is gone: it has ended for good, or goes on elsewhere."""
        life, name, key = cell.life, cell.kind.name, cell.key
        assert life is not None, "a keyed actor has no life of its own"
        me = self.register.me
        self._host.router.routes.found(name, key)
        if life.outlives_its_node and (reason == FENCED or (reason == "leaving" and self.has_heirs())):
            if reason == "leaving" and me is not None:
                assert life.row is not None, "who outlives its node has a row"
                self._report(life.row, self._release(life.row, me))
            self.supervision.gone_on(cell)
            self._host.watched.moved(name, key)
            return
        if life.row is None:
            self.register.whereabouts.end(name, key)
        told = self.supervision.released(cell, reason)
        self._host.watched.ended(name, key, reason)
        if life.row is not None and reason != FENCED and me is not None:
            self._ended[life.row.id] = life.row.claim
            self._report(life.row, self._end(life.row, me, reason, told))

    async def _end(self, row: Row, me: Identity, reason: str, told: asyncio.Task[None] | None) -> None:
        await self.register.ended(row.id, me, reason)
        if self._ended.get(row.id) == row.claim:
            del self._ended[row.id]
        if told is not None:
            await asyncio.wait([told])

    async def _release(self, row: Row, me: Identity) -> None:
        await self.notes.settled(row.id)
        await self.register.released(row.id, me)

    def _report(self, row: Row, report: Coroutine[Any, Any, None]) -> None:
        task = self._reports[row.id] = self._host.background(report)

        def done(_: object) -> None:
            if self._reports.get(row.id) is task:
                del self._reports[row.id]

        task.add_done_callback(done)

    async def reported(self, name: str, key: Any) -> None:
        """Wait until keepers and supervisor know that an actor has ended, for `REPORT` seconds at most."""
        task = self._reports.get((name, key[1])) if is_spawned(key) else None
        if task is not None:
            await asyncio.wait([task], timeout=REPORT)

    async def handed_over(self, seconds: float) -> None:
        """Wait until the actors and the rows of this node are elsewhere, for `seconds` at most: it leaves."""
        end = monotonic() + seconds
        if not self.has_heirs():
            return
        if self._reports:
            await asyncio.wait(list(self._reports.values()), timeout=seconds)
        while not self.register.is_clear and monotonic() < end:
            await self._host.wait_for_view(AGAIN)

    def has_heirs(self) -> bool:
        """Whether there are others that may take what this node has."""
        here = self._host.node_id
        return any(member.id != here and not member.leaving for member in self._host.kinds.members.values())

    def _start(self, kind: Kind, key: Any, life: Life) -> Cell:
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
        return cell

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
