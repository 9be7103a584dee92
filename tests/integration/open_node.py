"""A node as a process of its own, with actors that clients may call: prints READY, its id and its address."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

from ringcast import Actor, Node, NodeConfig, Seeds, handler


class Open(Actor, expose=True, name="test.Open"):
    def __init__(self) -> None:
        self._count = 0

    async def add(self) -> int:
        self._count += 1
        return self._count

    @handler(read_only=True)
    async def where(self, seconds: float = 0.0) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    async def linger(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    @handler(read_only=True)
    async def ticks(self) -> AsyncIterator[int]:
        n = 0
        while True:
            yield n
            n += 1
            await asyncio.sleep(0.01)

    @handler(expose=False)
    async def shut(self) -> None: ...


async def main(cluster: str, *seeds: str) -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    config = NodeConfig(drain_timeout=10.0)
    async with Node(cluster=cluster, discovery=[Seeds(seeds)] if seeds else [], config=config) as node:
        print(f"READY {node.id} {node.address}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
