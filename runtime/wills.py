"""Wills: what becomes of the watches of keyed actors when the nodes of these are lost.

A spawned watcher's watches stand in its row. A keyed actor has none, so the node where it is active makes a *will*
for each watch, and two others, its *witnesses*, keep it: the first members, by the ring of the register, that are not
that node. When its run is in no view any more, a witness hands the watch to the watcher's new owner, which makes a
will of its own before it says that it has it. So a watch is lost only with three nodes at once, and it does not matter
whether that of the watched actor is among them.

The first witness hands it on at once, the second one a little later if it was not told that this is done. Who hands
on what the owner has already, or what the watcher has been told, changes nothing: see `Watches`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ringcast.errors import CallError
from ringcast.values import dataclass

from ..discovery.member import Identity, View
from .ring import key_hash, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .host import Host
    from .system import System

WITNESSES = 2
"""Members that keep a will besides the node that has made it."""

AGAIN = 0.5
"""Seconds until a node is told again that did not answer; and by which the next witness is later than the first."""

BATCH = 200
"""Wills in one message."""

Target = tuple[str, Any]
WatchId = tuple[Target, Target]
"""Who watches, and whom."""


@dataclass(frozen=True, slots=True)
class Will:
    """A watch, as it is handed on.

    Attributes:
        watcher: The keyed actor that watches.
        target: Whom it watches.
        hint: The node where that one was, if it is a spawned one.
        host: The run of the node where that one is; None if it was not found yet.
        since: The number of the view in which the watch has begun.
        run: The run of the node that has made the will.
        witnesses: The runs of those that keep it, in the order in which they hand it on.
    """

    watcher: Target
    target: Target
    hint: str | None
    host: Identity | None
    since: int
    run: Identity
    witnesses: tuple[Identity, ...] = ()

    @property
    def id(self) -> WatchId:
        """Names the watch."""
        return self.watcher, self.target

    def to_wire(self) -> list[Any]:
        """Return it as plain values."""
        host = None if self.host is None else [*self.host]
        return [*self.id, self.hint, host, self.since, [*self.run], [[*run] for run in self.witnesses]]


def will_from_wire(parts: list[Any]) -> Will:
    """Return a will that came as plain values."""
    watcher, target, hint, host, since, run, witnesses = parts
    known = None if host is None else (host[0], host[1])
    runs = tuple((node, incarnation) for node, incarnation in witnesses)
    return Will((watcher[0], watcher[1]), (target[0], target[1]), hint, known, since, (run[0], run[1]), runs)


class Wills:
    """The wills that one node has made, and those that it keeps for others."""

    def __init__(self, host: Host, system: System) -> None:
        """Belong to one node."""
        self._host = host
        self._system = system
        self._made: dict[WatchId, Will] = {}
        self._kept: dict[WatchId, Will] = {}
        self._handing: set[WatchId] = set()
        system.verbs["witness"] = self._on_witness
        system.verbs["unwitness"] = self._on_unwitness

    # ---- the node of the watcher -----------------------------------------------------------------

    async def make(self, watcher: Target, target: Target, hint: str | None, host: Identity | None, since: int) -> None:
        """Return when the witnesses keep a will, in place of an earlier one for the same watch."""
        me = self._host.lives.register.me
        if me is None:
            return  # between two runs of this node
        made = self._with_witnesses(Will(watcher, target, hint, host, since, me))
        if self._made.get(made.id) != made:
            self._replace(made)
            await asyncio.gather(*(self._tell(witness, [made]) for witness in made.witnesses))

    def _with_witnesses(self, will: Will) -> Will:
        partition = partition_of(key_hash(*will.watcher))
        members = self._host.kinds.members
        keepers = (members.get(node) for node in self._host.lives.register.keepers(partition))
        others = [member.identity for member in keepers if member is not None and member.identity != will.run]
        return replace(will, witnesses=tuple(others[:WITNESSES]))

    def _replace(self, will: Will) -> None:
        old = self._made.get(will.id)
        self._made[will.id] = will
        self._dismiss(will, () if old is None else set(old.witnesses) - set(will.witnesses))

    def withdraw(self, watcher: Target, target: Target) -> None:
        """A watch is over, or another node has it: nobody hands it on from here."""
        will = self._made.pop((watcher, target), None)
        if will is not None:
            self._dismiss(will, will.witnesses)

    def _dismiss(self, will: Will, witnesses: Iterable[Identity]) -> None:
        for node, _ in witnesses:
            if node in self._host.kinds.members:
                self._system.post(node, "unwitness", *will.id, [*will.run])

    async def _tell(self, witness: Identity, wills: list[Will]) -> None:
        """Have a witness keep wills, for as long as it is one."""
        while wills:
            member = self._host.kinds.members.get(witness[0])
            if member is None or member.identity != witness:
                return  # the view that says so has found another one
            try:
                await self._system.call(witness[0], "witness", [will.to_wire() for will in wills[:BATCH]])
            except CallError as error:
                self._host.log.debug("a node did not answer", peer=witness[0], verb="witness", error=str(error))
                await self._host.wait_for_view(AGAIN)
            else:
                wills = wills[BATCH:]
            wills = [will for will in wills if self._made.get(will.id) == will]

    # ---- a witness -----------------------------------------------------------------------------------

    async def _on_witness(self, wills: list[list[Any]]) -> None:
        for parts in wills:
            will = will_from_wire(parts)
            self._kept[will.id] = will

    async def _on_unwitness(self, watcher: list[Any], target: list[Any], run: list[Any]) -> None:
        watch_id = (watcher[0], watcher[1]), (target[0], target[1])
        will = self._kept.get(watch_id)
        if will is not None and will.run == (run[0], run[1]):
            del self._kept[watch_id]

    async def _hand_on(self, will: Will, runs: set[Identity]) -> None:
        """Have the watcher's owner keep the watch; if the watched actor has ended by then, it finds that."""
        kinds = self._host.kinds
        parts = *will.id, will.hint, None if will.host is None else [*will.host], will.since, None
        me = self._host.lives.register.me
        first = [witness for witness in will.witnesses if witness in runs]
        pause = first.index(me) * AGAIN if me in first else 0.0
        try:
            await asyncio.sleep(pause)
            while self._kept.get(will.id) == will:
                owner = kinds.owner_or_none(kinds.named(will.watcher[0]), will.watcher[1])
                try:
                    if owner is not None and await self._system.call(owner, "rewatch", *parts):
                        break
                except CallError as error:
                    self._host.log.debug("a node did not answer", peer=owner, verb="rewatch", error=str(error))
                await self._host.wait_for_view(AGAIN)
            if self._kept.get(will.id) == will:
                del self._kept[will.id]
                self._dismiss(will, [witness for witness in will.witnesses if witness != me])
        finally:
            self._handing.discard(will.id)

    # ---- views -----------------------------------------------------------------------------------------

    def fenced(self) -> None:
        """This run of the node is over: what it has made is handed on, and what it kept is made anew, by others."""
        self._made.clear()
        self._kept.clear()

    def view_changed(self, view: View) -> None:
        """Find witnesses for those that are no more; hand on what those have left that are lost."""
        runs = {member.identity for member in view.members}
        news: dict[Identity, list[Will]] = {}
        for will in list(self._made.values()):
            now = self._with_witnesses(will)
            if now.witnesses != will.witnesses:
                self._replace(now)
                for witness in now.witnesses:
                    news.setdefault(witness, []).append(now)
        for witness, wills in news.items():
            self._host.background(self._tell(witness, wills))
        for will in self._kept.values():
            if will.run not in runs and will.id not in self._handing:
                self._handing.add(will.id)
                self._host.background(self._hand_on(will, runs))
