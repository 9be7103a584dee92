"""What queues up while one group is under way goes into the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from ringcast.runtime.stores.group import Grouped

whose: ContextVar[str] = ContextVar("whose", default="nobody's")


class Work:
    """Doubles numbers, once it is let."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.contexts: set[str] = set()
        self.let = asyncio.Event()

    async def __call__(self, numbers: list[int]) -> Sequence[int | Exception]:
        self.groups.append(numbers)
        self.contexts.add(whose.get())
        await self.let.wait()
        if 99 in numbers:
            raise ValueError("99")
        return [2 * number if number >= 0 else ValueError(str(number)) for number in numbers]


async def asked(grouped: Grouped[int, int], numbers: list[int]) -> list[asyncio.Task[int]]:
    """Ask for numbers, each a step after the one before."""
    tasks: list[asyncio.Task[int]] = []
    for number in numbers:
        tasks.append(asyncio.create_task(grouped.ask(number)))
        for _ in range(3):
            await asyncio.sleep(0)
    return tasks


async def test_what_comes_meanwhile_goes_together() -> None:
    work = Work()
    tasks = await asked(Grouped(work, at_once=2, most=3), [1, 2, 3, 4, 5, 6])
    assert work.groups == [[1], [2]], "what comes alone is done alone"
    work.let.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8, 10, 12]
    assert work.groups == [[1], [2], [3, 4, 5], [6]]


async def test_a_group_has_no_more_bytes_than_it_may() -> None:
    work = Work()
    tasks = await asked(Grouped(work, at_once=1, most=9, size=lambda number: number, most_bytes=10), [1, 50, 6, 4, 1])
    work.let.set()
    await asyncio.gather(*tasks)
    assert work.groups == [[1], [50], [6, 4], [1]]


async def test_an_error_is_of_one_or_of_its_group() -> None:
    work = Work()
    tasks = await asked(Grouped(work, at_once=1, most=2), [99, -1, 1, 2])
    work.let.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(one) for one in found] == ["99", "-1", "2", "4"]


async def test_a_caller_that_is_cancelled_harms_no_other() -> None:
    work = Work()
    grouped = Grouped(work, at_once=1, most=9)
    token = whose.set("a turn's")
    first = await asked(grouped, [1])
    whose.reset(token)
    tasks = await asked(grouped, [2, 3])
    first[0].cancel()
    tasks[0].cancel()
    work.let.set()
    assert await tasks[1] == 6
    with pytest.raises(asyncio.CancelledError):
        await first[0]
    assert work.groups == [[1], [3]]
    assert work.contexts == {"nobody's"}, "the runtime ends the tasks of a turn with its actor"
    await grouped.end()
