"""`Epochs`: what an older activation of a key does never comes after what a newer one does.

Each activation has an epoch, a number that grows from one activation of a key to the next in a lineage. The
checker looks at three places:

    made      when an actor is made no other node may still act for its key: hold an activation of it and a lease
    a turn    begins: none of a newer epoch may have begun before
    written   bytes of an effect leave a process: none of a newer epoch may have left before

An effect says whose it is by a mark in its bytes, which is looked for in all that nodes write in clear. What
a node sends on for another is no effect of its own: a mark counts only where its activation was made.

Not held against a node: what it does for another lineage, and what runs without a lease and has no effect.

References:
    docs of the protocol: I3, "What is guaranteed".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..cell import Cell
from .checkers import Checker
from .loop import VirtualLoop
from .simulation import Simulation

Key = tuple[str, str]
"""The name of a class, as its marks have it, and the actor's key."""

Run = tuple[str, int]
"""A machine, and which of its processes."""

_MARK = re.compile(rb"<effect (\S+) (\S+) (\d+)>")
_BEGINNING = b"<effect "


def mark(name: str, key: object, epoch: int) -> str:
    """Return what an effect carries of the activation whose it is."""
    return f"<effect {name} {key} {epoch}>"


@dataclass(slots=True)
class Made:
    """An activation.

    Attributes:
        run: Where it is.
        lineage: Under which lineage it was made.
        since: When.
    """

    run: Run
    lineage: str
    since: float


@dataclass(slots=True)
class Latest:
    """The newest epoch that was seen, and where."""

    epoch: int
    run: Run
    now: float


class Epochs(Checker):
    """Single activation under leases, and effects in the order of epochs.

    Attributes:
        made: Activations that were made.
        turns: Turns that were looked at.
        effects: Effects that were seen leaving.
    """

    def __init__(self, sim: Simulation) -> None:
        """Watch a simulation, as one of its observers; have seen nothing."""
        super().__init__()
        self.made = self.turns = self.effects = 0
        self._sim = sim
        self._active: dict[tuple[str, Any], dict[Run, Made]] = {}
        self._lineages: dict[tuple[Run, Key, int], str] = {}
        self._turns: dict[tuple[str, Key], Latest] = {}
        self._effects: dict[tuple[str, Key], Latest] = {}
        sim.world.on_write = self._wrote

    # ---- activations -----------------------------------------------------------------------------

    def activated(self, now: float, machine: str, run: int, cell: Cell) -> None:
        """See that nobody else may act for the key."""
        if cell.life is not None:
            return  # a spawned actor has its place in its name
        self.made += 1
        name = cell.kind.name.rpartition(":")[2]
        view = self._sim.lineage_of(machine)
        self._lineages[(machine, run), (name, str(cell.key)), cell.epoch] = view
        places = self._active.setdefault((cell.kind.name, cell.key), {})
        for other, made in places.items():
            left = self._sim.lease_left(other[0]) if other[0] != machine else 0.0
            if made.lineage == view and left > 0:
                self.objections.append(
                    f"{now:.6f}: {cell.name} is made on {machine}, and {other[0]} has it since {made.since:.6f} and a "
                    f"lease for {left:.3f} s"
                )
        places[machine, run] = Made((machine, run), view, now)

    def deactivated(self, now: float, machine: str, run: int, cell: Cell) -> None:
        """It is not there any more."""
        self._active.get((cell.kind.name, cell.key), {}).pop((machine, run), None)

    def ended(self, now: float, machine: str, run: int) -> None:
        """Nothing of a process that has ended is there any more."""
        for places in self._active.values():
            places.pop((machine, run), None)

    # ---- turns and effects -----------------------------------------------------------------------------

    def began(self, name: str, key: object, epoch: int) -> None:
        """A turn of an activation begins, in the process whose code runs."""
        loop = self._sim.world.current
        assert loop is not None, "turns run inside the simulation"
        self.turns += 1
        self._compare(self._turns, loop, (name, str(key)), epoch, "begins a turn")

    def _wrote(self, loop: VirtualLoop, data: bytes) -> None:
        if _BEGINNING not in data:
            return
        for found in _MARK.finditer(data):
            name, key, epoch = found.group(1).decode(), found.group(2).decode(), int(found.group(3))
            self.effects += 1
            # A loop that has blocked is ahead of the others; they come first.
            if loop.lead:
                self._sim.world.later(loop.lead, lambda: self._left(loop, (name, key), epoch))  # noqa: B023
            else:
                self._left(loop, (name, key), epoch)

    def _left(self, loop: VirtualLoop, key: Key, epoch: int) -> None:
        self._compare(self._effects, loop, key, epoch, "lets an effect out")

    def _compare(
        self, latest: dict[tuple[str, Key], Latest], loop: VirtualLoop, key: Key, epoch: int, what: str
    ) -> None:
        run = (loop.process.machine.name, loop.process.run)
        lineage = self._lineages.get((run, key, epoch))
        if lineage is None:
            return
        now = self._sim.now
        known = latest.get((lineage, key))
        if known is not None and (epoch < known.epoch or (epoch == known.epoch and run != known.run)):
            self.objections.append(
                f"{now:.6f}: {key[0]}({key[1]!r}) on {run[0]} {what} of epoch {_shown(epoch)}, after one of epoch "
                f"{_shown(known.epoch)} on {known.run[0]} at {known.now:.6f}"
            )
        else:
            latest[lineage, key] = Latest(epoch, run, now)


def _shown(epoch: int) -> str:
    return f"{epoch >> 32}.{epoch & 0xFFFFFFFF}"
