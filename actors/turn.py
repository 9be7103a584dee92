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


class Turn:
    """One message being handled.

    Attributes:
        cell: The activation that handles it (the runtime's).
        number: Its number within the activation.
        deadline: When the caller stops waiting, monotonic seconds; inf for told messages.
        chain: The turns that wait for this one, outermost first.
        trace: The name of the whole chain of calls, for logs; None until somebody asks for it.
    """

    __slots__ = ("cell", "chain", "deadline", "number", "trace")

    def __init__(
        self, cell: Any, number: int, deadline: float, chain: tuple[ChainEntry, ...], trace: str | None
    ) -> None:
        """See the class."""
        self.cell = cell
        self.number = number
        self.deadline = deadline
        self.chain = chain
        self.trace = trace


current_turn: ContextVar[Turn | None] = ContextVar("ringcast_turn", default=None)
