"""Strain: what a node sees of an actor on another node that answers late, and what it still sends there.

An actor that has more to do than it can answers ever later, until all that it begins is too late for whoever
asked. Its queue cannot help: first come, first served, it hands out what has waited longest. So from the first
call on that has waited for half of its limit, this node counts what it has under way there, and how quickly
answers come. A new ask is refused at once, unsent, when those ahead of it would take more than a part of its limit.
What is sent is answered in time, and what is refused has cost the owner nothing. Nothing is overtaken,
for what was refused was never sent.

A call that waited here for the actor to have room is asked again when its turn to be sent comes: what
it has left then is less, and as much of the owner's queue is still ahead of it.

Half of a limit may also have passed because the actor stood still, or because it takes that long and no longer. So
until somebody had to be refused, or a limit has passed, the part is nearly all of the limit, and a few answers have to
have come first. From then on it is less: the queue is to become short again.

By Little's law calls under way, divided by answers a second, are the time that a call takes. Each node that asks
measures the answers that it gets itself, which are its part of what the actor can do; so many nodes together
fill the queue as far as one alone would. Time counts only while something is under way: an actor that is asked
seldom is not slow. Once a limit has passed, a strain of which nothing has been seen yet admits all, and one under which
no answer comes admits less and less.

Told messages have no answer to measure. What can be measured is how quickly those find room that wait here for it, so
they have a strain of their own: from the first on that has waited for half of its limit, who would not find room in
time is refused at once. `read_only` calls do not wait for one another; a stream has a limit for each item. None of them
is counted or refused.

References:
    J. D. C. Little, "A Proof for the Queuing Formula L = λW", Operations Research 9 (1961).
    K. Nichols, V. Jacobson, "Controlling Queue Delay", ACM Queue 10 (2012): time in the queue is what counts, not
    its length.
"""

from __future__ import annotations

from asyncio import Future
from time import monotonic
from typing import Final

from .calls import Call

EARLY: Final = 0.5
"""Of its limit: an actor is watched when a call has waited for so much."""
FIRST_PART: Final = 0.85
"""Of what is left of a call's limit: those ahead of it may take so much. The rest is for its own turn and the way."""
PART: Final = 0.6
"""The same, once a limit has passed or a call was refused: then the queue is to become shorter."""
ENOUGH: Final = 4.0
"""Answers from which on it is known how quickly they come, before anything was refused."""
HORIZON: Final = 1.0
"""Seconds after which what was seen before counts half."""
CALM: Final = 5.0
"""Seconds without a refusal or a limit that passed, after which a strain is over."""


class Strain:
    """How far one actor is behind, as seen from this node."""

    __slots__ = ("_answered", "_busy", "_part", "_seen", "_until", "ahead")

    def __init__(self, now: float) -> None:
        """Begin, at a monotonic time, with nothing seen."""
        self.ahead = 0
        """Calls under way."""
        self._answered = 0.0
        self._part = FIRST_PART
        self._busy = 0.0
        """Seconds in which something was under way, while so many answers came."""
        self._seen = now
        self._until = now + CALM

    @property
    def wait(self) -> float:
        """Seconds that those under way will take, or more."""
        return self.ahead * self._busy / (self._answered + 1.0)

    def admits(self, left: float, now: float, behind: int = 0) -> bool:
        """Return whether a call is to be sent that has `left` seconds; so many of those under way are behind it."""
        self._pass(now)
        if self._part == FIRST_PART and self._answered < ENOUGH:
            return True
        if (self.ahead - behind) * self._busy <= self._part * left * (self._answered + 1.0):
            return True
        self.late(now)
        return False

    def late(self, now: float) -> None:
        """A limit has passed, or would have."""
        self._part = PART
        self._until = now + CALM

    def is_over(self, now: float) -> bool:
        """Return whether all has been well for a while."""
        return now >= self._until

    def count(self, call: Call) -> None:
        """Take a call as under way until it is done."""
        self.ahead += 1
        call.add_done_callback(self._done)

    def count_teller(self, taken: Future[None]) -> None:
        """Take a told message as waiting until it is taken, or refused."""
        self.ahead += 1
        taken.add_done_callback(self._taken)

    def _taken(self, taken: Future[None]) -> None:
        self._pass(monotonic())
        self.ahead -= 1
        if not taken.cancelled() and taken.exception() is None:
            self._answered += 1.0

    def _done(self, call: Call) -> None:
        self._pass(monotonic())
        self.ahead -= 1
        if call.is_answered:
            self._answered += 1.0

    def _pass(self, now: float) -> None:
        if self.ahead:
            self._busy += now - self._seen
        self._seen = now
        if self._busy > HORIZON:
            self._busy *= 0.5
            self._answered *= 0.5
