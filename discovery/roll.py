"""Who should be in the next view: what one node knows of members and applicants. A pure core.

Suspicion comes from SWIM, as claims; applications come from those who want to join, to show
another record, or to leave; releases from those who have left. From these, from proof of
death and from what a voter has frozen follows the *wish*: the members that the next view
should have. Three rules guard it:

* A run that has been a member is never admitted again, nor one that is older than another
  run of the same node: an application may have been under way for long.
* A word from somebody counts more than a suspicion against it, for a while. Otherwise a
  node that was cut off would, at the moment when it is back, ask for a view without all
  those whom it could not hear.
* All members that have a store have the same: of two that come at once with different
  ones, one is let in.

References:
    docs of the protocol: "Voter state", "Who proposes", "Leave".
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from ringcast.values import dataclass

from .claim import Claim
from .member import Identity, Member, View, store_of
from .profile import Profile
from .quorum import voters_of
from .viewlog import ViewLog

__all__ = ["Application", "Roll", "fits_store"]

_APPLICATION_RETRIES = 3.75
"""An application is forgotten so many retry times after its last repetition."""

_UNKNOWN_LEASES = 2
"""A member of whom SWIM has never heard is suspect after so many lease lengths."""


@dataclass(frozen=True, slots=True)
class Application:
    """What somebody wants to be, and until when that is remembered."""

    member: Member
    until: float


def fits_store(member: Member, others: Iterable[Member]) -> bool:
    """Return whether a member may keep its state where it does, beside these: who names no store fits any."""
    theirs = store_of(others)
    return not member.store or not theirs or member.store == theirs


class Roll:
    """What one node knows of those who are or want to be members of its lineage."""

    def __init__(self, me: Member, profile: Profile, log: ViewLog, now: float) -> None:
        """Start with the members of the log's last view, all of them trusted."""
        self.me = me
        self.released: set[Identity] = set()
        self._profile = profile
        self._log = log
        self._installed_at = now
        self._applications: dict[str, Application] = {}
        self._claims: dict[str, Claim] = {}
        self._gone: frozenset[str] = frozenset()
        self._heard: dict[Identity, float] = {}
        self._addresses: dict[str, tuple[int, str]] = {}

    @property
    def view(self) -> View:
        """The view in force."""
        return self._log.last

    # What is heard

    def install(self, now: float) -> None:
        """Go on with the log's new last view."""
        members = {member.identity for member in self._log.last.members}
        self._installed_at = now
        self.released &= members
        self._applications = {
            node_id: entry
            for node_id, entry in self._applications.items()
            if entry.member.identity in members or not self._log.has_had(entry.member.identity)
        }
        self._heard = {who: at for who, at in self._heard.items() if who in members}

    def believe(self, claims: Iterable[Claim]) -> None:
        """Take over what SWIM believes."""
        self._claims = {claim.id: claim for claim in claims}
        self._gone = frozenset(claim.id for claim in self._claims.values() if claim.status.is_final)

    def heard(self, sender: Claim, now: float) -> bool:
        """Take note that this run has spoken; return whether it is the latest of its node."""
        incarnation, _ = self._addresses.get(sender.id, (0, ""))
        if sender.incarnation < incarnation:
            return False
        self._addresses[sender.id] = sender.incarnation, sender.address
        self._heard[sender.identity] = now
        return True

    def address_of(self, member: Member) -> str:
        """Return where a member, or a later run of its node, is heard now."""
        if member.id == self.me.id:
            return self.me.address
        incarnation, address = self._addresses.get(member.id, (0, ""))
        return address if incarnation >= member.incarnation else member.address

    def address_of_run(self, who: Identity) -> str:
        """Return where a run is heard; empty if it is not in the view."""
        held = self.view.member(who[0])
        return self.address_of(held) if held is not None else ""

    def apply(self, member: Member, now: float) -> bool:
        """Remember for a while what someone wants to be; return whether it may be considered."""
        view = self._log.last
        pending = self._applications.get(member.id)
        if pending is not None and now < pending.until and pending.member.incarnation > member.incarnation:
            return False
        held = view.member(member.id)
        if held is None or held.incarnation != member.incarnation:
            if self._log.has_had(member.identity):
                return False
        elif held.key != member.key:
            return False
        until = now + _APPLICATION_RETRIES * self._profile.retry
        self._applications[member.id] = Application(member, until)
        return True

    def has_applied(self, who: Identity, now: float) -> bool:
        """Return whether an application of this run is remembered."""
        pending = self._applications.get(who[0])
        return pending is not None and pending.member.identity == who and now < pending.until

    # What follows

    def is_seated(self, who: Identity) -> bool:
        """Return whether the view names this very run."""
        held = self.view.member(who[0])
        return held is not None and held.identity == who

    def is_suspect(self, member: Member, now: float) -> bool:
        """Return whether this run does not seem to live, by SWIM or for want of any word."""
        if now < self._heard.get(member.identity, float("-inf")) + self._profile.lease:
            return False
        claim = self._claims.get(member.id)
        if claim is None or claim.incarnation < member.incarnation:
            return now >= self._installed_at + _UNKNOWN_LEASES * self._profile.lease
        return claim.incarnation > member.incarnation or claim.status.is_final

    def applicants(self, now: float) -> list[Member]:
        """Return those whose application is fresh, by id."""
        fresh = [entry.member for _, entry in sorted(self._applications.items()) if now < entry.until]
        return [member for member in fresh if not self._is_dead(member)]

    def wish(self, gone: Collection[Identity], now: float) -> tuple[Member, ...]:
        """Return the members that the next view should have, in order of seniority.

        Args:
            gone: Runs that must not be in it: proven dead, or frozen.
            now: Seconds.
        """
        view = self._log.last
        members = {member.id: member for member in view.members}
        out = {*gone, *self.released}
        out |= {member.identity for member in view.members if self.is_suspect(member, now)}
        for member in self.applicants(now):
            others = (held for held in members.values() if held.id != member.id and held.identity not in out)
            if fits_store(member, others):
                self._consider(members, member, out)
            elif (held := members.get(member.id)) is not None and held.identity == member.identity:
                self._consider(members, replace(member, store=held.store), out)
        kept = [member for member in members.values() if member.identity not in out]
        kept.sort(key=lambda member: member.seniority)
        if not kept or all(member.leaving for member in kept):
            return self._least_change(kept)
        return tuple(kept)

    def next_deadline(self, now: float) -> float:
        """Return when the wish may change by itself."""
        times = [entry.until for entry in self._applications.values()]
        times.append(self._installed_at + _UNKNOWN_LEASES * self._profile.lease)
        if self._gone:
            times += [at + self._profile.lease for (node_id, _), at in self._heard.items() if node_id in self._gone]
        return min((at for at in times if at > now), default=float("inf"))

    def _is_dead(self, member: Member) -> bool:
        claim = self._claims.get(member.id)
        return claim is not None and claim.incarnation == member.incarnation and claim.status.is_final

    def _consider(self, members: dict[str, Member], applicant: Member, out: set[Identity]) -> None:
        held = members.get(applicant.id)
        if held is None:
            members[applicant.id] = applicant
        elif held.identity == applicant.identity:
            # A leave is not taken back, or a record that was long under way would do so.
            members[held.id] = replace(applicant, leaving=held.leaving or applicant.leaving)
        elif applicant.incarnation > held.incarnation and (applicant.key == held.key or held.identity in out):
            members[applicant.id] = applicant

    def _least_change(self, kept: list[Member]) -> tuple[Member, ...]:
        """Return what to wish for where nobody would be left to vote on the view after."""
        view = self._log.last
        stay = {voter.identity for voter in voters_of(view)} & {member.identity for member in kept}
        if not stay:
            return view.members
        senior = min(stay, key=lambda who: (who[1], who[0]))
        return tuple(replace(member, leaving=False) if member.identity == senior else member for member in kept)
