"""Queues that are longer than their messages can wait: who is dropped, and who is not. In virtual time."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast.runtime.backlog import HORIZON, LONG, LOOK, NEAR, ROUNDS, Backlog

LIMIT = 1.0


@dataclass(slots=True)
class Owner:
    """An actor whose turns take equally long; it looks at its queue as a drain does, when it has let others go on."""

    turn: float
    every: int = 1
    """Turns after which it looks."""
    away: float = 0.0
    now: float = 0.0
    begun: int = 0
    queue: deque[float] = field(default_factory=deque[float])
    """Deadlines."""
    backlog: Backlog | None = None
    dropped: int = 0
    expired: int = 0
    spare: list[float] = field(default_factory=list[float])
    """What was left of each limit when the turn was over."""

    def look(self) -> None:
        left = self.queue[-1] - self.now if self.queue else math.inf
        if not self.queue or self.queue[0] - self.now >= LONG * (self.backlog.longest if self.backlog else left):
            self.backlog = None
            return
        if self.backlog is None:
            self.backlog = Backlog(self.now, self.begun, left)
        self.backlog.look(self.now, self.begun, left, self.away)
        while self.queue and self.backlog.drops(self.queue[0] - self.now, left, len(self.queue)):
            self.queue.popleft()
            self.dropped += 1

    def serve(self) -> None:
        """Take one turn, or let a moment pass; then, in time, others go on."""
        if not self.queue:
            self.now += self.turn
            return
        deadline = self.queue.popleft()
        if deadline < self.now:
            self.expired += 1
            return
        self.begun += 1
        self.now += self.turn
        self.spare.append(deadline - self.now)
        if self.begun % self.every == 0:
            self.now += self.away
            self.look()

    def offered(self, rate: float, seconds: float, limit: float = LIMIT) -> None:
        """Be sent so many messages a second, evenly, for so long."""
        sent, until, begin = 0, self.now + seconds, self.now
        while self.now < until:
            while begin + sent / rate <= self.now:
                self.queue.append(begin + sent / rate + limit)
                sent += 1
            self.serve()


@given(
    turn=st.floats(0.0005, 0.02),
    every=st.integers(1, 10),
    load=st.floats(1.3, 8.0),
    away=st.floats(0.0, 0.01),
)
def test_however_much_too_much_comes_it_is_answered_in_time_and_the_actor_is_busy(
    turn: float, every: int, load: float, away: float
) -> None:
    owner = Owner(turn, every, away)
    most = 1.0 / (turn + away / every)
    owner.offered(load * most, 5.0)
    assert len(owner.spare) >= 0.95 * 5.0 * most, "nobody is refused whose turn it could have been"
    assert owner.expired == 0
    late = sum(spare < ROUNDS * away - every * turn for spare in owner.spare)
    assert late <= 0.01 * len(owner.spare), "an answer has the time that the loops of both nodes need"


@given(turn=st.floats(0.0005, 0.02), load=st.floats(0.1, 0.9))
def test_what_an_actor_can_take_is_never_dropped(turn: float, load: float) -> None:
    owner = Owner(turn)
    owner.offered(load / turn, 3.0)
    assert owner.dropped == owner.expired == 0


@given(stop=st.floats(0.1, 0.9), waiting=st.integers(1, 80))
def test_a_queue_that_has_stood_still_and_moves_again_is_left_as_it_is(stop: float, waiting: int) -> None:
    owner = Owner(0.001)
    owner.offered(10.0, 1.0)  # it has been looked at before
    owner.queue.extend(owner.now + stop * number / waiting + LIMIT for number in range(waiting))
    owner.now += stop
    owner.look()
    while owner.queue:
        owner.serve()
    assert owner.dropped == 0


def test_one_long_turn_between_two_looks_does_not_tell_how_quick_an_actor_is() -> None:
    backlog = Backlog(0.0, 0, LIMIT)
    backlog.look(LOOK, 50, LIMIT, 0.0)
    assert not backlog.drops(0.4, LIMIT, 500)
    backlog.look(LOOK + HORIZON + 0.1, 51, LIMIT, 0.0)
    assert not backlog.drops(0.01, LIMIT, 100), "by that turn alone they would take a minute"
    backlog.look(2 * LOOK + HORIZON + 0.1, 101, LIMIT, 0.0)
    assert not backlog.drops(0.01, LIMIT, 100), "they take a tenth of a second"


def test_nobody_is_dropped_before_it_is_known_how_quick_the_actor_is() -> None:
    backlog = Backlog(0.0, 0, LIMIT)
    backlog.look(LOOK * 0.9, 0, LIMIT, 0.0)
    assert not backlog.drops(0.01, LIMIT, 1000)
    backlog.look(LOOK, 0, LIMIT, 0.0)
    assert backlog.drops(0.01, LIMIT, 1000)


def test_those_near_their_limits_go_while_the_queue_is_too_long_for_its_last() -> None:
    backlog = Backlog(0.0, 0, LIMIT)
    backlog.look(LOOK, 5, LIMIT, 0.0)  # a hundred a second
    assert backlog.drops(NEAR - 0.01, LIMIT, 100)
    assert not backlog.drops(NEAR + 0.01, LIMIT, 100), "who has time is served"
    assert not backlog.drops(NEAR - 0.01, LIMIT, 50), "the last one is served in time"


def test_from_a_queue_that_was_too_long_goes_also_later_what_could_not_be_answered_in_time() -> None:
    spare = ROUNDS * (0.02 + 0.01)
    backlog = Backlog(0.0, 0, LIMIT)
    backlog.look(LOOK, 5, LIMIT, 0.02)
    assert not backlog.drops(spare - 0.01, LIMIT, 10), "it never was too long: whoever is at its head may be lucky"
    assert not backlog.drops(NEAR + 0.01, LIMIT, 100)
    assert backlog.drops(spare - 0.01, LIMIT, 10)
    assert not backlog.drops(spare + 0.01, LIMIT, 10)


@pytest.mark.parametrize("away", [0.5, 5.0])
def test_a_loop_that_is_slow_leaves_a_part_of_the_limit_at_least(away: float) -> None:
    backlog = Backlog(0.0, 0, LIMIT)
    backlog.look(LOOK, 5, 0.5, away)
    assert not backlog.drops(NEAR * LIMIT, 0.5, 1000)
    assert backlog.drops(NEAR * LIMIT - 0.01, 0.5, 1000)


def test_what_was_seen_long_ago_counts_less() -> None:
    backlog = Backlog(0.0, 0, LIMIT)
    now, begun = 0.0, 0
    for turn in (0.1, 0.001):
        for _ in range(int(2.0 / turn)):
            now, begun = now + turn, begun + 1
            backlog.look(now, begun, LIMIT, 0.0)
    assert not backlog.drops(0.01, LIMIT, 300), "a thousand a second now; ten at first"
