"""Measure ringcast beside the raw limits of this machine, and beside its peers: ``python -m benchmarks [WORK ...]``.

Each run is made of fresh processes, and a round takes each workload's limit, its two handlers and the peers one right
after the other, so that what else the machine does falls on all. ``overload``, ``startup``, ``scale``, ``profile`` and
``counts`` in place of works are commands of their own; ``--help`` behind them says more.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from . import page
from .peers import PEERS, absent, measure
from .report import beside_peers, machine, markdown, table
from .row import WORKS, Row
from .workloads import Measurement

RUN_LIMIT_S = 120
COMMANDS = ("overload", "startup", "scale", "profile", "counts")
"""Modules whose `main` takes the rest of the command line."""


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
    order = work.handlers if number % 2 else work.handlers[::-1]  # neither always meets the colder process
    together = [[name] for name in order] if work.alone else [list(order)]
    try:
        if work.limit and work.is_held_against_clear:
            row.limit += run("ours", work.limit, ",".join(order), scale, pinning)
        elif work.limit and not work.is_held_against_itself:
            row.limit += run("limits", work.limit, scale, pinning)
        for handlers in together:
            runs = run("ours", work.base, ",".join(handlers), scale, pinning)
            if work.is_held_against_itself:
                row.limit.append(runs.pop(0))
            for handler, measurement in zip(handlers, runs, strict=True):
                row.ours[handler].append(measurement)
    except RuntimeError as error:
        row.errors.append(str(error))


def beside(row: Row, scale: str, peers: list[str], failed: dict[str, str]) -> None:
    """Measure the peers that have this workload; one that fails once is left alone from then on."""
    for peer in PEERS:
        key = f"{peer.name}, {row.work.name}"
        if peer.name not in peers or row.work.name not in peer.works or key in failed:
            continue
        try:
            row.peers.setdefault(peer.name, []).append(measure(peer, row.work.name, row.work.unit.name, scale))
        except RuntimeError as error:
            failed[key] = str(error)
            if not row.peers[peer.name]:
                del row.peers[peer.name]


def both(rows: list[Row], rounds: int, reasons: dict[str, str]) -> str:
    """Return the rows' table, and below it the peers', for a page."""
    others = beside_peers(rows, reasons)
    return markdown(rows, rounds) + (f"\n\n### Beside others\n\n{others}" if others else "")


def main() -> int:
    """Measure; whoever runs without writing bytecode does not pay for compiling all sources in each process."""
    with TemporaryDirectory() as compiled:
        if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
            os.environ["PYTHONPYCACHEPREFIX"] = compiled
        return measured()


def measured() -> int:
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        return int(importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:]))
    names = [work.name for work in WORKS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {' '.join(names)}; default all")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each (default 5)")
    parser.add_argument("--scale", default="1", help="share of the messages, 0.05 for a quick look")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="one JSON object per row instead of the table")
    shape.add_argument("--markdown", action="store_true", help="the table as docs/benchmarks.md has it")
    shape.add_argument("--page", type=Path, help="write the table into this page, docs/bench.md")
    everyone = [peer.name for peer in PEERS]
    parser.add_argument("--peers", nargs="?", default=",".join(everyone), help="of them, with commas; '' for none")
    parser.add_argument("--profile", action="store_true", help="where the time of one message goes, instead")
    options = parser.parse_args()
    if options.profile:
        return int(importlib.import_module("benchmarks.profile").main(options.works))
    if unknown := set(options.works) - set(names):
        parser.error(f"no such workload: {' '.join(sorted(unknown))}; there are {' '.join(names)}")

    asked = [name for name in (options.peers or "").split(",") if name]
    if strange := set(asked) - set(everyone):
        parser.error(f"no such peer: {' '.join(sorted(strange))}; there are {' '.join(everyone)}")
    reasons = {peer.name: why for peer in PEERS if peer.name in asked and (why := absent(peer))}
    peers = [name for name in asked if name not in reasons]
    rows = [Row(work) for work in WORKS if not options.works or work.name in options.works]
    progress = Console(stderr=True)
    with progress.status("measuring") as status:
        for number in range(options.rounds):
            for row in rows:
                status.update(f"round {number + 1} of {options.rounds}: {row.work.name}")
                one_round(row, number, options.scale)
                beside(row, options.scale, peers, reasons)
            if options.page:  # after each: a run that is ended leaves what it has
                page.put(options.page, "rows", both(rows, number + 1, reasons), sys.argv[1:])
    if options.json:
        for row in rows:
            print(json.dumps(row.as_json()))
    elif options.markdown:
        print(both(rows, options.rounds, reasons))
    elif not options.page:
        console = Console(width=None if sys.stdout.isatty() else 132)
        console.print(table(rows, options.rounds))
        console.print(machine(), highlight=False)
        for row in rows:
            for name, values in row.peers.items():
                console.print(f"{row.work.name} {name}: {statistics.median(values):,.1f} {row.work.unit.name}")
        for name, why in reasons.items():
            console.print(f"{name}: not measured, {why}", highlight=False, markup=False)
    for row in rows:
        for error in dict.fromkeys(row.errors):
            progress.print(f"{row.work.name}: {error}", markup=False)
    return 1 if any(row.errors for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
