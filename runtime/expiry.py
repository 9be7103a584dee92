"""Calls whose time has run out, or that nobody waits for any more, at the actor's node.

The caller cancels, or asks where its call is when its time has run out. What still waits is taken
out, and has certainly not run; what runs is reported with how long it has, and is cancelled only if
its handler allows it.
"""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING

from ringcast.errors import MAYBE_EXECUTED, NOT_SENT, ActorStopped, CallError, CallTimeout, Certainty

from ..actors.messages import Message
from .backlog import LONG, Backlog
from .envelope import Envelope, Sink
from .limits import crowded_out, mailbox_full
from .mailbox import lighten

if TYPE_CHECKING:
    from .cell import Cell


def cancel_call(cell: Cell, sink: Sink, number: int, expired: bool) -> bool:
    """Cancel a call, or report where it is if its time has run out.

    Returns:
        Whether the call was found in this activation.
    """
    for place, envelope in enumerate(cell.queue or ()):
        if envelope[3] == sink and envelope[4] == number:
            assert cell.queue is not None
            del cell.queue[place]
            lighten(envelope)
            cell.room()
            if expired:
                expire(cell, envelope)
            return True
    for place, (envelope, _) in enumerate(cell.parked or ()):
        if envelope[3] == sink and envelope[4] == number:
            assert cell.parked is not None
            del cell.parked[place]
            if expired:
                where = _where(cell, "waiting for room in the mailbox")
                sink.fail(number, mailbox_full(cell.name, envelope[0].name, cell.host.node_id, where))
            return True
    current = cell.current
    if current is not None and current[3] == sink and current[4] == number:
        _cancel_running(cell, current, cell.turn, cell.task, cell.since, expired)
        return True
    for turn, (envelope, task, since, _) in (cell.side or {}).items():
        if envelope[3] == sink and envelope[4] == number:
            _cancel_running(cell, envelope, turn, task, since, expired)
            return True
    return False


def expire(cell: Cell, envelope: Envelope) -> None:
    """Say that a message's time ran out in the queue; it is not executed."""
    message, sink = envelope[0], envelope[3]
    where = _where(cell, "queued")
    if sink is None:
        cell.host.dead_letter(cell, envelope, f"its time ran out while it was {where}")
    else:
        sink.fail(envelope[4], _timeout(cell, message, NOT_SENT, where))


def shed(cell: Cell, now: float, away: float) -> None:
    """Drop from the head of a queue what could not be answered in time; see `backlog`.

    It is looked at whenever a drain has let others go on.

    Args:
        cell: Whose queue.
        now: Monotonic seconds.
        away: How many of them the others have taken.
    """
    queue, backlog = cell.queue, cell.backlog
    left = queue[-1][5] - now if queue else math.inf
    if not queue or left == math.inf or queue[0][5] - now >= LONG * (backlog.longest if backlog else left):
        cell.backlog = None
        return
    if backlog is None:
        backlog = cell.backlog = Backlog(now, cell.number, left)
    backlog.look(now, cell.number, left, away)
    while queue and backlog.drops(queue[0][5] - now, left, len(queue)):
        envelope = queue.popleft()
        lighten(envelope)
        cell.room()
        if (sink := envelope[3]) is not None:
            sink.fail(envelope[4], crowded_out(cell.name, envelope[0].name, cell.host.node_id, len(queue)))
        else:
            cell.host.dead_letter(cell, envelope, "the actor has more to do than it can, and its time was nearly over")


def _cancel_running(
    cell: Cell, envelope: Envelope, turn: int, task: asyncio.Task[None] | None, since: float, expired: bool
) -> None:
    message, sink = envelope[0], envelope[3]
    if expired and sink is not None:
        where = f"running for {monotonic() - since:.1f} s on node {cell.host.node_id}"
        sink.fail(envelope[4], _timeout(cell, message, MAYBE_EXECUTED, where))
    if task is not None and (message.options.cancellable or message.streams) and not cell.is_saving:
        if task is cell.task:
            cell.cancelling = turn
        task.cancel()


def _where(cell: Cell, what: str) -> str:
    if cell.current is not None:
        what += f" behind {cell.current[0].name}, which has run for {monotonic() - cell.since:.1f} s"
    elif cell.task is None and not cell.side:
        what += " until the actor may run there: its partition is handed over, or the node has no lease,"
    return f"{what} on node {cell.host.node_id}"


def _timeout(cell: Cell, message: Message, certainty: Certainty, place: str) -> CallError:
    return CallTimeout(
        f"{cell.name}.{message.name} did not answer within its time limit; give it more with "
        f"using(ref, timeout=…), or look at what the actor does",
        certainty=certainty,
        actor=cell.name,
        method=message.name,
        node=cell.host.node_id,
        place=place,
    )


def stopped(cell: Cell, envelope: Envelope) -> CallError:
    """Return what a caller gets whose actor has ended for good."""
    return ActorStopped(
        f"{cell.name} has ended and takes no messages",
        certainty=NOT_SENT,
        actor=cell.name,
        method=envelope[0].name,
        node=cell.host.node_id,
    )
