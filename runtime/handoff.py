"""The hand-off of partitions between members: who may run what, when the view changes. A pure core.

Each member keeps one state for every partition of a group of classes:

* ``REMOTE``: others run it.
* ``OPENING``: it belongs here, but somebody may still run something of it; messages wait.
* ``OPEN``: this member runs it, as long as it has a lease.
* ``DRAINING``: it belongs to somebody else now; the turns that run may end, nothing begins.

What a view does to a state is in `ON_VIEW`. A partition opens when every other member of the
view has said, under this view or a later one, that it holds nothing of it (`Drained`), or is
proven dead, or has released its lease. Whoever is not in the view needs no word: the view
was not decided before its lease was over. No timer opens anything.

Invariant, in one lineage: an effect of an activation that was opened in view m never comes
after one that was opened in a later view.

Not decided here: how an activation is drained, and the lease, which is checked at each turn and
each effect besides.

References:
    docs of the protocol: "Hand-off".
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..discovery.member import Identity, Member, View
from ..discovery.profile import Profile

__all__ = [
    "ON_EMPTY",
    "ON_VIEW",
    "Close",
    "Drain",
    "Drained",
    "DrainedSeen",
    "Handoff",
    "HandoffEffect",
    "Open",
    "Place",
    "Tell",
]


class Place(enum.IntEnum):
    """Where a partition is, as one member sees it."""

    REMOTE = 0
    OPENING = 1
    OPEN = 2
    DRAINING = 3


ON_VIEW = {
    (Place.REMOTE, True): Place.OPENING,
    (Place.REMOTE, False): Place.REMOTE,
    (Place.OPENING, True): Place.OPENING,
    (Place.OPENING, False): Place.REMOTE,
    (Place.OPEN, True): Place.OPEN,
    (Place.OPEN, False): Place.DRAINING,
    (Place.DRAINING, True): Place.DRAINING,
    (Place.DRAINING, False): Place.DRAINING,
}
"""What becomes of a partition's state when a view is installed that gives it to this member, or does not."""

ON_EMPTY = {True: Place.OPENING, False: Place.REMOTE}
"""What a draining partition becomes when nothing of it is left here: it may have come back meanwhile."""


@dataclass(frozen=True, slots=True)
class Drained:
    """I have installed the view `number`, and hold something in exactly the partitions of `held`.

    Attributes:
        lineage: The view's lineage.
        number: The view's number.
        seq: Grows with each word of this run, so that the last one counts.
        held: Bit p stands for partition p.
    """

    lineage: str
    number: int
    seq: int
    held: int


@dataclass(frozen=True, slots=True)
class DrainedSeen:
    """Your word of that number has arrived.

    It names the run that spoke: another one may be heard at that address by now, and must not
    take this for an answer to its own word.
    """

    who: Identity
    seq: int


@dataclass(frozen=True, slots=True)
class Tell:
    """Send this to a member of the view."""

    member: Member
    message: Drained | DrainedSeen


@dataclass(frozen=True, slots=True)
class Open:
    """Run what belongs to the partition from now on."""

    partition: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Begin no turn of the partition any more; report `emptied` when nothing of it is left."""

    partition: int


@dataclass(frozen=True, slots=True)
class Close:
    """What waits for the partition to open here belongs to somebody else now."""

    partition: int


HandoffEffect = Tell | Open | Drain | Close


class Handoff:
    """One member's part in handing the partitions of one group over."""

    def __init__(
        self,
        owners_of: Callable[[View], Sequence[str]],
        partitions: int,
        profile: Profile,
        rng: random.Random,
        members_min: int = 1,
    ) -> None:
        """Start with nothing.

        Args:
            owners_of: Gives the owner's id for each partition of a view.
            partitions: How many there are.
            profile: The protocol's numbers.
            rng: Where chance comes from.
            members_min: A view of fewer members gives nothing to anybody (`split_brain="static:q"`).
        """
        self.places = [Place.REMOTE] * partitions
        self.opened_in = [0] * partitions
        self._owners_of = owners_of
        self._profile = profile
        self._rng = rng
        self._members_min = members_min
        self._me: Identity | None = None
        self._view: View | None = None
        self._mine: list[bool] = [False] * partitions
        self._words: dict[Identity, Drained] = {}
        self._seen: dict[Identity, int] = {}
        self._excused: frozenset[Identity] = frozenset()
        self._seq = 0
        self._repeat_at = float("inf")

    @property
    def held(self) -> int:
        """The partitions of which something may be here, as bits."""
        return sum(1 << partition for partition, place in enumerate(self.places) if place >= Place.OPEN)

    # What happens

    def install(self, view: View, me: Identity, now: float) -> list[HandoffEffect]:
        """Follow a view that holds this member; no turn may begin or end while this runs."""
        if me != self._me or self._view is None or view.lineage != self._view.lineage:
            self.fence()
            self._me = me
        self._view = view
        named = {member.identity for member in view.members}
        self._words = {who: word for who, word in self._words.items() if who in named}
        is_enough = len(view.members) >= self._members_min
        self._mine = [is_enough and owner == me[0] for owner in self._owners_of(view)]
        effects: list[HandoffEffect] = []
        for partition, before in enumerate(self.places):
            after = self.places[partition] = ON_VIEW[before, self._mine[partition]]
            if (before, after) == (Place.OPENING, Place.REMOTE):
                effects.append(Close(partition))
            elif (before, after) == (Place.OPEN, Place.DRAINING):
                effects.append(Drain(partition))
        return [*effects, *self._announce(now), *self._open()]

    def fence(self) -> None:
        """This run is over: all that was here is gone, and none of it was handed over."""
        # In place: others read this list.
        self.places[:] = [Place.REMOTE] * len(self.places)
        self._me = self._view = None
        self._words.clear()
        self._seen.clear()
        self._excused = frozenset()
        self._repeat_at = float("inf")

    def excuse(self, who: Collection[Identity]) -> list[HandoffEffect]:
        """These are proven dead or have released their lease; no word of theirs is needed."""
        self._excused = frozenset(who)
        return self._open()

    def emptied(self, partition: int, now: float) -> list[HandoffEffect]:
        """Nothing of a draining partition is left here."""
        assert self.places[partition] is Place.DRAINING, "only what drains can have drained"
        self.places[partition] = ON_EMPTY[self._mine[partition]]
        return [*self._announce(now), *self._open()]

    def receive(self, message: Drained | DrainedSeen, sender: Identity, now: float) -> list[HandoffEffect]:
        """React to another member's word, or to its receipt of mine."""
        view = self._view
        member = view.member(sender[0]) if view is not None else None
        if isinstance(message, DrainedSeen):
            if message.who == self._me:
                self._seen[sender] = max(message.seq, self._seen.get(sender, 0))
            return []
        if view is None or message.lineage != view.lineage:
            return []
        known = self._words.get(sender)
        if known is None or message.seq > known.seq:
            self._words[sender] = message
        if member is None or member.identity != sender:
            # It is ahead of this member, who will need its word under a view that names it.
            return []
        return [Tell(member, DrainedSeen(sender, message.seq)), *self._open()]

    # Time

    def tick(self, now: float) -> list[HandoffEffect]:
        """Repeat what nobody has acknowledged."""
        return self._tell(now) if now >= self._repeat_at else []

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        return self._repeat_at

    # What follows

    def _announce(self, now: float) -> list[HandoffEffect]:
        self._seq += 1
        return self._tell(now)

    def _tell(self, now: float) -> list[HandoffEffect]:
        assert self._view is not None, "who has no view has nothing to tell"
        word = Drained(self._view.lineage, self._view.number, self._seq, self.held)
        deaf = [member for member in self._others() if self._seen.get(member.identity, 0) < self._seq]
        again = now + self._profile.retry * self._rng.uniform(0.75, 1.5)
        self._repeat_at = again if deaf else float("inf")
        return [Tell(member, word) for member in deaf]

    def _others(self) -> list[Member]:
        members = self._view.members if self._view is not None else ()
        return [m for m in members if m.identity != self._me and m.identity not in self._excused]

    def _open(self) -> list[HandoffEffect]:
        """Open what waits for nobody any more."""
        if self._view is None:
            return []
        waiting = self._waiting()
        effects: list[HandoffEffect] = []
        for partition, place in enumerate(self.places):
            if place is Place.OPENING and not waiting >> partition & 1:
                self.places[partition] = Place.OPEN
                self.opened_in[partition] = self._view.number
                effects.append(Open(partition))
        return effects

    def _waiting(self) -> int:
        """Return the partitions that another member holds, or may hold for all that is known."""
        assert self._view is not None, "without a view nothing opens"
        waiting = 0
        for member in self._others():
            word = self._words.get(member.identity)
            if word is None or word.number < self._view.number:
                return (1 << len(self.places)) - 1
            waiting |= word.held
        return waiting
