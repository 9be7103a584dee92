"""Checkers object: each to what it is there for."""

from __future__ import annotations

import math

import pytest

from ringcast.runtime.simulation.checkers import Registers, Told
from ringcast.runtime.simulation.history import Operation


def test_a_told_message_is_handled_once() -> None:
    told = Told()
    told.was_handled(1)
    told.was_handled(2)
    told.check(0.0)
    told.was_handled(1)
    with pytest.raises(AssertionError, match="message 1 is handled twice"):
        told.check(0.0)


def test_what_was_accepted_is_handled_or_a_dead_letter() -> None:
    told = Told()
    told.accepted |= {1, 2, 3}
    told.was_handled(1)
    told.none_is_lost(dead=2)
    told.check(0.0)
    told.none_is_lost(dead=1)
    with pytest.raises(
        AssertionError, match=r"2 of 3 told messages were not handled, and 1 are dead letters: \[2, 3\]"
    ):
        told.check(0.0)


def test_each_activation_of_a_register_is_looked_at_by_itself() -> None:
    registers = Registers()
    registers.called("key", "first", Operation(0, 1, "write", (1,), None))
    registers.called("key", "second", Operation(2, 3, "read", (), None))
    registers.check(0.0)
    registers.called("key", "first", Operation(4, 5, "read", (), 2))
    with pytest.raises(AssertionError, match="explains first"):
        registers.check(0.0)


def test_a_call_without_an_outcome_may_have_been_any_activations() -> None:
    registers = Registers()
    registers.called("key", None, Operation(0, math.inf, "write", (2,)))
    registers.called("key", "first", Operation(4, 5, "read", (), 2))
    registers.called("key", "second", Operation(6, 7, "read", (), None))
    registers.called("key", "third", Operation(8, 9, "read", (), 2))
    registers.check(0.0)
