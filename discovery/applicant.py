"""How a node that belongs to no lineage finds one, or founds one. A pure core.

It says `Hello` to everyone whom SWIM shows. Whoever belongs to a lineage answers with
`Meet`, and from then on the node applies there until a view holds it, for as long as anyone
of that lineage answers.

If nobody does for one discovery window it may found a lineage of its own, unless another
candidate with a lower id was heard in the last window and a half: that one goes first, for
four windows at most. With `expect`, it first collects votes from more than half as many
nodes; each node gives its vote to one candidate at a time and keeps to it for two windows,
so that two halves of a cluster that starts in a partition do not both begin.

Nothing here is needed for safety: two lineages may be born, and merge later. Here it is
decided how seldom.

References:
    docs of the protocol: "Birth and merge of lineages".
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import field

from ringcast.values import dataclass

from .agreement_messages import Apply, Charter, Hello, Meet
from .claim import Claim
from .effects import Effect, Send
from .member import Member
from .profile import Profile

__all__ = ["Applicant", "Founding"]

_LOWER_ID_WINDOWS = 1.5
_PATIENCE_WINDOWS = 4
_VOTE_WINDOWS = 2
_SILENCE_LEASES = 3
"""A lineage of which nobody has answered for so many lease lengths is given up; sooner if its voters have left it."""


@dataclass(frozen=True, slots=True)
class Founding:
    """Whether and when this node may found a lineage.

    Attributes:
        is_allowed: False for nodes that only ever join.
        has_discovery: Whether there is anyone to be waited for.
        expect: How many nodes the cluster is to have; more than half of them have to agree.
    """

    is_allowed: bool = True
    has_discovery: bool = True
    expect: int = 1


@dataclass(frozen=True, slots=True)
class _Heard:
    at: float
    vote: str
    is_candidate: bool


@dataclass(slots=True)
class _Target:
    lineage: str
    voters: tuple[str, ...]
    since: float
    heard_at: float
    vouchers: set[str] = field(default_factory=set[str])
    left: set[str] = field(default_factory=set[str])

    @property
    def is_over(self) -> bool:
        """Whether too few voters are left to decide anything: half of them would be enough, with a proof of death."""
        return 2 * len(self.left.intersection(self.voters)) > len(self.voters)


class Applicant:
    """One node on its way into a lineage."""

    def __init__(
        self,
        me: Member,
        profile: Profile,
        rng: random.Random,
        founding: Founding,
        charter: Charter,
        now: float,
    ) -> None:
        """Look for a lineage from `now` on."""
        self.me = me
        self._profile = profile
        self._rng = rng
        self._founding = founding
        self._charter = charter
        self._since = now
        self._heard: dict[str, _Heard] = {}
        self._vote = ""
        self._voted_at = float("-inf")
        self._target: _Target | None = None
        self._again_at = now
        self._peers: tuple[str, ...] = ()

    @property
    def is_candidate(self) -> bool:
        """Whether this node may found a lineage: one that leaves would leave nobody in it."""
        return self._founding.is_allowed and not self.me.leaving

    @property
    def lineage(self) -> str | None:
        """The lineage that it applies to, if it has found one."""
        return self._target.lineage if self._target is not None else None

    def aim(self, lineage: str, voters: tuple[str, ...], now: float) -> _Target:
        """Apply to this lineage from now on."""
        # Who applies has no vote in that lineage, or it would be there with its record.
        target = self._target = _Target(lineage, voters, now, now, left={self.me.address})
        self._again_at = now
        return target

    def meet_peers(self, addresses: Collection[str], now: float) -> None:
        """These are heard of; newcomers among them are greeted at once."""
        peers = tuple(sorted(addresses))
        if set(peers) - set(self._peers):
            self._again_at = now
        self._peers = peers

    def on_hello(self, hello: Hello, now: float) -> None:
        """Take note of another one that looks for a lineage."""
        self._heard[hello.member.id] = _Heard(now, hello.vote, hello.is_candidate)

    def on_meet(self, meet: Meet, sender: Claim, now: float) -> None:
        """Aim at a lineage; change the aim only for one that serves, after a while in vain."""
        target = self._target
        if target is not None and target.lineage != meet.lineage:
            if not meet.is_serving or now < target.since + _SILENCE_LEASES * self._profile.lease:
                return
            target = None
        if target is None:
            target = self.aim(meet.lineage, meet.voters, now)
        target.heard_at, target.voters = now, meet.voters
        target.vouchers.add(sender.id)
        target.left.discard(sender.address)

    def on_left(self, sender: Claim, now: float) -> None:
        """Somebody is no part of the lineage applied to: look anew once nobody can be who lets this node in.

        That is so when the last one that has told of it has left it, or more than half of its voters have: two that
        give a cluster up whose quorum is lost need not be waited for. What is given up in error is told of again.
        """
        target = self._target
        if target is None:
            return
        was_voucher = sender.id in target.vouchers
        target.vouchers.discard(sender.id)
        target.left.add(sender.address)
        if target.is_over or (was_voucher and not target.vouchers):
            self._target, self._since, self._again_at = None, now, now

    def tick(self, now: float) -> list[Effect]:
        """Greet, or apply, again if it is time."""
        target = self._target
        if target is not None and now >= target.heard_at + _SILENCE_LEASES * self._profile.lease:
            self._target, self._since = None, now
        if now < self._again_at:
            return []
        self._again_at = now + self._profile.retry * self._rng.uniform(0.75, 1.5)
        return self._knock(now)

    def _knock(self, now: float) -> list[Effect]:
        if self._target is None:
            hello = Hello(self.me, self._give_vote(now), self.is_candidate)
            return [Send(address, hello) for address in self._peers]
        application = Apply(self._target.lineage, 0, self.me, self._charter)
        at = {*self._peers, *self._target.voters} - {self.me.address}
        return [Send(address, application) for address in sorted(at)]

    def is_due(self, now: float) -> bool:
        """Return whether this node must found a lineage now."""
        founding, window = self._founding, self._profile.discovery_window
        if self._target is not None or not self.is_candidate:
            return False
        if not founding.has_discovery:
            return True
        if now < self._since + window:
            return False
        if founding.expect > 1:
            return self._votes(now) > founding.expect // 2
        lower = [
            heard
            for node_id, heard in self._heard.items()
            if node_id < self.me.id and heard.is_candidate and now < heard.at + _LOWER_ID_WINDOWS * window
        ]
        return not lower or now >= self._since + _PATIENCE_WINDOWS * window

    def next_deadline(self) -> float:
        """Return when `tick` and `is_due` must be called again at the latest."""
        return self._again_at

    def _give_vote(self, now: float) -> str:
        window = self._profile.discovery_window
        if now >= self._voted_at + _VOTE_WINDOWS * window:
            recent = [
                node_id
                for node_id, heard in self._heard.items()
                if heard.is_candidate and now < heard.at + _LOWER_ID_WINDOWS * window
            ]
            mine = [self.me.id] if self.is_candidate else []
            self._vote = min((*recent, *mine), default="")
            self._voted_at = now
        return self._vote

    def _votes(self, now: float) -> int:
        """Count the votes for this node, its own included, that cannot have been changed yet."""
        window = self._profile.discovery_window
        fresh = [heard for heard in self._heard.values() if now < heard.at + window]
        return sum(heard.vote == self.me.id for heard in fresh) + (self._vote == self.me.id)
