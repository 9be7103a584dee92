"""What a message takes, in numbers that repeat: ``python -m benchmarks counts``.

Seconds depend on the machine and on what else it does. The bytecode instructions and the calls that ringcast's own
code takes for a message do not, so they can be kept in a file, for each version of Python, and a test can tell when a
message gets dearer. Each operation is counted by itself, and the tenth part of them that is the cheapest says what it
takes: timers that go off in the middle, and a machine that is slow just then, only add. What the libraries and the
interpreter take is not counted: `profile` shows that.

Both nodes are in this process and this thread, so a remote operation counts on both sides. Each begins in a tick of its
own, for counting is slow, and windows of a few milliseconds decide whether turns begin at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

from ringcast import Node, Seeds, run, tell

from .counters import HANDLERS, Front, Pausing
from .workloads import payload

__all__ = ["KEPT", "TOLERANCE", "compare", "main"]

KEPT = Path(__file__).with_name("counts.json")
TOLERANCE = 0.02
"""How much dearer an operation may be than what is kept, as a part of it."""
TIMES = 101
WARM = 40
TOLD = 32
"""Tells that are counted together, since what comes back for them comes once for so many."""
ROOT = Path(__file__).resolve().parents[1]
OWN = tuple(f"{ROOT}{os.sep}{folder}{os.sep}" for folder in ("ringcast", "actors", "runtime", "discovery", "security"))
"""Where our own code is; the checkout itself may be called ringcast, too."""

ADVICE = """\
`python -m benchmarks profile` shows where the time goes. If what the message does now is worth it, say so in the
commit, and keep the new numbers with `python -m benchmarks counts --keep`, once for each version of Python in CI."""

Counts: TypeAlias = dict[str, dict[str, int]]
"""By operation: instructions and calls."""
Operation: TypeAlias = Callable[[int], Awaitable[object]]


class Counter:
    """Counts while it is on; what is in force before is put back."""

    def __init__(self) -> None:
        self.seen = 0
        self._is_own: dict[str, bool] = {}

    def trace(self) -> None:
        """Count instructions from now on, in this thread."""
        sys._getframe().f_trace_opcodes = True  # from 3.12 on, the interpreter gives none unless some frame wants them
        sys.settrace(self.instructions)

    def instructions(self, frame: FrameType, event: str, _: object) -> Any:
        """Trace: each instruction of our own code."""
        if event == "opcode":
            self.seen += 1
        elif event == "call":
            path = frame.f_code.co_filename
            is_own = self._is_own.get(path)
            if is_own is None:
                is_own = self._is_own[path] = path.startswith(OWN)
            if not is_own:
                return None
            frame.f_trace = self.instructions  # first: 3.13 looks whether there is one
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        return self.instructions

    def calls(self, frame: FrameType, event: str, _: object) -> None:
        """Profile: each call that our own code makes of C, and each of its functions that is entered."""
        if event in ("c_call", "call") and frame.f_code.co_filename.startswith(OWN):
            self.seen += 1


async def _least(operation: Operation, turn_on: Callable[[Counter], None], turn_off: Callable[[], None]) -> int:
    counter = Counter()
    seen: list[int] = []
    for i in range(WARM):
        await operation(i)
    for i in range(TIMES):
        await asyncio.sleep(0)
        before = counter.seen
        turn_on(counter)
        await operation(i)
        turn_off()
        seen.append(counter.seen - before)
    return sorted(seen)[TIMES // 10]


async def _counted(operation: Operation) -> dict[str, int]:
    tracing, profiling = sys.gettrace(), sys.getprofile()
    return {
        "instructions": await _least(operation, Counter.trace, lambda: sys.settrace(tracing)),
        "calls": await _least(
            operation, lambda counter: sys.setprofile(counter.calls), lambda: sys.setprofile(profiling)
        ),
    }


@asynccontextmanager
async def _two(is_encrypted: bool) -> AsyncIterator[Node]:
    async with Node(cluster="counts", discovery=[], tls=is_encrypted) as server:
        seeds = Seeds([server.address])
        async with Node(cluster="counts", discovery=[seeds], hosts=[], tls=is_encrypted) as caller:
            yield caller


async def _operations(node: Node) -> dict[str, Operation]:
    simple, general = (node.ref(cls, "counted") for cls in HANDLERS.values())
    front, pausing = node.ref(Front, "counted"), node.ref(Pausing, "counted")

    async def told(_: int) -> None:
        for i in range(TOLD):
            await tell(simple.inc, i)
        await simple.count()

    return {
        "ask, simple": simple.echo,
        "ask, general": general.echo,
        "ask with a dict": lambda i: simple.echo_id(payload(i)),
        "ask that suspends": lambda i: pausing.echo_id(payload(i)),
        "ask through another": lambda i: front.echo_id(simple, payload(i)),
        f"{TOLD} tells and an ask": told,
    }


async def counted() -> Counts:
    """Count each operation within a node, from another node, and from another node over TLS."""
    found: Counts = {}
    async with Node(cluster="counts", discovery=[], tls=False) as node:
        for name, operation in (await _operations(node)).items():
            found[f"here: {name}"] = await _counted(operation)
    for where, is_encrypted in (("remote", False), ("remote, TLS", True)):
        async with _two(is_encrypted) as node:
            for name, operation in (await _operations(node)).items():
                found[f"{where}: {name}"] = await _counted(operation)
    return found


def compare(found: Counts, kept: Counts) -> list[str]:
    """Return what has become dearer than is kept, in words; empty if nothing has."""
    said: list[str] = []
    for name, counts in found.items():
        if name not in kept:
            said.append(f"{name}: nothing is kept of it")
            continue
        for what, value in counts.items():
            least = kept[name][what]
            if value > least * (1 + TOLERANCE) + 2:
                said.append(f"{name}: {value} {what}, {value - least:+} ({value / least - 1:+.1%}) on what is kept")
    return said


def version() -> str:
    """Return the version of Python that numbers are kept for."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def main(args: list[str]) -> int:
    """Count, and show, compare or keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks counts", description=__doc__)
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--check", action="store_true", help="fail if a message is dearer than what is kept")
    shape.add_argument("--keep", action="store_true", help="keep these numbers for this version of Python")
    shape.add_argument("--json", action="store_true", help="print them as they are kept")
    options = parser.parse_args(args)
    kept: dict[str, Counts] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    found: Counts = run(counted())
    if options.keep:
        kept[version()] = found
        KEPT.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
    if options.json:
        print(json.dumps(found))
        return 0
    for name, counts in found.items():
        before = kept.get(version(), {}).get(name, {})
        texts = [f"{value} {what} ({before.get(what, '-')})" for what, value in counts.items()]
        print(f"{name}: {', '.join(texts)}")
    if not options.check:
        return 0
    if version() not in kept:
        print(f"nothing is kept for Python {version()}: `python -m benchmarks counts --keep` keeps it", file=sys.stderr)
        return 1
    said = compare(found, kept[version()])
    if said:  # once more: what is dearer by accident is not dearer twice
        again: Counts = run(counted())
        for name, counts in found.items():
            counts.update({what: min(value, again[name][what]) for what, value in counts.items()})
        said = compare(found, kept[version()])
    if said:
        print("Messages have become dearer:", *said, ADVICE, sep="\n", file=sys.stderr)
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
