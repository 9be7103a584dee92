"""Beginnings, ends and reminders of durable actors; where their state is kept."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringcast import (
    NOT_SENT,
    TRANSIENT,
    Actor,
    At,
    Backoff,
    ConfigError,
    DurableActor,
    Node,
    OneForOne,
    StoreError,
    handler,
    props,
    tell,
    using,
)
from ringcast.runtime.options import store_option
from ringcast.runtime.stores import MemoryStore
from ringcast.runtime.stores.sqlite import SQLiteStore
from tests.unit.runtime.ledgers import Book, Clock, books
from tests.unit.runtime.places import LOCAL, REMOTE, Place, eventually, gates, new_cluster
from tests.unit.runtime.troubles import Trouble, TroubledStore


class Host(DurableActor[dict[str, int]], name="test.DurableHost", supervision=OneForOne(backoff=Backoff(first=0.01))):
    """Counts its own beginnings and ends."""

    async def on_start(self) -> None:
        self.state["starts"] = self.state.get("starts", 0) + 1
        await tell(self.context.me.note, "started")

    async def on_stop(self, reason: str) -> None:
        self.state["stops"] = self.state.get("stops", 0) + 1
        gates.seen.append(reason)

    async def note(self, what: str) -> None:
        gates.seen.append(what)

    async def fail(self) -> None:
        self.state["starts"] = 1000
        raise ValueError("told")

    @handler(read_only=True)
    async def read(self) -> dict[str, int]:
        return self.state


class Plain(Actor, name="test.PlainActor"):
    """Has no state."""

    async def save(self) -> None:
        await self.context.save()

    async def delete(self) -> None:
        await self.context.delete_state()

    async def remind(self) -> None:
        await self.context.remind("x", At(1), self.save)

    async def forget(self) -> None:
        await self.context.forget("x")


@pytest.fixture
def store() -> MemoryStore:
    """Where the state is kept."""
    return MemoryStore()


# ---- beginnings and ends -------------------------------------------------------------------------------------


async def test_hooks_are_transactions(store: MemoryStore) -> None:
    for round in range(1, 3):
        async with books(LOCAL, store) as place:
            host = place.node.ref(Host, "h")
            assert await host.read() == {"starts": round, **({"stops": round - 1} if round > 1 else {})}
            await eventually(lambda: gates.seen[-1:] == ["started"])
        assert gates.seen[-1] in ("leaving", "moved")


async def test_a_failure_keeps_the_state_of_the_last_save(store: MemoryStore) -> None:
    async with books(LOCAL, store) as place:
        host = place.node.ref(Host, "h")
        await host.read()
        await tell(host.fail)
        await eventually(lambda: "failed" in gates.seen)
        assert await host.read() == {"starts": 2}


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
async def test_a_spawned_actor_may_be_durable(store: MemoryStore, where: str) -> None:
    async with books(where, store) as place:
        host = await place.node.spawn(props(Host), name="h")
        await host.read()
        await tell(host.fail)
        await eventually(lambda: gates.seen.count("started") == 2)
        assert (await host.read())["starts"] == 2


async def test_a_store_that_is_away_ends_no_spawned_actor() -> None:
    store = TroubledStore()
    async with books(LOCAL, store) as place:
        host = await place.node.spawn(props(Host), name="h", restart=TRANSIENT)
        await host.read()
        store.is_away = True
        await tell(host.fail)
        await eventually(lambda: "failed" in gates.seen)
        with pytest.raises(StoreError):
            await host.read()
        store.is_away = False
        await eventually(lambda: gates.seen.count("started") == 2)
        assert (await host.read())["starts"] == 2


async def test_a_spawned_actor_that_was_fenced_starts_again() -> None:
    store = TroubledStore()
    async with books(LOCAL, store) as place:
        book = await place.node.spawn(props(Book), name="h")
        assert await book.add(1) == 1
        store.troubles = [Trouble.UNANSWERED] + [Trouble.LOST] * 100
        with pytest.raises(StoreError):
            await book.add(1)
        store.troubles = []
        assert await book.add(1) == 3


@pytest.mark.parametrize("verb", ["save", "delete", "remind", "forget"])
async def test_actors_without_a_state_have_nothing_to_save(store: MemoryStore, verb: str) -> None:
    async with books(LOCAL, store) as place:
        with pytest.raises(TypeError, match="DurableActor"):
            await getattr(place.node.ref(Plain, "p"), verb)()


# ---- where the state is kept ---------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "ringcast" / "state"


async def test_the_default_is_a_file_of_the_cluster(home: Path) -> None:
    cluster = new_cluster()
    for total in (1, 2):
        async with Node(cluster=cluster, discovery=[]) as node:
            assert await node.ref(Book, "b").add(1) == total
    assert sorted(os.listdir(home)) == [f"{cluster}.db"]


def test_clusters_of_odd_names_have_files(home: Path) -> None:
    for cluster in ("../x/y", "漢" * 100):
        make = store_option(None, cluster, True, {})
        assert callable(make)
        made = make()
        assert isinstance(made, SQLiteStore)
        assert made._file.path.parent == home
        assert len(made._file.path.name) < 255


def test_the_environment_names_a_store(tmp_path: Path) -> None:
    made = store_option(None, "x", False, {"RINGCAST_STORE": f"sqlite:///{tmp_path}/x.db"})
    assert isinstance(made, SQLiteStore)
    given = MemoryStore()
    assert store_option(given, "x", False, {"RINGCAST_STORE": "memory:"}) is given


def test_beyond_the_loopback_there_is_no_default() -> None:
    make = store_option(None, "x", False, {})
    assert callable(make)
    with pytest.raises(ConfigError, match=r"no default.*Several machines can share postgresql://"):
        make()


async def test_a_durable_actor_without_a_store_says_what_to_do(store: MemoryStore) -> None:
    async with books(LOCAL, store) as place:
        durability = place.node._host.durability
        durability._made, durability.store_id = None, None
        durability._make = store_option(None, "x", False, {})  # type: ignore[assignment]
        with pytest.raises(ConfigError, match="Node\\(store=…\\)"):
            await place.node.ref(Book, "b").add(1)


# ---- reminders -----------------------------------------------------------------------------------------------


async def test_a_reminder_is_fired_when_it_is_due(store: MemoryStore) -> None:
    async with books(LOCAL, store) as place:
        clock = place.node.ref(Clock, "c")
        await clock.at("now", time.time() - 1, "past")
        await eventually(lambda: gates.seen == ["past"])
        await clock.at("soon", time.time() + 0.05, "future")
        await eventually(lambda: gates.seen == ["past", "future"])
        assert await clock.read() == ["past", "future"]
        assert await store.due(1e12, None, 10) == []


async def test_reminders_are_undone_with_their_turn(store: MemoryStore) -> None:
    async with books(LOCAL, store) as place:
        clock = place.node.ref(Clock, "c")
        with pytest.raises(LookupError):
            await clock.badly()
        assert not await clock.forget("x")
        await clock.at("y", time.time(), "mark")
        await eventually(lambda: gates.seen == ["mark"])


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
async def test_reminders_wait_for_the_next_run_of_their_node(store: MemoryStore, where: str) -> None:
    async with books(where, store) as place:
        await place.node.ref(Clock, "c").at("x", time.time() + 0.4, "after the restart")
    assert gates.seen == []
    async with books(where, store):
        await eventually(lambda: gates.seen == ["after the restart"])


async def test_an_idle_actor_is_activated_for_its_reminder(store: MemoryStore) -> None:
    async with books(LOCAL, store) as place:
        clock = place.node.ref(Clock, "c")
        await clock.at("x", time.time() + 0.2, "woken")
        await place.node.stop(clock)
        assert place.node.stats()["actors"] == 0
        await eventually(lambda: gates.seen == ["woken"])


async def test_a_reminder_comes_again_and_again_until_it_is_forgotten(store: MemoryStore) -> None:
    async with books(LOCAL, store) as place:
        clock = place.node.ref(Clock, "c")
        await clock.every("x", 0.02, "tick")
        await eventually(lambda: len(gates.seen) >= 5)
        assert await clock.forget("x")
        count = len(gates.seen)
        await clock.at("y", time.time() + 0.1, "end")
        await eventually(lambda: "end" in gates.seen)
        assert len(gates.seen) == count + 1
        assert await clock.read() == gates.seen


@pytest.mark.parametrize(("misfire", "least", "most"), [("once", 1, 1), ("skip", 0, 0), ("all", 3, 4)])
async def test_what_was_missed_while_nobody_was_there(store: MemoryStore, misfire: str, least: int, most: int) -> None:
    async with books(LOCAL, store) as place:
        await place.node.ref(Clock, "c").every("x", 1000.0, "tick", misfire)
    (row,) = [row for id, row in store._rows.items() if "Clock" in id]
    assert row.due is not None
    assert row.payload is not None
    async with books(LOCAL, store) as place:
        clock = place.node.ref(Clock, "c")
        cell = place.node._host.kinds.named("test.Clock").cells
        await clock.read()
        found: Any = cell["c"]
        alarms = found.alarms
        alarms.known["x"] = replace(alarms.known["x"], due=time.time() - 2500.0)
        alarms.arm()
        await eventually(lambda: alarms.known["x"].due > time.time() + 1.0)
        await clock.at("y", time.time(), "end")
        await eventually(lambda: "end" in gates.seen)
        assert least <= gates.seen.count("tick") <= most


async def test_a_tick_that_fails_is_fired_again(store: MemoryStore) -> None:
    async with books(LOCAL, store) as place:
        clock = place.node.ref(Clock, "c")
        await clock.failing("x", time.time())
        await eventually(lambda: gates.seen == ["tried", "tried"], 8.0)
        assert await clock.read() == ["tried"]
        assert not await clock.forget("x")


async def test_a_tick_whose_save_is_unknown_is_not_run_twice() -> None:
    store = TroubledStore()
    async with books(LOCAL, store) as place:
        clock = place.node.ref(Clock, "c")
        await clock.read()
        store.troubles = []
        await clock.at("x", time.time() + 0.05, "tick")
        store.troubles = [Trouble.UNANSWERED] + [Trouble.LOST] * 100
        await eventually(lambda: len(store.writes) > 5)
        store.troubles = []
        await clock.at("y", time.time(), "end")
        await eventually(lambda: "end" in gates.seen)
        assert await clock.read() == ["tick", "end"]


@pytest.mark.parametrize("which", range(5))
async def test_what_is_no_reminder(store: MemoryStore, which: int) -> None:
    async with books(LOCAL, store) as place:
        with pytest.raises(TypeError, match=r"remind|reminder|positional"):
            await place.node.ref(Clock, "c").wrong(which)
        with pytest.raises(RuntimeError, match="not read_only"):
            await place.node.ref(Clock, "c").read_and_remind()


# ---- lost links ----------------------------------------------------------------------------------------------


async def test_a_keyed_call_is_sent_again_when_its_link_is_lost() -> None:
    store = TroubledStore()
    async with books(REMOTE, store) as place:
        book = place.node.ref(Book, "b")
        await book.add(1)
        store.gate.clear()
        store.writing.clear()
        keyed = asyncio.ensure_future(using(book, idempotency_key="k").add(1))
        await store.writing.wait()
        plain = asyncio.ensure_future(book.add(10))
        await _waiting(place)
        link = place.node._peers.link(place.owner.id)
        assert link.connection is not None
        link.connection.abort("cut by the test")
        with pytest.raises(Exception, match="connection to node") as caught:
            await plain
        assert caught.value.certainty is not NOT_SENT  # type: ignore[attr-defined]
        store.gate.set()
        assert await keyed == 2


async def _waiting(place: Place) -> None:
    """Return when a second message waits in the book's mailbox."""
    cells = place.owner._host.kinds.named("test.Book").cells
    await eventually(lambda: bool(cells["b"].queue))
