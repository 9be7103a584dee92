"""Room in mailboxes: credit, waiting senders, and what a full actor does to others."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from ringcast import NOT_SENT, Actor, MailboxFull, submit, tell, using
from ringcast.runtime.wire import WINDOW
from tests.unit.runtime.places import Place, eventually, gates, raised

BOUND = 5


class Small(Actor, mailbox=BOUND):
    def __init__(self) -> None:
        self._seen: list[Any] = []

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate

    async def note(self, value: Any) -> Any:
        self._seen.append(value)
        gates.seen.append(value)
        return value

    async def seen(self) -> list[Any]:
        return self._seen


def room(place: Place) -> int:
    """How many messages are surely accepted behind the one that runs."""
    return WINDOW - 1 if place.is_remote else BOUND


async def fill(place: Place, small: Small) -> list[asyncio.Task[Any]]:
    """Make an actor busy and its mailbox full; return tellers that wait for room, in order."""
    await tell(small.wait, "gate")
    await gates.entered("gate")
    tellers: list[asyncio.Task[Any]] = []
    for number in range(room(place) + 20):
        tellers.append(asyncio.create_task(tell(using(small, timeout=20).note, number)))
        await asyncio.sleep(0)
    await place.node.ref(Small, "another").note("another")
    gates.seen.clear()
    return tellers


async def test_tellers_wait_when_the_mailbox_is_full(place: Place) -> None:
    small = place.node.ref(Small, "s")
    tellers = await fill(place, small)
    waiting = [task for task in tellers if not task.done()]
    assert 0 < len(waiting) <= 21
    assert [task.done() for task in tellers] == sorted((task.done() for task in tellers), reverse=True)
    gates.let_go("gate")
    await asyncio.gather(*tellers)
    assert await small.seen() == list(range(len(tellers)))


async def test_waiting_senders_are_served_first_come_first_served(place: Place) -> None:
    small = place.node.ref(Small, "s")
    tellers = await fill(place, small)
    asks = [submit(small.note, f"ask {n}") for n in range(5)]
    gates.let_go("gate")
    await asyncio.gather(*tellers, *asks)
    assert gates.seen == [*range(len(tellers)), *(f"ask {n}" for n in range(5))]


async def test_past_their_limit_waiting_senders_get_mailbox_full(place: Place) -> None:
    small = place.node.ref(Small, "s")
    tellers = await fill(place, small)
    impatient = using(small, timeout=0.1)
    for call in (tell(impatient.note, "told too much"), impatient.note("asked too much")):
        error = await raised(call)
        assert isinstance(error, MailboxFull), repr(error)
        assert error.certainty is NOT_SENT
        assert error.method == "note"
        assert error.node == place.owner.id
        assert error.actor is not None
        assert "Small['s']" in error.actor
        assert "full mailbox" in str(error)
    gates.let_go("gate")
    await asyncio.gather(*tellers)
    assert await small.seen() == list(range(len(tellers)))


async def test_a_cancelled_waiting_sender_sends_nothing(place: Place) -> None:
    small = place.node.ref(Small, "s")
    tellers = await fill(place, small)
    told = asyncio.create_task(tell(small.note, "told"))
    asked = submit(small.note, "asked")
    behind = submit(small.note, "behind")
    await asyncio.sleep(0)
    told.cancel()
    asked.cancel()
    await asyncio.gather(told, asked, return_exceptions=True)
    gates.let_go("gate")
    await asyncio.gather(*tellers, behind)
    assert await small.seen() == [*range(len(tellers)), "behind"]


async def test_a_full_actor_delays_no_other(place: Place) -> None:
    small = place.node.ref(Small, "s")
    tellers = await fill(place, small)
    others = [place.node.ref(Small, n) for n in range(50)]
    async with asyncio.timeout(5):
        assert await asyncio.gather(*(other.note(n) for n, other in enumerate(others))) == list(range(50))
        for other in others:
            await tell(other.note, "told")
    gates.let_go("gate")
    await asyncio.gather(*tellers)


async def test_credit_is_refilled_for_ever(there: Place) -> None:
    small = there.node.ref(Small, "s")
    for number in range(WINDOW * 5):
        await tell(small.note, number)
    assert await small.seen() == list(range(WINDOW * 5))
    answers = await asyncio.gather(*(submit(small.note, n) for n in range(WINDOW * 5)))
    assert answers == list(range(WINDOW * 5))


async def test_credit_comes_back_for_every_way_that_a_message_can_end(there: Place) -> None:
    """None of cancels, expiries, errors, read-only turns and ended activations may cost credit for good."""
    small: Any = there.node.ref(Small, "s")
    await tell(small.wait, "gate")
    for _ in range(3):
        expired = [submit(using(small, timeout=0.05).note, 1) for _ in range(WINDOW // 4)]
        cancelled = [submit(small.note, 1) for _ in range(WINDOW // 4)]
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*expired, *cancelled, return_exceptions=True)
    gates.let_go("gate")
    for _ in range(WINDOW):
        await raised(small.note())
        await tell(small.note)
    for _ in range(3):
        await there.node.stop(small)
        for number in range(WINDOW // 2):
            await tell(small.note, number)
    async with asyncio.timeout(10):
        for number in range(WINDOW * 3):
            await tell(small.note, number)
        await small.seen()


async def test_a_window_is_one_of_each_actor(there: Place) -> None:
    actors = [there.node.ref(Small, n) for n in range(4)]
    for actor in actors:
        await tell(actor.wait, f"gate {actor!r}")
        await gates.entered(f"gate {actor!r}")
    for actor in actors:
        for number in range(room(there)):
            await tell(using(actor, timeout=1.0).note, number)
    for actor in actors:
        gates.let_go(f"gate {actor!r}")
    for actor in actors:
        assert len(await actor.seen()) >= room(there) - 1


async def test_told_messages_arrive_once_each(place: Place) -> None:
    small = place.node.ref(Small, "s")
    await asyncio.gather(*(tell(small.note, n) for n in range(1000)))
    await eventually(lambda: len(gates.seen) == 1000)
    assert sorted(gates.seen) == list(range(1000))


async def test_tellers_who_would_not_find_room_in_time_are_refused_at_once(there: Place) -> None:
    small = there.node.ref(Small, "s")
    tellers = await fill(there, small)
    impatient = using(small, timeout=0.2)
    waited = await asyncio.gather(*(raised(tell(impatient.note, f"late {n}")) for n in range(10)))
    assert {type(error) for error in waited} == {MailboxFull}
    begun = time.monotonic()
    error = await raised(tell(impatient.note, "refused"))
    assert time.monotonic() - begun < 0.1
    assert isinstance(error, MailboxFull)
    assert error.certainty is NOT_SENT
    assert (error.method, error.node) == ("note", there.owner.id)
    assert error.place == f"refused at node {there.node.id}"
    assert "messages of this node wait for room there" in str(error)
    assert there.node.stats()["calls_refused"] == 1
    gates.let_go("gate")
    await asyncio.gather(*tellers)
    await tell(impatient.note, "again")
    assert await small.seen() == [*range(len(tellers)), "again"], "in order, and what was refused has not run"


async def test_tellers_who_wait_for_less_than_half_of_their_limit_are_not_refused(there: Place) -> None:
    small = there.node.ref(Small, "s")
    tellers = await fill(there, small)
    patient = using(small, timeout=20.0)
    more = [asyncio.create_task(tell(patient.note, f"more {n}")) for n in range(50)]
    await asyncio.sleep(0.3)
    assert not any(one.done() for one in more)
    gates.let_go("gate")
    await asyncio.gather(*tellers, *more)
    assert there.node.stats()["calls_refused"] == 0
