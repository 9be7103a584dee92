"""Streamed replies: order, flow control, limits of each item, and the many ways to end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from ringcast import (
    NOT_SENT,
    Actor,
    CallCycle,
    CallTimeout,
    CodecError,
    Unreachable,
    broadcast,
    handler,
    submit,
    tell,
    using,
)
from ringcast.actors.ref import UnknownRef
from ringcast.runtime.streams import WINDOW
from tests.unit.runtime.places import REMOTE, Place, a_place, eventually, gates, raised


class Source(Actor):
    def __init__(self) -> None:
        self.made = 0

    @handler(read_only=True)
    async def count_to(self, upto: int) -> AsyncGenerator[int, None]:
        try:
            for n in range(upto):
                self.made = n + 1
                yield n
        finally:
            gates.mark("closed")

    async def holding(self, upto: int) -> AsyncGenerator[int, None]:
        try:
            for n in range(upto):
                self.made = n + 1
                yield n
        finally:
            gates.mark("closed")

    @handler(read_only=True)
    async def silent(self, gate: str) -> AsyncGenerator[int, None]:
        yield 1
        try:
            await gates.passing(gate)
        finally:
            gates.mark("closed")

    @handler(read_only=True)
    async def failing(self) -> AsyncIterator[int]:
        yield 1
        yield 2
        raise LookupError("no third")

    @handler(read_only=True)
    async def unsendable(self) -> AsyncIterator[Any]:
        yield 1
        yield (i for i in range(3))

    @handler(read_only=True)
    async def lists(self) -> AsyncIterator[list[int]]:
        mine = [1]
        yield mine
        mine.append(2)
        yield mine

    @handler(read_only=True)
    async def large(self, count: int, size: int) -> AsyncIterator[bytes]:
        for n in range(count):
            yield bytes([n]) * size

    async def made_so_far(self) -> int:
        return self.made

    async def nothing(self) -> None: ...

    async def pause(self, gate: str) -> None:
        await gates.passing(gate)

    async def relay(self, other: Any, upto: int) -> AsyncIterator[int]:
        async for item in other.count_to(upto):
            yield item * 2

    async def sum_of(self, other: Any, upto: int) -> int:
        return sum([item async for item in other.count_to(upto)])

    async def hold_and_ask(self, other: Any) -> Any:
        items = other.holding(1000)
        await anext(items)
        try:
            await other.nothing()
        finally:
            await items.aclose()


async def test_items_come_in_order_and_end(place: Place) -> None:
    source = place.node.ref(Source, "s")
    assert [n async for n in source.count_to(1000)] == list(range(1000))
    assert [n async for n in source.holding(100)] == list(range(100))
    assert [n async for n in source.count_to(0)] == []
    assert [n async for n in source.count_to(upto=3)] == [0, 1, 2]


async def test_nothing_is_sent_before_the_first_item_is_asked_for(place: Place) -> None:
    source = place.node.ref(Source, "s")
    items = source.count_to(3)
    assert await source.made_so_far() == 0
    assert await anext(items) == 0


async def test_a_slow_reader_stops_the_generator(place: Place) -> None:
    source = place.node.ref(Source, "s")
    items = source.count_to(100_000)
    assert await anext(items) == 0
    for _ in range(50):
        assert await source.made_so_far() < 200
    for n in range(1, 500):
        assert await anext(items) == n
    await items.aclose()


async def test_items_are_isolated(place: Place) -> None:
    items = place.node.ref(Source, "s").lists()
    first = await anext(items)
    first.append(9)
    assert await anext(items) == [1, 2]
    assert first == [1, 9]


async def test_large_items(place: Place) -> None:
    got = [item async for item in place.node.ref(Source, "s").large(10, 1 << 20)]
    assert [(item[0], len(item)) for item in got] == [(n, 1 << 20) for n in range(10)]


async def test_large_and_small_items_stay_in_order(place: Place) -> None:
    class_items = [len(item) async for item in place.node.ref(Source, "s").large(3, 10)]
    assert class_items == [10, 10, 10]


async def test_an_error_comes_after_the_items_before_it(place: Place) -> None:
    items = place.node.ref(Source, "s").failing()
    got: list[int] = []

    async def read() -> None:
        async for item in items:
            got.append(item)

    with pytest.raises(LookupError, match="no third") as info:
        await read()
    assert got == [1, 2]
    assert "failing" in "".join(info.value.__notes__)
    assert [item async for item in items] == []


async def test_an_item_that_cannot_travel_is_an_error(place: Place) -> None:
    items = place.node.ref(Source, "s").unsendable()
    assert await anext(items) == 1
    with pytest.raises(CodecError):
        await anext(items)


async def test_arguments_that_cannot_travel_are_refused(place: Place) -> None:
    source: Any = place.node.ref(Source, "s")
    with pytest.raises(CodecError, match=r"args\[0\]"):
        await anext(source.count_to(i for i in range(2)))
    with pytest.raises(TypeError, match="count_to"):
        await anext(source.count_to())


@pytest.mark.parametrize("method", ["count_to", "holding"])
async def test_aclose_closes_the_generator(place: Place, method: str) -> None:
    source = place.node.ref(Source, "s")
    items = getattr(source, method)(100_000)
    await anext(items)
    await items.aclose()
    await gates.entered("closed")
    await items.aclose()
    assert [item async for item in items] == []
    await source.nothing()


@pytest.mark.parametrize("method", ["count_to", "holding"])
async def test_collecting_the_iterator_closes_the_generator(place: Place, method: str) -> None:
    source = place.node.ref(Source, "s")
    items = getattr(source, method)(100_000)
    await anext(items)
    del items
    gc.collect()
    await gates.entered("closed")
    await source.nothing()  # nor does anybody hold its turn any more


@pytest.mark.parametrize("method", ["count_to", "holding"])
async def test_leaving_the_loop_closes_the_generator(place: Place, method: str) -> None:
    source = place.node.ref(Source, "s")
    async for item in getattr(source, method)(100_000):
        if item == 3:
            break
    gc.collect()
    await gates.entered("closed")
    await source.nothing()


async def test_cancelling_the_reader_closes_the_generator(place: Place) -> None:
    source = place.node.ref(Source, "s")

    async def read() -> None:
        async for _ in source.silent("never"):
            pass

    task = asyncio.create_task(read())
    await gates.entered("never")
    task.cancel()
    assert isinstance(await raised(task), asyncio.CancelledError)
    await gates.entered("closed")


async def test_asyncio_timeout_closes_the_generator(place: Place) -> None:
    source = place.node.ref(Source, "s")

    async def read() -> None:
        async for _ in source.silent("never"):
            pass

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.1)
    await gates.entered("closed")


async def test_a_stream_that_is_cancelled_while_it_is_queued_never_runs(place: Place) -> None:
    source = place.node.ref(Source, "s")
    first = source.holding(100_000)
    await anext(first)
    waiting = asyncio.create_task(anext(source.holding(5)))
    await place.node.ref(Source, "other").nothing()
    waiting.cancel()
    await raised(waiting)
    await first.aclose()
    assert await source.made_so_far() > 5


# ---- limits --------------------------------------------------------------------------------------


async def test_a_silent_generator_ends_at_the_limit_of_an_item(place: Place) -> None:
    items = using(place.node.ref(Source, "s"), timeout=0.2).silent("never")
    assert await anext(items) == 1
    error = await raised(anext(items))
    assert isinstance(error, CallTimeout)
    assert isinstance(error, TimeoutError)
    assert "0.2 s" in str(error)
    await gates.entered("closed")


async def test_the_limit_is_one_of_each_item_and_not_of_the_whole(place: Place) -> None:
    items = using(place.node.ref(Source, "s"), timeout=0.2).count_to(8)
    got: list[int] = []
    async for item in items:
        got.append(item)
        await asyncio.sleep(0.05)  # the reader's own time: eight of them are twice the limit
    assert got == list(range(8))


async def test_a_silent_reader_is_ended(place: Place) -> None:
    items = using(place.node.ref(Source, "s"), timeout=0.1).count_to(100_000)
    assert await anext(items) == 0
    await gates.entered("closed")
    with pytest.raises(CallTimeout, match=r"took no item for 0\.1 s"):
        async for _ in items:
            pass


# ---- cycles ----------------------------------------------------------------------------------------


async def test_asking_an_actor_whose_turn_ones_own_stream_holds_is_a_cycle(place: Place) -> None:
    source = place.node.ref(Source, "s")
    items = source.holding(1000)
    await anext(items)
    for call in (source.nothing, source.made_so_far):
        error = await raised(call())
        assert isinstance(error, CallCycle)
        assert error.certainty is NOT_SENT
        assert "read_only" in str(error)
    await place.node.ref(Source, "other").nothing()
    await tell(source.nothing)
    await items.aclose()
    await source.nothing()


async def test_a_cycle_from_a_turn_that_holds_a_stream(place: Place) -> None:
    source, other = place.node.ref(Source, "s"), place.node.ref(Source, "other")
    assert isinstance(await raised(source.hold_and_ask(other)), CallCycle)
    await other.nothing()


async def test_another_task_may_ask_and_waits(place: Place) -> None:
    source = place.node.ref(Source, "s")
    items = source.holding(1000)
    await anext(items)
    waiting = asyncio.create_task(source.made_so_far())
    await place.node.ref(Source, "other").nothing()
    assert not waiting.done()
    await items.aclose()
    assert await waiting > 0


async def test_a_read_only_stream_is_no_cycle(place: Place) -> None:
    source = place.node.ref(Source, "s")
    items = source.count_to(1000)
    await anext(items)
    await source.nothing()
    await items.aclose()


async def test_a_stream_that_has_ended_holds_nothing(place: Place) -> None:
    source = place.node.ref(Source, "s")
    assert len([item async for item in source.holding(3)]) == 3
    await source.nothing()


# ---- streams between actors ------------------------------------------------------------------------


async def test_a_stream_may_read_from_a_stream(place: Place) -> None:
    one, other = place.node.ref(Source, "one"), place.node.ref(Source, "other")
    assert [item async for item in one.relay(other, 100)] == list(range(0, 200, 2))
    assert await one.sum_of(other, 10) == 45


async def test_the_stream_of_a_lost_actor_fails() -> None:
    async with a_place(REMOTE, drain_timeout=0.1) as place:
        items = place.node.ref(Source, "s").silent("never")
        assert await anext(items) == 1
        waiting = asyncio.ensure_future(anext(items))
        await gates.entered("never")
        await place.owner.leave()
        assert isinstance(await raised(waiting), Unreachable)


async def test_a_stream_closes_when_its_readers_node_has_gone(there: Place) -> None:
    items = there.node.ref(Source, "s").silent("never")
    assert await anext(items) == 1
    await gates.entered("never")
    await there.node.leave()
    await gates.entered("closed")
    await eventually(lambda: there.owner.stats()["streams_open"] == 0)
    assert not gates.has_entered("opened")
    del items


async def test_an_open_stream_is_counted(place: Place) -> None:
    items = place.node.ref(Source, "s").silent("never")
    await anext(items)
    assert place.owner.stats()["streams_open"] == 1
    await items.aclose()
    await eventually(lambda: place.owner.stats()["streams_open"] == 0)


# ---- what a stream is not --------------------------------------------------------------------------


async def test_verbs_for_one_reply_refuse_streams(here: Place) -> None:
    source = here.node.ref(Source, "s")
    with pytest.raises(TypeError, match="streams"):
        await tell(source.count_to, 3)
    with pytest.raises(TypeError, match="streams"):
        submit(source.count_to, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="streams"):
        await broadcast([source], Source.count_to, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="idempotency"):
        await anext(using(source, idempotency_key="k").count_to(3))


async def test_a_stream_is_an_async_generator_to_its_reader(place: Place) -> None:
    items = place.node.ref(Source, "s").count_to(10)
    assert await items.asend(None) == 0
    with pytest.raises(TypeError, match="takes no values"):
        await items.asend(3)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        await items.athrow(KeyError("mine"))
    await gates.entered("closed")


async def test_asking_for_a_stream_without_its_class_is_an_error(there: Place) -> None:
    known: Any = there.node.ref(Source, "s")
    for upto in (0, 3, 100_000):
        unknown = UnknownRef(known._caller, known._type_name, "s", None)
        async with asyncio.timeout(5):
            error = await raised(unknown.count_to(upto))
        assert isinstance(error, TypeError)
        assert "streams its reply" in str(error)
    await eventually(lambda: there.owner.stats()["streams_open"] == 0)


async def test_the_limit_of_an_item_does_not_shrink_while_the_stream_waits_for_its_turn(place: Place) -> None:
    """What the request waited in the mailbox is not taken off the time that a reader may be silent."""
    source = using(place.node.ref(Source, "busy"), timeout=1.0)
    busy = asyncio.create_task(source.pause("go on"))
    items = source.count_to(3 * WINDOW)
    first = asyncio.create_task(anext(items))
    await asyncio.sleep(0.6)  # the request waits behind the turn
    gates.let_go("go on")
    got = [await first]
    await asyncio.sleep(0.6)  # the handler waits for its reader
    got += [item async for item in items]
    await busy
    assert got == list(range(3 * WINDOW))
