"""Streamed replies: items under flow control, from a handler's generator to a reader's iterator.

The reader grants room for `WINDOW` items and more as it takes them (PULL). Each item has the ask's
limit on both sides: a generator that is silent for longer ends the reader with `CallTimeout`; a
reader that is silent for longer ends the stream at the owner.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import MAYBE_EXECUTED, CallError, CallTimeout

from ..actors.messages import Message
from ..actors.ref import ActorRef
from .envelope import Envelope

if TYPE_CHECKING:
    from .cell import Cell
    from .router import Router

WINDOW = 32
"""Items that may be under way to one reader."""


class StreamDeadline(float):
    """The deadline of a request for a stream; it remembers the limit that each item has."""

    __slots__ = ("limit",)

    limit: float

    def __new__(cls, limit: float) -> StreamDeadline:
        """Begin now, with `limit` seconds for the turn to begin, and again for each item."""
        deadline = super().__new__(cls, monotonic() + limit)
        deadline.limit = limit
        return deadline


class Outflow:
    """The owner's side of one stream: how much room its reader has."""

    __slots__ = ("_room", "_waiter", "cell")

    def __init__(self, cell: Cell) -> None:
        """Begin with the window that every reader has; `cell` is the activation that streams."""
        self.cell = cell
        self._room = WINDOW
        self._waiter: asyncio.Future[None] | None = None

    def pull(self, count: int) -> None:
        """Note that the reader has room for `count` more, of `WINDOW` in all."""
        self._room = min(self._room + count, WINDOW)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self, limit: float) -> bool:
        """Take room for one item; False if the reader has been silent for `limit` seconds."""
        while self._room <= 0:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(limit):
                    await self._waiter
            except TimeoutError:
                return False
            finally:
                self._waiter = None
        self._room -= 1
        return True


async def serve_stream(cell: Cell, envelope: Envelope) -> None:
    """Run a streaming handler and send what it yields."""
    message, args, kwargs, sink, number, deadline, _, _ = envelope
    assert sink is not None
    # Who does not know that the method streams has asked for one answer: it is told, and cancels.
    limit = deadline.limit if isinstance(deadline, StreamDeadline) else max(deadline - monotonic(), 0.0)
    outflow = Outflow(cell)
    flows = cell.host.outflows
    flows[sink, number] = outflow
    try:
        async with aclosing(message.function(cell.actor, *args, **(kwargs or {}))) as items:  # type: ignore[misc]
            async for item in items:
                if not await outflow.take(limit):
                    what = f"{cell.name}.{message.name}: the reader took no item for {limit:.1f} s, so it was ended"
                    sink.fail(number, CallTimeout(what, actor=cell.name, method=message.name, certainty=MAYBE_EXECUTED))
                    return
                sink.item(number, item)
        sink.end(number)
    finally:
        flows.pop((sink, number), None)


class Inflow(AsyncIterator[Any]):
    """The reader's side: what ``ref.count_to(3)`` returns. Asked for at the first item.

    It closes on `aclose()`, when it is collected, and when the reading task is cancelled.
    """

    def __init__(
        self, router: Router, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Keep the call; nothing is sent yet."""
        self._router = router
        self._call = (ref, message, args, kwargs)
        self._items: deque[Any] = deque()
        self._taken = 0
        self._wake: asyncio.Future[None] | None = None
        self._number = 0
        self.limit = 0.0
        self._error: BaseException | None = None
        self._ended = False
        self.held = (ref._type_name, ref._key)
        self.holder: object = None
        """Who holds the actor's turn through this stream, if it does."""

    def __aiter__(self) -> Inflow:
        """Return itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next item.

        Raises:
            StopAsyncIteration: When the stream has ended.
            CallTimeout: When the handler yields nothing for the ask's limit.
            CallError: When the stream was lost.
        """
        if not self._number and not self._ended:
            self._number = self._router.open_stream(self, *self._call)
        while not self._items:
            if self._error is not None:
                error, self._error = self._error, None
                self._finish()
                raise error
            if self._ended:
                raise StopAsyncIteration
            self._wake = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(self.limit):
                    await self._wake
            except TimeoutError:
                await self.aclose()
                raise self._router.silent_stream(self._call[0], self._call[1], self.limit) from None
            except asyncio.CancelledError:
                await self.aclose()
                raise
            finally:
                self._wake = None
        self._taken += 1
        if self._taken >= WINDOW // 2 and not self._ended:
            self._router.pull(self._number, self._taken)
            self._taken = 0
        return self._items.popleft()

    async def aclose(self) -> None:
        """End the stream at its owner, too; any number of times."""
        if not self._ended:
            self._finish()
            if self._number:
                self._router.abandon(self._number)
        self._items.clear()

    async def asend(self, value: None) -> Any:
        """Return the next item; a stream takes no values."""
        if value is not None:
            raise TypeError("a streamed reply takes no values")
        return await self.__anext__()

    async def athrow(self, *error: Any) -> Any:
        """Close the stream and raise the error here; it does not travel."""
        await self.aclose()
        raise error[-1] if isinstance(error[-1], BaseException) else error[0]

    def __del__(self) -> None:
        """Close when nobody holds the iterator any more."""
        if self._number and not self._ended:
            self._ended = True
            self._router.abandon_later(self._number, self.holder, self.held)

    def feed(self, item: Any) -> None:
        """Take an item that has arrived; an owner that sends more than there is room for is left."""
        if len(self._items) >= 2 * WINDOW:
            self._items.clear()
            self.fail(CallError("the stream's owner sent more items than it was asked for", certainty=MAYBE_EXECUTED))
            self._router.abandon_later(self._number, self.holder, self.held)
            return
        self._items.append(item)
        self._rouse()

    def fail(self, error: BaseException) -> None:
        """End with an error, after the items that have arrived."""
        self._error = error
        self._rouse()

    def end(self) -> None:
        """End, after the items that have arrived."""
        self._finish()
        self._rouse()

    def _finish(self) -> None:
        self._ended = True
        self._router.stream_closed(self)

    def _rouse(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
