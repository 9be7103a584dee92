"""Connections between two nodes: both may dial at once, and one that ends is dialled again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from ringcast import Actor, Node, Seeds, Unreachable, handler, using


class Echo(Actor):
    async def say(self, what: str) -> str:
        return what

    @handler(read_only=True)
    async def read(self, what: str) -> str:
        return what


@asynccontextmanager
async def pair(cluster: str) -> AsyncGenerator[tuple[Node, Node]]:
    async with (
        Node(cluster=cluster, discovery=[]) as one,
        Node(cluster=cluster, discovery=[Seeds([one.address])]) as two,
    ):
        await asyncio.gather(one.wait_for_members(2, 10), two.wait_for_members(2, 10))
        yield one, two


async def there(caller: Node, other: Node) -> Echo:
    """Return an actor of the other node, with a short limit."""
    for i in range(1000):
        ref = caller.ref(Echo, i)
        if (await caller.locate(ref)).id == other.id:
            return using(ref, timeout=3.0)
    raise AssertionError("the other node owns nothing")


@pytest.mark.parametrize("attempt", range(8))
async def test_both_dial_at_once_and_no_call_is_lost(attempt: int) -> None:
    async with pair(f"crossing-{attempt}") as (one, two):
        forth, back = await there(one, two), await there(two, one)

        async def ask(ref: Echo, ticks: int) -> list[str]:
            for _ in range(ticks):
                await asyncio.sleep(0)
            first = await ref.say("first")
            return [first, *await asyncio.gather(*[ref.say(str(i)) for i in range(10)])]

        expected = ["first", *map(str, range(10))]
        forth_said, back_said = await asyncio.gather(ask(forth, attempt), ask(back, 0))
        assert (forth_said, back_said) == (expected, expected)


async def test_a_dial_that_has_begun_is_void_by_what_is_told_from_then_on() -> None:
    """It may be given up in the middle of TLS, and its hello still arrive: it must not replace what is up."""
    async with pair("numbered") as (one, two):
        ref = await there(two, one)
        assert await ref.say("hello") == "hello"
        while one._peers._dials or two._peers._dials:  # noqa: ASYNC110 (nodes have things to say of their own)
            await asyncio.sleep(0)
        link = two._peers.links[one.id]
        assert link.connection is not None
        link.down(link.connection, "it is to be dialled anew")
        asking = asyncio.ensure_future(ref.say("hello"))
        while one.id not in two._peers._dials:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # the dial's own first step
        assert not two._peers.links[one.id].is_up
        told = two._peers._hello(one.id)["dials"]
        assert await asking == "hello"
        assert one._peers.links[two.id].void_dials == told


async def test_a_connection_that_ended_is_dialled_again() -> None:
    async with pair("cut") as (one, two):
        ref = await there(one, two)
        for what in ("a", "b", "c"):
            assert await ref.say(what) == what
            connection = one._peers.links[two.id].connection
            assert connection is not None
            connection.abort("cut by the test")


async def test_a_cut_under_a_call_says_so_and_a_read_is_sent_again() -> None:
    async with pair("cut-under") as (one, two):
        ref = await there(one, two)
        await ref.say("hello")
        connection = one._peers.links[two.id].connection
        assert connection is not None
        writing, reading = asyncio.ensure_future(ref.say("x")), asyncio.ensure_future(ref.read("y"))
        await asyncio.sleep(0)  # both are sent with their first step
        connection.abort("cut by the test")
        with pytest.raises(Unreachable, match="cut by the test"):
            await writing
        assert await reading == "y"
