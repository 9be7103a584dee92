"""A first actor: ask, tell, and a streamed reply.

    python examples/counter.py

Expect ``2``, ``3``, then ``0 1 2``, and the end of the program. Start it twice, with a longer
life, and both would share the one counter: its key decides on which node it lives.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from ringcast import Actor, Node, handler, run, tell


class Counter(Actor):
    def __init__(self) -> None:
        self._value = 0

    async def add(self, n: int = 1) -> int:
        self._value += n
        return self._value

    @handler(read_only=True)
    async def count_to(self, upto: int) -> AsyncGenerator[int]:
        for n in range(upto):
            yield n


async def main() -> None:
    async with Node(cluster="counter-example") as node:
        hits = node.ref(Counter, "hits")  # nothing is created yet: the first message does that
        print(await hits.add(2))
        await tell(hits.add, 1)  # accepted, not yet handled; one sender's messages keep their order
        print(await hits.add(0))
        print(*[n async for n in hits.count_to(3)])


if __name__ == "__main__":
    run(main())
