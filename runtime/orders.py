"""Orders: what the supervisor of a spawned actor has done with it, at the actor's own node.

The supervisor may be on another node; then these are verbs of the system. Each may come twice, for
an order that was not answered is repeated.
"""

from __future__ import annotations

import math
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..actors.ref import ActorRef
from .life import Life
from .tenancy import FENCED

if TYPE_CHECKING:
    from .cell import Cell
    from .host import Host
    from .system import System

PASSING = frozenset({"ended", "failed", "restarting"})
"""Reasons of an end from which a spawned actor may come back: its supervisor has the last word."""


class Orders:
    """Starts, holds and ends the spawned actors of one node."""

    def __init__(self, host: Host, system: System, patience: float) -> None:
        """Take orders; a turn that runs for longer than `patience` seconds when its actor is to stop is cancelled."""
        self._host = host
        self._patience = patience
        system.verbs["start"] = self._on_start
        system.verbs["halt"] = self._on_halt
        system.verbs["end"] = self._on_end
        system.verbs["stop"] = self._on_stop

    async def _on_start(
        self, name: str, key: Any, delay: float, cause: ActorRef | None, restarts: int, is_failing: bool
    ) -> bool:
        cell = self._host.kinds.named(name).cells.get(key)
        if cell is not None and cell.life is not None:
            self._host.lives.supervision.adopt(cell)  # who gives orders has it as its child
        return self.revive(name, key, delay, cause, restarts, is_failing)

    def revive(
        self, name: str, key: Any, delay: float, cause: ActorRef | None, restarts: int, is_failing: bool
    ) -> bool:
        """Start an actor whose cell was kept; return False if it is not there. See `directives.Start`."""
        cell = self._host.kinds.named(name).cells.get(key)
        if cell is None or cell.life is None or cell.is_going:
            return False
        life = cell.life
        if cause is not None:
            life.restarts += 1
            self._host.restarts += 1
            keeps_failing = is_failing and not life.is_failing
            log = self._host.log.error if keeps_failing else self._host.log.warning
            log(
                "actor keeps failing: it is retried at the backoff's limit" if keeps_failing else "actor starts again",
                actor=cell.name,
                supervisor=supervisor_of(cell),
                why=life.why if cause == cell.me else f"together with {cause!r}",
                restarts_in_window=restarts,
                delay=round(delay, 3),
            )
        life.is_failing = is_failing
        if cell.actor is not None and cell.retiring is None and not life.is_down:
            self._host.lives.supervision.started(cell)  # the register has started it already
            return True
        cell.revive_at(monotonic() + delay)
        return True

    async def _on_halt(self, name: str, key: Any) -> bool:
        """End an activation and keep its cell; return whether there is one."""
        cells = self._host.kinds.named(name).cells
        cell = cells.get(key)
        if cell is None:
            return False
        life = life_of(cell)
        if life.is_down and cell.actor is None:
            cell.not_before = math.inf  # its restart does not come
        else:
            cell.retire("restarting")
            self._be_patient_with(cell)
        while cells.get(key) is cell and not (life.is_down and cell.retiring is None):
            await self._host.next_retired()
        return cells.get(key) is cell

    async def _on_end(self, name: str, key: Any) -> bool:
        self.end(name, key)
        return True

    def end(self, name: str, key: Any) -> None:
        """Let an actor go that is down and is not started again."""
        cell = self._host.kinds.named(name).cells.get(key)
        if cell is not None and cell.life is not None:
            cell.life.is_over = True
            cell.retire("ended" if cell.life.why == "ended" else "failed")

    async def _on_stop(self, name: str, key: Any, reason: str = "stopped", is_supervised: bool = False) -> bool | None:
        """End an actor for good, and return when it has ended; a keyed one is deactivated. None if it is not here."""
        kind = self._host.kinds.named(name)
        cell = kind.cells.get(key)
        if cell is None:
            return None
        cell.retire(reason)
        if is_supervised:
            self._be_patient_with(cell)
        while kind.cells.get(key) is cell:
            await self._host.next_retired()
        await self._host.lives.reported(name, key)
        goes_on = cell.life is not None and cell.life.outlives_its_node and cell.retiring in ("leaving", FENCED)
        return None if goes_on and reason != "leaving" else True  # then it is to be stopped where it is now

    def _be_patient_with(self, cell: Cell) -> None:
        """Cancel the running turn of an actor that is to stop, unless it ends in time."""
        epoch = cell.epoch

        def give_up() -> None:
            running = [envelope for envelope, *_ in (cell.side or {}).values()]
            if cell.current is not None:
                running.append(cell.current)
            if running and cell.epoch == epoch and cell.retiring is not None:
                methods = ", ".join(envelope[0].name for envelope in running)
                what = "turns are cancelled: their actor is to stop"
                self._host.log.warning(what, actor=cell.name, methods=methods, after=self._patience)
                cell.cancel_turns()

        if cell.current is not None or cell.side:
            self._host.loop.call_later(self._patience, give_up)


def supervisor_of(cell: Cell) -> str | None:
    """Return the name of who supervises an actor; None for a keyed one, which has nobody."""
    life = cell.life
    if life is None:
        return None
    return "root" if life.parent is None or life.is_orphan else repr(life.parent)[5:-1]


def life_of(cell: Cell) -> Life:
    """Return the life of a spawned actor."""
    assert cell.life is not None, "a keyed actor has no supervisor"
    return cell.life
