"""Which members make the view: the rule of the most senior. A pure core.

Among the members that SWIM believes alive the most senior is the *sequencer*. Everyone
sends it JOIN with its full record, again and again until a view holds exactly that record.
The sequencer makes views of those that are alive and have joined, waits for changes to
settle so that one view serves many of them, numbers each one above all numbers that it
has heard of, and repeats it to every member that has not reported it.

Everybody installs what comes from the sequencer it believes in, holds this member, and has
a higher number than its own view. So numbers only grow at each node; and since the lineage
names the issuer's run, which numbers upwards, the same `(lineage, number)` means the same
members everywhere.

What this rule does not give: during a partition each side has a sequencer, and both serve.
Agreement by a majority of voters takes this module's place behind the same interface.

The record holds the key that the member proves over TLS, and the view pins it: for one run of a node
the first key that was heard of stays, and a record or a view with another one is refused. Only when
the run is believed dead may somebody else come under the same id, with a key of its own.

A node that starts waits for one discovery window before it makes a view alone. Clusters
that meet later need no rule of their own: the union's most senior is the sequencer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from .claim import Claim, Status
from .effects import Effect, InstallView, Notify, Send, Warn
from .member import Event, Member, MemberJoined, MemberLeft, MemberLost, View, ViewChanged
from .messages import Gossip, Join, ViewNews
from .profile import Profile

__all__ = ["Views"]

_SETTLE_TIMES_MAX = 5
"""Changes that go on and on are put off for at most so many times the settling time."""

_STRANGER_TIMES_MAX = 10
"""Members that are alive and have not joined yet are waited for that many settling times."""


class Views:
    """One member's part in making and following views."""

    def __init__(self, me: Member, profile: Profile, rng: random.Random, alone_until: float) -> None:
        """Follow others from now on, and make a view of one's own from `alone_until`."""
        self.me = me
        self.view: View | None = None
        self._profile = profile
        self._rng = rng
        self._alone_until = alone_until
        self._alive: dict[str, Claim] = {me.id: _claim_of(me)}
        self._left: set[tuple[str, int]] = set()
        self._records: dict[str, Member] = {me.id: me}
        self._reported: dict[str, tuple[str, int]] = {}
        self._highest = 0
        self._is_contested = False
        self._pending: tuple[Member, ...] | None = None
        self._pending_since = 0.0
        self._issue_at: float | None = None
        self._repeat_at = alone_until
        self._warned: set[str] = set()
        self.views_issued = 0
        self.keys_refused = 0

    @property
    def sequencer(self) -> Claim:
        """The most senior of the members believed alive."""
        return min(self._alive.values(), key=lambda claim: claim.seniority)

    # What happens

    def believe(self, claims: Iterable[Claim], now: float) -> list[Effect]:
        """Take over what SWIM believes of all members, this one included."""
        sequencer = self.sequencer.identity
        claims = tuple(claims)
        self._alive = {claim.id: claim for claim in claims if not claim.status.is_final}
        self._alive[self.me.id] = _claim_of(self.me)
        self._left = {claim.identity for claim in claims if claim.status is Status.LEFT}
        known = self._alive.keys() | {member.id for member in (self.view.members if self.view else ())}
        self._records = {node_id: record for node_id, record in self._records.items() if node_id in known}
        self._reported = {node_id: held for node_id, held in self._reported.items() if node_id in known}
        self._warned &= known
        if self.sequencer.identity != sequencer or (self._is_sequencer and self._strangers()):
            self._repeat_at = now
        return self._reconsider(now)

    def change(self, me: Member, now: float) -> list[Effect]:
        """This member's record is another one from now on; it has to be joined anew."""
        self.me = me
        self._records[me.id] = me
        self._alive[me.id] = _claim_of(me)
        self._repeat_at = now
        return self._reconsider(now)

    def pinned_key(self, node_id: str) -> bytes | None:
        """Return the key of the run of a node that is believed alive, or None if none has joined."""
        record = self._records.get(node_id)
        return record.key if record is not None and self._is_alive(record) else None

    def refuse_key(self, node_id: str, address: str) -> list[Effect]:
        """Somebody came as this node and with another key than the one that is pinned."""
        self.keys_refused += 1
        if node_id in self._warned:
            return []
        self._warned.add(node_id)
        what = "another key than this member's was shown and refused; look for a second process with its id"
        return [Warn(what, node_id, address)]

    def receive(self, message: Join | ViewNews, sender: Claim, now: float) -> list[Effect]:
        """React to a member's JOIN or to a sequencer's view."""
        if isinstance(message, ViewNews):
            return self._on_view(message.view, sender, now)
        return self._on_join(message.member, message.lineage, message.number, sender, now)

    def _on_join(self, member: Member, lineage: str, number: int, sender: Claim, now: float) -> list[Effect]:
        held = self._records.get(member.id, member)
        if member.identity != sender.identity or member.incarnation < held.incarnation:
            return []
        if _contradict(held, member):
            return self.refuse_key(member.id, sender.address)
        self._records[member.id] = member
        self._reported[member.id] = (lineage, number)
        self._highest = max(self._highest, number)
        if self.view is not None and lineage != self.view.lineage and number >= self.view.number:
            # It follows a view that mine cannot replace by number: mine has to be made anew.
            self._is_contested = True
        return [*self._reconsider(now), *self._tell([member], now)]

    def _on_view(self, view: View, sender: Claim, now: float) -> list[Effect]:
        self._highest = max(self._highest, view.number)
        is_mine = any(member.identity == self.me.identity for member in view.members)
        if sender.identity != self.sequencer.identity or not is_mine:
            return []
        for member in view.members:
            if _contradict(self._records.get(member.id, member), member):
                return self.refuse_key(member.id, sender.address)
        if self.view is not None and view.number < self.view.number:
            # Not answered, or stale views and reports would chase each other; the next
            # repetition of JOIN says which view is held here.
            return []
        is_news = self.view is None or view.number > self.view.number
        return [*(self._install(view) if is_news else ()), *self._join(now)]

    # Time

    def tick(self, now: float) -> list[Effect]:
        """Issue what has settled, and repeat what is unanswered."""
        effects = self._reconsider(now)
        if now >= self._repeat_at:
            if self._is_sequencer:
                self._repeat_at = now + self._profile.retry * self._rng.uniform(0.75, 1.5)
                effects += self._tell(self.view.members if self.view else (), now)
                # Whoever has not joined may not know yet that this member is the sequencer.
                effects += [Send(claim.address, Gossip()) for claim in self._strangers()]
            else:
                effects += self._join(now)
        return effects

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        return self._repeat_at if self._issue_at is None else min(self._issue_at, self._repeat_at)

    # The sequencer's part

    @property
    def _is_sequencer(self) -> bool:
        return self.sequencer.identity == self.me.identity

    def _wanted(self) -> tuple[Member, ...]:
        records = [self._records.get(node_id) for node_id in self._alive]
        joined = [record for record in records if record is not None and self._is_alive(record)]
        return tuple(sorted(joined, key=lambda member: member.seniority))

    def _is_alive(self, member: Member) -> bool:
        claim = self._alive.get(member.id)
        return claim is not None and claim.incarnation == member.incarnation

    def _reconsider(self, now: float) -> list[Effect]:
        """Issue a view if this member is to, one is due, and it is settled."""
        wanted = self._wanted() if self._is_sequencer else ()
        current = self.view.members if self.view else ()
        if not wanted or (wanted == current and not self._is_contested):
            self._pending = self._issue_at = None
            return []
        if self._issue_at is None:
            self._pending_since = now
        if wanted != self._pending or self._issue_at is None:
            self._pending = wanted
            self._issue_at = self._settled_at(wanted, current, now)
        if now < self._issue_at:
            return []
        self._pending = self._issue_at = None
        self._is_contested = False
        self._highest += 1
        self.views_issued += 1
        view = View(f"{self.me.id}@{self.me.incarnation}", self._highest, wanted)
        self._repeat_at = now + self._profile.retry
        return [*self._install(view), *self._tell(view.members, now)]

    def _settled_at(self, wanted: tuple[Member, ...], current: tuple[Member, ...], now: float) -> float:
        settle = self._profile.settle
        due = min(now + settle, self._pending_since + _SETTLE_TIMES_MAX * settle)
        known = {member.identity for member in current}
        if self._strangers() and any(member.identity not in known for member in wanted):
            # A newcomer with the oldest clock must not cut a cluster in two, only because some
            # of its members have sent their JOIN and others have not yet.
            due = self._pending_since + _STRANGER_TIMES_MAX * settle
        elif self.view is None:
            due = now
        elif _is_departure(wanted, current, self._left):
            due = now + self._profile.settle_departure
        return due if self.view is not None else max(due, self._alone_until)

    def _strangers(self) -> list[Claim]:
        """Return the members that are alive and have not joined."""
        joined = {member.identity for member in self._wanted()}
        return [claim for _, claim in sorted(self._alive.items()) if claim.identity not in joined]

    def _tell(self, members: Iterable[Member], now: float) -> list[Effect]:
        """Send the view to those of the members that have not reported it."""
        view = self.view
        if view is None or not self._is_sequencer:
            return []
        return [
            Send(member.address, ViewNews(view))
            for member in members
            if member.identity != self.me.identity
            and self._is_alive(member)
            and self._reported.get(member.id) != (view.lineage, view.number)
            and member.identity in {known.identity for known in view.members}
        ]

    # Every member's part

    def _join(self, now: float) -> list[Effect]:
        sequencer = self.sequencer
        assert sequencer.id != self.me.id, "a sequencer joins nobody"
        view = self.view
        is_content = (
            view is not None and view.lineage == f"{sequencer.id}@{sequencer.incarnation}" and self.me in view.members
        )
        wait = self._profile.full_exchange_interval if is_content else self._profile.retry
        self._repeat_at = now + wait * self._rng.uniform(0.75, 1.5)
        lineage, number = (view.lineage, view.number) if view else ("", 0)
        return [Send(sequencer.address, Join(self.me, lineage, number))]

    def _install(self, view: View) -> list[Effect]:
        before = {member.identity: member for member in (self.view.members if self.view else ())}
        after = {member.identity: member for member in view.members}
        events: list[Event] = [MemberJoined(after[who]) for who in after if who not in before]
        for who, member in before.items():
            if who not in after:
                is_left = member.leaving or who in self._left
                events.append(MemberLeft(member) if is_left else MemberLost(member))
        self.view = view
        self._highest = max(self._highest, view.number)
        for member in view.members:
            held = self._records.get(member.id)
            if held is None or held.incarnation < member.incarnation:
                self._records[member.id] = member
        return [InstallView(view), *map(Notify, events), Notify(ViewChanged(view))]


def _claim_of(member: Member) -> Claim:
    return Claim(member.id, member.address, member.incarnation)


def _contradict(one: Member, other: Member) -> bool:
    """Return whether two records of one run have different keys."""
    return one.identity == other.identity and one.key != other.key


def _is_departure(wanted: tuple[Member, ...], current: tuple[Member, ...], left: set[tuple[str, int]]) -> bool:
    """Return whether members only leave, of their own wish, between the two."""
    before = {member.identity: member for member in current}
    after = {member.identity: member for member in wanted}
    gone = [member for who, member in before.items() if who not in after]
    kept_or_leaving = all(who in before and (member == before[who] or member.leaving) for who, member in after.items())
    return kept_or_leaving and all(member.leaving or member.identity in left for member in gone)
