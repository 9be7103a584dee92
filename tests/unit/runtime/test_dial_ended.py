"""A connection that has ended before the dialling node could look at it is a failed attempt, and nothing worse."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from ringcast import Unreachable
from tests.unit.runtime.places import REMOTE, a_place


class Loop(uvloop.Loop):
    """Ends the connections that it makes, once it is told to."""

    is_ending = False

    async def create_connection(self, *args: Any, **keywords: Any) -> Any:
        transport, protocol = await super().create_connection(*args, **keywords)
        if self.is_ending:
            transport.abort()
            while transport.get_extra_info("socket") is not None:
                await asyncio.sleep(0)
        return transport, protocol


async def story(loop: Loop) -> None:
    async with a_place(REMOTE) as place:
        loop.is_ending = True
        peers = place.node._peers
        with pytest.raises(Unreachable, match="no handshake"):
            await peers._attempt(peers.link(place.owner.id))


def test_the_attempt_fails() -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, Loop)
        runner.run(story(loop))
