"""The port: whose connections are handed on, and that none is left open."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from ringcast.discovery import port as port_module
from ringcast.discovery.admission import Admission
from ringcast.discovery.port import Port
from ringcast.discovery.preamble import preamble

LIMIT = 5.0


class Entrance:
    """A port on the loopback, and what it handed on."""

    def __init__(self, listener: socket.socket, admission: Admission | None) -> None:
        self.listener = listener
        self.port = Port(listener, self.take, admission)
        self.taken: list[tuple[socket.socket, bytes]] = []
        self._changed = asyncio.Event()

    def take(self, connection: socket.socket, channel: bytes) -> None:
        self.taken.append((connection, channel))
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def knock(self, said: bytes = b"") -> socket.socket:
        connection = socket.create_connection(self.listener.getsockname())
        connection.setblocking(False)
        connection.send(said)
        return connection


@pytest.fixture
def admission() -> Admission | None:
    """What the port is told; a test may say otherwise."""
    return None


@pytest.fixture
async def entrance(admission: Admission | None) -> AsyncIterator[Entrance]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1000)
        listener.setblocking(False)
        here = Entrance(listener, admission)
        here.port.open()
        yield here
        here.port.close()
        for connection, _ in here.taken:
            connection.close()
    gc.collect()  # a socket that was left open would warn now


async def hung_up(connection: socket.socket) -> None:
    async with asyncio.timeout(LIMIT):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.get_running_loop().sock_recv(connection, 1) == b""


async def test_the_channel_decides_and_what_follows_is_left_for_the_taker(entrance: Entrance) -> None:
    with entrance.knock(preamble(b"A") + b"more") as one, entrance.knock(preamble(b"M")):
        await entrance.until(lambda: len(entrance.taken) == 2)
        by_channel = {channel: connection for connection, channel in entrance.taken}
        assert by_channel.keys() == {b"A", b"M"}
        assert not by_channel[b"A"].getblocking()
        assert by_channel[b"A"].recv(10) == b"more"
        assert by_channel[b"A"].getpeername() == one.getsockname()
        assert entrance.port.strangers == 0


async def test_a_preamble_may_come_in_pieces(entrance: Entrance) -> None:
    loop = asyncio.get_running_loop()
    with entrance.knock() as connection:
        for byte in preamble(b"M"):
            assert entrance.taken == []
            await loop.sock_sendall(connection, bytes([byte]))
            await asyncio.sleep(0)
        await entrance.until(lambda: len(entrance.taken) == 1)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n", b"\0" * 8, b"RCST\x02M\0\0", b"RCST\x01M\0\1"])
async def test_who_says_something_else_is_closed(entrance: Entrance, said: bytes) -> None:
    with entrance.knock(said) as connection:
        await hung_up(connection)
        assert (entrance.taken, entrance.port.strangers) == ([], 1)


async def test_who_ends_before_it_has_said_enough_is_closed(entrance: Entrance) -> None:
    with entrance.knock(b"RCST") as connection:
        connection.shutdown(socket.SHUT_WR)
        await hung_up(connection)
        assert entrance.port.strangers == 1


@pytest.mark.parametrize("admission", [Admission(timeout=0.05)])
async def test_without_a_descriptor_left_it_tries_again_a_little_later(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(port_module, "_ACCEPT_PAUSE", 0.01)
    refusals = [OSError(errno.EMFILE, "too many"), OSError(errno.EMFILE, "too many"), ConnectionAbortedError()]
    accept = socket.socket.accept

    def scarce(listener: socket.socket) -> tuple[socket.socket, object]:
        if refusals:
            raise refusals.pop(0)
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", scarce)
    with entrance.knock(preamble(b"M")):
        await entrance.until(lambda: len(entrance.taken) == 1)
    assert refusals == []


@pytest.mark.parametrize("steps", range(4))
async def test_it_may_be_closed_at_any_step_and_leaves_nothing_open(entrance: Entrance, steps: int) -> None:
    with entrance.knock(b"RC"):
        for _ in range(steps):
            await asyncio.sleep(0)
        entrance.port.close()
        assert entrance.port._pending == {}
        gc.collect()  # a socket that was left open would warn now
        entrance.port.open()


@pytest.mark.parametrize("admission", [Admission(local_rate=3)])
async def test_more_than_its_ration_is_closed_unread(entrance: Entrance) -> None:
    with contextlib.ExitStack() as stack:
        knocks = [stack.enter_context(entrance.knock(preamble(b"M"))) for _ in range(8)]
        await entrance.until(lambda: len(entrance.taken) == 6)
        for late in knocks[6:]:
            await hung_up(late)
        assert (entrance.port.turned_away, entrance.port.strangers) == (2, 0)


@pytest.mark.parametrize("admission", [Admission(pending=4)])
async def test_members_get_in_while_a_stranger_floods(entrance: Entrance, monkeypatch: pytest.MonkeyPatch) -> None:
    """All come from the loopback here; whether one counts as a stranger is said for it."""
    is_near = [False] * 10 + [True]
    monkeypatch.setattr(Port, "_is_near", lambda *_: is_near.pop(0) if is_near else False)  # pyright: ignore
    with contextlib.ExitStack() as stack:
        flood = [stack.enter_context(entrance.knock()) for _ in range(10)]
        member = stack.enter_context(entrance.knock(b"RCST"))
        for stranger in flood[:8]:
            await hung_up(stranger)
        flood += [stack.enter_context(entrance.knock()) for _ in range(4)]
        await hung_up(flood[8])
        member.send(preamble(b"M")[4:])
        await entrance.until(lambda: len(entrance.taken) == 1)
