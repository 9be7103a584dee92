"""Which histories of a register can be explained."""

from __future__ import annotations

import math
import random

import pytest

from ringcast.runtime.simulation import history
from ringcast.runtime.simulation.history import Operation, TooLarge, is_linearizable, register


def write(begun: float, ended: float, value: int) -> Operation:
    return Operation(begun, ended, "write", (value,), None)


def read(begun: float, ended: float, value: int | None) -> Operation:
    return Operation(begun, ended, "read", (), value)


def swap(begun: float, ended: float, old: int | None, new: int, is_done: bool) -> Operation:
    return Operation(begun, ended, "swap", (old, new), is_done)


def test_one_after_the_other() -> None:
    assert is_linearizable([])
    assert is_linearizable([read(0, 1, None), write(2, 3, 1), read(4, 5, 1), swap(6, 7, 1, 2, True), read(8, 9, 2)])
    assert not is_linearizable([write(0, 1, 1), read(2, 3, None)]), "a stale read"
    assert not is_linearizable([write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)]), "a lost write"


def test_calls_that_overlap_may_take_effect_in_either_order() -> None:
    assert is_linearizable([write(0, 10, 1), read(1, 2, None), read(3, 4, 1)])
    assert not is_linearizable([write(0, 10, 1), read(1, 2, 1), read(3, 4, None)]), "it goes back"
    assert is_linearizable([swap(0, 9, None, 1, True), swap(0, 9, 1, 2, True), read(10, 11, 2)])
    assert not is_linearizable([swap(0, 9, None, 1, True), swap(0, 9, None, 2, True)]), "both have won"


def test_what_has_no_outcome_may_have_taken_effect_or_not() -> None:
    unknown = Operation(1, math.inf, "write", (7,))
    assert is_linearizable([unknown, read(2, 3, 7)])
    assert is_linearizable([unknown, read(2, 3, None), read(4, 5, 7)])
    assert is_linearizable([unknown, read(2, 3, None)])
    assert not is_linearizable([unknown, read(2, 3, 7), read(4, 5, None)])
    assert not is_linearizable([unknown, read(0, 0.5, 7)]), "before it began"


def test_histories_of_a_real_register_are_explained_and_those_with_another_answer_are_not() -> None:
    rng = random.Random(1)
    broken = 0
    for _ in range(100):
        state: object = None
        calls: list[Operation] = []
        for instant in range(30):  # each takes effect at its instant, and begins before and ends after it
            method = rng.choice(["read", "write", "swap"])
            arguments = tuple(rng.randrange(3) for _ in range({"read": 0, "write": 1, "swap": 2}[method]))
            state, answer = register(state, method, arguments)
            calls.append(Operation(instant - rng.random() * 3, instant + rng.random() * 3, method, arguments, answer))
        assert is_linearizable(calls)
        spoilt = rng.choice([number for number, call in enumerate(calls) if call.method == "read"])
        call = calls[spoilt]
        calls[spoilt] = Operation(call.begun, call.ended, "read", (), 99)
        broken += not is_linearizable(calls)
    assert broken == 100


def test_what_overlaps_too_much_is_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "SEARCHED_MAX", 1000)
    with pytest.raises(TooLarge, match="21 calls overlap"):
        is_linearizable([*(write(0, 100, number) for number in range(20)), read(101, 102, 99)])


def test_a_register_does_nothing_else() -> None:
    with pytest.raises(ValueError, match="no add"):
        register(None, "add", ())
