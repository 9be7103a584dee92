"""The secret is changed under load: three steps of its file, and nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from pathlib import Path

import pytest

from ringcast import Actor, HandshakeRefused, MemberLost, Node, Seeds
from ringcast.security.private import write_private
from ringcast.security.secret import Key, Secret, new_key

NODES = 5
ASKS_PER_SECOND = 200


class Echo(Actor):
    async def say(self, what: int) -> int:
        return what


async def until_all_follow(nodes: list[Node], signing: Key, accepted: tuple[Key, ...]) -> None:
    """Return when each node has taken in what the file holds."""
    wanted = signing.id, tuple(key.id for key in accepted)
    async with asyncio.timeout(10):
        while any((node._trust.signing, node._trust.accepted) != wanted for node in nodes):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_rotation_fails_no_call_and_evicts_nobody(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    old, new = new_key(1), new_key(2)
    write_private(path, Secret((old,)).render())
    cluster = f"rotation-{os.getpid()}"
    lost: list[MemberLost] = []
    answers: list[int] = []

    async def listen(node: Node) -> None:
        async for event in node.events():
            if isinstance(event, MemberLost):
                lost.append(event)

    async with contextlib.AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Node(cluster=cluster, secret=path, discovery=[]))]
        for _ in range(NODES - 1):
            seeds = Seeds([nodes[0].address])
            nodes.append(await stack.enter_async_context(Node(cluster=cluster, secret=path, discovery=[seeds])))
        await asyncio.gather(*[node.wait_for_members(NODES, 10) for node in nodes])
        listeners = [asyncio.ensure_future(listen(node)) for node in nodes]

        async def ask(number: int) -> None:
            answers.append(await nodes[number % NODES].ref(Echo, number % 97).say(number))

        async def load() -> None:
            async with asyncio.TaskGroup() as group:
                for number in itertools.count():
                    if is_over.is_set():
                        return
                    group.create_task(ask(number))
                    await asyncio.sleep(1 / ASKS_PER_SECOND)

        is_over = asyncio.Event()
        loading = asyncio.ensure_future(load())
        for keys in ((old, new), (new, old), (new,)):
            write_private(path, Secret(keys).render())
            await until_all_follow(nodes, keys[0], keys)
        async with Node(cluster=cluster, secret=path, discovery=[Seeds([nodes[0].address])]) as late:
            await late.wait_for_members(NODES + 1, 10)
            assert await late.ref(Echo, 1).say(-1) == -1
        is_over.set()
        await loading
        assert {len(node.members) for node in nodes} <= {NODES, NODES + 1}
        for listener in listeners:
            listener.cancel()
    assert lost == []
    assert len(answers) > 2 * ASKS_PER_SECOND
    assert sorted(answers) == list(range(len(answers)))


async def test_a_node_with_the_dropped_key_stays_out(tmp_path: Path) -> None:
    old, new = new_key(1), new_key(2)
    now, before = tmp_path / "now", tmp_path / "before"
    write_private(now, Secret((new,)).render())
    write_private(before, Secret((old,)).render())
    cluster = f"dropped-{os.getpid()}"
    async with Node(cluster=cluster, secret=now, discovery=[]) as node:
        other = Node(cluster=cluster, secret=before, discovery=[Seeds([node.address])])
        with pytest.raises(HandshakeRefused, match="secret"):
            async with asyncio.timeout(5), other:
                pass
        assert len(node.members) == 1
