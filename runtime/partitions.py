"""The table that the membership's thread and the actors' loop share: what may run here.

Each list has one writer. The membership's thread writes the places (`Handoff` does); the
actors' loop writes how many turns run. Neither waits for the other, so the order of their
steps is what keeps a turn from beginning in a partition that is given away at that moment:

* the loop counts its turn first and looks at the place then, and takes it back if it may not;
* the thread changes the place first and looks at the count then.

Whichever of the two is first, one of them sees the other. No turn begins while a partition
drains, so a count of zero that the thread sees then stays zero until the place changes.
"""

from __future__ import annotations

from .handoff import Place

__all__ = ["Partitions"]


class Partitions:
    """Places and running turns of one group of classes, for two threads."""

    def __init__(self, places: list[Place]) -> None:
        """Share these places, which somebody else writes in place."""
        self._places = places
        self._running = [0] * len(places)

    def enter(self, partition: int) -> bool:
        """Count a turn in, on the actors' loop; return whether it may begin."""
        self._running[partition] += 1
        if self._places[partition] is Place.OPEN:
            return True
        self._running[partition] -= 1
        return False

    def leave(self, partition: int) -> bool:
        """Count a turn out, on the actors' loop; return whether the membership's thread waits for it."""
        self._running[partition] -= 1
        return self._places[partition] is Place.DRAINING and self._running[partition] == 0

    def is_drained(self, partition: int) -> bool:
        """Return whether a partition drains and nothing runs in it; on the membership's thread.

        To be asked when a partition begins to drain, and whenever `leave` said so: a report that
        was under way may be older than the place is now.
        """
        return self._places[partition] is Place.DRAINING and self._running[partition] == 0
