"""One reminder of one durable actor: when it is due next, and which of its ticks have been missed.

Pure arithmetic over Unix seconds. A tick is *missed* if nobody could fire it within `grace`. After each tick the
next one is worked out and saved in the transaction that the tick ran in: so a tick whose turn was saved does not
run again, and one whose turn was not, does.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ringcast.values import dataclass

from ..actors.reminders import At, Every

__all__ = ["Reminder"]

GRACE = 5.0
"""Seconds that a tick may be late; of short periods half of one."""


@dataclass(frozen=True, slots=True)
class Reminder:
    """A reminder, as it is kept with the state.

    Attributes:
        name: Names it within its actor.
        due: Unix seconds of the next tick.
        every: Seconds between ticks; None for one only.
        misfire: See `Every`.
        method: The message that it tells.
        args: The message's arguments.
    """

    name: str
    due: float
    every: float | None
    misfire: str
    method: str
    args: tuple[Any, ...]

    @classmethod
    def at(cls, name: str, when: At | Every, now: float, method: str, args: tuple[Any, ...]) -> Reminder:
        """Return a new one."""
        if isinstance(when, At):
            return cls(name, when.seconds, None, "once", method, args)
        return cls(name, now + when.seconds, float(when.seconds), when.misfire, method, args)

    @classmethod
    def from_parts(cls, parts: list[Any]) -> Reminder:
        """Return the one that was stored."""
        name, due, every, misfire, method, args = parts
        return cls(name, due, every, misfire, method, tuple(args))

    def parts(self) -> list[Any]:
        """Return what is stored of it."""
        return [self.name, self.due, self.every, self.misfire, self.method, list(self.args)]

    def is_like(self, other: Reminder) -> bool:
        """Whether another one says the same, but for when it is due: saying it again does not put it off."""
        return self.every is not None and replace(other, due=self.due) == self

    def is_skipped(self, now: float) -> bool:
        """Whether the tick that is due is not to be made up for."""
        if self.every is None or self.misfire != "skip":
            return False
        return now - self.due > min(GRACE, self.every / 2)

    def after(self, now: float) -> Reminder | None:
        """Return the reminder after its tick; None if that was the last."""
        if self.every is None:
            return None
        if self.misfire == "all":
            return replace(self, due=self.due + self.every)
        missed = max(math.floor((now - self.due) / self.every), 0)
        return replace(self, due=self.due + (missed + 1) * self.every)
