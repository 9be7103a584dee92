"""Busy processors, lost datagrams, no datagrams at all: nobody is evicted. And what an idle node costs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager

from benchmarks.namespaces import Host, lan

from .cluster import Cluster, cluster
from .figures import Figure
from .network import lossy, why_not, without_udp

__all__ = ["idle", "strain"]

LOSS = 20
"""Of a hundred datagrams."""

UDP_WARNING = "answers over TCP only"
"""Part of the warning that a peer's datagrams are lost."""

BUSY = "while True: pass"


async def strain(lasts: float) -> AsyncGenerator[Figure, None]:
    """Saturate the processors, lose datagrams, block them, each for so many seconds."""
    async with cluster(5) as found, busy(os.cpu_count() or 1):
        yield _kept(f"all processors busy for {lasts:.0f} s", *await evicted(found, lasts))
    losing, blocking = f"{LOSS} % of the datagrams lost for {lasts:.0f} s", f"UDP blocked for {lasts:.0f} s"
    if (reason := why_not()) is not None:
        for what in (losing, blocking):
            yield Figure(what, reason, "no eviction", None)
        return
    with lan(5) as hosts:
        async with cluster(5, hosts) as found:
            _everywhere(found, lambda host: lossy(host, LOSS))
            yield _kept(losing, *await evicted(found, lasts))
    with lan(5) as hosts:
        async with cluster(5, hosts) as found:
            _everywhere(found, without_udp)
            yield _kept(blocking, *await evicted(found, lasts))
            least, most = warnings_each(found)
    yield Figure("  warnings", f"{least} to {most} of each node about each peer", "1 to 1", least == most == 1)


def _everywhere(found: Cluster, do: Callable[[Host], None]) -> None:
    for process in found.processes:
        assert process.host is not None, "it is on a LAN"
        do(process.host)


def _kept(what: str, lost: int, changes: int) -> Figure:
    return Figure(what, f"{lost} members lost, {changes} changes of the view", "no eviction", lost == changes == 0)


async def evicted(found: Cluster, lasts: float) -> tuple[int, int]:
    """Wait for so many seconds; return how many members were declared lost, and how often views changed."""
    before = [len(process.seen) for process in found.processes]
    await asyncio.sleep(lasts)
    changes = sum(len(process.seen) - had for process, had in zip(found.processes, before, strict=True))
    losses = {tuple(e["member"]) for process in found.processes for e in process.events if e["event"] == "lost"}
    return len(losses), changes


def warnings_each(found: Cluster) -> tuple[int, int]:
    """Return how often a node has warned of lost datagrams about a peer, at least and at most."""
    said: list[int] = []
    for process in found.processes:
        texts = [str(line) for line in process.log() if UDP_WARNING in str(line)]
        about = Counter({other.node_id: 0 for other in found.others(process)})
        for text in texts:
            about.update(other for other in about if other in text)
        said += about.values()
    return min(said), max(said)


@asynccontextmanager
async def busy(count: int) -> AsyncIterator[None]:
    """Keep so many processors busy, twice over."""
    started = [await asyncio.create_subprocess_exec(sys.executable, "-c", BUSY) for _ in range(2 * count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            await process.wait()


async def idle(lasts: float) -> AsyncGenerator[Figure, None]:
    """Do nothing on five nodes, and see what that costs each, for so many seconds."""
    what, reason = f"five idle nodes for {lasts:.0f} s, each: processor", why_not()
    if reason is not None:
        async with cluster(5) as found:
            yield _processor(what, await _costs(found, lasts), lasts)
        yield Figure("  bytes", reason, "<= 20 kB/s", None)
        return
    with lan(5) as hosts:
        async with cluster(5, hosts) as found:
            costs = await _costs(found, lasts)
    yield _processor(what, costs, lasts)
    sent, received = (max(cost[name] for cost in costs) / lasts / 1e3 for name in ("sent", "received"))
    said = f"{sent:.1f} kB/s sent and {received:.1f} kB/s received at most"
    yield Figure("  bytes", said, "<= 20 kB/s together", sent + received <= 20)


async def _costs(found: Cluster, lasts: float) -> list[dict[str, float]]:
    await asyncio.sleep(2.0)  # what a start leaves to do
    before = [await process.do("cost") for process in found.processes]
    await asyncio.sleep(lasts)
    after = [await process.do("cost") for process in found.processes]
    return [{name: now[name] - was[name] for name in now} for was, now in zip(before, after, strict=True)]


def _processor(what: str, costs: list[dict[str, float]], lasts: float) -> Figure:
    process, membership = (max(cost[name] for cost in costs) / lasts * 100 for name in ("process", "membership"))
    said = f"membership and leases {membership:.2f} % of a core, the whole process {process:.2f} %"
    return Figure(what, said, "<= 1 %", membership <= 1)
