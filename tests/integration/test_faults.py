"""Node processes that are killed, stopped and told to leave, on the loopback."""

from __future__ import annotations

import pytest

from benchmarks.chaos.kills import killed
from benchmarks.chaos.moves import restarted
from benchmarks.chaos.stops import stopped, stopped_briefly

PROVEN = 2.0
"""Seconds within which the keys of a killed node answer again: by suspicion alone it would take 2.4."""


@pytest.mark.parametrize("count", [5, 2])
async def test_the_keys_of_a_killed_node_answer_before_anybody_could_have_suspected_it(count: int) -> None:
    times = await killed(count, 1)
    assert times
    assert max(times) <= PROVEN


async def test_a_node_that_was_stopped_for_too_long_acts_no_more() -> None:
    stood = await stopped(1, 3.0, profile="local")
    assert (stood.evicted, stood.served) == (1, 1)
    assert stood.released == 0
    assert stood.disorder == []


async def test_a_node_that_was_stopped_for_a_moment_is_kept() -> None:
    assert await stopped_briefly(1) == 0


async def test_a_node_that_is_told_to_leave_fails_no_ask_and_loses_no_message() -> None:
    moved = await restarted(1, leavers=1)
    assert len(moved.asks) > 1000
    assert [ask.error for ask in moved.failed] == []
    assert (moved.refused, moved.lost, moved.twice) == (0, 0, 0)
    assert moved.moves, "keys have moved"
