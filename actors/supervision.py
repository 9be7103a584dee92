"""What is to happen when an actor fails: strategies, restarts and backoff, as values.

The words are Erlang/OTP's. A strategy belongs to the actor that supervises; `restart`
belongs to the child.

References:
    Erlang/OTP design principles, "Supervisor Behaviour".
"""

from __future__ import annotations

import enum
import random
from dataclasses import field

from ringcast.values import dataclass


class Restart(enum.Enum):
    """Whether a spawned actor is started again."""

    PERMANENT = "permanent"
    """Always, also after a normal end."""
    TRANSIENT = "transient"
    """Only after a failure."""
    TEMPORARY = "temporary"
    """Never."""


PERMANENT = Restart.PERMANENT
TRANSIENT = Restart.TRANSIENT
TEMPORARY = Restart.TEMPORARY


class Fatal(Exception):
    """A handler that raises a subclass of this fails its actor, also when it was asked."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a restart: ``first * factor ** n``, at most `limit`, in seconds.

    Attributes:
        first: Before the first restart.
        factor: Growth from one to the next; at least 1.
        limit: Never longer than this (jitter included).
        jitter: Share of the delay, 0 to 1, that is drawn at random, so that actors which failed
            together do not come back together.
    """

    first: float = 0.1
    factor: float = 2.0
    limit: float = 30.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.first < 0 or self.factor < 1 or self.limit < self.first or not 0 <= self.jitter <= 1:
            raise TypeError(f"{self!r}: it takes first >= 0, factor >= 1, limit >= first and jitter between 0 and 1")

    def delay(self, failures: int, rng: random.Random) -> float:
        """Return the seconds to wait after `failures` failures in a row (at least 1)."""
        exponent = min(failures - 1, 64)
        plain = min(self.first * self.factor**exponent, self.limit)
        return min(plain * (1 + self.jitter * (2 * rng.random() - 1)), self.limit)


@dataclass(frozen=True, slots=True)
class Strategy:
    """What the strategies share.

    More than `max_restarts` restarts within `within` seconds fail the supervisor itself.
    """

    max_restarts: int = 5
    within: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense."""
        if self.max_restarts < 0 or self.within <= 0:
            raise TypeError(f"{self!r}: it takes max_restarts >= 0 and within > 0")


@dataclass(frozen=True, slots=True)
class OneForOne(Strategy):
    """Only the child that failed is started again."""


@dataclass(frozen=True, slots=True)
class OneForAll(Strategy):
    """When one child fails, all are stopped and started again."""


@dataclass(frozen=True, slots=True)
class RestForOne(Strategy):
    """The child that failed and those started after it are stopped and started again."""
