"""A backlog: what an owner sees of a queue whose messages wait for long, and who is to be dropped from it.

First come, first served, a queue that is longer than its messages can wait hands out all of them at the last moment,
and the answers come too late: whoever asked has given up, and the work was for nothing. Somebody has to be refused, and
those at the head gain least by being served. So from such a queue those at its head are dropped, until it moves in time
again. What is left is served in its order.

A queue that has only stood still, behind one long turn, moves quickly afterwards. So it is not the time that the head
has waited that decides, but how quick the actor is from then on: the messages that wait, times what a turn has taken
since the head was first found to have waited for half of its limit. An owner does not know limits, only what is left of
them, and takes for the limit what the last message, which has just come, has left.

It also takes what is left for more than it is: a message has waited in the loops of both nodes before it was seen
here, and its answer will. How long a round of this node's loop takes is seen, though, and `ROUNDS` of them are kept
spare.

References:
    K. Nichols, V. Jacobson, "Controlling Queue Delay", ACM Queue 10 (2012): drops at the head, by time in the queue,
    and only when that was long for a while. But its target is a constant; messages here say themselves by when their
    answers are wanted.
"""

from __future__ import annotations

from typing import Final

LONG: Final = 0.5
"""Of what the last message has left: if the first has less, it has waited for long, and turns are counted."""
NEAR: Final = 0.3
"""The same: who has less is dropped, while the queue is too long for its last message."""
ROUNDS: Final = 3.0
"""Rounds of the loop, and turns, that are to be left for a message to be answered in time."""
LOOK: Final = 0.05
"""Seconds, at least, over which turns are counted."""
HORIZON: Final = 0.5
"""Seconds after which what was counted before counts half."""


class Backlog:
    """What has been seen of one queue since its head was found to have waited for long."""

    __slots__ = ("_begun", "_is_behind", "_looked", "_since", "_spare", "_turn", "longest")

    def __init__(self, now: float, begun: int, left: float) -> None:
        """Start at a monotonic time, when so many turns had begun, with so many seconds left for the last message."""
        self.longest = left
        """Seconds: the most that a last message has had left."""
        self._turn = 0.0
        """Seconds from one turn to the next; 0 while that is not known."""
        self._spare = 0.0
        self._is_behind = False
        """Whether the queue was found too long."""
        self._since = self._looked = now
        self._begun = float(begun)

    def look(self, now: float, begun: int, left: float, away: float) -> None:
        """Look how quick the actor is; `left` is what the last message has, `away` took the loop's last round."""
        self.longest = max(self.longest, left)
        if now - self._looked > HORIZON:  # it has stood still, or was idle
            self._since, self._begun, self._turn = now, float(begun), 0.0
        self._looked = now
        seconds, turns = now - self._since, begun - self._begun
        if seconds >= LOOK:
            self._turn = seconds / max(turns, 1.0)
            self._spare = min(ROUNDS * (away + self._turn), NEAR * self.longest)
        if seconds > HORIZON:
            self._since, self._begun = now - seconds / 2, begun - turns / 2

    def drops(self, first: float, last: float, waiting: int) -> bool:
        """Return whether the first of so many messages is to be dropped, by what it and the last one have left."""
        if self._turn == 0.0:
            return False
        if waiting * self._turn > last - self._spare:
            self._is_behind = True
            return first < max(NEAR * last, self._spare)
        return self._is_behind and first < self._spare
