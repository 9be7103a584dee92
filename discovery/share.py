"""What of one class may run here: the table that the membership's thread and the actors' loop share.

A class's keys fall into partitions. Each partition is in one of four places, as this node sees it:

* ``REMOTE``: others run it.
* ``OPENING``: it belongs here, but somebody may still run something of it; messages wait.
* ``OPEN``: this node runs it, as long as it has a lease.
* ``DRAINING``: it belongs to somebody else now; what runs may end, nothing begins.

The places are three sets of bits, so that a view changes all of them at once. Each part has one
writer: the membership's thread writes the places (`Handoff` does); the actors' loop writes how many
activations there are. Neither waits for the other, so the order of their steps is what keeps an
activation from beginning in a partition that is given away at that moment:

* the loop counts its activation first and looks at the place then, and takes it back if it may not;
* the thread changes the place first and looks at the count then.

Whichever of the two is first, one of them sees the other. Nothing begins while a partition drains,
so a count of zero that the thread sees then stays zero until the place changes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

__all__ = ["PARTITIONS", "Place", "Share", "bits_of"]

PARTITIONS = 1024
"""Slices of the circle of hashes; a power of two."""


class Place(enum.IntEnum):
    """Where a partition is, as one member sees it."""

    REMOTE = 0
    OPENING = 1
    OPEN = 2
    DRAINING = 3


class Share:
    """The places of one class's partitions, and how many activations run in each.

    Attributes:
        open: Bit p stands for partition p, here and in the others.
        opening: Those that wait to be open.
        draining: Those that are given away and of which something may be left.
    """

    __slots__ = ("draining", "open", "opening", "running")

    def __init__(self) -> None:
        """Start with everything elsewhere."""
        self.open = 0
        self.opening = 0
        self.draining = 0
        self.running = [0] * PARTITIONS

    # On the actors' loop

    def enter(self, partition: int) -> bool:
        """Count an activation in; return whether it may begin."""
        self.running[partition] += 1
        if self.open >> partition & 1:
            return True
        self.running[partition] -= 1
        return False

    def leave(self, partition: int) -> bool:
        """Count an activation out; return whether the membership's thread waits for it."""
        self.running[partition] -= 1
        return bool(self.draining >> partition & 1) and self.running[partition] == 0

    # On the membership's thread

    @property
    def drained(self) -> int:
        """The partitions that drain and in which nothing runs any more.

        To be asked when a partition begins to drain, and whenever `leave` said so: a report that
        was under way may be older than the place is now.
        """
        if not self.draining or not any(self.running):
            return self.draining
        return sum(1 << partition for partition in bits_of(self.draining) if self.running[partition] == 0)

    # On either

    def place(self, partition: int) -> Place:
        """Return where a partition is at this moment."""
        if self.open >> partition & 1:
            return Place.OPEN
        if self.draining >> partition & 1:
            return Place.DRAINING
        return Place.OPENING if self.opening >> partition & 1 else Place.REMOTE


def bits_of(bits: int) -> Iterator[int]:
    """Yield the numbers of the bits that are set, from the lowest."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
