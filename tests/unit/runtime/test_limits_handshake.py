"""Connections that prove nothing: few at a time, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from ringcast import Actor, Node, NodeConfig
from ringcast.discovery.member import Member
from ringcast.discovery.preamble import preamble
from ringcast.runtime.connection import Connection
from ringcast.runtime.greeting import Greeting
from ringcast.security.channels import CLIENTS, CONTROL, LINKS
from tests.unit.runtime.dials import Streams, dial, dial_as, trust_like
from tests.unit.runtime.places import LOCAL, REMOTE, a_place, eventually


class Echo(Actor):
    async def say(self, what: int) -> int:
        return what


@asynccontextmanager
async def half_open(node: Node, channel: bytes, count: int) -> AsyncIterator[list[Streams]]:
    """Open connections that say what they want, and then nothing."""
    streams = [await dial(node) for _ in range(count)]
    for _, writer in streams:
        writer.write(preamble(channel))
    try:
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()


async def hung_up(reader: asyncio.StreamReader) -> None:
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            assert await reader.read(1) == b""


def shaking(node: Node, channel: bytes) -> int:
    """Return how many connections are at their handshake."""
    counts: dict[bytes, Callable[[], int]] = {
        LINKS: lambda: len(list(node._peers._greeting)),
        CLIENTS: lambda: len(list(node._gateway._greeting)),
        CONTROL: lambda: len(node._control._shaking),
    }
    return counts[channel]()


@pytest.mark.parametrize("channel", [LINKS, CLIENTS, CONTROL], ids=["links", "clients", "control"])
async def test_half_open_connections_are_few_and_the_oldest_gives_way(channel: bytes) -> None:
    async with a_place(REMOTE, handshakes_pending=5) as place:
        node = place.owner
        assert await place.node.ref(Echo, "e").say(1) == 1
        async with half_open(node, channel, 12) as streams:
            for reader, _ in streams[:7]:
                await hung_up(reader)
            await eventually(lambda: shaking(node, channel) == 5)
            assert await place.node.ref(Echo, "e").say(2) == 2
            reader, writer = await dial_as(trust_like(node), node, CONTROL)
            writer.close()
        await eventually(lambda: shaking(node, channel) == 0)


async def test_a_handshake_has_its_time() -> None:
    async with a_place(REMOTE, handshake_timeout=0.3) as place:
        for channel in (LINKS, CLIENTS, CONTROL):
            async with half_open(place.owner, channel, 1) as [(reader, _)]:
                await hung_up(reader)
        reader, writer = await dial(place.owner)
        await hung_up(reader)
        writer.close()


async def test_a_flood_of_connections_is_closed_unread() -> None:
    async with a_place(REMOTE, local_handshake_rate=20) as place:
        before = place.owner._membership.stats()["turned_away"]
        async with half_open(place.owner, LINKS, 60) as streams:
            await hung_up(streams[-1][0])
            assert await place.node.ref(Echo, "e").say(1) == 1
            await eventually(lambda: place.owner._membership.stats()["turned_away"] > before)


async def test_a_channel_that_there_is_not_is_counted_and_fills_no_log(capfd: pytest.CaptureFixture[str]) -> None:
    async with a_place(LOCAL) as place:
        capfd.readouterr()
        for _ in range(3):
            reader, writer = await dial(place.node)
            writer.write(preamble(b"Z"))
            await hung_up(reader)
            writer.transport.abort()
        await eventually(lambda: place.node.stats().get("membership_channels_unknown") == 3)
        assert "channel" not in capfd.readouterr().err


async def test_commands_are_few_at_a_time() -> None:
    async with a_place(REMOTE, control_connections=2) as place:
        node = place.owner
        streams = [await dial_as(trust_like(node), node, CONTROL) for _ in range(2)]
        await eventually(lambda: node._control._answering == 2)
        reader, writer = await dial_as(trust_like(node), node, CONTROL)
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert b"control_connections=2" in answer
        for _, other in [*streams, (reader, writer)]:
            other.close()
        await eventually(lambda: node._control._answering == 0)


# ---- who is who --------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class Far(socket.socket):
    """A socket whose other end is somewhere else, as far as it says."""

    host = "192.0.2.1"

    def getpeername(self) -> tuple[str, int]:
        return self.host, 1

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.99", 2


def far(host: str) -> Far:
    made = Far()
    made.host = host
    return made


def test_half_of_the_places_are_for_members() -> None:
    members = {"m": Member("m", "192.0.2.7:1", {}, 1, frozenset(), False)}
    greeting = Greeting(NodeConfig(handshakes_pending=4, handshakes_per_address=1), lambda: members)
    hosts = ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.7", "192.0.2.99", "192.0.2.7"]
    with contextlib.ExitStack() as stack:
        connections = [Connection.__new__(Connection) for _ in hosts]
        for connection, host in zip(connections, hosts, strict=True):
            greeting.add(connection, stack.enter_context(far(host)))
        assert [connection in greeting for connection in connections] == [False, False, False, True, True, True, True]
        assert list(greeting) == connections[3:]
        assert greeting.crowded_out == 3
        greeting.discard(connections[3])
        assert list(greeting) == connections[4:]


def test_one_that_has_hung_up_is_a_stranger(pair: tuple[socket.socket, socket.socket]) -> None:
    greeting = Greeting(NodeConfig(), lambda: {})
    closed = socket.socket()
    greeting.add(Connection.__new__(Connection), closed)
    closed.close()
    assert len(list(greeting)) == 1
