"""Watched: whom this node is to tell when its actors end.

It knows the watch by its number on the watcher's node. If that node is lost, the watch is told to this one again by
whichever node has it then: see `Watches` and `Wills`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..actors.ref import is_spawned
from ..discovery.member import Identity, View

if TYPE_CHECKING:
    from .host import Host
    from .system import System

Target = tuple[str, Any]


class Watched:
    """The watches that others hold on the actors of one node."""

    def __init__(self, host: Host, system: System) -> None:
        """Belong to one node."""
        self._host = host
        self._system = system
        self._watchers: dict[Target, dict[tuple[str, int], Identity | None]] = {}
        system.verbs["watch"] = self._on_watch
        system.verbs["unwatch"] = self._on_unwatch

    async def _on_watch(self, name: str, key: Any, node: str, number: int, run: list[Any] | None) -> str | None:
        if is_spawned(key) and key not in self._host.kinds.named(name).cells:
            await self._host.lives.reported(name, key)  # it may go on elsewhere: its keeper says where from now on
            if key not in self._host.kinds.named(name).cells:
                return "ended"
        # What code watches outlives the run of its node: it has the same number in the next one.
        self._watchers.setdefault((name, key), {})[node, number] = None if run is None else (run[0], run[1])
        return None

    async def _on_unwatch(self, name: str, key: Any, node: str, number: int) -> None:
        self._forget((name, key), (node, number))

    def _forget(self, target: Target, watch: tuple[str, int]) -> None:
        watchers = self._watchers.get(target)
        if watchers is not None:
            watchers.pop(watch, None)
            if not watchers:
                del self._watchers[target]

    def ended(self, name: str, key: Any, reason: str) -> None:
        """An actor of this node has ended for good: tell who watches it."""
        for node, number in sorted(self._watchers.pop((name, key), {})):
            self._system.post(node, "ended", number, reason)

    def moved(self, name: str, key: Any) -> None:
        """An actor goes on elsewhere: who watches it follows it there when this node has left."""
        self._watchers.pop((name, key), None)

    def released(self, name: str, key: Any, reason: str) -> None:
        """A keyed activation of this node has gone; going idle or moving is no end."""
        if reason in ("stopped", "ended"):
            self.ended(name, key, reason)
        elif reason != "idle":
            self._watchers.pop((name, key), None)  # the watchers follow by the view

    def fenced(self) -> None:
        """This run of the node is over: who watches its actors looks for them elsewhere."""
        self._watchers.clear()

    def view_changed(self, view: View) -> None:
        """Forget the watches of those that were lost with their node."""
        runs, ids = {member.identity for member in view.members}, {member.id for member in view.members}
        for target, watchers in list(self._watchers.items()):
            for watch, run in list(watchers.items()):
                if watch[0] not in ids or (run is not None and run not in runs):
                    self._forget(target, watch)
