"""Turns of durable actors that end where they begin, and what may happen while they are saved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from ringcast import MAYBE_EXECUTED, CallError, StoreError, tell
from ringcast.runtime.runner import Runners
from ringcast.runtime.saving import Saving
from tests.unit.runtime.ledgers import Book, Ledger, books
from tests.unit.runtime.places import LOCAL, REMOTE, Place, gates
from tests.unit.runtime.test_fence import fence
from tests.unit.runtime.troubles import PromptTroubledStore, Trouble


@pytest.fixture
def store() -> PromptTroubledStore:
    """Where the books are kept."""
    return PromptTroubledStore()


@pytest_asyncio.fixture(params=[LOCAL, REMOTE])
async def place(request: pytest.FixtureRequest, store: PromptTroubledStore) -> AsyncIterator[Place]:
    """A caller, and where the books are."""
    async with books(request.param, store) as found:
        yield found


@pytest_asyncio.fixture
async def book(place: Place) -> Book:
    """One book, which is active: its turns begin at once."""
    book = place.node.ref(Book, "b")
    await book.add(1)
    return book


def runners(place: Place) -> Runners:
    return place.owner._host.runners


async def saving(book: Book, store: PromptTroubledStore, n: int) -> asyncio.Task[int]:
    """Return an ask whose turn has ended, and whose save does not come on."""
    store.gate.clear()
    store.writing.clear()
    asked = asyncio.ensure_future(book.add(n))
    await store.writing.wait()
    return asked


def kept(place: Place) -> list[Saving]:
    """Return the turns that are being saved without a task."""
    return [found for runner in runners(place).tasks.values() if isinstance(found := runner.kept_for, Saving)]


async def test_a_save_wakes_no_task(book: Book, store: PromptTroubledStore, place: Place) -> None:
    asked = await saving(book, store, 5)
    assert len(kept(place)) == 1
    store.gate.set()
    assert await asked == 6
    assert kept(place) == []


async def test_what_comes_meanwhile_waits_for_the_save(book: Book, store: PromptTroubledStore) -> None:
    asked = await saving(book, store, 5)
    await tell(book.add, 10)
    following = [asyncio.ensure_future(book.add(n)) for n in (100, 1000)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(one.done() for one in (asked, *following))
    store.gate.set()
    assert [await one for one in (asked, *following)] == [6, 116, 1116]
    assert await book.read() == Ledger(1116, [1, 5, 10, 100, 1000])


@pytest.mark.parametrize("trouble", Trouble)
async def test_what_becomes_of_it_is_found_out(book: Book, store: PromptTroubledStore, trouble: Trouble) -> None:
    asked = await saving(book, store, 5)
    following = asyncio.ensure_future(book.add(10))
    store.troubles = [trouble]
    store.gate.set()
    if trouble is Trouble.REFUSED:
        with pytest.raises(StoreError, match=r"Book\['b'\] could not save what it did: the disk is full"):
            await asked
        assert await following == 11
    else:
        assert [await asked, await following] == [6, 16]
        assert len({write.op_id for write in store.writes[1:3]}) == 1, "the same write, said again"


async def test_a_caller_who_gives_up_does_not_stop_the_save(
    book: Book, store: PromptTroubledStore, place: Place
) -> None:
    asked = await saving(book, store, 5)
    asked.cancel()
    await asyncio.wait([asked])
    assert len(kept(place)) == 1
    store.gate.set()
    assert await book.add(1) == 7


async def test_the_end_of_a_node_ends_a_save_that_hangs(store: PromptTroubledStore) -> None:
    async with books(LOCAL, store, drain_timeout=0.2) as place:
        book = place.node.ref(Book, "b")
        await book.add(1)
        asked = await saving(book, store, 5)
    with pytest.raises(CallError) as caught:
        await asked
    assert caught.value.certainty is MAYBE_EXECUTED
    store.gate.set()
    for _ in range(20):
        await asyncio.sleep(0)  # what it says now is nobody's any more
    async with books(LOCAL, store) as place:
        assert await place.node.ref(Book, "b").add(10) == 16, "it was written all the same"


async def test_a_fence_ends_a_save_that_hangs(book: Book, store: PromptTroubledStore, place: Place) -> None:
    asked = await saving(book, store, 5)
    fence(place.owner)
    with pytest.raises(CallError, match="cut short") as caught:
        await asked
    assert caught.value.certainty is MAYBE_EXECUTED
    for _ in range(20):
        await asyncio.sleep(0)
    assert kept(place) == []
    store.gate.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert place.owner._host.runners.parked, "runners are there for others"


async def test_a_runner_that_was_cancelled_for_an_old_turn_is_not_kept(
    book: Book, store: PromptTroubledStore, place: Place
) -> None:
    """A cancel that comes too late is not taken for one of the turn that the runner has by now."""
    for runner in runners(place).parked:
        runner.task.cancel()
    asked = [await saving(book, store, 5)]
    assert kept(place) == []
    store.gate.set()
    assert [await one for one in asked] == [6]
    assert await book.add(1) == 7


async def test_an_effect_that_comes_while_it_is_saved_leaves_with_it(
    book: Book, store: PromptTroubledStore, place: Place
) -> None:
    """A task that the handler has left behind still belongs to the turn, until it is saved."""
    asked = await saving(book, store, 5)
    (found,) = kept(place)
    transaction = found._cell.transaction
    assert transaction is not None
    transaction.keep(lambda: gates.seen.append("let go"))
    assert "let go" not in gates.seen
    store.gate.set()
    assert await asked == 6
    assert "let go" in gates.seen


async def test_the_store_of_a_file_saves_at_once(tmp_path: Path) -> None:
    """One actor, one ask after the other: the answer is there when the ask has been made."""
    async with books(LOCAL, f"sqlite:///{tmp_path}/state.db") as place:
        book = place.node.ref(Book, "b")
        for number in range(1, 101):
            assert await book.add(1) == number
        assert place.node.stats()["state_saves"] == 100
    async with books(LOCAL, f"sqlite:///{tmp_path}/state.db") as place:
        assert await place.node.ref(Book, "b").add(1) == 101
