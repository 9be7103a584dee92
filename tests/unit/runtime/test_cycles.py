"""Chains of asks that come back: told at once where they would wait for ever, let in where they may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ringcast import NOT_SENT, Actor, CallCycle, Node, Seeds, handler, submit, tell, using
from tests.unit.runtime.places import LOCAL, REMOTE, eventually, gates, new_cluster, raised


class Ring(Actor):
    """Asks the first of those it is given, with the rest."""

    def __init__(self) -> None:
        self.entered = 0

    async def go(self, *others: Any) -> str:
        return await others[0].go(*others[1:]) if others else "end"

    async def end(self) -> str:
        return "end"

    async def go_to(self, how: str, *others: Any) -> Any:
        if len(others) == 1:
            return await getattr(others[0], how)()
        return await others[0].go_to(how, *others[1:])

    @handler(reentrant=True)
    async def let_in(self) -> str:
        self.entered += 1
        return f"let in {self.entered}"

    @handler(read_only=True)
    async def read(self, *others: Any) -> str:
        return await others[0].read(*others[1:]) if others else "read"

    async def gather(self, *others: Any) -> list[Any]:
        return await asyncio.gather(*(other.end() for other in others), return_exceptions=True)

    async def group(self, other: Any) -> Any:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(other.end())
        return task.result()

    async def task(self, other: Any) -> Any:
        return await asyncio.create_task(other.end())

    async def tell_on(self, other: Any) -> None:
        await tell(other.tell_back, self.context.me)

    async def tell_back(self, other: Any) -> None:
        await tell(other.note, "told back")

    async def submit_to(self, other: Any) -> None:
        gates.seen.append(submit(other.end))

    async def detached(self, other: Any) -> Any:
        return await using(other, detached=True, timeout=0.2).end()

    async def note(self, value: Any) -> None:
        gates.seen.append(value)

    async def later(self) -> None:
        self.context.after(0, self.ask_self_on, self.context.me)

    async def ask_self_on(self, me: Any) -> None:
        gates.seen.append(await raised(me.end()))

    async def leave_task(self, other: Any) -> None:
        self._task = asyncio.create_task(self._late(other))

    async def _late(self, other: Any) -> None:
        await gates.passing("late")
        gates.seen.append(await other.end())


@pytest_asyncio.fixture(params=[LOCAL, REMOTE])
async def refs(request: pytest.FixtureRequest) -> AsyncIterator[list[Ring]]:
    """Three actors; in a cluster of two, not all on one node."""
    cluster = new_cluster()
    async with Node(cluster=cluster, discovery=[]) as one:
        if request.param == LOCAL:
            yield [one.ref(Ring, key) for key in range(3)]
            return
        async with Node(cluster=cluster, discovery=[Seeds([one.address])]) as two:
            await one.wait_for_members(2, 5)
            places = [await one.locate(one.ref(Ring, key)) for key in range(200)]
            on_one = [key for key, member in enumerate(places) if member.id == one.id]
            on_two = [key for key, member in enumerate(places) if member.id == two.id]
            yield [one.ref(Ring, key) for key in (on_one[0], on_two[0], on_one[1])]


async def test_chains_that_do_not_come_back_are_fine(refs: list[Ring]) -> None:
    a, b, c = refs
    assert await a.go(b, c) == "end"
    assert list(await asyncio.gather(a.go(b, c), b.go(c), c.go())) == ["end"] * 3


@pytest.mark.parametrize("way", [(0, 0), (0, 1, 0), (0, 1, 2, 0), (2, 0, 1, 0), (0, 1, 2, 1)], ids=str)
async def test_a_chain_that_comes_back_is_told_at_once(refs: list[Ring], way: tuple[int, ...]) -> None:
    async with asyncio.timeout(3):
        error = await raised(refs[way[0]].go(*(refs[n] for n in way[1:])))
    assert isinstance(error, CallCycle)
    assert error.certainty is NOT_SENT
    for number in way:
        assert repr(refs[number]).removeprefix("<ref ").removesuffix(">") in str(error)
    assert "reentrant" in str(error)
    assert await refs[way[0]].go() == "end"


async def test_read_only_handlers_are_no_exception(refs: list[Ring]) -> None:
    a, b, _ = refs
    assert isinstance(await raised(a.read(b, a)), CallCycle)
    assert await a.read(b) == "read"


@pytest.mark.parametrize("way", [(0, 0), (0, 1, 0), (0, 1, 2, 0)], ids=str)
async def test_a_reentrant_handler_lets_the_chain_in(refs: list[Ring], way: tuple[int, ...]) -> None:
    for times in (1, 2):
        assert await refs[way[0]].go_to("let_in", *(refs[n] for n in way[1:])) == f"let in {times}"


async def test_a_reentrant_handler_takes_its_turn_otherwise(refs: list[Ring]) -> None:
    assert await refs[0].let_in() == "let in 1"


@pytest.mark.parametrize("how", ["group", "task"])
async def test_tasks_carry_the_chain(refs: list[Ring], how: str) -> None:
    async with asyncio.timeout(3):
        error: Any = await raised(getattr(refs[0], how)(refs[0]))
    cause = error.exceptions[0] if how == "group" else error
    assert isinstance(cause, CallCycle)


async def test_gather_carries_the_chain(refs: list[Ring]) -> None:
    a, b, c = refs
    async with asyncio.timeout(3):
        answers = await a.gather(b, a, c)
    assert answers[0] == answers[2] == "end"
    assert isinstance(answers[1], CallCycle)


async def test_tell_starts_a_new_chain(refs: list[Ring]) -> None:
    await refs[0].tell_on(refs[1])
    await eventually(lambda: gates.seen == ["told back"])


async def test_submit_starts_a_new_chain(refs: list[Ring]) -> None:
    await refs[0].submit_to(refs[0])
    assert await gates.seen[0] == "end"


async def test_a_detached_call_leaves_the_chain_and_so_waits(refs: list[Ring]) -> None:
    error = await raised(refs[0].detached(refs[0]))
    assert isinstance(error, TimeoutError)
    assert not isinstance(error, CallCycle)


async def test_timers_start_a_chain_that_can_come_back_itself(refs: list[Ring]) -> None:
    await refs[0].later()
    await eventually(lambda: len(gates.seen) == 1)
    assert isinstance(gates.seen[0], CallCycle)


async def test_a_task_that_outlives_its_turn_may_ask_its_actor(refs: list[Ring]) -> None:
    await refs[0].leave_task(refs[0])
    await gates.entered("late")
    assert await refs[0].end() == "end"
    gates.let_go("late")
    await eventually(lambda: gates.seen == ["end"])
