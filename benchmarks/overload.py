"""More than there is room for: ``python -m benchmarks overload``.

A server's actors are offered a part, or a multiple, of what they can take: open, as from many callers who do not wait
for one another. What each scenario can take is measured first, with as many callers as keep it busy. A handler's work
is a loop of Python, or a wait; it is dear enough that the caller's node can offer five times as much.

All limits are `LIMIT_S`: an ask that is not answered by then, or a told message that finds no room, has to fail, and
say so to its sender. Every call is accounted for: answered, or refused by an error; of told messages the server's
count tells whether all that were accepted were handled. Meanwhile another actor of the same node is asked every 20 ms:
it must not starve. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ringcast import Actor, Node, NodeConfig, RingcastError, Seeds, run, tell

from . import page
from .child import Child, ready
from .report import machine

__all__ = ["Gauge", "Idle", "Worker", "main"]

CLUSTER = "overload"
FACTORS = (0.5, 1.0, 2.0, 5.0)
LIMIT_S = 1.0
WORK_S = 0.0003
"""Of its processor that a handler takes, so that it is the server that has too much to do, and not the caller."""
PAUSE_S = 0.02
TICK_S = 0.005
CALLERS = 64
"""Who keep the actors busy while what they can take is measured."""
BESIDE_S = 0.02

GOODPUT = 0.8
MEMORY_MB = 128.0
"""What either process may grow by."""
STARVING_S = 0.25
"""The 99th percentile of the asks to an actor that is not overloaded."""

_handled = [0]


class Worker(Actor):
    """What is overloaded."""

    async def work(self, number: int) -> int:
        _handled[0] += 1
        until = time.thread_time() + WORK_S
        while time.thread_time() < until:
            pass
        return number

    async def rest(self, number: int) -> int:
        _handled[0] += 1
        await asyncio.sleep(PAUSE_S)
        return number


class Idle(Actor):
    """What stands beside it."""

    async def echo(self, number: int) -> int:
        return number


class Gauge(Actor):
    """Says how many messages the workers of its process have begun."""

    async def handled(self) -> int:
        return _handled[0]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is offered.

    Attributes:
        actors: How many share the load.
        is_told: Tells, not asks.
        is_slow: The handler waits, so what it can take is no matter of the processor.
    """

    name: str
    actors: int
    is_told: bool = False
    is_slow: bool = False


SCENARIOS = (
    Scenario("asks", 64),
    Scenario("tells", 64, is_told=True),
    Scenario("slow receivers", 16, is_slow=True),
    Scenario("slow receivers, told", 16, is_told=True, is_slow=True),
    Scenario("one hot key", 1),
)


@dataclass(slots=True)
class Outcome:
    """What became of the load of one run; times in seconds.

    Attributes:
        goodput: A second: asks answered, told messages handled.
        beside: Of the asks to the actor beside.
        lost: Told messages that were accepted and never handled.
        grown_mb: By process, what was resident beyond what was at the beginning, at most.
    """

    factor: float
    goodput: float = 0.0
    offered: int = 0
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter[str])
    latencies: list[float] = field(default_factory=list[float])
    beside: list[float] = field(default_factory=list[float])
    beside_failed: int = 0
    lost: int = 0
    grown_mb: dict[str, float] = field(default_factory=lambda: {"caller": 0.0, "server": 0.0})

    @property
    def unaccounted(self) -> int:
        return self.offered - self.accepted - self.refused.total()


def p99(samples: list[float]) -> float:
    return sorted(samples)[int(len(samples) * 0.99)] if samples else 0.0


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def server() -> None:
    config = NodeConfig(ask_timeout=LIMIT_S)
    async with Node(cluster=CLUSTER, discovery=[], tls=False, config=config) as node:
        ready(f"{node.address} {os.getpid()}")
        await asyncio.Event().wait()


def messages(node: Node, scenario: Scenario) -> list[Callable[[int], Awaitable[object]]]:
    """Return one way to send for each actor."""
    refs = [node.ref(Worker, f"{scenario.name}-{i}") for i in range(scenario.actors)]
    methods = [ref.rest if scenario.is_slow else ref.work for ref in refs]
    if not scenario.is_told:
        return list(methods)

    def telling(method: Callable[[int], Awaitable[int]]) -> Callable[[int], Awaitable[object]]:
        return lambda number: tell(method, number)

    return [telling(method) for method in methods]


async def capacity(node: Node, scenario: Scenario, seconds: float) -> float:
    """Return how many a second the actors take from as many callers as keep them busy."""
    asked = Scenario(scenario.name, scenario.actors, False, scenario.is_slow)
    calls, done = messages(node, asked), 0
    until = time.monotonic() + seconds

    async def caller(call: Callable[[int], Awaitable[object]]) -> None:
        nonlocal done
        while time.monotonic() < until:
            with suppress(RingcastError):
                await call(0)
                done += 1

    begun = time.monotonic()
    await asyncio.gather(*(caller(call) for call in calls for _ in range(max(1, CALLERS // scenario.actors))))
    return done / (time.monotonic() - begun)


async def offer(node: Node, scenario: Scenario, rate: float, seconds: float, pid: int, outcome: Outcome) -> None:
    """Offer `rate` messages a second, and note what becomes of each."""
    calls = messages(node, scenario)
    pending: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        sent = time.monotonic()
        try:
            await calls[number % len(calls)](number)
        except RingcastError as error:
            outcome.refused[type(error).__name__] += 1
        else:
            outcome.accepted += 1
            outcome.latencies.append(time.monotonic() - sent)

    handled = await handled_by(node)
    helpers = [asyncio.create_task(beside(node, outcome)), asyncio.create_task(watch_memory(pid, outcome))]
    begun = time.monotonic()
    while (elapsed := time.monotonic() - begun) < seconds:
        for _ in range(int(elapsed * rate) - outcome.offered):
            task = asyncio.create_task(one(outcome.offered))
            pending.add(task)
            task.add_done_callback(pending.discard)
            outcome.offered += 1
        await asyncio.sleep(TICK_S)
    good = await handled_by(node) - handled if scenario.is_told else outcome.accepted
    outcome.goodput = good / (time.monotonic() - begun)
    if pending:
        await asyncio.wait(pending)
    for helper in helpers:
        helper.cancel()
    await asyncio.gather(*helpers, return_exceptions=True)
    in_all = await settled(node) - handled
    if scenario.is_told:
        outcome.lost = outcome.accepted - in_all


async def beside(node: Node, outcome: Outcome) -> None:
    """Ask an actor that has nothing to do with the load."""
    idle = node.ref(Idle, 0)
    while True:
        sent = time.monotonic()
        try:
            await idle.echo(0)
        except RingcastError:
            outcome.beside_failed += 1
        outcome.beside.append(time.monotonic() - sent)
        await asyncio.sleep(BESIDE_S)


async def watch_memory(pid: int, outcome: Outcome) -> None:
    processes = {"caller": os.getpid(), "server": pid}
    before = {name: resident_mb(process) for name, process in processes.items()}
    while True:
        for name, process in processes.items():
            outcome.grown_mb[name] = max(outcome.grown_mb[name], resident_mb(process) - before[name])
        await asyncio.sleep(0.1)


async def handled_by(node: Node) -> int:
    """Return how many messages the workers have begun, however long the answer takes under load."""
    while True:
        try:
            return await node.ref(Gauge, 0).handled()
        except RingcastError:
            continue


async def settled(node: Node) -> int:
    """Return how many they have begun when they begin no more."""
    before, now = -1, await handled_by(node)
    while now != before:
        await asyncio.sleep(0.5)
        before, now = now, await handled_by(node)
    return now


async def measured(scenario: Scenario, seconds: float, address: str, pid: int) -> tuple[float, list[Outcome]]:
    """Return what a scenario can take, and what came of each factor."""
    config = NodeConfig(ask_timeout=LIMIT_S)
    node = Node(cluster=CLUSTER, discovery=[Seeds([address])], hosts=[], tls=False, config=config)
    async with node:
        await capacity(node, scenario, 0.5)
        most = await capacity(node, scenario, min(seconds, 3.0))
        outcomes: list[Outcome] = []
        for factor in FACTORS:
            outcomes.append(Outcome(factor))
            await offer(node, scenario, most * factor, seconds, pid, outcomes[-1])
        return most, outcomes


def missed(outcome: Outcome, best: float) -> list[str]:
    """Return which targets an outcome misses."""
    found = {
        "goodput": outcome.factor == max(FACTORS) and outcome.goodput < GOODPUT * best,
        "memory": max(outcome.grown_mb.values()) > MEMORY_MB,
        "latency": p99(outcome.latencies) > LIMIT_S,
        "silent": outcome.unaccounted != 0 or outcome.lost != 0,
        "starves": p99(outcome.beside) > STARVING_S or outcome.beside_failed > 0,
    }
    return [name for name, is_missed in found.items() if is_missed]


def rows(scenario: Scenario, most: float, outcomes: list[Outcome]) -> list[tuple[str, ...]]:
    best = max(outcome.goodput for outcome in outcomes)
    return [
        (
            scenario.name,
            f"{outcome.factor:g} x {most:,.0f}",
            f"{outcome.offered:,}",
            f"{outcome.goodput:,.0f}",
            f"{outcome.goodput / best:.2f}",
            f"{statistics.median(outcome.latencies or [0.0]) * 1e3:,.1f} / {p99(outcome.latencies) * 1e3:,.0f}",
            ", ".join(f"{count:,} {name}" for name, count in outcome.refused.items()) or "-",
            f"{outcome.unaccounted + outcome.lost:,}",
            f"{outcome.grown_mb['caller']:.0f} / {outcome.grown_mb['server']:.0f}",
            f"{p99(outcome.beside) * 1e3:.0f}, {outcome.beside_failed}",
            ", ".join(missed(outcome, best)) or "-",
        )
        for outcome in outcomes
    ]


HEADS = (
    *("scenario", "offered /s", "messages", "goodput /s", "of the best", "accepted, ms p50 / p99", "refused", "silent"),
    *("grown MB, caller / server", "beside, ms p99, failed", "missed"),
)


def main(args: list[str]) -> int:
    """Measure, and show."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks overload", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(names)}; default all")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load (default 30)")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args(args)
    if strange := set(options.scenarios) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(strange))}; there are {', '.join(names)}")
    lines = [HEADS, tuple("---" for _ in HEADS)]
    for scenario in SCENARIOS:
        if options.scenarios and scenario.name not in options.scenarios:
            continue
        with Child("benchmarks.overload") as child:
            address, pid = child.address.split()
            most, outcomes = run(measured(scenario, options.seconds, address, int(pid)))
        lines += rows(scenario, most, outcomes)
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    aims = (
        f"Targets: at {max(FACTORS):g} times what the actors take, goodput at least {GOODPUT} of the best; either "
        f"process grows by at most {MEMORY_MB:.0f} MB; what is accepted is answered within {LIMIT_S:g} s; nothing is "
        f"lost in silence; asks to another actor of the node take at most {STARVING_S * 1e3:.0f} ms (p99)."
    )
    text = f"### Overload, {options.seconds:g} s each\n\n{table}\n\n{aims}"
    if options.page:
        page.put(options.page, "overload", text, ["overload", *args])
    else:
        print(text, machine(), sep="\n\n")
    return 1 if any(line[-1] != "-" for line in lines[2:]) else 0


if __name__ == "__main__":
    run(server())
