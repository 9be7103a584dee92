"""A node as a process of its own, for test_trees: prints READY with its id, runs until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from ringcast import Actor, ChildSpec, Labels, Node, NodeConfig, Supervisor, props


class Leaf(Actor, name="test.Leaf"):
    def __init__(self, word: str = "") -> None:
        self._word = word
        self._told: list[str] = []

    async def where(self) -> int:
        return os.getpid()

    async def word(self) -> str:
        return self._word

    async def fail(self) -> None:
        raise LookupError("told to")

    async def watch(self, ref: Any) -> None:
        await self.context.watch(ref)

    async def told(self) -> list[str]:
        return self._told

    async def on_terminated(self, ref: Any, reason: str) -> None:
        self._told.append(reason)


class Parent(Actor, name="test.Parent"):
    """Has children with names, and without, that it starts when it is told to."""

    async def where(self) -> int:
        return os.getpid()

    async def have(self, name: str | None, at: str) -> Any:
        return await self.context.spawn(props(Leaf, name or ""), name=name, on=Labels(at=at))

    async def names(self) -> list[str]:
        return sorted(self.context.children)

    async def child(self, name: str) -> Any:
        return self.context.children[name]


class Tree(Supervisor, name="test.Tree"):
    """Three leaves; its supervisor class needs nothing, so it is started by its name."""

    def children(self) -> Sequence[ChildSpec]:
        return [ChildSpec(props(Leaf, f"leaf {n}"), name=f"leaf{n}") for n in range(3)]

    async def where(self) -> int:
        return os.getpid()

    async def names(self) -> list[str]:
        return sorted(self.context.children)


async def main(cluster: str, label: str) -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Node(cluster=cluster, labels={"at": label}, config=NodeConfig(drain_timeout=10.0)) as node:
        print(f"READY {node.id}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
