"""Turns that begin where their message came from: what they find around them, and what they do not overtake."""

from __future__ import annotations

import asyncio
import gc
import math
import time
import weakref
from contextvars import ContextVar
from decimal import Decimal, localcontext
from typing import Any

import pytest

from ringcast import Actor, WrongArguments, tell
from ringcast.actors.turn import current_turn
from ringcast.discovery.gate import boot_time
from ringcast.runtime.runner import Runner
from tests.unit.runtime.leases import no_lease
from tests.unit.runtime.places import Place, eventually

colour: ContextVar[str] = ContextVar("colour", default="none")


class Till(Actor):
    def __init__(self) -> None:
        self._notes: list[str] = []
        self._sum = Decimal(1)

    async def note(self, what: str) -> None:
        self._notes.append(what)

    async def notes(self) -> list[str]:
        return self._notes

    async def notes_so_far(self) -> list[str]:
        return list(self._notes)

    async def missing(self) -> int:
        return self._missing  # type: ignore[attr-defined, no-any-return]

    async def keep(self, value: Any) -> None:
        self._notes = value

    async def third(self) -> str:
        return str(self._sum / 3)

    async def around(self, *, late: bool = False) -> tuple[bool, bool, str]:
        turn, task = current_turn.get(), asyncio.current_task()
        if late:
            await asyncio.sleep(0)
        assert current_turn.get() is turn
        assert asyncio.current_task() is task
        return turn is not None and turn[2][0].name == "around", task is not None, colour.get()

    async def fail(self, *, late: bool = False) -> None:
        if late:
            await asyncio.sleep(0)
        raise ValueError("as asked")

    async def paint(self, name: str) -> None:
        colour.set(name)

    async def limited(self) -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        except TimeoutError:
            return "over"
        return "not over"


async def test_a_turn_has_its_own_task_and_context_and_leaves_the_callers_as_they_were(place: Place) -> None:
    till = place.node.ref(Till, "a")
    mine = asyncio.current_task()
    colour.set("red")
    for _ in range(3):
        assert await till.around() == (True, True, "none")
        assert await till.around(late=True) == (True, True, "none")
        assert asyncio.current_task() is mine
        assert current_turn.get() is None
    colour.set("none")


async def test_arithmetic_of_a_handler_does_not_depend_on_its_callers_context(place: Place) -> None:
    till = place.node.ref(Till, "a")
    await till.third()
    with localcontext() as context:
        context.prec = 3
        assert await till.third() == "0.3333333333333333333333333333"


@pytest.mark.parametrize("late", [False, True])
async def test_a_runner_goes_on_after_a_handler_that_failed(here: Place, late: bool) -> None:
    till = here.node.ref(Till, "a")
    await till.around()
    for _ in range(5):
        with pytest.raises(ValueError, match="as asked"):
            await till.fail(late=late)
        assert await till.around() == (True, True, "none")
        assert await till.limited() == "over"


async def test_a_handler_that_only_moves_values_fails_as_any_other(place: Place) -> None:
    till = place.node.ref(Till, "a")
    await till.note("one")
    for _ in range(3):
        with pytest.raises(AttributeError, match="_missing"):
            await till.missing()
        with pytest.raises(WrongArguments, match="keep"):
            await till.keep()  # type: ignore[call-arg]
        assert await till.notes() == ["one"]


async def test_what_it_returns_and_keeps_is_shared_with_nobody(place: Place) -> None:
    till = place.node.ref(Till, "a")
    kept = ["one"]
    await till.keep(kept)
    kept.append("two")
    (await till.notes()).append("three")
    assert await till.notes() == ["one"]


@pytest.mark.parametrize("ask", [Till.notes, Till.notes_so_far])
async def test_an_ask_does_not_overtake_what_waits_for_the_lease(here: Place, ask: Any) -> None:
    till = here.node.ref(Till, "a")
    await till.note("one")
    with no_lease(here.node):
        await tell(till.note, "two")
        gate = here.node._gate
        with gate._lock:
            gate._set(boot_time() + 5, boot_time())  # by the other thread: this one has not heard of it yet
        assert await getattr(till, ask.__name__)() == ["one", "two"]


@pytest.mark.parametrize("ask", [Till.notes, Till.notes_so_far])
async def test_an_answer_waits_for_the_lease_if_it_ended_during_the_turn(
    here: Place, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    till = here.node.ref(Till, "a")
    await till.note("one")
    router = here.node._router
    times = [time.monotonic(), math.inf]
    monkeypatch.setattr("ringcast.runtime.router.monotonic", lambda: times.pop(0))
    monkeypatch.setattr("ringcast.runtime.calls.monotonic", lambda: math.inf)
    answer = asyncio.ensure_future(getattr(till, ask.__name__)())
    await eventually(lambda: not times)
    assert len(router.sink._held) == 1
    assert not answer.done()
    monkeypatch.undo()
    router.sink.go_on()
    assert await answer == ["one"]


async def test_a_runner_that_is_spent_is_gone_without_the_collector(here: Place) -> None:
    till = here.node.ref(Till, "a")
    await till.note("one")
    runners = here.node._host.runners
    await eventually(lambda: bool(runners.parked))
    gc.collect()
    gc.disable()
    try:
        spent = weakref.ref(runners.parked[-1].task)
        before = len(runners.tasks)
        await till.paint("red")
        await eventually(lambda: len(runners.tasks) < before and spent() is None)
    finally:
        gc.enable()


async def test_what_a_handler_returned_is_not_kept(here: Place) -> None:
    till = here.node.ref(Till, "a")
    await till.note("one")
    await till.notes_so_far()
    runners = here.node._host.runners
    await eventually(lambda: bool(runners.parked))
    assert all(isinstance(runner, Runner) and runner.value is None for runner in runners.parked)
