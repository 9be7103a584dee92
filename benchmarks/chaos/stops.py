"""Nodes that stand still for a while: their process, their event loop, or their interpreter.

Workers of the node show themselves all the time to a collector on another node, which writes down when
an effect of which epoch arrived. Once a later activation has shown itself no earlier one may.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from .actors import Effect
from .cluster import Cluster, asked, cluster, shuffled
from .figures import Figure, epochs_gone_back
from .process import NodeProcess

__all__ = ["stops"]

KEYS = range(100)
SHOWN = 5
"""So many of the victim's workers show themselves."""

SHORT, LONG = 0.5, 5.0
"""Seconds that a process is stopped for."""

BLOCKED = 8.0
"""Seconds that a handler keeps its event loop."""

HELD = 4.0
"""Seconds that a handler keeps the global lock."""

SUSPICION = 4.0
"""Seconds within which a node that is silent for too long is lost; after that nothing more comes."""

WATCHED = 1.0
"""Seconds to wait for effects that should not come."""


@dataclass(slots=True)
class Stood:
    """What came of nodes that stood still.

    Attributes:
        rounds: How often one did.
        evicted: How often it was then lost for the others.
        released: Effects of it, or of an activation that it had before, that arrived after it went on, and
            after a later activation of the key.
        disorder: What else went backwards, in words.
        served: How often all its keys answered elsewhere meanwhile.
        rejoined: Seconds from when it went on until all were one cluster again.
    """

    rounds: int = 0
    evicted: int = 0
    released: int = 0
    disorder: list[str] = field(default_factory=list[str])
    served: int = 0
    rejoined: list[float] = field(default_factory=list[float])

    @property
    def is_clean(self) -> bool:
        """Whether nothing was done twice."""
        return not self.released and not self.disorder

    @property
    def first_disorder(self) -> str:
        return f"; {self.disorder[0]}" if self.disorder else ""

    @property
    def back(self) -> str:
        return f"one cluster {max(self.rejoined):.1f} s later at most"


async def stops(rounds: int) -> AsyncGenerator[Figure, None]:
    """Stop processes; in fewer rounds, block loops and hold the lock."""
    short, few = max(1, rounds * 2 // 5), max(1, rounds // 10)
    changed = await stopped_briefly(short)
    yield Figure(f"SIGSTOP for {SHORT} s", f"{short - changed} of {short} kept", "no eviction", changed == 0)
    stood = await stopped(rounds)
    what, evicted, target = f"SIGSTOP for {LONG:.0f} s", f"{stood.evicted} of {rounds} evicted", f"{rounds} of {rounds}"
    yield Figure(what, f"{evicted}, {stood.back}", target, stood.evicted == rounds)
    yield _effects_of(stood)
    changed = await blocked(few)
    kept = f"{few - changed} of {few} kept"
    yield Figure(f"a handler in time.sleep({BLOCKED:.0f})", kept, "no eviction", changed == 0)
    stood = await held(few)
    what, target = f"a handler that holds the global lock for {HELD:.0f} s", f"{few} of {few}"
    yield Figure(what, f"{stood.served} of {few} served elsewhere, {stood.back}", target, stood.served == few)
    yield _effects_of(stood)


def _effects_of(stood: Stood) -> Figure:
    said = f"{stood.released} released, {len(stood.disorder)} out of order{stood.first_disorder}"
    return Figure("  stale effects afterwards", said, "0, 0", stood.is_clean)


async def stopped_briefly(rounds: int) -> int:
    """Stop a node for `SHORT`, so many times; return how often the view changed."""
    changed = 0
    async with cluster(5) as found:
        for number in range(rounds):
            victim = shuffled(found.processes, number)[0]
            before = len(victim.seen)
            victim.signal(signal.SIGSTOP)
            await asyncio.sleep(SHORT)
            victim.signal(signal.SIGCONT)
            await asyncio.sleep(WATCHED if number < rounds - 1 else SUSPICION)
            await found.settled()
            changed += len(victim.seen) > before
    return changed


async def blocked(rounds: int) -> int:
    """Have a handler block the loop of its node for `BLOCKED`, so many times; return how often the view changed."""
    changed = 0
    async with cluster(5) as found:
        for number in range(rounds):
            victim = shuffled(found.processes, number)[0]
            witness = found.others(victim)[0]
            [key, *_] = (await found.owners(KEYS, witness))[victim.node_id]
            before = len(witness.seen)
            await witness.do("freeze", key=key, how="block", seconds=BLOCKED)
            await asyncio.sleep(BLOCKED)
            [row] = await asked([witness], [key])
            changed += len(witness.seen) > before or row[2] != victim.pid
    return changed


async def stopped(rounds: int, lasts: float = LONG, **config: Any) -> Stood:
    """Stop the process of an owner for a while, so many times."""
    stood = Stood()
    async with cluster(5, **config) as found:
        for number in range(rounds):
            async with _standing(found, shuffled(found.processes, number)[0], lasts, stood) as (victim, _, _):
                victim.signal(signal.SIGSTOP)
    return stood


async def held(rounds: int) -> Stood:
    """Have a handler hold the global lock of an owner for `HELD`, so many times."""
    stood = Stood()
    async with cluster(5) as found:
        for number in range(rounds):
            async with _standing(found, shuffled(found.processes, number)[0], HELD, stood) as (_, witness, keys):
                await witness.do("freeze", key=keys[0], how="hold", seconds=HELD)
    return stood


@asynccontextmanager
async def _standing(
    found: Cluster, victim: NodeProcess, lasts: float, stood: Stood
) -> AsyncIterator[tuple[NodeProcess, NodeProcess, list[int]]]:
    """Have workers of the victim show themselves, let the block freeze it, and look at what arrives."""
    witness = found.others(victim)[0]
    keys = (await found.owners(KEYS, witness))[victim.node_id][:SHOWN]
    await witness.do("collect")
    epochs = {row[0]: row[3] for row in await asked([witness], keys, show=True)}
    await asyncio.sleep(WATCHED / 2)
    seen = await _effects(witness)
    if {key for _, key, _, _ in seen} != set(keys):
        raise RuntimeError(f"not all of {keys} show themselves: {seen[-5:]}")
    assert victim.view is not None, "it has joined"
    [run] = [member[:2] for member in victim.view.members if member[0] == victim.node_id]

    yield victim, witness, keys

    asking = asyncio.create_task(asked([witness], keys[1:], lasts + 10, show=True))
    await asyncio.sleep(lasts)
    went_on = victim.signal(signal.SIGCONT)
    answers = await asking
    stood.rejoined.append(await found.settled() - went_on)
    await asyncio.sleep(WATCHED)
    seen += await _effects(witness)
    await asked([witness], keys)  # the frozen one, too
    await witness.do("hide", keys=keys)
    assert witness.view is not None, "it has joined"
    is_evicted = run not in [member[:2] for member in witness.view.members]
    stood.rounds += 1
    stood.evicted += is_evicted
    stood.served += all(pid != victim.pid for _, _, pid, _ in answers)
    if is_evicted:
        stale = [e for e in seen if e[0] > went_on and e[3] == victim.pid and e[2] <= epochs[e[1]]]
        stood.released += len(stale)
    stood.disorder += epochs_gone_back(seen)


async def _effects(witness: NodeProcess) -> list[Effect]:
    return [(at, key, epoch, pid) for at, key, epoch, pid in await witness.do("effects")]
