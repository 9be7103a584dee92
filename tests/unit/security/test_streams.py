"""Streams over a tunnel: opened by both ends or by none, and never left open."""

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ringcast.security.channels import CONTROL
from ringcast.security.material import FromSecret
from ringcast.security.secret import Key, Secret, new_key
from ringcast.security.streams import accepted, dialled
from ringcast.security.trust import Trust

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
KEY, OTHER = new_key(1.0), new_key(2.0)


def trust(*keys: Key) -> Trust:
    return Trust(FromSecret(Secret(keys or (KEY,)).render().encode(), None), "shop")


@asynccontextmanager
async def door() -> AsyncIterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        async with asyncio.timeout(10):
            yield listener


def address(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()
    return host, port


async def opened(listener: socket.socket, context: ssl.SSLContext | None) -> Streams:
    connection, _ = await asyncio.get_running_loop().sock_accept(listener)
    connection.setblocking(False)
    assert await asyncio.get_running_loop().sock_recv(connection, 4) == b"hey!"
    return await accepted(connection, context)


@pytest.mark.parametrize("is_encrypted", [True, False])
async def test_what_is_said_arrives_after_the_prologue(is_encrypted: bool) -> None:
    ours = trust()
    dialling = ours.dialling(CONTROL) if is_encrypted else None
    serving = ours.serving(CONTROL) if is_encrypted else None
    async with door() as listener:
        (reader, writer), (their_reader, their_writer) = await asyncio.gather(
            dialled(*address(listener), dialling, b"hey!"), opened(listener, serving)
        )
        if is_encrypted:
            for end in (writer, their_writer):
                assert ours.peer(end.get_extra_info("ssl_object"), CONTROL).name == ours.node_id
        writer.write(b"hello")
        assert await their_reader.readexactly(5) == b"hello"
        their_writer.write(b"goodbye")
        their_writer.close()
        assert await reader.read() == b"goodbye"
        writer.close()
        await writer.wait_closed()


async def test_both_ends_hear_why_a_handshake_failed() -> None:
    async with door() as listener:
        dialling = dialled(*address(listener), trust(OTHER).dialling(CONTROL), b"hey!")
        accepting = opened(listener, trust().serving(CONTROL))
        dialler, acceptor = await asyncio.gather(dialling, accepting, return_exceptions=True)
    assert isinstance(dialler, ssl.SSLCertVerificationError)
    assert isinstance(acceptor, ssl.SSLError)
    assert "UNKNOWN_CA" in str(acceptor)


async def test_who_is_believed_by_the_dialler_only_is_told_at_the_first_word() -> None:
    async with door() as listener:
        accepting = asyncio.create_task(opened(listener, trust().serving(CONTROL)))
        reader, writer = await dialled(*address(listener), trust(OTHER, KEY).dialling(CONTROL), b"hey!")
        with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
            await reader.read()
        with pytest.raises(ssl.SSLCertVerificationError):
            await accepting
        writer.close()


async def test_who_is_cancelled_in_the_handshake_leaves_nothing_open() -> None:
    async with door() as listener:
        host, port = address(listener)
        context = trust().dialling(CONTROL)
        dialling = asyncio.create_task(dialled(host, port, context, b"hey!"))
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        with connection:
            connection.setblocking(False)
            assert await asyncio.get_running_loop().sock_recv(connection, 4)
            dialling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dialling
            with contextlib.suppress(ConnectionResetError):  # as good as an orderly end
                while await asyncio.get_running_loop().sock_recv(connection, 4096):
                    pass
    gc.collect()  # what was left open would be warned about, and warnings are errors


async def test_nobody_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        host, port = address(closed)
    with pytest.raises(ConnectionRefusedError):
        await dialled(host, port, trust().dialling(CONTROL), b"hey!")
