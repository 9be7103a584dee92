"""A process with a node that believes itself alone, and writes to the actors of all the others.

Run as a program: ``durable_worker.py STORE NAME``. It prints each operation that was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from dataclasses import dataclass, field

from ringcast import DurableActor, Node, StoreError, using

ACTORS = 12


@dataclass
class Journal:
    """The operations that were applied, in order."""

    applied: list[str] = field(default_factory=list[str])
    epochs: list[int] = field(default_factory=list[int])


class Log(DurableActor[Journal], name="test.Log"):
    """Applies operations."""

    async def apply(self, operation: str) -> int:
        self.state.applied.append(operation)
        if not self.state.epochs or self.state.epochs[-1] != self.context.epoch:
            self.state.epochs.append(self.context.epoch)
        return len(self.state.applied)

    async def journal(self) -> Journal:
        return self.state


async def write(node: Node, name: str, chance: random.Random) -> None:
    """Apply operations for ever, one at a time; each is tried again until it is done."""
    number = 0
    while True:
        number += 1
        operation = f"{name}-{number}"
        key = chance.randrange(ACTORS)
        ref = using(node.ref(Log, key), idempotency_key=operation)
        while True:
            try:
                await ref.apply(operation)
            except StoreError:
                continue
            break
        os.write(1, f"{key} {operation}\n".encode())


async def main(store: str, name: str) -> None:
    """Write with four hands."""
    async with Node(cluster=name, discovery=[], store=store) as node:
        await asyncio.gather(*(write(node, f"{name}.{hand}", random.Random(f"{name}.{hand}")) for hand in range(4)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
