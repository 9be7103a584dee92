"""Actors that have more to do than they can: who is refused, where, and who is not."""

from __future__ import annotations

import asyncio
import time
import traceback
from typing import Any, cast

import pytest

from ringcast import NOT_SENT, Actor, CallTimeout, MailboxFull, handler, submit, tell, using
from ringcast.errors import CallError
from ringcast.runtime import strain as strains
from ringcast.runtime.backlog import LOOK, NEAR
from ringcast.runtime.calls import Call
from ringcast.runtime.cell import Cell
from ringcast.runtime.expiry import shed
from ringcast.runtime.failures import error_to_wire
from ringcast.runtime.routes import Route
from ringcast.runtime.runner import SLICE, SLICE_LEAST, WHOLE_SLICES, Runners
from ringcast.runtime.strain import CALM, EARLY, ENOUGH, FIRST_PART, HORIZON, PART, Strain
from ringcast.runtime.wire import WINDOW
from tests.unit.runtime.places import LOCAL, REMOTE, Place, a_place, eventually, gates, raised


class Busy(Actor):
    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate

    async def note(self, value: Any) -> Any:
        gates.seen.append(value)
        return value

    @handler(read_only=True)
    async def peek(self) -> str:
        return "seen"


def route_of(ref: Busy) -> Route:
    route = getattr(ref, "_route")  # noqa: B009  a ref keeps it to itself
    assert isinstance(route, Route)
    return route


# ---- what is counted -----------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(strains, "monotonic", lambda: clock.now)
    return clock


async def answer(calls: list[Call], number: int, error: Exception | None = None) -> None:
    for call in calls[:number]:
        if error is None:
            call.set_result(None)
        else:
            call.fail(error)
    del calls[:number]
    await asyncio.sleep(0)  # callbacks of futures come by the loop


def late(clock: Clock) -> Strain:
    """Return the strain of an actor where a limit has passed."""
    strain = Strain(clock.now)
    strain.late(clock.now)
    return strain


def under_way(strain: Strain, number: int) -> list[Call]:
    calls = [Call() for _ in range(number)]
    for call in calls:
        strain.count(call)
    return calls


async def test_nothing_seen_admits_all(clock: Clock) -> None:
    strain = late(clock)
    under_way(strain, 1000)
    assert strain.admits(0.001, clock.now)


async def test_those_ahead_take_as_long_as_answers_come(clock: Clock) -> None:
    strain = late(clock)
    calls = under_way(strain, 60)
    clock.now += 0.5
    await answer(calls, 49)  # and one that is on its way: a hundred a second
    assert strain.ahead == 11
    assert strain.wait == pytest.approx(0.11)
    assert strain.admits(0.12 / PART, clock.now)
    assert not strain.admits(0.10 / PART, clock.now)


async def test_the_less_is_answered_the_less_is_admitted(clock: Clock) -> None:
    strain = late(clock)
    under_way(strain, 10)
    admitted: list[bool] = []
    for _ in range(4):
        clock.now += 0.1
        admitted.append(strain.admits(4.0, clock.now))
    assert admitted == [True, True, False, False]


async def test_before_a_limit_has_passed_nobody_is_refused_of_whom_it_is_not_known(clock: Clock) -> None:
    strain = Strain(clock.now)
    calls = under_way(strain, 1000)
    clock.now += 0.5
    await answer(calls, int(ENOUGH) - 1)
    assert strain.admits(0.001, clock.now), "it may have stood still, and go on quickly"
    await answer(calls, 1)
    assert not strain.admits(0.001, clock.now)


async def test_until_somebody_is_refused_the_queue_may_be_long(clock: Clock) -> None:
    strain = Strain(clock.now)
    calls = under_way(strain, 130)
    clock.now += 0.5
    await answer(calls, 49)
    wait = strain.wait
    assert wait == pytest.approx(0.81)
    assert strain.admits(wait / FIRST_PART + 0.01, clock.now)
    assert not strain.admits(wait / FIRST_PART - 0.01, clock.now)
    assert not strain.admits(wait / FIRST_PART + 0.01, clock.now), "and from then on it is to be shorter"
    assert strain.admits(wait / PART + 0.01, clock.now)


async def test_those_behind_do_not_count(clock: Clock) -> None:
    strain = late(clock)
    calls = under_way(strain, 60)
    clock.now += 0.5
    await answer(calls, 49)
    assert not strain.admits(0.10 / PART, clock.now)
    assert strain.admits(0.10 / PART, clock.now, behind=2)


async def test_errors_of_the_runtime_are_no_answers_and_those_of_handlers_are(clock: Clock) -> None:
    strain = Strain(clock.now)
    calls = under_way(strain, 41)
    clock.now += 0.4
    await answer(calls, 10, CallError("refused", certainty=NOT_SENT))
    assert strain.wait == pytest.approx(31 * 0.4)
    await answer(calls, 9, LookupError("what the handler raised"))
    assert strain.wait == pytest.approx(22 * 0.4 / 10)
    calls[0].cancel()
    await asyncio.sleep(0)
    assert strain.wait == pytest.approx(21 * 0.4 / 10)


async def test_an_idle_time_makes_nobody_slow(clock: Clock) -> None:
    strain = late(clock)
    calls = under_way(strain, 9)
    clock.now += 0.1
    await answer(calls, 9)
    clock.now += 1000.0
    assert strain.admits(0.1, clock.now)
    under_way(strain, 10)
    assert strain.admits(0.1 / PART + 0.01, clock.now)
    assert strain.wait == pytest.approx(0.1)


async def test_what_was_seen_before_counts_less_and_less(clock: Clock) -> None:
    strain = Strain(clock.now)
    calls = under_way(strain, 1000)
    clock.now += HORIZON
    await answer(calls, 99)
    slow = strain.wait / strain.ahead
    for _ in range(8):
        clock.now += HORIZON / 10
        await answer(calls, 100)
    assert strain.wait / strain.ahead < slow / 3


def test_a_strain_is_over_when_all_has_been_well_for_a_while() -> None:
    strain = Strain(10.0)
    assert not strain.is_over(10.0 + CALM - 0.1)
    strain.late(12.0)
    assert not strain.is_over(12.0 + CALM - 0.1)
    assert strain.is_over(12.0 + CALM)


async def test_a_refusal_keeps_a_strain_up(clock: Clock) -> None:
    strain = late(clock)
    under_way(strain, 10)
    clock.now += CALM
    assert not strain.admits(1.0, clock.now)
    assert not strain.is_over(clock.now)


# ---- at the sender -------------------------------------------------------------------------------


async def strained(place: Place, busy: Busy, waiting: int = 20) -> list[asyncio.Future[Any]]:
    """Have an actor stand still, a limit pass there, and so many patient calls wait behind it."""
    first = submit(busy.wait, "gate")
    await gates.entered("gate")
    assert isinstance(await raised(using(busy, timeout=0.05).note("late")), CallTimeout)
    calls = [submit(busy.note, number) for number in range(waiting)]
    strain = route_of(busy).strain
    assert strain is not None
    await eventually(lambda: strain.ahead == waiting + 1)  # the call that was under way before is counted, too
    await eventually(lambda: not strain.admits(1.0, time.monotonic()))
    return [first, *calls]


async def test_a_call_that_would_not_be_answered_in_time_is_refused_at_once() -> None:
    async with a_place(REMOTE) as place:
        busy = place.node.ref(Busy, "b")
        calls = await strained(place, busy)
        begun = time.monotonic()
        error = await raised(using(busy, timeout=1.0).note("refused"))
        assert time.monotonic() - begun < 0.5
        assert isinstance(error, MailboxFull)
        assert error.certainty is NOT_SENT
        assert (error.method, error.node) == ("note", place.owner.id)
        assert error.place == f"refused at node {place.node.id}"
        assert "21 calls of this node are ahead of it" in str(error)
        assert place.node.stats()["calls_refused"] == 1
        gates.let_go("gate")
        assert await asyncio.gather(*calls) == ["gate", *range(20)]
        assert gates.seen == list(range(20)), "in order, and what was refused has not run"


async def test_it_is_admitted_again_when_answers_come() -> None:
    async with a_place(REMOTE) as place:
        busy = place.node.ref(Busy, "b")
        calls = await strained(place, busy)
        assert isinstance(await raised(using(busy, timeout=1.0).note("refused")), MailboxFull)
        gates.let_go("gate")
        await asyncio.gather(*calls)
        assert await using(busy, timeout=1.0).note("again") == "again"


async def test_other_actors_and_other_kinds_of_messages_are_not_refused() -> None:
    async with a_place(REMOTE) as place:
        busy = place.node.ref(Busy, "b")
        calls = await strained(place, busy)
        assert await using(place.node.ref(Busy, "another"), timeout=1.0).note("another") == "another"
        await tell(busy.note, "told")
        peek = submit(using(busy, timeout=20).peek)
        gates.let_go("gate")
        assert await peek == "seen"
        await asyncio.gather(*calls)
        assert gates.seen == ["another", *range(20), "told"], "what is told keeps its place behind what was asked"


def over(strain: Strain, now: float) -> bool:
    return True


async def test_credit_is_set_aside_under_strain_and_given_back_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_place(REMOTE) as place:
        busy = place.node.ref(Busy, "b")
        calls = await strained(place, busy)
        route = route_of(busy)
        assert route.credit == 0
        aside = route.kept
        assert 0 < aside < WINDOW
        link = route.link
        assert link is not None
        link.hold_back("this test", True)
        held = submit(busy.note, "held back")
        await asyncio.sleep(0)
        assert (route.credit, route.kept, len(route.waiting)) == (0, aside, 1)
        link.hold_back("this test", False)
        assert (route.credit, route.kept, len(route.waiting)) == (0, aside - 1, 0)
        gates.let_go("gate")
        await asyncio.gather(*calls, held)
        monkeypatch.setattr(Strain, "is_over", over)
        assert await busy.note("well again") == "well again"
        assert route.strain is None
        assert route.kept == 0
        assert route.credit > 0


async def test_what_has_waited_for_credit_is_refused_when_there_is_no_time_left_for_it() -> None:
    async with a_place(REMOTE) as place:
        busy = place.node.ref(Busy, "b")
        calls = await strained(place, busy)
        route = route_of(busy)
        assert route.link is not None
        route.link.hold_back("this test", True)
        held = [submit(busy.note, name) for name in ("hasty", "patient", "sent before")]
        await eventually(lambda: len(route.waiting) == 3)
        pending = place.node._router.calls  # pyright: ignore[reportPrivateUsage]
        for parcel in (route.waiting[0], route.waiting[2]):
            pending[parcel.number].deadline = time.monotonic() + 1.0  # the others have taken the rest of it
        route.waiting[2].is_again = True
        route.link.hold_back("this test", False)
        error = await raised(held[0])
        assert isinstance(error, MailboxFull)
        assert error.certainty is NOT_SENT
        gates.let_go("gate")
        assert await held[1] == "patient"
        assert await held[2] == "sent before", "it may have run, so nobody may say that it was not sent"
        await asyncio.gather(*calls)
        assert "hasty" not in gates.seen


async def test_an_actor_is_watched_from_half_of_a_limit_on_and_nobody_is_refused_for_that() -> None:
    async with a_place(REMOTE) as place:
        busy = using(place.node.ref(Busy, "b"), timeout=8.0)
        limits = place.node._router.limits  # pyright: ignore[reportPrivateUsage]
        first = submit(busy.wait, "gate")
        await gates.entered("gate")
        [call] = place.node._router.calls.values()  # pyright: ignore[reportPrivateUsage]
        limits._sweep()  # pyright: ignore[reportPrivateUsage]
        assert route_of(busy).strain is None, "less is left than of many another limit, but it is all of its own"
        call.deadline -= 8.0 * EARLY
        limits._sweep()  # pyright: ignore[reportPrivateUsage]
        assert route_of(busy).strain is not None
        calls = [submit(busy.note, number) for number in range(100)]
        await asyncio.sleep(0)
        gates.let_go("gate")
        assert await asyncio.gather(first, *calls) == ["gate", *range(100)]


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
async def test_the_usual_limit_is_known_without_being_said(where: str) -> None:
    async with a_place(where, ask_timeout=8.0) as place:
        busy = place.node.ref(Busy, "b")
        limits = place.node._router.limits  # pyright: ignore[reportPrivateUsage]
        first = submit(busy.wait, "gate")
        await gates.entered("gate")
        [call] = place.node._router.calls.values()  # pyright: ignore[reportPrivateUsage]
        call.deadline -= 8.0 * EARLY
        limits._sweep()  # pyright: ignore[reportPrivateUsage]
        assert (route_of(busy).strain is not None) is place.is_remote, "calls of its own node are not watched"
        gates.let_go("gate")
        assert await first == "gate"


async def test_who_sees_no_limit_pass_sees_no_refusal() -> None:
    async with a_place(REMOTE) as place:
        busy = place.node.ref(Busy, "b")
        first = submit(busy.wait, "gate")
        await gates.entered("gate")
        calls = [submit(busy.note, number) for number in range(500)]
        await asyncio.sleep(0)
        assert route_of(busy).strain is None
        gates.let_go("gate")
        assert await asyncio.gather(first, *calls) == ["gate", *range(500)]


async def test_a_late_read_only_call_says_nothing_of_the_queue() -> None:
    async with a_place(REMOTE) as place:
        busy = place.node.ref(Busy, "b")
        first = submit(busy.wait, "gate")
        await gates.entered("gate")
        assert isinstance(await raised(using(busy, timeout=0.05).peek()), CallTimeout)
        assert route_of(busy).strain is None
        gates.let_go("gate")
        await first


# ---- at the owner --------------------------------------------------------------------------------


async def queued(place: Place, busy: Busy, limits: list[float]) -> tuple[Cell, list[asyncio.Task[Any]]]:
    """Have calls wait with so many seconds each."""
    await tell(busy.wait, "gate")
    await gates.entered("gate")
    calls = [asyncio.create_task(raised(using(busy, timeout=limit).note(limit))) for limit in limits]
    kinds = place.owner._host.kinds  # pyright: ignore[reportPrivateUsage]
    cell: Cell = next(kind.cells["b"] for kind in kinds.by_name.values() if "b" in kind.cells)
    await eventually(lambda: len(cell.queue or ()) == len(limits))
    return cell, calls


async def test_a_queue_that_is_too_long_loses_what_has_least_time_left() -> None:
    async with a_place(LOCAL) as place:
        limits = [20.0 + number * 0.1 for number in range(31)]
        cell, calls = await queued(place, place.node.ref(Busy, "b"), limits)
        assert cell.queue is not None
        now = cell.queue[-1][5] - 3.0  # the last message has three seconds, the first none
        shed(cell, now - 5 * LOOK, 0.0)
        assert len(cell.queue) == 31, "nothing is known yet of how quick it is"
        shed(cell, now, 0.0)  # no turn has begun since
        dropped = 31 - len(cell.queue)
        assert dropped == pytest.approx(NEAR * 30, abs=1)
        for call in calls[:dropped]:
            error = await call
            assert isinstance(error, MailboxFull)
            assert error.certainty is NOT_SENT
            assert error.place == f"refused at node {place.node.id}"
        assert not any(call.done() for call in calls[dropped:])
        for call in calls:
            call.cancel()
        gates.let_go("gate")


async def test_a_queue_that_moves_loses_nothing() -> None:
    async with a_place(LOCAL) as place:
        limits = [20.0 + number * 0.1 for number in range(31)]
        cell, calls = await queued(place, place.node.ref(Busy, "b"), limits)
        assert cell.queue is not None
        now = cell.queue[-1][5] - 3.0
        shed(cell, now - 2 * LOOK, 0.0)
        cell.number += 1000
        shed(cell, now, 0.0)
        assert len(cell.queue) == 31
        for call in calls:
            call.cancel()
        gates.let_go("gate")


async def test_a_queue_that_has_time_again_is_not_watched_any_more() -> None:
    async with a_place(LOCAL) as place:
        cell, calls = await queued(place, place.node.ref(Busy, "b"), [20.0, 30.0])
        assert cell.queue is not None
        start = cell.queue[-1][5] - 30.0
        shed(cell, start, 0.0)
        assert cell.backlog is None, "the first has two thirds of what the last has"
        shed(cell, start + 19.0, 0.0)
        assert cell.backlog is not None
        shed(cell, start + 6.0, 0.0)
        assert cell.backlog is None
        for call in calls:
            call.cancel()
        gates.let_go("gate")


def test_what_was_made_to_be_sent_is_described_as_if_it_had_been_printed() -> None:
    class Packs:
        def pack(self, value: object) -> bytes:
            return b""

    error = MailboxFull("full", certainty=NOT_SENT, place="here")
    text = error_to_wire(error, "n1", Packs())[2]  # type: ignore[arg-type]
    assert text == "Remote traceback, from node n1:\n" + "".join(traceback.format_exception(error))


def test_many_that_drain_share_the_time_of_few() -> None:
    runners = Runners()
    shares: list[float] = []
    for number in (0, 1, WHOLE_SLICES, 2 * WHOLE_SLICES, 1000):
        runners.tasks = cast("Any", dict.fromkeys(range(number)))
        shares.append(runners.share())
    assert shares == [SLICE, SLICE, SLICE, SLICE / 2, SLICE_LEAST]
