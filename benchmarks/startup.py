"""How soon there is something to call: ``python -m benchmarks startup``.

In fresh processes, several times, medians: what ``import ringcast`` adds to a bare interpreter; how soon a node that
is alone answers an ask, from the call of `Node()` on; how soon a second node is a member, from its call on, in the
view of the first as well as in its own. Exits with 1 if a target is missed. Below stands what the import is spent on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from . import page
from .child import Child, ready
from .report import machine

__all__ = ["main"]

IMPORTING = "from time import {0} as now; a = now(); import ringcast; print((now() - a) * 1000)"
TARGETS_MS = {"import": 120.0, "core": 120.0, "alone": 1200.0, "second": 1000.0}
WHAT = {
    "import": "`import ringcast`, beyond a bare interpreter",
    "core": "the same, in milliseconds of a core",
    "alone": "`Node()` alone, until an actor of it has answered",
    "second": "a second node, until both have it in their view",
}
CLUSTER = "startup"
SHOWN = 12


def _python(*args: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"{' '.join(args)}: {done.stderr.strip()[-500:]}")
    return done


def imported() -> float:
    """Return the milliseconds between the first and the last line of a program that imports ringcast."""
    return float(_python("-c", IMPORTING.format("perf_counter")).stdout)


def imported_cpu() -> float:
    """Return the same of the core that it takes: what else the machine does adds little to that."""
    return float(_python("-c", IMPORTING.format("process_time")).stdout)


def alone() -> float:
    return float(_python("-m", "benchmarks.startup", "alone").stdout)


def second() -> float:
    with Child("benchmarks.startup") as child:
        return float(_python("-m", "benchmarks.startup", "second", child.address).stdout)


async def serve() -> None:
    from ringcast import Node

    from .counters import Simple

    assert Simple.__name__, "it is hosted here because it is known here"
    async with Node(cluster=CLUSTER, discovery=[]) as node:
        ready(node.address)
        await asyncio.Event().wait()


async def first_answer() -> None:
    from ringcast import Node

    from .counters import Simple

    begun = time.perf_counter()
    async with Node(cluster=f"{CLUSTER}-{os.getpid()}") as node:
        await node.ref(Simple, 0).echo(1)
        print((time.perf_counter() - begun) * 1000, flush=True)


async def membership(address: str) -> None:
    from ringcast import Node, Seeds

    from .counters import Simple

    begun = time.perf_counter()
    async with Node(cluster=CLUSTER, discovery=[Seeds([address])]) as node:
        await node.wait_for_members(2, timeout=30)
        for key in range(1000):
            ref = node.ref(Simple, key)
            if (await node.locate(ref)).id != node.id:
                await ref.echo(1)  # and the first answers for its keys
                break
        print((time.perf_counter() - begun) * 1000, flush=True)


def import_times() -> list[tuple[float, float, str]]:
    """Return, for each module, milliseconds of its own and with what it imports, and its name; the dearest first."""
    lines = _python("-X", "importtime", "-c", "import ringcast").stderr.splitlines()
    found = [re.fullmatch(r"import time:\s+(\d+) \|\s+(\d+) \|\s+(\S+)", line) for line in lines]
    times = [(int(m[1]) / 1000, int(m[2]) / 1000, m[3]) for m in found if m]
    return sorted(times, reverse=True)


def packages(times: list[tuple[float, float, str]]) -> dict[str, float]:
    """Return the milliseconds of each package's own modules, the dearest first."""
    sums: dict[str, float] = {}
    for own, _, name in times:
        top = name.partition(".")[0]
        sums[top] = sums.get(top, 0.0) + own
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def main(args: list[str]) -> int:
    """Measure, and show."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks startup", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="processes of each (default 7)")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args(args)
    measures = {"import": imported, "core": imported_cpu, "alone": alone, "second": second}
    found: dict[str, list[float]] = {name: [] for name in measures}
    imported()  # the first one compiles
    for _ in range(options.rounds):
        for name, measure in measures.items():
            found[name].append(measure())
    lines = ["| what | ms, median | least to greatest | target | met |", "| --- | ---: | ---: | ---: | --- |"]
    missed = 0
    for name, values in found.items():
        middle, target = statistics.median(values), TARGETS_MS[name]
        missed += middle > target
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        verdict = "yes" if middle <= target else "no"
        lines.append(f"| {WHAT[name]} | {middle:,.0f} | {spread} | <= {target:,.0f} | {verdict} |")
    times = import_times()
    total = sum(own for own, _, _ in times)
    shares = ", ".join(f"{name} {ms:.0f}" for name, ms in list(packages(times).items())[:SHOWN])
    text = "\n".join(lines)
    text += f"\n\n`-X importtime`, which costs as well: {total:.0f} ms in {len(times)} modules; by package: {shares}."
    text = f"### Start-up\n\n{text}"
    if options.page:
        page.put(options.page, "startup", text, ["startup", *args])
    else:
        print(text, machine(), sep="\n\n")
    return 1 if missed else 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", *_]:
            asyncio.run(serve())
        case ["alone"]:
            asyncio.run(first_answer())
        case ["second", address]:
            asyncio.run(membership(address))
        case _:
            sys.exit(main(sys.argv[1:]))
