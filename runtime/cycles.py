"""Call cycles: a chain of asks that comes back to an actor which waits in it.

Judged at the target, by whether the waiting turn still runs there: tasks that a handler started may
outlive their turn and carry its chain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringcast.errors import NOT_SENT, CallCycle

from ..actors.ref import display
from .envelope import Envelope

if TYPE_CHECKING:
    from .cell import Cell


def enter(cell: Cell, envelope: Envelope) -> bool:
    """Judge a message that carries a chain: a cycle is refused, a reentrant one runs at once.

    Returns:
        Whether the message has been dealt with.
    """
    message, _, _, sink, number, _, chain, _ = envelope
    if not any(_waits(cell, *entry) for entry in chain):
        return False
    if message.options.reentrant and cell.host.gate.is_open:
        cell.run_beside(envelope)
    elif message.options.reentrant:  # it cannot wait in the mailbox, behind the turn that waits for it
        if sink is not None:
            sink.fail(number, cell.host.router.vigil.refusal(cell.name, message.name))
    elif sink is not None:
        way = " -> ".join([*(display(name, key) for name, key, _, _ in chain), cell.name])
        what = (
            f"{cell.name}.{message.name} was called by a chain of asks that waits for {cell.name} itself: {way}; "
            f"make the call with tell(), or mark the handler @handler(reentrant=True)"
        )
        node = cell.host.node_id
        sink.fail(number, CallCycle(what, certainty=NOT_SENT, actor=cell.name, method=message.name, node=node))
    return True


def _waits(cell: Cell, name: str, key: object, epoch: int, turn: int) -> bool:
    """Whether an entry of a chain is a turn that still runs in this activation."""
    if name != cell.kind.name or key != cell.key or epoch != cell.epoch:
        return False
    return (cell.current is not None and turn == cell.turn) or bool(cell.side and turn in cell.side)
