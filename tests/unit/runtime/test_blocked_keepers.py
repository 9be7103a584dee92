"""A member whose loop stands still keeps its copies out of date; who spawns is told so in time. In virtual time."""

from __future__ import annotations

import asyncio

import pytest

from ringcast import MAYBE_EXECUTED, Actor, CallTimeout, NodeConfig, props
from ringcast.testing import cluster, simulated


class Worker(Actor):
    async def here(self) -> str:
        return "here"


@simulated
async def test_a_spawn_ends_in_time_though_a_keeper_is_blocked() -> None:
    async with cluster(3, config=NodeConfig(ask_timeout=5.0)) as c:
        await c.block(2, 20.0)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for name in ("worker", None):
            with pytest.raises(CallTimeout, match=r"keeps its row, and does not answer") as error:
                await c.node(0).spawn(props(Worker), name=name)
            assert error.value.certainty is MAYBE_EXECUTED
            assert c.node(2).id in str(error.value)
        assert loop.time() - begun < 11.0, "each as long as an ask"
        await asyncio.sleep(20)
        found = await c.node(0).spawn(props(Worker), name="worker")
        assert await found.here() == "here"
        cells = [cell for node in c.running for cell in node.node._host.cells() if cell.life is not None]
        assert [cell.key[1] for cell in cells] == ["/worker"], "the one that nobody can call is ended"
