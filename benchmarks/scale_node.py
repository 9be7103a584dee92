"""The processes of `scale`: ``python -m benchmarks.scale_node member|live|join …``.

A member counts what its membership sends, and says each view that it installs; a line on its standard input is
answered by its counts. What is timed is in seconds of the machine's monotonic clock, which all its processes share.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from ringcast import Node, Seeds, Unreachable, ViewChanged, run
from ringcast.actors.naming import wire_name
from ringcast.discovery.datagrams import Datagrams
from ringcast.discovery.link import Link
from ringcast.runtime.ring import key_hash, partition_of

from .counters import Simple
from .ours import resident_bytes
from .workloads import sequential

__all__ = ["Sent"]

ASKS = 20_000
BATCH = 500


class Sent:
    """Counts what the membership of this process gives to its sockets, before TLS."""

    def __init__(self) -> None:
        self.messages = self.bytes = 0
        for cls, name in ((Datagrams, "send"), (Link, "write")):
            setattr(cls, name, self._counting(getattr(cls, name)))

    def _counting(self, send: Callable[..., None]) -> Callable[..., None]:
        def counted(*args: Any) -> None:
            self.messages += 1
            self.bytes += len(args[-1])
            send(*args)

        return counted


def say(**what: object) -> None:
    print(json.dumps(what), flush=True)


async def member(cluster: str, seeds: list[str]) -> None:
    sent, loop = Sent(), asyncio.get_running_loop()
    async with Node(cluster=cluster, discovery=[Seeds(seeds)] if seeds else [], tls=False) as node:
        events = node.events()
        say(address=node.address, members=len(node.view.members), at=time.monotonic())

        async def views() -> None:
            async for event in events:
                if isinstance(event, ViewChanged):
                    say(members=len(event.view.members), at=time.monotonic())

        watching = asyncio.create_task(views())
        while await loop.run_in_executor(None, sys.stdin.readline):
            say(messages=sent.messages, bytes=sent.bytes, cpu=time.process_time(), at=time.monotonic())
        watching.cancel()


async def activate(node: Node, count: int) -> None:
    for first in range(0, count, BATCH):
        await asyncio.gather(*(node.ref(Simple, key).count() for key in range(first, min(first + BATCH, count))))


async def live(count: int) -> None:
    """Say how quick asks are to any of `count` live actors, and what each takes."""
    async with Node(cluster="live", discovery=[], tls=False) as node:
        await activate(node, 100)
        gc.collect()
        before, begun = resident_bytes(), time.perf_counter()
        await activate(node, count)
        seconds = time.perf_counter() - begun
        gc.collect()
        size = (resident_bytes() - before) / count
        keys, refs = random.Random(0), [node.ref(Simple, key) for key in range(count)]
        asked = await sequential(lambda i: refs[keys.randrange(count)].echo(i), ASKS)
        say(p50_us=asked.p50_us, p99_us=asked.p99_us, bytes=size, activations=count / seconds)


async def answered(ref: Simple, since: float) -> float:
    """Return how long it took until an actor has answered, however often its node could not be reached."""
    while True:
        try:
            await ref.count()
            return time.monotonic() - since
        except Unreachable:
            await asyncio.sleep(0.01)


async def join(count: int) -> None:
    """Say how long it takes, from a join's view on, until each partition of the new node has answered.

    One actor of each partition is asked, all at once, and again until it has answered.
    """
    name = wire_name(Simple)
    of_partition = {partition_of(key_hash(name, key)): key for key in range(count)}
    async with Node(cluster="join", discovery=[], tls=False) as node:
        await activate(node, count)
        gc.collect()
        events = node.events()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.scale_node", "member", "join", node.address),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            async for event in events:
                if isinstance(event, ViewChanged) and len(event.view.members) == 2:
                    break
            viewed = time.monotonic()
            refs = [node.ref(Simple, key) for key in of_partition.values()]
            moved = [ref for ref in refs if (await node.locate(ref)).id != node.id]
            lasted = [await each for each in asyncio.as_completed([answered(ref, viewed) for ref in moved])]
            say(seconds=max(lasted), half=statistics.median(lasted), moved=len(moved), left=node.stats()["actors"])
        finally:
            process.terminate()
            await process.wait()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["member", cluster, *seeds]:
            run(member(cluster, seeds))
        case ["live", count]:
            run(live(int(count)))
        case ["join", count]:
            run(join(int(count)))
        case _:
            sys.exit(f"member, live or join, not {sys.argv[1:]}")
