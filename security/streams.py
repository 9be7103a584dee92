"""Asyncio's streams over a `Tunnel`, for conversations where speed does not matter.

Either function returns once both ends are verified; who is there is for `Trust.peer` to say. Limits of
time are the caller's: when it is cancelled meanwhile nothing stays open.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from .tunnel import Tunnel

__all__ = ["accepted", "dialled"]


class _Inside(asyncio.StreamReaderProtocol):
    """The protocol of a stream, which also says when the tunnel is open."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self.reader = reader
        self.opened: asyncio.Future[asyncio.WriteTransport] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.WriteTransport)
        if not self.opened.done():
            self.opened.set_result(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.opened.done():
            self.opened.set_exception(exc or ConnectionAbortedError("closed at once"))
            self.opened.exception()  # whoever was cancelled meanwhile does not ask any more

    async def streams(self, raw: asyncio.BaseTransport) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return the streams once the tunnel is open; close everything if it does not open."""
        try:
            transport = await self.opened
        except BaseException as error:
            if not isinstance(error, OSError):  # else the tunnel still lets the other end hear why
                assert isinstance(raw, asyncio.WriteTransport)
                raw.abort()
            raise
        return self.reader, asyncio.StreamWriter(transport, self, self.reader, asyncio.get_running_loop())


async def dialled(
    host: str, port: int, context: ssl.SSLContext | None, prologue: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the streams of a connection to there.

    Args:
        host: A name or an address.
        port: Where it listens.
        context: Of `Trust.dialling`; None for a connection in clear.
        prologue: Is sent in clear, ahead of TLS.

    Raises:
        OSError: If nobody is there, or the handshake failed; see `explained`.
    """
    inside = _Inside(asyncio.StreamReader())
    protocol = inside if context is None else Tunnel(context, inside, prologue=prologue)
    raw, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, host, port)
    reader, writer = await inside.streams(raw)
    if context is None:
        writer.write(prologue)
    return reader, writer


async def accepted(
    connection: socket.socket, context: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return the streams of a connection that another has dialled.

    Args:
        connection: Non-blocking; is closed with the streams, or if this raises.
        context: Of `Trust.serving`; None for a connection in clear.

    Raises:
        OSError: If the handshake failed; see `explained`.
    """
    inside = _Inside(asyncio.StreamReader())
    protocol = inside if context is None else Tunnel(context, inside, is_server=True)
    try:
        raw, _ = await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, connection)
    except BaseException:
        connection.close()
        raise
    return await inside.streams(raw)
