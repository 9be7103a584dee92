"""Where the actors of a test run: on the caller's own node, or on another one for sure.

The other node is in the same process, so a test can hold a handler back with an `asyncio.Event` of
its own, and see what a handler saw.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from ringcast import Node, NodeConfig, Seeds

LOCAL, REMOTE = "local", "remote"
_clusters = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Place:
    """A caller and the node where what it calls runs."""

    node: Node
    """The caller's."""
    owner: Node
    """Where the actors run; the same node if the place is local."""

    @property
    def is_remote(self) -> bool:
        return self.node is not self.owner


def new_cluster() -> str:
    """Return a name that no other test, and no other run of the tests, uses."""
    return f"test-{os.getpid()}-{next(_clusters)}"


@asynccontextmanager
async def a_place(where: str, **config: Any) -> AsyncIterator[Place]:
    """Start the node, or the nodes, of a place."""
    cluster = new_cluster()
    config.setdefault("drain_timeout", 0.5)  # a test that has failed may leave handlers behind
    async with Node(cluster=cluster, discovery=[], config=NodeConfig(**config)) as owner:
        if where == LOCAL:
            yield Place(owner, owner)
            return
        seeds = Seeds([owner.address])
        async with Node(cluster=cluster, discovery=[seeds], hosts=[], config=NodeConfig(**config)) as caller:
            yield Place(caller, owner)


async def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Return when `holds()` is true, looking at every turn of the loop.

    Raises:
        TimeoutError: If it is not within `seconds`.
    """
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  there is no event for most of what tests wait for
            await asyncio.sleep(0.001)


class Gates:
    """Events by name, shared by a test and the actors that it calls; made new for each test."""

    def __init__(self) -> None:
        self._entered: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._open: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.seen: list[Any] = []
        """What the actors wrote down."""

    async def passing(self, name: str) -> None:
        """Say that a handler is here, and wait until the test lets it go on."""
        self._entered[name].set()
        await self._open[name].wait()

    def mark(self, name: str) -> None:
        """Say that a handler is here, without waiting."""
        self._entered[name].set()

    async def entered(self, name: str, seconds: float = 5.0) -> None:
        """Wait until a handler is at the gate."""
        async with asyncio.timeout(seconds):
            await self._entered[name].wait()

    def has_entered(self, name: str) -> bool:
        return self._entered[name].is_set()

    def let_go(self, *names: str) -> None:
        """Open gates for good."""
        for name in names:
            self._open[name].set()

    def clear(self) -> None:
        self._entered.clear()
        self._open.clear()
        self.seen.clear()


gates = Gates()


async def raised(awaitable: Awaitable[Any]) -> BaseException:
    """Return what an awaitable raises."""
    try:
        value = await awaitable
    except BaseException as error:
        return error
    raise AssertionError(f"nothing was raised; it returned {value!r}")
