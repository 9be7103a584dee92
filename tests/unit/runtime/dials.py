"""Connections to a node that are made by hand: past the membership, and past what a peer would send."""

from __future__ import annotations

import asyncio
import socket

from ringcast import Node
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.security.trust import Trust

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def trust_like(node: Node, node_id: str = "stranger") -> Trust:
    """Return what a further node of the same cluster and user would present."""
    return Trust.found(None, node.cluster, node_id=node_id)


async def dial(node: Node) -> Streams:
    """Open a connection that has said nothing yet."""
    return await asyncio.open_connection(*split_address(node.address))


async def dial_as(trust: Trust, node: Node, channel: bytes) -> Streams:
    """Open a connection for a channel, TLS done.

    Raises:
        OSError: If the node refuses it at once.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, split_address(node.address))
        await loop.sock_sendall(sock, preamble(channel))
        context = trust.dialling(channel)
        return await asyncio.open_connection(sock=sock, ssl=context, server_hostname=None if context is None else "")
    except BaseException:
        sock.close()
        raise


async def rest_of(reader: asyncio.StreamReader) -> bytes:
    """Return what comes until the node closes."""
    async with asyncio.timeout(8):
        try:
            return await reader.read()
        except OSError:
            return b""
