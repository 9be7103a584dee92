"""When a reminder is due: the values that `Context.remind` takes.

A reminder is kept with the actor's state, so it is as durable as that, and is fired by whoever owns the actor
when it is due, after any restart or move. When nobody could fire it in time, it is *missed*.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, get_args

from ringcast.values import dataclass

__all__ = ["At", "Every", "Misfire"]

Misfire = Literal["once", "skip", "all"]


@dataclass(frozen=True, slots=True)
class At:
    """Once, at a time; as soon as possible after it, if it was missed.

    Attributes:
        when: A datetime with a time zone, or Unix seconds.
    """

    when: datetime | float

    def __post_init__(self) -> None:
        """Refuse what is no point in time."""
        if isinstance(self.when, datetime):
            if self.when.tzinfo is None:
                raise TypeError(
                    f"At({self.when!r}) is another time on another machine: give it a time zone, such as "
                    f"datetime(…, tzinfo=timezone.utc)"
                )
        elif isinstance(self.when, bool) or not isinstance(self.when, (int, float)) or not abs(self.when) < 1e12:
            raise TypeError(f"At({self.when!r}): it takes a datetime with a time zone, or Unix seconds")

    @property
    def seconds(self) -> float:
        """The time in Unix seconds."""
        return self.when.timestamp() if isinstance(self.when, datetime) else float(self.when)


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, first after one period.

    Attributes:
        seconds: The period.
        misfire: What of the ticks that were missed is made up for: ``once`` one tick for all of them, ``skip``
            none, ``all`` each.
    """

    seconds: float
    misfire: Misfire = "once"

    def __post_init__(self) -> None:
        """Refuse what is no period."""
        if isinstance(self.seconds, bool) or not isinstance(self.seconds, (int, float)) or not 0 < self.seconds < 1e12:
            raise TypeError(f"Every({self.seconds!r}): it takes seconds greater than 0")
        if self.misfire not in get_args(Misfire):
            raise TypeError(f'Every(misfire={self.misfire!r}): it takes "once", "skip" or "all"')
