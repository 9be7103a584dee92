"""A member's own part in its lease: it asks, counts, and knows for how long it has not served.

A pure core. Every member asks all voters each renewal interval, and at once under a new
view. A voter that has not answered under this view may not have it, so it is sent along.
"""

from __future__ import annotations

from .agreement_messages import Renew
from .lease import LocalLease
from .member import Member, View
from .profile import Profile
from .quorum import lease_quorum, voters_of

__all__ = ["Tenure"]


class Tenure:
    """One node's lease in one lineage, view after view."""

    def __init__(self, profile: Profile, now: float) -> None:
        """Start without a lease."""
        self.renew_at = now
        self._profile = profile
        self._lease = LocalLease(profile)
        self._unserved_since = now
        self._informed: set[str] = set()

    @property
    def until(self) -> float:
        """When the lease ends, unless it is renewed; -inf if there is none."""
        return self._lease.until

    def is_serving(self, now: float) -> bool:
        """Return whether there is a lease."""
        return self._lease.is_valid(now)

    def unserved(self, now: float) -> float:
        """Return for how long there has been no lease; seconds."""
        return max(0.0, now - max(self._unserved_since, self._lease.until))

    def end(self, now: float) -> None:
        """End the lease."""
        self._unserved_since = max(self._unserved_since, min(now, self._lease.until))
        self._lease.end()

    def begin(self, view: View, now: float) -> None:
        """Go on under this view; the lease is renewed there, and runs on until then."""
        self._lease.begin(view.number, lease_quorum(view))
        self._informed.clear()
        self.renew_at = now

    def ask(self, view: View, now: float) -> list[tuple[Member, Renew]]:
        """Return what each voter is asked in a new round."""
        self.renew_at = now + self._profile.renewal
        round_ = self._lease.ask(now)
        return [
            (voter, Renew(view.lineage, view.number, round_, () if voter.id in self._informed else (view,)))
            for voter in voters_of(view)
        ]

    def grant(self, number: int, round_: int, voter: str) -> bool:
        """Count a voter's answer under the view in force; return whether the lease runs longer by it."""
        self._informed.add(voter)
        return self._lease.grant(number, round_, voter)
