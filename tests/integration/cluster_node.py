"""A node as a process of its own, for test_cluster_processes: prints READY with its id, runs until SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator

from ringcast import Actor, Node, NodeConfig, handler


class Counter(Actor, name="test.Counter"):
    def __init__(self) -> None:
        self._value = 0

    async def add(self, n: int = 1) -> int:
        self._value += n
        return self._value

    async def where(self) -> int:
        return os.getpid()

    async def hang(self) -> None:
        await asyncio.sleep(3600)

    async def block(self, seconds: float) -> int:
        time.sleep(seconds)  # noqa: ASYNC251  what the test is about: a handler that keeps the loop
        return os.getpid()

    @handler(read_only=True)
    async def read(self, seconds: float) -> int:
        await asyncio.sleep(seconds)
        return os.getpid()

    @handler(read_only=True)
    async def ticks(self) -> AsyncIterator[int]:
        n = 0
        while True:
            yield n
            n += 1
            await asyncio.sleep(0.02)


async def main(cluster: str) -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Node(cluster=cluster, config=NodeConfig(drain_timeout=10.0)) as node:
        print(f"READY {node.id}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
