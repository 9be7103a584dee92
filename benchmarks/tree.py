"""How soon the permanent actors of a killed node are live again: ``python -m benchmarks.tree``.

A node that alone hosts a class gets all its actors; then three more that host it join; then the first is
killed. Measured from the view without it, as a bystander installs it, until the last of its actors has
run `on_start` on a survivor. Exits with 1 if a target is missed. Processes on one machine: all of them
share its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ringcast import TEMPORARY, Actor, Labels, Node, ViewChanged, props, run

__all__ = ["Gauge", "Many", "main"]

ROOT = Path(__file__).parents[1]
SURVIVORS = 3
AT_ONCE = 256
"""Spawns under way at a time."""
TARGETS = {2000: 3.0, 10_000: 10.0}
"""By the number of actors: seconds after the view in which all are live again."""

_started = [0, 0.0]


class Many(Actor, name="benchmarks.Many"):
    """One of many permanent actors."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def on_start(self) -> None:
        """Count."""
        _started[0] += 1
        _started[1] = time.monotonic()

    async def number(self) -> int:
        """Return its constructor's argument."""
        return self._number


class Gauge(Actor, name="benchmarks.Gauge"):
    """Says how many have started in its process."""

    async def started(self) -> tuple[int, float]:
        """Return how many, and when the last did; monotonic seconds of the machine."""
        return int(_started[0]), _started[1]


async def _node(cluster: str, label: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Node(cluster=cluster, labels={"at": label}):
        print("READY", flush=True)
        await stop.wait()


async def _process(cluster: str, label: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.tree", "--node", cluster, label),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "RINGCAST_LOG": "error", "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"READY\n"
    return process


async def restarts(count: int) -> dict[str, float]:
    """Kill the node of `count` actors; return what was measured, in seconds."""
    cluster = f"tree-{os.getpid()}-{count}"
    processes: list[asyncio.subprocess.Process] = []
    try:
        async with Node(cluster=cluster, hosts=[]) as node:
            processes.append(await _process(cluster, "victim"))
            await node.wait_for_members(2, timeout=30)
            begun, refs, room = time.monotonic(), list[Any](), asyncio.Semaphore(AT_ONCE)

            async def spawn(number: int) -> None:
                async with room:
                    refs.append(await node.spawn(props(Many, number), name=f"many-{number}"))

            await asyncio.gather(*map(spawn, range(count)))
            spawned = time.monotonic() - begun
            for n in range(SURVIVORS):
                processes.append(await _process(cluster, f"s{n}"))
            await node.wait_for_members(2 + SURVIVORS, timeout=30)
            gauges = [
                await node.spawn(props(Gauge), restart=TEMPORARY, on=Labels(at=f"s{n}")) for n in range(SURVIVORS)
            ]
            await asyncio.sleep(2.0)  # the joiners' copies are made
            events = node.events()
            killed = time.monotonic()
            processes[0].kill()
            async for event in events:
                if isinstance(event, ViewChanged) and len(event.view.members) == 1 + SURVIVORS:
                    break
            seen = time.monotonic()
            while True:
                known = [await gauge.started() for gauge in gauges]
                if sum(started for started, _ in known) >= count:
                    break
                assert time.monotonic() - seen < 120, f"{known} of {count} are live again after two minutes"
                await asyncio.sleep(0.05)
            live = max(at for _, at in known) - seen
            asked = time.monotonic()
            answers = await asyncio.gather(*(ref.number() for ref in refs[:: max(count // 200, 1)]))
            assert len(set(answers)) == len(answers)
            return {
                "spawned": spawned,
                "kill to view": seen - killed,
                "view to all live": live,
                "200 asked": time.monotonic() - asked,
                "evenness": max(started for started, _ in known) * SURVIVORS / count,
            }
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _main(counts: list[int]) -> int:
    missed = 0
    for count in counts:
        found = await restarts(count)
        target = TARGETS.get(count)
        is_missed = target is not None and found["view to all live"] > target
        missed += is_missed
        shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        print(f"{count} actors: {shown}; target {target}{' MISSED' if is_missed else ''}", flush=True)
    return 1 if missed else 0


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, default=sorted(TARGETS))
    parser.add_argument("--node", nargs=2, metavar=("CLUSTER", "LABEL"))
    given = parser.parse_args()
    if given.node:
        from benchmarks.tree import _node as node  # by its own name, not as __main__: its classes are hosted

        run(node(*given.node))
        return 0
    from benchmarks.tree import _main as measure

    return run(measure(given.counts))  # type: ignore[no-any-return]


if __name__ == "__main__":
    sys.exit(main())
