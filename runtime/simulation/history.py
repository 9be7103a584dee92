"""Histories of calls, and whether some order of them explains all answers: linearizability.

Each call took effect at one instant between its beginning and its end, if the object is linearizable. A
call whose outcome is not known may have taken effect at any time after it began, or never. The search goes
through the orders that the times allow, and tries none of them twice from the same state.

Its time grows exponentially with how many calls overlap, and little with how many there are. So histories
are to be of few callers, or short.

References:
    Wing, Gong. "Testing and verifying concurrent objects". 1993.
    Lowe. "Testing for linearizability". 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = object()
"""The answer of a call whose outcome is not known."""

Step = Callable[[Any, str, Sequence[Any]], tuple[Hashable, Any]]
"""Gives what a call makes of a state, and what it answers: ``step(state, method, arguments)``."""

SEARCHED_MAX = 1_000_000


class TooLarge(Exception):
    """A history has too many orders to be looked through."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One call.

    Attributes:
        begun: When, in seconds.
        ended: When; `math.inf` if its outcome is not known.
        method: What was called.
        arguments: With what.
        answer: What came back, or `UNKNOWN`.
    """

    begun: float
    ended: float
    method: str
    arguments: tuple[Any, ...] = ()
    answer: Any = UNKNOWN


def register(state: Hashable, method: str, arguments: Sequence[Any]) -> tuple[Hashable, Any]:
    """Return what a register does: ``read()``, ``write(value)`` and ``swap(old, new)``."""
    match method:
        case "read":
            return state, state
        case "write":
            return arguments[0], None
        case "swap":
            return (arguments[1], True) if state == arguments[0] else (state, False)
        case _:
            raise ValueError(f"a register has no {method}")


def is_linearizable(history: Sequence[Operation], step: Step = register, state: Hashable = None) -> bool:
    """Return whether one order of the calls explains all answers.

    Args:
        history: The calls, in any order.
        step: What each of them does.
        state: What it was before the first.

    Raises:
        TooLarge: If that cannot be found out in reasonable time.
    """
    calls = sorted(history, key=lambda call: (call.begun, call.ended))
    wanted = sum(1 << number for number, call in enumerate(calls) if call.ended < math.inf)
    seen: set[tuple[int, Hashable]] = set()
    stack: list[tuple[int, Hashable]] = [(0, state)]
    while stack:
        done, state = stack.pop()
        if done & wanted == wanted:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        if len(seen) > SEARCHED_MAX:
            raise TooLarge(f"{len(calls)} calls overlap too much")
        # Whoever has ended first of those that are left must come before all that began later.
        end = math.inf
        for number, call in enumerate(calls):
            if call.begun > end:
                break
            if done >> number & 1:
                continue
            end = min(end, call.ended)
            after, answer = step(state, call.method, call.arguments)
            if call.answer is UNKNOWN or call.answer == answer:
                stack.append((done | 1 << number, after))
    return False
