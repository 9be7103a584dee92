"""A store that a test can hold up, take away, or make lose its answers."""

from __future__ import annotations

import asyncio
import contextvars
import enum

from ringcast.errors import NOT_SENT, StoreError
from ringcast.runtime.stores import Claim, Claimed, MemoryStore, Outcome, Told, Write, Written


class Trouble(enum.Enum):
    """What happens to the next writes."""

    REFUSED = enum.auto()
    """It is surely not written."""
    LOST = enum.auto()
    """It does not arrive, and nobody knows."""
    UNANSWERED = enum.auto()
    """It is written, and nobody knows."""


class TroubledStore(MemoryStore):
    """A store in memory with troubles. Writes take the next of `troubles` each; without one they succeed.

    Attributes:
        is_away: Whether nothing at all can be done.
        troubles: What happens to the next writes.
        gate: What writes wait for, before they arrive.
        writes: The writes that arrived or were lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.troubles: list[Trouble] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.writes: list[Write] = []
        self.writing = asyncio.Event()
        """Set when a write has come to the gate."""

    async def open(self) -> str:
        self._check()
        return await super().open()

    async def claim(self, claim: Claim) -> Claimed | None:
        self._check()
        return await super().claim(claim)

    async def write(self, write: Write) -> Written:
        self._check()
        self.writing.set()
        await self.gate.wait()
        self.writes.append(write)
        match self.troubles.pop(0) if self.troubles else None:
            case Trouble.REFUSED:
                raise StoreError("the disk is full", certainty=NOT_SENT)
            case Trouble.LOST:
                return Written(Outcome.UNKNOWN, "the connection ended")
            case Trouble.UNANSWERED:
                await super().write(write)
                return Written(Outcome.UNKNOWN, "the connection ended")
            case None:
                return await super().write(write)

    async def reply(self, id: str, key: str, now: float) -> bytes | None:
        self._check()
        return await super().reply(id, key, now)

    async def due(self, before: float, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        self._check()
        return await super().due(before, after, limit)

    def _check(self) -> None:
        if self.is_away:
            raise StoreError("the store is away", certainty=NOT_SENT)


class PromptTroubledStore(TroubledStore):
    """One with the same troubles, which begins writes without a task of whoever writes."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, write: Write, told: Told[Written], /) -> None:
        task = asyncio.get_running_loop().create_task(self._tell(write, told), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, write: Write, told: Told[Written]) -> None:
        try:
            written = await self.write(write)
        except StoreError as error:
            told(None, error)
        else:
            told(written, None)
