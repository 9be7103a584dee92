"""What the users of a node notice of its fences, and of the end of its membership, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from ringcast import Actor, CallError, NodeConfig, props, submit
from ringcast.testing import cluster, simulated

KEYS = 12


class Abacus(Actor):
    def __init__(self) -> None:
        self.count = 0

    async def add(self, pause: float = 0.0) -> int:
        await asyncio.sleep(pause)
        self.count += 1
        return self.count


@simulated
async def test_a_node_that_fences_itself_keeps_no_connection_of_the_run_that_is_over() -> None:
    """The others close theirs, which it may not hear; what is called over such a rest has an unknown fate."""
    async with cluster(3) as c:
        for key in range(KEYS):
            await c.node(0).ref(Abacus, f"key-{key}").add()
        node = c.node(0).node
        links = [link for link in node._peers.links.values() if link.connection is not None]
        before, run = [link.connection for link in links], node._peers.incarnation
        assert len(links) == 2
        node._membership.dissolve("the test wants it so")
        await c.sim.until(lambda: node._peers.incarnation > run, 1, "the fence", every=0.001)
        assert all(link.connection is not old for link, old in zip(links, before, strict=True))
        await c.settled()
        for key in range(KEYS):
            for number in range(3):
                await c.node(number).ref(Abacus, f"key-{key}").add()


@simulated
async def test_a_node_whose_membership_has_failed_does_not_wait_for_its_turns() -> None:
    async with cluster(3, config=NodeConfig(drain_timeout=30.0)) as c:
        owned = next(
            ref for ref in (c.node(1).ref(Abacus, f"key-{key}") for key in range(100)) if c.owner(ref) is c.node(0)
        )
        waiting = submit(owned.add, 25.0)
        await asyncio.sleep(0.1)
        c.node(0).node._membership.give_up("the test has it fail")
        took = await c.until(lambda: c.node(0).node._state == "stopped", 40, "the node's end")
        assert took < 3
        with pytest.raises(CallError):
            await waiting
        await c.kill(0)
        await c.settled()


@simulated
async def test_a_spawn_that_waits_for_a_keeper_ends_with_its_node() -> None:
    async with cluster(3, config=NodeConfig(ask_timeout=60.0, drain_timeout=1.0)) as c:
        await c.partition([0], [1, 2])
        waiting = [asyncio.ensure_future(c.node(0).spawn(props(Abacus), name=f"of {n}")) for n in range(6)]
        await asyncio.sleep(8)
        node = c.node(0).node
        leaving = asyncio.ensure_future(c.node(0).run(lambda node: node.leave()))
        await c.until(lambda: node._state == "stopped", 30, "the node's end")
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(end, CallError) for end in ends), ends
        await leaving
        await c.kill(0)
        await c.heal()
        await c.settled()
