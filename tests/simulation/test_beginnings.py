"""How soon real nodes serve after what happens while they join, in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from ringcast.discovery.agreement import Agreement
from ringcast.discovery.profile import LOCAL
from ringcast.runtime.link import Link
from ringcast.runtime.peers import Peers
from ringcast.runtime.register import COURTESY, DIALS_EVERY
from ringcast.testing import Cluster, Quality, cluster, simulated


def agreement_of(c: Cluster, number: int) -> Agreement:
    """Return a node's part in agreeing, to look at."""
    driver = c.node(number).node._membership._driver
    assert driver is not None
    participant = driver._participant
    assert participant is not None
    return participant._agreement


@simulated
async def test_who_applies_to_a_lineage_that_all_have_left_looks_for_another_one_at_once() -> None:
    """Two of three are killed, with their votes; one of them is started again before the third gives up."""
    async with cluster(3) as c:
        lost = c.node(0).node.view.lineage
        await c.kill(1)
        await c.kill(2)
        starting = asyncio.ensure_future(c.start(1))
        await c.until(lambda: c.node(1).is_running and agreement_of(c, 1).lineage == lost, 5, "an application")
        await c.until(lambda: agreement_of(c, 0).lineage != lost, 10, "the end of the lost lineage")
        took = await c.until(lambda: agreement_of(c, 1).lineage != lost, 10, "another look")
        assert took < 2 * LOCAL.retry
        await starting
        assert await c.settled() < 4 * LOCAL.discovery_window
        assert c.node(0).node.view.lineage != lost


@simulated
async def test_the_death_of_a_newcomer_is_proved_from_its_first_moment_as_a_member() -> None:
    """By the one voter that is left."""
    async with cluster(2) as c:
        c.sim.network.quality = Quality(delay=0.002)
        took = [await of_a_killed_newcomer(c, age) for age in (0.0, 0.001, 0.003, 0.01)]
        # A word of it that was under way may arrive after its end: then only a lease's silence and a second refusal
        # prove anything.
        assert max(took) < 2 * LOCAL.lease + 0.5
        assert min(took) < 0.5


async def of_a_killed_newcomer(c: Cluster, age: float) -> float:
    """Have node 1 join anew and die at that age as a member; return how long node 0 then keeps it."""
    await c.kill(1)
    await c.until(lambda: len(c.node(0).members) == 1 and c.node(0).has_lease, 10, "a view of one")
    starting = asyncio.ensure_future(c.start(1))
    await c.sim.until(lambda: len(c.node(0).members) == 2, 10, "the view with the newcomer", every=0.0001)
    await asyncio.sleep(age)
    await c.kill(1)
    await asyncio.gather(starting, return_exceptions=True)
    return await c.until(lambda: len(c.node(0).members) == 1 and c.node(0).has_lease, 10, "the view without it")


@simulated
async def test_a_newcomer_dials_the_members_one_after_the_other_and_none_of_them_dials_it() -> None:
    """All of them have something for one another in the moment in which it is let in."""
    dials: list[tuple[float, str, str]] = []
    async with cluster(4) as c:
        c.sim.network.quality = Quality(delay=0.002)
        attempt = Peers._attempt

        async def noted(self: Peers, link: Link) -> None:
            dials.append((asyncio.get_running_loop().time(), self.node_id, link.peer))
            await attempt(self, link)

        with pytest.MonkeyPatch.context() as patch:
            await asyncio.sleep(2)
            patch.setattr(Peers, "_attempt", noted)
            await c.kill(3)
            await c.until(lambda: len(c.node(0).members) == 3, 10, "its end")
            await c.start(3)
            newcomer = c.node(3).id
            await c.until(lambda: len(dials) == 3, 1, "a connection to each")
            await asyncio.sleep(1)
        others = {c.node(number).id for number in range(3)}
        assert [(who, whom in others) for _, who, whom in dials] == [(newcomer, True)] * 3
        times = [at for at, _, _ in dials]
        assert min(later - at for at, later in pairwise(times)) > DIALS_EVERY / 2
        for number in range(3):
            assert c.node(number).node._peers.is_up(newcomer)


@simulated
async def test_a_member_that_cannot_be_dialled_by_a_newcomer_dials_it() -> None:
    async with cluster(2) as c:
        attempt, first = Peers._attempt, c.node(0).id

        async def fails(self: Peers, link: Link) -> None:
            if self.node_id != first:
                raise OSError("no way")
            await attempt(self, link)

        await c.kill(1)
        await c.until(lambda: len(c.node(0).members) == 1, 10, "its end")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Peers, "_attempt", fails)
            await c.start(1)
            took = await c.until(lambda: c.node(0).node._peers.is_up(c.node(1).id), 5, "a connection")
        assert took < 2 * COURTESY
