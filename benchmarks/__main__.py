"""Measure ringcast beside the raw limits of this machine: ``python -m benchmarks [WORK ...]``.

Each run is made of fresh processes, and a round takes each workload's limit and then its two
handlers one right after the other, so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from .workloads import MIB, Measurement

RUN_LIMIT_S = 120
HANDLERS = ("simple", "general")


@dataclass(frozen=True, slots=True)
class Unit:
    """What is read off a measurement, and how it is shown."""

    name: str
    read: Callable[[Measurement], float]
    digits: int = 0


RATE = Unit("/s", lambda m: m.rate)
P50 = Unit("us p50", lambda m: m.p50_us or 0.0, 1)
MB_S = Unit("MB/s", lambda m: m.rate * MIB / 1e6)


@dataclass(frozen=True, slots=True)
class Work:
    """One row: a workload, the limit it is held against, and what its general handler has to reach.

    Attributes:
        pinned: Both processes on one core ("s"), on two ("p"), or wherever the kernel puts them ("").
        target: A least ratio for rates, a greatest for latencies, an absolute rate for S1.
    """

    name: str
    limit: str | None
    unit: Unit
    target: float | None
    pinned: str = ""

    @property
    def base(self) -> str:
        """The workload's name without its pinning."""
        return self.name.removesuffix(self.pinned)

    def meets(self, value: float) -> bool | None:
        if self.target is None:
            return None
        return value <= self.target if self.unit is P50 else value >= self.target

    @property
    def aim(self) -> str:
        if self.target is None:
            return ""
        return f"{'<=' if self.unit is P50 else '>='} {self.target:,g}"


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
    Work("S1", None, RATE, 60_000),
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
        score = self.score("general")
        met = None if score is None else self.work.meets(score)
        if met and self.bytes_per_actor("general") is not None:
            return (self.bytes_per_actor("general") or 0) <= BYTES_PER_ACTOR
        return met

    def bytes_per_actor(self, handler: str) -> float | None:
        sizes = [run.bytes_per_actor for run in self.ours[handler] if run.bytes_per_actor is not None]
        return statistics.median(sizes) if sizes else None

    def as_json(self) -> dict[str, object]:
        return {
            "work": self.work.name,
            "unit": self.work.unit.name,
            "limit": self.values(self.limit),
            **{handler: self.values(self.ours[handler]) for handler in HANDLERS},
            **{f"ratio_{handler}": self.ratio(handler) for handler in HANDLERS},
            "bytes_per_actor": {handler: self.bytes_per_actor(handler) for handler in HANDLERS},
            "target": self.work.aim,
            "met": self.met(),
            "errors": self.errors,
        }


def cores(pinned: str) -> str | None:
    """Return the caller's and the server's core, "" for unpinned, None where it cannot be had."""
    if not pinned:
        return ""
    if not hasattr(os, "sched_setaffinity"):
        return None
    mine = sorted(os.sched_getaffinity(0))
    if pinned == "s":
        return f"{mine[-1]},{mine[-1]}"
    return f"{mine[1]},{mine[0]}" if len(mine) > 1 else None


def run(module: str, *args: str) -> list[Measurement]:
    """Measure in a process of its own.

    Raises:
        RuntimeError: With the last line that it wrote, if it failed.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no result within {RUN_LIMIT_S} s") from None
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])
    return [Measurement(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]


def one_round(row: Row, number: int, scale: str) -> None:
    work, pinning = row.work, cores(row.work.pinned)
    if pinning is None:
        row.errors.append("this machine has no second core to pin to, or no way to pin")
        return
    order = HANDLERS if number % 2 else HANDLERS[::-1]  # neither always meets the colder process
    # How many bytes an actor takes is told by the growth of a process that did nothing else.
    together = [[name] for name in order] if work.base == "S1" else [list(order)]
    try:
        if work.limit:
            row.limit += run("limits", work.limit, scale, pinning)
        for handlers in together:
            runs = run("ours", work.base, ",".join(handlers), scale, pinning)
            for handler, measurement in zip(handlers, runs, strict=True):
                row.ours[handler].append(measurement)
    except RuntimeError as error:
        row.errors.append(str(error))


def shown(values: list[float], digits: int) -> str:
    """Return the median, and under it the least and the greatest."""
    if not values:
        return "-"
    low, middle, high = (f"{v:,.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
    return middle if len(values) == 1 else f"{middle}\n[dim]{low} to {high}[/dim]"


def table(rows: Sequence[Row], rounds: int) -> Table:
    made = Table(title=f"medians of {rounds} rounds; below, the least and the greatest", show_lines=True)
    for name in ("work", "unit", "limit", "simple", "ratio", "general", "ratio", "target", "met"):
        made.add_column(name, justify="left" if name in ("work", "unit") else "right", no_wrap=True)
    for row in rows:
        cells = [row.work.name, row.work.unit.name, shown(row.values(row.limit), row.work.unit.digits)]
        for handler in HANDLERS:
            ratio, size = row.ratio(handler), row.bytes_per_actor(handler)
            cells.append(shown(row.values(row.ours[handler]), row.work.unit.digits))
            cells.append(f"{ratio:.2f}" if ratio is not None else f"{size:,.0f} B" if size is not None else "-")
        aim = row.work.aim + (f"\n<= {BYTES_PER_ACTOR:,} B" if row.work.base == "S1" else "")
        verdict = {True: "[green]yes", False: "[red]no", None: ""}[row.met()]
        made.add_row(*cells, aim, "[red]failed" if row.errors else verdict)
    return made


def main() -> int:
    names = [work.name for work in WORKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {' '.join(names)}; default all")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (default 3)")
    parser.add_argument("--scale", default="1", help="share of the messages, 0.05 for a quick look")
    parser.add_argument("--json", action="store_true", help="one JSON object per row instead of the table")
    options = parser.parse_args()
    if unknown := set(options.works) - set(names):
        parser.error(f"no such workload: {' '.join(sorted(unknown))}; there are {' '.join(names)}")

    rows = [Row(work) for work in WORKS if not options.works or work.name in options.works]
    progress = Console(stderr=True)
    with progress.status("measuring") as status:
        for number in range(options.rounds):
            for row in rows:
                status.update(f"round {number + 1} of {options.rounds}: {row.work.name}")
                one_round(row, number, options.scale)
    if options.json:
        for row in rows:
            print(json.dumps(row.as_json()))
    else:
        console = Console(width=None if sys.stdout.isatty() else 132)
        console.print(table(rows, options.rounds))
        load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
        console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load of the last minutes {load}")
    for row in rows:
        for error in dict.fromkeys(row.errors):
            progress.print(f"{row.work.name}: {error}", markup=False)
    return 1 if any(row.errors for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
