"""`ringcast.testing`: what a user writes, and what it says when it is used wrongly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from ringcast import Actor, CallTimeout, NodeConfig, NodeStopped, Unreachable, props, submit, tell, using
from ringcast.testing import Cluster, ProcessGone, Stalled, cluster, run, simulated

pytest_plugins = ["pytester"]


class Cart(Actor):
    """Holds items in memory, and knows its neighbour."""

    def __init__(self) -> None:
        self.items: list[str] = []

    async def add(self, item: str) -> int:
        self.items.append(item)
        return len(self.items)

    async def all(self) -> list[str]:
        return self.items

    async def each(self) -> AsyncIterator[str]:
        for item in self.items:
            yield item

    async def neighbour(self) -> list[Cart]:
        return [self.context.ref(Cart, "neighbour")]

    async def slow(self, seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "done"

    async def block(self, seconds: float) -> float:
        time.sleep(seconds)  # noqa: ASYNC251
        return time.monotonic()


@simulated
async def test_a_killed_owner_is_replaced() -> None:
    async with cluster(5) as c:
        cart = c.ref(Cart, "ann")
        assert await cart.add("apple") == 1
        owner = c.owner(cart)
        other = next(node for node in c.nodes if node is not owner)
        await c.kill(owner)
        assert not owner.is_running
        assert len(c.running) == 4
        assert await c.settled() < 10
        assert await other.ref(Cart, "ann").all() == []
        assert c.owner(other.ref(Cart, "ann")) is not owner
        await c.start(owner)
        await c.settled()
        assert len(owner.members) == 5


@simulated
async def test_every_verb_works_from_a_test() -> None:
    async with cluster(3) as c:
        cart = c.node(1).ref(Cart, "ann")
        await tell(cart.add, "apple")
        assert await submit(cart.add, "pear") == 2
        assert [item async for item in cart.each()] == ["apple", "pear"]
        [neighbour] = await cart.neighbour()
        assert await neighbour.add("plum") == 1
        spawned = await c.node(0).spawn(props(Cart), name="spawned")
        assert await spawned.add("fig") == 1
        assert c.owner(spawned) in c.nodes
        with pytest.raises(TimeoutError):
            await using(cart, timeout=0.5).slow(3)
        assert len(await c.node(2).run(lambda node: _members(node.members))) == 3


async def _members(members: tuple[object, ...]) -> tuple[object, ...]:
    return members


@simulated
async def test_a_minute_passes_at_once_and_by_the_nodes_own_clocks() -> None:
    begun = time.monotonic()
    async with cluster(2) as c:
        await asyncio.sleep(60)
        cart = c.ref(Cart, "ann")
        assert await cart.slow(5) == "done"
    assert 60 < time.monotonic() - begun < 120


@simulated
async def test_a_handler_that_blocks_stops_its_loop_and_not_its_membership() -> None:
    async with cluster(3) as c:
        cart = c.ref(Cart, "ann")
        before = c.node(0).node.view.number
        begun = c.sim.now
        await cart.block(8.0)
        assert 7.9 < c.sim.now - begun < 9  # its clock may be slow or fast
        assert c.node(0).node.view.number == before
        await c.block(c.owner(cart), 6.0)
        await asyncio.sleep(10)
        assert c.node(0).node.view.number == before


@simulated
async def test_partitions_pauses_and_one_way_cuts() -> None:
    async with cluster(3, config=NodeConfig(ask_timeout=2.0)) as c:
        await c.partition([0], [1, 2])
        await c.until(lambda: len(c.node(1).members) == 2, 20, "the majority's view")
        assert not c.node(0).has_lease
        assert len(c.node(0).members) == 3
        with pytest.raises((CallTimeout, Unreachable)):  # the owner has no lease, or is on the other side
            await c.node(0).ref(Cart, "ann").add("apple")
        assert await c.node(1).ref(Cart, "ann").add("apple") == 1
        await c.heal()
        assert await c.settled() < 10
        assert len(c.node(0).members) == 3
        assert await c.node(0).ref(Cart, "ann").add("pear") in (1, 2)  # node 0 may own it, now that it is back
        await c.pause(2)
        assert c.node(2).is_paused
        await asyncio.sleep(15)
        assert len(c.node(0).members) == 2
        await c.resume(2)
        await c.settled()
        await c.cut(0, 1)
        await asyncio.sleep(1)
        await c.heal()
        await c.power_off(1)
        await c.settled()
        await c.leave(2)
        await c.settled()
        assert [node.name for node in c.running] == ["node-0"]


@simulated
async def test_what_a_killed_caller_waited_for_is_gone() -> None:
    async with cluster(2) as c:
        waiting = asyncio.create_task(c.node(0).ref(Cart, "ann").slow(100))
        await asyncio.sleep(1)
        await c.kill(0)
        with pytest.raises(ProcessGone, match="node-0"):
            await waiting
        with pytest.raises(ProcessGone):
            c.node(0).ref(Cart, "ann")
        await c.settled()


@simulated
async def test_a_caller_whose_callee_is_killed_hears_of_it() -> None:
    async with cluster(3) as c:
        cart = c.ref(Cart, "ann")
        caller = next(node for node in c.nodes if node is not c.owner(cart))
        waiting = asyncio.create_task(caller.ref(Cart, "ann").slow(100))
        await asyncio.sleep(1)
        await c.kill(c.owner(cart))
        with pytest.raises(Unreachable):
            await waiting


@simulated
async def test_a_node_that_is_told_to_leave_before_it_has_joined() -> None:
    async with cluster(2) as c:
        await c.kill(1)
        await c.settled()
        await c.partition([0], [1])
        starting = asyncio.create_task(c.start(1))
        await asyncio.sleep(0.5)
        await c.leave(1)
        with pytest.raises(NodeStopped, match="before it had joined"):
            await starting
        await c.settled()


async def test_outside_of_a_simulation_it_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="simulated"):
        async with cluster(2):
            pass


def test_equal_seeds_are_equal_runs() -> None:
    def told(seed: int) -> str:
        clusters: list[Cluster] = []

        async def story() -> None:
            async with cluster(3) as c:
                clusters.append(c)
                await c.ref(Cart, "ann").add("apple")
                await c.kill(2)
                await c.settled()

        run(story, seed)
        return clusters[0].sim.digest()

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_waiting_for_what_cannot_happen_is_told() -> None:
    async def story() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stalled, match="nothing can happen"):
        run(story)

    async def endless() -> None:
        for _ in range(1000):
            await asyncio.sleep(1)

    with pytest.raises(Stalled, match="goes on"):
        run(endless, limit=10)


def test_a_real_clock_is_there_again_afterwards() -> None:
    async def story() -> float:
        return time.monotonic()

    assert run(story) < 1
    assert time.monotonic() > 1


def test_the_plugin_runs_each_test_with_many_seeds_and_says_how_to_replay(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(
        """
        import random
        from ringcast.testing import simulated

        @simulated
        async def test_chance(tmp_path):
            assert tmp_path.exists()

        @simulated(limit=5)
        async def test_sometimes(request):
            assert "seed 12" not in request.node.name
        """
    )
    result = pytester.runpytest_inprocess("--ringcast-seeds=3", "--ringcast-seed=10")
    result.assert_outcomes(passed=5, failed=1)
    result.stdout.fnmatch_lines(["*replay it with: pytest *test_sometimes --ringcast-seed=12*"])


@simulated
async def test_nodes_that_lose_their_power_come_back_with_their_records() -> None:
    async with cluster(3, data_dir="/var/lib/ringcast") as c:
        ids, lineage = [node.id for node in c.nodes], c.node(0).node.view.lineage
        for node in c.nodes:
            await c.power_off(node)
        await asyncio.gather(*(c.start(node) for node in c.nodes))
        assert await c.settled() < 10
        assert [node.id for node in c.nodes] == ids
        assert c.node(0).node.view.lineage == lineage
        assert await c.ref(Cart, "ann").add("apple") == 1


@simulated
async def test_of_two_nodes_one_may_be_killed_and_not_be_silent() -> None:
    async with cluster(2) as c:
        await c.kill(1)
        assert await c.settled() < 2
        await c.start(1)
        await c.settled()
        await c.power_off(1)
        with pytest.raises(AssertionError, match="one view"):
            await c.settled(within=20)
        assert not c.node(0).has_lease
        await c.start(1)  # its machine answers again, and says that the process is gone
        await c.settled()
        assert await c.ref(Cart, "ann").add("apple") == 1
