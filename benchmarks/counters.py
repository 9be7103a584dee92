"""The actors that are measured, in a module of their own so that both processes import them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from ringcast import Actor, Ref

from .workloads import Payload


class Simple(Actor, expose=True):
    """Handlers that cannot suspend: a runtime may step them where they stand."""

    def __init__(self) -> None:
        self._handled: int = 0

    async def inc(self, message: object) -> None:
        self._handled += 1

    async def echo(self, message: int) -> int:
        return message

    async def echo_id(self, message: Payload) -> int | str:
        return message["id"]

    async def size(self, data: bytes) -> int:
        return len(data)

    async def count(self) -> int:
        return self._handled


class General(Simple, expose=True):
    """The same with an `await` in each handler, as nearly every real one has."""

    async def _nothing(self) -> None:
        return

    async def inc(self, message: object) -> None:
        await self._nothing()
        self._handled += 1

    async def echo(self, message: int) -> int:
        await self._nothing()
        return message

    async def echo_id(self, message: Payload) -> int | str:
        await self._nothing()
        return message["id"]

    async def size(self, data: bytes) -> int:
        await self._nothing()
        return len(data)

    async def count(self) -> int:
        await self._nothing()
        return self._handled


class Pausing(Actor):
    """A handler that suspends once, until the loop's next tick."""

    async def echo_id(self, message: Payload) -> int | str:
        await asyncio.sleep(0)
        return message["id"]


class Front(Actor):
    """An actor that asks another before it answers."""

    async def echo_id(self, behind: Ref[Simple], message: Payload) -> int | str:
        return await behind.echo_id(message)


class Source(Actor):
    """A streamed reply."""

    async def numbers(self, count: int) -> AsyncIterator[int]:
        for i in range(count):
            yield i


HANDLERS: dict[str, type[Simple]] = {"simple": Simple, "general": General}
