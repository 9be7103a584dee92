"""The running turn: what a call made inside a handler inherits.

A turn is one message being handled by one activation. Calls that the handler makes take its
deadline and extend its chain; tasks that it starts inherit it through their context, and may
outlive it, so a cycle is judged at the target, by whether the turn still runs there.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

ChainEntry = tuple[str, Any, int, int]
"""(class name, key, epoch, turn number): one waiting turn of a chain of asks."""


Turn = tuple[Any, int, tuple[Any, ...]]
"""One message being handled: (cell, number, envelope). A tuple, for one is made per message.

cell
    The activation that handles it (the runtime's).
number
    Its number within the activation.
envelope
    The message; its sink, deadline, chain and trace stand at `SINK`, `DEADLINE`, `CHAIN` and `TRACE`.
"""

SINK, DEADLINE, CHAIN, TRACE = 3, 5, 6, 7

current_turn: ContextVar[Turn | None] = ContextVar("ringcast_turn", default=None)

running_turn = current_turn.get
"""Return the running turn, or None: the variable's method itself, for a module that imports the variable looks it up
anew for each message, which takes as long as the call."""

set_turn = current_turn.set
"""Set the running turn."""

new_chain: ContextVar[bool] = ContextVar("ringcast_new_chain", default=False)
"""Whether a call is sent by `submit`: nobody waits for it here yet, so it cannot be a cycle."""
