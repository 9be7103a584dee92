"""Two threads at one table: every step of one is interrupted by the whole of the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex, cast

import pytest

from ringcast.discovery.share import Place, Share, bits_of

Step = Callable[[], None]


class SteppedCounts(list[int]):
    """A list that lets something happen before each access."""

    step: Step = staticmethod(lambda: None)

    def __getitem__(self, key: Any) -> Any:
        self.step()
        return cast(Any, super()).__getitem__(key)

    def __setitem__(self, key: SupportsIndex | slice, value: Any) -> None:
        self.step()
        super().__setitem__(key, value)

    def __iter__(self) -> Any:
        self.step()
        return super().__iter__()


class SteppedShare(Share):
    """A share that lets something happen before each access to its places."""

    def __init__(self) -> None:
        super().__init__()
        self.step: Step = lambda: None
        self.running = SteppedCounts(self.running)

    def __getattribute__(self, name: str) -> Any:
        if name in ("open", "draining"):
            object.__getattribute__(self, "step")()
        return object.__getattribute__(self, name)


class Careless(SteppedShare):
    """The mistake: it looks first, and counts then."""

    def enter(self, partition: int) -> bool:
        if not self.open >> partition & 1:
            return False
        self.running[partition] += 1
        return True


def interrupted(first: Callable[[], Any], other: Callable[[], Any], at: int, share: SteppedShare) -> tuple[Any, Any]:
    """Run `first`, with `other` in the middle of it, before its access number `at`, or after it."""
    accesses, results = 0, list[Any]()

    def step() -> None:
        nonlocal accesses
        accesses += 1
        if accesses == at + 1 and not results:
            results.append(None)
            results[0] = other()

    share.step = step
    counts: Any = share.running
    counts.step = step
    one = first()
    share.step = counts.step = lambda: None
    return one, results[0] if results else other()


def a_share(kind: type[SteppedShare] = SteppedShare) -> SteppedShare:
    share = kind()
    share.open = 0b1
    return share


def give_away(share: Share) -> bool:
    """What the membership's thread does with a partition that it loses; return whether it was seen empty."""
    share.draining |= share.open
    share.open = 0
    return bool(share.drained)


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("is_loop_first", [True, False])
def test_nothing_begins_in_a_partition_that_was_seen_empty(at: int, is_loop_first: bool) -> None:
    share = a_share()
    enter, give = lambda: share.enter(0), lambda: give_away(share)
    if is_loop_first:
        begun, was_drained = interrupted(enter, give, at, share)
    else:
        was_drained, begun = interrupted(give, enter, at, share)
    assert not (begun and was_drained)
    if begun:
        assert share.leave(0)
    assert share.drained == 0b1


def test_the_same_search_finds_the_mistake() -> None:
    found: list[int] = []
    for at in range(8):
        share = a_share(Careless)
        begun, was_drained = interrupted(lambda: share.enter(0), lambda: give_away(share), at, share)  # noqa: B023
        if begun and was_drained:
            found.append(at)
    assert found


@pytest.mark.parametrize("at", range(8))
@pytest.mark.parametrize("is_loop_first", [True, False])
def test_the_end_of_the_last_activation_is_never_missed(at: int, is_loop_first: bool) -> None:
    share = a_share()
    assert share.enter(0)
    leave, give = lambda: share.leave(0), lambda: give_away(share)
    results = interrupted(leave, give, at, share) if is_loop_first else interrupted(give, leave, at, share)
    assert any(results)


def test_activations_are_counted() -> None:
    share = Share()
    share.open = 0b101
    assert share.enter(0)
    assert share.enter(0)
    assert not share.leave(0)
    assert share.enter(2)
    share.draining, share.open = 0b101, 0
    assert not share.enter(0)
    assert share.drained == 0
    assert share.leave(0)
    assert share.drained == 0b001
    assert share.leave(2)
    assert share.drained == 0b101


def test_a_partition_is_in_one_place() -> None:
    share = Share()
    share.open, share.opening, share.draining = 0b001, 0b010, 0b100
    assert [share.place(p) for p in range(4)] == [Place.OPEN, Place.OPENING, Place.DRAINING, Place.REMOTE]


def test_bits_are_counted_from_the_lowest() -> None:
    assert list(bits_of(0b1001 | 1 << 1000)) == [0, 3, 1000]
    assert list(bits_of(0)) == []
