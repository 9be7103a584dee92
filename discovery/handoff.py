"""The hand-off of partitions between members: who may run what, when the view changes. A pure core.

For each class that a member may run it keeps a `Share`: which partitions are open here, and which
are on their way in or out. What a view does to a partition is in `ON_VIEW`. A partition opens when
every other member of the view has said, under this view or a later one, that nothing of it is left
there (`Drained`), or is proven dead, or has released its lease. Whoever is not in the view needs no
word: the view was not decided before its lease was over. No timer opens anything.

A word names the partitions that drain, whatever the class: a class may wait for another one's slow
turn in the same slice of the circle, one in 1024, and the word stays small. What is open at its
sender is not named. It belongs there under the sender's view, so it is nobody else's under that one;
and a member that is behind and owns it in an older view has been waited for before it was opened.

Invariant, in one lineage: an effect of an activation that was opened in view m never comes
after one that was opened in a later view.

Not decided here: how an activation is drained, and the lease, which is checked at each turn and
each effect besides.

References:
    docs of the protocol: "Hand-off".
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping

from ringcast.values import dataclass

from .member import Identity, Member, View
from .profile import Profile
from .share import PARTITIONS, Place, Share

__all__ = ["ON_EMPTY", "ON_VIEW", "Drained", "DrainedSeen", "Handoff", "HandoffEffect", "Open", "Shares", "Tell"]

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
"""What becomes of a partition when a view is installed that gives it to this member, or does not."""

ON_EMPTY = {True: Place.OPENING, False: Place.REMOTE}
"""What a draining partition becomes when nothing of it is left here: it may have come back meanwhile."""

_ALL = (1 << PARTITIONS) - 1

Shares = Callable[[View, str], Mapping[str, int]]
"""Gives for each class the partitions that a node owns under a view, as bits."""


@dataclass(frozen=True, slots=True)
class Drained:
    """I have installed the view `number`, and what I hold of others' is in exactly the partitions of `held`.

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
    """Run what belongs to these partitions of a class from now on; as bits."""

    name: str
    partitions: int


HandoffEffect = Tell | Open


class Handoff:
    """One member's part in handing partitions over."""

    def __init__(self, shares_of: Shares, profile: Profile, rng: random.Random) -> None:
        """Start with nothing.

        Args:
            shares_of: What a node owns under a view; a pure function, the same on every node.
            profile: The protocol's numbers.
            rng: Where chance comes from.
        """
        self.shares: dict[str, Share] = {}
        self._shares_of = shares_of
        self._profile = profile
        self._rng = rng
        self._me: Identity | None = None
        self._view: View | None = None
        self._mine: Mapping[str, int] = {}
        self._words: dict[Identity, Drained] = {}
        self._seen: dict[Identity, int] = {}
        self._excused: frozenset[Identity] = frozenset()
        self._seq = 0
        self._repeat_at = float("inf")

    @property
    def is_fenced(self) -> bool:
        """Whether no view is followed at present."""
        return self._view is None

    @property
    def held(self) -> int:
        """The partitions of others of which something may be here, as bits."""
        held = 0
        for share in self.shares.values():
            held |= share.draining
        return held

    # What happens

    def install(self, view: View, me: Identity, now: float) -> list[HandoffEffect]:
        """Follow a view that holds this member, or look again at what it gives to it."""
        if me != self._me or self._view is None or view.lineage != self._view.lineage:
            # Who joins may hear what others have drained before it hears of the view; they repeat it only later.
            words = {who: word for who, word in self._words.items() if word.lineage == view.lineage}
            self.fence()
            self._me, self._words = me, words
        self._view = view
        named = {member.identity for member in view.members}
        self._words = {who: word for who, word in self._words.items() if who in named}
        self._mine = self._shares_of(view, me[0])
        for name in sorted({*self.shares, *self._mine}):
            self._take_over(name, view.number)
        self._settle()
        return [*self._announce(now), *self._open()]

    def _take_over(self, name: str, number: int) -> None:
        """Do what `ON_VIEW` says to all partitions of a class."""
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share()
        mine = self._mine.get(name, 0)
        known = share.open | share.opening | share.draining
        share.draining |= share.open & ~mine
        share.open &= mine
        share.number = number
        share.opening = (share.opening | (_ALL & ~known)) & mine

    def fence(self) -> None:
        """This run is over: all that was here is gone, and none of it was handed over."""
        for share in self.shares.values():  # others read them
            share.open = share.opening = share.draining = 0
        self._me = self._view = None
        self._words.clear()
        self._seen.clear()
        self._excused = frozenset()
        self._repeat_at = float("inf")

    def excuse(self, who: Collection[Identity]) -> list[HandoffEffect]:
        """These are proven dead or have released their lease; no word of theirs is needed."""
        excused = frozenset(who)
        if excused == self._excused:  # nearly always, and this is called for each message
            return []
        self._excused = excused
        return self._open()

    def emptied(self, now: float) -> list[HandoffEffect]:
        """An activation of a draining partition has ended: see what is left."""
        if self._view is None or not self._settle():
            return []
        return [*self._announce(now), *self._open()]

    def _settle(self) -> bool:
        """Do what `ON_EMPTY` says to what has drained; return whether that was anything."""
        has_settled = False
        for name, share in self.shares.items():
            drained = share.drained
            if drained:
                has_settled = True
                share.draining &= ~drained
                share.opening |= drained & self._mine.get(name, 0)
        return has_settled

    def receive(self, message: Drained | DrainedSeen, sender: Identity) -> list[HandoffEffect]:
        """React to another member's word, or to its receipt of mine."""
        view = self._view
        member = view.member(sender[0]) if view is not None else None
        if isinstance(message, DrainedSeen):
            if message.who == self._me:
                self._seen[sender] = max(message.seq, self._seen.get(sender, 0))
            return []
        if view is not None and message.lineage != view.lineage:
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

    def _others(self) -> Iterator[Member]:
        members = self._view.members if self._view is not None else ()
        return (m for m in members if (who := m.identity) != self._me and who not in self._excused)

    def _open(self) -> list[HandoffEffect]:
        """Open what waits for nobody any more."""
        if self._view is None or not any(share.opening for share in self.shares.values()):
            return []
        clear = _ALL & ~self._waiting()
        effects: list[HandoffEffect] = []
        for name, share in sorted(self.shares.items()):
            opened = share.opening & clear
            if opened:
                share.opening &= ~opened
                share.open |= opened
                effects.append(Open(name, opened))
        return effects

    def _waiting(self) -> int:
        """Return the partitions of which another member holds something, or may for all that is known."""
        assert self._view is not None, "without a view nothing opens"
        waiting = 0
        for member in self._others():
            word = self._words.get(member.identity)
            if word is None or word.number < self._view.number:
                return _ALL
            waiting |= word.held
        return waiting
