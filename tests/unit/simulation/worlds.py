"""Running the same coroutine on the real network and on the simulated one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from ringcast.discovery.sockets import bind
from ringcast.runtime.simulation import Simulation

T = TypeVar("T")

Run = Callable[[Callable[[], Coroutine[Any, Any, T]]], T]


def really(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(main())


def simulated(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it in a process of a simulated machine; `bind` and `socket` stand for the simulated ones in this module."""

    async def story(sim: Simulation) -> T:
        process = sim.machine("here").boot()
        return await process.spawn(main())

    return Simulation(1, modules=[__name__]).run(story)


both = pytest.mark.parametrize("run", [really, simulated])


class Port:
    """A listening socket, and the connections that were accepted from it."""

    def __init__(self) -> None:
        self.bound = bind("127.0.0.1:0")

    @property
    def address(self) -> tuple[str, int]:
        return (str(self.bound.tcp.getsockname()[0]), int(self.bound.tcp.getsockname()[1]))

    async def accept(self) -> socket.socket:
        connection, _ = await asyncio.get_running_loop().sock_accept(self.bound.tcp)
        connection.setblocking(False)
        return connection

    def close(self) -> None:
        self.bound.close()


def new_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


class Noting(asyncio.Protocol):
    """Notes what its transport tells it."""

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.told: list[str] = []
        self.data = b""
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._keeps_open = keeps_open
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._note("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._note("data")

    def eof_received(self) -> bool:
        self._note("eof")
        return self._keeps_open

    def pause_writing(self) -> None:
        self._note("pause")

    def resume_writing(self) -> None:
        self._note("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self._note("lost")
        if not self.lost.done():
            self.lost.set_result(exc)

    def _note(self, what: str) -> None:
        if self.told[-1:] != ["data"] or what != "data":
            self.told.append(what)
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


async def connected(port: Port, server: Noting, client: Noting) -> tuple[asyncio.Transport, asyncio.Transport]:
    """Return the two transports of one connection, the server's first."""
    loop = asyncio.get_running_loop()
    dialling = asyncio.create_task(loop.create_connection(lambda: client, *port.address))
    there, _ = await loop.connect_accepted_socket(lambda: server, await port.accept())
    here, _ = await dialling
    return there, here
