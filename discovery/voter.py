"""What a voter owes: its votes, and its promises to those whose lease it renewed. A pure core.

This is the acceptor of Paxos for one number at a time, the successor of the view in force,
with four rules that leases add to it. Each is here because a model of the protocol failed
without it.

* *Promise.* Who renewed x's lease accepts no view without x until that lease is over, unless
  x is proven dead or has released it. An `Accept` that comes too early is held, not refused.
* *Freeze.* Who was asked to accept a view without x renews x no more until the view changes.
  Without it a value that leaves out a healthy x, once accepted anywhere, would have to be
  proposed for ever and could never pass.
* *Seal.* Who has accepted any value for the next view renews nobody under this one.
  Otherwise a lease could begin after the decision that ends it.
* *Carry-over.* Who installs a view promises every member of it a full lease: voters of the
  view before, which it need not have been, may have renewed them a moment ago.

A voter that was restarted and kept its record has lost its promises, so it accepts nothing
for the length of one.

References:
    Lamport. "Paxos Made Simple". 2001, section 2.2 (the acceptor).
    docs of the protocol: "Voter state".
"""

from __future__ import annotations

from collections.abc import Collection

from ringcast.values import dataclass

from .agreement_messages import Accept, Accepted, Ballot, Denial, Nack, Prepare, Promised, Vote
from .effects import Record
from .lease import promise_seconds
from .member import Identity, View
from .profile import Profile

__all__ = ["Held", "Voter"]


@dataclass(frozen=True, slots=True)
class Held:
    """An `Accept` that waits until the promises that stand against it are over."""

    message: Accept
    address: str


class Voter:
    """One node's votes and promises in one lineage."""

    def __init__(self, profile: Profile, view: View, now: float) -> None:
        """Begin as one who has just installed `view`."""
        self.view = view
        self.promised: Ballot | None = None
        self.vote: Vote | None = None
        self.frozen: frozenset[Identity] = frozenset()
        self._promise = promise_seconds(profile)
        self._promises: dict[Identity, float] = {}
        self._silent_until = float("-inf")
        self._held: Held | None = None
        self.install(view, now)

    @property
    def is_sealed(self) -> bool:
        """Whether it has accepted a value for the next view."""
        return self.vote is not None

    def restore(self, record: Record, now: float) -> None:
        """Go on after a restart, with what was on disk; the promises were not."""
        self.promised = record.promised
        self.vote = record.vote
        self._promises.clear()
        self._silent_until = now + self._promise

    def install(self, view: View, now: float) -> None:
        """Vote on the successor of `view` from now on."""
        self.view = view
        self.promised = None
        self.vote = None
        self.frozen = frozenset()
        self._held = None
        self._carry_over(now)

    def _carry_over(self, now: float) -> None:
        self._promises = {member.identity: now + self._promise for member in self.view.members}

    def record(self, incarnation: int) -> Record:
        """Return what must be on disk before the next word of this voter leaves."""
        return Record(incarnation, self.view, self.promised, self.vote)

    # Leases

    def renew(self, who: Identity, excused: Collection[Identity], now: float) -> Denial | None:
        """Promise this member not to go on without it for a while, or say why not.

        Args:
            who: The run that asks, a member of the view in force.
            excused: Runs that are proven dead or have released their lease.
            now: Seconds; the promise counts from here.
        """
        if self.is_sealed:
            return Denial.SEALED
        if who in self.frozen:
            return Denial.FROZEN
        if who in excused:
            return Denial.PROVEN
        self._promises[who] = now + self._promise
        return None

    # Votes

    def prepare(self, message: Prepare) -> Promised | Nack:
        """Answer a ballot's first phase; a promise counts only once the record is on disk."""
        if self.promised is not None and message.ballot < self.promised:
            return self._refusal(message)
        self.promised = message.ballot
        return Promised(message.lineage, message.number, message.ballot, self.vote)

    def accept(
        self, message: Accept, address: str, excused: Collection[Identity], now: float
    ) -> Accepted | Nack | None:
        """Answer a ballot's second phase, or hold it for `release`.

        Args:
            message: The ballot, the view that it asks for, and who was proven dead before it.
            address: Where the answer goes, for an answer that has to wait.
            excused: Runs that are proven dead or have released their lease, here.
            now: Seconds.
        """
        if self.promised is not None and message.ballot < self.promised:
            return self._refusal(message)
        self.promised = message.ballot
        self._freeze(self._left_out(message.view))
        if now < self._acceptable_at(message, excused):
            self._held = Held(message, address)
            return None
        self._held = None
        self.vote = Vote(message.ballot, message.view)
        return Accepted(message.lineage, message.number, message.ballot)

    def due(self, excused: Collection[Identity], now: float) -> Held | None:
        """Return the `Accept` that was held and can be answered now."""
        held = self._held
        if held is None or now < self._acceptable_at(held.message, excused):
            return None
        self._held = None
        return held

    @property
    def is_holding(self) -> bool:
        """Whether an answer has to wait."""
        return self._held is not None

    def next_deadline(self, excused: Collection[Identity]) -> float:
        """Return when `due` may have something."""
        return float("inf") if self._held is None else self._acceptable_at(self._held.message, excused)

    def _refusal(self, message: Prepare | Accept) -> Nack:
        return Nack(message.lineage, message.number, message.ballot, self.promised, ())

    def _left_out(self, view: View) -> list[Identity]:
        kept = {member.identity for member in view.members}
        return [member.identity for member in self.view.members if member.identity not in kept]

    def _freeze(self, left_out: Collection[Identity]) -> None:
        self.frozen |= set(left_out)

    def _acceptable_at(self, message: Accept, excused: Collection[Identity]) -> float:
        until = self._silent_until
        for who in self._left_out(message.view):
            if who not in excused and who not in message.dead:
                until = max(until, self._promises.get(who, float("-inf")))
        return until
