"""A LAN of five falls apart into three and two, and is healed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.namespaces import lan
from ringcast.discovery.profile import LAN

from .cluster import asked, cluster, shuffled
from .figures import Figure, asks_of, quantile, seconds
from .network import cut_off, heal, why_not

__all__ = ["partitions"]

KEYS = range(100)
LASTS = 30.0
RATE = 40.0
"""Asks a second that each node of the minority sends to the keys that were the minority's."""

LIMIT = 1.0
SERVES = LAN.lease + 0.5
"""Seconds within which the minority has stopped."""

HEALS = 5.0


@dataclass(slots=True)
class Split:
    """What came of partitions.

    Attributes:
        served: For each, seconds from the cut to the end of the last turn that the minority took meanwhile.
        answered: For each key of the minority, seconds from the cut to its first answer by the majority.
        healed: For each, seconds from the heal until all five had one view; longer ones are not waited for.
    """

    served: list[float] = field(default_factory=list[float])
    answered: list[float] = field(default_factory=list[float])
    healed: list[float] = field(default_factory=list[float])


async def partitions(rounds: int) -> AsyncGenerator[Figure, None]:
    """Cut two of five off from the others, so many times."""
    what = f"partition 3/2 for {LASTS:.0f} s, {rounds} times"
    if (reason := why_not()) is not None:
        yield Figure(what, reason, "", None)
        return
    split = await parted(rounds)
    until = f"{max(split.served):.2f} s after the cut"
    yield Figure(f"{what}: the minority serves until", until, f"<= {SERVES} s", max(split.served) <= SERVES)
    answered = f"{seconds(split.answered)} ({len(split.answered)} keys)"
    is_met = quantile(split.answered, 0.99) <= 6
    yield Figure("  its keys answer on the other side", answered, "p99 <= 6 s", is_met)
    is_met = max(split.healed) <= HEALS
    yield Figure("  one view after the heal", seconds(split.healed), f"<= {HEALS:.0f} s", is_met)


async def parted(rounds: int, lasts: float = LASTS, **config: Any) -> Split:
    """Cut two of five off from the others, so many times; see `Split`."""
    split = Split()
    with lan(5) as hosts:
        async with cluster(5, hosts, **config) as found:
            for number in range(rounds):
                minority = shuffled(found.processes, number)[:2]
                majority = found.others(*minority)
                owned = await found.owners(KEYS)
                keys = [key for process in minority for key in owned[process.node_id]]
                await asked(found.processes, keys)
                for process in minority:
                    await process.do("asks", keys=keys, rate=RATE, turn=0.0, limit=LIMIT)
                await asyncio.sleep(LIMIT)
                others = [process.host for process in majority if process.host is not None]
                cut = [process.host for process in minority if process.host is not None]
                try:
                    for host in cut:
                        cut_off(host, others)
                    at = time.monotonic()
                    rows = await asked(majority, keys, 20.0)
                    await asyncio.sleep(max(0.0, at + lasts - time.monotonic()))
                    asks = [ask for p in minority for ask in asks_of(await p.do("end_asks", LIMIT + 30))]
                finally:
                    for host in cut:
                        heal(host)
                healed = time.monotonic()
                turns = [ask.ended - at for ask in asks if ask.ended is not None]
                split.served.append(max(turns))
                split.answered += [row[1] - at for row in rows]
                split.healed.append(await found.settled() - healed)
    return split
