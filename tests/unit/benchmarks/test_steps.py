"""The steps that a profile divides a message into, against the runtime's own code."""

import inspect
from types import CodeType, FunctionType
from typing import Any

import pytest

from benchmarks.counters import Simple
from benchmarks.steps import LOOP, RULES, STEPS, Place, step_of
from ringcast.runtime.cell import Cell
from ringcast.runtime.codec import Codec
from ringcast.runtime.connection import Connection
from ringcast.runtime.link import Link
from ringcast.runtime.router import Router


def place(function: Any, says: str = "") -> Place:
    """Return the place of the first line of a function that holds `says`, or of its first."""
    assert isinstance(function, FunctionType)
    lines, first = inspect.getsourcelines(function)
    at = next(number for number, line in enumerate(lines) if says in line)
    code: CodeType = function.__code__
    return code, first + at


def test_every_rule_leads_to_a_step() -> None:
    assert {rule.step for rule in RULES} == set(STEPS) - {LOOP}


@pytest.mark.parametrize(
    ("where", "step"),
    [
        (place(Router.ask, "frame = pack("), "pack"),
        (place(Router.ask, "self.aim("), "route"),
        (place(Router.ask, "call.deadline ="), "envelope"),
        (place(Router.ask, "link.send("), "write"),
        (place(Router.ask, "cell.run_now("), "mailbox"),
        (place(Link.reply), "reply"),
        (place(Link.flush), "write"),
        (place(Link.receive, "call.set_result("), "reply"),
        (place(Connection.write), "write"),
        (place(Connection.data_received), "read"),
        (place(Cell.run_now, "runner.step"), "turn"),
        (place(Simple.echo), "turn"),
    ],
)
def test_lines_of_the_hot_path_are_of_their_steps(where: Place, step: str) -> None:
    assert step_of((where,)) == step


def test_the_innermost_place_that_a_rule_knows_decides() -> None:
    encoding = place(Codec._encode)
    assert step_of((encoding, place(Router.ask, "frame = pack("))) == "pack"
    assert step_of((encoding, place(Link.reply))) == "reply"
    assert step_of((encoding,)) == LOOP
