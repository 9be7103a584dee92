"""The cluster's secret is changed under load: nobody fails, and nobody is evicted.

``python -m benchmarks.hostile_rotation`` starts five nodes that share a secret's file, asks them 200
times a second, and writes the file three times: the new key is added, put first, and the old one
dropped. After each step it waits until each node follows. A sixth node joins at the end, which only
has the new key.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ringcast import Actor, MemberLost, MemberSuspected, Node, Seeds, run
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key

__all__ = ["Figures", "rotation"]

NODES = 5
ASKS_PER_SECOND = 200
LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Figures:
    """What a rotation did.

    Attributes:
        asks: How many were answered rightly.
        failed: How many were not.
        evicted: Members that were lost.
        suspected: Members that were suspected, and refuted it.
        seconds: From the first step until all had taken the last.
    """

    asks: int
    failed: int
    evicted: int
    suspected: int
    seconds: float


class Echo(Actor):
    async def say(self, what: int) -> int:
        return what


async def _followed(nodes: list[Node], secret: Secret) -> None:
    """Return when each node has taken in what the file holds."""
    wanted = secret.signing.id, tuple(key.id for key in secret.keys)
    async with asyncio.timeout(LIMIT):
        while any((node._trust.signing, node._trust.accepted) != wanted for node in nodes):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def rotation() -> Figures:
    """Change the secret under load; see the module."""
    answered, failed = 0, 0
    events: list[type[object]] = []

    async def listen(node: Node) -> None:
        async for event in node.events():
            events.append(type(event))

    async def ask(node: Node, number: int) -> None:
        nonlocal answered, failed
        try:
            answered += await node.ref(Echo, number % 97).say(number) == number
        except Exception:
            failed += 1

    async with contextlib.AsyncExitStack() as stack:
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()), "secret")
        old, new = new_key(1), new_key(2)
        write_private(path, Secret((old,)).render())
        cluster = f"rotation-{os.getpid()}"
        nodes = [await stack.enter_async_context(Node(cluster=cluster, secret=path, discovery=[]))]
        for _ in range(NODES - 1):
            seeds = Seeds([nodes[0].address])
            nodes.append(await stack.enter_async_context(Node(cluster=cluster, secret=path, discovery=[seeds])))
        await asyncio.gather(*[node.wait_for_members(NODES, LIMIT) for node in nodes])
        listeners = [asyncio.ensure_future(listen(node)) for node in nodes]
        is_over = asyncio.Event()

        async def load() -> None:
            async with asyncio.TaskGroup() as group:
                for number in itertools.count():
                    if is_over.is_set():
                        return
                    group.create_task(ask(nodes[number % NODES], number))
                    await asyncio.sleep(1 / ASKS_PER_SECOND)

        loading = asyncio.ensure_future(load())
        began = asyncio.get_running_loop().time()
        for keys in ((old, new), (new, old), (new,)):
            secret = Secret(keys)
            write_private(path, secret.render())
            await _followed(nodes, secret)
        seconds = asyncio.get_running_loop().time() - began
        async with Node(cluster=cluster, secret=path, discovery=[Seeds([nodes[0].address])]) as late:
            await late.wait_for_members(NODES + 1, LIMIT)
            await ask(late, -1)
        is_over.set()
        await loading
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)
    return Figures(answered, failed, events.count(MemberLost), events.count(MemberSuspected), seconds)


if __name__ == "__main__":
    print(run(rotation()))
