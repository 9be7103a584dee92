"""Which views a node follows, and until when it may act under them. A pure core.

A node is either on its way into a lineage (`applicant`) or takes part in one (`council`).
What is decided here is how it passes from the one to the other:

* It is born into a lineage, or founds one, whose name is the time of its birth and chance,
  so that lower means older.
* When its part in a lineage is over (left out of a view, no quorum left for good, a fork), it
  fences itself and goes on as a new incarnation.
* When two lineages of one cluster meet, one of them *dissolves*, node by node: the one that
  does not serve, or else the smaller, or else the younger. To those who stay this is a
  crash with proof. It needs no agreement, and sizes may be stale; then both may move, and
  it still ends in one.

Whoever drives this sends what it says to the addresses given. A message to the node's own
address is a local call. `now` is one clock that also counts while the machine sleeps.

References:
    Lamport. "Paxos Made Simple". 2001.
    docs of the protocol: "Views", "Birth and merge of lineages", "Quorum lost for good".
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from .agreement_messages import (
    AgreementMessage,
    Apply,
    Charter,
    Decided,
    Denial,
    Fetch,
    Hello,
    Meet,
    NotRenewed,
    Renew,
    Spent,
    Unfit,
)
from .applicant import Applicant, Founding
from .claim import Claim
from .council import Council
from .effects import Depart, Effect, Excluded, InstallView, LeaseUntil, Notify, Persist, Record, SelfFence, Send
from .evidence import Evidence
from .member import Event, Identity, Member, MemberJoined, MemberLeft, MemberLost, View, ViewChanged
from .profile import Profile

__all__ = ["Agreement", "new_lineage"]

_NOBODY: frozenset[Identity] = frozenset()

_IDLE_LEASES = 3
"""A node that has not served for so many lease lengths moves to a lineage that does."""

_CHANCE_BITS = 80


def new_lineage(born_ms: int, rng: random.Random) -> str:
    """Return the name of a lineage: 48 bits of birth time and 80 of chance, in hexadecimal."""
    return f"{born_ms % (1 << 48):012x}{rng.getrandbits(_CHANCE_BITS):020x}"


class Agreement:
    """One node's part in agreeing on views and leases."""

    def __init__(
        self,
        me: Member,
        profile: Profile,
        rng: random.Random,
        now: float,
        *,
        founding: Founding | None = None,
        charter: Charter | None = None,
        record: Record | None = None,
        trusts_refusal: bool = True,
    ) -> None:
        """Look for a lineage, or go back to the one of `record`.

        Args:
            me: This node's record; its incarnation is above that of `record`, and on disk.
            profile: The protocol's numbers.
            rng: Where chance comes from.
            now: Seconds.
            founding: Whether this node may found a lineage, and when; None: after one window.
            charter: What all members must have in common; its bound of the clocks' drift is taken from `profile`.
            record: What was found on disk; None if there is nothing.
            trusts_refusal: Whether refused connections prove a death.
        """
        self.me = me
        self.view: View | None = None
        self.evidence = Evidence(profile, trusts_refusal=trusts_refusal)
        self.fences = 0
        self._profile = profile
        self._rng = rng
        self._founding = founding if founding is not None else Founding()
        self._charter = replace(
            charter if charter is not None else Charter(),
            drift_ppm=round(profile.clock_drift * 1_000_000),
        )
        self._started_at = now
        self._first_incarnation = me.incarnation
        self._claims: tuple[Claim, ...] = ()
        self._council: Council | None = None
        self._applicant: Applicant | None = None
        self._meet_at = now
        self._has_departed = False
        if record is not None and record.view is not None and record.view.member(me.id) is not None:
            self._council = Council(me, profile, rng, [record.view], self.evidence, self._charter, now)
            self._council.restore(record, now)
        else:
            self._seek(now)

    # What it is

    @property
    def lineage(self) -> str | None:
        """The lineage that this node belongs to or applies to."""
        if self._council is not None:
            return self._council.view.lineage
        return self._applicant.lineage if self._applicant is not None else None

    @property
    def council(self) -> Council | None:
        """This node's part in a lineage, if it has one."""
        return self._council

    def is_serving(self, now: float) -> bool:
        """Return whether this node may act under the view in force."""
        return self._council is not None and self._council.is_serving(now)

    @property
    def excused(self) -> frozenset[Identity]:
        """Runs that are proven dead or have released their lease: nobody need wait for their word."""
        released = self._council.released if self._council is not None else _NOBODY
        return released | self.evidence.proven.keys() if self.evidence.proven else released

    # What happens

    def believe(self, claims: Iterable[Claim], now: float) -> list[Effect]:
        """Take over what SWIM believes of all nodes."""
        self._claims = tuple(claims)
        if self._applicant is not None:
            self._applicant.meet_peers(self._peers(), now)
        if self._council is not None:
            return self._conclude(self._council.believe(self._claims, now), now)
        return []

    def change(self, me: Member, now: float) -> list[Effect]:
        """This node's record is another one from now on; the run stays the same."""
        self.me = replace(me, incarnation=self.me.incarnation)
        if self._applicant is not None:
            self._applicant.me = self.me
        if self._council is not None:
            return self._conclude(self._council.change(self.me, now), now)
        return []

    def release(self, now: float) -> list[Effect]:
        """Give the lease up for good and wait to be let go; ends with `Depart`."""
        if self._has_departed:
            return []
        if self._council is None:
            return self._depart()
        return self._conclude(self._council.release(now), now)

    def dissolve(self, why: str, now: float) -> list[Effect]:
        """Forget the lineage, whatever it may still decide, and start over as a new run.

        An operator's last resort when a quorum is lost: what the others of it do is not known.
        """
        if self._council is None:
            return []
        self._council.ending, self._council.is_welcome_back = why, False
        return self._conclude([], now)

    def start_over(self, why: str, now: float, *, after: int = 0) -> list[Effect]:
        """End this run, because it cannot go on, and come back as one with an incarnation after this.

        The new run applies where the old one was a member. To the others this is a crash with
        proof.
        """
        self._first_incarnation = max(self._first_incarnation, after + 1)
        if self._council is None:
            return self._go_on_anew(why, now, self.lineage)
        self._council.ending = why
        return self._conclude([], now)

    def refused(self, address: str, now: float) -> list[Effect]:
        """A fresh connection to the address was refused."""
        return self._accuse(self.evidence.refused(address, now))

    def answered(self, address: str, by: Identity, now: float) -> list[Effect]:
        """A fresh connection to the address was answered by this run."""
        return self._accuse(self.evidence.answered(address, by, now))

    def _accuse(self, accused: list[Identity]) -> list[Effect]:
        return self._council.accuse(accused) if self._council is not None else []

    def receive(self, message: AgreementMessage, sender: Claim, now: float) -> list[Effect]:
        """React to a message; `sender` says who speaks, as the transport has authenticated it."""
        if self._has_departed:
            return []
        self.evidence.heard(sender.identity, now)
        match message:
            case Hello():
                return self._conclude(self._on_hello(message, sender, now), now)
            case Meet():
                return self._conclude(self._on_meet(message, sender, now), now)
            case Unfit(why):
                return [Excluded(why, sender.id, sender.address)]
            case _ if self._council is not None and message.lineage == self._council.view.lineage:
                return self._conclude(self._council.receive(message, sender, now), now)
            case Decided(lineage, views) if self._applicant is not None and lineage == self._applicant.lineage:
                return self._conclude(self._on_decided(views, now), now)
            case Spent(lineage, who) if self._applicant is not None and who == self.me.identity:
                return self._go_on_anew("it was let in, and left out again before it knew", now, lineage, ())
            case NotRenewed(lineage, _, Denial.LEFT) if (
                self._applicant is not None and lineage == self._applicant.lineage
            ):
                self._applicant.on_left(sender, now)
                return []
            case _:
                return self._answer_foreign(message, sender, now)

    # Time

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due at `now`."""
        if self._has_departed:
            return []
        effects = self.evidence.tick(now)
        if self._applicant is not None:
            effects += self._applicant.tick(now)
            if self._applicant.is_due(now):
                effects += self._found(now)
            return self._conclude(effects, now)
        assert self._council is not None, "a node looks for a lineage or has one"
        effects += self._council.tick(now)
        if now >= self._meet_at:
            effects += self._meet_strangers(now)
        return self._conclude(effects, now)

    def next_deadline(self, now: float) -> float:
        """Return when `tick` must be called again at the latest."""
        if self._has_departed:
            return float("inf")
        if self._applicant is not None:
            return min(self.evidence.next_deadline(), self._applicant.next_deadline())
        assert self._council is not None, "a node looks for a lineage or has one"
        return min(self.evidence.next_deadline(), self._council.next_deadline(now), self._meet_at)

    # Into a lineage

    def _seek(self, now: float) -> Applicant:
        self._council = None
        applicant = Applicant(self.me, self._profile, self._rng, self._founding, self._charter, now)
        applicant.meet_peers(self._peers(), now)
        self._applicant = applicant
        return applicant

    def _found(self, now: float) -> list[Effect]:
        born_ms = self._first_incarnation + int((now - self._started_at) * 1000)
        lineage = new_lineage(born_ms, self._rng)
        return self._enter((View(lineage, 1, (self.me,), round(self._profile.lease * 1000)),), now)

    def _on_decided(self, views: tuple[View, ...], now: float) -> list[Effect]:
        """Enter, if the latest view holds this very run."""
        if not views or views[-1].member(self.me.id) is None:
            return []
        held = views[-1].member(self.me.id)
        assert held is not None
        return self._enter(views, now) if held.identity == self.me.identity else []

    def _enter(self, views: tuple[View, ...], now: float) -> list[Effect]:
        self._applicant = None
        self._council = Council(self.me, self._profile, self._rng, views, self.evidence, self._charter, now)
        self._meet_at = now + self._profile.renewal
        return [*self._council.begin(now), *self._council.believe(self._claims, now)]

    # Out of a lineage

    def _conclude(self, effects: list[Effect], now: float) -> list[Effect]:
        """Tell the application what has changed, and leave a lineage whose part here is over."""
        outward: list[Effect] = []
        for effect in effects:
            outward.append(effect)
            if isinstance(effect, InstallView):
                outward += map(Notify, self._changes(effect.view))
                self.view = effect.view
        council = self._council
        if council is not None and (council.has_departed or (council.is_released and council.ending is not None)):
            return [*outward, *self._depart()]
        if council is not None and council.ending is not None:
            return [*outward, *self._start_over(council.ending, now)]
        return outward

    def _changes(self, view: View) -> list[Event]:
        before = {member.identity: member for member in (self.view.members if self.view else ())}
        after = {member.identity: member for member in view.members}
        events: list[Event] = [MemberJoined(after[who]) for who in after if who not in before]
        for who, member in before.items():
            if who not in after:
                events.append(MemberLeft(member) if member.leaving else MemberLost(member))
        return [*events, ViewChanged(view)]

    def _start_over(self, why: str, now: float) -> list[Effect]:
        """Fence this run and look for a lineage as another one; the last one is tried first."""
        assert self._council is not None, "only who belongs to a lineage can leave it"
        left = self._council.view
        if self._council.is_welcome_back:
            return self._go_on_anew(why, now, left.lineage, tuple(member.address for member in left.members))
        return self._go_on_anew(why, now)

    def _go_on_anew(
        self, why: str, now: float, lineage: str | None = None, voters: tuple[str, ...] = ()
    ) -> list[Effect]:
        """End this run; go on as another one, which applies to that lineage or looks for one."""
        age_ms = int((now - self._started_at) * 1000)
        incarnation = max(self.me.incarnation + 1, self._first_incarnation + age_ms)
        self.me = replace(self.me, incarnation=incarnation)
        self.fences += 1
        applicant = self._seek(now)
        if lineage is not None:
            applicant.aim(lineage, voters, now)
        effects: list[Effect] = [LeaseUntil(float("-inf")), SelfFence(why, self.me)]
        words = [effect for effect in applicant.tick(now) if isinstance(effect, Send)]
        if self.me.has_record:
            # Not a word as the new run before it is on disk that there has been one.
            return [*effects, Persist(Record(incarnation), tuple(words))]
        return [*effects, *words]

    def _depart(self) -> list[Effect]:
        self._has_departed = True
        return [LeaseUntil(float("-inf")), Depart()]

    # Strangers

    def _peers(self) -> list[str]:
        """Return where others than this node are heard, by all that SWIM believes alive."""
        return [claim.address for claim in self._claims if claim.id != self.me.id and not claim.status.is_final]

    def _on_hello(self, hello: Hello, sender: Claim, now: float) -> list[Effect]:
        if hello.member.identity != sender.identity:
            return []
        if self._applicant is not None:
            self._applicant.on_hello(hello, now)
            return []
        assert self._council is not None, "a node looks for a lineage or has one"
        held = self._council.view.member(sender.id)
        if held is not None and held.incarnation < sender.incarnation and held.key == hello.member.key:
            self.evidence.replaced(held.identity, now)
        answer = Send(sender.address, self._council.meet(now, is_reply=True))
        return [answer, *self._council.believe(self._claims, now)]

    def _on_meet(self, meet: Meet, sender: Claim, now: float) -> list[Effect]:
        if self._applicant is not None:
            self._applicant.on_meet(meet, sender, now)
            return []
        council = self._council
        assert council is not None, "a node looks for a lineage or has one"
        mine = council.view
        if meet.lineage == mine.lineage:
            # A record may be so old that nobody of its view is left, and the lineage lives on.
            return [Send(sender.address, Fetch(mine.lineage, mine.number))] if meet.number > mine.number else []
        if meet.is_serving and (
            council.unserved(now) >= _IDLE_LEASES * self._profile.lease
            or (-meet.size, meet.lineage) < (-len(mine.members), mine.lineage)
        ):
            council.ending = "another lineage of this cluster serves"
            council.is_welcome_back = False
            effects = self._conclude([], now)
            if self._applicant is not None:
                self._applicant.on_meet(meet, sender, now)
            return effects
        return [] if meet.is_reply else [Send(sender.address, council.meet(now, is_reply=True))]

    def _answer_foreign(self, message: AgreementMessage, sender: Claim, now: float) -> list[Effect]:
        """Answer a word of a lineage that this node does not belong to."""
        effects: list[Effect] = []
        if isinstance(message, Renew | Apply):
            # An application is answered too: its sender counts on this voter's record.
            effects.append(Send(sender.address, NotRenewed(message.lineage, message.number, Denial.LEFT)))
        if self._council is not None:
            effects.append(Send(sender.address, self._council.meet(now, is_reply=False)))
        return effects

    def _meet_strangers(self, now: float) -> list[Effect]:
        """Tell those who are heard of and not in the view which lineage this is."""
        assert self._council is not None, "only who has a lineage can present it"
        self._meet_at = now + 2 * self._profile.renewal
        known = {member.id for member in self._council.view.members}
        to = [claim for claim in self._claims if claim.id not in known and not claim.status.is_final]
        return [Send(claim.address, self._council.meet(now, is_reply=False)) for claim in to if claim.id != self.me.id]
