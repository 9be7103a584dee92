"""One message at a time; read-only ones beside one another; what a turn leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextvars import ContextVar
from typing import Any

import pytest

from ringcast import Actor, RemoteError, handler, submit, tell
from ringcast.actors.turn import current_turn
from ringcast.runtime.runner import PARKED_MAX
from tests.unit.runtime.places import Place, eventually, gates

colour: ContextVar[str] = ContextVar("colour", default="none")


class Desk(Actor):
    def __init__(self) -> None:
        self.value = 0

    async def write(self, gate: str) -> int:
        gates.seen.append(f"{gate} begins")
        await gates.passing(gate)
        gates.seen.append(f"{gate} ends")
        return 1

    @handler(read_only=True)
    async def read(self, gate: str) -> int:
        gates.seen.append(f"{gate} begins")
        await gates.passing(gate)
        gates.seen.append(f"{gate} ends")
        return self.value

    async def set(self, value: int) -> None:
        self.value = value

    @handler(read_only=True)
    async def subscribe(self, gate: str) -> AsyncGenerator[int, None]:
        yield self.value
        await gates.passing(gate)
        yield self.value

    async def stream(self, gate: str) -> AsyncGenerator[int, None]:
        yield self.value
        await gates.passing(gate)
        yield self.value

    async def paint(self, name: str) -> str:
        before = colour.get()
        colour.set(name)
        return before

    async def start_task(self, gate: str) -> None:
        self._task = asyncio.create_task(self._work(gate))

    async def _work(self, gate: str) -> None:
        try:
            await gates.passing(gate)
        except asyncio.CancelledError:
            gates.mark(f"{gate} cancelled")
            raise
        await self.context.ref(Desk, "other").set(5)
        gates.mark(f"{gate} sent")

    async def value_is(self) -> int:
        return self.value

    async def turn_seen(self) -> bool:
        turn = current_turn.get()
        return turn is not None

    async def stop_me(self) -> None:
        await self.context.stop(self.context.me)
        gates.mark("stop returned")


async def test_messages_take_turns(place: Place) -> None:
    desk = place.node.ref(Desk, "d")
    tasks = [submit(desk.write, name) for name in "abc"]
    for name in "abc":
        await gates.entered(name)
        gates.let_go(name)
    await asyncio.gather(*tasks)
    assert gates.seen == ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]


async def test_different_actors_do_not_wait_for_one_another(place: Place) -> None:
    one, other = place.node.ref(Desk, "one"), place.node.ref(Desk, "other")
    task = submit(one.write, "a")
    await gates.entered("a")
    await other.set(1)
    gates.let_go("a")
    await task


async def test_read_only_handlers_interleave_with_one_another(place: Place) -> None:
    desk = place.node.ref(Desk, "d")
    tasks = [submit(desk.read, name) for name in "abc"]
    for name in "abc":
        await gates.entered(name)
    gates.let_go("c", "b", "a")
    assert await asyncio.gather(*tasks) == [0, 0, 0]
    assert gates.seen[:3] == ["a begins", "b begins", "c begins"]


async def test_a_writer_waits_for_readers_and_readers_for_a_writer(place: Place) -> None:
    desk = place.node.ref(Desk, "d")
    first = submit(desk.read, "r1")
    await gates.entered("r1")
    writer = submit(desk.write, "w")
    second = submit(desk.read, "r2")
    await place.node.ref(Desk, "other").value_is()  # all three have arrived before this answer
    assert gates.seen == ["r1 begins"]
    gates.let_go("r1")
    await gates.entered("w")
    assert gates.seen == ["r1 begins", "r1 ends", "w begins"]
    gates.let_go("w", "r2")
    await asyncio.gather(first, writer, second)
    assert gates.seen == ["r1 begins", "r1 ends", "w begins", "w ends", "r2 begins", "r2 ends"]


async def test_writers_run_while_a_read_only_stream_is_open(place: Place) -> None:
    desk = place.node.ref(Desk, "d")
    items = desk.subscribe("gate")
    assert await anext(items) == 0
    await desk.set(7)
    assert await desk.value_is() == 7
    await tell(desk.set, 8)
    assert await desk.value_is() == 8
    gates.let_go("gate")
    assert await anext(items) == 8
    assert [item async for item in items] == []


async def test_other_streams_hold_the_turn(place: Place) -> None:
    desk = place.node.ref(Desk, "d")
    items = desk.stream("gate")
    assert await anext(items) == 0
    writing = submit(desk.set, 7)
    await gates.entered("gate")
    await place.node.ref(Desk, "other").value_is()
    assert not writing.done()
    gates.let_go("gate")
    assert [item async for item in items] == [0]
    await writing
    assert await desk.value_is() == 7


async def test_context_variables_stay_with_their_turn(place: Place) -> None:
    colour.set("the test's")
    one, other = place.node.ref(Desk, "one"), place.node.ref(Desk, "other")
    for _ in range(3):
        assert await one.paint("red") == "none"
        assert await other.paint("green") == "none"
    assert await asyncio.gather(*(other.paint("blue") for _ in range(5))) == ["none"] * 5
    assert colour.get() == "the test's"


async def test_a_turn_is_not_seen_outside(place: Place) -> None:
    assert await place.node.ref(Desk, "d").turn_seen()
    assert current_turn.get() is None


async def test_what_a_handlers_task_sends_goes_out_while_the_activation_lives(place: Place) -> None:
    await place.node.ref(Desk, "d").start_task("task")
    await gates.entered("task")
    gates.let_go("task")
    await gates.entered("task sent")
    assert await place.node.ref(Desk, "other").value_is() == 5


async def test_tasks_end_with_their_activation(place: Place) -> None:
    desk = place.node.ref(Desk, "d")
    await desk.start_task("task")
    await gates.entered("task")
    await place.node.stop(desk)
    await gates.entered("task cancelled")
    assert not gates.has_entered("task sent")


async def test_an_actor_that_stops_itself_finishes_its_turn(place: Place) -> None:
    desk = place.node.ref(Desk, "d")
    await desk.set(3)
    await desk.stop_me()
    assert gates.has_entered("stop returned")
    assert await desk.value_is() == 0


async def test_a_busy_actor_leaves_the_loop_to_others(here: Place) -> None:
    desk, other = here.node.ref(Desk, "d"), here.node.ref(Desk, "o")
    flood = [submit(desk.set, n) for n in range(20_000)]
    await other.set(1)
    assert not all(task.done() for task in flood)
    await asyncio.gather(*flood)


async def test_many_actors_cost_no_tasks_when_they_have_nothing_to_do(here: Place) -> None:
    before = len(asyncio.all_tasks())
    await asyncio.gather(*(here.node.ref(Desk, n).set(1) for n in range(2000)))
    await eventually(lambda: len(asyncio.all_tasks()) <= before + PARKED_MAX + 3)


async def test_readers_are_cancelled_one_by_one(place: Place) -> None:
    desk = place.node.ref(Desk, "d")
    reads: list[asyncio.Task[Any]] = [submit(desk.read, name) for name in "ab"]
    await gates.entered("a")
    await gates.entered("b")
    reads[0].cancel()
    gates.let_go("a", "b")
    assert await reads[1] == 0


class Quitter(Actor):
    async def ready(self) -> str:
        return "ready"

    async def quit(self) -> None:
        raise asyncio.CancelledError("not the caller's")


async def test_a_handler_that_raises_cancelled_error_does_not_cancel_its_caller(place: Place) -> None:
    quitter = place.node.ref(Quitter, "q")
    for _ in range(3):  # from the second on the turn begins at once
        with pytest.raises(RemoteError, match="CancelledError"):
            await quitter.quit()
        assert await quitter.ready() == "ready"


class Careless(Actor):
    async def ready(self) -> str:
        return "ready"

    async def leave_a_cancel(self) -> None:
        """End at once, and have the task cancelled after that: the cancel belongs to no turn any more."""
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)

    async def rest(self) -> str:
        await asyncio.sleep(0.001)
        return "rested"


async def test_a_cancel_that_comes_after_its_turn_stops_no_actor(place: Place) -> None:
    """It may hit the turn that the task has gone on to; that one's caller is told, and all go on."""
    careless, others = place.node.ref(Careless, "c"), [place.node.ref(Careless, i) for i in range(5)]
    assert await careless.ready() == "ready"
    for _ in range(20):
        calls = [other.rest() for other in others for _ in range(3)]
        _, *answers = await asyncio.gather(careless.leave_a_cancel(), *calls, return_exceptions=True)
        for answer in answers:
            assert answer == "rested" or "was cancelled from outside" in str(answer)
        assert answers.count("rested") >= len(answers) - 1
        assert await asyncio.gather(*[other.ready() for other in others]) == ["ready"] * 5
    assert await careless.ready() == "ready"
