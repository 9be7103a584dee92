"""Tasks that handlers start: they end with their activation, so they must be found again.

A task inherits the context of the code that created it, and with it the running turn. Nothing is
hooked and no task factory is set, for the loop belongs to the application; the tasks of the loop
are looked through when an activation goes.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
from typing import TYPE_CHECKING, Any

from ..actors.turn import current_turn

if TYPE_CHECKING:
    from .cell import Cell
    from .host import Host


def tasks_by_cell(host: Host) -> dict[Cell, list[asyncio.Task[Any]]]:
    """Return the unfinished tasks that turns of activations have started, by activation."""
    found: dict[Any, list[asyncio.Task[Any]]] = {}
    for task in asyncio.all_tasks(host.loop):
        context = _context_of(task)
        turn = None if context is None else context.get(current_turn)
        if turn is None:
            continue
        cell: Cell = turn[0]
        if task not in host.runners.tasks and not any(task is beside for _, beside, _, _ in (cell.side or {}).values()):
            found.setdefault(cell, []).append(task)
    return found


def _context_of(task: asyncio.Task[Any]) -> contextvars.Context | None:
    get_context = getattr(task, "get_context", None)  # Python 3.12 and later
    if get_context is not None:
        context: contextvars.Context = get_context()
        return context
    for held in gc.get_referents(task):  # on 3.11 only the collector sees it
        if isinstance(held, contextvars.Context):
            return held
    return None
