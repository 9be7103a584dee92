"""Pings that a member sends for others: the helper's part of an indirect probe.

A helper that hears nothing from the target in time says so with a nack. The prober then
knows that its own link works, and that the silence is the target's (Lifeguard's fourth
part). An ack that comes later still is passed on.

References:
    Das, Gupta, Motivala. "SWIM". DSN 2002, section 3.1.
    Dadgar, Phillips, Currey. "Lifeguard". 2017, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from .claim import Claim
from .profile import Profile

__all__ = ["Relays"]

_NACK_SHARE = 0.8
"""The nack leaves after this share of the probe timeout, in time to be counted."""


@dataclass(slots=True)
class _Relay:
    asker: Claim
    seq: int
    nack_at: float | None
    ends_at: float


class Relays:
    """The relayed pings under way, by the number that this helper gave them.

    An asker is the member that the answer goes to, and the number that it knows the ping by.
    """

    __slots__ = ("_profile", "_relays")

    def __init__(self, profile: Profile) -> None:
        """Start with none."""
        self._profile = profile
        self._relays: dict[int, _Relay] = {}

    def add(self, own_seq: int, asker: Claim, seq: int, now: float) -> None:
        """A ping `own_seq` leaves at `now` for `asker`, who calls it `seq`."""
        nack_at = now + _NACK_SHARE * self._profile.probe_timeout
        # Nobody waits for an answer longer than the slowest prober's probe lasts.
        ends_at = now + self._profile.health_limit * self._profile.probe_interval
        self._relays[own_seq] = _Relay(asker, seq, nack_at, ends_at)

    def answered(self, own_seq: int) -> tuple[Claim, int] | None:
        """Return whom to tell that the target answered, or None if nobody waits for it."""
        relay = self._relays.pop(own_seq, None)
        return None if relay is None else (relay.asker, relay.seq)

    def silent(self, now: float) -> list[tuple[Claim, int]]:
        """Return whom to tell, once each, that the target has not answered yet."""
        askers: list[tuple[Claim, int]] = []
        for own_seq, relay in sorted(self._relays.items()):
            if relay.nack_at is not None and now >= relay.nack_at:
                relay.nack_at = None
                askers.append((relay.asker, relay.seq))
            if now >= relay.ends_at:
                del self._relays[own_seq]
        return askers

    def next_deadline(self) -> float:
        """Return when `silent` must be called again at the latest."""
        deadlines = (relay.ends_at if relay.nack_at is None else relay.nack_at for relay in self._relays.values())
        return min(deadlines, default=float("inf"))
