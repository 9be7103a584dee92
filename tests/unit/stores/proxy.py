"""A proxy before a server, which can cut connections on either side of what the server does."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Cut(enum.Enum):
    """Where the next connection that has something to say is cut."""

    NOWHERE = enum.auto()
    REQUEST = enum.auto()
    """Before the request reaches the server."""
    ANSWER = enum.auto()
    """After the server has answered, before the answer arrives."""


class Proxy:
    """Passes bytes on, until it is told to cut."""

    def __init__(self, port: int) -> None:
        """Stand before a server on the loopback."""
        self.cut = Cut.NOWHERE
        self.cuts = 0
        self.port = 0
        self._server_port = port
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there = await asyncio.open_connection("127.0.0.1", self._server_port)
            ways = [
                asyncio.create_task(self._pass_on(reader, there[1], Cut.REQUEST)),
                asyncio.create_task(self._pass_on(there[0], writer, Cut.ANSWER)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                there[1].close()
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)  # `stop` may cancel this
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, here: Cut) -> None:
        while data := await reader.read(65536):
            if self.cut is here:
                self.cut = Cut.NOWHERE
                self.cuts += 1
                return
            writer.write(data)
            await writer.drain()

    async def stop(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close a step later


@asynccontextmanager
async def proxy_before(port: int) -> AsyncIterator[Proxy]:
    """Run a proxy before a server."""
    proxy = Proxy(port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
