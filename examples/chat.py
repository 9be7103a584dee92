"""A chat room: everybody who is in it reads a stream that lives while others post.

    python examples/chat.py

Expect what ann and bob each hear: three lines, in the same order, then ``the room has 0 listeners``.
A `read_only` stream holds no turn, so `post` runs whenever the listeners wait for news.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from ringcast import Actor, Node, handler, run


class Room(Actor):
    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[str]] = set()

    async def post(self, who: str, text: str) -> None:
        for listener in self._listeners:
            listener.put_nowait(f"{who}: {text}")

    @handler(read_only=True)
    async def listen(self) -> AsyncGenerator[str]:
        """Yield what is posted from now on, after a first empty line that says the listener is in."""
        news: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(news)
        try:
            yield ""
            while True:
                yield await news.get()
        finally:  # the reader has left, or is gone
            self._listeners.discard(news)

    @handler(read_only=True)
    async def listeners(self) -> int:
        return len(self._listeners)


async def hear(who: str, room: Room, is_in: asyncio.Event, lines: int) -> None:
    heard: list[str] = []
    stream = room.listen()
    async for line in stream:
        if not line:
            is_in.set()
            continue
        heard.append(line)
        if len(heard) == lines:
            break
    await stream.aclose()  # or leave it to the collector, a little later
    print(f"{who} hears {heard}")


async def main() -> None:
    async with Node(cluster="chat-example") as node:
        room = node.ref(Room, "lobby")
        async with asyncio.TaskGroup() as group:
            for who in ("ann", "bob"):
                is_in = asyncio.Event()
                group.create_task(hear(who, room, is_in, lines=3))
                await is_in.wait()
            await room.post("ann", "hello")
            await room.post("bob", "hello, ann")
            await room.post("ann", "bye")
        print(f"the room has {await room.listeners()} listeners")


if __name__ == "__main__":
    run(main())
