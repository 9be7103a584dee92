"""Whether commits are quick enough to be made on the event loop's own thread.

Going to another thread and back costs two wake-ups, which is as much as a good disk takes to sync; but a commit on the
loop's thread keeps everything else waiting. So a few saves may be committed there while

* commits have been quick of late: slower ones would gain little, and cost the others much;
* they take nothing from others: the loop does little else between them, or so much that they are a small part of it.
  The other thread would then have to wait for the interpreter's lock, for 5 ms again and again;
* stalls do not sum up. A commit that took longer than any other thread may keep the loop is a *stall*. After one, all
  commits are made on the other thread for a hundred times as long, so that stalls take at most a hundredth of the
  loop's time.

That a disk stalls is known only afterwards: the loop waits for the first commit of each stall, as long as it takes.

References:
    Redis' manual, "Redis persistence": with `appendfsync always` it syncs on its event loop, once for all that a tick
    has brought.
"""

from __future__ import annotations

__all__ = ["Haste"]

FEW = 16
"""Saves that may be committed at once; more are for the other thread, for the way there is shared by all of them."""

QUICK = 0.0005
"""Seconds that commits may take on the average. The way to the other thread and back takes some 0.15 ms."""

STALL = 0.005
"""Seconds from which on a commit is a stall: what any other thread may keep the loop (`sys.getswitchinterval`)."""

SHARE = 100
"""A stall sends all commits to the other thread for so many times as long."""

OTHERS = 0.0001
"""Seconds of processor that the loop's thread may use for each save; a durable turn and its ask take less than half of
it, and the way to the other thread the rest."""

COMMITS = 0.1
"""Part of the loop's time that commits may take where others have much work for it."""

_RECENT = 1 / 16
"""What the newest commit counts in the average; as a stall it counts no more than the shortest one."""


class Haste:
    """What is known of one file's commits, and of the loop between them. All times are seconds."""

    def __init__(self) -> None:
        """Know nothing: the first commits are made on the other thread."""
        self._mean = 2 * QUICK
        self._stalled_until = float("-inf")
        self._used = 0.0

    def took(self, seconds: float, count: int, now: float) -> None:
        """A commit took so long, on whichever thread.

        Args:
            seconds: How long.
            count: Saves that it was of. That of more than a few says nothing of what a few would take.
            now: When it was over, monotonic.
        """
        if count <= FEW:
            self._mean += (min(seconds, STALL) - self._mean) * _RECENT
        if seconds > STALL:
            self._stalled_until = max(self._stalled_until, now + SHARE * seconds)

    def is_due(self, count: int, now: float, used: float) -> bool:
        """Whether so many saves may be committed on the loop's thread now.

        Args:
            count: How many.
            now: The time, monotonic.
            used: The processor time of the loop's thread until now. It is remembered: what comes before the next
                save is that one's, wherever either is committed.
        """
        between = used - self._used
        self._used = used
        is_small = between < OTHERS * count or between * COMMITS > self._mean
        return count <= FEW and self.is_quick(now) and is_small

    def is_quick(self, now: float) -> bool:
        """Whether commits have been quick of late."""
        return self._mean < QUICK and now >= self._stalled_until

    def rest(self, used: float) -> None:
        """A commit on the loop's thread is over, whose own processor time does not count."""
        self._used = used
