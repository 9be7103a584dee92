"""Nodes leave and join while the actors are asked: nothing fails, nothing is lost, and how long it takes.

The asks come from a member that hosts nothing and stays. What it has told must be handled exactly once;
so must be what it has asked.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .cluster import Cluster, asked, cluster
from .figures import Ask, Figure, Move, Pauses, asks_of, quantile
from .process import NodeProcess

__all__ = ["joins", "restarts"]

KEYS = range(100)
RATE = 500.0
TURN = 0.05
LIMIT = 30.0
TELL_EVERY = 5
SHARE_KEYS = range(10_000, 14_000)
"""Are located, and not asked, to see which share of all keys moves."""

CALM = 3.0
"""Seconds of asks before anything happens, and after it."""


@dataclass(slots=True)
class Moved:
    """What the asks tell of a time of moves.

    Attributes:
        asks: All of them.
        tells: How many messages were told.
        refused: How many tells failed where they were sent.
        lost: Calls that no process has handled, of asks that were answered and tells that were accepted.
        twice: Calls that were handled more than once.
        shares: For each join the share of keys that moved.
        astray: Keys that moved between nodes that were both there before.
        moves: First asks at new activations, while nodes came and went.
        still: How long the other actors kept their askers waiting meanwhile, at most; one of each join.
        calm: The same of all actors before.
        lasted: Seconds of each restart or join.
    """

    asks: list[Ask] = field(default_factory=list[Ask])
    tells: int = 0
    refused: int = 0
    lost: int = 0
    twice: int = 0
    shares: list[float] = field(default_factory=list[float])
    astray: int = 0
    moves: list[Move] = field(default_factory=list[Move])
    still: list[float] = field(default_factory=list[float])
    calm: list[float] = field(default_factory=list[float])
    lasted: list[float] = field(default_factory=list[float])

    @property
    def failed(self) -> list[Ask]:
        """The asks that failed."""
        return [ask for ask in self.asks if ask.error is not None]

    def add(self, told: dict[str, Any], handled: Sequence[str]) -> list[Ask]:
        """Add what the asker reports, and count what was lost or done twice; return the asks."""
        asks = asks_of(told)
        self.asks += asks
        self.tells += len(told["told"])
        self.refused += len(told["refused"])
        times = Counter(handled)
        sure = [ask.call for ask in asks if ask.error is None] + told["told"]
        self.lost += sum(1 for call in sure if not times[call])
        self.twice += sum(1 for call in times if call and times[call] > 1)
        return asks

    @property
    def accounts(self) -> str:
        """Say what was lost, and of how much."""
        return f"{self.lost} lost, {self.twice} twice, of {len(self.asks):,} asks and {self.tells:,} tells"

    @property
    def first_failure(self) -> str:
        return f": {self.failed[0].error}"[:200] if self.failed else ""


async def restarts(rounds: int) -> AsyncGenerator[Figure, None]:
    """Restart all five nodes by SIGTERM, one after the other, so many times."""
    moved = await restarted(rounds)
    what = f"rolling restart of five nodes, {rounds} times, {RATE:.0f} asks/s: failed asks"
    failed = len(moved.failed)
    yield Figure(what, f"{failed} of {len(moved.asks):,}{moved.first_failure}", "0", failed == 0)
    yield Figure("  messages", moved.accounts, "0, 0", moved.lost == moved.twice == moved.refused == 0)
    yield _pauses(moved)


async def joins(rounds: int) -> AsyncGenerator[Figure, None]:
    """Have a sixth node join, and leave again, so many times."""
    moved = await joined(rounds)
    least, most = min(moved.shares), max(moved.shares)
    what = f"a sixth node joins, {rounds} times, {RATE:.0f} asks/s: share of keys that move"
    share = f"{least:.3f} to {most:.3f}, {moved.astray} keys between the others"
    yield Figure(what, share, "0.125 to 0.208, 0", least >= 0.125 and most <= 1.25 / 6 and not moved.astray)
    yield _pauses(moved)
    still, calm = (f"{quantile(values, 0.5) * 1e3:.0f} ms" for values in (moved.still, moved.calm))
    longest = f"{max(moved.still) * 1e3:.0f} ms, {still} in the median join ({calm} in as long without one)"
    yield Figure("  longest pause of an unmoved actor", longest, "<= 20 ms", max(moved.still) <= 0.02)
    is_met = not moved.failed and moved.lost == moved.twice == moved.refused == 0
    said = f"{len(moved.failed)} asks failed{moved.first_failure}, {moved.accounts}"
    yield Figure("  messages", said, "0, 0, 0", is_met)


def _pauses(moved: Moved) -> Figure:
    pauses = [move.pause for move in moved.moves]
    p50, p99 = quantile(pauses, 0.5) * 1e3, quantile(pauses, 0.99) * 1e3
    said = f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, longest {max(pauses, default=0) * 1e3:.0f} ms ({len(pauses)} moves)"
    return Figure("  pause of a moved actor", said, "p99 <= 250 ms", p99 <= 250)


async def _asking(found: Cluster, asker: NodeProcess) -> None:
    await asked([asker], KEYS)
    await asker.do("asks", keys=list(KEYS), rate=RATE, turn=TURN, limit=LIMIT, tell_every=TELL_EVERY)
    await asyncio.sleep(CALM)


async def _all_handled(found: Cluster) -> list[str]:
    told = await asyncio.gather(*(process.do("handled") for process in found.processes))
    return [call for calls in told for call in calls]


async def restarted(rounds: int, leavers: int = 5) -> Moved:
    """Ask on while each node, or the first ones of them, is replaced by a new one, so many times."""
    moved = Moved()
    async with cluster(5) as found:
        asker = await found.add(hosts=[])
        await _asking(found, asker)
        handled: list[str] = []
        for _ in range(rounds):
            for leaver in found.others(asker)[:leavers]:
                began = time.monotonic()
                replacement = await found.prepared()
                handled += await leaver.left()
                found.drop(leaver)
                await found.join(replacement)
                moved.lasted.append(time.monotonic() - began)
        await asyncio.sleep(CALM)
        told = await asker.do("end_asks", LIMIT + 30)
        asks = moved.add(told, [*handled, *await _all_handled(found)])
    moved.moves = Pauses.of(asks).moves
    return moved


async def joined(rounds: int) -> Moved:
    """Ask on while a sixth node joins; it leaves between the rounds."""
    moved = Moved()
    async with cluster(5) as found:
        asker = await found.add(hosts=[])
        for _ in range(rounds):
            before = await asker.do("locate", keys=list(SHARE_KEYS))
            sixth = await found.prepared()
            handled = await _all_handled(found)
            await _asking(found, asker)
            began = time.monotonic()
            await found.join(sixth)
            settled = time.monotonic()
            await asyncio.sleep(CALM)
            told = await asker.do("end_asks", LIMIT + 30)
            new = Counter(await _all_handled(found)) - Counter(handled)
            pauses = Pauses.of(moved.add(told, list(new.elements())))
            after = await asker.do("locate", keys=list(SHARE_KEYS))
            went = [now for was, now in zip(before, after, strict=True) if was != now]
            moved.shares.append(len(went) / len(SHARE_KEYS))
            moved.astray += sum(1 for now in went if now != sixth.node_id)
            moved.lasted.append(settled - began)
            moved.moves += pauses.moves
            gone = {move.key for move in pauses.moves}
            still = [move for move in pauses.others if move.key not in gone]
            span = settled + 1 - began
            moved.still.append(max(move.pause for move in still if began <= move.at <= began + span))
            moved.calm.append(max(move.pause for move in still if began - span <= move.at < began))
            await sixth.left()
            found.drop(sixth)
            await found.settled()
    return moved
