"""Watches: who wants to know when an actor has ended, on both sides.

The watcher's node keeps what to call; the node where the actor is keeps whom to tell. When that
node is lost, the watcher's node asks whether the actor goes on elsewhere, and says so itself if not;
when an actor moves, the watch follows it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ringcast.errors import CallError

from ..actors.ref import ActorRef, is_spawned, require_ref
from ..discovery.member import Identity, View
from .register import HasEnded

if TYPE_CHECKING:
    from .cell import Cell
    from .host import Host
    from .system import System

AGAIN = 0.5
"""Seconds until a node is told again that did not answer."""

Target = tuple[str, Any]


@dataclass(slots=True, eq=False)
class Watch:
    """One watch of this node.

    Attributes:
        ref: The actor that is watched.
        notice: What to call with the reason, once.
        host: The run of the node that is to tell; None while it is looked for.
    """

    ref: ActorRef
    notice: Callable[[str], None]
    host: Identity | None


class Watches:
    """The watches of one node, and those that others hold on its actors."""

    def __init__(self, host: Host, system: System) -> None:
        """Belong to one node."""
        self._host = host
        self._system = system
        self._numbers = itertools.count(1)
        self._watches: dict[int, Watch] = {}
        self._watchers: dict[Target, set[tuple[str, int]]] = {}
        system.verbs["watch"] = self._on_watch
        system.verbs["unwatch"] = self._on_unwatch
        system.verbs["ended"] = self._on_ended

    async def watch(self, ref: ActorRef, notice: Callable[[str], None]) -> Callable[[], None]:
        """Call `notice` once with the reason when the actor has ended; return what ends the watch."""
        number = next(self._numbers)
        watch = self._watches[number] = Watch(ref, notice, None)
        try:
            await self._register(number, watch)
        except BaseException:
            self._watches.pop(number, None)
            raise
        return lambda: self._forget(number)

    async def watch_for(self, cell: Cell, ref: Any) -> None:
        """Call the actor's `on_terminated` when the one that it watches has ended."""
        target = require_ref(ref, "watch")

        def notice(reason: str) -> None:
            if cell.kind.cells.get(cell.key) is cell:
                cell.run_hook(cell.kind.hooks["on_terminated"], target, reason)

        await self.watch(target, notice)

    async def _register(self, number: int, watch: Watch) -> None:
        """Tell the node where the actor is; if it has ended, so has the watch."""
        name, key, hint = _parts(watch.ref)
        last = ""
        while number in self._watches:
            try:
                where = await self._host.lives.locate(watch.ref, afresh=bool(last))
            except HasEnded:
                self._fire(number, "lost" if hint not in self._host.kinds.members else "ended")
                return
            except CallError:
                if hint is None:
                    raise
                await self._host.wait_for_view(AGAIN)  # its keeper does not answer: it may be lost itself
                continue
            if where == last:
                self._fire(number, "ended")  # its keeper does not know it yet
                return
            member = self._host.kinds.members.get(where)
            watch.host = None if member is None else member.identity
            try:
                reason = await self._system.call(where, "watch", name, key, self._host.node_id, number)
            except CallError:
                if hint is None:
                    raise
                await self._host.wait_for_view(AGAIN)
                continue
            if reason is None:
                return
            last = where

    def _forget(self, number: int) -> None:
        watch = self._watches.pop(number, None)
        if watch is not None and watch.host is not None and watch.host[0] in self._host.kinds.members:
            name, key, _ = _parts(watch.ref)
            self._system.post(watch.host[0], "unwatch", name, key, self._host.node_id, number)

    def _fire(self, number: int, reason: str) -> None:
        watch = self._watches.pop(number, None)
        if watch is not None:
            watch.notice(reason)

    def view_changed(self, view: View) -> None:
        """Say what was lost with its node; follow what moved."""
        runs = {member.identity for member in view.members}
        for number, watch in list(self._watches.items()):
            name, key, node = _parts(watch.ref)
            if watch.host is None:
                continue  # it is on its way
            if watch.host not in runs:
                if node is None:
                    self._fire(number, "lost")
                else:
                    self._host.background(self._follow(number, watch))
            elif node is None:
                try:
                    owner = self._host.kinds.owner(self._host.kinds.named(name), key, None)
                except CallError:
                    continue
                if owner != watch.host[0]:
                    self._host.background(self._follow(number, watch))

    async def _follow(self, number: int, watch: Watch) -> None:
        watch.host = None
        try:
            await self._register(number, watch)
        except CallError:
            return  # the next view says more

    # ---- the node of the actor that is watched -----------------------------------------------------

    async def _on_watch(self, name: str, key: Any, watcher: str, number: int) -> str | None:
        if is_spawned(key) and key not in self._host.kinds.named(name).cells:
            return "ended"
        self._watchers.setdefault((name, key), set()).add((watcher, number))
        return None

    async def _on_unwatch(self, name: str, key: Any, watcher: str, number: int) -> None:
        watchers = self._watchers.get((name, key))
        if watchers is not None:
            watchers.discard((watcher, number))
            if not watchers:
                del self._watchers[name, key]

    async def _on_ended(self, number: int, reason: str) -> None:
        self._fire(number, reason)

    def ended(self, name: str, key: Any, reason: str) -> None:
        """An actor of this node has ended for good: tell who watches it."""
        for watcher, number in sorted(self._watchers.pop((name, key), ())):
            self._system.post(watcher, "ended", number, reason)

    def moved(self, name: str, key: Any) -> None:
        """An actor goes on elsewhere: who watches it follows it there when this node has left."""
        self._watchers.pop((name, key), None)

    def released(self, name: str, key: Any, reason: str) -> None:
        """A keyed activation of this node has gone; going idle or moving is no end."""
        if reason in ("stopped", "ended"):
            self.ended(name, key, reason)
        elif reason != "idle":
            self._watchers.pop((name, key), None)  # the watchers follow by the view


def _parts(ref: ActorRef) -> tuple[str, Any, str | None]:
    return ref._type_name, ref._key, ref._node
