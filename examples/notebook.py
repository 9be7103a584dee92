"""A class of a notebook runs on another node, which has never seen its code.

    python examples/notebook.py

Expect ``mean 2.0, counted by another process: True``, then the same with the edited class:
``median 3.0``. The second process is a plain node that imports nothing of this file. A class of a
notebook cell, a REPL or a function travels by value (here: defined in a function); edit it, and
the next call takes the new code along. Both nodes must allow pickle, which is the default.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from ringcast import Actor, Labels, Node, run

PLAIN_NODE = """
import asyncio, sys
from ringcast import Node

async def main():
    async with Node(cluster=sys.argv[1], labels={"big": "yes"}):
        await asyncio.to_thread(sys.stdin.read)  # until whoever started this ends

asyncio.run(main())
"""


async def cells(node: Node) -> None:
    class Numbers(Actor, placement=Labels(big="yes")):
        async def mean(self, numbers: list[float]) -> tuple[float, int]:
            return statistics.mean(numbers), os.getpid()

    mean, process = await node.ref(Numbers, "mine").mean([1.0, 2.0, 3.0])
    print(f"mean {mean}, counted by another process: {process != os.getpid()}")

    class Median(Actor, placement=Labels(big="yes")):
        async def median(self, numbers: list[float]) -> float:
            return statistics.median(numbers)

    print(f"median {await node.ref(Median, 'mine').median([1.0, 3.0, 1000.0])}")


async def main(cluster: str) -> None:
    async with Node(cluster=cluster) as node:
        await node.wait_for_members(2, timeout=30)
        await cells(node)


if __name__ == "__main__":
    name = f"notebook-{os.getpid()}"
    with subprocess.Popen([sys.executable, "-c", PLAIN_NODE, name], stdin=subprocess.PIPE):
        run(main(name))  # at its end the stdin of the plain node closes, and it leaves
