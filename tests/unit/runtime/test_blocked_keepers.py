"""A member whose loop stands still keeps its copies out of date; who spawns is told so in time. In virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ringcast import MAYBE_EXECUTED, Actor, CallTimeout, NodeConfig, props
from ringcast.actors.placement import Near
from ringcast.runtime.rows import partition_of_path
from ringcast.testing import Cluster, ClusterNode, cluster, simulated

STARTED: list[str] = []
"""Which workers were started, on all nodes."""


class Anchor(Actor):
    async def ping(self) -> None:
        pass


class Worker(Actor):
    async def on_start(self) -> None:
        STARTED.append(self.context.key)

    async def here(self) -> str:
        return "here"


@pytest.fixture(autouse=True)
def _started() -> None:
    STARTED.clear()


def keepers(c: Cluster) -> list[ClusterNode]:
    """Return who keeps the row of the worker, its leader first."""
    ids = c.node(0).node._host.lives.register.keepers(partition_of_path("/worker"))
    return [next(node for node in c.running if node.id == node_id) for node_id in ids]


def near(c: Cluster, node: ClusterNode) -> Near:
    return Near(next(ref for ref in (c.ref(Anchor, key) for key in range(1000)) if c.owner(ref) is node))


def workers(c: Cluster) -> list[str]:
    return [cell.key[1] for node in c.running for cell in node.node._host.cells() if cell.life is not None]


@simulated
async def test_a_spawn_ends_in_time_though_a_keeper_is_blocked() -> None:
    async with cluster(3, config=NodeConfig(ask_timeout=5.0)) as c:
        await c.block(2, 20.0)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for name in ("worker", None):
            with pytest.raises(CallTimeout, match=r"and does not answer") as error:
                await c.node(0).spawn(props(Worker), name=name)
            assert error.value.certainty is MAYBE_EXECUTED
            assert error.value.node == c.node(2).id
            assert f"node {c.node(2).id} " in str(error.value)
            assert "Spawn" in str(error.value)
        assert loop.time() - begun < 11.0, "each as long as an ask"
        await asyncio.sleep(20)
        found = await c.node(0).spawn(props(Worker), name="worker")
        assert await found.here() == "here"
        assert workers(c) == ["/worker"], "the one that nobody can call is ended"


@pytest.mark.parametrize(
    ("position", "part"), [(0, "decides about it"), (1, "keeps a copy of its row"), (2, "keeps a copy of its row")]
)
@simulated
async def test_the_keeper_that_is_blocked_is_named_and_who_tries_again_starts_nothing_twice(
    position: int, part: str
) -> None:
    async with cluster(5, config=NodeConfig(ask_timeout=3.0)) as c:
        blocked = keepers(c)[position]
        caller = next(node for node in c.running if node not in keepers(c))
        host = near(c, caller)
        await c.block(blocked, 8.0)
        for _ in range(2):
            with pytest.raises(CallTimeout, match=rf"node {blocked.id} {part}, and does not answer") as error:
                await caller.spawn(props(Worker), name="worker", on=host)
            assert error.value.node == blocked.id
        found: Any = await caller.spawn(props(Worker), name="worker", on=host)
        assert await found.here() == "here"
        await asyncio.sleep(20)
        assert (workers(c), STARTED) == (["/worker"], ["worker"])


@simulated
async def test_the_node_that_should_start_it_is_named() -> None:
    async with cluster(5, config=NodeConfig(ask_timeout=3.0)) as c:
        blocked, caller = (node for node in c.running if node not in keepers(c))
        host = near(c, blocked)
        await c.block(blocked, 8.0)
        with pytest.raises(CallTimeout, match=rf"node {blocked.id} is to start it, and does not answer"):
            await caller.spawn(props(Worker), name="worker", on=host)
        await asyncio.sleep(20)
        found: Any = await caller.spawn(props(Worker), name="worker")
        assert await found.here() == "here"
        assert (workers(c), STARTED) == (["/worker"], ["worker"])


@pytest.mark.parametrize("position", [0, 1, 2])
@simulated
async def test_a_spawn_goes_on_when_a_blocked_keeper_is_lost(position: int) -> None:
    async with cluster(5, config=NodeConfig(ask_timeout=10.0)) as c:
        blocked = keepers(c)[position]
        caller = next(node for node in c.running if node not in keepers(c))
        host = near(c, caller)
        await c.block(blocked, 8.0)
        spawning = asyncio.ensure_future(caller.spawn(props(Worker), name="worker", on=host))
        await asyncio.sleep(1)
        assert not spawning.done()
        await c.kill(blocked)
        found: Any = await spawning
        assert await found.here() == "here"
        assert (workers(c), STARTED) == (["/worker"], ["worker"])
