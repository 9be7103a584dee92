"""How one node brings the voters to a decision on the next view. A pure core.

The proposer of Paxos: a ballot asks all voters for a promise (`Prepare`), and then to accept
a view (`Accept`): the one that a voter has accepted under the highest ballot before, or else
what this node wishes now. A wish must have been the same for a while, so that one view
serves many changes; the most senior live voter then begins at once and the others later by
rank, with jitter, so that they rarely stand in each other's way.

The runs that were proven dead when the ballot began are part of it. They may make half of
the voters a quorum, and void promises that were made to them; a proof that comes later is
of no use to this ballot, and begins another one. Otherwise a voter's answer could be older
than the proof that makes it count.

References:
    Lamport. "Paxos Made Simple". 2001, section 2.2 (the proposer).
    docs of the protocol: "Who proposes".
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .agenda import Agenda
from .agreement_messages import Accept, Accepted, Ballot, Nack, Prepare, Promised, Vote
from .effects import Effect, Send
from .member import Identity, Member, View
from .profile import Profile
from .quorum import is_quorum, voters_of

__all__ = ["Proposer"]

_SETTLE_TIMES_MAX = 5
"""Wishes that go on changing are put off for at most so many times the settling time."""


@dataclass(slots=True)
class _Attempt:
    """One ballot under way."""

    ballot: Ballot
    dead: tuple[Identity, ...]
    votes: dict[Identity, Vote | None] = field(default_factory=dict[Identity, "Vote | None"])
    value: View | None = None
    accepted: set[Identity] = field(default_factory=set[Identity])
    is_refused: bool = False


class Proposer:
    """One node's attempts to get the next view decided."""

    def __init__(self, profile: Profile, rng: random.Random, address_of: Callable[[Member], str]) -> None:
        """Start with nothing to propose; `address_of` says where a voter is heard now."""
        self._profile = profile
        self._rng = rng
        self._address_of = address_of
        self._attempt: _Attempt | None = None
        self._wish: tuple[Member, ...] | None = None
        self._pending_since = 0.0
        self._due: float | None = None
        self._again_at = 0.0
        self._counter = 0
        self.ballots = 0

    def reset(self) -> None:
        """Forget all: another view is in force."""
        self._attempt = self._wish = self._due = None

    def saw(self, ballot: Ballot | None) -> None:
        """Take note of somebody's ballot, so that the next one here is higher."""
        self._counter = max(self._counter, ballot.counter if ballot is not None else 0)

    def give_way(self, agenda: Agenda, now: float) -> None:
        """Leave time to another proposer that a voter here has just answered."""
        if self._attempt is None and self._due is not None:
            self._due = max(self._due, now + self._pause(1 + (agenda.rank or 0)))

    # Time

    def consider(self, agenda: Agenda, me: Identity, now: float) -> list[Effect]:
        """Begin, repeat or give up a ballot, as the agenda has it at `now`."""
        if agenda.is_void:
            self.reset()
            return []
        if self._attempt is not None:
            if self._is_outdated(self._attempt, agenda):
                return self._begin(agenda, me, now)
            if now >= self._again_at:
                return self._again(agenda, me, now)
            return []
        if self._due is None:
            self._pending_since = now
        if agenda.wish != self._wish or self._due is None:
            self._wish = agenda.wish
            self._due = self._settled_at(agenda, now)
        return self._begin(agenda, me, now) if now >= self._due else []

    def next_deadline(self) -> float:
        """Return when `consider` must be called again at the latest."""
        if self._attempt is not None:
            return self._again_at
        return float("inf") if self._due is None else self._due

    def _settled_at(self, agenda: Agenda, now: float) -> float:
        assert agenda.rank is not None
        settle = self._profile.settle_departure if agenda.is_departure else self._profile.settle
        due = min(now + settle, self._pending_since + _SETTLE_TIMES_MAX * self._profile.settle)
        return due + self._pause(agenda.rank)

    def _pause(self, times: int) -> float:
        return times * self._profile.retry * self._rng.uniform(0.75, 1.5)

    # Ballots

    def _is_outdated(self, attempt: _Attempt, agenda: Agenda) -> bool:
        """Return whether proof has come or gone since the ballot began: it needs another one."""
        return attempt.dead != agenda.dead

    def _begin(self, agenda: Agenda, me: Identity, now: float) -> list[Effect]:
        self._counter += 1
        self.ballots += 1
        self._attempt = _Attempt(Ballot(self._counter, *me), agenda.dead)
        self._again_at = now + self._pause(1)
        return self._ask(self._attempt, agenda.view)

    def _again(self, agenda: Agenda, me: Identity, now: float) -> list[Effect]:
        assert self._attempt is not None
        if self._attempt.is_refused:
            return self._begin(agenda, me, now)
        self._again_at = now + self._pause(1)
        return self._ask(self._attempt, agenda.view)

    def _ask(self, attempt: _Attempt, view: View) -> list[Effect]:
        """Send the phase's question to each voter that has not answered it."""
        answered = {node_id for node_id, _ in (attempt.votes if attempt.value is None else attempt.accepted)}
        question: Prepare | Accept
        if attempt.value is None:
            question = Prepare(view.lineage, view.number + 1, attempt.ballot, attempt.dead)
        else:
            question = Accept(view.lineage, view.number + 1, attempt.ballot, attempt.value, attempt.dead)
        return [Send(self._address_of(voter), question) for voter in voters_of(view) if voter.id not in answered]

    def on_promised(self, message: Promised, sender: Identity, agenda: Agenda, now: float) -> list[Effect]:
        """Count a promise; with a quorum of them go on to the second phase."""
        attempt = self._attempt
        if attempt is None or attempt.ballot != message.ballot or attempt.value is not None:
            return []
        attempt.votes[sender] = message.vote
        if not is_quorum(agenda.view, attempt.votes, attempt.dead):
            return []
        votes = [vote for vote in attempt.votes.values() if vote is not None]
        if votes:
            attempt.value = max(votes, key=lambda vote: vote.ballot).view
        elif agenda.is_void:
            self.reset()
            return []
        else:
            attempt.value = replace(agenda.view, number=agenda.view.number + 1, members=agenda.wish)
        self._again_at = now + self._pause(1)
        return self._ask(attempt, agenda.view)

    def on_accepted(self, message: Accepted, sender: Identity, view: View) -> View | None:
        """Count a vote; with a quorum of them return the view that is decided."""
        attempt = self._attempt
        if attempt is None or attempt.ballot != message.ballot or attempt.value is None:
            return None
        attempt.accepted.add(sender)
        return attempt.value if is_quorum(view, attempt.accepted, attempt.dead) else None

    def on_nack(self, message: Nack, agenda: Agenda, now: float) -> None:
        """Try again later with a higher ballot."""
        self.saw(message.promised)
        attempt = self._attempt
        if attempt is not None and attempt.ballot == message.ballot and not attempt.is_refused:
            attempt.is_refused = True
            self._again_at = now + self._pause(1 + (agenda.rank or 0))
