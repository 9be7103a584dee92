"""What the users of a node notice of its fences, and of the end of its membership, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from ringcast import Actor, CallError, NodeConfig, props, submit
from ringcast.testing import cluster, simulated


class Abacus(Actor):
    def __init__(self) -> None:
        self.count = 0

    async def add(self, pause: float = 0.0) -> int:
        await asyncio.sleep(pause)
        self.count += 1
        return self.count


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
