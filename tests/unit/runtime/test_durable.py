"""Durable actors: each message is a transaction, here and from another node."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from ringcast import (
    MAYBE_EXECUTED,
    NOT_SENT,
    CallError,
    CodecError,
    ConfigError,
    NodeConfig,
    StaleActivation,
    StoreError,
    VersionConflict,
    tell,
    using,
)
from ringcast.runtime.stores import Claim
from tests.unit.runtime.ledgers import Book, Ledger, OfDict, OfInt, OfModel, OfStrict, OfStruct, books
from tests.unit.runtime.places import LOCAL, REMOTE, Place, eventually, gates
from tests.unit.runtime.troubles import PromptTroubledStore, Trouble, TroubledStore

BOOK = '["test.Book","b"]'


@pytest.fixture(params=[TroubledStore, PromptTroubledStore])
def store(request: pytest.FixtureRequest) -> TroubledStore:
    """Where the books are kept: by a store that needs a task for each save, or none."""
    store: TroubledStore = request.param()
    return store


@pytest_asyncio.fixture(params=[LOCAL, REMOTE])
async def place(request: pytest.FixtureRequest, store: TroubledStore) -> AsyncIterator[Place]:
    """A caller, and where the books are."""
    async with books(request.param, store) as found:
        yield found


@pytest.fixture
def book(place: Place) -> Book:
    """One book."""
    return place.node.ref(Book, "b")


# ---- a message is a transaction ---------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Book, OfModel, OfStruct, OfDict, OfInt])
async def test_the_state_outlives_its_node(cls: Any, tmp_path: Path) -> None:
    for round in range(1, 3):
        async with books(LOCAL, f"sqlite:///{tmp_path}/state.db") as place:
            assert await place.node.ref(cls, "b").add(5) == 5 * round
            assert await place.node.ref(cls, "c").add(1) == round


@pytest.mark.parametrize("cls", [Book, OfModel, OfStruct, OfDict, OfInt])
async def test_every_kind_of_state_is_undone(cls: Any, place: Place, store: TroubledStore) -> None:
    ref = place.node.ref(cls, "b")
    await ref.add(1)
    before = await ref.read()
    store.troubles = [Trouble.REFUSED]
    with pytest.raises(StoreError):
        await ref.add(2)
    assert await ref.read() == before
    assert await ref.add(3) == 4


async def test_a_handler_that_raises_is_undone(book: Book, store: TroubledStore) -> None:
    await book.add(1)
    with pytest.raises(LookupError):
        await book.add_and_raise(100)
    assert await book.read() == Ledger(1, [1])
    assert await book.add(1) == 2
    assert len(store.writes) == 2


async def test_what_is_not_changed_is_not_saved(book: Book, store: TroubledStore) -> None:
    assert await book.nothing() == 0
    await book.add(1)
    assert await book.nothing() == 1
    await book.read()
    assert len(store.writes) == 1


async def test_the_answer_waits_for_the_save(book: Book, store: TroubledStore) -> None:
    store.gate.clear()
    asked = asyncio.ensure_future(book.add_and_tell(1, "x"))
    await store.writing.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not asked.done()
    assert gates.seen == []
    store.gate.set()
    assert await asked == 1
    await eventually(lambda: gates.seen == ["x 1", "x 2"])


async def test_what_is_told_in_a_turn_that_is_undone_is_never_sent(book: Book, place: Place) -> None:
    with pytest.raises(LookupError):
        await book.add_and_tell(1, "undone", fails=True)
    await book.add_and_tell(1, "done")
    await eventually(lambda: gates.seen == ["done 1", "done 2"])


async def test_timers_start_with_the_save(book: Book) -> None:
    with pytest.raises(LookupError):
        await book.later(0.0, "undone", fails=True)
    await book.later(0.0, "done")
    await eventually(lambda: "done" in gates.seen)
    assert gates.seen == ["done"]


async def test_actors_are_spawned_with_the_save(book: Book, place: Place) -> None:
    with pytest.raises(LookupError):
        await book.bear("undone", fails=True)
    child = await book.bear("done")
    await child.hello("again")
    assert gates.seen == ["done done", "done again"]
    assert await book.bear("done") == child


async def test_save_is_in_the_middle_of_a_turn(book: Book) -> None:
    with pytest.raises(LookupError):
        await book.add_save_and_raise(5, "x")
    assert await book.read() == Ledger(5, [5])
    await eventually(lambda: gates.seen == ["x saved"])


async def test_deleting(book: Book, store: TroubledStore) -> None:
    await book.add(5)
    with pytest.raises(LookupError):
        await book.clear(fails=True)
    assert await book.nothing() == 5
    assert await book.clear() == Ledger()
    assert store.writes[-1].payload is None
    assert await book.add(1) == 1
    assert await book.clear(7) == Ledger(7, [7])
    assert store.writes[-1].payload is not None
    await book.clear()
    count = len(store.writes)
    await book.clear()
    assert len(store.writes) == count, "nothing is stored, so there is nothing to delete"


async def test_read_only_handlers_do_not_save(book: Book) -> None:
    with pytest.raises(RuntimeError, match="not read_only"):
        await book.read_and_save()


async def test_a_state_of_another_type_is_refused(book: Book) -> None:
    await book.add(1)
    with pytest.raises(TypeError, match=r"self\.state was set to 'text'"):
        await book.replace("text")
    assert await book.nothing() == 1
    with pytest.raises(CodecError, match="its state cannot be stored"):
        await book.replace(Ledger(0, [book.add]))  # type: ignore[list-item]
    await book.replace(Ledger(9))
    assert await book.nothing() == 9


async def test_a_cancelled_handler_is_undone(book: Book) -> None:
    await book.add(1)
    asked = asyncio.ensure_future(book.add_slowly(100, "slow"))
    await gates.entered("slow")
    asked.cancel()
    assert await book.read() == Ledger(1, [1])


async def test_a_save_is_not_cancelled(book: Book, store: TroubledStore) -> None:
    gates.let_go("slow")
    store.gate.clear()
    asked = asyncio.ensure_future(book.add_slowly(100, "slow"))
    await store.writing.wait()
    asked.cancel()
    for _ in range(20):
        await asyncio.sleep(0)
    store.gate.set()
    assert await book.read() == Ledger(100, [100])
    assert await book.add(1) == 101


async def test_the_epoch_is_the_version_of_the_row(book: Book, place: Place, store: TroubledStore) -> None:
    first = await book.epoch()
    await book.add(1)
    assert await book.epoch() == first
    await place.node.stop(book)
    second = await book.epoch()
    assert second == first + 2
    found = await store.claim(Claim(BOOK, "one", 1, "x"))
    assert found is not None
    assert found.ver == second + 1


async def test_a_state_that_is_too_large_is_refused_with_its_size(store: TroubledStore) -> None:
    async with books(LOCAL, store, max_state_bytes=2000) as place:
        book = place.node.ref(Book, "b")
        await book.grow(1000)
        with pytest.raises(
            StoreError, match=r"Book\['b'\]: its state of 3\d{3} bytes .*max_state_bytes=2000"
        ) as caught:
            await book.grow(3000)
        assert caught.value.certainty is NOT_SENT
        assert len((await book.read()).entries) == 1000


# ---- keys --------------------------------------------------------------------------------------------------


async def test_a_retry_gets_the_first_reply_after_any_restart(book: Book, place: Place) -> None:
    once = using(book, idempotency_key="k")
    assert await once.add(5) == 5
    assert await book.add(1) == 6
    assert await once.add(5) == 5
    await place.node.stop(book)
    assert await once.add(5) == 5
    assert await using(book, idempotency_key="other").add(5) == 11
    assert await using(book, idempotency_key="k").nothing() == 11, "the key is the method's"
    assert place.owner.stats()["state_replays"] == 1


async def test_a_key_with_other_arguments_is_a_mistake(book: Book, place: Place) -> None:
    once = using(book, idempotency_key="k")
    await once.add(5)
    for _ in range(2):
        with pytest.raises(CallError, match="other arguments"):
            await once.add(6)
        await place.node.stop(book)
    assert await book.nothing() == 5


async def test_an_error_is_not_remembered(book: Book, store: TroubledStore) -> None:
    once = using(book, idempotency_key="k")
    store.troubles = [Trouble.REFUSED]
    with pytest.raises(StoreError):
        await once.add(5)
    assert await once.add(5) == 5
    assert await once.add(5) == 5


async def test_a_reply_that_cannot_be_stored_undoes_its_turn(book: Book) -> None:
    with pytest.raises(CodecError, match="reply cannot be stored"):
        await using(book, idempotency_key="k").unstorable()
    assert await book.nothing() == 0


async def test_a_reply_is_stored_without_a_change(book: Book, store: TroubledStore, place: Place) -> None:
    once = using(book, idempotency_key="k")
    assert await once.nothing() == 0
    assert store.writes[-1].payload is None
    await book.add(1)
    await place.node.stop(book)
    assert await once.nothing() == 0


# ---- stores in trouble -------------------------------------------------------------------------------------


async def test_a_store_that_is_away_fails_calls_and_is_found_again(book: Book, store: TroubledStore) -> None:
    store.is_away = True
    for _ in range(2):
        with pytest.raises(StoreError, match="the store is away") as caught:
            await book.add(1)
        assert caught.value.certainty is NOT_SENT
    store.is_away = False
    assert await book.add(1) == 1
    store.is_away = True
    with pytest.raises(StoreError, match="the store is away") as caught:
        await book.add(1)
    assert caught.value.certainty is NOT_SENT
    assert await book.read() == Ledger(1, [1]), "the actor has its last committed state"
    store.is_away = False
    assert await book.add(1) == 2


@pytest.mark.parametrize("trouble", [Trouble.LOST, Trouble.UNANSWERED])
async def test_an_unknown_outcome_is_found_out(book: Book, store: TroubledStore, trouble: Trouble) -> None:
    store.troubles = [trouble, Trouble.LOST]
    assert await book.add(5) == 5
    assert await book.add(1) == 6
    assert len({write.op_id for write in store.writes}) == 2


@pytest.mark.parametrize(("trouble", "total"), [(Trouble.LOST, 0), (Trouble.UNANSWERED, 5)])
async def test_an_outcome_that_stays_unknown_is_said_and_the_row_is_read_again(
    book: Book, store: TroubledStore, trouble: Trouble, total: int
) -> None:
    store.troubles = [trouble] + [Trouble.LOST] * 100
    with pytest.raises(StoreError) as caught:
        await book.add(5)
    assert caught.value.certainty is MAYBE_EXECUTED
    store.troubles = []
    assert await book.add(1) == total + 1


async def test_whoever_was_fenced_is_told_and_the_next_call_claims_anew(book: Book, store: TroubledStore) -> None:
    await book.add(5)
    assert await store.claim(Claim(BOOK, "another lineage", 1, "x")) is not None
    with pytest.raises(StaleActivation, match=r"Book\['b'\] could not save") as caught:
        await book.add_and_tell(1, "undone")
    assert caught.value.certainty is NOT_SENT
    assert await book.add(1) == 6
    assert gates.seen == []


async def test_an_unknown_write_that_was_fenced_meanwhile_stays_unknown(book: Book, store: TroubledStore) -> None:
    await book.add(5)
    store.troubles = [Trouble.LOST]
    store.gate.clear()
    asked = asyncio.ensure_future(book.add(1))
    await store.writing.wait()
    assert await store.claim(Claim(BOOK, "another lineage", 1, "x")) is not None
    store.gate.set()
    with pytest.raises(VersionConflict) as caught:
        await asked
    assert caught.value.certainty is MAYBE_EXECUTED
    assert await book.nothing() == 5


async def test_a_newer_view_keeps_this_node_out(book: Book, place: Place, store: TroubledStore) -> None:
    lineage = place.owner.view.lineage
    assert await store.claim(Claim(BOOK, lineage, 1000, "x")) is not None
    with pytest.raises(StaleActivation, match="newer than view"):
        await book.add(1)


async def test_a_told_message_that_cannot_be_saved_fails_its_actor(book: Book, store: TroubledStore) -> None:
    store.troubles = [Trouble.REFUSED]
    await tell(book.add, 1)
    assert await book.add(2) == 2


async def test_random_troubles_lose_nothing_and_do_nothing_twice(place: Place, store: TroubledStore) -> None:
    """Whatever happens to writes: who was told that it was done finds it, once; with a key a retry is safe."""
    chance = random.Random(1)
    book = place.node.ref(Book, "b")
    for number in range(70):
        store.troubles = chance.choices([*Trouble], k=chance.randint(0, 3))
        if chance.random() < 0.2:
            await store.claim(Claim(BOOK, f"lineage {number}", 1, "x"))
        while True:
            try:
                await using(book, idempotency_key=f"k{number}").add(number)
            except StoreError:
                continue
            break
    store.troubles = []
    assert (await book.read()).entries == list(range(70))


# ---- beginning and end ---------------------------------------------------------------------------------------


async def test_a_row_that_does_not_decode_fails_its_actor_only(place: Place, store: TroubledStore) -> None:
    good, bad = place.node.ref(Book, "good"), place.node.ref(Book, "b")
    await good.add(1)
    await bad.add(1)
    await place.node.stop(bad)
    store._rows[BOOK].payload = b"\xc1 rubbish"
    with pytest.raises(StoreError, match=r"Book\['b'\]: what is stored in row .*test.Book.* does not decode") as caught:
        await bad.add(1)
    assert caught.value.certainty is NOT_SENT
    assert await good.add(1) == 2


async def test_a_state_that_cannot_be_made_again_does_not_go_on_spoilt(place: Place) -> None:
    strict = place.node.ref(OfStrict, "s")
    await strict.set(-1)
    with pytest.raises(LookupError):
        await strict.fail()
    with pytest.raises(StoreError, match="ValueError: negative"):
        await strict.read()


async def test_a_store_that_is_not_there_at_the_start_is_named(store: TroubledStore) -> None:
    store.is_away = True
    with pytest.raises(StoreError, match="did not start, for its store is not there: the store is away"):
        async with books(LOCAL, store):
            pass


async def test_a_node_waits_for_its_store_if_it_is_told_to(store: TroubledStore) -> None:
    store.is_away = True
    asyncio.get_running_loop().call_later(0.15, setattr, store, "is_away", False)
    async with books(LOCAL, store, store_start_timeout=8.0) as place:
        assert await place.node.ref(Book, "b").add(1) == 1


async def test_many_actors_are_idle_without_a_trace(store: TroubledStore) -> None:
    async with books(LOCAL, store) as place:
        for number in range(50):
            await place.node.ref(Book, str(number)).add(number)
        host = place.node._host
        tasks: dict[Any, Any] = {}
        for cell in list(host.cells()):
            host._retire_now(cell, "idle", tasks)
        assert place.node.stats()["actors"] == 0
        assert [await place.node.ref(Book, str(number)).nothing() for number in range(50)] == list(range(50))


@pytest.mark.parametrize("value", ["nonsense", "mysql://x/y", 7])
def test_what_is_no_store(value: Any) -> None:
    from ringcast import Node

    with pytest.raises(ConfigError, match="it takes memory:, sqlite:///path"):
        Node(store=value)


@pytest.mark.parametrize(
    "setting",
    [{"store_timeout": 0}, {"store_start_timeout": -1}, {"max_state_bytes": 10}, {"store_start_timeout": True}],
)
def test_settings_that_are_none(setting: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        NodeConfig(**setting)
