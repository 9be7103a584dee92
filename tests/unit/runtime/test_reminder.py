"""When reminders are due: pure arithmetic."""

from __future__ import annotations

from typing import Any

import pytest

from ringcast import At, Every
from ringcast.runtime.reminder import Reminder


def every(seconds: float, misfire: Any = "once", now: float = 100.0) -> Reminder:
    return Reminder.at("r", Every(seconds, misfire), now, "tick", (1,))


def test_at_is_once() -> None:
    reminder = Reminder.at("r", At(150.0), 100.0, "tick", ())
    assert reminder.due == 150.0
    assert reminder.after(150.0) is None
    assert not reminder.is_skipped(1e9)


def test_every_begins_after_a_period_and_keeps_step() -> None:
    reminder = every(10)
    assert reminder.due == 110.0
    following = reminder.after(110.2)
    assert following is not None
    assert following.due == 120.0


@pytest.mark.parametrize(
    ("misfire", "skipped", "due"),
    [("once", False, 150.0), ("skip", True, 150.0), ("all", False, 120.0)],
)
def test_ticks_that_were_missed(misfire: str, skipped: bool, due: float) -> None:
    reminder = every(10, misfire)
    following = reminder.after(145.0)
    assert following is not None
    assert (reminder.is_skipped(145.0), following.due) == (skipped, due)


def test_a_little_late_is_not_missed() -> None:
    assert not every(60, "skip").is_skipped(164.0)
    assert every(60, "skip").is_skipped(166.0)
    assert not every(1, "skip").is_skipped(101.4)
    assert every(1, "skip").is_skipped(101.6)


def test_a_clock_that_was_set_back_does_no_harm() -> None:
    following = every(10).after(50.0)
    assert following is not None
    assert following.due == 120.0


def test_it_comes_back_from_its_parts() -> None:
    reminder = every(10, "all")
    assert Reminder.from_parts(reminder.parts()) == reminder


def test_saying_it_again_does_not_put_it_off() -> None:
    assert every(10, now=1.0).is_like(every(10, now=2.0))
    assert not every(10).is_like(every(11))
    assert not every(10).is_like(every(10, "all"))
    assert not Reminder.at("r", At(1.0), 0.0, "tick", (1,)).is_like(every(10))
