"""Supervision at work: what a `Family` decides is carried out, and what happens is told to it.

The family of an actor is kept beside its activation, so decisions are made at the supervisor's
node. Children may run on other nodes: their nodes report, and take orders, by the system's verbs;
on one node both are plain calls. The cluster's root needs no node: it decides for each child apart,
so each node keeps a root for the actors that run there.

A spawned actor that is down keeps its cell: its mailbox, its watchers and its place among its
siblings wait for what its supervisor says. The children of a `Supervisor` that is started again are
kept so, too; those of other actors end with the activation that spawned them.

A child that was lost with its node is started again elsewhere by the register, and reports from there:
to its family that is no failure. A supervisor that was lost is started again, too, and finds its living
children. Orders and reports follow both. Where the register knows nothing of a supervisor any more, its
children are left running, and the root stands in until somebody spawns them by their names.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import CallError

from ..actors.ref import ActorRef, is_spawned, spawned_path
from ..actors.supervision import Restart, Strategy
from ..actors.supervisor import Supervisor
from .directives import Closed, Directive, End, Escalate, Ready, Start, Stop
from .family import Family
from .orders import PASSING, Orders, life_of

if TYPE_CHECKING:
    from .cell import Cell
    from .host import Host
    from .system import System

AGAIN = 1.0
"""Seconds after which an order to another node that was not answered is repeated, or at the next view."""

_WITH_THE_NODE = frozenset({"leaving", "lost"})


class TooManyRestarts(Exception):
    """The failure of a supervisor whose children have failed too often."""


class Supervision:
    """Carries out, on one node, what the supervisors there decide."""

    def __init__(self, host: Host, system: System, root: Strategy, rng: random.Random, patience: float) -> None:
        """Belong to one node.

        Args:
            host: Has the activations.
            system: Reaches other nodes.
            root: How the cluster's root treats its children.
            rng: Draws the jitter of restarts.
            patience: Seconds that a running turn, and `on_stop`, may take once an actor is to be stopped by
                its supervisor, before it is cancelled.
        """
        self._host = host
        self._system = system
        self._rng = rng
        self.patience = patience
        self._root_strategy = root
        self.root = Family(root, rng, is_root=True)
        self._closing: dict[Family, tuple[asyncio.Future[None], str]] = {}
        self._orders = Orders(host, system, patience)
        system.verbs["report"] = self._on_report

    # ---- at the child's node: what happens is reported -------------------------------------------

    def started(self, cell: Cell) -> None:
        """A spawned actor has been made, and `on_start` has run."""
        life = life_of(cell)
        life.is_down = False
        life.since = monotonic()
        self._report(cell, "up")

    def is_down(self, cell: Cell, event: str, why: str) -> None:
        """The activation of a spawned actor is over, its cell is kept: its supervisor decides.

        Args:
            cell: The actor's.
            event: ``failed``, ``ended`` (by itself), or ``halted`` (as its supervisor said).
            why: The reason for people.
        """
        life = life_of(cell)
        life.is_down = True
        cell.not_before = math.inf
        self._host.note_retired()
        if event != "halted":
            life.why = why
            self._report(cell, event)

    def gone_on(self, cell: Cell) -> None:
        """A spawned actor leaves this node, to go on elsewhere: a family here waits for it, as others' do."""
        life = life_of(cell)
        if life.parent is None or life.is_orphan:
            self._hear(None, self.root, cell.me, "gone", "")
            return
        parent = self._host.kinds.named(life.parent._type_name).cells.get(life.parent._key)
        if parent is not None and parent.children is not None:
            if parent.children.stopping == cell.me:
                return  # it is answered for
            self.away(parent, cell.me)

    def released(self, cell: Cell, reason: str) -> asyncio.Task[None] | None:
        """A spawned actor has ended for good; return what ends when its supervisor has taken that in."""
        return self._report(cell, "gone", reason)

    def _report(self, cell: Cell, event: str, reason: str = "") -> asyncio.Task[None] | None:
        life = life_of(cell)
        if life.parent is None or life.is_orphan:
            self._hear(None, self.root, cell.me, event, reason)
            return None
        if not self._is_here(life.parent):
            return self._host.background(self._report_to(life.parent, cell, event, reason))
        if not self._hear_at(life.parent, cell.me, event, reason):
            self._stand_in(cell, event)
        above = self._host.kinds.named(life.parent._type_name).cells.get(life.parent._key)
        if event != "gone" or above is None or above.life is None:
            return None
        return self._host.background(self._host.lives.notes.write(above.life))

    async def _report_to(self, parent: ActorRef, cell: Cell, event: str, reason: str) -> None:
        known = await self._order(parent, "report", cell.me, event, reason)
        if not known:
            self._stand_in(cell, "failed" if event == "known" else event)

    def _is_here(self, ref: ActorRef) -> bool:
        """Whether an actor is on this node, or would be."""
        if ref._key in self._host.kinds.named(ref._type_name).cells:
            return True
        if ref._node is not None:
            return False
        return self._host.kinds.owner_or_none(self._host.kinds.named(ref._type_name), ref._key) == self._host.node_id

    def _stand_in(self, cell: Cell, event: str) -> None:
        """The supervisor of an actor is out of reach, or knows nothing of it: the root stands in."""
        life = life_of(cell)
        if life.is_orphan or event == "gone" or cell.kind.cells.get(cell.key) is not cell:
            return
        life.is_orphan = True
        self._host.log.warning("an actor's supervisor is gone: the root stands in", actor=cell.name)
        self.root.add(cell.me, life.restart, is_up=event == "up")
        self._hear(None, self.root, cell.me, event, "")

    def adopt(self, cell: Cell) -> bool:
        """A living actor was found by its name: its parent supervises it again. Return whether it is up."""
        life = life_of(cell)
        if life.is_orphan:
            life.is_orphan = False
            self.root.gone(cell.me)
        return cell.actor is not None

    # ---- at the supervisor's node: reports become directives -------------------------------------

    async def _on_report(self, name: str, key: Any, child: ActorRef, event: str, reason: str) -> bool | None:
        if is_spawned(key) and key not in self._host.kinds.named(name).cells:
            return None  # it has gone on elsewhere
        knows = self._hear_at(self._host.kinds.ref_by_name(name, key, None), child, event, reason)
        cell = self._host.kinds.named(name).cells.get(key)
        if event == "gone" and cell is not None and cell.life is not None:
            await self._host.lives.notes.write(cell.life)
        return knows

    def _hear_at(self, parent: ActorRef, child: ActorRef, event: str, reason: str) -> bool:
        """Take a report for a supervisor of this node; return False if it does not know the child."""
        cell = self._host.kinds.named(parent._type_name).cells.get(parent._key)
        family = None if cell is None else cell.children
        if cell is None or family is None or child not in family:
            if cell is None or not cell.kind.supervises:
                return event == "gone"
            # It holds children before it knows them all; then it sees for itself whether they are up.
            is_declaring = cell.actor is None or (cell.life is not None and cell.life.is_declaring)
            return is_declaring or event in ("gone", "known")
        self._hear(cell, family, child, event, reason)
        return True

    def _hear(self, parent: Cell | None, family: Family, child: ActorRef, event: str, reason: str) -> None:
        now = monotonic()
        directives: list[Directive] = []
        match event:
            case "up":
                directives = family.up(child, now)
            case "failed":
                directives = family.failed(child, now)
            case "ended":
                directives = family.ended(child, now)
            case "halted":
                directives = family.halted(child)
            case "gone":
                if parent is not None and reason == "stopped" and not family.is_closing and family.stopping != child:
                    leave_out(parent, child)
                directives = family.gone(child)
            case _:  # "known", which only asks
                pass
        self.carry_out(parent, family, directives)

    def carry_out(self, parent: Cell | None, family: Family, directives: Iterable[Directive]) -> None:
        """Do what a family has decided; `parent` is None for the root."""
        for directive in directives:
            match directive:
                case Start(child):
                    self._start(parent, family, cast("ActorRef", child), directive)
                case Stop(child, is_final):
                    ref = cast("ActorRef", child)
                    reason = self._closing[family][1] if family in self._closing else "stopped"
                    if reason in _WITH_THE_NODE and family.is_named(ref) and not self._is_here(ref):
                        self._host.loop.call_soon(self._hear, parent, family, ref, "gone", "")  # it runs on
                        continue
                    if not (self._is_here(ref) and family.is_named(ref)):
                        reason = "stopped"
                    self._host.background(self._halt(parent, family, ref, reason if is_final else None))
                case End(child):
                    ref = cast("ActorRef", child)
                    if self._is_here(ref):
                        self._orders.end(ref._type_name, ref._key)
                    else:
                        self._host.background(self._order(ref, "end"))
                case Escalate(child, restarts):
                    assert parent is not None, "the root never fails"
                    self._escalate(parent, cast("ActorRef", child), restarts)
                case Ready():
                    assert parent is not None, "the root declares no children"
                    if parent.life is not None:
                        self.started(parent)
                case Closed():
                    if family in self._closing:  # else nobody waits any more: the node stops
                        self._closing[family][0].set_result(None)

    def _start(self, parent: Cell | None, family: Family, child: ActorRef, start: Start) -> None:
        cause = cast("ActorRef | None", start.cause)
        rest = (start.delay, cause, start.restarts, start.is_failing)
        if self._is_here(child):
            if not self._orders.revive(child._type_name, child._key, *rest):
                self._hear(parent, family, child, "gone", "")
        else:
            self._host.background(self._start_there(parent, family, child, rest))

    async def _start_there(self, parent: Cell | None, family: Family, child: ActorRef, rest: tuple[Any, ...]) -> None:
        if not await self._order(child, "start", *rest):
            self._hear(parent, family, child, "gone", "")

    async def _halt(self, parent: Cell | None, family: Family, child: ActorRef, reason: str | None) -> None:
        """Stop a child, for good if there is a reason, and tell its family when that is done."""
        if reason is not None:
            await self._host.lives.stop(child, reason, True)
            self._hear(parent, family, child, "gone", "")
            return
        # Who was lost meanwhile is started again elsewhere, and is not to be halted there.
        is_kept = await self._order(child, "halt", is_void=lambda: family.stopping != child)
        if is_kept and family.stopping != child and child in family and not family.is_closing:
            self._start(parent, family, child, Start(child, 0.0, None, 0))  # its next activation has got the order
        elif is_kept or family.stopping == child:
            self._hear(parent, family, child, "halted" if is_kept else "gone", "")

    async def _order(self, ref: ActorRef, verb: str, *rest: Any, is_void: Callable[[], bool] = lambda: False) -> Any:
        """Tell an actor's node until it answers, wherever the actor is meanwhile; None if it has ended, or is void."""
        where = ""
        while not is_void():
            last = where
            try:
                where = await self._host.lives.locate(ref, afresh=bool(last))
            except CallError:
                return None
            if where == last and where == self._host.node_id and not self._is_here(ref):
                return None
            try:
                done = await self._system.call(where, verb, ref._type_name, ref._key, *rest)
            except CallError as error:
                self._host.log.debug("a node did not answer", peer=where, verb=verb, error=str(error))
                await self._host.wait_for_view(AGAIN)
                continue
            if done is not None or where == last:
                return done
        return None

    def _escalate(self, parent: Cell, child: ActorRef, restarts: int) -> None:
        strategy = parent.kind.actor.options.supervision
        what = f"{restarts} restarts within {strategy.within:g} s, and {strategy.max_restarts} are allowed"
        self._host.log.error("too many restarts: the supervisor fails", actor=parent.name, child=repr(child), why=what)
        parent.fail(TooManyRestarts(f"{parent.name}: {what}; the last was that of {child!r}"))

    # ---- the supervisor's own beginning and end --------------------------------------------------

    def family_of(self, parent: Cell) -> Family:
        """Return the children of an actor of this node."""
        if parent.children is None:
            parent.children = Family(parent.kind.actor.options.supervision, self._rng)
        return parent.children

    async def close(self, parent: Cell, reason: str) -> None:
        """Stop what an actor has spawned, last started first, because its activation ends.

        The children of a `Supervisor` that may be started again are kept: they are down, and wait.
        """
        family = parent.children
        if family is None:
            return
        is_kept = (
            parent.life is not None
            and not parent.life.is_over
            and reason in PASSING
            and issubclass(parent.kind.actor.cls, Supervisor)
        )
        closed = self._host.loop.create_future()
        self._closing[family] = closed, reason if reason in _WITH_THE_NODE else "stopped"
        try:
            self.carry_out(parent, family, family.close(is_final=not is_kept))
            await closed
        finally:
            del self._closing[family]
        if not is_kept:
            parent.children = None

    def take_kin(self, parent: Cell, kin: Iterable[tuple[ActorRef, Restart]]) -> None:
        """A supervisor is started again because its node was lost or has left: here are the children that it had."""
        family = self.family_of(parent)
        for child, restart in kin:
            is_up = self._host.lives.is_elsewhere(child)
            family.add(child, restart, is_up=is_up)
            if not is_up:
                family.moved(child)

    def stops_with_its_parent(self, cell: Cell) -> bool:
        """Whether an actor has a parent on this node, which stops it in its turn."""
        parent = None if cell.life is None else cell.life.parent
        above = None if parent is None else self._host.kinds.named(parent._type_name).cells.get(parent._key)
        return above is not None and above.children is not None and cell.me in above.children

    def is_failing(self, cell: Cell, now: float) -> bool:
        """Whether an actor is past the root's intensity, and has not been up for long enough since."""
        life = cell.life
        if life is None or not life.is_failing:
            return False
        return life.is_down or now - life.since < self._root_strategy.within

    def view_changed(self) -> None:
        """Say who was lost with its node, and see that nobody waits for orders from there."""
        lost = self._host.lives.register.whereabouts.view_changed()
        for cell in self._host.cells():
            for child in cell.children or ():
                ref = cast("ActorRef", child)
                if (ref._type_name, ref._key) in lost or not self._host.lives.is_elsewhere(ref):
                    self.away(cell, ref)
            life = cell.life
            above = None if life is None or not life.is_down or life.is_orphan else life.parent
            if above is not None and not self._is_here(above):
                self._host.background(self._report_to(above, cell, "known", ""))

    def away(self, parent: Cell, child: ActorRef) -> None:
        """A child was lost, or waits for a node that fits: it comes up by itself, or somebody ends it."""
        if parent.children is not None and not self._is_here(child):
            family = parent.children
            self.carry_out(parent, family, family.moved(child))
            self._host.background(self._ask_for(parent, family, child))

    async def _ask_for(self, parent: Cell, family: Family, child: ActorRef) -> None:
        """See whether a child is started again elsewhere; it reports from there."""
        host, reason = None, None
        with contextlib.suppress(CallError):
            host, reason = await self._host.lives.register.find(child._type_name, child._key)
        if host is None:
            self._hear(parent, family, child, "gone", reason or "lost")


def child_name(parent: ActorRef, child: ActorRef) -> str:
    """Return a child's name among its siblings."""
    return str(child._key[1]).removeprefix(f"{spawned_path(parent)}/")


def leave_out(parent: Cell, child: ActorRef) -> None:
    """Remember that a child was stopped for good, whatever `children` says at the next start."""
    name = child_name(parent.me, child)
    if parent.life is not None and name in parent.life.declared:
        parent.life.removed = (parent.life.removed or set()) | {name}
