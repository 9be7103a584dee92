"""Zeroconf on the loopback, with real packets of strangers who announce what they like."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncGenerator, Callable, Iterable

import pytest

from benchmarks.hostile_gossip import MDNS, announcement, multicaster, packet, record, wire_name
from ringcast.discovery import multicast
from ringcast.discovery.multicast import SERVICE_TYPE, Zeroconf
from ringcast.discovery.source import Announcement

LIMIT = 20.0
OURS, OTHERS, NEW = "0a" * 16, "0b" * 16, "0c" * 16


class Listener:
    """One source, and what it has shown."""

    def __init__(self, tags: tuple[str, ...] = (OURS,), address: str = "127.0.0.1:4000", is_loopback: bool = True):
        self.source = Zeroconf(["127.0.0.1"])
        self.announcement = Announcement(tags, "listener", address, is_loopback)
        self.found: list[str] = []
        self.gone: list[str] = []
        self._changed = asyncio.Event()

    def _note(self, into: list[str], address: str) -> None:
        into.append(address)
        self._changed.set()

    async def start(self) -> None:
        await self.source.start(
            self.announcement, lambda address: self._note(self.found, address), lambda a: self._note(self.gone, a)
        )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not holds():
                self._changed.clear()
                await self._changed.wait()


@contextlib.asynccontextmanager
async def listening(*listeners: Listener) -> AsyncGenerator[socket.socket]:
    """Start them, and return a stranger's socket."""
    with multicaster() as udp:
        try:
            for listener in listeners:
                await listener.start()
            yield udp
        finally:
            for listener in listeners:
                await listener.source.stop()


def label(number: int, tag: str = OURS) -> str:
    return f"{number:016x}-{tag}"


def say(udp: socket.socket, packets: Iterable[bytes]) -> None:
    for announced in packets:
        udp.sendto(announced, MDNS)


async def test_what_cannot_be_a_node_of_this_cluster_is_not_shown() -> None:
    rng = random.Random(1)
    one = Listener()
    async with listening(one) as udp:
        say(
            udp,
            [
                announcement(label(1, OTHERS), "127.0.0.1", 9),
                announcement(label(2), "10.0.0.1", 9),  # beyond the loopback, where this node does not listen
                announcement(label(3), "0.0.0.0", 9),
                announcement(label(4), "224.0.0.1", 9),
                announcement(label(5), "127.0.0.1", 0),
                announcement(f"{label(6)} ", "127.0.0.1", 9),
                announcement(f"\x00\x1b{label(7)}", "127.0.0.1", 9),
                announcement(OURS, "127.0.0.1", 9),
                announcement(label(8).upper(), "127.0.0.1", 9),
                announcement(label(9), "127.0.0.1", 9, name=f"{label(9)}.sub.{SERVICE_TYPE}"),
                *(rng.randbytes(rng.randrange(1400)) for _ in range(100)),
                # What it says of itself is not even read.
                announcement(label(10), "127.0.0.1", 10, text=rng.randbytes(1100)),
            ],
        )
        await one.until(lambda: bool(one.found))
        assert one.found == ["127.0.0.1:10"]
        assert one.gone == []


async def test_a_node_that_others_can_reach_is_not_made_to_dial_its_own_loopback() -> None:
    one = Listener(address="10.9.9.9:4000", is_loopback=False)
    async with listening(one) as udp:
        say(udp, [announcement(label(1), "127.0.0.1", 9), announcement(label(2), "10.0.0.1", 9)])
        await one.until(lambda: bool(one.found))
        assert one.found == ["10.0.0.1:9"]


async def test_of_a_flood_a_bounded_number_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multicast, "_PAUSE", 0.0)
    one = Listener()
    async with listening(one) as udp:
        for first in range(0, 640, 64):
            numbers = range(first + 1, first + 65)
            say(udp, (announcement(label(n), "127.0.0.1", n) for n in numbers))
            await one.until(lambda: f"127.0.0.1:{numbers[-1]}" in one.found)  # noqa: B023
        assert len(one.found) > 500
        assert len(one.found) - len(one.gone) <= multicast._SHOWN_MAX
        assert one.gone == one.found[: len(one.gone)]
        assert len(one.source._waiting) <= multicast._SHOWN_MAX


async def test_a_flood_cannot_raise_the_pace() -> None:
    one = Listener()
    async with listening(one) as udp:
        began = time.monotonic()
        say(udp, (announcement(label(n), "127.0.0.1", n) for n in range(1, 65)))
        await one.until(lambda: len(one.found) == multicast._BURST + 8)
        assert time.monotonic() - began >= 7 * multicast._PAUSE


async def test_who_is_announced_without_an_address_is_asked_for_it_and_not_too_many_at_once() -> None:
    one = Listener()
    async with listening(one) as udp:
        for number in range(1, 101):
            name = wire_name(f"{label(number)}.{SERVICE_TYPE}")
            say(udp, [packet(record(SERVICE_TYPE, 12, 4500, name, is_shared=True))])
        say(udp, [announcement(label(200), "127.0.0.1", 200)])
        await one.until(lambda: bool(one.found))
        assert len(one.source._asking) == multicast._ASKING_MAX
        # The oldest have given way, the newest is still asked about.
        say(udp, [announcement(label(100), "127.0.0.1", 100)])
        await one.until(lambda: "127.0.0.1:100" in one.found)
    assert one.source._tasks == set()


async def test_an_address_is_gone_when_nobody_announces_it_any_more() -> None:
    one = Listener()
    async with listening(one) as udp:
        say(udp, [announcement(label(1), "127.0.0.1", 9), announcement(label(2), "127.0.0.1", 9)])
        await one.until(lambda: len(one.found) == 2)
        say(udp, [announcement(label(1), "127.0.0.1", 9, seconds=0)])
        say(udp, [announcement(label(3), "127.0.0.1", 3), announcement(label(3), "127.0.0.1", 3, seconds=0)])
        await one.until(lambda: "127.0.0.1:3" in one.gone)
        assert one.gone == ["127.0.0.1:3"]
        say(udp, [announcement(label(2), "127.0.0.1", 9, seconds=0)])
        await one.until(lambda: one.gone == ["127.0.0.1:3", "127.0.0.1:9"])


async def test_tags_change_step_by_step_and_everybody_is_found_all_the_while() -> None:
    one, two = Listener((OURS,), "127.0.0.1:1"), Listener((OURS,), "127.0.0.1:2")
    async with listening(one, two):
        await one.until(lambda: "127.0.0.1:2" in one.found)
        for tags in ((OURS, NEW), (NEW, OURS), (NEW,)):
            await one.source.announce(Announcement(tags, "one", "127.0.0.1:1", True))
            late = Listener((NEW if tags[0] == NEW else OURS,), "127.0.0.1:3")
            async with listening(late):
                await late.until(lambda: "127.0.0.1:1" in late.found)  # noqa: B023
            one.found.clear()
            await two.source.announce(Announcement(tags, "two", "127.0.0.1:2", True))
            await one.until(lambda: "127.0.0.1:2" in one.found)


async def test_a_name_is_announced_as_the_address_behind_it() -> None:
    one, two = Listener(), Listener(address="localhost:2")
    async with listening(one, two):
        await one.until(lambda: bool(one.found))
        assert one.found == ["127.0.0.1:2"]
    unknown = Listener(address="no..host:2")
    with pytest.raises(OSError, match=r"no\.\.host"):
        await unknown.start()
    await unknown.source.stop()


@pytest.mark.parametrize(
    ("interfaces", "is_loopback", "listens_on", "used"),
    [
        (None, True, "127.0.0.1", ["127.0.0.1"]),
        (["10.0.0.5"], True, "127.0.0.1", ["127.0.0.1"]),
        (None, False, "10.0.0.5", ["10.0.0.5"]),
        (None, False, None, []),
        (["10.0.0.6"], False, "10.0.0.5", ["10.0.0.6"]),
        (None, False, "fd00::5", []),
    ],
)
def test_a_node_is_shown_where_it_listens(
    interfaces: list[str] | None, is_loopback: bool, listens_on: str | None, used: list[str]
) -> None:
    shown = Announcement((OURS,), "one", "10.0.0.5:4000", is_loopback, listens_on)
    assert Zeroconf(interfaces)._where(shown) == used
