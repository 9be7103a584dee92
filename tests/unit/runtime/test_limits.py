"""Limits and cancellation: what is executed, what is not, and what the caller is told."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from ringcast import MAYBE_EXECUTED, NOT_SENT, Actor, CallTimeout, handler, submit, tell, using
from tests.unit.runtime.places import LOCAL, REMOTE, Place, a_place, eventually, gates, raised


class Slow(Actor):
    async def wait(self, gate: str) -> str:
        try:
            await gates.passing(gate)
        except asyncio.CancelledError:
            gates.mark(f"{gate} cancelled")
            raise
        gates.seen.append(gate)
        return gate

    @handler(cancellable=True)
    async def cancellable(self, gate: str) -> str:
        return await self.wait(gate)

    @handler(cancellable=True)
    async def stubborn(self, gate: str) -> str:
        try:
            await gates.passing(gate)
        except asyncio.CancelledError:
            gates.mark(f"{gate} cancelled")
        return gate

    @handler(cancellable=True)
    async def sore(self, gate: str) -> str:
        try:
            await gates.passing(gate)
        except asyncio.CancelledError:
            raise LookupError("while it was cleaned up") from None
        return gate

    @handler(timeout=0.15)
    async def limited(self, gate: str) -> str:
        return await self.wait(gate)

    @handler(timeout=60)
    async def generous(self, gate: str) -> str:
        return await self.wait(gate)

    @handler(read_only=True, cancellable=True)
    async def read(self, gate: str) -> str:
        return await self.wait(gate)

    @handler(read_only=True)
    async def peek(self, gate: str) -> str:
        return await self.wait(gate)

    async def note(self, value: Any) -> None:
        gates.seen.append(value)

    async def relay(self, other: Any, gate: str) -> Any:
        return await other.wait(gate)

    async def relay_own_limit(self, other: Any, gate: str) -> Any:
        return await using(other, timeout=30).wait(gate)

    async def relay_detached(self, other: Any, gate: str) -> Any:
        return await using(other, detached=True).wait(gate)

    async def relay_told(self, other: Any, gate: str) -> None:
        await tell(other.wait, gate)
        await gates.passing("relay goes on")

    async def relay_submitted(self, other: Any, gate: str) -> None:
        gates.seen.append(submit(other.wait, gate))
        await gates.passing("relay goes on")

    async def late(self, other: Any) -> Any:
        await gates.passing("late")
        return await other.note("late")

    async def foreign_cancel(self) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(task.cancel)
        await task


async def answers(place: Place, slow: Slow) -> bool:
    """Whether an actor still handles messages."""
    async with asyncio.timeout(5):
        await slow.note("answers")
    return bool(gates.seen.pop() == "answers")


# ---- limits --------------------------------------------------------------------------------------


async def test_a_call_that_runs_too_long(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    error = await raised(using(slow, timeout=0.1).wait("gate"))
    assert isinstance(error, CallTimeout)
    assert isinstance(error, TimeoutError)
    assert error.certainty is MAYBE_EXECUTED
    assert error.place is not None
    assert "running for 0.1 s" in error.place
    assert place.owner.id in error.place
    assert error.place in str(error)
    assert (error.method, error.node) == ("wait", place.owner.id)
    gates.let_go("gate")  # it was not cancelled: it is not cancellable
    assert await answers(place, slow)
    assert gates.seen == ["gate"]


async def test_a_call_that_waits_too_long_is_not_executed(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    first = submit(slow.wait, "first")
    await gates.entered("first")
    error = await raised(using(slow, timeout=0.1).note("queued"))
    assert isinstance(error, CallTimeout)
    assert error.certainty is NOT_SENT
    assert error.place is not None
    assert "queued behind wait, which has run for" in error.place
    assert place.owner.id in error.place
    gates.let_go("first")
    await first
    assert await answers(place, slow)
    assert "queued" not in gates.seen


async def test_a_call_that_waits_for_readers_too_long_is_not_executed(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    reading = submit(slow.peek, "reader")
    await gates.entered("reader")
    error = await raised(using(slow, timeout=0.1).note("queued"))
    assert isinstance(error, CallTimeout)
    assert error.certainty is NOT_SENT
    gates.let_go("reader")
    await reading
    assert await answers(place, slow)
    assert "queued" not in gates.seen


async def test_the_default_limit_is_the_nodes() -> None:
    for where in (LOCAL, REMOTE):
        async with a_place(where, ask_timeout=0.1) as place:
            begun = time.monotonic()
            error = await raised(place.node.ref(Slow, "s").wait("never"))
            assert isinstance(error, CallTimeout)
            assert 0.1 <= time.monotonic() - begun < 1.0
            gates.let_go("never")
            gates.clear()


async def test_using_gives_more_time_than_the_default() -> None:
    for where in (LOCAL, REMOTE):
        async with a_place(where, ask_timeout=0.1) as place:
            slow = place.node.ref(Slow, "s")
            task = asyncio.create_task(using(slow, timeout=20).wait("gate"))
            await gates.entered("gate")
            assert isinstance(await raised(slow.note(1)), CallTimeout)
            gates.let_go("gate")
            assert await task == "gate"
            gates.clear()


async def test_a_handlers_limit_bounds_its_run_and_is_the_default(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    error = await raised(slow.limited("gate"))
    assert isinstance(error, CallTimeout)
    await gates.entered("gate cancelled")
    assert await answers(place, slow)


async def test_a_handlers_limit_bounds_its_run_whatever_the_caller_says(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    error = await raised(using(slow, timeout=20).limited("gate"))
    assert isinstance(error, CallTimeout)
    assert "0.15" in str(error)
    assert gates.has_entered("gate cancelled")
    assert await answers(place, slow)


async def test_a_handlers_limit_replaces_a_shorter_default() -> None:
    for where in (LOCAL, REMOTE):
        async with a_place(where, ask_timeout=0.05) as place:
            slow = place.node.ref(Slow, "s")
            task = asyncio.create_task(slow.generous("gate"))
            assert isinstance(await raised(place.node.ref(Slow, "t").wait("t")), CallTimeout)
            gates.let_go("gate", "t")
            assert await task == "gate"
            gates.clear()


async def test_a_told_message_has_no_limit_of_its_own() -> None:
    for where in (LOCAL, REMOTE):
        async with a_place(where, ask_timeout=0.05) as place:
            slow = place.node.ref(Slow, "s")
            await tell(slow.wait, "gate")
            await gates.entered("gate")
            await tell(slow.note, "told")
            assert isinstance(await raised(slow.note("asked")), CallTimeout)
            gates.let_go("gate")
            await eventually(lambda: gates.seen == ["gate", "told"])
            gates.clear()


async def test_a_told_message_expires_under_using(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    await tell(slow.wait, "gate")
    await gates.entered("gate")
    await tell(using(slow, timeout=0.05).note, "told")
    await raised(using(slow, timeout=0.15).note("asked"))
    gates.let_go("gate")
    assert await answers(place, slow)
    assert gates.seen == ["gate"]
    assert place.owner.dead_letters.total == 1
    letter = next(iter(place.owner.dead_letters))
    assert "Slow['s']" in letter.actor
    assert letter.method == "note"
    assert "time ran out" in letter.reason


# ---- limits of chains ------------------------------------------------------------------------------


async def test_nested_calls_inherit_what_is_left(place: Place) -> None:
    one, other = place.node.ref(Slow, "one"), place.node.ref(Slow, "other")
    for relay in (using(one, timeout=0.15).relay, using(one, timeout=0.15).relay_own_limit):
        begun = time.monotonic()
        assert isinstance(await raised(relay(other, "gate")), CallTimeout)
        assert await answers(place, one)
        assert time.monotonic() - begun < 1.5
        gates.let_go("gate")
        assert await answers(place, other)
        gates.clear()


async def test_a_detached_call_does_not(place: Place) -> None:
    one, other = place.node.ref(Slow, "one"), place.node.ref(Slow, "other")
    assert isinstance(await raised(using(one, timeout=0.1).relay_detached(other, "gate")), CallTimeout)
    waiting = submit(one.note, "behind")
    await place.node.ref(Slow, "third").note("third")
    assert not waiting.done()
    gates.let_go("gate")
    await waiting


@pytest.mark.parametrize("how", ["relay_told", "relay_submitted"])
async def test_tell_and_submit_start_with_fresh_limits(place: Place, how: str) -> None:
    one, other = place.node.ref(Slow, "one"), place.node.ref(Slow, "other")
    assert isinstance(await raised(getattr(using(one, timeout=0.1), how)(other, "gate")), CallTimeout)
    await gates.entered("gate")
    gates.let_go("gate", "relay goes on")
    assert await answers(place, one)
    await eventually(lambda: "gate" in gates.seen)
    submitted: list[asyncio.Task[Any]] = [task for task in gates.seen if isinstance(task, asyncio.Task)]
    for task in submitted:
        assert await task == "gate"


async def test_a_turn_whose_time_is_over_asks_nobody(place: Place) -> None:
    one, other = place.node.ref(Slow, "one"), place.node.ref(Slow, "other")
    assert await answers(place, one)  # a connection that is still to be made would lengthen the limit there
    assert isinstance(await raised(using(one, timeout=0.05).late(other)), CallTimeout)
    await asyncio.sleep(0.05)  # the owner's clock began when the message came
    gates.let_go("late")
    assert await answers(place, one)
    assert await answers(place, other)
    assert "late" not in gates.seen


# ---- cancelling ------------------------------------------------------------------------------------


async def test_cancelling_removes_a_queued_call(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    first = submit(slow.wait, "first")
    await gates.entered("first")
    queued = submit(slow.note, "queued")
    await place.node.ref(Slow, "other").note("other")
    queued.cancel()
    assert isinstance(await raised(queued), asyncio.CancelledError)
    await place.node.ref(Slow, "other").note("other")  # the cancel has arrived before this answer
    gates.let_go("first")
    await first
    assert await answers(place, slow)
    assert "queued" not in gates.seen


async def test_cancelling_removes_a_call_that_waits_for_readers(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    reading = submit(slow.peek, "reader")
    await gates.entered("reader")
    queued = submit(slow.note, "queued")
    await place.node.ref(Slow, "other").note("other")
    queued.cancel()
    await raised(queued)
    await place.node.ref(Slow, "other").note("other")
    gates.let_go("reader")
    await reading
    assert await answers(place, slow)
    assert "queued" not in gates.seen


async def test_a_running_handler_goes_on(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    task = submit(slow.wait, "gate")
    await gates.entered("gate")
    task.cancel()
    await raised(task)
    gates.let_go("gate")
    assert await answers(place, slow)
    assert gates.seen == ["gate"]


@pytest.mark.parametrize("method", ["cancellable", "read"])
async def test_a_cancellable_handler_is_cancelled(place: Place, method: str) -> None:
    slow = place.node.ref(Slow, "s")
    for _ in range(3):
        task = submit(getattr(slow, method), "gate")
        await gates.entered("gate")
        task.cancel()
        await raised(task)
        await gates.entered("gate cancelled")
        assert await answers(place, slow)
        gates.clear()


async def test_asyncio_timeout_cancels(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    with pytest.raises(TimeoutError) as info:
        async with asyncio.timeout(0.1):
            await slow.cancellable("gate")
    assert not isinstance(info.value, CallTimeout)
    await gates.entered("gate cancelled")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(slow.cancellable("again"), 0.1)
    await gates.entered("again cancelled")
    assert await answers(place, slow)


@pytest.mark.parametrize("method", ["stubborn", "sore"])
async def test_a_handler_that_makes_nothing_of_its_cancellation_does_no_harm(place: Place, method: str) -> None:
    slow = place.node.ref(Slow, "s")
    for _ in range(3):
        task = submit(getattr(slow, method), "gate")
        await gates.entered("gate")
        behind = submit(slow.foreign_cancel)
        task.cancel()
        await raised(task)
        assert not isinstance(await raised(behind), asyncio.CancelledError)
        assert await answers(place, slow)
        gates.clear()


async def test_cancelling_a_reader_and_the_writer_in_one_step(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    for order in (0, 1):
        tasks = [submit(slow.read, "r"), submit(slow.read, "q")]
        await gates.entered("r")
        await gates.entered("q")
        for task in tasks if order else reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await answers(place, slow)
        gates.clear()


async def test_a_call_that_was_cancelled_before_it_began_is_not_sent(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    never = asyncio.create_task(slow.note("never begun"))
    never.cancel()
    await raised(never)
    assert await answers(place, slow)
    assert gates.seen == []


async def test_a_cancel_that_overtakes_its_call_still_wins(there: Place) -> None:
    """The call goes round by a node that has to send it on; the cancel comes first."""
    slow = there.node.ref(Slow, "s")
    await slow.note("there")
    link = there.node._peers.link(there.owner.id)
    message = type(slow).note.__ringcast_message__  # type: ignore[attr-defined]
    number = there.node._router.number + 1
    link.send_cancel(message, number, "s", False)
    task = submit(slow.note, "overtaken")
    await raised(asyncio.wait_for(task, 0.2))
    assert await answers(there, slow)
    assert gates.seen == ["there"]


async def test_a_cancelled_call_leaves_nothing_behind(place: Place) -> None:
    slow = place.node.ref(Slow, "s")
    tasks = [submit(slow.cancellable, "never") for _ in range(20)]
    await gates.entered("never")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await answers(place, slow)
    assert place.node.stats()["calls_pending"] == 0


async def test_cancels_that_came_too_late_are_forgotten(there: Place) -> None:
    slow = there.node.ref(Slow, "s")
    await slow.note("there")
    link = there.owner._peers.link(there.node.id)  # pyright: ignore[reportPrivateUsage]
    link.cancelled.update({1: 0.0, 2: 0.0})
    await slow.note("again")
    assert link.cancelled == {}
