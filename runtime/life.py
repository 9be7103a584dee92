"""A life: what a spawned actor has and a keyed one has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..actors.ref import ActorRef
from ..actors.supervision import TEMPORARY, Restart
from .rows import Notes, Row

WATCHING_MAX = 1000
"""Watches that an actor takes along to another node; a row is not to grow without bound."""


@dataclass(slots=True, eq=False)
class Life:
    """The explicit life of a spawned actor, across the activations in which it is lived.

    Attributes:
        args: The constructor's positional arguments.
        kwargs: The constructor's keyword arguments.
        restart: Whether it is started again after a failure or a normal end.
        parent: The ref of the actor that spawned it; None for the cluster's root.
        is_orphan: Whether its parent is out of reach, so that the root stands in.
        is_down: Whether its activation is over, and its supervisor says what comes.
        is_over: Whether its supervisor has said that it is not started again.
        why: What ended its last activation, for people.
        restarts: How often it was started again.
        is_failing: Whether it is past the root's intensity and retried at the backoff's limit.
        since: When it came up last; monotonic seconds.
        row: Its row in the register; None for one that nobody starts again elsewhere, and that nobody has named.
        is_declaring: Whether it is a supervisor that has its children made just now, and does not know them all.
        declared: Names of the children that it has declared at its last start.
        removed: Names of declared children that were stopped for good: the next start leaves them out.
        watching: Whom it watches, and on which node a spawned one was; see `Watches`.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    restart: Restart
    parent: ActorRef | None
    is_orphan: bool = False
    is_down: bool = False
    is_over: bool = False
    why: str = ""
    restarts: int = 0
    is_failing: bool = False
    since: float = 0.0
    row: Row | None = None
    is_declaring: bool = False
    declared: frozenset[str] = frozenset()
    removed: set[str] | None = None
    watching: dict[tuple[str, Any], str | None] | None = None

    @property
    def outlives_its_node(self) -> bool:
        """Whether it is started elsewhere when its node leaves or is lost."""
        return self.row is not None and not self.row.is_local and self.restart is not TEMPORARY

    @property
    def notes(self) -> Notes:
        """What it takes along when it is started elsewhere."""
        watching = tuple((name, key, hint) for (name, key), hint in (self.watching or {}).items())
        return Notes(tuple(sorted(self.removed or ())), watching[:WATCHING_MAX])

    @notes.setter
    def notes(self, notes: Notes) -> None:
        self.removed = set(notes.removed) or None
        self.watching = {(name, key): hint for name, key, hint in notes.watching} or None
