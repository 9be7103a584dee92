"""One node's part in one lineage: as a member, or as a voter that was restarted. A pure core.

It puts together what the parts know: the log of views, the voter's votes and promises, the
proposer, the roll of members and applicants, evidence of death, and this node's own lease.
What is decided here is what follows from several of them: whom to wish for, whose turn it
is, what a new view changes, and when there is nothing more to hope for.

A *member* is named by the view, with this very incarnation: it has a lease, and votes if it
is among the voters. A node that was *restarted* and kept its record is named with an older
incarnation: it votes, and applies to be a member again. When a view leaves the node out,
its part is over, and `ending` says why; `agreement` goes on from there.

Invariants:
    * Nothing is promised or accepted before the record of it is on disk, where there is one.
    * A member installs every view in turn. One that it cannot get any more ends its part.
    * Under a view without this node nothing is renewed and nothing is acted on.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from .agenda import can_ever_decide
from .agreement_messages import (
    Accept,
    Accepted,
    AgreementMessage,
    Alive,
    Apply,
    Charter,
    Decided,
    Denial,
    Fetch,
    Meet,
    Nack,
    NotRenewed,
    Prepare,
    Promised,
    Proof,
    Release,
    Renew,
    Renewed,
    Spent,
    Unfit,
    other_store,
)
from .claim import Claim
from .effects import Check, Effect, InstallView, LeaseUntil, Record, Send, Warn
from .evidence import Evidence
from .lease import promise_seconds
from .member import Identity, Member, View, store_of
from .polls import Polls
from .profile import Profile
from .quorum import voters_of
from .roll import Roll, fits_store
from .tenure import Tenure
from .viewlog import ViewLog, digest_of

__all__ = ["Council"]

_LEAVE_LIMIT = 10.0
"""Seconds beyond `drain` after which a node that has released its lease waits no longer."""


class Council:
    """What one node does in one lineage."""

    def __init__(
        self,
        me: Member,
        profile: Profile,
        rng: random.Random,
        views: Sequence[View],
        evidence: Evidence,
        charter: Charter,
        now: float,
    ) -> None:
        """Take part under the last of `views`; `begin` or `restore` must be called next."""
        self.me = me
        self.log = ViewLog(views)
        profile = profile.with_lease(self.view.lease_ms / 1000)
        self.ending: str | None = None
        self.is_welcome_back = True
        self.has_departed = False
        self.forks = 0
        self._profile = profile
        self._rng = rng
        self._charter = charter
        self._evidence = evidence
        self._roll = Roll(me, profile, self.log, now)
        self._tenure = Tenure(profile, now)
        self.polls = Polls(profile, rng, self._roll, evidence, now)
        self._left: set[str] = set()
        self._apply_at = now
        self._depart_by: float | None = None

    # What it is

    @property
    def view(self) -> View:
        """The last view that is known here."""
        return self.log.last

    @property
    def is_member(self) -> bool:
        """Whether the view names this run of the node."""
        held = self.view.member(self.me.id)
        return held is not None and held.identity == self.me.identity

    @property
    def released(self) -> frozenset[Identity]:
        """Members that have given their lease up."""
        return frozenset(self._roll.released)

    @property
    def is_released(self) -> bool:
        """Whether this node has given its lease up, and waits to be let go."""
        return self._depart_by is not None

    def is_serving(self, now: float) -> bool:
        """Return whether this node holds a lease."""
        return self._tenure.is_serving(now)

    def unserved(self, now: float) -> float:
        """Return for how long this node has had no lease; seconds."""
        return self._tenure.unserved(now)

    # Beginnings

    def begin(self, now: float) -> list[Effect]:
        """Take part as a member from now on."""
        assert self.is_member, "whoever begins is in the view"
        return self._take_seat(now)

    def restore(self, record: Record, now: float) -> None:
        """Take part as a voter that was restarted, with its record, from now on."""
        self.polls.restore(record, now)

    def believe(self, claims: Iterable[Claim], now: float) -> list[Effect]:
        """Take over what SWIM believes."""
        self._roll.believe(claims)
        return self.polls.consider(now)

    def change(self, me: Member, now: float) -> list[Effect]:
        """This node wants to be seen as another record."""
        self.me = self._roll.me = me
        self._apply_at = now
        return []

    def release(self, now: float) -> list[Effect]:
        """Give the lease up for good: all that was to be drained is drained."""
        if len(self.view.members) == 1:
            self.has_departed = True
            return [*self._end_lease(now)]
        if self._depart_by is None:
            self._depart_by = now + self._profile.drain + _LEAVE_LIMIT
            self._apply_at = now
        return [*self._end_lease(now), *self.tick(now)]

    def accuse(self, accused: Iterable[Identity]) -> list[Effect]:
        """Ask the voters whether these members are dead."""
        return self.polls.accuse(accused)

    # What is heard

    def receive(self, message: AgreementMessage, sender: Claim, now: float) -> list[Effect]:
        """React to a message of this lineage."""
        if not self._roll.heard(sender, now):
            return []
        effects = self._react(message, sender, now)
        if not isinstance(message, Renew | Renewed) and self.ending is None:
            effects += self.polls.consider(now)
        return effects

    def _react(self, message: AgreementMessage, sender: Claim, now: float) -> list[Effect]:
        match message:
            case Renew():
                return self._on_renew(message, sender, now)
            case Renewed(_, number, round_):
                return self._on_renewed(number, round_, sender)
            case NotRenewed(_, _, why):
                return self._on_denial(why, sender)
            case Prepare() | Accept() if message.number != self.view.number + 1:
                return self._catch_up(message.number - 1, sender)
            case Prepare() | Accept():
                return self.polls.on_question(message, sender, now) if self.polls.is_voter else []
            case Promised() | Accepted() | Nack():
                return self._on_answer(message, sender, now)
            case Decided(_, views, is_all):
                return self._learn(views, sender, now, is_all=is_all)
            case Fetch(lineage, after):
                return [Send(sender.address, Decided(lineage, self.log.after(after), True))]
            case Apply():
                return self._on_application(message, sender, now)
            case Release(_, number):
                return self._on_release(number, sender)
            case Proof(_, who):
                return self.polls.on_accusation(who, sender, now)
            case Alive():
                return self.polls.on_alive(message, now)
            case _:
                return []

    def _on_renew(self, message: Renew, sender: Claim, now: float) -> list[Effect]:
        effects = self._learn(message.views, sender, now)
        if self.ending is not None:
            return effects
        if message.number != self.view.number:
            return effects + self._catch_up(message.number, sender)
        if not self.polls.is_voter or not self._roll.is_seated(sender.identity):
            return effects
        denial = self.polls.renew(sender.identity, now)
        if denial is not None:
            answer: AgreementMessage = NotRenewed(self.view.lineage, message.number, denial)
        else:
            answer = Renewed(self.view.lineage, message.number, message.round)
        return [*effects, Send(sender.address, answer)]

    def _on_renewed(self, number: int, round_: int, sender: Claim) -> list[Effect]:
        if not self._is_voice(sender.identity):
            return []
        if number != self.view.number or self._depart_by is not None:
            return []
        return [LeaseUntil(self._tenure.until)] if self._tenure.grant(number, round_, sender.id) else []

    def _on_denial(self, why: Denial, sender: Claim) -> list[Effect]:
        held = self.view.member(sender.id)
        if why is Denial.LEFT and held is not None and sender.incarnation > held.incarnation:
            self._left.add(sender.id)
        if why is Denial.PROVEN and self._depart_by is None:
            return [Send(sender.address, Alive(self.view.lineage, self.me.identity))]
        return []

    def _on_answer(self, message: Promised | Accepted | Nack, sender: Claim, now: float) -> list[Effect]:
        if message.number != self.view.number + 1 or not self._is_voice(sender.identity):
            return []
        effects = self.polls.on_answer(message, sender, now)
        decided = self.polls.decided
        if decided is None:
            return effects
        before = self.view.members
        installed = self._install(decided, now)
        news = Decided(decided.lineage, self.log.recent())
        told = {member.address for member in (*before, *decided.members) if member.identity != self.me.identity}
        # Before what is asked under the view: a newcomer could make nothing of that, and the lease would wait.
        effects += [effect for effect in installed if not isinstance(effect, Send)]
        effects += [Send(address, news) for address in sorted(told)]
        return effects + [effect for effect in installed if isinstance(effect, Send)]

    def _on_application(self, message: Apply, sender: Claim, now: float) -> list[Effect]:
        applicant = message.member
        if applicant.identity != sender.identity:
            return []
        if message.charter != self._charter:
            return [Send(sender.address, Unfit(message.charter.differs_from(self._charter)))]
        if not self._roll.is_seated(applicant.identity):
            others = [member for member in self.view.members if member.id != applicant.id]
            if not fits_store(applicant, others):
                return [Send(sender.address, Unfit(other_store(applicant.store, store_of(others))))]
        held = self.view.member(applicant.id)
        if held is not None and held.incarnation < applicant.incarnation and held.key == applicant.key:
            self._evidence.replaced(held.identity, now)
        is_new = not self._roll.has_applied(applicant.identity, now)
        may_enter = self._roll.apply(applicant, now)
        if self._roll.is_seated(applicant.identity) or not may_enter:
            behind = message.number < self.view.number
            news: list[Effect] = [Send(sender.address, Decided(self.view.lineage, self._for(message.number)))]
            if not self._roll.is_seated(applicant.identity) and self.log.has_had(applicant.identity):
                news.append(Send(sender.address, Spent(self.view.lineage, applicant.identity)))
            return news if behind else []
        answer: list[Effect] = [Send(sender.address, self.meet(now, is_reply=True))]
        if is_new and self.polls.is_voter and not self._is_watched_at(applicant.address):
            # Dialled back before it is let in: its death can be proved from its first moment as a member on.
            answer.append(Check(applicant.address))
        return answer

    def _is_watched_at(self, address: str) -> bool:
        """Whether a connection to the address may still prove a member's death: a fresh one would take its place."""
        return any(member.address == address for member in self.view.members)

    def _on_release(self, number: int, sender: Claim) -> list[Effect]:
        if self._roll.is_seated(sender.identity):
            self._roll.released.add(sender.identity)
        return self._catch_up(number, sender) if number < self.view.number else []

    # Views

    def _catch_up(self, number: int, sender: Claim) -> list[Effect]:
        """Bring the two up to date with each other, when the sender's last view is `number`."""
        if number > self.view.number:
            return [Send(sender.address, Fetch(self.view.lineage, self.view.number))]
        return [Send(sender.address, Decided(self.view.lineage, self._for(number)))]

    def _for(self, number: int) -> tuple[View, ...]:
        return self.log.after(number) if number else self.log.recent()

    def _learn(self, views: Iterable[View], sender: Claim, now: float, *, is_all: bool = False) -> list[Effect]:
        """Install what is new among the views, in turn."""
        effects: list[Effect] = []
        for view in views:
            if self.ending is not None or self.has_departed:
                break
            if view.number <= self.view.number:
                effects += self._compare(view, sender)
            elif view.number == self.view.number + 1 or not self.is_member:
                effects += self._install(view, now)
            elif is_all:
                self.ending = "the others keep no view as old as the one that this node has"
            else:
                return [*effects, Send(sender.address, Fetch(self.view.lineage, self.view.number))]
        return effects

    def _compare(self, view: View, sender: Claim) -> list[Effect]:
        if not self.log.forked(view):
            return []
        self.forks += 1
        mine = self.view
        if (-len(view.members), digest_of(view)) < (-len(mine.members), digest_of(mine)):
            self.ending = "another view of the same number was decided elsewhere"
        what = f"two views have the number {view.number}: a voter's record was rolled back or copied"
        return [Warn(what, sender.id, sender.address)]

    def _install(self, view: View, now: float) -> list[Effect]:
        was_member = self.is_member
        self.log.append(view)
        self.polls.install(view, now)
        self._roll.install(now)
        self._evidence.forget({member.identity for member in view.members}, now)
        self._apply_at = now
        self._left &= {member.id for member in view.members}
        if self.is_member:
            return self._take_seat(now)
        ended = self._end_lease(now)
        held = view.member(self.me.id)
        if self._depart_by is not None:
            self.has_departed = True
        elif was_member or held is None or held.incarnation > self.me.incarnation:
            self.ending = "the others went on without this node"
        return [*ended, *self.polls.persist()]

    def _take_seat(self, now: float) -> list[Effect]:
        self._tenure.begin(self.view, now)
        lease = LeaseUntil(self._tenure.until)  # it goes on under this view
        return [*self.polls.persist(), InstallView(self.view), lease, *self._renew(now)]

    def _end_lease(self, now: float) -> list[Effect]:
        self._tenure.end(now)
        return [LeaseUntil(self._tenure.until)]

    # Time

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due at `now`."""
        effects: list[Effect] = []
        if self._is_beyond_hope(now):
            self.ending = "no quorum of the voters is left"
            self.is_welcome_back = False
            return effects
        if now >= self._tenure.renew_at:
            effects += self._renew(now)
        if now >= self._apply_at:
            effects += self._repeat_wishes(now)
        return effects + self.polls.tick(now)

    def next_deadline(self, now: float) -> float:
        """Return when `tick` must be called again at the latest."""
        deadlines = [
            self.polls.next_deadline(),
            self._roll.next_deadline(now),
            self._apply_at,
        ]
        if self.is_member:
            deadlines.append(self._tenure.renew_at)
        return min(deadlines)

    def _renew(self, now: float) -> list[Effect]:
        asked = self._tenure.ask(self.view, now)
        if not self.is_member or self._depart_by is not None:
            return []
        return [Send(self._roll.address_of(voter), question) for voter, question in asked]

    def _repeat_wishes(self, now: float) -> list[Effect]:
        """Say again what this node wants of the others: to be in the view as it is, or out of it."""
        self._apply_at = now + self._profile.retry * self._rng.uniform(0.75, 1.5)
        view = self.view
        message: Apply | Release
        if self._depart_by is not None:
            self.has_departed = now >= self._depart_by
            self._roll.released.add(self.me.identity)
            message = Release(view.lineage, view.number)
        elif view.member(self.me.id) != self.me:
            self._roll.apply(self.me, now)
            message = Apply(view.lineage, view.number, self.me, self._charter)
        else:
            self._apply_at = float("inf")
            return []
        return [Send(self._roll.address_of(other), message) for other in view.members if other.id != self.me.id]

    def _is_beyond_hope(self, now: float) -> bool:
        """Return whether this lineage can never decide anything again, and so never serve."""
        if self.unserved(now) < 2 * promise_seconds(self._profile):
            return False
        return not can_ever_decide(self.view, self._evidence.proven, self._left)

    # What to propose

    # Plumbing

    def meet(self, now: float, *, is_reply: bool) -> Meet:
        """Return how this node presents its lineage to others."""
        view = self.view
        at = tuple(self._roll.address_of(voter) for voter in voters_of(view))
        return Meet(view.lineage, view.number, len(view.members), self.is_serving(now), is_reply, at)

    def _is_voice(self, who: Identity) -> bool:
        """Return whether this run speaks for a voter: it is the one in the view, or a later one."""
        return any(voter.id == who[0] and voter.incarnation <= who[1] for voter in voters_of(self.view))
