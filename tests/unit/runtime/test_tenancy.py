"""Where an actor may be made: its partition is open here, and counted as long as it is there."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ringcast import NOT_SENT, Actor, ConfigError, Node, NodeConfig, Seeds, Unreachable, submit, tell
from ringcast.discovery.share import PARTITIONS, Share
from ringcast.runtime.kinds import Kind
from ringcast.runtime.ring import key_hash, partition_of
from ringcast.runtime.tenancy import NOWHERE, UNCOUNTED
from tests.unit.runtime.places import Place, eventually, gates, new_cluster, raised

ALL = (1 << PARTITIONS) - 1


class Guest(Actor):
    async def hello(self) -> str:
        return "hello"

    async def epoch(self) -> int:
        return self.context.epoch

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate

    async def where(self) -> int:
        return id(self.context)


class Counting(Actor):
    def __init__(self) -> None:
        self._count = 0

    async def add(self) -> int:
        self._count += 1
        return self._count


def kind_of(node: Node) -> tuple[Kind, Share]:
    name = f"{__name__}:Guest"
    return node._host.kinds.named(name), node._membership.shares[name]


def cluster_config() -> NodeConfig:
    return NodeConfig(drain_timeout=2.0)


@asynccontextmanager
async def two() -> AsyncIterator[tuple[Node, Node]]:
    cluster = new_cluster()
    async with Node(cluster=cluster, discovery=[], config=cluster_config()) as one:
        seeds = [Seeds([one.address])]
        async with Node(cluster=cluster, discovery=seeds, config=cluster_config()) as other:
            await asyncio.gather(one.wait_for_members(2, 5), other.wait_for_members(2, 5))
            yield one, other


def partition(key: object) -> int:
    return partition_of(key_hash(f"{__name__}:Guest", key))  # type: ignore[arg-type]


async def test_a_key_waits_until_its_partition_is_open(here: Place) -> None:
    guest = here.node.ref(Guest, "g")
    _, share = kind_of(here.node)
    share.open &= ~(1 << partition("g"))
    waiting = [submit(guest.hello) for _ in range(3)]
    await tell(guest.hello)
    assert await here.node.ref(Guest, "h").hello() == "hello", "another partition is open"
    assert not any(asked.done() for asked in waiting)
    share.open = ALL
    here.node._tenancy.wake()
    assert await asyncio.gather(*waiting) == ["hello"] * 3


async def test_activations_of_an_only_host_are_counted_by_a_pledge_and_one_by_one_when_it_has_company() -> None:
    async with Node(cluster=new_cluster(), discovery=[], config=cluster_config()) as one:
        refs = [one.ref(Guest, key) for key in range(50)]
        await asyncio.gather(*[ref.hello() for ref in refs])
        kind, share = kind_of(one)
        assert kind.is_pledged
        assert set(share.running) == {1}
        assert {cell.tenure for cell in kind.cells.values()} == {UNCOUNTED}
        async with Node(cluster=one.cluster, discovery=[Seeds([one.address])], config=cluster_config()) as two:
            await one.wait_for_members(2, 5)
            await eventually(lambda: share.draining == 0 and share.open != ALL)
            assert not kind.is_pledged
            mine = Counter(partition(key) for key in range(50) if share.open >> partition(key) & 1)
            assert Counter(cell.tenure for cell in kind.cells.values()) == mine
            assert {p: count for p, count in enumerate(share.running) if count} == mine
            assert await asyncio.gather(*[ref.hello() for ref in refs]) == ["hello"] * 50
            assert len(kind_of(two)[0].cells) == 50 - mine.total()
        await eventually(lambda: share.open == ALL)
        assert await asyncio.gather(*[ref.hello() for ref in refs]) == ["hello"] * 50


async def test_one_that_goes_is_counted_out(here: Place) -> None:
    node = here.node
    guest = node.ref(Guest, "g")
    kind, share = kind_of(node)
    share.open &= ~1  # no pledge is made while not all is open
    assert partition("g") != 0
    await guest.hello()
    (cell,) = kind.cells.values()
    assert cell.tenure == partition("g")
    assert share.running[partition("g")] == 1
    await node.stop(guest)
    await eventually(lambda: share.running[partition("g")] == 0)
    assert cell.tenure == NOWHERE
    share.open = ALL


async def test_a_partition_is_handed_over_when_its_turn_has_ended() -> None:
    async with Node(cluster=new_cluster(), discovery=[], config=cluster_config()) as one:
        refs = {key: one.ref(Guest, key) for key in range(60)}
        slow = [submit(ref.wait, "gate") for ref in refs.values()]
        await gates.entered("gate")
        await eventually(lambda: sum(cell.current is not None for cell in one._host.cells()) == 60)
        async with Node(cluster=one.cluster, discovery=[Seeds([one.address])], config=cluster_config()) as two:
            await one.wait_for_members(2, 5)
            moved = [key for key in refs if (await two.locate(two.ref(Guest, key))).id == two.id]
            assert moved
            queued = [submit(refs[key].hello) for key in moved]
            new = [submit(two.ref(Guest, key).hello) for key in moved]
            await eventually(lambda: kind_of(two)[1].opening != 0 and kind_of(two)[1].open != 0)
            assert not any(asked.done() for asked in (*queued, *new)), "no actor twice"
            assert not {partition(key) for key in moved} & {p for p in range(1024) if kind_of(two)[1].open >> p & 1}
            gates.let_go("gate")
            assert await asyncio.gather(*slow) == ["gate"] * 60
            assert await asyncio.gather(*queued, *new) == ["hello"] * 2 * len(moved)
            assert kind_of(two)[1].opening == 0


async def test_a_turn_that_goes_on_for_too_long_is_cancelled_for_who_joins() -> None:
    async with Node(cluster=new_cluster(), discovery=[], config=cluster_config()) as one:
        slow = [submit(one.ref(Guest, key).wait, "never") for key in range(20)]
        await gates.entered("never")
        one._host.move_seconds = 0.05
        async with Node(cluster=one.cluster, discovery=[Seeds([one.address])], config=cluster_config()) as two:
            await one.wait_for_members(2, 5)
            moved = [key for key in range(20) if (await two.locate(two.ref(Guest, key))).id == two.id]
            for key in moved:
                assert isinstance(await raised(slow[key]), Unreachable)
                assert await two.ref(Guest, key).hello() == "hello"
            assert sum(not asked.done() for asked in slow) == 20 - len(moved)
            gates.let_go("never")
            await asyncio.gather(*slow, return_exceptions=True)


async def test_epochs_grow_with_every_activation_of_a_key() -> None:
    async with two() as (one, other):
        refs = [one.ref(Guest, key) for key in range(30)]
        before = await asyncio.gather(*[ref.epoch() for ref in refs])
        for ref in refs[:10]:
            await one.stop(ref)
        again = await asyncio.gather(*[ref.epoch() for ref in refs])
        assert all(new > old for new, old in zip(again[:10], before[:10], strict=True))
        assert again[10:] == before[10:]
        async with Node(cluster=one.cluster, discovery=[Seeds([one.address])], config=cluster_config()) as third:
            await asyncio.gather(one.wait_for_members(3, 5), other.wait_for_members(3, 5))
            moved = [key for key, ref in enumerate(refs) if (await one.locate(ref)).id == third.id]
            after = await asyncio.gather(*[ref.epoch() for ref in refs])
            assert all((after[key] > again[key]) == (key in moved) for key in range(30))
        last = await asyncio.gather(*[ref.epoch() for ref in refs])
        assert all((last[key] > after[key]) == (key in moved) for key in range(30))


async def test_joins_and_leaves_under_load_fail_no_call_and_lose_none() -> None:
    """Each key is asked all the while, one call at a time, while nodes come and go."""
    async with two() as (one, other):
        counts: Counter[int] = Counter()
        is_over = False

        async def ask(key: int) -> None:
            ref = (one if key % 2 else other).ref(Counting, key)
            while not is_over:
                await ref.add()
                counts[key] += 1
                await asyncio.sleep(0.01)

        asking = [asyncio.create_task(ask(key)) for key in range(40)]
        for _ in range(2):
            async with Node(cluster=one.cluster, discovery=[Seeds([one.address])], config=cluster_config()) as third:
                await asyncio.gather(one.wait_for_members(3, 5), other.wait_for_members(3, 5))
                seen = counts.total()
                await eventually(lambda seen=seen: counts.total() > seen + 200)  # type: ignore[misc]
                assert len(list(third._host.cells())) > 0
        is_over = True
        await asyncio.gather(*asking)
        assert all(node.stats()["effects_suppressed"] == 0 for node in (one, other))


async def test_with_too_few_members_nothing_runs() -> None:
    async with Node(cluster=new_cluster(), discovery=[], split_brain="static:2") as one:
        error = await raised(one.ref(Guest, "g").hello())
        assert isinstance(error, Unreachable)
        assert error.certainty is NOT_SENT
        assert "static:2" in str(error)
        seeds = [Seeds([one.address])]
        async with Node(cluster=one.cluster, discovery=seeds, split_brain="static:2"):
            await one.wait_for_members(2, 5)
            assert await one.ref(Guest, "g").hello() == "hello"


async def test_a_class_of_a_function_is_moved_like_others() -> None:
    class Local(Actor):
        async def hello(self) -> str:
            return "hello"

    async with two() as (one, other):
        refs = [one.ref(Local, key) for key in range(40)]
        assert await asyncio.gather(*[ref.hello() for ref in refs]) == ["hello"] * 40
        assert len(list(other._host.cells())) > 0
        await eventually(lambda: one._membership.shares["@"].open | other._membership.shares["@"].open == ALL)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"expect": 0}, "expect"),
        ({"expect": True}, "expect"),
        ({"bootstrap": "never"}, "bootstrap"),
        ({"split_brain": "static:0"}, "split_brain"),
        ({"split_brain": "store"}, "split_brain"),
        ({"data_dir": 7}, "data_dir"),
    ],
    ids=str,
)
def test_wrong_options_of_agreement_are_config_errors(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Node(cluster=new_cluster(), discovery=[], **wrong)


async def test_a_node_with_a_folder_keeps_its_id(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("node")
    async with Node(cluster=new_cluster(), discovery=[], data_dir=folder) as first:
        twin = Node(cluster=new_cluster(), discovery=[], data_dir=folder)
        with pytest.raises(ConfigError, match="in use"):
            await twin.start()
    async with Node(cluster=first.cluster, discovery=[], data_dir=folder) as again:
        assert again.id == first.id
        assert again.view.members[0].incarnation > first.view.members[0].incarnation
        assert await again.ref(Guest, "g").hello() == "hello"


async def test_the_environment_names_the_same_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_SPLIT_BRAIN", "static:3")
    monkeypatch.setenv("RINGCAST_EXPECT", "5")
    monkeypatch.setenv("RINGCAST_BOOTSTRAP", "join")
    options = Node(cluster=new_cluster(), discovery=[])._options
    assert (options.split_brain, options.quorum, options.expect, options.may_found) == ("static:3", 3, 5, False)
