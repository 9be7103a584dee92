"""All nodes of a cluster keep durable state in one store: who has another one is not let in, and is told why."""

from __future__ import annotations

import asyncio
import importlib
from pathlib import Path

import pytest

from ringcast import ConfigError, Node, Seeds, StoreError
from ringcast.runtime.stores import Store
from ringcast.runtime.stores.memory import MemoryStore
from ringcast.runtime.stores.sqlite import SQLiteStore
from tests.unit.runtime.ledgers import Book
from tests.unit.runtime.places import eventually, new_cluster, raised


def member(cluster: str, *seeds: Node, store: Store | None = None, hosts: list[str] | None = None) -> Node:
    """Return a node that is to find these."""
    found = [Seeds([seed.address]) for seed in seeds]
    return Node(cluster=cluster, discovery=found, store=store, hosts=hosts)


async def test_a_node_with_another_store_is_refused_and_told_what_to_use(tmp_path: Path) -> None:
    mine, other = SQLiteStore(tmp_path / "one.db"), SQLiteStore(tmp_path / "two.db")
    async with member(new_cluster(), store=mine) as one:
        stranger = member(one.cluster, one, store=other)
        with pytest.raises(ConfigError) as caught:
            await stranger.start()
        said = str(caught.value)
        assert one.view.store in said
        assert f"member {one.id}" in said
        assert "the same Node(store=…)" in said
        assert "postgresql://" in said
        assert [found.id for found in one.members] == [one.id]


async def test_the_same_file_is_the_same_store(tmp_path: Path) -> None:
    async with (
        member(new_cluster(), store=SQLiteStore(tmp_path / "one.db")) as one,
        member(one.cluster, one, store=SQLiteStore(tmp_path / "one.db")) as two,
    ):
        await asyncio.gather(one.wait_for_members(2, 5), two.wait_for_members(2, 5))
        assert one.view.store == two.view.store != ""


async def test_who_hosts_nothing_durable_needs_no_store_and_the_view_remembers_whose_it_is(tmp_path: Path) -> None:
    """The oldest member names no store, and lets nobody in that has another than the second one."""
    async with (
        member(new_cluster(), hosts=[]) as one,
        member(one.cluster, one, store=SQLiteStore(tmp_path / "one.db")) as two,
    ):
        await asyncio.gather(one.wait_for_members(2, 5), two.wait_for_members(2, 5))
        assert [found.store != "" for found in one.members] == [False, True]
        assert await one.ref(Book, "b").add(1) == 1
        with pytest.raises(ConfigError, match="theirs is"):
            await member(one.cluster, one, store=MemoryStore()).start()


LATE = """
from ringcast import DurableActor

class Late(DurableActor[list[int]], name="test.Late"):
    async def read(self) -> list[int]:
        return self.state
"""


async def test_a_store_that_is_opened_late_and_is_not_the_members_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)  # pyright: ignore[reportUnknownMemberType]
    (tmp_path / "late_books.py").write_text(LATE)
    made: list[MemoryStore] = []

    def late() -> MemoryStore:
        made.append(MemoryStore())
        return made[-1]

    nothing = member(new_cluster(), hosts=["nowhere"])
    async with nothing as one:
        other = Node(
            cluster=one.cluster,
            discovery=[Seeds([one.address])],
            store=late,
            hosts=["late_books"],
        )
        async with other as two, member(one.cluster, one, store=MemoryStore(), hosts=["nowhere"]) as three:
            await asyncio.gather(*[node.wait_for_members(3, 5) for node in (one, two, three)])
            assert not made
            assert two.view.store == three.view.store != ""

            Late = importlib.import_module("late_books").Late
            await eventually(lambda: "test.Late" in {name for found in two.members for name in found.hosts})
            error = await raised(two.ref(Late, "x").read())
            assert isinstance(error, StoreError)
            assert "the same Node(store=…)" in str(error)
            assert all(found.store in ("", three.view.store) for found in one.members)
            assert len(made) == 1
