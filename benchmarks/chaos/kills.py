"""A node is killed, or falls silent: how soon its keys answer elsewhere."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from benchmarks.namespaces import lan

from .cluster import asked, cluster, shuffled
from .figures import Figure, quantile, seconds
from .network import heal, silent, why_not
from .process import NodeProcess

__all__ = ["kills", "silences"]

KEYS = range(100)


async def kills(rounds: int) -> AsyncGenerator[Figure, None]:
    """Kill owners by SIGKILL."""
    fast, slow = "p50 <= 0.6 s, p99 <= 1.5 s", "p99 <= 4 s"
    times = await killed(5, rounds)
    yield _figure(f"SIGKILL of one of five, {rounds} times", times, fast, _is_fast(times))
    times = await killed(5, rounds, trust_refused=False)
    yield _figure(f"  without evidence of death, {rounds} times", times, slow, quantile(times, 0.99) <= 4)
    times = await killed(2, rounds)
    yield _figure(f"  one of two, {rounds} times", times, fast, _is_fast(times))


async def silences(rounds: int) -> AsyncGenerator[Figure, None]:
    """Drop all packets of an owner's machine."""
    what, target = f"a machine falls silent, {rounds} times", "p99 <= 6 s"
    if (reason := why_not()) is not None:
        yield Figure(what, reason, target, None)
        return
    times = await silenced(rounds)
    yield _figure(what, times, target, quantile(times, 0.99) <= 6)


def _is_fast(times: list[float]) -> bool:
    return quantile(times, 0.5) <= 0.6 and quantile(times, 0.99) <= 1.5


def _figure(what: str, times: list[float], target: str, is_met: bool) -> Figure:
    return Figure(what, f"{seconds(times)} ({len(times)} keys)", target, is_met)


async def killed(count: int, rounds: int, **config: Any) -> list[float]:
    """Kill one of so many nodes, again and again; the dead one's keys are asked for by the others.

    Returns:
        For each key of each that was killed: seconds from the kill to its first answer.
    """
    times: list[float] = []
    async with cluster(count, **config) as found:
        for number in range(rounds):
            victim = shuffled(found.processes, number)[0]
            others = found.others(victim)
            keys = (await found.owners(KEYS, others[0]))[victim.node_id]
            await asked(others, keys)
            replacement = await found.prepared()
            at = await victim.killed()
            times += [row[1] - at for row in await asked(others, keys, 20.0)]
            found.drop(victim)
            await found.settled()
            await found.join(replacement)
    return times


async def silenced(rounds: int) -> list[float]:
    """Silence one of five machines, again and again; the same as `killed`."""
    times: list[float] = []
    with lan(5) as hosts:
        async with cluster(5, hosts) as found:
            for number in range(rounds):
                victim = shuffled(found.processes, number)[0]
                others = found.others(victim)
                keys = (await found.owners(KEYS, others[0]))[victim.node_id]
                await asked(others, keys)
                times += await _silenced(victim, others, keys)
                await found.settled()
    return times


async def _silenced(victim: NodeProcess, others: list[NodeProcess], keys: list[int]) -> list[float]:
    assert victim.host is not None, "it is on a LAN"
    at = time.monotonic()
    silent(victim.host)
    try:
        return [row[1] - at for row in await asked(others, keys, 20.0)]
    finally:
        heal(victim.host)
