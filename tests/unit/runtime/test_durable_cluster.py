"""Durable actors in a cluster in virtual time: their state comes along when their node is killed."""

from __future__ import annotations

import asyncio

import pytest

from ringcast import CallError, StoreError, testing, using
from tests.unit.runtime.ledgers import Book, Clock


async def story() -> list[int]:
    """Add numbers, each with a key and as often as it takes, while nodes are killed; return what was added."""
    async with testing.cluster(3) as nodes:
        for number in range(40):
            if number % 10 == 5:
                await nodes.kill(nodes.owner(nodes.ref(Book, "b")))
            while True:
                try:
                    await using(nodes.ref(Book, "b"), idempotency_key=str(number)).add(number)
                except (CallError, StoreError):
                    continue
                break
            if number % 10 == 8:
                for node in nodes.nodes:
                    if not node.is_running:
                        await nodes.start(node)
        return (await nodes.ref(Book, "b").read()).entries


@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_outlives_its_node(seed: int) -> None:
    assert testing.run(story, seed) == list(range(40))


async def reminders() -> int:
    """Have an actor reminded each second, kill its node twice; return how often it was in 30 s."""
    async with testing.cluster(3) as nodes:
        await nodes.ref(Clock, "c").every("x", 1.0, "tick", "skip")
        for _ in range(2):
            await asyncio.sleep(10)
            await nodes.kill(nodes.owner(nodes.ref(Clock, "c")))
        await asyncio.sleep(10)
        return len(await nodes.ref(Clock, "c").read())


@pytest.mark.parametrize("seed", range(3))
def test_reminders_go_on_elsewhere(seed: int) -> None:
    assert 18 <= testing.run(reminders, seed) <= 30
