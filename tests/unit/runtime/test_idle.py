"""Idle actors are let go; timers; what an actor finds in its context."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from ringcast import Actor, Timer, handler, tell, watching
from tests.unit.runtime.places import Place, eventually, gates, raised


class Sleeper(Actor, idle_after=0.1):
    def __init__(self) -> None:
        self.value = 0
        self.key_at_birth = self.context.key

    async def on_start(self) -> None:
        gates.seen.append("start")

    async def on_stop(self, reason: str) -> None:
        gates.seen.append(f"stop: {reason}")

    async def set(self, value: int) -> None:
        self.value = value

    async def get(self) -> int:
        return self.value

    async def remind(self, seconds: float) -> None:
        self.context.after(seconds, self.set, 7)

    async def wait(self, gate: str) -> None:
        await gates.passing(gate)

    @handler(read_only=True)
    async def items(self, gate: str) -> AsyncGenerator[int, None]:
        yield 1
        await gates.passing(gate)
        yield self.value


class Clock(Actor):
    def __init__(self) -> None:
        self.timer: Timer | None = None
        self.ticks = 0

    async def after(self, seconds: float, value: Any) -> None:
        self.timer = self.context.after(seconds, self.note, value, 2)

    async def every(self, seconds: float) -> None:
        self.timer = self.context.every(seconds, self.tick)

    async def every_slow(self, seconds: float) -> None:
        self.timer = self.context.every(seconds, self.slow)

    async def every_failing(self, seconds: float) -> None:
        self.timer = self.context.every(seconds, self.fail)

    async def cancel(self) -> None:
        assert self.timer is not None
        self.timer.cancel()
        self.timer.cancel()

    async def note(self, value: Any, number: int) -> None:
        gates.seen.append((value, number))

    async def tick(self) -> None:
        self.ticks += 1
        gates.seen.append("tick")

    async def slow(self) -> None:
        gates.seen.append("slow")
        await gates.passing("slow")

    async def fail(self) -> None:
        gates.seen.append("fail")
        raise LookupError

    async def wrong(self, kind: str) -> None:
        match kind:
            case "private":
                self.context.after(1, self._private)
            case "foreign":
                self.context.after(1, asyncio.sleep, 1)
            case "ref":
                self.context.after(1, self.context.me.tick)
            case "negative":
                self.context.after(-1, self.tick)
            case "zero":
                self.context.every(0, self.tick)
            case "keywords":
                self.context.after(1, self.note, value=1, number=2)
            case _:
                raise AssertionError(kind)

    async def _private(self) -> None: ...

    async def know(self) -> dict[str, Any]:
        context = self.context
        return {"key": context.key, "me": context.me, "parent": context.parent, "epoch": context.epoch}

    async def log(self) -> dict[str, Any]:
        bound: Any = self.context.log
        return dict(bound._context)

    async def relay_log(self, other: Any) -> tuple[Any, Any]:
        bound: Any = self.context.log
        return dict(bound._context), await other.log()


# ---- idleness ------------------------------------------------------------------------------------


async def test_an_idle_actor_is_let_go_with_its_memory(place: Place) -> None:
    sleeper = place.node.ref(Sleeper, "s")
    await sleeper.set(5)
    assert await sleeper.get() == 5
    await eventually(lambda: gates.seen == ["start", "stop: idle"])
    assert place.owner.stats()["actors"] == 0
    assert await sleeper.get() == 0
    assert gates.seen[:3] == ["start", "stop: idle", "start"]


async def test_messages_keep_an_actor(place: Place) -> None:
    sleeper = place.node.ref(Sleeper, "s")
    await sleeper.set(5)
    for _ in range(25):
        await asyncio.sleep(0.01)  # the actor's time goes by, and no single gap is long enough
        assert await sleeper.get() == 5


async def test_a_pending_timer_keeps_an_actor(place: Place) -> None:
    sleeper = place.node.ref(Sleeper, "s")
    await sleeper.remind(0.3)
    await eventually(lambda: "stop: idle" in gates.seen)
    assert gates.seen == ["start", "stop: idle"]
    assert await sleeper.get() == 0


async def test_a_running_message_and_an_open_stream_keep_an_actor(place: Place) -> None:
    sleeper, busy = place.node.ref(Sleeper, "s"), place.node.ref(Sleeper, "b")
    await tell(busy.wait, "busy")
    items = sleeper.items("stream")
    assert await anext(items) == 1
    await sleeper.set(3)
    await gates.entered("busy")
    other = place.node.ref(Sleeper, "other")
    await other.get()
    await eventually(lambda: gates.seen.count("stop: idle") == 1)
    assert place.owner.stats()["actors"] == 2
    gates.let_go("stream", "busy")
    assert await anext(items) == 3
    await items.aclose()
    await eventually(lambda: place.owner.stats()["actors"] == 0)


async def test_going_idle_is_no_end_for_a_watcher(place: Place) -> None:
    sleeper = place.node.ref(Sleeper, "s")
    await sleeper.get()
    async with watching(sleeper) as ended:
        await eventually(lambda: "stop: idle" in gates.seen)
        assert await sleeper.get() == 0
        assert not ended.done()


async def test_stopping_a_keyed_actor_deactivates_it(place: Place) -> None:
    sleeper = place.node.ref(Sleeper, "s")
    await sleeper.set(5)
    await place.node.stop(sleeper)
    assert gates.seen == ["start", "stop: stopped"]
    assert await sleeper.get() == 0
    await place.node.stop(place.node.ref(Sleeper, "never active"))


# ---- timers ----------------------------------------------------------------------------------------


async def test_after_tells_once(place: Place) -> None:
    clock = place.node.ref(Clock, "c")
    await clock.after(0.01, "later")
    await eventually(lambda: gates.seen == [("later", 2)])
    await clock.after(0, "now")
    await eventually(lambda: gates.seen == [("later", 2), ("now", 2)])


async def test_every_tells_again_until_it_is_cancelled(place: Place) -> None:
    clock = place.node.ref(Clock, "c")
    await clock.every(0.01)
    await eventually(lambda: len(gates.seen) >= 5)
    await clock.cancel()
    await clock.know()
    seen = len(gates.seen)
    await clock.after(0.05, "end")
    await eventually(lambda: ("end", 2) in gates.seen)
    assert gates.seen.count("tick") == seen


async def test_a_cancelled_timer_does_not_tell(place: Place) -> None:
    clock, other = place.node.ref(Clock, "c"), place.node.ref(Clock, "o")
    await clock.after(0.02, "never")
    await clock.cancel()
    await other.after(0.05, "end")
    await eventually(lambda: ("end", 2) in gates.seen)
    assert gates.seen == [("end", 2)]


async def test_ticks_that_would_pile_up_are_skipped(place: Place) -> None:
    clock, other = place.node.ref(Clock, "c"), place.node.ref(Clock, "o")
    await clock.every_slow(0.01)
    await gates.entered("slow")
    await other.after(0.2, "end")
    await eventually(lambda: ("end", 2) in gates.seen)
    assert gates.seen == ["slow", ("end", 2)]
    gates.let_go("slow")
    await clock.cancel()
    await clock.know()
    assert gates.seen.count("slow") <= 3


async def test_timers_end_with_their_activation(place: Place) -> None:
    clock, other = place.node.ref(Clock, "c"), place.node.ref(Clock, "o")
    await clock.every(0.01)
    await eventually(lambda: len(gates.seen) >= 2)
    await place.node.stop(clock)
    gates.seen.clear()
    await other.after(0.05, "end")
    await eventually(lambda: ("end", 2) in gates.seen)
    assert gates.seen == [("end", 2)]


async def test_a_failure_in_a_timer_fails_the_actor_and_its_timers(place: Place) -> None:
    clock = place.node.ref(Clock, "c")
    epoch = (await clock.know())["epoch"]
    await clock.every_failing(0.01)
    await eventually(lambda: gates.seen == ["fail"])
    assert (await clock.know())["epoch"] > epoch
    assert gates.seen == ["fail"]


@pytest.mark.parametrize("kind", ["private", "foreign", "ref", "negative", "zero", "keywords"])
async def test_timers_say_what_they_take(here: Place, kind: str) -> None:
    assert isinstance(await raised(here.node.ref(Clock, "c").wrong(kind)), TypeError)


# ---- the context -----------------------------------------------------------------------------------


async def test_what_a_context_knows(place: Place) -> None:
    clock = place.node.ref(Clock, ("a", 1))
    known = await clock.know()
    assert (known["key"], known["me"], known["parent"]) == (("a", 1), clock, None)
    assert 0 < known["epoch"] < 1 << 63


async def test_epochs_grow_with_every_activation(place: Place) -> None:
    clock = place.node.ref(Clock, "c")
    epochs: list[int] = []
    for _ in range(4):
        epochs.append((await clock.know())["epoch"])
        await place.node.stop(clock)
    assert epochs == sorted(set(epochs))


async def test_the_log_is_bound_to_node_actor_and_trace(place: Place) -> None:
    clock = place.node.ref(Clock, "c")
    bound = await clock.log()
    assert bound["node"] == place.owner.id
    assert "Clock['c']" in bound["actor"]
    assert bound["trace"]


async def test_a_chain_of_calls_has_one_trace(place: Place) -> None:
    one, other = await place.node.ref(Clock, "c").relay_log(place.node.ref(Clock, "o"))
    assert one["trace"] == other["trace"]
    assert one["actor"] != other["actor"]


async def test_the_context_is_there_before_the_constructor(place: Place) -> None:
    assert await place.node.ref(Sleeper, "s").get() == 0
