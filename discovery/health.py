"""How far a node trusts its own observations.

Lifeguard's first part, local health: missed acks, missing nacks and having to refute are
signs that the trouble may be this node's own (a starved process, a full queue, a dead
interface). The score scales the node's probe interval and timeout, so that a node that is
slow itself accuses others late.

References:
    Dadgar, Phillips, Currey. "Lifeguard". 2017, section 4.1.
"""

from __future__ import annotations

__all__ = ["Health"]


class Health:
    """A saturating counter from 0, which is healthy, to `limit - 1`."""

    __slots__ = ("_limit", "score")

    def __init__(self, limit: int) -> None:
        """Start healthy; `limit` is the largest multiplier, at least 1."""
        self._limit = limit
        self.score = 0

    @property
    def multiplier(self) -> int:
        """What probe interval and timeout are multiplied with: 1 to the limit."""
        return self.score + 1

    def worsen(self, by: int = 1) -> None:
        """Count `by` signs of trouble with this node."""
        self.score = min(self.score + by, self._limit - 1)

    def improve(self) -> None:
        """Count one sign that all is well."""
        self.score = max(self.score - 1, 0)

    def reset(self) -> None:
        """Begin healthy again: what was missed while a node was cut off says nothing of it once it is back."""
        self.score = 0
