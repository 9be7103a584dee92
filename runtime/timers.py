"""Timers of an activation: messages that it tells itself, later or again and again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..actors.context import Timer
from ..actors.messages import Message

if TYPE_CHECKING:
    from .cell import Cell
    from .envelope import Envelope


def start_timer(
    cell: Cell, first: float, every: float | None, method: Callable[..., Any], args: tuple[Any, ...]
) -> Timer:
    """Start a timer; it ends with its activation.

    Args:
        cell: The activation.
        first: Seconds until the first tick.
        every: Seconds between ticks; None for one tick only.
        method: A message of the actor, bound to it.
        args: What the message is told with.

    Raises:
        TypeError: If the method is no message of the actor, or the seconds are none.
    """
    message = timer_message(cell, first, every, method)
    loop = cell.host.loop
    sent: Envelope | None = None
    handle: asyncio.TimerHandle

    def tick() -> None:
        nonlocal sent, handle
        if every is None:
            if cell.timers is not None:
                cell.timers.discard(timer)
        else:
            handle = loop.call_later(every, tick)
        if sent is None or not cell.holds(sent):  # a tick never piles up behind its predecessor
            sent = (message, args, None, None, 0, math.inf, (), None)
            cell.accept(sent)

    def cancel() -> None:
        handle.cancel()
        if cell.timers is not None:
            cell.timers.discard(timer)

    timer = Timer(cancel)
    handle = loop.call_later(first, tick)
    if cell.timers is None:
        cell.timers = set()
    cell.timers.add(timer)
    return timer


def timer_message(cell: Cell, first: float, every: float | None, method: Callable[..., Any]) -> Message:
    """Return the message that a timer of these arguments tells.

    Raises:
        TypeError: If the method is no message of the actor, or the seconds are none.
    """
    message = cell.kind.actor.messages.get(getattr(method, "__name__", ""))
    if message is None or getattr(method, "__self__", None) is not cell.actor or message.streams:
        raise TypeError(f"a timer takes a message of the actor itself, such as self.flush, not {method!r}")
    if not first >= 0 or (every is not None and not every > 0):
        raise TypeError(f"a timer takes seconds: at least 0 for after(), more than 0 for every(); not {first!r}")
    return message
