"""Without a lease: no turn begins, what turns say waits, and what waits too long is answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ringcast import (
    MAYBE_EXECUTED,
    NOT_SENT,
    Actor,
    Local,
    Unreachable,
    handler,
    props,
    submit,
    tell,
)
from ringcast.discovery.profile import LOCAL as NUMBERS
from ringcast.runtime.link import Link
from tests.unit.runtime.leases import no_lease
from tests.unit.runtime.places import Place, eventually, gates, raised


class Guest(Actor):
    def __init__(self) -> None:
        self.notes: list[Any] = []

    async def note(self, what: Any) -> int:
        gates.seen.append(what)
        self.notes.append(what)
        return len(self.notes)

    async def wait(self, gate: str, answer: Any = None) -> Any:
        await gates.passing(gate)
        return answer

    async def wait_and_call(self, gate: str, other: Guest) -> str:
        await gates.passing(gate)
        await tell(other.note, "told")
        try:
            await other.note("asked")
        except Unreachable as error:
            gates.seen.append(error.certainty.value)
        return "nothing was raised"

    @handler(read_only=True)
    async def count(self, gate: str) -> AsyncIterator[int]:
        try:
            yield 1
            await gates.passing(gate)
            for n in range(2, 100):
                yield n
        finally:
            gates.mark(f"{gate} is over")

    @handler(reentrant=True)
    async def back(self) -> str:
        return "back"

    async def around(self, gate: str, me: Guest) -> str:
        await gates.passing(gate)
        gates.seen.append(await raised(me.back()))
        return "around"


async def test_no_turn_begins_and_all_go_on_when_it_is_back(place: Place) -> None:
    guest = place.node.ref(Guest, "g")
    assert await guest.note(1) == 1
    with no_lease(place.owner):
        asks = [submit(guest.note, n) for n in (2, 3)]
        new = submit(place.node.ref(Guest, "an actor that is not made yet").note, "new")
        await tell(guest.note, 4)
        await eventually(lambda: sum(len(cell.queue or ()) for cell in place.owner._host.cells()) == 4)
        assert gates.seen == [1]
        assert not place.owner.ready
    assert await asyncio.gather(*asks, new) == [2, 3, 1]
    await eventually(lambda: 4 in gates.seen)
    assert [what for what in gates.seen if what != "new"] == [1, 2, 3, 4]
    assert place.owner.ready


async def test_what_waits_longer_than_a_lease_is_refused_and_so_is_what_comes(place: Place) -> None:
    guest = place.node.ref(Guest, "g")
    running = submit(guest.wait, "gate")
    await gates.entered("gate")
    loop = asyncio.get_running_loop()
    with no_lease(place.owner):
        began = loop.time()
        behind, other = submit(guest.note, 1), submit(place.node.ref(Guest, "h").note, 1)
        await tell(guest.note, 2)
        for asked in (behind, other):
            error = await raised(asked)
            assert isinstance(error, Unreachable)
            assert error.certainty is NOT_SENT
            assert "cut off from the majority" in str(error)
        assert NUMBERS.lease <= loop.time() - began < NUMBERS.lease + 0.5
        now = loop.time()
        late = await raised(submit(place.node.ref(Guest, "h").note, 1))
        assert isinstance(late, Unreachable)
        assert late.certainty is NOT_SENT
        assert loop.time() - now < 0.2
        assert place.owner.dead_letters.total == 1, "what was told"
        gates.let_go("gate")
        error = await raised(running)
        assert isinstance(error, Unreachable)
        assert error.certainty is MAYBE_EXECUTED, "it has run, and its answer may not leave"
        assert place.owner.stats()["effects_suppressed"] >= 1
    await eventually(lambda: place.owner.ready)
    assert await guest.note(3) == 1
    assert gates.seen == [3]


@pytest.mark.parametrize("size", [1, 3_000_000])
async def test_an_answer_waits_for_the_lease(place: Place, size: int) -> None:
    guest = place.node.ref(Guest, "g")
    running = submit(guest.wait, "gate", "x" * size)
    await gates.entered("gate")
    with no_lease(place.owner):
        gates.let_go("gate")
        await eventually(lambda: place.owner._vigil.is_waiting)
        assert not running.done()
    assert await running == "x" * size
    assert place.owner.stats()["effects_suppressed"] == 0


@pytest.mark.parametrize("size", [1, 3_000_000])
async def test_an_answer_that_may_not_leave_is_replaced(place: Place, size: int) -> None:
    guest = place.node.ref(Guest, "g")
    running = submit(guest.wait, "gate", "x" * size)
    await gates.entered("gate")
    with no_lease(place.owner):
        gates.let_go("gate")
        error = await raised(running)
        assert isinstance(error, Unreachable)
        assert error.certainty is MAYBE_EXECUTED
        assert place.owner.stats()["effects_suppressed"] == 1


async def test_a_stream_without_a_lease_waits_and_then_ends(place: Place) -> None:
    for key, is_back in (("back", True), ("lost", False)):
        items = place.node.ref(Guest, key).count(key)
        assert await anext(items) == 1
        await gates.entered(key)
        with no_lease(place.owner):
            gates.let_go(key)
            await eventually(lambda: place.owner._vigil.is_waiting)
            if not is_back:
                error = await raised(anext(items))
                assert isinstance(error, Unreachable)
                assert error.certainty is MAYBE_EXECUTED
        if is_back:
            assert [n async for n in items] == list(range(2, 100))
        await gates.entered(f"{key} is over")


async def test_what_a_turn_asks_and_tells_elsewhere_does_not_leave(there: Place) -> None:
    caller, owner = there.node, there.owner
    away = await caller.spawn(props(Guest), on=Local())
    guest = caller.ref(Guest, "g")
    assert (await caller.locate(guest)).id == owner.id
    for gate, is_back in (("back", True), ("lost", False)):
        running = submit(guest.wait_and_call, gate, away)
        await gates.entered(gate)
        with no_lease(owner):
            gates.let_go(gate)
            await eventually(lambda: owner._vigil.is_waiting)
            assert gates.seen == []
            if not is_back:
                assert isinstance(await raised(running), Unreachable), "its own answer may not leave either"
        if is_back:
            assert await running == "nothing was raised"
            assert gates.seen == ["told", "asked"]
            gates.seen.clear()
    assert gates.seen == ["not sent"]
    assert owner.stats()["effects_suppressed"] == 3
    assert owner.dead_letters.total == 1


async def test_what_is_no_effect_of_a_turn_leaves_at_last(there: Place) -> None:
    guest = there.node.ref(Guest, "g")
    with no_lease(there.node):
        assert await guest.note(1) == 1, "what is asked from outside of actors needs no lease at the caller's node"


async def test_a_chain_that_comes_back_is_refused(here: Place) -> None:
    guest = here.node.ref(Guest, "g")
    running = submit(guest.around, "gate", guest)
    await gates.entered("gate")
    with no_lease(here.node):
        gates.let_go("gate")
        await eventually(lambda: len(gates.seen) == 1)
        (error,) = gates.seen
        assert isinstance(error, Unreachable)
        assert error.certainty is NOT_SENT
    assert await running == "around"


async def test_a_large_answer_that_has_begun_to_leave_ends_the_connection(there: Place) -> None:
    guest = there.node.ref(Guest, "g")
    assert await guest.note(0) == 1
    link: Link = there.owner._peers.links[there.node.id]
    connection = link.connection
    assert connection is not None
    running = submit(guest.wait, "gate", b"x" * 50_000_000)
    await gates.entered("gate")
    gates.let_go("gate")
    await eventually(lambda: bool(connection._outgoing))
    with no_lease(there.owner):
        error = await raised(running)
        assert isinstance(error, Unreachable)
        assert error.certainty is MAYBE_EXECUTED
        assert connection.transport is None
