"""A member that was taken over: what a connection takes of it, and for how long."""

from __future__ import annotations

import asyncio
import itertools
import struct
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest

from ringcast import Actor, Node, NodeConfig
from ringcast.discovery.packed import SHORT, SMALL
from ringcast.runtime import connection as connections
from ringcast.runtime import wire
from ringcast.runtime.connection import LONG_LISTS, MAX_HELLO, Bulk
from ringcast.runtime.extensions import Code
from ringcast.runtime.link import Link
from ringcast.security.channels import LINKS
from tests.unit.runtime.dials import dial_as, rest_of, trust_like
from tests.unit.runtime.places import LOCAL, Place, a_place, eventually, gates

_msgpack: Any = msgpack  # it has no types
PEER = "stranger"
_dials = itertools.count(1)


class Echo(Actor):
    async def say(self, what: Any) -> Any:
        return what

    async def make(self, size: int) -> bytes:
        return b"x" * size

    async def note(self, what: int) -> Any:
        gates.seen.append((self.context.key, what))
        return self.context.key


ECHO = f"{__name__}:Echo"


def packed(*frames: object) -> bytes:
    return b"".join(_msgpack.packb(frame) for frame in frames)


def batch(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


def piece(number: int, data: bytes) -> bytes:
    return struct.pack("!II", wire.PIECE_BIT | (len(data) + 4), number) + data


@dataclass
class Rogue:
    """A peer that has shaken hands, and then says what the test says."""

    node: Node
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def link(self) -> Link:
        return self.node._peers.link(PEER)

    def say(self, *frames: object) -> None:
        self.writer.write(batch(packed(*frames)))

    def define(self) -> None:
        """Let 1 and 2 be the messages `say` and `make`."""
        self.say(*([wire.DEFINE, n, ECHO, name, False, None] for n, name in ((1, "say"), (2, "make"))))

    async def answer(self) -> list[Any]:
        """Return the next frame that is about a call, and forget what came in the same batch."""
        return (await self.answers(1))[0]

    async def answers(self, count: int) -> list[list[Any]]:
        """Return so many frames that are about calls, and what came in the same batch as the last of them."""
        found: list[list[Any]] = []
        async with asyncio.timeout(5):
            while len(found) < count:
                (size,) = struct.unpack("!I", await self.reader.readexactly(4))
                unpacker = _msgpack.Unpacker()
                unpacker.feed(await self.reader.readexactly(size))
                found += [list(frame) for frame in unpacker if frame[0] in (wire.REPLY, wire.ERROR)]
        return found

    async def cut_off(self) -> str:
        """Return why the node has closed the connection."""
        async with asyncio.timeout(8):
            await rest_of(self.reader)
            await eventually(lambda: not self.link.is_up)
            return self.link.trouble


@asynccontextmanager
async def rogue(node: Node) -> AsyncIterator[Rogue]:
    """Shake hands as a member would; this is the one place that knows how."""
    reader, writer = await dial_as(trust_like(node, PEER), node, LINKS)
    hello = node._peers._hello(node.id)
    writer.write(batch(packed({**hello, "node": PEER, "to_incarnation": 0, "dials": next(_dials)})))
    (size,) = struct.unpack("!I", await reader.readexactly(4))
    assert _msgpack.unpackb(await reader.readexactly(size))["node"] == node.id
    try:
        yield Rogue(node, reader, writer)
    finally:
        writer.transport.abort()


async def alive(node: Node) -> None:
    """Fail if the node's other work has suffered."""
    async with asyncio.timeout(2):
        assert await node.ref(Echo, "other").say(1) == 1


# ---- frames ----------------------------------------------------------------------------------------


async def test_what_is_right_is_answered(here: Place) -> None:
    async with rogue(here.node) as peer:
        peer.define()
        peer.say([wire.REQUEST, 7, 1, "k", 5000, 1, ["a", 1]])
        assert await peer.answer() == [wire.REPLY, 7, ["a", 1]]


SHORT_LIST = b"\xdc\x00\x7f"
HUGE = b"\xdd\x00\xf0\x00\x00"
NONE: list[Any] = []
WRONG = {
    "a batch that is too large": struct.pack("!I", wire.MAX_BATCH + 1),
    "claims": batch(HUGE * 1000),
    "claims in a small batch": batch(HUGE * 3),
    "claims behind frames": batch(packed(*[[wire.MOVED, 0, "x", 1]] * 50) + HUGE * 50),
    "claims of short lists": batch(packed([wire.MOVED, 0, "x", 1]) + SHORT_LIST * 1000),
    "an unfinished frame behind many": batch(packed(*[[wire.MOVED, 0, "x", 1]] * 300) + b"\x95\x01"),
    "an unfinished frame": batch(packed([wire.MOVED, 0, "x", 1]) + b"\x95\x01"),
    "no frame": batch(packed(5)),
    "an empty frame": batch(packed(NONE)),
    "a frame of another kind": batch(packed(["x"])),
    "an unknown message": batch(packed([wire.TELL, 99, "k", 1])),
    "a dict as a key": batch(packed([wire.REQUEST, 1, 1, dict(NONE), 1, 1])),
    "a limit that overflows": batch(packed([wire.REQUEST, 1, 1, "k", "soon", 1])),
    "an ACK of nothing": batch(packed([wire.ACK, 1 << 20])),
    "a negative ACK": batch(packed([wire.ACK, -5])),
    "a piece of nothing": piece(5, b"data"),
    "a large message without parts": batch(packed([wire.BULK, 1, NONE])),
    "a large message of nothing": batch(packed([wire.BULK, 1, [0, 0]])),
    "a large message of less": batch(packed([wire.BULK, 1, [5, -3]])),
    "a large message of text": batch(packed([wire.BULK, 1, ["a"]])),
    "a large message of many parts": batch(packed([wire.BULK, 1, [1] * 10_001])),
    "a large message too large": batch(packed([wire.BULK, 1, [1 << 40]])),
    "one number twice": batch(packed([wire.BULK, 1, [10]], [wire.BULK, 1, [10]])),
    "a piece too long": batch(packed([wire.BULK, 1, [10]])) + piece(1, b"x" * 11),
    "many large messages": batch(packed(*([wire.BULK, n, [10]] for n in range(wire.BULKS + 1)))),
    "large messages of too much": batch(packed([wire.BULK, 1, [60 << 20]], [wire.BULK, 2, [60 << 20]])),
    "a large message of claims": batch(packed([wire.BULK, 1, [5000]])) + piece(1, HUGE * 1000),
    "a name that is too long": batch(packed([wire.DEFINE, 9, "m:" + "x" * 300, "say", False, None])),
    "a method that is too long": batch(packed([wire.DEFINE, 9, ECHO, "x" * 300, False, None])),
    "a name that is none": batch(packed([wire.DEFINE, 9, 5, "say", False, None])),
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_is_wrong_ends_the_connection_and_costs_little(here: Place, what: str) -> None:
    node = here.node
    await alive(node)
    async with rogue(node) as peer:
        peer.define()
        peer.say([wire.REQUEST, 7, 1, "k", 5000, 1, "a"])
        await peer.answer()
        tracemalloc.start()
        try:
            peer.writer.write(WRONG[what])
            why = await peer.cut_off()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert "no frame" in why
        assert peak < 2 << 20
    assert node.stats()["in_flight_bytes"] == 0
    await alive(node)


@pytest.mark.parametrize("size", [SHORT - 1, SHORT, SHORT + 1, SHORT * 4])
async def test_lists_of_any_length_arrive_in_order(here: Place, size: int) -> None:
    items = list(range(size))
    async with rogue(here.node) as peer:
        peer.define()
        for start in range(0, 3 * LONG_LISTS * 3, 3):
            peer.say(
                [wire.REQUEST, start, 1, "k", 5000, 1, "x" * SMALL],
                [wire.REQUEST, start + 1, 1, "k", 5000, 1, items],
                [wire.REQUEST, start + 2, 1, "k", 5000, 1, 0xDCDC],
            )
            assert await peer.answers(3) == [
                [wire.REPLY, start, "x" * SMALL],
                [wire.REPLY, start + 1, items],
                [wire.REPLY, start + 2, 0xDCDC],
            ]


@pytest.mark.parametrize("cancelled", [False, True])
async def test_messages_for_several_actors_mixed_reach_each_in_order(here: Place, cancelled: bool) -> None:
    tells, asks = ([wire.TELL, 3, "a", 1], [wire.REQUEST, 9, 3, "b", 5000, 1])
    async with rogue(here.node) as peer:
        peer.say([wire.DEFINE, 3, ECHO, "note", False, None])
        for key in ("a", "b"):
            peer.say([wire.REQUEST, 1, 3, key, 5000, 1, 0])
            assert await peer.answer() == [wire.REPLY, 1, key]
        if cancelled:  # of a call that is still to come, so that each request has to be looked at
            peer.say([wire.CANCEL, 77, 3, "a", False])
        gates.seen.clear()
        frames = [asks, asks, tells, tells, asks, asks, tells, asks, tells, tells, asks, tells]
        peer.say(*([*frame, number] for number, frame in enumerate(frames)))
        await eventually(lambda: len(gates.seen) >= len(frames))
        for key, kind in (("a", tells), ("b", asks)):
            numbers = [number for number, frame in enumerate(frames) if frame is kind]
            assert [what for seen, what in gates.seen if seen == key] == numbers


async def test_a_value_that_cannot_be_decoded_costs_those_around_it_nothing(here: Place) -> None:
    unknown = msgpack.ExtType(Code.DATACLASS, packed(["nowhere:Nothing", 1]))
    async with rogue(here.node) as peer:
        peer.define()
        peer.say(
            [wire.REQUEST, 1, 1, "k", 5000, 1, "x" * SMALL],
            [wire.REQUEST, 2, 1, "k", 5000, 1, unknown],
            [wire.REQUEST, 3, 1, "k", 5000, 1, "y"],
        )
        answers = {answer[1]: answer for answer in await peer.answers(3)}
        assert answers[1] == [wire.REPLY, 1, "x" * SMALL]
        assert answers[2][0] == wire.ERROR
        assert answers[3] == [wire.REPLY, 3, "y"]


async def test_a_hello_is_short_and_builds_nothing_of_claims(here: Place) -> None:
    for data in (
        struct.pack("!I", MAX_HELLO + 1),
        batch(HUGE * 3000),
        batch(b"\x91" * 100 + b"\0"),
        batch(b"\x80" * 2),
    ):
        reader, writer = await dial_as(trust_like(here.node, PEER), here.node, LINKS)
        tracemalloc.start()
        try:
            writer.write(data)
            await rest_of(reader)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        writer.close()
        assert peak < 1 << 20
    await alive(here.node)


async def test_messages_that_a_peer_defines_are_bounded(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "DEFINITIONS", 3)
    async with rogue(here.node) as peer:
        peer.define()
        peer.say([wire.DEFINE, 3, ECHO, "more", False, None], [wire.DEFINE, 4, ECHO, "and more", False, None])
        assert "defined 3 messages" in await peer.cut_off()


async def test_a_frame_that_never_came_whole_spoils_no_other_peers(there: Place) -> None:
    async with rogue(there.owner) as peer:
        peer.define()
        undecodable = _msgpack.packb(_msgpack.ExtType(2, b"\x00"))
        peer.writer.write(batch(b"\x97\x01\x07\x01\xa1k\xcd\x13\x88\x01" + undecodable[:-1]))
        peer.writer.write(batch(b"\x98\x01\x07\x01\xa1k\xcd\x13\x88\x01" + undecodable))
        await peer.cut_off()
        assert await there.node.ref(Echo, "e").say(1) == 1
        assert there.node.stats()["links_up"] == 1


# ---- large messages --------------------------------------------------------------------------------


def test_a_claimed_length_allocates_nothing() -> None:
    tracemalloc.start()
    bulk = Bulk([1 << 40, 1 << 40])
    bulk.take(memoryview(b"x" * 1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 65536
    assert bulk.missing == (2 << 40) - 1000


async def test_a_large_message_counts_while_it_comes_and_no_more_when_its_peer_is_gone(here: Place) -> None:
    async with rogue(here.node) as peer:
        peer.define()
        frame = packed([wire.REQUEST, 7, 1, "k", 5000, 1, "x" * 100_000])
        peer.say([wire.BULK, 1, [len(frame)]])
        peer.say([wire.BULK, 2, [5_000_000]])
        await eventually(lambda: here.node.stats()["in_flight_bytes"] == len(frame) + 5_000_000)
        peer.writer.write(piece(1, frame))
        await eventually(lambda: here.node.stats()["in_flight_bytes"] == 5_000_000)
        peer.writer.write(piece(2, b"x" * 1000))
    await eventually(lambda: here.node.stats()["in_flight_bytes"] == 0)


async def test_large_messages_take_turns_at_their_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_place("remote", link_in_flight_bytes=300_000) as place:
        most = 0
        expect = connections.Connection.expect

        def counted(self: connections.Connection, number: int, lengths: list[int]) -> None:
            nonlocal most
            expect(self, number, lengths)
            most = max(most, sum(bulk.size for bulk in self._incoming.values()))

        monkeypatch.setattr(connections.Connection, "expect", counted)
        bodies = [b"x" * size for size in (100_000, 250_000, 400_000) * 15]
        answers = await asyncio.gather(*(place.node.ref(Echo, n).say(body) for n, body in enumerate(bodies)))
        assert answers == bodies
        assert 250_000 < most < 410_000


# ---- silence ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "begun",
    [b"\0", struct.pack("!I", 100), batch(packed([wire.MOVED, 0, "x", 1]))[:-1], batch(packed([wire.BULK, 1, [100]]))],
    ids=["half a length", "a length", "half a frame", "a large message"],
)
async def test_half_a_frame_is_not_waited_for(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "GRACE", 0.05)
    async with a_place(LOCAL, half_frame_timeout=0.2) as place, rogue(place.node) as peer:
        peer.define()
        await asyncio.sleep(0)
        peer.writer.write(begun)
        assert "stopped in the middle of a frame" in await peer.cut_off()


async def test_who_is_slow_or_silent_between_frames_is_not_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "GRACE", 0.02)
    async with a_place(LOCAL, half_frame_timeout=0.2) as place, rogue(place.node) as peer:
        peer.define()
        for byte in batch(packed([wire.REQUEST, 7, 1, "k", 5000, 1, "slowly"])):
            peer.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
        assert await peer.answer() == [wire.REPLY, 7, "slowly"]
        await asyncio.sleep(0.4)
        peer.say([wire.REQUEST, 8, 1, "k", 5000, 1, 2])
        assert await peer.answer() == [wire.REPLY, 8, 2]


# ---- answers that are not taken --------------------------------------------------------------------


@pytest.mark.parametrize("size", [50_000, 1_000_000], ids=["small", "large"])
async def test_a_peer_that_does_not_read_is_cut_off(size: int) -> None:
    async with a_place(LOCAL, unsent_bytes=4 << 20) as place, rogue(place.node) as peer:
        peer.define()
        await asyncio.sleep(0.05)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(1, 2000):
            peer.say([wire.REQUEST, number, 2, f"k{number % 10}", 5000, 1, size])
            if number % 20 == 0:
                await asyncio.sleep(0)
            if not peer.link.is_up:
                break
        await eventually(lambda: not peer.link.is_up)
        assert "does not take its answers" in peer.link.trouble
        await alive(place.node)


async def test_one_large_answer_may_wait_alone() -> None:
    async with a_place("remote", unsent_bytes=65536) as place:
        assert len(await place.node.ref(Echo, "e").make(3 << 20)) == 3 << 20


async def test_new_messages_wait_while_the_line_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNSENT_HELD", -1)
    async with a_place("remote") as place:
        link = place.node._peers.link(place.owner.id)
        assert await place.node.ref(Echo, "e").say(1) == 1
        assert link.connection is not None
        link.connection.pause_writing()
        first = asyncio.ensure_future(place.node.ref(Echo, "e").say(2))
        await eventually(lambda: link.is_held)
        other = place.node.ref(Echo, "f")
        second = asyncio.ensure_future(other.say(3))
        await eventually(lambda: other._route is not None)  # type: ignore[attr-defined]
        assert len(other._route.waiting) == 1  # type: ignore[attr-defined]
        link.connection.resume_writing()
        assert await first == 2
        assert await second == 3
        assert not link.is_held


def test_the_limits_are_checked() -> None:
    from ringcast import ConfigError

    for name in ("unsent_bytes", "half_frame_timeout", "in_flight_bytes", "client_max_depth", "handshake_rate"):
        with pytest.raises(ConfigError, match=name):
            NodeConfig(**{name: -1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
