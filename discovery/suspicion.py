"""How long a suspect has to refute.

Lifeguard's second part: a suspicion starts with the long timeout and shrinks towards the
short one as independent accusers confirm it. A single observer with a bad link must wait;
several that agree need not. Its third and fourth parts, the word to the suspect itself and
the nacks of helpers, are in `swim`.

References:
    Dadgar, Phillips, Currey. "Lifeguard". 2017, section 4.2.
"""

from __future__ import annotations

import math

from .profile import Profile

__all__ = ["Suspicion", "suspicion_timeout"]


def suspicion_timeout(confirmations: int, members: int, profile: Profile) -> float:
    """Return how long a member may stay suspect before it is declared dead.

    Args:
        confirmations: Independent accusers beyond the first, at least 0.
        members: Members believed alive, this one included; at least 1.
        profile: Gives the probe interval and both multipliers.

    Returns:
        Seconds from the first accusation.
    """
    assert confirmations >= 0
    assert members >= 1
    shortest = profile.suspicion_multiplier * max(1.0, math.log10(members)) * profile.probe_interval
    expected = profile.suspicion_multiplier - 2
    if members - 2 < expected:
        # Too few others to confirm: waiting for accusers who do not exist only delays.
        return shortest
    longest = profile.suspicion_max_factor * shortest
    share = math.log(confirmations + 1) / math.log(expected + 1)
    return max(shortest, longest - share * (longest - shortest))


class Suspicion:
    """One running suspicion: when it began and who shares it."""

    __slots__ = ("_accusers", "_since")

    def __init__(self, accuser: str, now: float) -> None:
        """Start at `now`, on the word of `accuser`."""
        self._accusers = {accuser}
        self._since = now

    def confirm(self, accuser: str) -> bool:
        """Count an accuser; return whether it is one that was not counted before."""
        known = accuser in self._accusers
        self._accusers.add(accuser)
        return not known

    def postpone(self, seconds: float) -> None:
        """Take `seconds` out of the count: this node was asleep and could hear no refutation."""
        self._since += seconds

    def deadline(self, members: int, profile: Profile) -> float:
        """Return when the suspect is to be declared dead, as things stand now."""
        return self._since + suspicion_timeout(len(self._accusers) - 1, members, profile)
