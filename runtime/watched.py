"""Watched: whom this node is to tell when its actors end.

It knows the watch by its number on the watcher's node. If that node is lost, and the watcher is a keyed
actor, then only this node knows of the watch any more, and hands it to the watcher's new owner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ringcast.errors import CallError
from ringcast.values import dataclass

from ..actors.ref import is_spawned
from ..discovery.member import Identity, View

if TYPE_CHECKING:
    from .host import Host
    from .system import System

AGAIN = 0.5
"""Seconds until a node is told again that did not answer."""

Target = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Heir:
    """A keyed actor that watches.

    Attributes:
        name: Its class.
        key: Its key.
        token: Names the watch on all nodes.
        run: The run of the node where it is.
    """

    name: str
    key: Any
    token: str
    run: Identity


class Watched:
    """The watches that others hold on the actors of one node."""

    def __init__(self, host: Host, system: System) -> None:
        """Belong to one node."""
        self._host = host
        self._system = system
        self._watchers: dict[Target, dict[tuple[str, int], Heir | None]] = {}
        system.verbs["watch"] = self._on_watch
        system.verbs["unwatch"] = self._on_unwatch

    async def _on_watch(self, name: str, key: Any, node: str, number: int, heir: list[Any] | None) -> str | None:
        if is_spawned(key) and key not in self._host.kinds.named(name).cells:
            await self._host.lives.reported(name, key)  # it may go on elsewhere: its keeper says where from now on
            if key not in self._host.kinds.named(name).cells:
                return "ended"
        known = None if heir is None else Heir(heir[0], heir[1], heir[2], (node, heir[3]))
        self._watchers.setdefault((name, key), {})[node, number] = known
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
        """See to the watches of those that were lost with their node."""
        runs, ids = {member.identity for member in view.members}, {member.id for member in view.members}
        for target, watchers in list(self._watchers.items()):
            for watch, heir in list(watchers.items()):
                if heir is not None and heir.run not in runs:
                    self._host.background(self._pass_on(target, watch, heir))
                elif heir is None and watch[0] not in ids:
                    self._forget(target, watch)

    async def _pass_on(self, target: Target, watch: tuple[str, int], heir: Heir) -> None:
        """Have the watcher's owner keep the watch; if the actor has ended by then, it finds that."""
        kinds = self._host.kinds
        hint = self._host.node_id if is_spawned(target[1]) else None
        parts = heir.token, heir.name, heir.key, *target, hint
        while True:
            owner = kinds.owner_or_none(kinds.named(heir.name), heir.key)
            try:
                if owner is not None and await self._system.call(owner, "rewatch", *parts, None):
                    break
            except CallError as error:
                self._host.log.debug("a node did not answer", peer=owner, verb="rewatch", error=str(error))
            await self._host.wait_for_view(AGAIN)
        if owner != watch[0]:
            self._forget(target, watch)
