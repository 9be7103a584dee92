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
    """One row: a workload, the limit it is held against, and what its handlers have to reach.

    Attributes:
        pinned: Both processes on one core ("s"), on two ("p"), or wherever the kernel puts them ("").
        alone: Each handler in a process that has done nothing else.
        handlers: Which are measured.
        target: Of the general handler: a least ratio for rates, a greatest for latencies; where there is no
            limit, the value itself.
        simple: The same of the simple one.
        erlang: What the simple one has to be at least, in rates of Erlang.
    """

    name: str
    limit: str | None
    unit: Unit
    target: float | None
    simple: float | None = None
    erlang: float | None = None
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
        return self.limit is not None and self.limit[0] == "R"

    @property
    def base(self) -> str:
        """The workload's name without its pinning."""
        return self.name.removesuffix(self.pinned)

    @property
    def targets(self) -> dict[str, float]:
        """By handler, of those that are measured and have one."""
        targets = {"simple": self.simple, "general": self.target}
        return {name: target for name in self.handlers if (target := targets[name]) is not None}

    def meets(self, value: float, target: float) -> bool:
        return value <= target if self.unit.is_latency else value >= target

    @property
    def aim(self) -> str:
        """What the targets say: one of them, or the simple handler's and the general one's."""
        numbers = " and ".join(dict.fromkeys(f"{target:,g}" for target in self.targets.values()))
        return f"{'<=' if self.unit.is_latency else '>='} {numbers}" if numbers else ""


WORKS = (
    Work("L1", "P1", RATE, 0.18, 0.22),
    Work("L2", "P3", RATE, 0.5, 2.5),
    Work("L3", "P2", RATE, 0.42, 0.85),
    Work("R1", "T1", P50, 1.15, 1.15),
    Work("R1s", "T1", P50, 1.35, 1.25, pinned="s"),
    Work("R1p", "T1", P50, None, pinned="p"),
    Work("R2", "T2", RATE, 0.9, 1.0, erlang=3.0),
    Work("R3", "T3", RATE, 0.5, 0.8, erlang=1.0),
    Work("R4", "T4", MB_S, 2.0, 2.0, erlang=1.0),
    Work("S1", None, RATE, 120_000, 120_000, alone=True),  # the growth of a process tells what its actors take
    Work("N1", "P3", RATE, None),
    Work("N2", "T2", RATE, None),
    Work("W1", "P2", RATE, None, handlers=("general",)),
    Work("W2", "T2", RATE, None, handlers=("general",)),
    Work("F1", "T3", RATE, None, handlers=("general",)),
    Work("K1", "T5", RATE, None),
    Work("M1", "I1", P99, 3.0, alone=True),
    Work("E1", "R1", P50, None, handlers=("general",)),
    Work("E1s", "R1", P50, None, pinned="s", handlers=("general",)),
    Work("E2", "R2", RATE, 0.9, handlers=("general",)),
    Work("E3", "R3", RATE, 0.8, handlers=("general",)),
    Work("E4", "R4", MB_S, None, handlers=("general",)),
    Work("H1", None, MS, 5, handlers=("general",)),
)
BYTES_PER_ACTOR = 1024


@dataclass(slots=True)
class Row:
    """What the rounds of one workload gave."""

    work: Work
    limit: list[Measurement] = field(default_factory=list[Measurement])
    ours: dict[str, list[Measurement]] = field(default_factory=lambda: {name: [] for name in HANDLERS})
    peers: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
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
        """Return whether all targets are reached, and not at the cost of what is beside; None without any to judge."""
        met: list[bool] = []
        for handler, target in self.work.targets.items():
            score, size, beside = self.score(handler), self.bytes_per_actor(handler), self.beside_mb_s(handler)
            if score is None:
                return None
            met.append(self.work.meets(score, target))
            if size is not None:
                met.append(size <= BYTES_PER_ACTOR)
            if beside is not None:
                met.append(beside > 0)  # small asks are quick where the large messages stand still
        if (ahead := self.times_erlang()) is not None and self.work.erlang is not None:
            met.append(ahead >= self.work.erlang)
        return all(met) if met else None

    def times_erlang(self) -> float | None:
        """Return the simple handler's rate in Erlang's, if both were measured."""
        theirs, own = self.peers.get("erlang"), self.values(self.ours["simple"])
        return statistics.median(own) / statistics.median(theirs) if theirs and own else None

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
            "peers": self.peers,
            "target": self.work.aim,
            "met": self.met(),
            "errors": self.errors,
        }
