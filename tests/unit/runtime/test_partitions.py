"""Two threads at one table: every step of one is interrupted by the whole of the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex

import pytest

from ringcast.runtime.handoff import Place
from ringcast.runtime.partitions import Partitions


class Stepped(list[Any]):
    """A list that lets something happen before each access."""

    step: Callable[[], None] = staticmethod(lambda: None)

    def __getitem__(self, key: Any) -> Any:
        self.step()
        return super().__getitem__(key)

    def __setitem__(self, key: SupportsIndex | slice, value: Any) -> None:
        self.step()
        super().__setitem__(key, value)


def interrupted(first: Callable[[], Any], other: Callable[[], Any], at: int, lists: list[Stepped]) -> tuple[Any, Any]:
    """Run `first`, with `other` in the middle of it, before its access number `at`, or after it."""
    accesses, results = 0, list[Any]()

    def step() -> None:
        nonlocal accesses
        accesses += 1
        if accesses == at + 1 and not results:
            results.append(None)
            results[0] = other()

    for stepped in lists:
        stepped.step = step
    one = first()
    for stepped in lists:
        stepped.step = lambda: None
    return one, results[0] if results else other()


def table(kind: type[Partitions] = Partitions) -> tuple[Partitions, Stepped, list[Stepped]]:
    places = Stepped([Place.OPEN])
    made = kind(places)
    running = Stepped(made._running)
    made._running = running
    return made, places, [places, running]


def give_away(made: Partitions, places: Stepped) -> bool:
    """What the membership's thread does with a partition that it loses."""
    places[0] = Place.DRAINING
    return made.is_drained(0)


class Careless(Partitions):
    """The mistake: it looks first, and counts then."""

    def enter(self, partition: int) -> bool:
        if self._places[partition] is not Place.OPEN:
            return False
        self._running[partition] += 1
        return True


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("is_loop_first", [True, False])
def test_no_turn_begins_in_a_partition_that_was_seen_empty(at: int, is_loop_first: bool) -> None:
    made, places, lists = table()
    enter, give = lambda: made.enter(0), lambda: give_away(made, places)
    if is_loop_first:
        begun, was_drained = interrupted(enter, give, at, lists)
    else:
        was_drained, begun = interrupted(give, enter, at, lists)
    assert not (begun and was_drained)
    if begun:
        assert made.leave(0)
    assert made.is_drained(0)


@pytest.mark.parametrize("at", [0, 1])
def test_the_same_search_finds_the_mistake(at: int) -> None:
    made, places, lists = table(Careless)
    begun, was_drained = interrupted(lambda: made.enter(0), lambda: give_away(made, places), at, lists)
    assert (begun and was_drained) is (at == 1)


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("is_loop_first", [True, False])
def test_the_end_of_the_last_turn_is_never_missed(at: int, is_loop_first: bool) -> None:
    made, places, lists = table()
    assert made.enter(0)
    leave, give = lambda: made.leave(0), lambda: give_away(made, places)
    results = interrupted(leave, give, at, lists) if is_loop_first else interrupted(give, leave, at, lists)
    assert any(results)


def test_turns_are_counted() -> None:
    made, places, _ = table()
    assert made.enter(0)
    assert made.enter(0)
    assert not made.leave(0)
    places[0] = Place.DRAINING
    assert not made.enter(0)
    assert not made.is_drained(0)
    assert made.leave(0)
    assert made.is_drained(0)
