"""Does things together that are asked for one by one.

What queues up while one group is under way goes into the next one. Nothing waits for company: what comes alone is
done alone, at once.

References:
    DeWitt et al. "Implementation techniques for main memory database systems". SIGMOD 1984: group commit.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

__all__ = ["Grouped"]

A = TypeVar("A")
R = TypeVar("R")


class Grouped(Generic[A, R]):
    """Things to do, and what does a group of them."""

    def __init__(
        self,
        do: Callable[[list[A]], Awaitable[Sequence[R | Exception]]],
        *,
        at_once: int,
        most: int,
        size: Callable[[A], int] = lambda asked: 0,
        most_bytes: int = 0,
    ) -> None:
        """Begin with nothing to do.

        Args:
            do: Does a group, and returns a result or an error for each, in order.
            at_once: Groups under way, at most.
            most: Parts of a group, at most.
            size: Returns the bytes of one.
            most_bytes: Bytes of a group, at most; one alone may have more.
        """
        self._do = do
        self._at_once = at_once
        self._most = most
        self._size = size
        self._most_bytes = most_bytes
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self, asked: A) -> R:
        """Do one thing with others. If the caller is cancelled, it may be done all the same."""
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if len(self._tasks) < self._at_once:
            # It serves others too: a context of its own, or the runtime would take it for the first one's turn.
            task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await answer

    async def end(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self) -> None:
        while group := self._next():
            answers: Sequence[R | Exception]
            try:
                answers = await self._do([asked for asked, _ in group])
            except asyncio.CancelledError:  # the loop ends
                for _, answer in group:
                    answer.cancel()
                raise
            except Exception as error:
                answers = [error] * len(group)
            for (_, answer), found in zip(group, answers, strict=True):
                if answer.done():
                    continue
                if isinstance(found, Exception):
                    answer.set_exception(found)
                else:
                    answer.set_result(found)

    def _next(self) -> list[tuple[A, asyncio.Future[R]]]:
        group: list[tuple[A, asyncio.Future[R]]] = []
        length = 0
        while self._waiting and len(group) < self._most:
            asked, answer = self._waiting[0]
            length += self._size(asked)
            if group and length > self._most_bytes:
                break
            self._waiting.popleft()
            if not answer.done():  # else its caller was cancelled
                group.append((asked, answer))
        return group
