"""Watches: who on this node wants to know when an actor has ended.

A watch belongs to an actor, or to code of the application (`watching`). The watcher's node keeps it and sees
that the node knows where the watched actor is (`watched`). When that one is lost, it asks whether the actor goes
on elsewhere, and says so itself if not; when an actor moves, the watch follows it.

A watch follows its watcher, too. A spawned one has its watches noted with its row, and finds them where it is
started again. Those of a keyed actor are handed to its new owner: by this node if it moves, by the witnesses of its
will if this one is lost (`Wills`). Two may hand the same watch on, and the actor may have begun to watch anew by then:
there is one watch of each actor on each other one, and the notice that is given ends all that had begun before it. So
a watch says in which view it has begun, and its owner in which view it has told. It is over when
`on_terminated` has begun; a notice that still waits in a mailbox moves with the watch.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ringcast.errors import CallError

from ..actors.ref import ActorRef, is_spawned, require_ref
from ..discovery.member import Identity, View
from .envelope import Envelope
from .register import HasEnded
from .tenancy import FENCED

if TYPE_CHECKING:
    from .cell import Cell
    from .host import Host
    from .system import System

AGAIN = 0.5
"""Seconds until a node is told again that did not answer."""

SOON = 0.02
"""Seconds until an actor's keeper is asked again that says it were where it is not; twice as long each time."""

DOUBTS = 8
"""How often it is asked before the actor is taken to have ended."""

TOLD_MAX = 10_000
"""Notices that are remembered; who hands one of these watches on once more is told that it is over."""

Target = tuple[str, Any]


@dataclass(slots=True, eq=False)
class Watch:
    """One watch of this node.

    Attributes:
        ref: The actor that is watched.
        notice: What to call with the reason, once; None if an actor watches.
        watcher: That actor.
        since: The number of the view in which it has begun.
        host: The run of the node that is to tell; None while it is looked for.
        seeking: What looks for it.
        reason: Why the watched actor has ended, once that is known.
        is_handed: Whether it is being handed to the watcher's new owner.
    """

    ref: ActorRef
    notice: Callable[[str], None] | None = None
    watcher: Target | None = None
    since: int = 0
    host: Identity | None = None
    seeking: asyncio.Task[None] | None = None
    reason: str | None = None
    is_handed: bool = False

    @property
    def target(self) -> Target:
        """Who is watched."""
        return self.ref._type_name, self.ref._key

    @property
    def is_of_keyed(self) -> bool:
        """Whether the watcher is a keyed actor."""
        return self.watcher is not None and not is_spawned(self.watcher[1])


class Watches:
    """The watches of one node."""

    def __init__(self, host: Host, system: System) -> None:
        """Belong to one node."""
        self._host = host
        self._system = system
        self._numbers = itertools.count(1)
        self._watches: dict[int, Watch] = {}
        self._by_watcher: dict[Target, dict[Target, int]] = {}
        self._told: dict[tuple[Target, Target], int] = {}
        """In which view a keyed actor of this node was told of an end."""
        self._handing: set[asyncio.Task[None]] = set()
        system.verbs["ended"] = self._on_ended
        system.verbs["rewatch"] = self._on_rewatch

    async def watch(self, ref: ActorRef, notice: Callable[[str], None]) -> Callable[[], None]:
        """Call `notice` once with the reason when the actor has ended; return what ends the watch."""
        number = self._add(Watch(ref, notice))
        await self._begin(number)
        return lambda: self._forget(number)

    async def watch_for(self, cell: Cell, ref: Any) -> None:
        """Call the actor's `on_terminated` when the one that it watches has ended; it may have moved by then."""
        target, watcher = require_ref(ref, "watch"), (cell.kind.name, cell.key)
        name, key, hint = target._type_name, target._key, target._node
        number = self._by_watcher.get(watcher, {}).get((name, key))
        if number is None:
            await self._begin(self._add(Watch(target, watcher=watcher)))
        life = cell.life
        if life is not None and (name, key) in self._by_watcher.get(watcher, {}):
            life.watching = {**(life.watching or {}), (name, key): hint}
            await self._host.lives.notes.write(life)

    def resume(self, cell: Cell) -> None:
        """A spawned actor is started again here: it watches whom it has watched."""
        assert cell.life is not None, "a keyed actor takes no notes"
        for (name, key), hint in (cell.life.watching or {}).items():
            ref = self._host.kinds.ref_by_name(name, key, hint)
            number = self._add(Watch(ref, watcher=(cell.kind.name, cell.key)))
            self._seek(self._watches[number], number)

    def _add(self, watch: Watch) -> int:
        number = next(self._numbers)
        self._watches[number] = watch
        if watch.watcher is not None:
            watch.since = watch.since or self._view_number
            self._by_watcher.setdefault(watch.watcher, {})[watch.target] = number
        return number

    @property
    def _view_number(self) -> int:
        view = self._host.kinds.view
        return 0 if view is None else view.number

    async def _begin(self, number: int) -> None:
        try:
            await self._register(number, self._watches[number])
        except BaseException:
            self._drop(number)
            raise

    # ---- the node that is to tell ------------------------------------------------------------------

    async def _register(self, number: int, watch: Watch) -> None:
        """Tell the node where the actor is; if it has ended, so has the watch.

        Raises:
            CallError: If nobody hosts a keyed actor, or its owner does not answer.
        """
        name, key, hint = *watch.target, watch.ref._node
        last, doubts = "", 0
        while number in self._watches and watch.reason is None:
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
                doubts += 1
                if doubts > DOUBTS:
                    self._fire(number, "ended")
                    return
                await self._host.wait_for_view(SOON * 2**doubts)
            member = self._host.kinds.members.get(where)
            watch.host = host = None if member is None else member.identity
            me = self._host.lives.register.me
            run = None if watch.watcher is None or me is None else [*me]
            try:
                reason = await self._system.call(where, "watch", name, key, self._host.node_id, number, run)
                await self._make_will(number, watch)
            except CallError:
                if hint is None:
                    raise
                await self._host.wait_for_view(AGAIN)
                continue
            member = self._host.kinds.members.get(where)
            if reason is None and member is not None and member.identity == host:
                return
            last = where

    async def _make_will(self, number: int, watch: Watch) -> None:
        if watch.is_of_keyed and watch.watcher is not None and number in self._watches:
            await self._host.wills.make(watch.watcher, watch.target, watch.ref._node, watch.host, watch.since)

    def _seek(self, watch: Watch, number: int) -> asyncio.Task[None]:
        """Look for the node that is to tell, for as long as it takes."""
        if watch.seeking is None:
            watch.seeking = self._host.background(self._find(number, watch))
        return watch.seeking

    async def _find(self, number: int, watch: Watch) -> None:
        try:
            while number in self._watches:
                watch.host = None
                try:
                    await self._register(number, watch)
                except CallError:
                    await self._host.wait_for_view(AGAIN)
                    continue
                return
        finally:
            watch.seeking = None

    def _forget(self, number: int) -> None:
        watch = self._drop(number)
        if watch is not None and watch.host is not None and watch.host[0] in self._host.kinds.members:
            self._system.post(watch.host[0], "unwatch", *watch.target, self._host.node_id, number)

    def _drop(self, number: int) -> Watch | None:
        watch = self._watches.pop(number, None)
        if watch is None or watch.watcher is None:
            return watch
        mine = self._by_watcher.get(watch.watcher, {})
        if mine.get(watch.target) == number:
            del mine[watch.target]
            if not mine:
                del self._by_watcher[watch.watcher]
            self._host.wills.withdraw(watch.watcher, watch.target)
        return watch

    # ---- the notice ----------------------------------------------------------------------------------

    async def _on_ended(self, number: int, reason: str) -> None:
        self._fire(number, reason)

    def _fire(self, number: int, reason: str) -> None:
        watch = self._watches.get(number)
        if watch is None or watch.reason is not None:
            return
        watch.reason = reason
        if watch.notice is not None:
            self._drop(number)
            watch.notice(reason)
        elif not watch.is_handed:
            self._tell(number, watch, reason)

    def _tell(self, number: int, watch: Watch, reason: str) -> None:
        """Put the notice into the watcher's mailbox; a keyed one is activated for it."""
        assert watch.watcher is not None, "code is called at once"
        kinds = self._host.kinds
        kind, key = kinds.named(watch.watcher[0]), watch.watcher[1]
        cell = kind.cells.get(key)
        if cell is None:
            if is_spawned(key) or kinds.owner_or_none(kind, key) != self._host.node_id:
                return  # it has ended; or the watch is handed over with the next view
            cell = self._host.activate(kind, key)
        hook = kind.hooks["on_terminated"]

        async def on_terminated(actor: Any, ref: Any, reason: str) -> None:
            if not watch.is_handed and self._drop(number) is not None:
                self._finish(cell, watch)
                await hook.function(actor, ref, reason)  # type: ignore[misc]

        cell.run_hook(replace(hook, function=on_terminated), watch.ref, reason)

    def _finish(self, cell: Cell, watch: Watch) -> None:
        """The watcher is being told: nobody tells it again."""
        if cell.life is not None:
            if cell.life.watching is not None:
                cell.life.watching.pop(watch.target, None)
                self._host.lives.notes.note(cell.life)
            return
        assert watch.watcher is not None, "code is called at once"
        told = watch.watcher, watch.target
        self._told.pop(told, None)  # the latest stand last
        self._told[told] = self._view_number
        if len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]

    @staticmethod
    def is_notice(envelope: Envelope) -> bool:
        """Whether what waits in a mailbox is a notice, which goes where its watch goes."""
        return envelope[0].name == "on_terminated"

    # ---- watchers that go --------------------------------------------------------------------------

    def released(self, cell: Cell, reason: str) -> None:
        """An activation of this node has gone; a keyed watcher that is idle or moves watches on."""
        if cell.life is None and reason not in ("stopped", "ended"):
            return
        for number in list(self._by_watcher.get((cell.kind.name, cell.key), {}).values()):
            if reason == FENCED:
                self._drop(number)
            else:
                self._forget(number)

    def fenced(self) -> None:
        """This run of the node is over: its actors' watches are others' business, and its code begins again."""
        for number, watch in list(self._watches.items()):
            watch.host = None
            if watch.watcher is not None:
                self._drop(number)
        self._told.clear()

    def view_changed(self, view: View) -> None:
        """Say what was lost with its node; follow what moved, and watchers that did."""
        runs = {member.identity for member in view.members}
        kinds = self._host.kinds
        for number, watch in list(self._watches.items()):
            if watch.is_of_keyed and not watch.is_handed and not self._is_owned(watch):
                self._hand_over(number, watch)
            if watch.seeking is not None or watch.reason is not None:
                continue  # it is on its way
            name, key = watch.target
            is_keyed = watch.ref._node is None
            if watch.host not in runs:
                if is_keyed and watch.host is not None and not kinds.named(name).is_durable:
                    self._fire(number, "lost")
                else:
                    self._seek(watch, number)
            elif is_keyed and kinds.owner_or_none(kinds.named(name), key) not in (None, watch.host[0]):
                self._seek(watch, number)

    def _is_owned(self, watch: Watch) -> bool:
        assert watch.watcher is not None, "code stays where it is"
        return self._owner(watch.watcher) == self._host.node_id

    def _owner(self, watcher: Target) -> str | None:
        return self._host.kinds.owner_or_none(self._host.kinds.named(watcher[0]), watcher[1])

    def _hand_over(self, number: int, watch: Watch) -> None:
        watch.is_handed = True
        task = self._host.background(self._hand(number, watch))
        self._handing.add(task)
        task.add_done_callback(self._handing.discard)

    async def _hand(self, number: int, watch: Watch) -> None:
        """Have the watcher's owner keep the watch."""
        assert watch.watcher is not None, "code stays where it is"
        host = None if watch.host is None else [*watch.host]
        parts = watch.watcher, watch.target, watch.ref._node, host, watch.since
        while number in self._watches and not self._is_owned(watch):
            owner, reason = self._owner(watch.watcher), watch.reason
            try:
                if owner is not None and await self._system.call(owner, "rewatch", *parts, reason):
                    if watch.reason == reason:
                        self._forget(number)
                    continue
            except CallError as error:
                self._host.log.debug("a node did not answer", peer=owner, verb="rewatch", error=str(error))
            await self._host.wait_for_view(AGAIN)
        watch.is_handed = False
        if number in self._watches and watch.reason is not None:
            self._tell(number, watch, watch.reason)

    async def _on_rewatch(
        self,
        watcher: list[Any],
        target: list[Any],
        hint: str | None,
        host: list[Any] | None,
        since: int,
        reason: str | None,
    ) -> bool:
        """Keep a watch whose watcher belongs here now; return True once the nodes that are to know it do.

        Args:
            watcher: The class and the key of the actor that watches.
            target: Those of the one that it watches.
            hint: Where that one was, if it is a spawned one.
            host: The run of the node where it was last.
            since: The number of the view in which the watch has begun.
            reason: Why that one has ended, if it has.
        """
        who, whom = (watcher[0], watcher[1]), (target[0], target[1])
        if since <= self._told.get((who, whom), -1):
            return True
        number = self._by_watcher.get(who, {}).get(whom)
        if number is None:
            ref = self._host.kinds.ref_by_name(*whom, hint)
            number = self._add(Watch(ref, watcher=who, since=since))
        watch = self._watches[number]
        if reason is None and host is not None and self._is_lost(watch, (host[0], host[1])):
            reason = "lost"
        if reason is not None:
            await self._make_will(number, watch)
            self._fire(number, reason)
        elif watch.host is None and watch.reason is None:
            await asyncio.shield(self._seek(watch, number))
        if not watch.is_handed and number in self._watches and not self._is_owned(watch):
            self._hand_over(number, watch)
        return True

    def _is_lost(self, watch: Watch, host: Identity) -> bool:
        """Whether a watched actor is not to be looked for elsewhere when that run of a node is over."""
        kinds = self._host.kinds
        member = kinds.members.get(host[0])
        is_over = member is None or member.identity != host
        return is_over and watch.ref._node is None and not kinds.named(watch.target[0]).is_durable

    async def handed_over(self, seconds: float) -> None:
        """Wait until the watches of keyed actors are with others, for `seconds` at most: this node leaves."""
        if self._handing and self._host.lives.has_heirs():
            await asyncio.wait(list(self._handing), timeout=seconds)
