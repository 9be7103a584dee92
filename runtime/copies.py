"""The copies of the register that one member keeps, and its part in keeping them equal. A pure core.

Rows are kept by partition. The first three members on the ring over all that host actors, those that
leave excepted, keep a partition; the first of them leads it: only the leader writes. A copy knows the number
of the view in which it was last complete, so of two copies the one of the later view counts, for what
is absent from it, too. Rules:

* A leader begins with a copy that was complete in the view just before: its own, or one that another
  member offers. If there is none, it waits for the offers of all members and takes the latest.
* The leader then makes the other keepers equal: each has the same digest, or fetches the rows.
* A row is *kept* once every keeper of the view has it. What is promised to others is promised then.
* Who is no keeper any more holds its copy until the leader says that all keepers have theirs.

Why nothing that was kept is lost while one of its keepers lives: a write is kept only by keepers whose
copies were made equal in that very view, so each of them is complete in it, and one of them is enough
to begin the next. A write that was not kept may be lost; nobody was told of it.

There is no consensus here: the views are agreed, and words of other views are void.

References:
    Terry et al. "Managing Update Conflicts in Bayou". SOSP 1995: anti-entropy.
    Birman, Joseph. "Exploiting Virtual Synchrony in Distributed Systems". SOSP 1987: words belong to views.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import field

from ringcast.values import dataclass

from ..discovery.member import View
from .ring import Ring
from .rows import Row, RowId, Version, partition_of_path
from .words import Digests, Fetch, Forget, Heard, Kept, Offer, Put, Rows, Safe, Same, Word

__all__ = ["BATCH", "COPIES", "REPEAT", "Copies", "Copy", "CopyEffect", "IsKept", "Send", "Settled"]

COPIES = 3
"""Members that keep a row: it outlives any two of them."""

REPEAT = 0.5
"""Seconds after which a word that was not answered is said again."""

BATCH = 200
"""Rows that one word carries, at most; a partition that is sent whole has as many as it has."""

EARLY_MAX = 10_000
"""Words of a member that has a later view already, which wait here for that view."""

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Send:
    """Say this to a member."""

    to: str
    word: Word


@dataclass(frozen=True, slots=True)
class Settled:
    """This member leads the partition, and its copy is complete: decide."""

    partition: int


@dataclass(frozen=True, slots=True)
class IsKept:
    """Every keeper has this version of a row."""

    id: RowId
    version: Version


CopyEffect = Send | Settled | IsKept


@dataclass(slots=True)
class Copy:
    """What one member has of one partition.

    Attributes:
        complete_in: The number of the view in which it was made equal to its leader's; -1 if never.
        rows: By id.
        children: The ids of the rows whose supervisor has the row of that id.
        digest: Stands for what the copy holds.
    """

    complete_in: int = -1
    rows: dict[RowId, Row] = field(default_factory=dict[RowId, Row])
    children: dict[RowId, dict[RowId, None]] = field(default_factory=dict[RowId, dict[RowId, None]])
    digest: int = 0

    def put(self, row: Row) -> None:
        """Take a row in the place of its former version."""
        self.drop(row.id)
        self.rows[row.id] = row
        self.digest ^= row.digest
        if (parent := row.parent_id) is not None:
            self.children.setdefault(parent, {})[row.id] = None

    def drop(self, row_id: RowId) -> None:
        """Forget a row, if it is there."""
        row = self.rows.pop(row_id, None)
        if row is None:
            return
        self.digest ^= row.digest
        parent = row.parent_id
        if parent is not None:
            siblings = self.children[parent]
            del siblings[row_id]
            if not siblings:
                del self.children[parent]


@dataclass(slots=True)
class _Lead:
    """What the leader of a partition knows of the others' copies."""

    offers: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    fetching: str | None = None
    is_settled: bool = False
    unequal: set[str] = field(default_factory=set[str])


class Copies:
    """One member's copies."""

    def __init__(self, node_id: str) -> None:
        """Start with nothing, and without a view."""
        self._me = node_id
        self.clear()

    def clear(self) -> None:
        """Forget everything: this run is over, or moves to another lineage."""
        self.view: View | None = None
        self.copies: dict[int, Copy] = {}
        self._ring: Ring | None = None
        self._keepers: dict[int, tuple[str, ...]] = {}
        self._others: tuple[str, ...] = ()
        self._leads: dict[int, _Lead] = {}
        self._heard: set[str] = set()
        self._deaf: set[str] = set()
        self._early: dict[str, deque[Word]] = {}
        self._pending: dict[str, dict[RowId, Version]] = {}
        self._unsent: dict[str, dict[RowId, None]] = {}
        self._forgotten: dict[str, list[tuple[RowId, Version]]] = {}
        self._seq = 0
        self._last_seq: dict[str, int] = {}
        self._repeat_at = NEVER
        self._answered_at: dict[str, float] = {}

    # ---- what it knows ---------------------------------------------------------------------------

    def keepers(self, partition: int) -> tuple[str, ...]:
        """Return the ids of the members that keep a partition, its leader first."""
        found = self._keepers.get(partition)
        if found is None:
            assert self._ring is not None, "without a view nobody keeps anything"
            found = self._keepers[partition] = tuple(self._ring.successors(partition, COPIES))
        return found

    def leads(self, partition: int) -> bool:
        """Whether this member leads a partition."""
        return self._ring is not None and self.keepers(partition)[0] == self._me

    def is_settled(self, partition: int) -> bool:
        """Whether this member leads a partition, and knows all of it."""
        lead = self._leads.get(partition)
        return lead is not None and lead.is_settled

    def row(self, row_id: RowId) -> Row | None:
        """Return the row of an actor, if this member has it."""
        copy = self.copies.get(partition_of_path(row_id[1]))
        return None if copy is None else copy.rows.get(row_id)

    def awaited(self, row_id: RowId) -> tuple[str, ...]:
        """Return the members whose word a row that this member leads waits for, ascending; for people."""
        lead = self._leads.get(partition_of_path(row_id[1]))
        if lead is None:
            return ()
        if lead.fetching is not None:
            return (lead.fetching,)
        if not lead.is_settled:
            return tuple(node for node in self._others if node not in self._heard)
        return tuple(node for node in self._others if row_id in self._pending[node])

    @property
    def is_clear(self) -> bool:
        """Whether this member holds nothing that others keep, and need from it."""
        return all(self._me in self.keepers(partition) for partition in self.copies)

    # ---- the view --------------------------------------------------------------------------------

    def install(self, view: View, now: float) -> list[CopyEffect]:
        """Follow a view that holds this member."""
        self.view = view
        able = [member for member in view.members if member.hosts or member.hosts_by_value] or list(view.members)
        ids = sorted(member.id for member in able)
        self._ring = Ring([member.id for member in able if not member.leaving] or ids)
        self._keepers = {}
        # Who hosts nothing keeps nothing, and has nothing to say.
        self._others = tuple(node for node in ids if node != self._me) if self._me in ids else ()
        self._leads = {}
        self._heard = set()
        self._deaf = set(self._others)
        self._pending = {node: {} for node in self._others}
        self._unsent = {node: {} for node in self._others}
        self._forgotten = {node: [] for node in self._others}
        self._seq = 0
        self._last_seq = {}
        self._repeat_at = now + REPEAT
        effects = [Send(node, self._offer(node)) for node in self._others]
        for partition in sorted(self.copies):
            if self.leads(partition):
                self._lead(partition)
        early, self._early = self._early, {}
        answers = [self.receive(word, node, now) for node in sorted(early) for word in early[node]]
        return [*effects, *self._settle_all(), *(effect for some in answers for effect in some)]

    def _offer(self, node: str) -> Offer:
        assert self.view is not None, "an offer is made under a view"
        return Offer(
            self.view.number,
            {
                partition: (copy.complete_in, copy.digest)
                for partition, copy in sorted(self.copies.items())
                if self.keepers(partition)[0] == node
            },
        )

    def lead(self, partition: int) -> list[CopyEffect]:
        """See that a partition that this member leads is settled, now or when the others were heard."""
        self._lead(partition)
        return self._settle([partition])

    def _lead(self, partition: int) -> _Lead:
        return self._leads.setdefault(partition, _Lead())

    def _settle_all(self) -> list[CopyEffect]:
        return self._settle(sorted(partition for partition, lead in self._leads.items() if not lead.is_settled))

    def _settle(self, partitions: Iterable[int]) -> list[CopyEffect]:
        """Begin with what is complete, and fetch what another has."""
        assert self.view is not None, "nothing is settled without a view"
        before = self.view.number - 1
        has_heard_all = len(self._heard) == len(self._others)
        fetches: dict[str, list[int]] = {}
        settled: list[int] = []
        for partition in partitions:
            lead = self._leads[partition]
            if lead.is_settled or lead.fetching is not None:
                continue
            copy = self.copies.get(partition) or Copy()
            best = max([copy.complete_in, *(complete_in for complete_in, _ in lead.offers.values())])
            if (best < 0 or best < before) and not has_heard_all:
                continue
            if copy.complete_in < best:
                node = min(node for node, (complete_in, _) in lead.offers.items() if complete_in == best)
                if lead.offers[node][1] != copy.digest:
                    lead.fetching = node
                    fetches.setdefault(node, []).append(partition)
                    continue
            settled.append(partition)
        effects: list[CopyEffect] = [
            Send(node, Fetch(self.view.number, tuple(wanted))) for node, wanted in sorted(fetches.items())
        ]
        return [*effects, *self._begin(settled)]

    def _begin(self, partitions: list[int]) -> list[CopyEffect]:
        """Lead partitions whose copies here are complete, and tell the other keepers what they are like."""
        assert self.view is not None, "nobody leads without a view"
        digests: dict[str, dict[int, int]] = {}
        safe: dict[str, list[int]] = {}
        for partition in partitions:
            lead, copy = self._leads[partition], self.copies.setdefault(partition, Copy())
            lead.is_settled = True
            copy.complete_in = self.view.number
            lead.unequal = {node for node in self.keepers(partition) if node != self._me}
            for node in lead.unequal:
                digests.setdefault(node, {})[partition] = copy.digest
            self._note_safe(partition, safe)
        return [
            *(Send(node, Digests(self.view.number, found)) for node, found in sorted(digests.items())),
            *(Send(node, Safe(self.view.number, tuple(found))) for node, found in sorted(safe.items())),
            *(Settled(partition) for partition in partitions),
        ]

    def _note_safe(self, partition: int, safe: dict[str, list[int]]) -> None:
        """Note to whom it may be said that a partition is safe without its copy."""
        lead = self._leads[partition]
        if lead.is_settled and not lead.unequal:
            for node in sorted(lead.offers.keys() - set(self.keepers(partition))):
                safe.setdefault(node, []).append(partition)

    # ---- words -----------------------------------------------------------------------------------

    def receive(self, word: Word, sender: str, now: float) -> list[CopyEffect]:
        """React to another member's word."""
        view = self.view
        if view is None or word.view > view.number:
            early = self._early.setdefault(sender, deque(maxlen=EARLY_MAX))  # it says again what is lost
            early.append(word)
            return []
        if isinstance(word, Heard | Rows | Same | Kept):
            self._answered_at[sender] = now
        if word.view != view.number or sender not in self._pending:
            return []
        match word:
            case Offer():
                return self._offered(word, sender)
            case Heard():
                self._deaf.discard(sender)
                return []
            case Safe(_, partitions):
                gone = {partition for partition in partitions if self._me not in self.keepers(partition)}
                self.copies = {partition: copy for partition, copy in self.copies.items() if partition not in gone}
                return []
            case Digests():
                return self._compare(word, sender)
            case Fetch(_, partitions):
                return [self._whole(partition, sender) for partition in partitions if partition in self.copies]
            case Rows():
                return self._replace(word, sender)
            case Same(_, partitions):
                return self._is_equal(partitions, sender)
            case Put():
                return self._put(word, sender)
            case Kept(_, rows):
                return self._kept(rows, sender)
            case _:
                for row in [self.row(row_id) for row_id, _ in word.rows]:
                    if row is not None and row.ended is not None and (row.id, row.version) in word.rows:
                        self.copies[row.partition].drop(row.id)
                return []

    def _offered(self, word: Offer, sender: str) -> list[CopyEffect]:
        self._heard.add(sender)
        safe: dict[str, list[int]] = {}
        for partition in filter(self.leads, word.copies):
            self._lead(partition).offers[sender] = word.copies[partition]
            self._note_safe(partition, safe)
        answers: list[CopyEffect] = [Send(sender, Heard(word.view))]
        if sender in safe:
            answers.append(Send(sender, Safe(word.view, tuple(safe[sender]))))
        return [*answers, *self._settle_all()]

    def _whole(self, partition: int, node: str) -> Send:
        assert self.view is not None, "only words of a view are answered"
        self._seq += 1
        return Send(node, Rows(self.view.number, self._seq, partition, tuple(self.copies[partition].rows.values())))

    def _compare(self, word: Digests, sender: str) -> list[CopyEffect]:
        """A leader says what its partitions are like."""
        same: list[int] = []
        other: list[int] = []
        led = {partition: digest for partition, digest in word.digests.items() if self.keepers(partition)[0] == sender}
        for partition, digest in led.items():
            copy = self.copies.setdefault(partition, Copy())
            if copy.complete_in == word.view or copy.digest == digest:
                copy.complete_in = word.view
                same.append(partition)
            else:
                other.append(partition)
        effects: list[CopyEffect] = []
        if same:
            effects.append(Send(sender, Same(word.view, tuple(same))))
        if other:
            effects.append(Send(sender, Fetch(word.view, tuple(other))))
        return effects

    def _replace(self, word: Rows, sender: str) -> list[CopyEffect]:
        """Take a partition whole, from its leader, or because this member leads it from now on."""
        partition = word.partition
        lead = self._leads.get(partition)
        is_mine = lead is not None and lead.fetching == sender
        copy = self.copies.get(partition)
        is_theirs = copy is not None and copy.complete_in < word.view and self.keepers(partition)[0] == sender
        if not (is_mine or is_theirs) or word.seq <= self._last_seq.get(sender, 0):
            return []
        self._last_seq[sender] = word.seq
        copy = self.copies[partition] = Copy()
        for row in word.rows:
            copy.put(row)
        if lead is not None:
            lead.fetching = None
            return self._begin([partition])
        copy.complete_in = word.view
        return [Send(sender, Same(word.view, (partition,)))]

    def _is_equal(self, partitions: Iterable[int], sender: str) -> list[CopyEffect]:
        """A keeper has a copy that is complete: from now on it gets what is written."""
        safe: dict[str, list[int]] = {}
        pending = self._pending[sender]
        for partition in partitions:
            lead = self._leads.get(partition)
            if lead is not None and sender in lead.unequal:
                lead.unequal.discard(sender)
                self._note_safe(partition, safe)
                self._unsent[sender].update(
                    (row_id, None) for row_id in self.copies[partition].rows if row_id in pending
                )
        assert self.view is not None, "only words of a view are answered"
        return [Send(node, Safe(self.view.number, tuple(found))) for node, found in sorted(safe.items())]

    # ---- writing ---------------------------------------------------------------------------------

    def write(self, row: Row) -> list[CopyEffect]:
        """Write a row of a partition that this member leads; `flush` sends it, `IsKept` says when all have it."""
        partition = row.partition
        assert self.is_settled(partition), "only a leader writes, once it knows its partition"
        self.copies[partition].put(row)
        others = self.keepers(partition)[1:]
        for node in others:
            self._pending[node][row.id] = row.version
            if node not in self._leads[partition].unequal:
                self._unsent[node][row.id] = None
        return [] if others else [IsKept(row.id, row.version)]

    def forget(self, row: Row) -> None:
        """Forget the row of an actor that has ended, and that all keepers know to have ended."""
        self.copies[row.partition].drop(row.id)
        for node in self.keepers(row.partition)[1:]:
            self._forgotten[node].append((row.id, row.version))

    def flush(self) -> list[CopyEffect]:
        """Send what was written since the last time."""
        if self.view is None:
            return []
        number = self.view.number
        effects: list[CopyEffect] = []
        for node in self._others:
            unsent = self._unsent[node]
            if unsent:
                self._unsent[node] = {}
                rows = [row for row_id in unsent if (row := self.row(row_id)) is not None]
                for start in range(0, len(rows), BATCH):
                    self._seq += 1
                    effects.append(Send(node, Put(number, self._seq, tuple(rows[start : start + BATCH]))))
            if self._forgotten[node]:
                effects.append(Send(node, Forget(number, tuple(self._forgotten[node]))))
                self._forgotten[node] = []
        return effects

    def _put(self, word: Put, sender: str) -> list[CopyEffect]:
        is_new = word.seq > self._last_seq.get(sender, 0)
        if is_new:
            self._last_seq[sender] = word.seq
        kept: list[tuple[RowId, Version]] = []
        for row in word.rows:
            copy = self.copies.get(row.partition)
            if copy is None or copy.complete_in != word.view or self.keepers(row.partition)[0] != sender:
                continue
            known = copy.rows.get(row.id)
            if is_new and (known is None or known.version < row.version):
                copy.put(row)
                known = row
            if known is not None and known.version >= row.version:
                kept.append((row.id, known.version))
        return [Send(sender, Kept(word.view, tuple(kept)))] if kept else []

    def _kept(self, rows: Iterable[tuple[RowId, Version]], sender: str) -> list[CopyEffect]:
        effects: list[CopyEffect] = []
        pending = self._pending[sender]
        for row_id, version in rows:
            if pending.get(row_id, version) > version or pending.pop(row_id, None) is None:
                continue
            row = self.row(row_id)
            assert row is not None, "what is written is not forgotten before all have it"
            if not any(row_id in others for others in self._pending.values()):
                effects.append(IsKept(row_id, row.version))
        return effects

    # ---- time ------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[CopyEffect]:
        """Say again what was not answered."""
        if self.view is None or now < self._repeat_at:
            return []
        self._repeat_at = now + REPEAT
        number = self.view.number
        effects: list[CopyEffect] = []
        for node in self._others:
            if now - self._answered_at.get(node, -NEVER) < REPEAT:
                continue  # it is at it: to say everything again would only hold it up
            offer = self._offer(node)
            is_needed = any(self._me not in self.keepers(partition) for partition in offer.copies)
            if node in self._deaf or is_needed:
                effects.append(Send(node, offer))
            fetching = [partition for partition, lead in sorted(self._leads.items()) if lead.fetching == node]
            if fetching:
                effects.append(Send(node, Fetch(number, tuple(fetching))))
            unequal = [partition for partition, lead in sorted(self._leads.items()) if node in lead.unequal]
            if unequal:
                digests = {partition: self.copies[partition].digest for partition in unequal}
                effects.append(Send(node, Digests(number, digests)))
            for row_id in self._pending[node]:
                if node not in self._leads[partition_of_path(row_id[1])].unequal:
                    self._unsent[node][row_id] = None
        return [*effects, *self.flush()]

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        return self._repeat_at
