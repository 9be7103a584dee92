"""The keeper: what a member decides about the spawned actors whose rows it leads. A pure core.

It is told which views there are, what others ask, and what became of what it has ordered, and returns
effects. It starts nothing itself. The rules:

* One row for each class and path: who spawns a name that lives gets the row that is there.
* A row is written before its actor is started, and its actor is started only once all copies are there;
  so at most one node is told to run it under one view.
* A row whose host is in no view any more gets another host, unless its actor is TEMPORARY or belongs to
  its node: that one has ended, "lost". Nobody counts these restarts.
* Supervisors come before their children: a lost child waits until its supervisor's actor is there again.
  If that one has ended, it does not wait. Children that nobody has named end with the activation of their
  parent; so when a parent is lost, those are stopped.
* A row without a host that fits waits, with the reason, and is looked at again with each view.
* A leader that knows its partition only now asks each host to run what it should: who has it already
  says so.
* What an actor notes for its next place is answered for when all copies have it, too.
* An actor that has ended is answered for when all copies know it. Then its row is forgotten.

What it may not lead is `Moved`: who asks looks at the view again.

Not decided here: which host (the shell chooses by placement, loads and labels), at which pace a host
starts its actors (that is the host's), and what a supervisor does (family).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ringcast.values import dataclass

from ..actors.supervision import TEMPORARY
from ..discovery.member import Identity, View
from .copies import BATCH, NEVER, Copies, CopyEffect, IsKept, Send, Settled
from .rows import Notes, Row, RowId, partition_of_path
from .words import Word

__all__ = [
    "Answer",
    "Begin",
    "Claimed",
    "Effect",
    "Gone",
    "Keeper",
    "Located",
    "Moved",
    "Noted",
    "Place",
    "Reply",
    "Send",
    "Stopping",
    "Unplaced",
]

LEAVES = "the node leaves"
"""Why a node does not start an actor that is better off elsewhere; its spawner hears nothing of that."""

PLACE_AGAIN = 1.0
"""Seconds after which a row that has found no host, or was refused, is looked at again."""


class Phase(enum.Enum):
    """Where a row that this member leads is on its way; one that runs has none."""

    WAITING = "its supervisor is not there yet"
    PLACING = "a node is chosen"
    WRITING = "its copies are made"
    STARTING = "its node starts it"
    NOTING = "its copies learn what it notes"
    ENDING = "its copies learn that it has ended"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A spawn has its row. `is_new` is false if the actor was there before."""

    row: Row
    is_new: bool


@dataclass(frozen=True, slots=True)
class Located:
    """The actor is at that run of a node."""

    host: Identity


@dataclass(frozen=True, slots=True)
class Gone:
    """The actor has ended, or never had a row; `reason` is None if nothing is known of it."""

    reason: str | None


@dataclass(frozen=True, slots=True)
class Unplaced:
    """The actor could not be started; its row is gone again."""

    why: str


@dataclass(frozen=True, slots=True)
class Noted:
    """All copies of the row have what the actor has noted."""


@dataclass(frozen=True, slots=True)
class Moved:
    """This member does not lead the row."""


Reply = Claimed | Located | Gone | Unplaced | Noted | Moved


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer whoever asked under this token."""

    token: int
    reply: Reply


@dataclass(frozen=True, slots=True)
class Place:
    """Choose a host for this row, and say so with `placed`; `is_new` if it never had one."""

    row: Row
    is_new: bool


@dataclass(frozen=True, slots=True)
class Begin:
    """Have a node run these, and say with `begun` what became of it.

    Attributes:
        host: The node's run.
        rows: What it is to run.
        kin: Named children, by parent, that a parent among the rows finds.
        held: Those of the rows that are made, and started only when their supervisor says so.
        is_restart: Whether there are some among them that ran before: many may come at once.
    """

    host: Identity
    rows: tuple[Row, ...]
    kin: Mapping[RowId, tuple[Row, ...]]
    held: frozenset[RowId]
    is_restart: bool


@dataclass(frozen=True, slots=True)
class Stopping:
    """Have this actor stopped for good where it runs."""

    row: Row


Effect = Send | Answer | Place | Begin | Stopping


class Keeper:
    """Decides about the rows that one member leads."""

    def __init__(self, node_id: str) -> None:
        """Start with nothing, and without a view."""
        self.copies = Copies(node_id)
        self.why: dict[RowId, str] = {}
        """Why a row has no host; for people."""
        self.restarts = 0
        """Rows that were given another host because theirs was lost or left."""
        self._runs: frozenset[Identity] = frozenset()
        self._phases: dict[RowId, Phase] = {}
        self._led: frozenset[int] = frozenset()
        self._claims: dict[RowId, dict[int, str]] = {}
        self._fresh: set[RowId] = set()
        self._held: set[RowId] = set()
        self._waiters: dict[RowId, dict[int, bool]] = {}
        self._leavers: dict[RowId, dict[int, None]] = {}
        self._ends: dict[RowId, list[int]] = {}
        self._noters: dict[RowId, dict[int, None]] = {}
        self._queued: dict[int, list[Callable[[float], list[Effect]]]] = {}
        self._to_start: dict[Identity, dict[RowId, None]] = {}
        self._starting: dict[Identity, frozenset[RowId]] = {}
        self._again_at: dict[RowId, float] = {}
        self._count = 0

    # ---- views -----------------------------------------------------------------------------------

    def clear(self) -> list[Effect]:
        """Forget everything, because this run is over; whoever waits asks elsewhere."""
        tokens = self._all_tokens()
        self.copies.clear()
        self._phases.clear()
        self._led = frozenset()
        self._runs = frozenset()
        self._forget_questions()
        return [Answer(token, Moved()) for token in tokens]

    def _all_tokens(self) -> list[int]:
        tokens = {token for claims in self._claims.values() for token in claims}
        tokens.update(token for waiting in self._waiters.values() for token in waiting)
        tokens.update(token for leaving in self._leavers.values() for token in leaving)
        tokens.update(token for ends in self._ends.values() for token in ends)
        tokens.update(token for noting in self._noters.values() for token in noting)
        return sorted(tokens)

    def _forget_questions(self) -> None:
        self._claims.clear()
        self._fresh.clear()
        self._held.clear()
        self._waiters.clear()
        self._leavers.clear()
        self._ends.clear()
        self._noters.clear()
        self._to_start.clear()
        self._starting.clear()
        self._again_at.clear()
        self.why.clear()

    def install(self, view: View, now: float) -> list[Effect]:
        """Follow a view; whoever waits for an answer asks again."""
        old = self.copies.view
        if old is not None and old.lineage != view.lineage:
            effects = self.clear()
        else:
            effects = [Answer(token, Moved()) for token in self._all_tokens()]
            self._forget_questions()
        queued, self._queued = self._queued, {}
        self._runs = frozenset(member.identity for member in view.members)
        is_next = self.copies.view is not None and view.number == self.copies.view.number + 1
        self._led = frozenset(partition for partition in self._led if is_next and self.copies.is_settled(partition))
        copied = self.copies.install(view, now)
        self._led = frozenset(partition for partition in self._led if self.copies.leads(partition))
        self._phases = {
            row_id: phase for row_id, phase in self._phases.items() if partition_of_path(row_id[1]) in self._led
        }
        effects += self._carry_on(copied, now)
        for partition in sorted(queued):
            for ask in queued[partition]:
                effects += ask(now)
        return effects

    def receive(self, word: Word, sender: str, now: float) -> list[Effect]:
        """React to another keeper's word."""
        return self._carry_on(self.copies.receive(word, sender, now), now)

    def _carry_on(self, copied: Iterable[CopyEffect], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for effect in copied:
            match effect:
                case Send():
                    effects.append(effect)
                case Settled(partition):
                    effects += self._settled(partition, now)
                case _:
                    effects += self._kept(effect, now)
        return effects

    def _settled(self, partition: int, now: float) -> list[Effect]:
        """This member leads a partition, and knows it: see what is to be done for each row."""
        was_led = partition in self._led
        self._led |= {partition}
        effects: list[Effect] = []
        rows = self.copies.copies[partition].rows
        for row in sorted(rows.values(), key=lambda row: (row.id[1].count("/"), row.version)):
            if row.id in rows:  # else one above it has taken it along
                effects += self._look_at(rows[row.id], was_led, now)
        for ask in self._queued.pop(partition, ()):
            effects += ask(now)
        return effects

    def _look_at(self, row: Row, was_led: bool, now: float) -> list[Effect]:
        if row.ended is not None:
            self._phases[row.id] = Phase.ENDING
            return self._write(row, now)
        phase = self._phases.get(row.id)
        if row.host is None:
            return self._place(row, now)
        if row.host not in self._runs:
            return self._lost(row, now)
        if not was_led or phase is Phase.STARTING:
            self._start(row)
        elif phase in (Phase.WRITING, Phase.NOTING):
            return self._write(row, now)
        elif phase is not None:
            return self._place(row, now)
        return []

    def _lost(self, row: Row, now: float) -> list[Effect]:
        """The run of a node where an actor lived is over."""
        if row.restart is TEMPORARY or row.is_local:
            return self._end(row, "lost", now)
        return [*self._orphan(row, now), *self._place(row, now)]

    def _orphan(self, parent: Row, now: float) -> list[Effect]:
        """The activation of a parent is lost: its children that nobody has named go, and what is below them."""
        effects: list[Effect] = []
        copy = self.copies.copies[parent.partition]
        for child_id in tuple(copy.children.get(parent.id, ())):
            effects += self._take_down(copy.rows[child_id], now) if not copy.rows[child_id].is_named else []
        return effects

    def _take_down(self, row: Row, now: float) -> list[Effect]:
        if row.ended is not None:
            return []
        if row.host in self._runs:
            return [Stopping(row)]  # it stops its own children, and reports
        copy = self.copies.copies[row.partition]
        effects = self._end(row, "stopped", now)
        for child_id in tuple(copy.children.get(row.id, ())):
            effects += self._take_down(copy.rows[child_id], now)
        return effects

    # ---- questions -------------------------------------------------------------------------------

    def _ask(self, row_id: RowId, token: int, ask: Callable[[float], list[Effect]], now: float) -> list[Effect] | None:
        """Return None if the question can be answered now; else it is for somebody else, or waits."""
        partition = partition_of_path(row_id[1])
        if self.copies.view is None or not self.copies.leads(partition):
            return [Answer(token, Moved())]
        if self.copies.is_settled(partition):
            return None
        effects = self._carry_on(self.copies.lead(partition), now)
        if self.copies.is_settled(partition):
            return [*effects, *ask(now)]
        self._queued.setdefault(partition, []).append(ask)
        return effects

    def claim(self, token: int, wish: Row, now: float, *, is_held: bool = False) -> list[Effect]:
        """Make a row, or find the one that lives; answered when the actor is there, or waits for a host.

        Args:
            token: Names the question.
            wish: The row as its spawner wants it; with a host for an actor that belongs to that node.
            now: The time.
            is_held: Whether the actor is made, and started when its supervisor says so.
        """
        late = self._ask(wish.id, token, lambda now: self.claim(token, wish, now, is_held=is_held), now)
        if late is not None:
            return late
        row = self.copies.row(wish.id)
        if row is not None and row.ended is not None:
            return [Answer(token, Moved())]  # its name is free in a moment
        self._claims.setdefault(wish.id, {})[token] = wish.claim
        if row is not None:
            is_there = not self._is_on_its_way(row.id) or (row.id in self.why and row.host is None)
            return self._answer_claims(row) if is_there else []
        self._fresh.add(wish.id)
        if is_held:
            self._held.add(wish.id)
        if wish.host is not None:
            return self._write(self._next(wish, host=wish.host), now)
        row = self._next(wish, host=None)
        self.copies.copies[row.partition].put(row)
        self._phases[row.id] = Phase.PLACING
        return [Place(row, is_new=True)]

    def where(self, token: int, row_id: RowId, now: float, *, or_end: bool = False) -> list[Effect]:
        """Say where an actor is, once it is somewhere; with `or_end` one that is nowhere is ended for good."""
        late = self._ask(row_id, token, lambda now: self.where(token, row_id, now, or_end=or_end), now)
        if late is not None:
            return late
        row = self.copies.row(row_id)
        if row is None:
            return [Answer(token, Gone(None))]
        if not self._is_on_its_way(row_id):
            assert row.host is not None, "what runs has a host"
            return [Answer(token, Located(row.host))]
        self._waiters.setdefault(row_id, {})[token] = or_end
        if or_end and self._phases[row_id] in (Phase.PLACING, Phase.WAITING) and row.host not in self._runs:
            return self._end(row, "stopped", now)
        return []

    def ended(self, token: int, row_id: RowId, host: Identity, reason: str, now: float) -> list[Effect]:
        """An actor has ended for good on its host; answered when all copies know."""
        late = self._ask(row_id, token, lambda now: self.ended(token, row_id, host, reason, now), now)
        if late is not None:
            return late
        row = self.copies.row(row_id)
        if row is None or (row.ended is None and row.host != host):
            return [Answer(token, Gone(None))]
        self._ends.setdefault(row_id, []).append(token)
        return self._end(row, reason, now) if row.ended is None else []

    def released(self, token: int, row_id: RowId, host: Identity, now: float) -> list[Effect]:
        """A node that leaves has stopped an actor, to be started elsewhere; answered when it is there."""
        late = self._ask(row_id, token, lambda now: self.released(token, row_id, host, now), now)
        if late is not None:
            return late
        row = self.copies.row(row_id)
        if row is None or row.ended is not None:
            return [Answer(token, Gone(None))]
        if row.host != host and not self._is_on_its_way(row_id):
            assert row.host is not None, "what runs has a host"
            return [Answer(token, Located(row.host))]
        self._leavers.setdefault(row_id, {})[token] = None
        if row.host != host or self._phases.get(row_id) in (Phase.PLACING, Phase.WAITING):
            return []
        self._to_start.get(host, {}).pop(row_id, None)
        return self._place(row, now)

    def noted(self, token: int, row_id: RowId, host: Identity, notes: Notes, now: float) -> list[Effect]:
        """An actor notes for its next place; answered when all copies have that, or if it is there no more."""
        late = self._ask(row_id, token, lambda now: self.noted(token, row_id, host, notes, now), now)
        if late is not None:
            return late
        row = self.copies.row(row_id)
        if row is None or row.ended is not None or row.host != host:
            return [Answer(token, Gone(None))]
        self._noters.setdefault(row_id, {})[token] = None
        self._phases.setdefault(row_id, Phase.NOTING)  # else it is on its way, and goes on
        return self._carry_on(self.copies.write(replace(self._next(row, host=host), notes=notes)), now)

    def give_up(self, token: int) -> None:
        """Nobody waits for this answer any more."""
        for waiting in (self._claims, self._waiters, self._leavers, self._noters):
            for row_id in [row_id for row_id, tokens in waiting.items() if token in tokens]:
                del waiting[row_id][token]

    # ---- what became of orders -------------------------------------------------------------------

    def placed(self, row_id: RowId, host: Identity | None, why: str, now: float) -> list[Effect]:
        """A host was chosen for a row; None if there is none that fits, for the reason `why`."""
        row = self.copies.row(row_id)
        if row is None or self._phases.get(row_id) is not Phase.PLACING:
            return []
        if host is not None and host in self._runs:
            self.why.pop(row_id, None)
            self._again_at.pop(row_id, None)
            return self._write(self._next(row, host=host), now)
        self.why[row_id] = why
        self._again_at[row_id] = now + PLACE_AGAIN
        leaving: list[Effect] = [Answer(token, Gone(None)) for token in self._leavers.pop(row_id, {})]
        return [*leaving, *(self._write(self._next(row, host=None), now) if self._claims.get(row_id) else [])]

    def unplaceable(self, row_id: RowId, why: str, now: float) -> list[Effect]:
        """An actor that never ran cannot run anywhere: whoever wanted it is told."""
        row = self.copies.row(row_id)
        if row is None or row.ended is not None:
            return []
        answers: list[Effect] = [Answer(token, Unplaced(why)) for token in self._claims.pop(row_id, {})]
        return [*answers, *self._end(row, "stopped", now)]

    def begun(self, host: Identity, outcomes: Mapping[RowId, str | None], now: float) -> list[Effect]:
        """A node has done as `Begin` says: None for each actor that is there, else why it is not."""
        self._starting.pop(host, None)
        effects: list[Effect] = []
        for row_id, why in outcomes.items():
            row = self.copies.row(row_id)
            if row is None or row.host != host or self._phases.get(row_id) is not Phase.STARTING:
                continue
            if why is None:
                effects += self._runs_now(row, now)
            elif self._claims.get(row_id) and why != LEAVES:
                effects += self.unplaceable(row_id, why, now)
            else:
                self._phases[row_id] = Phase.PLACING
                self.why[row_id] = why
                self._again_at[row_id] = now + PLACE_AGAIN
        return effects

    def unanswered(self, host: Identity) -> None:
        """A node did not say what became of a `Begin`: it is told again."""
        for row in self._still_to_start(self._starting.pop(host, frozenset()), host):
            self._start(row)

    def _still_to_start(self, row_ids: Iterable[RowId], host: Identity) -> list[Row]:
        rows = [self.copies.row(row_id) for row_id in row_ids if self._phases.get(row_id) is Phase.STARTING]
        return sorted((row for row in rows if row is not None and row.host == host), key=lambda row: row.version)

    def _runs_now(self, row: Row, now: float) -> list[Effect]:
        assert row.host is not None, "what runs has a host"
        del self._phases[row.id]
        self._fresh.discard(row.id)
        self._held.discard(row.id)
        located = Located(row.host)
        tokens = [*self._waiters.pop(row.id, {}), *self._leavers.pop(row.id, {})]
        waiting: list[Effect] = [Answer(token, located) for token in tokens]
        return [*self._answer_claims(row), *waiting, *self._release_children(row.id, now)]

    def _answer_claims(self, row: Row) -> list[Effect]:
        claims = self._claims.pop(row.id, {})
        return [Answer(token, Claimed(row, claim == row.claim)) for token, claim in claims.items()]

    def _release_children(self, row_id: RowId, now: float) -> list[Effect]:
        """A supervisor is there, or will not be: its lost children wait no more."""
        copy = self.copies.copies[partition_of_path(row_id[1])]
        effects: list[Effect] = []
        for child_id in tuple(copy.children.get(row_id, ())):
            if self._phases.get(child_id) is Phase.WAITING:
                effects += self._place(copy.rows[child_id], now)
        return effects

    # ---- the way of a row ------------------------------------------------------------------------

    def _is_on_its_way(self, row_id: RowId) -> bool:
        """Whether an actor is yet to be where its row says."""
        return self._phases.get(row_id, Phase.NOTING) is not Phase.NOTING

    def _next(self, row: Row, *, host: Identity | None, ended: str | None = None) -> Row:
        assert self.copies.view is not None, "nothing is written without a view"
        self._count += 1
        return replace(row, host=host, version=(self.copies.view.number, self._count), ended=ended)

    def _write(self, row: Row, now: float) -> list[Effect]:
        self._phases[row.id] = Phase.WRITING if row.ended is None else Phase.ENDING
        return self._carry_on(self.copies.write(row), now)

    def _place(self, row: Row, now: float) -> list[Effect]:
        """Look for a host, once the supervisor is there."""
        above = None if row.parent_id is None else self.copies.row(row.parent_id)
        if above is not None and above.ended is None and self._is_on_its_way(above.id):
            self._phases[row.id] = Phase.WAITING
            return []
        self._phases[row.id] = Phase.PLACING
        self.restarts += row.host is not None
        return [Place(row, is_new=False)]

    def _kept(self, kept: IsKept, now: float) -> list[Effect]:
        """All copies have a row: go on with what it says."""
        row = self.copies.row(kept.id)
        assert row is not None and row.version == kept.version, "what is kept is what was written last"  # noqa: PT018
        if row.ended is not None:
            return self._over(row, now)
        noted: list[Effect] = [Answer(token, Noted()) for token in self._noters.pop(row.id, {})]
        phase = self._phases.get(row.id)
        if phase is Phase.NOTING:
            del self._phases[row.id]
        if phase is not Phase.WRITING:
            return noted
        if row.host is None:
            self._phases[row.id] = Phase.PLACING
            self._held.discard(row.id)  # its siblings do not wait for it
            return [*noted, *self._answer_claims(row)]
        self._start(row)
        return noted

    def _start(self, row: Row) -> None:
        assert row.host is not None, "who starts an actor is known"
        self._phases[row.id] = Phase.STARTING
        self._to_start.setdefault(row.host, {})[row.id] = None

    def _end(self, row: Row, reason: str, now: float) -> list[Effect]:
        """Write that an actor has ended; whoever would start it asks again."""
        tokens = self._claims.pop(row.id, {})
        self._fresh.discard(row.id)
        self._held.discard(row.id)
        self.why.pop(row.id, None)
        self._again_at.pop(row.id, None)
        answers: list[Effect] = [Answer(token, Moved()) for token in tokens]
        return [*answers, *self._write(self._next(row, host=row.host, ended=reason), now)]

    def _over(self, row: Row, now: float) -> list[Effect]:
        """All copies know that an actor has ended."""
        gone = Gone(row.ended)
        tokens = [
            *self._ends.pop(row.id, ()),
            *self._waiters.pop(row.id, {}),
            *self._leavers.pop(row.id, {}),
            *self._noters.pop(row.id, {}),
        ]
        self.copies.forget(row)
        self._phases.pop(row.id, None)
        return [*(Answer(token, gone) for token in tokens), *self._release_children(row.id, now)]

    # ---- time ------------------------------------------------------------------------------------

    def flush(self) -> list[Effect]:
        """Send what was written since the last time, and have nodes start what they may."""
        effects: list[Effect] = [effect for effect in self.copies.flush() if isinstance(effect, Send)]
        for host in sorted(self._to_start.keys() - self._starting.keys()):
            waiting = list(self._to_start.pop(host))
            rows = self._still_to_start(waiting[:BATCH], host)
            if len(waiting) > BATCH:
                self._to_start[host] = dict.fromkeys(waiting[BATCH:])
            if rows:
                self._starting[host] = frozenset(row.id for row in rows)
                kin = {row.id: found for row in rows if (found := self._kin(row))}
                held = frozenset(row.id for row in rows if row.id in self._held)
                is_restart = any(row.id not in self._fresh for row in rows)
                effects.append(Begin(host, tuple(rows), kin, held, is_restart))
        return effects

    def _kin(self, row: Row) -> tuple[Row, ...]:
        copy = self.copies.copies[row.partition]
        children = (copy.rows[child] for child in copy.children.get(row.id, ()))
        return tuple(replace(child, spec=b"") for child in children if child.ended is None and child.is_named)

    def tick(self, now: float) -> list[Effect]:
        """Say again what was not answered, and look again for hosts."""
        effects = self._carry_on(self.copies.tick(now), now)
        due = sorted(row_id for row_id, at in self._again_at.items() if at <= now)
        self._again_at = {row_id: at for row_id, at in self._again_at.items() if at > now}
        rows = [self.copies.row(row_id) for row_id in due if self._phases.get(row_id) is Phase.PLACING]
        return [*effects, *(Place(row, is_new=False) for row in rows if row is not None)]

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        return min(self.copies.next_deadline(), *self._again_at.values(), NEVER)

    # ---- for people --------------------------------------------------------------------------------

    def awaited(self, row_id: RowId) -> tuple[tuple[str, ...], str]:
        """Return which members have to answer before a row that is led here goes on, and what their part in it is."""
        row = self.copies.row(row_id)
        if row is not None and row.host is not None and self._phases.get(row_id) is Phase.STARTING:
            return (row.host[0],), "is to start it"
        return self.copies.awaited(row_id), "keeps a copy of its row"

    def waiting(self) -> list[tuple[Row, str]]:
        """Return the rows that this member leads and that run nowhere, with the reason."""
        waiting = [row_id for row_id, phase in self._phases.items() if phase in (Phase.PLACING, Phase.WAITING)]
        rows = [row for row_id in waiting if (row := self.copies.row(row_id)) is not None]
        return [(row, self.why.get(row.id, self._phases[row.id].value)) for row in rows]
