"""The lease: until when a member may act under a view. A pure core.

A member asks all voters in rounds. When more than half of them have renewed one and the
same round, its lease runs from the instant at which that round was *sent*: whatever the
messages took is taken off. A voter that renews promises to accept no view without the
member for longer than the lease can last by the member's clock, `L (1 + 4 rho)` counted
from the receipt, by its own clock. With `rho` bounding how far any clock's rate is off,
the member's lease takes at most `L / (1 - rho)` and the promise at least
`L (1 + 4 rho) / (1 + rho)` of true time, which is more for every rho below one half.

A round that is answered late counts by its own send time, so it can only be worth less.
Nothing that is renewed under another number than that of the view in force counts.

A lease outlasts a change of the view, for a member that is in both. Whoever renewed its last
round, some voter among them accepted the new view later than that (a lease's majority and
either quorum share a voter, and a voter that has accepted renews no more under the old
number). So the new view was installed anywhere only after the round was sent; and each voter
promises anew, when it installs it, to accept no view without the member for longer than any
lease from before can last.

References:
    Gray, Cheriton. "Leases". SOSP 1989, section 3.1 (clocks).
    docs of the protocol: "Leases".
"""

from __future__ import annotations

from .profile import Profile

__all__ = ["LocalLease", "promise_seconds"]

_ROUNDS_KEPT = 8
"""Rounds that may still be answered; older ones could hardly make a lease any more."""


def promise_seconds(profile: Profile) -> float:
    """Return for how long a voter that renews accepts no view without the asker."""
    return profile.lease * (1 + 4 * profile.clock_drift)


class LocalLease:
    """One member's own lease."""

    def __init__(self, profile: Profile) -> None:
        """Start without a lease."""
        self.until = float("-inf")
        self._profile = profile
        self._needed = 0
        self._number = 0
        self._round = 0
        self._sent: dict[int, float] = {}
        self._granted: dict[int, set[str]] = {}

    def is_valid(self, now: float) -> bool:
        """Return whether the member may act at this instant."""
        return now < self.until

    def end(self) -> None:
        """Give it up."""
        self.until = float("-inf")

    def begin(self, number: int, needed: int) -> None:
        """Go on under view `number`: from now on it takes `needed` voters there to renew it."""
        self._number = number
        self._needed = needed
        self._sent.clear()
        self._granted.clear()

    def ask(self, now: float) -> int:
        """Return the number of a new round, which is sent at `now`."""
        self._round += 1
        self._sent[self._round] = now
        self._granted[self._round] = set()
        self._sent.pop(self._round - _ROUNDS_KEPT, None)
        self._granted.pop(self._round - _ROUNDS_KEPT, None)
        return self._round

    def grant(self, number: int, round_: int, voter: str) -> bool:
        """Count a voter's answer; return whether the lease runs longer by it."""
        if number != self._number or round_ not in self._sent:
            return False
        granted = self._granted[round_]
        granted.add(voter)
        until = self._sent[round_] + self._profile.lease
        if len(granted) < self._needed or until <= self.until:
            return False
        self.until = until
        return True
