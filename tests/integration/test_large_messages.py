"""Large messages: in pieces beside small ones, and refused in words where they are too large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from ringcast import EXECUTED, Actor, CallError, CodecError, Node, NodeConfig, Seeds, tell


class Store(Actor):
    async def size(self, data: bytes) -> int:
        return len(data)

    async def make(self, size: int) -> bytes:
        return b"x" * size

    async def double(self, numbers: NDArray[np.float64]) -> NDArray[np.float64]:
        return numbers * 2

    async def nap(self) -> str:
        await asyncio.sleep(0.3)
        return "rested"


@asynccontextmanager
async def caller(cluster: str, limit: int = 1 << 30) -> AsyncGenerator[Node]:
    """A node that hosts nothing; the actors are on another, with a limit of its own."""
    async with (
        Node(cluster=cluster, discovery=[], config=NodeConfig(max_message_bytes=limit)) as host,
        Node(cluster=cluster, discovery=[Seeds([host.address])], hosts=[]) as node,
    ):
        await asyncio.gather(host.wait_for_members(2, 10), node.wait_for_members(2, 10))
        yield node


async def test_64_mib_there_and_back() -> None:
    async with caller("large") as node:
        store = node.ref(Store, "s")
        assert await store.size(b"x" * (64 << 20)) == 64 << 20
        assert len(await store.make(64 << 20)) == 64 << 20


async def test_arrays_keep_their_type_and_shape() -> None:
    async with caller("arrays") as node:
        numbers = np.arange(600_000, dtype=np.float64).reshape(3, -1)
        doubled = await node.ref(Store, "a").double(numbers)
        assert doubled.shape == (3, 200_000)
        assert (doubled == numbers * 2).all()


async def test_small_messages_pass_large_ones() -> None:
    async with caller("passing") as node:
        large = asyncio.create_task(node.ref(Store, "large").size(b"x" * (64 << 20)))
        passed = 0
        while not large.done():
            assert await node.ref(Store, "small").size(b"x") == 1
            passed += 1
        assert await large == 64 << 20
        assert passed >= 20


async def test_a_message_that_the_other_node_does_not_take_is_refused_at_the_caller() -> None:
    async with caller("limits", limit=1_000_000) as node:
        store, other = node.ref(Store, "s"), node.ref(Store, "other")
        resting = asyncio.create_task(other.nap())
        await asyncio.sleep(0)
        with pytest.raises(CodecError, match=r"2000\d\d\d bytes is larger .*max_message_bytes"):
            await store.size(b"x" * 2_000_000)
        with pytest.raises(CodecError, match="max_message_bytes"):
            await tell(store.size, b"x" * 2_000_000)
        with pytest.raises(CallError, match="its reply cannot travel") as lost:
            await store.make(2_000_000)
        assert lost.value.certainty is EXECUTED
        assert await store.size(b"x" * 900_000) == 900_000
        assert await resting == "rested", "nothing was lost besides"
