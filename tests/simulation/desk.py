"""An actor before which people queue: few may wait, and who reads from it may be slow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ringcast import Actor

from .ledger import begin, handled

__all__ = ["PLACES", "Desk"]

PLACES = 8


class Desk(Actor, mailbox=PLACES):
    """Serves one after the other."""

    async def note(self, number: int, pause: float) -> None:
        begin(self)
        handled(number)
        await asyncio.sleep(pause)

    async def serve(self, pause: float) -> str:
        effect = begin(self)
        await asyncio.sleep(pause)
        return effect

    async def hand_out(self, count: int) -> AsyncIterator[int]:
        """Hand numbers out, as fast as they are taken; nobody else is served meanwhile."""
        begin(self)
        for number in range(count):
            yield number
