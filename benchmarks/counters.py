"""The actors that are measured, in a module of their own so that both processes import them."""

from __future__ import annotations

from ringcast import Actor

from .workloads import Payload


class Simple(Actor):
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


class General(Simple):
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


HANDLERS: dict[str, type[Simple]] = {"simple": Simple, "general": General}
