"""A turn of a durable actor that has ended where it began, while its state is saved: it needs no task.

The runner in which the handler ran is kept for it, parked. If the save is done, the reply leaves, and the runner is
free. Whatever else happens is dealt with in the runner, by the code that deals with all other turns: it is woken to
wait for the save, and finds it refused, unknown, or itself cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from functools import partial
from typing import TYPE_CHECKING, Any

from ringcast.errors import StoreError

from .cell import SUSPENDED
from .stores import Outcome, Write, Written

if TYPE_CHECKING:
    from .durable import DurableCell
    from .runner import Job, Runner

__all__ = ["Raised", "Saving"]


class Saving:
    """One such turn. It is what the store tells, and what the runner may have to await."""

    __slots__ = ("_answer", "_cell", "_is_begun", "_runner", "_value", "_write")

    def __init__(self, cell: DurableCell, runner: Runner, write: Write) -> None:
        """Keep the runner, whose `value` is the handler's, until the write is done."""
        self._cell = cell
        self._runner = runner
        self._write = write
        self._answer: asyncio.Future[Written] | None = None
        """What the runner waits for, once it is woken."""
        self._is_begun = False
        """Whether `run_now` has returned."""
        self._value: Any = SUSPENDED
        runner.kept_for = self

    def given(self) -> Any:
        """Return what the turn has come to by now: its value, or `SUSPENDED`."""
        self._is_begun = True
        return self._value

    def __call__(self, written: Written | None, error: StoreError | None, /) -> None:
        """Hear from the store."""
        cell, runner = self._cell, self._runner
        if self._answer is not None or cell.host.runners.is_closed:
            return  # it was cancelled meanwhile, and what became of the write is the next activation's to find out
        runner.kept_for = None
        transaction = cell.transaction
        assert transaction is not None, "the turn lasts until it is saved"
        assert cell.current is not None, "and is the running one"
        if written is not None and written.outcome is Outcome.COMMITTED and not transaction.has_effects:
            sink, number = cell.current[3], cell.current[4]
            cell.saved(self._write)
            value = cell.concluded(runner)
            if not self._is_begun:
                self._value = value
            elif sink is not None:
                sink.reply(number, value)
            return
        self._answer = answer = cell.host.loop.create_future()
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(written)
        runner.give(partial(cell._drain, self))

    def cancelled(self) -> Job:
        """See `KeepsRunner`."""
        self._answer = self._cell.host.loop.create_future()
        return partial(self._cell._drain, self)

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the save; return the handler's value."""
        assert self._answer is not None, "the runner was woken"
        yield from self._cell.settled(self._write, self._answer).__await__()
        value, self._runner.value = self._runner.value, None
        return value


class Raised:
    """A turn whose handler has raised where it began."""

    __slots__ = ("_error",)

    def __init__(self, error: BaseException) -> None:
        """Keep what it raised."""
        self._error = error

    def __await__(self) -> Generator[Any, Any, Any]:
        """Raise it."""
        raise self._error
        yield
