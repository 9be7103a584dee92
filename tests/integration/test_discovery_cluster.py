"""Memberships with real threads and sockets, on the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest
import structlog

from ringcast.discovery.agreement_messages import Decided
from ringcast.discovery.codec import Codec
from ringcast.discovery.datagrams import Datagrams
from ringcast.discovery.dns import Dns
from ringcast.discovery.member import MemberLeft, MemberLost, View
from ringcast.discovery.messages import Envelope
from ringcast.discovery.multicast import Zeroconf
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.source import Seeds
from ringcast.errors import ConfigError, HandshakeRefused
from tests.integration.memberships import (
    CLASS,
    LIMIT,
    Recorder,
    child,
    free_addresses,
    raw_dial,
    shares_of,
    started,
)


async def test_alone_it_is_ready_at_once_and_leaves_nothing_running() -> None:
    threads = set(threading.enumerate())
    one = Recorder("one")
    began = time.monotonic()
    async with started(one):
        assert time.monotonic() - began < LOCAL.discovery_window
        view = one.membership.view
        assert [member.id for member in view.members] == ["one"]
        assert view.members[0] == one.membership.me
        host, port = one.membership.address.split(":")
        assert host == "127.0.0.1"
        assert int(port) > 0
        await one.until(lambda: len(one.events) == 2)
        assert one.threads.isdisjoint({threading.get_ident()})
    assert set(threading.enumerate()) <= threads
    assert one.membership.view == view
    await one.membership.stop()


async def test_three_find_each_other_by_zeroconf_and_ignore_another_cluster() -> None:
    cluster = uuid.uuid4().hex
    nodes = [Recorder(name, [Zeroconf()], cluster) for name in "abc"]
    stranger = Recorder("stranger", [Zeroconf()], uuid.uuid4().hex)
    async with started(*nodes, stranger):
        for node in nodes:
            await node.until_members("abc")
        assert len({node.membership.view for node in nodes}) == 1
        assert [member.id for member in stranger.membership.view.members] == ["stranger"]
        late = Recorder("d", [Zeroconf()], cluster)
        async with started(late):
            for node in (*nodes, late):
                await node.until_members("abcd")
            await late.leave()
        for node in nodes:
            await node.until_members("abc")
            assert node.member_events(MemberLeft) == ["d"]


async def test_all_started_at_once_with_the_same_seeds_are_one_cluster() -> None:
    addresses = free_addresses(4)
    nodes = [
        Recorder(name, [Seeds(addresses)], listen=address) for name, address in zip("abcd", addresses, strict=True)
    ]
    async with started(*nodes):
        for node in nodes:
            await node.until_members("abcd")
        assert len({node.membership.view for node in nodes}) == 1
        by_number = {(view.lineage, view.number): view for node in nodes for view in node.views}
        assert all(by_number[(view.lineage, view.number)] == view for node in nodes for view in node.views)


async def test_a_view_is_packed_once_for_all_that_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[Decided] = []
    encode = Codec.encode

    def noting(codec: Codec, envelope: Envelope) -> bytes:
        if isinstance(envelope.message, Decided):
            packed.append(envelope.message)  # and kept: its identity is not another's
        return encode(codec, envelope)

    monkeypatch.setattr(Codec, "encode", noting)
    first = Recorder("a")
    async with started(first):
        others = [Recorder(name, [Seeds([first.membership.address])]) for name in "bcd"]
        async with started(*others):
            for node in (first, *others):
                await node.until_members("abcd")
            assert packed
            assert max(Counter(map(id, packed)).values()) == 1


async def test_a_graceful_leave_shows_leaving_first_and_is_no_loss() -> None:
    one = Recorder("one")
    async with started(one):
        two = Recorder("two", [Seeds([f"localhost:{one.membership.address.split(':')[1]}"])])
        async with started(two):
            await one.until_members(["one", "two"])
            await two.membership.announce_leaving()
            leaving = two.membership.view.member("two")
            assert leaving is not None
            assert leaving.leaving
            await one.until(lambda: leaving in one.views[-1].members)
            # Nothing is its own any more, and what it had is open at the other.
            await one.until_open()
            assert shares_of(one.membership.view, "two") == {CLASS: 0}
            await two.leave()
        await one.until_members(["one"])
        assert one.member_events(MemberLeft) == ["two"]
        assert one.member_events(MemberLost) == []


async def test_a_changed_record_shows_in_a_new_view() -> None:
    one = Recorder("one")
    one.membership.update(labels={"early": "yes"})
    async with started(one):
        assert one.membership.view.members[0].labels == {"early": "yes"}
        two = Recorder("two", [Seeds([one.membership.address])])
        async with started(two):
            two.membership.update(hosts=frozenset({"shop:Cart", "shop:Till"}), labels={"gpu": "1"})

            def is_seen(view: View) -> bool:
                member = view.member("two")
                return member is not None and "shop:Till" in member.hosts and member.labels == {"gpu": "1"}

            await one.until(lambda: is_seen(one.views[-1]))
            await two.until(lambda: is_seen(two.views[-1]))
            assert two.membership.me == two.membership.view.member("two")


async def test_a_killed_process_is_lost_and_a_blocked_application_is_not() -> None:
    one = Recorder("one")
    async with started(one):
        seed = ("--seed", one.membership.address)
        async with child("--name", "p1", *seed) as p1, child("--name", "p2", *seed) as p2:
            await one.until_members(["one", "p1", "p2"])
            await p1.kill()
            began = time.monotonic()
            await one.until_members(["one", "p2"])
            assert time.monotonic() - began < 4.0
            assert one.member_events(MemberLost) == ["p1"]
            # The handler that blocks the application's loop, for longer than any suspicion.
            time.sleep(4.0)  # noqa: ASYNC251
            await asyncio.sleep(0)
            assert one.member_events(MemberLost) == ["p1"]
            assert sorted(member.id for member in one.membership.view.members) == ["one", "p2"]
            assert p2.process.returncode is None


async def test_a_port_in_use_is_a_config_error_and_a_range_takes_the_next() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        threads = set(threading.enumerate())
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*in use"):
            await Recorder("one", listen=f"127.0.0.1:{port}").membership.start()
        assert set(threading.enumerate()) <= threads
        two = Recorder("two", listen=f"127.0.0.1:{port}-{min(port + 50, 65535)}")
        async with started(two):
            assert int(two.membership.address.split(":")[1]) > port


@pytest.mark.parametrize(
    ("listen", "advertise", "says"),
    [
        ("7400", None, "takes 'host:port'"),
        ("127.0.0.1:9-8", None, "takes 'host:port'"),
        ("203.0.113.1:0", None, "cannot listen there"),
        ("127.0.0.1:0", "0.0.0.0:7400", "no address that can be dialled"),
        ("127.0.0.1:0", "host:port", "takes the 'host' or 'host:port'"),
    ],
)
async def test_wrong_addresses_say_what_they_take(listen: str, advertise: str | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        await Recorder("one", listen=listen, advertise=advertise).membership.start()


async def test_a_seed_of_another_cluster_is_refused_with_both_names() -> None:
    one = Recorder("one", cluster="shop")
    async with started(one):
        two = Recorder("two", [Seeds([one.membership.address])], cluster="bank")
        with pytest.raises(HandshakeRefused, match=r"node one of cluster 'shop', and this is cluster 'bank'"):
            await two.membership.start()
        assert [member.id for member in one.membership.view.members] == ["one"]


async def test_other_channels_are_handed_over_right_after_the_preamble() -> None:
    one = Recorder("one")
    async with started(one), raw_dial(one, b"A") as (_, writer):
        writer.write(b"the first frame")
        await one.until(lambda: len(one.connections) == 1)
        sock, channel = one.connections[0]
        assert channel == b"A"
        assert not sock.getblocking()
        assert await asyncio.get_running_loop().sock_recv(sock, 100) == b"the first frame"


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"RCST\x02A\0\0", b"RC"])
async def test_strangers_are_closed_and_change_nothing(sent: bytes) -> None:
    one = Recorder("one")
    async with started(one):
        host, port = one.membership.address.split(":")
        async with raw_dial(one, None) as (reader, writer):
            writer.write(sent)
            if len(sent) < 8:
                writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), LIMIT) == b""
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            for data in (b"", b"\xc1", b"\x96" + b"\xff" * 100, b"x" * 5000):
                udp.sendto(data, (host, int(port)))
        one.membership.update(labels={"still": "here"})
        await one.until(lambda: one.views[-1].members[0].labels == {"still": "here"})
        assert one.connections == []
    stats = one.membership.stats()
    assert stats["unsealed"] == 4
    assert stats["strangers"] == 1


async def test_an_error_on_the_membership_thread_stops_the_node_and_is_told() -> None:
    def explode(view: View) -> None:
        if view.number > 1:
            raise RuntimeError("boom")

    one = Recorder("one", on_view=explode)
    async with started(one):
        one.membership.update(labels={"new": "view"})
        await one.until(lambda: bool(one.failures))
        assert str(one.failures[0]) == "boom"
        await one.membership.stop()
        assert one.membership._thread is not None
        assert not one.membership._thread.is_alive()


async def test_a_start_that_is_cancelled_leaves_nothing_running() -> None:
    threads = set(threading.enumerate())
    [nobody] = free_addresses(1)
    starting = asyncio.create_task(Recorder("one", [Seeds([nobody])]).membership.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert set(threading.enumerate()) <= threads


async def test_an_id_that_cannot_travel_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="1 to 100 bytes"):
        Recorder("é" * 51)


async def test_two_find_each_other_by_a_name_and_advertise_names() -> None:
    one = Recorder("one", advertise="localhost")
    async with started(one):
        host, port = one.membership.address.split(":")
        assert host == "localhost"
        two = Recorder("two", [Dns("localhost", int(port))], advertise="localhost")
        async with started(two):
            for node in (one, two):
                await node.until_members(["one", "two"])
                assert {member.address.split(":")[0] for member in node.membership.view.members} == {"localhost"}


async def test_a_datagram_to_a_name_is_lost_until_the_name_is_resolved() -> None:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[bytes] = loop.create_future()
    lookups: list[asyncio.Task[None]] = []
    failures: list[None] = []

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        lookups.append(loop.create_task(work))
        return lookups[-1]

    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        port = udp.getsockname()[1]
        datagrams = Datagrams(udp, spawn, arrived.set_result, lambda: failures.append(None))
        datagrams.send(f"localhost:{port}", b"one")
        datagrams.send(f"localhost:{port}", b"two")
        [lookup] = lookups
        await lookup
        datagrams.send(f"localhost:{port}", b"three")
        assert await asyncio.wait_for(arrived, LIMIT) == b"three"
        assert (datagrams.sent, datagrams.received, failures) == (1, 1, [])
        datagrams.send(f"127.0.0.1:{port}", b"x" * 70_000)
        assert failures == [None]
        datagrams.close()


async def test_without_multicast_it_warns_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr("zeroconf.asyncio.AsyncZeroconf", refuse)
    with structlog.testing.capture_logs() as logs:
        one = Recorder("one", [Zeroconf()])
        async with started(one):
            assert [member.id for member in one.membership.view.members] == ["one"]
    [warning] = [entry for entry in logs if entry["log_level"] == "warning"]
    assert "Seeds(['host:port'])" in warning["event"]
    assert warning["reason"] == "no such device"


async def test_a_source_serves_one_node() -> None:
    shared = Zeroconf()
    cluster = uuid.uuid4().hex
    async with started(Recorder("one", [shared], cluster)):
        with pytest.raises(ConfigError, match="one node"):
            await Recorder("two", [shared], cluster).membership.start()
