"""What membership costs: real nodes, a process each, and in virtual time the cores of as many as one likes.

The simulation is the one that the properties of the membership are tested in; it needs what tests need.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Cost", "real", "simulated"]

STEADY_S = 5.0
SIMULATED_S = 2.0
SETTLED_S = 2.0
"""Virtual, until what a view has changed is told: news, hand-offs and connections."""
PATIENCE_S = 90.0
PLACED_FROM = 50
CHECKED_EACH_S = 0.001
"""Of virtual time: not after each step."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What membership costs one node of so many.

    Attributes:
        messages: A second, sent.
        bytes: A second, sent; real ones before TLS.
        view_s: From the first view that has a newcomer until all have one.
        known_s: From a kill until nobody has the killed one in its view.
        most: Messages that the busiest node sent a second.
        cpu: Of a core, all of the node's process; None if it was simulated.
        most_cpu: Of the busiest node.
    """

    nodes: int
    messages: float
    bytes: float
    view_s: float
    known_s: float
    most: float
    cpu: float | None = None
    most_cpu: float | None = None


class Member:
    """A node's process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ""
        self.members = 0
        self.at = 0.0
        self.began = 0.0
        self._counts: asyncio.Future[dict[str, float]] | None = None
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, cluster: str, seeds: list[str]) -> Member:
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.scale_node", "member", cluster, *seeds),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "RINGCAST_LOG": "error"},
            )
        )

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "members" in said:
                self.members, self.at = said["members"], said["at"]
                self.address = said.get("address", self.address)
            elif self._counts is not None:
                self._counts.set_result(said)

    async def counts(self) -> dict[str, float]:
        assert self.process.stdin is not None
        self._counts = asyncio.get_running_loop().create_future()
        self.process.stdin.write(b"\n")
        return await asyncio.wait_for(self._counts, PATIENCE_S)

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()
        self._reading.cancel()


async def _all_see(members: list[Member], count: int) -> float:
    """Wait until all have a view of so many; return when the last one got it."""
    until = time.monotonic() + PATIENCE_S
    while any(member.members != count for member in members):
        if time.monotonic() > until:
            raise RuntimeError(f"views of {sorted({member.members for member in members})} members, not of {count}")
        await asyncio.sleep(0.02)
    return max(member.at for member in members)


async def _measure(nodes: int) -> Cost:
    cluster = f"scale-{os.getpid()}-{nodes}"
    members: list[Member] = []
    try:
        members.append(await Member.start(cluster, []))
        await _all_see(members, 1)
        for _ in range(nodes - 2):
            members.append(await Member.start(cluster, [members[0].address]))
        await _all_see(members, nodes - 1)
        members.append(await Member.start(cluster, [members[0].address]))
        view_s = await _all_see(members, nodes) - min(member.at for member in members)
        await asyncio.sleep(1.0)
        before = [await member.counts() for member in members]
        await asyncio.sleep(STEADY_S)
        after = [await member.counts() for member in members]
        rates = {
            name: [(b[name] - a[name]) / (b["at"] - a["at"]) for a, b in zip(before, after, strict=True)]
            for name in ("messages", "bytes", "cpu")
        }
        victim = members[len(members) // 2]
        rest = [member for member in members if member is not victim]
        killed = time.monotonic()
        victim.process.kill()
        known_s = await _all_see(rest, nodes - 1) - killed
        messages, size, cpu = (statistics.mean(each) for each in rates.values())
        most, _, most_cpu = (max(each) for each in rates.values())
        return Cost(nodes, messages, size, view_s, known_s, most, cpu, most_cpu)
    finally:
        for member in members:
            await member.end()


def real(nodes: int) -> Cost:
    """Start so many nodes, a process each; measure, and end them."""
    return asyncio.run(_measure(nodes))


def simulated(nodes: int) -> Cost:
    """Do the same with cores in virtual time; what their processors would take is not simulated.

    Nodes beyond `PLACED_FROM` are put into their first view, rather than let in, and say nothing of the hand-off:
    at each view either is a message from everybody to everybody, which takes a processor hours for 500 nodes.
    """
    from .scale_world import Counted

    network = Counted(7)

    def see(count: int, judge: Callable[[Iterable[bool]], bool] = all) -> Callable[[], bool]:
        checked = 0.0

        def seen() -> bool:
            nonlocal checked
            if network.now < checked:
                return False
            checked = network.now + CHECKED_EACH_S
            views = (host.participant.view for host in network.up())
            return judge(view is not None and len(view.members) == count for view in views)

        return seen

    if nodes > PLACED_FROM:
        network.place(nodes - 1)
    else:
        network.start("0", has_discovery=False)
        network.run(PATIENCE_S, see(1))
        for number in range(1, nodes - 1):
            network.start(str(number), ["0"])
    network.run(PATIENCE_S, see(nodes - 1))
    network.run(SETTLED_S)
    network.start(str(nodes - 1), ["0"])
    network.run(PATIENCE_S, see(nodes, any))
    view_s = network.run(PATIENCE_S, see(nodes))
    network.run(SETTLED_S)
    sent, size = network.sent.copy(), network.size
    network.run(SIMULATED_S)
    rates = [(network.sent[name] - sent[name]) / SIMULATED_S for name in network.hosts]
    size = network.size - size
    network.kill(str(nodes // 2))
    known_s = network.run(PATIENCE_S, see(nodes - 1))
    return Cost(nodes, statistics.mean(rates), size / SIMULATED_S / nodes, view_s, known_s, max(rates))
