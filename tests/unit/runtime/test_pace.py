"""The pace of clients: turns, slices of a tick, and rations of what holds the loop for long."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest

from ringcast import CodecError, ConfigError, NodeConfig, submit
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.runtime import wire
from ringcast.runtime.pace import AT_ONCE, LONG, Pace, Ration
from ringcast.runtime.uplink import framed
from ringcast.runtime.weigh import EXTENSION_VALUES
from ringcast.security.channels import CLIENTS
from tests.unit.runtime.outside import Cart, outside
from tests.unit.runtime.places import eventually

_msgpack = cast(Any, msgpack)  # it has no types
CART = f"{Cart.__module__}:Cart"
EMPTY = b"\x92\x90\x80"


class Worker:
    """Has so many steps to take, each of so many seconds of the processor's time."""

    def __init__(self, ration: Ration, steps: int, seconds: float = 0.0) -> None:
        self.ration = ration
        self.left = steps
        self.seconds = seconds
        self.held = 0
        self.done = asyncio.Event()

    def step(self) -> bool:
        until = time.thread_time() + self.seconds
        while time.thread_time() < until:
            pass
        self.left -= 1
        if not self.left:
            self.done.set()
        return self.left > 0

    def hold(self) -> None:
        self.held += 1


def test_a_ration_comes_back_with_time() -> None:
    ration = Ration(0.1)
    assert ration.is_full(5.0)
    assert ration.wait(5.0) <= 0
    ration.spend(AT_ONCE, 5.0)
    assert ration.wait(5.0) == pytest.approx(0)
    assert not ration.is_full(5.0)
    ration.spend(0.02, 5.0)
    assert ration.wait(5.0) == pytest.approx(0.2)
    assert ration.wait(5.15) == pytest.approx(0.05)
    assert ration.is_full(5.0 + (AT_ONCE + 0.02) / 0.1 + 0.001)
    ration.spend(AT_ONCE, 100.0)  # what was not used does not add up
    assert ration.wait(100.0) == pytest.approx(0)


async def test_what_fits_into_a_slice_is_done_at_once() -> None:
    pace, worker = Pace(), Worker(Ration(1), 1)
    pace.enter(worker)
    assert not worker.left
    assert not worker.held


async def test_others_are_served_between_slices_and_clients_take_turns() -> None:
    pace, order = Pace(), list[str]()
    one, two = (Worker(Ration(1), 40, 0.0002) for _ in range(2))
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        ticks += 1
        order.append(f"{one.left} {two.left}")
        if one.left or two.left:
            asyncio.get_running_loop().call_soon(tick)

    tick()
    pace.enter(one)
    pace.enter(two)
    await one.done.wait()
    await two.done.wait()
    assert ticks >= 15  # 80 steps of a fifth of a millisecond, in slices of a quarter of one
    assert one.held
    assert all(abs(int(left) - int(right)) <= 3 for left, right in map(str.split, order))


async def test_long_steps_are_rationed_and_nobody_elses() -> None:
    pace, ration = Pace(), Ration(0.2)
    heavy, beside, other = Worker(ration, 3, AT_ONCE + 0.1), Worker(ration, 1), Worker(Ration(0.2), 1)
    began = time.monotonic()
    pace.enter(heavy)
    assert heavy.left == 2
    pace.enter(beside)
    pace.enter(other)
    await other.done.wait()
    assert not beside.done.is_set()
    assert heavy.held
    await heavy.done.wait()
    # Two waits: for 0.1 / 0.2 seconds, and for all of the second step.
    assert time.monotonic() - began >= 0.5 + (AT_ONCE + 0.1) / 0.2
    await beside.done.wait()


async def test_short_steps_are_not_rationed() -> None:
    pace, worker = Pace(), Worker(Ration(0.000_001), 200, LONG / 4)
    pace.enter(worker)
    await worker.done.wait()
    assert worker.ration.is_full(time.monotonic())


async def test_what_is_not_a_clients_doing_is_not_held_against_it() -> None:
    class Greeted(Worker):
        def step(self) -> bool:
            self.ration = known
            return super().step()

    class Collecting(Worker):
        def step(self) -> bool:
            gc.collect()  # as it happens by itself, now and then
            return super().step()

    known = Ration(0.1)
    pace, stranger = Pace(), Greeted(unknown := Ration(0.1), 1, 2 * LONG)
    gc.disable()
    try:
        pace.enter(stranger)
        while gc.get_count()[-1] == 0:  # collections of younger objects since the last full one
            gc.collect(1)
        pace.enter(collecting := Collecting(Ration(0.1), 1, 2 * LONG))
    finally:
        gc.enable()
    now = time.monotonic()
    assert known.is_full(now)
    assert not unknown.is_full(now)
    assert collecting.ration.is_full(now)


def test_the_share_is_checked() -> None:
    for share in (0, -0.5, 1.5, True, "much"):
        with pytest.raises(ConfigError, match="client_share"):
            NodeConfig(client_share=share)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert NodeConfig(client_share=1).client_share == 1


# ---- at a gateway ------------------------------------------------------------------------------------


async def test_a_client_whose_messages_hold_the_loop_waits_and_no_other(tmp_path: Path) -> None:
    config = NodeConfig(client_share=0.001)
    async with (
        outside(tmp_path, remote=False, config=config) as out,
        out.client() as heavy,
        out.client(credential=out.credential("other")) as other,
    ):
        waiting = [submit(heavy.ref(Cart, "ann").add, [()] * 700) for _ in range(60)]
        [link] = [link for link in out.gateway._gateway.links if link.client.name == "web"]
        await eventually(lambda: link.ration.wait(time.monotonic()) > 1.0)
        async with out.client() as again:  # is let in, and waits, too
            behind = submit(again.ref(Cart, "bob").lines)
            for _ in range(20):
                assert await other.ref(Cart, "eve").lines() == []
            assert not behind.done()
            assert not all(call.done() for call in waiting)
            for call in (behind, *waiting):
                call.cancel()
        await asyncio.gather(behind, *waiting, return_exceptions=True)


async def test_many_small_clients_of_one_name_are_served_at_once(tmp_path: Path) -> None:
    count = 150
    config = NodeConfig(client_connections=count, client_connections_each=count)
    async with outside(tmp_path, remote=False, config=config) as out, AsyncExitStack() as stack:
        clients = [out.client() for _ in range(count)]
        await asyncio.gather(*map(stack.enter_async_context, clients))
        [budget] = out.gateway._gateway._budgets.values()
        assert len(budget.links) == count
        now = time.monotonic()
        assert budget.ration.wait(now) < 0  # their handshakes together took much longer than may be at once
        asks = [client.ref(Cart, number % 16).lines() for number, client in enumerate(clients)]
        async with asyncio.timeout(5):
            assert await asyncio.gather(*asks) == [[]] * count
        assert budget.bytes == budget.calls == 0


async def test_a_client_is_not_forgiven_for_hanging_up(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=False, config=NodeConfig(client_share=0.0001)) as out:
        gateway = out.gateway._gateway
        async with out.client():
            [link] = gateway.links
            link.ration.spend(AT_ONCE / 2, time.monotonic())  # and a greeting may be a long step, too
        await eventually(lambda: not gateway.links)
        async with out.client():
            [again] = gateway.links
            assert again.ration is link.ration


async def test_what_members_decode_for_a_client_is_counted(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=True) as out, out.client() as client:
        assert await client.ref(Cart, "ann").add([1] * 7000) == 1
        [link] = out.gateway._gateway.links
        assert not link.ration.is_full(time.monotonic())


async def test_extensions_count_as_several_values(tmp_path: Path) -> None:
    most = NodeConfig().client_max_values // EXTENSION_VALUES
    async with outside(tmp_path, remote=False) as out, out.client() as client:
        with pytest.raises(CodecError, match="client_max_values"):
            await client.ref(Cart, "ann").add([()] * (most + 200))
        assert await client.ref(Cart, "ann").add([()] * (most - 200)) == 1
        assert await client.ref(Cart, "ann").add([0] * (most + 200)) == 2


def packed(*frames: list[Any]) -> bytes:
    body = b"".join(map(_msgpack.packb, frames))
    return wire.HEAD.pack(len(body)) + body


async def test_a_large_message_behind_many_frames_is_whole(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=False) as out:
        reader, writer = await asyncio.open_connection(*split_address(out.gateway.address))
        writer.write(preamble(CLIENTS))
        await writer.start_tls(out.credential().dialling(), server_hostname="")
        hello = {"protocol": list(wire.PROTOCOL), "cluster": out.cluster, "max_message": 1 << 20, "in_flight": 1 << 20}
        writer.write(framed(hello))
        calls = [[wire.CALL, number, CART, "lines", "ann", None, 60_000, EMPTY, None] for number in range(1, 1000)]
        large = b"\x92\x91\xc5\xff\xff" + bytes(0xFFFF) + b"\x80"
        apart = _msgpack.ExtType(53, b"\x00")
        head = _msgpack.packb([wire.CALL, 1000, CART, "add", "ann", None, 60_000, apart, None])
        piece = head + large
        begun = packed([wire.BULK, 5, [len(head), len(large)]])
        halves = (piece[:60_000], piece[60_000:])
        pieces = (wire.PIECE_HEAD.pack(wire.PIECE_BIT | (len(half) + 4), 5) + half for half in halves)
        writer.write(b"".join([packed(*calls), begun, *pieces]))
        unpacker, answered = _msgpack.Unpacker(), list[int]()
        async with asyncio.timeout(10):
            while len(answered) < 1000:
                size = wire.HEAD.unpack(await reader.readexactly(4))[0]
                unpacker.feed(await reader.readexactly(size))
                answered += [frame[1] for frame in unpacker if isinstance(frame, list) and frame[0] == wire.REPLY]
        assert answered[-1] == 1000
        writer.transport.abort()
        await eventually(lambda: not out.gateway._gateway.links)


@pytest.mark.parametrize("more", [0, 1])
async def test_batches_of_clients_have_so_many_frames_and_not_more(more: int, tmp_path: Path) -> None:
    async with outside(tmp_path, remote=False) as out, out.client():
        [link] = out.gateway._gateway.links
        connection = link.connection
        assert connection is not None
        connection.data_received(packed(*([[wire.CANCEL, 1, True]] * (wire.BATCH_FRAMES + more))))
        if more:
            assert connection.transport is None
        else:
            await eventually(lambda: not link._pending)
            assert connection.transport is not None


async def test_many_frames_leave_in_batches_that_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with outside(tmp_path, remote=False) as out, out.client():
        [link] = out.gateway._gateway.links
        connection, written = link.connection, list[bytes]()
        assert connection is not None
        monkeypatch.setattr(connection, "transport", Sink(written.append))
        connection.write([b"\x92\x0a\x01"] * (2 * wire.BATCH_FRAMES + 1))
        monkeypatch.undo()
        counts, stream = list[int](), b"".join(written)
        while stream:
            size = wire.HEAD.unpack_from(stream)[0]
            counts.append(len(stream[4 : 4 + size]) // 3)
            stream = stream[4 + size :]
        assert sum(counts) == 2 * wire.BATCH_FRAMES + 1
        assert max(counts) <= wire.BATCH_FRAMES


class Sink:
    """Takes what a connection writes."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self.write = write
