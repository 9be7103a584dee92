"""A turn of a durable actor, until it is saved: what it has said to others waits here.

Told messages, spawned actors and timers of the turn are its *effects*. They are checked and copied when the
handler makes them, and carried out in their order when the turn has been saved; if it is undone, nobody hears of
them. Between the save and an effect the process may die: the state is saved then, and the effect is lost, as any
told message may be.

References:
    Strom, Yemini. "Optimistic recovery in distributed systems". TOCS 1985: output commit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from ..actors.context import Timer
from ..actors.turn import Turn, current_turn
from .timers import start_timer, timer_message

if TYPE_CHECKING:
    from .cell import Cell

__all__ = ["Transaction", "open_transaction"]

Effect = Callable[[], Awaitable[None] | None]


class Transaction:
    """One turn of one durable actor."""

    __slots__ = ("_effects", "is_deleting", "turn")

    def __init__(self, turn: Turn) -> None:
        """Begin with a turn.

        Attributes:
            turn: The turn.
            is_deleting: Whether the state is to be deleted, unless it is changed once more.
        """
        self.turn = turn
        self.is_deleting = False
        self._effects: list[tuple[Effect, Callable[[], object] | None]] | None = None

    def keep(self, effect: Effect, undo: Callable[[], object] | None = None) -> None:
        """Keep an effect until the save.

        Args:
            effect: Carries it out.
            undo: Takes back what was noted already, if the turn is undone.
        """
        if self._effects is None:
            self._effects = []  # most turns have none
        self._effects.append((effect, undo))

    @property
    def has_effects(self) -> bool:
        """Whether anything is kept."""
        return bool(self._effects)

    async def release(self) -> None:
        """Carry out what was kept, in order. The turn is saved: nothing here can fail it any more."""
        effects, self._effects = self._effects, None
        for effect, _ in effects or ():
            try:
                done = effect()
                if done is not None:
                    await done
            except Exception as error:
                cell: Cell = self.turn[0]
                cell.host.log.error("an effect of a saved turn failed", actor=cell.name, exc_info=error)

    def discard(self) -> None:
        """Forget what was kept."""
        effects, self._effects = self._effects, None
        for _, undo in reversed(effects or ()):
            if undo is not None:
                undo()

    def timer(
        self, cell: Cell, first: float, every: float | None, method: Callable[..., Any], args: tuple[Any, ...]
    ) -> Timer:
        """Return a timer that starts with the save; see `start_timer`."""
        timer_message(cell, first, every, method)
        started: list[Timer] = []
        is_cancelled = False

        def start() -> None:
            if not is_cancelled:
                started.append(start_timer(cell, first, every, method, args))

        def cancel() -> None:
            nonlocal is_cancelled
            is_cancelled = True
            for timer in started:
                timer.cancel()

        self.keep(start)
        return Timer(cancel)


def open_transaction() -> Transaction | None:
    """Return the transaction that the running code belongs to, if there is one."""
    turn = current_turn.get()
    if turn is None:
        return None
    cell: Cell = turn[0]
    transaction = cell.transaction
    return transaction if transaction is not None and transaction.turn[1] == turn[1] else None
