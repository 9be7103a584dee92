"""A store that simulated nodes share: it is slow, refuses, leaves outcomes open, and writes down all that it does.

What it does is judged by `Rows`, from the store's own history: which claims and writes took effect, in which order.

References:
    docs of the protocol: "Claims and writes".
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from dataclasses import dataclass

from ringcast.errors import NOT_SENT, StoreError

from ..stores import Claim, Claimed, MemoryStore, Outcome, Told, Write, Written
from .checkers import Checker
from .world import World

__all__ = ["Rows", "SimulatedStore", "Weather"]


@dataclass(frozen=True, slots=True)
class Weather:
    """How a store is.

    Attributes:
        delay: Seconds that it takes for anything, at most.
        refuses: How often it refuses: nothing has happened then.
        unanswered: How often nobody hears what became of a write: half of these have taken effect, a quarter does so
            within `late` seconds, and the others never do.
        late: Seconds until a write takes effect that is still on its way; its sender may be dead by then.
    """

    delay: float = 0.001
    refuses: float = 0.0
    unanswered: float = 0.0
    late: float = 4.0


class SimulatedStore(MemoryStore):
    """See `Store`. One for all nodes of a simulation; it outlives them."""

    def __init__(self, world: World, seed: int | str) -> None:
        """Be empty, and in good weather."""
        super().__init__("simulated")
        self.weather = Weather()
        self.rows = Rows()
        self._world = world
        self._rng = random.Random(f"{seed} store")
        self._under_way: list[tuple[float, Write]] = []
        self._telling: set[asyncio.Task[None]] = set()

    async def claim(self, claim: Claim) -> Claimed | None:
        """See `Store`."""
        await self._reach()
        claimed = await super().claim(claim)
        if claimed is not None:
            self.rows.claimed(self._world.now, claim, claimed.ver)
        return claimed

    async def write(self, write: Write) -> Written:
        """See `Store`."""
        await self._reach()
        if self._rng.random() >= self.weather.unanswered:
            return await self._write(write)
        fate = self._rng.random()
        if fate < 0.5:
            await self._write(write)
        elif fate < 0.75:
            self._under_way.append((self._world.now + self._rng.uniform(0, self.weather.late), write))
        return Written(Outcome.UNKNOWN, "the story has it unanswered")

    def begin(self, write: Write, told: Told[Written], /) -> None:
        """See `PromptStore`; it ends with the process that has begun it."""
        task = asyncio.get_running_loop().create_task(self._tell(write, told), context=contextvars.Context())
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, write: Write, told: Told[Written]) -> None:
        try:
            written = await self.write(write)
        except StoreError as error:
            told(None, error)
        else:
            told(written, None)

    async def reply(self, id: str, key: str, now: float) -> bytes | None:
        """See `Store`."""
        await self._reach()
        return await super().reply(id, key, now)

    async def _write(self, write: Write) -> Written:
        before = self._version_of(write.id)
        written = await super().write(write)
        if self._version_of(write.id) != before:
            self.rows.wrote(self._world.now, write, self._version_of(write.id))
        return written

    def _version_of(self, row: str) -> int:
        found = self._rows.get(row)
        return 0 if found is None else found.ver

    async def _reach(self) -> None:
        """Take the time that the way to the store takes; what was under way arrives meanwhile."""
        await asyncio.sleep(self._rng.uniform(0, self.weather.delay))
        arrived = [write for at, write in self._under_way if at <= self._world.now]
        self._under_way = [(at, write) for at, write in self._under_way if at > self._world.now]
        for write in arrived:
            await self._write(write)
        if self._rng.random() < self.weather.refuses:
            raise StoreError("the store is away, as the story has it", certainty=NOT_SENT)


class Rows(Checker):
    """The history of a store: versions grow by one; only the newest claim's activation writes; no write is there twice.

    An activation's writes have in common all but the last six bytes of their `op_id`.
    """

    def __init__(self) -> None:
        """Have seen nothing."""
        super().__init__()
        self.claims = self.writes = 0
        self._versions: dict[str, int] = {}
        self._owners: dict[str, bytes | None] = {}
        """By row: whose writes have followed the newest claim."""
        self._past: dict[str, set[bytes]] = {}
        """By row: whose writes came before it."""
        self._seen: set[tuple[str, bytes]] = set()

    def claimed(self, now: float, claim: Claim, ver: int) -> None:
        """A claim has taken effect."""
        self.claims += 1
        self._grows(now, claim.id, ver)
        owner = self._owners.get(claim.id)
        if owner is not None:
            self._past.setdefault(claim.id, set()).add(owner)
        self._owners[claim.id] = None

    def wrote(self, now: float, write: Write, ver: int) -> None:
        """A write has taken effect."""
        self.writes += 1
        self._grows(now, write.id, ver)
        if ver != write.ver + 1:
            what = f"{write.id} had version {ver - 1}, and a write over {write.ver} took effect"
            self.objections.append(f"{now:.6f}: {what}")
        if (write.id, write.op_id) in self._seen:
            self.objections.append(f"{now:.6f}: version {ver} of {write.id} is a write that was there before")
        self._seen.add((write.id, write.op_id))
        writer, owner = write.op_id[:10], self._owners.get(write.id)
        if writer in self._past.get(write.id, ()) or owner not in (None, writer):
            self.objections.append(f"{now:.6f}: version {ver} of {write.id} is by an activation that is not the newest")
        self._owners[write.id] = writer

    def _grows(self, now: float, row: str, ver: int) -> None:
        before = self._versions.get(row, 0)
        if ver != before + 1:
            self.objections.append(f"{now:.6f}: {row} goes from version {before} to {ver}")
        self._versions[row] = ver
