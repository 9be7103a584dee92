"""What was to be sent on to a node that is lost before it could be: the next owner gets it."""

from __future__ import annotations

import asyncio
from typing import Any

from ringcast import Actor, Node
from ringcast.actors.actor import actor_type
from ringcast.runtime import wire
from ringcast.runtime.calls import Parcel


class Heard(Actor):
    def __init__(self) -> None:
        self._heard: list[str] = []
        self._some = asyncio.Event()

    async def say(self, what: str) -> None:
        self._heard.append(what)
        self._some.set()

    async def heard(self) -> list[str]:
        await self._some.wait()
        return self._heard


async def test_a_message_for_a_node_that_is_lost_goes_to_the_next_owner() -> None:
    async with Node(cluster="again", discovery=[]) as node:
        ref = node.ref(Heard, "h")
        host, peers = node._host, node._peers
        message = host.kinds.of(actor_type(Heard)).actor.messages["say"]
        lost = peers.link("a node that is no member")
        head: list[Any] = [wire.TELL_X, message.number, "h", node.view.number, [["forwarded"], {}, None, None, 1]]
        frame, buffers = lost.pack_parts(head)
        lost.backlog.append(Parcel(message, 0, frame, buffers, None))

        peers._drop("a node that is no member")

        assert await ref.heard() == ["forwarded"]
        assert node.dead_letters.total == 0
