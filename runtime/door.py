"""The runtime as one actor sees it: what stands behind its `Context`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

from ..actors.context import Timer
from ..actors.ref import ActorRef, is_ref, spawned_path
from ..actors.reminders import At, Every
from ..actors.turn import SINK, current_turn
from .behalf import Behalf
from .once import Remembered
from .supervision import child_name, leave_out
from .tenancy import check_run
from .timers import start_timer
from .transaction import open_transaction

if TYPE_CHECKING:
    from ..security.identity import Identity
    from .cell import Cell


class Door:
    """The `Activation` behind a context: passes on to the parts of the node that do it."""

    __slots__ = ("_cell",)

    def __init__(self, cell: Cell) -> None:
        """Stand before one activation."""
        self._cell = cell

    @property
    def key(self) -> Any:
        """The actor's key; the name of a spawned one."""
        life = self._cell.life
        if life is None:
            return self._cell.key
        return self._cell.key[1].removeprefix(f"{spawned_path(life.parent)}/")

    @property
    def epoch(self) -> int:
        """The activation's fencing token."""
        return self._cell.epoch

    @property
    def me(self) -> ActorRef:
        """The actor's own ref."""
        return self._cell.me

    @property
    def parent(self) -> Any:
        """The ref of the actor that spawned this one."""
        life = self._cell.life
        return None if life is None else life.parent

    @property
    def children(self) -> dict[str, Any]:
        """The refs of the actors that this one supervises, by name."""
        me = self._cell.me
        return {child_name(me, child): child for child in cast("Iterable[ActorRef]", self._cell.children or ())}

    @property
    def log(self) -> Any:
        """A logger bound to node, actor and trace."""
        return self._cell.host.log_of(self._cell)

    @property
    def caller(self) -> Identity | None:
        """The client for which the running turn was called."""
        turn = current_turn.get()
        if turn is None or turn[0] is not self._cell:
            return None
        sink = turn[2][SINK]
        if isinstance(sink, Remembered):
            sink = sink.first
        return sink.caller if isinstance(sink, Behalf) else None

    def ref(self, cls: type[Any], key: Any) -> Any:
        """Return the ref of a keyed actor."""
        return self._cell.host.kinds.ref(cls, key)

    async def spawn(self, props: Any, name: str | None, restart: Any, on: Any) -> Any:
        """Spawn a child of this actor."""
        await self._permit()
        return await self._cell.host.lives.spawn(props, name, restart, on, self._cell)

    async def stop(self, ref: Any) -> None:
        """Stop an actor; this one itself, and those above it, end after the running turn."""
        await self._permit()
        cell = self._cell
        if ref == cell.me:
            cell.retire("ended")
        elif cell.life is not None and is_ref(ref) and cell.key[1].startswith(f"{spawned_path(ref)}/"):
            cell.host.background(cell.host.lives.stop(ref))  # it waits for this very turn, as all above do
        else:
            is_child = cell.children is not None and ref in cell.children
            await cell.host.lives.stop(ref)
            if is_child and cell.life is not None:
                leave_out(cell, ref)  # it may never have been started, so that nobody was told of its end
                await cell.host.lives.notes.write(cell.life)

    async def watch(self, ref: Any) -> None:
        """Have `on_terminated` called when that actor has ended."""
        check_run(self._cell)
        await self._cell.host.watches.watch_for(self._cell, ref)

    def timer(self, first: float, every: float | None, method: Callable[..., Any], args: tuple[Any, ...]) -> Timer:
        """Start a timer that tells this actor one of its own messages."""
        check_run(self._cell)
        if (transaction := open_transaction()) is not None:
            return transaction.timer(self._cell, first, every, method, args)
        return start_timer(self._cell, first, every, method, args)

    async def save(self) -> None:
        """Refuse: there is no state."""
        raise self._stateless("save()")

    async def delete_state(self) -> None:
        """Refuse: there is no state."""
        raise self._stateless("delete_state()")

    async def remind(self, name: str, when: At | Every, method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Refuse: there is no state to keep a reminder with."""
        raise self._stateless("remind()")

    async def forget(self, name: str) -> bool:
        """Refuse: there is no state."""
        raise self._stateless("forget()")

    def _stateless(self, what: str) -> TypeError:
        return TypeError(f"context.{what} is for actors with a state: make {self._cell.name} a DurableActor[…]")

    async def _permit(self) -> None:
        """Return when what an actor orders may leave this node.

        Raises:
            Unreachable: If its activation is over, or the node has lost its lease.
        """
        check_run(self._cell)
        await self._cell.host.router.vigil.permit()
        check_run(self._cell)
