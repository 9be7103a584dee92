"""The rows: each workload with its limit and its target, and what the rounds gave.

A row holds every run's measurement; what is read off them, ratios and verdicts, is of the medians.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

from .workloads import MIB, Measurement

HANDLERS = ("simple", "general")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is read off a measurement, and how it is shown."""

    name: str
    read: Callable[[Measurement], float]
    digits: int = 0
    is_latency: bool = False


RATE = Unit("/s", lambda m: m.rate)
P50 = Unit("us p50", lambda m: m.p50_us or 0.0, 1, is_latency=True)
P99 = Unit("us p99", lambda m: m.p99_us or 0.0, 1, is_latency=True)
MS = Unit("ms p50", lambda m: (m.p50_us or 0.0) / 1000, 2, is_latency=True)
MB_S = Unit("MB/s", lambda m: m.rate * MIB / 1e6)


@dataclass(frozen=True, slots=True)
class Work:
    """One row: a workload, the limit it is held against, and what its general handler has to reach.

    Attributes:
        pinned: Both processes on one core ("s"), on two ("p"), or wherever the kernel puts them ("").
        alone: Each handler in a process that has done nothing else.
        handlers: Which are measured.
        target: A least ratio for rates, a greatest for latencies, an absolute rate for S1.
    """

    name: str
    limit: str | None
    unit: Unit
    target: float | None
    pinned: str = ""
    alone: bool = False
    handlers: tuple[str, ...] = HANDLERS

    @property
    def is_held_against_itself(self) -> bool:
        """The limit is ringcast's own, and told first by the run that is held against it."""
        return self.limit == "I1"

    @property
    def is_held_against_clear(self) -> bool:
        """The limit is ringcast without TLS, the same handler."""
        return self.limit is not None and self.limit[0] == "C"

    @property
    def base(self) -> str:
        """The workload's name without its pinning."""
        return self.name.removesuffix(self.pinned)

    def meets(self, value: float) -> bool | None:
        if self.target is None:
            return None
        return value <= self.target if self.unit.is_latency else value >= self.target

    @property
    def aim(self) -> str:
        if self.target is None:
            return ""
        return f"{'<=' if self.unit.is_latency else '>='} {self.target:,g}"


WORKS = (
    Work("L1", "P1", RATE, 0.12),
    Work("L2", "P3", RATE, 0.4),
    Work("L3", "P2", RATE, 0.3),
    Work("R1", "T1", P50, 1.4),
    Work("R1s", "T1", P50, 2.0, pinned="s"),
    Work("R1p", "T1", P50, None, pinned="p"),
    Work("R2", "T2", RATE, 0.6),
    Work("R3", "T3", RATE, 0.35),
    Work("R4", "T4", MB_S, 1.0),
    Work("S1", None, RATE, 60_000, alone=True),  # the growth of a process tells what its actors take
    Work("M1", "I1", P99, 3.0, alone=True),
    Work("E1", "C1", P50, None, handlers=("general",)),
    Work("E1s", "C1", P50, None, pinned="s", handlers=("general",)),
    Work("E2", "C2", RATE, 0.85, handlers=("general",)),
    Work("E3", "C3", RATE, None, handlers=("general",)),
    Work("E4", "C4", MB_S, None, handlers=("general",)),
    Work("H1", None, MS, 5, handlers=("general",)),
)
BYTES_PER_ACTOR = 2048


@dataclass(slots=True)
class Row:
    """What the rounds of one workload gave."""

    work: Work
    limit: list[Measurement] = field(default_factory=list[Measurement])
    ours: dict[str, list[Measurement]] = field(default_factory=lambda: {name: [] for name in HANDLERS})
    errors: list[str] = field(default_factory=list[str])

    def values(self, runs: list[Measurement]) -> list[float]:
        return [self.work.unit.read(run) for run in runs]

    def ratio(self, handler: str) -> float | None:
        """Return the quotient of the medians, or None where one of the two sides is missing."""
        if not self.limit or not self.ours[handler]:
            return None
        return statistics.median(self.values(self.ours[handler])) / statistics.median(self.values(self.limit))

    def score(self, handler: str) -> float | None:
        """Return what the target speaks of: the ratio, or where there is no limit the value itself."""
        if self.work.limit:
            return self.ratio(handler)
        return statistics.median(self.values(self.ours[handler])) if self.ours[handler] else None

    def met(self) -> bool | None:
        """Return whether the general handler reaches the target, and not at the cost of what is beside it."""
        score, size, beside = self.score("general"), self.bytes_per_actor("general"), self.beside_mb_s("general")
        met = None if score is None else self.work.meets(score)
        if met and size is not None:
            return size <= BYTES_PER_ACTOR
        if met and beside is not None:
            return beside > 0  # small asks are quick where the large messages stand still
        return met

    def bytes_per_actor(self, handler: str) -> float | None:
        sizes = [run.bytes_per_actor for run in self.ours[handler] if run.bytes_per_actor is not None]
        return statistics.median(sizes) if sizes else None

    def beside_mb_s(self, handler: str) -> float | None:
        rates = [run.beside_mb_s for run in self.ours[handler] if run.beside_mb_s is not None]
        return statistics.median(rates) if rates else None

    def as_json(self) -> dict[str, object]:
        return {
            "work": self.work.name,
            "unit": self.work.unit.name,
            "limit": self.values(self.limit),
            **{handler: self.values(self.ours[handler]) for handler in HANDLERS},
            **{f"ratio_{handler}": self.ratio(handler) for handler in HANDLERS},
            "bytes_per_actor": {handler: self.bytes_per_actor(handler) for handler in HANDLERS},
            "beside_mb_s": {handler: self.beside_mb_s(handler) for handler in HANDLERS},
            "target": self.work.aim,
            "met": self.met(),
            "errors": self.errors,
        }
