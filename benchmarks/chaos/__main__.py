"""What users notice when nodes die, stop, leave, join and part: ``make chaos``.

Five nodes as processes on the loopback, with the numbers of a LAN, or on a LAN of network namespaces
where packets have to be lost (root, ``ip``, ``nft``). ``python -m benchmarks.chaos a g`` runs some of the
scenarios, ``--rounds 5`` changes how often each does what it does, ``--quick`` does little of
everything. Exits with 1 if a target is missed. The whole takes most of an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from benchmarks.report import machine
from ringcast import run

from .figures import Figure
from .kills import kills, silences
from .moves import joins, restarts
from .partitions import partitions
from .saves import passivated, saves
from .state import durable
from .stops import stops
from .strain import idle, strain
from .trees import trees
from .writes import writes

__all__ = ["main"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done, and how much of it.

    Attributes:
        what: In a line.
        run: Does it; gets how much.
        much: Rounds, seconds or actors.
        little: The same for a quick look.
    """

    what: str
    run: Callable[[int], AsyncGenerator[Figure, None]]
    much: int
    little: int


SCENARIOS = {
    "a": Scenario("an owner is killed", kills, 50, 1),
    "b": Scenario("a machine falls silent", silences, 20, 1),
    "c": Scenario("rolling restart", restarts, 3, 1),
    "d": Scenario("a sixth node joins", joins, 10, 1),
    "e": Scenario("owners stand still", stops, 50, 1),
    "f": Scenario("strain", strain, 120, 6),
    "g": Scenario("partition", partitions, 10, 1),
    "h": Scenario("durable actors", durable, 120, 10),
    "i": Scenario("idle", idle, 60, 5),
    "j": Scenario("what a save costs", saves, 9, 3),
    "k": Scenario("idle durable actors", passivated, 100_000, 5_000),
    "l": Scenario("a node with many actors is killed", trees, 3, 1),
    "m": Scenario("writes that must not commit, or not be lost", writes, 10_000, 1_000),
}


def markdown(figures: list[Figure]) -> str:
    """Return the table as a page has it, and the machine below."""
    lines = ["| what | measured | target | met |", "| --- | --- | --- | --- |"]
    for figure in figures:
        what = f"- {figure.what.strip()}" if figure.what.startswith(" ") else figure.what
        lines.append(f"| {what} | {figure.measured} | {figure.target} | {_verdict(figure)} |")
    return "\n".join([*lines, "", f"{machine()}."])


def _verdict(figure: Figure) -> str:
    return {True: "yes", False: "NO", None: "not here"}[figure.is_met]


async def figures_of(scenario: Scenario, much: int, on_figure: Callable[[Figure], None]) -> None:
    """Run a scenario; one that cannot be finished is a figure that is missed.

    SIGTERM ends it as an interrupt from the keyboard does: no process and no namespace stays behind.
    """
    task = asyncio.current_task()
    assert task is not None, "it is a coroutine"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with contextlib.aclosing(scenario.run(much)) as figures:
            async for figure in figures:
                on_figure(figure)
    except Exception as error:
        on_figure(Figure(scenario.what, f"not finished: {type(error).__name__}: {error}"[:500], "", False))


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    names = "; ".join(f"{name}: {scenario.what}" for name, scenario in SCENARIOS.items())
    parser.add_argument("scenarios", nargs="*", metavar="NAME", help=f"default all. {names}")
    parser.add_argument("--rounds", type=int, help="how often, or for how many seconds, instead of the default")
    parser.add_argument("--quick", action="store_true", help="little of everything")
    parser.add_argument("--markdown", action="store_true", help="the table as docs/chaos.md has it")
    given = parser.parse_args()
    if unknown := set(given.scenarios) - SCENARIOS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds takes 1 or more")
    os.environ.setdefault("RINGCAST_LOG", "critical")
    table = Table("what happens", "measured", "target", "met", title="what is noticed of faults", show_lines=True)
    found: list[Figure] = []

    def on_figure(figure: Figure) -> None:
        found.append(figure)
        table.add_row(figure.what, figure.measured, figure.target, _verdict(figure))
        print(f"{figure.what}: {figure.measured} [{_verdict(figure)}]", file=sys.stderr, flush=True)

    for name in given.scenarios or SCENARIOS:
        began, scenario = time.monotonic(), SCENARIOS[name]
        print(f"{name}. {scenario.what}", file=sys.stderr, flush=True)
        much = given.rounds or (scenario.little if given.quick else scenario.much)
        try:
            run(figures_of(scenario, much, on_figure))
        except asyncio.CancelledError:
            return 128 + signal.SIGTERM
        print(f"   {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    if given.markdown:
        print(markdown(found))
    else:
        Console(width=None if sys.stdout.isatty() else 170).print(table)
    return 1 if any(figure.is_met is False for figure in found) else 0


if __name__ == "__main__":
    sys.exit(main())
