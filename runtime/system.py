"""What nodes ask of one another, besides actors' messages: spawn, stop, watch, …

A verb is an async function of plain values. A call to this node itself runs it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, CallError, NodeStopped, Unreachable

from ..actors.messages import HandlerOptions, Message
from . import wire
from .calls import Call, Parcel

if TYPE_CHECKING:
    from .host import Host
    from .peers import Peers
    from .router import Router

Verb = Callable[..., Awaitable[Any]]

_MESSAGE = Message("ringcast", "system", None, False, HandlerOptions())


class System:
    """Calls between nodes."""

    def __init__(self, node_id: str, router: Router, host: Host, timeout: float) -> None:
        """Belong to one node; `peers` is set when it is there."""
        self.verbs: dict[str, Verb] = {}
        self.peers: Peers
        self._node_id = node_id
        self._router = router
        self._host = host
        self.timeout = timeout
        """Seconds that a call may take, and whatever is made of several."""
        self._posts: set[asyncio.Task[None]] = set()

    async def call(self, node: str, verb: str, *args: Any) -> Any:
        """Ask a node, and return its answer.

        Raises:
            CallError: If it does not answer, or the verb raised one.
            NodeStopped: If this node has ended.
        """
        if self._host.ended is not None:
            raise NodeStopped(self._host.ended, certainty=NOT_SENT, node=self._node_id)
        if node == self._node_id:
            return await self.verbs[verb](*args)
        if node not in self._host.kinds.members:
            raise Unreachable(f"node {node} is no member of the cluster", certainty=NOT_SENT, node=node)
        router = self._router
        number = router.number = router.number + 1
        route = router.routes.to("ringcast", node, node)
        link = route.link
        assert link is not None
        frame, buffers = link.pack_parts([wire.SYSTEM, number, verb, *args])
        call = router.calls[number] = Call(loop=router.loop)
        call.number = number
        call.deadline = monotonic() + self.timeout
        call.route = route
        call.message = _MESSAGE
        call.link = link
        call.parcel = parcel = Parcel(_MESSAGE, number, frame, buffers, None)
        route.credit = wire.WINDOW if link.is_up else 0  # few and small: they need no window
        router.routes.send(route, parcel)
        router.limits.watch()
        try:
            return await call
        finally:
            router.calls.pop(number, None)

    def post(self, node: str, verb: str, *args: Any) -> None:
        """Ask a node without waiting; a failure is logged."""
        if self._host.ended is not None:
            return

        async def run() -> None:
            try:
                await self.call(node, verb, *args)
            except CallError as error:
                self._host.log.debug("a node did not answer", peer=node, verb=verb, error=str(error))

        task = self._host.background(run())
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)

    async def posted(self, seconds: float) -> None:
        """Wait until what was posted has been answered, for `seconds` at most: the node leaves."""
        if self._posts:
            await asyncio.wait(self._posts, timeout=seconds)
