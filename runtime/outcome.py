"""How turns end that do not end with a reply: what came out of a handler, and whose it is.

A handler may raise, be cancelled by its caller, by the end of its activation or by something that it awaited, run
out of a limit of its own, or never have been called, since the arguments do not fit. What an error does to the
actor is decided by `blame`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from ringcast.errors import MAYBE_EXECUTED, NOT_SENT, CallTimeout, WrongArguments

from ..actors.messages import Message
from .envelope import Envelope
from .tenancy import FENCED

if TYPE_CHECKING:
    from .cell import Cell


def went_wrong(cell: Cell, envelope: Envelope, error: BaseException) -> bool:
    """Sort out what came out of a handler; return whether the actor has failed."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        assert task is not None
        if _was_cancelled(cell, task, envelope):
            return False
        if task.cancelling():
            raise error
    cell.current = None  # if it was cancelled, then by something that the handler awaited
    return cell.raised(envelope, fitting(cell, envelope[0], error))


def _was_cancelled(cell: Cell, task: asyncio.Task[Any], envelope: Envelope) -> bool:
    """Sort out a CancelledError that came out of a handler; True if the cell has dealt with it."""
    by_caller = cell.cancelling == cell.turn
    forget_cancel(cell, task)
    if by_caller:
        return True
    if not task.cancelling():
        return False
    if cell.retiring is not None:
        why = "was cancelled, for its activation has to go"
    else:
        why = "was cancelled from outside: something cancels the task of a turn that is over"
    if (sink := envelope[3]) is not None and cell.retiring != FENCED:  # then it has been told
        sink.fail(envelope[4], cell.host.lost(cell, envelope, why))
    if cell.host.runners.is_closed:
        return False
    task.uncancel()  # what comes after it, or the end in order, was not cancelled
    return True


def forget_cancel(cell: Cell, task: asyncio.Task[Any]) -> None:
    """A cancelled handler went on to its end all the same: what comes after it was not cancelled."""
    if cell.cancelling:
        cell.cancelling = 0
        task.uncancel()


def fitting(cell: Cell, message: Message, error: BaseException) -> BaseException:
    """Return an error as it is, or, if the call itself raised it, what says that the arguments do not fit."""
    if isinstance(error, TypeError) and error.__traceback__ is not None and error.__traceback__.tb_next is None:
        return WrongArguments(
            f"{cell.name}: {error}",
            certainty=NOT_SENT,
            actor=cell.name,
            method=message.name,
            node=cell.host.node_id,
        )
    return error


async def bounded(cell: Cell, running: Coroutine[Any, Any, Any], envelope: Envelope) -> Any:
    """Run a handler that has a limit of its own.

    Raises:
        CallTimeout: If it was over; the handler was cancelled.
    """
    limit = envelope[0].options.timeout
    scope = asyncio.timeout(limit)
    try:
        async with scope:
            return await running
    except TimeoutError:
        if not scope.expired():
            raise
        raise CallTimeout(
            f"{cell.name}.{envelope[0].name} ran for its limit of {limit} s and was cancelled; raise "
            f"@handler(timeout=…) or split the work",
            certainty=MAYBE_EXECUTED,
            actor=cell.name,
            method=envelope[0].name,
            node=cell.host.node_id,
            place=f"cancelled after running for {limit} s on node {cell.host.node_id}",
        ) from None
