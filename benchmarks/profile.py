"""Where the time of one message goes, step by step: ``python -m benchmarks profile [WORK ...]``, or ``--profile``.

Each work runs twice: bare, which tells what one operation takes of a core, in each process; then sampled (`sampler`),
which tells how that divides among the steps (`steps`). A step's time is its part of the bare run, so what the probes
cost is in none of them; it stands below. What the unpacker takes for a frame, in C and between two frames, a sampler
notices only in the step that follows; so that is timed by itself, in the same process, and moved over. The membership's
thread is in no step, and is part of what the process takes.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ringcast import Actor, Node, Seeds, run
from ringcast.discovery.packed import SMALL
from ringcast.runtime import wire

from . import page
from .child import Child, ready
from .counters import HANDLERS, Simple
from .ours import CLUSTER, measured
from .report import machine
from .sampler import Sampler
from .steps import STEPS
from .workloads import Measurement, count_of, payload

__all__ = ["Probe", "Split", "main"]

WORKS = ("L1", "L2", "L3", "R1", "R2", "R3")
DEFAULT = ("L2", "R2")
FOLLOWS = {"server": "mailbox", "caller": "reply"}
"""By process: the step in which the time of the unpacker is noticed."""
FRAMES = 32
ROUNDS = 500

Parts: TypeAlias = tuple[float, float, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Split:
    """What one operation takes of one process: microseconds of its core, and the parts of the steps.

    Attributes:
        probes_us: What the sampler took in the sampled run.
        wall_us: How long the bare run took, for each operation.
    """

    process: str
    cpu_us: float
    probes_us: float
    wall_us: float
    steps: dict[str, float]


class Probe(Actor):
    """Measures the process that it is in."""

    def __init__(self) -> None:
        self._sampler: Sampler | None = None
        self._since = 0.0

    async def begin(self, is_sampled: bool) -> None:
        """Measure from now on."""
        self._sampler = Sampler().start() if is_sampled else None
        self._since = time.process_time()

    async def end(self) -> Parts:
        """Return the seconds of a core since then: all, and the sampler's; and the steps' parts."""
        used = time.process_time() - self._since
        if self._sampler is None:
            return used, 0.0, {}
        steps = self._sampler.stop()
        return used, self._sampler.own, steps


async def server() -> None:
    async with Node(cluster=CLUSTER, discovery=[], tls=False) as node:
        ready(node.address)
        await asyncio.Event().wait()


async def _divided(
    node: Node, probes: dict[str, Probe], work: str, handler: str, count: int, is_sampled: bool
) -> tuple[Measurement, dict[str, Parts]]:
    for probe in probes.values():
        await probe.begin(is_sampled)
    done = await measured(node, work, HANDLERS[handler], count)
    return done, {name: await probe.end() for name, probe in probes.items()}


async def profiled(work: str, handler: str, scale: float, address: str | None) -> list[Split]:
    """Run a work bare, then sampled; return one split for each process."""
    discovery, hosts = ([Seeds([address])], list[str]()) if address else ([], None)
    count = count_of(work, scale)
    async with Node(cluster=CLUSTER, discovery=discovery, hosts=hosts, tls=False) as node:
        probes = {"caller" if address else "node": Probe()}
        if address:
            probes["server"] = node.ref(Probe, 0)
        await measured(node, work, HANDLERS[handler], max(count // 4, 20))
        bare, used = await _divided(node, probes, work, handler, count, False)
        sampled, parts = await _divided(node, probes, work, handler, count, True)
        unpacking = await _unpacking(node, work, HANDLERS[handler]) if address else {}
    splits: list[Split] = []
    for name in probes:
        cpu = used[name][0] / bare.count * 1e6
        steps = parts[name][2]
        if name in unpacking:
            moved = min(unpacking[name] / cpu, steps.get(FOLLOWS[name], 0.0))
            steps = {**steps, FOLLOWS[name]: steps.get(FOLLOWS[name], 0.0) - moved}
            steps["unpack"] = steps.get("unpack", 0.0) + moved
        probing = parts[name][1] / sampled.count * 1e6
        splits.append(Split(name, cpu, probing, bare.seconds / bare.count * 1e6, steps))
    return splits


async def _unpacking(node: Node, work: str, cls: type[Simple]) -> dict[str, float]:
    """Return what the unpacker takes for one frame that each process gets, in us, timed by itself."""
    link = node._peers.link((await node.locate(node.ref(cls, work))).id)
    frames: dict[str, list[Any]] = {"server": [wire.REQUEST, 1 << 28, 5, work, 30_000, 3, payload(7)]}
    if work != "R3":
        frames["caller"] = [wire.REPLY, 1 << 28, 7]
    found: dict[str, float] = {}
    for name, frame in frames.items():
        batch = link.codec.pack(frame) * FRAMES
        unpacker = link.codec.unpacker(SMALL * 2, SMALL)
        begun = time.thread_time()
        for _ in range(ROUNDS):
            unpacker.feed(batch)
            for _ in unpacker:
                pass
        found[name] = (time.thread_time() - begun) / (FRAMES * ROUNDS) * 1e6
    return found


def shown(work: str, columns: dict[str, Split]) -> str:
    """Return a page's table: a line a step, a column a handler and process."""
    heads = ("step", *columns, "what that is")
    lines = [heads, ("---", *("---:" for _ in columns), "---")]
    lines += [
        (step, *(f"{split.cpu_us * split.steps.get(step, 0):.2f}" for split in columns.values()), what)
        for step, what in STEPS.items()
    ]
    lines.append(("**all**", *(f"{split.cpu_us:.2f}" for split in columns.values()), "of a core"))
    lines.append(("passes", *(f"{split.wall_us:.2f}" for split in columns.values()), "seconds of the run / operations"))
    probes = (f"{split.probes_us:.2f}" for split in columns.values())
    lines.append(("probes", *probes, "what the sampler took, in no line above"))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"### Where the time of {work} goes, us for each operation\n\n{table}"


def main(args: list[str]) -> int:
    """Profile the works that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks profile", description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {' '.join(WORKS)}; default {' '.join(DEFAULT)}")
    parser.add_argument("--scale", type=float, default=5.0, help="in the benchmarks' numbers of messages (default 5)")
    parser.add_argument("--page", type=Path, help="write the tables into this page")
    options = parser.parse_args(args)
    if strange := set(options.works) - set(WORKS):
        parser.error(f"no profile of {' '.join(sorted(strange))}; there are {' '.join(WORKS)}")
    texts: list[str] = []
    for work in options.works or DEFAULT:
        columns: dict[str, Split] = {}
        for handler in HANDLERS:
            if work[0] == "R":
                with Child("benchmarks.profile") as child:
                    splits = run(profiled(work, handler, options.scale, child.address))
            else:
                splits = run(profiled(work, handler, options.scale, None))
            columns |= {f"{handler}, {split.process}": split for split in splits}
        texts.append(shown(work, columns))
    text = "\n\n".join(texts)
    if options.page:
        page.put(options.page, "profile", text, ["profile", *args])
    else:
        print(text, machine(), sep="\n\n")
    return 0


if __name__ == "__main__":
    run(server())
