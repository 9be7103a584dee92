"""What a node that is cut off from the majority of its cluster says of itself, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ringcast import Event, LeaseLost, LeaseRegained, Node
from ringcast.testing import Cluster, cluster, simulated


def listen(c: Cluster, number: int) -> Callable[[], list[LeaseLost | LeaseRegained]]:
    """Return what gives the events of a node's lease that it has told its application so far."""
    told: list[Event] = []

    async def hear(node: Node) -> None:
        async for event in node.events():
            told.append(event)

    hearing = asyncio.ensure_future(c.node(number).run(hear))
    hearing.add_done_callback(lambda done: done.exception())
    return lambda: [event for event in told if isinstance(event, LeaseLost | LeaseRegained)]


@simulated
async def test_a_minority_says_that_it_serves_nothing_and_that_it_serves_again() -> None:
    async with cluster(5) as c:
        minority, majority = [listen(c, number) for number in (3, 4)], listen(c, 0)
        before = c.node(3).node.members
        lease = c.node(3).node._profile.lease
        await asyncio.sleep(0.1)  # so that they listen
        await c.partition([0, 1, 2], [3, 4])
        took = await c.until(lambda: all(told() for told in minority), 10, "word of the lost lease")
        assert took <= 2 * lease + 0.5, "a lease, and as long again in which it might have been back"
        assert not any(c.node(number).has_lease for number in (3, 4))
        assert [type(event) for event in minority[0]()] == [LeaseLost]
        assert minority[0]()[0].member in before

        await c.heal()
        await c.until(lambda: all(len(told()) == 2 for told in minority), 10, "word of the lease that is back")
        lost, regained = minority[0]()
        assert isinstance(regained, LeaseRegained)
        assert regained.member.id == lost.member.id
        assert regained.member.incarnation > lost.member.incarnation, "the majority had left it out"
        await c.settled()
        assert regained.member in c.node(0).members
        assert majority() == []


@simulated
async def test_a_majority_that_is_away_for_less_than_twice_a_lease_is_not_told_of() -> None:
    async with cluster(3) as c:
        told = listen(c, 2)
        lease = c.node(2).node._profile.lease
        await asyncio.sleep(0.1)
        await c.partition([0, 1], [2])
        await c.until(lambda: not c.node(2).has_lease, 10, "the end of the lease")
        await asyncio.sleep(lease / 4)
        await c.heal()
        await c.settled()
        assert told() == []


@simulated
async def test_a_node_that_leaves_says_nothing_of_its_lease() -> None:
    async with cluster(2) as c:
        told = listen(c, 1)
        await asyncio.sleep(0.1)
        await c.leave(1)
        assert told() == []
