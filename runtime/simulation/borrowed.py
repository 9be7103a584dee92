"""Refs for a story: their calls run in the process of a node, as calls of its application do.

A ref belongs to a node, and its calls to the node's loop. A story has a loop of its own, so it gets refs
that hand each call over to the node's process and wait for what comes back. Refs in answers are handed
over in the same way, where they stand in lists, tuples, dicts and sets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar, cast

from ...actors.messages import Message
from ...actors.ref import ActorRef
from ...actors.verbs import tell
from ..node import Node
from .machine import Process

T = TypeVar("T")

_COLLECTIONS: dict[object, Callable[[list[Any]], Any]] = {list: list, tuple: tuple, set: set, frozenset: frozenset}


class Answer(asyncio.Future[Any]):
    """The future of a call that runs in another process; cancelling it cancels the call."""

    number = 0


class Borrowed:
    """The `Caller` of a story's refs: everything is done by a node in its process."""

    def __init__(self, node: Node, process: Process) -> None:
        """Hand over to this node."""
        self._node = node
        self._process = process

    # ---- Caller --------------------------------------------------------------------------------------

    def ask(self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
        """See `Caller`."""
        method = getattr(self.own(ref), message.name)

        async def ask() -> Any:
            return self.lend(await method(*args, **kwargs))

        return self.do(ask)

    def abandon(self, number: int) -> None:
        """The call was cancelled together with its answer."""

    def stream(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """See `Caller`."""
        method = getattr(self.own(ref), message.name)
        return BorrowedStream(self, lambda: method(*args, **kwargs))

    def tell(self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Awaitable[None]:
        """See `Caller`."""
        method = getattr(self.own(ref), message.name)

        async def told() -> None:
            await tell(method, *args, **kwargs)

        return self.do(told)

    async def watch(self, ref: ActorRef, notice: Callable[[str], None]) -> Callable[[], None]:
        """See `Caller`."""
        here, own = asyncio.get_running_loop(), self.own(ref)

        async def watch() -> Callable[[], None]:
            return await own._caller.watch(own, lambda reason: _later(here, notice, reason))

        end: Callable[[], None] = await self.do(watch)
        return lambda: _later(self._process.app, end)

    # ---- handing over --------------------------------------------------------------------------------

    def do(self, work: Callable[[], Any]) -> Answer:
        """Call something in the node's process, and await it there."""
        answer = Answer(loop=asyncio.get_running_loop())
        self._process.ask(work, answer)
        return answer

    def own(self, ref: ActorRef) -> ActorRef:
        """Return the node's own ref of the same actor."""
        return type(ref)(self._node._router, ref._type_name, ref._key, ref._node, ref._options)

    def lend(self, value: T) -> T:
        """Return the value with the node's refs replaced by those for the story."""
        return cast(T, self._lent(value))

    def _lent(self, value: Any) -> Any:
        if isinstance(value, ActorRef):
            return type(value)(self, value._type_name, value._key, value._node, value._options)
        kind = _kind(value)
        if kind in _COLLECTIONS:
            return _COLLECTIONS[kind]([self._lent(part) for part in value])
        if kind is dict:
            return {self._lent(key): self._lent(part) for key, part in value.items()}
        return value


class BorrowedStream:
    """A streamed reply, read in the node's process item by item."""

    def __init__(self, borrowed: Borrowed, begin: Callable[[], AsyncIterator[Any]]) -> None:
        """Begin with the first item."""
        self._borrowed = borrowed
        self._begin = begin
        self._items: AsyncIterator[Any] | None = None

    def __aiter__(self) -> BorrowedStream:
        """Return itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next item."""
        found = await self._borrowed.do(self._next)
        if found is None:
            raise StopAsyncIteration
        return found[0]

    async def aclose(self) -> None:
        """Read no more."""
        await self._borrowed.do(self._close)

    async def _next(self) -> tuple[Any] | None:
        if self._items is None:
            self._items = self._begin()
        try:
            return (self._borrowed.lend(await anext(self._items)),)
        except StopAsyncIteration:
            return None

    async def _close(self) -> None:
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()


def _kind(value: object) -> object:
    return type(value)


def _later(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)
