"""All that is voted on in one lineage, by one node: as a voter and as a proposer. A pure core.

The voter's and the proposer's rules are theirs; here they are joined with what else a node
knows: evidence of death, those who object to it, and the disk that has to hold a vote before
it is cast.

Invariants:
    * Nothing is promised or accepted before the record of it is on disk, where there is one.
    * Nobody is taken for dead who can be asked, and answers.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from .agenda import Agenda, draw_up
from .agreement_messages import Accept, Accepted, Alive, Denial, Nack, Prepare, Promised, Proof
from .claim import Claim
from .effects import Effect, Persist, Record, Send
from .evidence import Evidence
from .member import Identity, View
from .objections import Objections
from .profile import Profile
from .proposer import Proposer
from .quorum import voters_of
from .roll import Roll
from .voter import Voter

__all__ = ["Polls"]


class Polls:
    """One node's votes and proposals in one lineage."""

    def __init__(self, profile: Profile, rng: random.Random, roll: Roll, evidence: Evidence, now: float) -> None:
        """Vote on the successor of the roll's view."""
        self.voter = Voter(profile, roll.view, now)
        self.proposer = Proposer(profile, rng, roll.address_of)
        self.decided: View | None = None
        self._roll = roll
        self._evidence = evidence
        self._objections = Objections(profile)

    @property
    def is_voter(self) -> bool:
        """Whether the view's voters include this node, under this incarnation or an older one."""
        return any(voter.id == self._roll.me.id for voter in voters_of(self._roll.view))

    @property
    def is_pressing(self) -> bool:
        """Whether this voter must see to it that there is a next view, whoever began with it.

        A sealed voter renews no lease, and one that has frozen a member not that one's. If the
        proposer is gone, or its last word was lost, nobody else might ever wish for a view.
        """
        return self.voter.is_sealed or bool(self.voter.frozen)

    def restore(self, record: Record, now: float) -> None:
        """Go on after a restart, with what was on disk."""
        self.voter.restore(record, now)
        self.proposer.saw(record.promised)

    def install(self, view: View, now: float) -> None:
        """Vote on the successor of `view` from now on."""
        self.decided = None
        self.voter.install(view, now)
        self.proposer.reset()
        self._objections.clear()

    def renew(self, who: Identity, now: float) -> Denial | None:
        """Promise a member not to go on without it for a while, or say why not."""
        if who in self._roll.released:
            return Denial.RELEASED
        return self.voter.renew(who, self._evidence.proven, now)

    # Ballots

    def on_question(self, message: Prepare | Accept, sender: Claim, now: float) -> list[Effect]:
        """React to a ballot that asks for this node's vote on the next view."""
        self.proposer.saw(message.ballot)
        if self._roll.me.identity in message.dead:
            nack = Nack(message.lineage, message.number, message.ballot, None, (self._roll.me.identity,))
            return [Send(sender.address, nack)]
        asked = {who: self._roll.address_of_run(who) for who in message.dead if self._is_doubtful(who)}
        if asked:
            return self._objections.hold(message, sender.address, asked, now)
        return self._answer(message, sender.address, now)

    def _answer(self, message: Prepare | Accept, address: str, now: float) -> list[Effect]:
        """Vote, now that nothing speaks against the ballot's dead being dead."""
        for who in message.dead:
            self._evidence.believe(who, now)
        if message.ballot.node_id != self._roll.me.id:
            self.proposer.give_way(self._agenda(now), now)
        if isinstance(message, Prepare):
            return self._say(address, self.voter.prepare(message))
        answer = self.voter.accept(message, address, self._excused(), now)
        return self._say(address, answer) if answer is not None else []

    def on_answer(self, message: Promised | Accepted | Nack, sender: Claim, now: float) -> list[Effect]:
        """React to a voter's answer; it may leave a decided view in `decided`."""
        if isinstance(message, Promised):
            return self.proposer.on_promised(message, sender.identity, self._agenda(now), now)
        if isinstance(message, Nack):
            for who in message.alive:
                self._evidence.withdraw(who, now)
            self.proposer.on_nack(message, self._agenda(now), now)
        else:
            self.decided = self.proposer.on_accepted(message, sender.identity, self._roll.view)
        return []

    # Accusations

    def on_accusation(self, who: Identity, sender: Claim, now: float) -> list[Effect]:
        """Somebody holds a run for dead: say so if it is not, or ask it."""
        if who == self._roll.me.identity:
            return [Send(sender.address, Alive(self._roll.view.lineage, who))]
        if self._is_doubtful(who):
            return self._objections.ask(
                who, self._roll.address_of_run(who), self._roll.view.lineage, sender.address, now
            )
        return []

    def on_alive(self, message: Alive, now: float) -> list[Effect]:
        """A run lives, after all."""
        self._evidence.withdraw(message.who, now)
        return self._objections.on_alive(message, now)

    def accuse(self, accused: Iterable[Identity]) -> list[Effect]:
        """Ask the voters, and the accused, whether these members are dead."""
        lineage = self._roll.view.lineage
        to = [voter for voter in voters_of(self._roll.view) if voter.id != self._roll.me.id]
        seated = [who for who in accused if self._roll.is_seated(who)]
        return [Send(self._roll.address_of(voter), Proof(lineage, who)) for who in seated for voter in to]

    # Time

    def tick(self, now: float) -> list[Effect]:
        """Cast the votes that had to wait, and propose what is due."""
        effects: list[Effect] = []
        held = self.voter.due(self._excused(), now)
        if held is not None:
            effects += self._answer(held.message, held.address, now)
        for message, address in self._objections.unanswered(now):
            effects += self._answer(message, address, now)
        return effects + self.consider(now)

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        waiting = self.voter.next_deadline(self._excused()) if self.voter.is_holding else float("inf")
        return min(waiting, self._objections.next_deadline(), self.proposer.next_deadline())

    def consider(self, now: float) -> list[Effect]:
        """Propose what is due, after something was learned."""
        return self.proposer.consider(self._agenda(now), self._roll.me.identity, now)

    def _agenda(self, now: float) -> Agenda:
        return draw_up(
            self._roll,
            self._evidence.proven,
            self.voter.frozen,
            now,
            is_pressing=self.is_pressing,
            me=self._roll.me.identity if self.is_voter else None,
        )

    # Plumbing

    def persist(self, then: tuple[Send, ...] = ()) -> list[Effect]:
        """Write down what this voter owes, and only then send these."""
        if not self._roll.me.has_record:
            return list(then)
        return [Persist(self.voter.record(self._roll.me.incarnation), then)]

    def _say(self, address: str, answer: Promised | Accepted | Nack) -> list[Effect]:
        """Send a vote, once it is on disk; a refusal binds nobody and leaves at once."""
        send = Send(address, answer)
        return [send] if isinstance(answer, Nack) else self.persist((send,))

    def _is_doubtful(self, who: Identity) -> bool:
        """Return whether something here speaks against the death of this run."""
        return self._evidence.is_connected(who) and who not in self._evidence.proven

    def _excused(self) -> set[Identity]:
        return {*self._evidence.proven, *self._roll.released}
