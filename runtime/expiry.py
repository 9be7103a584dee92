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
from .envelope import Envelope, Sink
from .limits import crowded_out, mailbox_full
from .mailbox import lighten

if TYPE_CHECKING:
    from .cell import Cell

LOOK = 0.05
"""Seconds, at least, over which turns are counted to see how quick an actor is."""
LOOK_MAX = 1.0
"""Seconds after which a count begins anew: the actor may have been idle."""
NEAR = 0.3
"""Of what the last message has left: who has less is dropped from a queue that is too long for it."""


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


def shed(cell: Cell, now: float) -> None:
    """Drop what is next to run out of time, after one that has, if the queue is longer than its last message can wait.

    First come, first served, such a queue would go on to hand out messages at the last moment, and their answers would
    come too late. Somebody has to be refused, and those at the head gain least by being served. A queue that has only
    stood still, and now moves quickly, is left as it is.
    """
    queue, before = cell.queue, cell.shed_at
    if before is None or now - before[0] > LOOK_MAX:
        cell.shed_at = (now, cell.number)
        return
    seconds, turns = now - before[0], cell.number - before[1]
    if not queue or seconds < LOOK:
        return
    cell.shed_at = (now, cell.number)
    left = queue[-1][5] - now
    if left == math.inf or len(queue) * seconds <= left * max(turns, 1):
        return
    while queue and queue[0][5] - now < NEAR * left:
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
