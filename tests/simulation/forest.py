"""Trees of spawned actors that play in stories, and the checker of the register: `Forest`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ringcast import Actor, ChildSpec, Supervisor, props
from ringcast.actors.ref import SPAWNED, is_spawned
from ringcast.discovery.member import Identity, View
from ringcast.runtime.cell import Cell
from ringcast.runtime.rows import RowId, Version, partition_of_path
from ringcast.runtime.simulation import Simulation
from ringcast.runtime.simulation.checkers import Checker


class Leaf(Actor):
    """Has nothing below it."""

    async def fail(self) -> None:
        raise RuntimeError("this actor fails, as the story has it")


class Bough(Supervisor):
    """Two leaves."""

    def children(self) -> Sequence[ChildSpec]:
        return [ChildSpec(props(Leaf), name=f"leaf-{number}") for number in range(2)]


class Tree(Supervisor):
    """A bough between two leaves."""

    def children(self) -> Sequence[ChildSpec]:
        return [
            ChildSpec(props(Leaf), name="first"),
            ChildSpec(props(Bough), name="bough"),
            ChildSpec(props(Leaf), name="last"),
        ]


LEAF, BOUGH, TREE = (f"{__name__}:{cls.__name__}" for cls in (Leaf, Bough, Tree))
"""Their names on the wire."""


def ids_of_tree(name: str) -> dict[RowId, None]:
    """Return all actors of a tree that was planted under a name, as it declares them."""
    at = f"/{name}"
    below = [(LEAF, f"{at}/first"), (BOUGH, f"{at}/bough"), (LEAF, f"{at}/last")]
    return dict.fromkeys([(TREE, at), *below, *((LEAF, f"{at}/bough/leaf-{number}") for number in range(2))])


@dataclass(slots=True)
class Place:
    """Where an actor is, or was last.

    Attributes:
        host: The run of the node, as its own view had it.
        machine: Its machine.
        is_up: Whether it has not been let go there since.
    """

    host: Identity
    machine: str
    is_up: bool = True


class Forest(Checker):
    """What holds for spawned actors: none acts twice, supervisors come first, none is lost, and none comes back.

    Attributes:
        promised: Permanent actors whose spawn has returned.
        removed: Those whose removal has returned.
        started: How many starts were looked at.
    """

    def __init__(self, sim: Simulation) -> None:
        """Watch a simulation, as one of its observers."""
        super().__init__()
        self.promised: dict[RowId, None] = {}
        self.removed: dict[RowId, None] = {}
        self.started = 0
        self._sim = sim
        self._views: dict[tuple[str, int], tuple[View, str]] = {}
        self._places: dict[RowId, dict[tuple[str, int], Place]] = {}
        self._kept: dict[RowId, Version] = {}

    # ---- what happens ------------------------------------------------------------------------------------

    def viewed(self, now: float, machine: str, run: int, view: View, node_id: str) -> None:
        """A node follows a view."""
        self._views[machine, run] = view, node_id

    def activated(self, now: float, machine: str, run: int, cell: Cell) -> None:
        """An actor is made: nobody else may act for it, and its supervisor is there."""
        if cell.life is None:
            return
        self.started += 1
        view, node_id = self._views[machine, run]
        me = view.member(node_id)
        assert me is not None, "a node is in its view"
        places = self._places.setdefault((cell.kind.name, cell.key[1]), {})
        for (other, _), place in places.items():
            left = self._sim.lease_left(other) if other != machine else 0.0
            has_lease = self._sim.lease_left(machine) > 0  # what is made without one has no effect
            if place.is_up and has_lease and left > 0 and self._sim.lineage_of(other) == view.lineage:
                self._object(now, f"{cell.name} is made on {machine}, and {other} has it and a lease for {left:.3f} s")
        places[machine, run] = Place(me.identity, machine)
        above = cell.life.parent
        if above is None or not is_spawned(above._key) or cell.life.is_orphan:
            return
        if len(places) == 1:
            return  # it is declared, and its supervisor may be lost before it has said that this one may start
        runs = {member.identity for member in view.members}
        parents = self._places.get((above._type_name, above._key[1]), {})
        is_being_made = self._machines((above._type_name, above._key[1]))  # it starts its children before it is up
        if not is_being_made and not any(place.host in runs for place in parents.values()):
            self._object(now, f"{cell.name} is made on {machine}, and its supervisor is nowhere yet")

    def _object(self, now: float, what: str) -> None:
        self.objections.append(f"{now:.6f}: {what}")

    def deactivated(self, now: float, machine: str, run: int, cell: Cell) -> None:
        """It is let go."""
        place = self._places.get((cell.kind.name, cell.key[1]) if cell.life else ("", ""), {}).get((machine, run))
        if place is not None:
            place.is_up = False

    def ended(self, now: float, machine: str, run: int) -> None:
        """A process has ended, with all that it had."""
        for places in self._places.values():
            if (machine, run) in places:
                places[machine, run].is_up = False

    # ---- what is there in the end --------------------------------------------------------------------------

    def forget(self) -> None:
        """The lineage is another one, and its register is empty."""
        self.promised.clear()
        self.removed.clear()
        self._kept.clear()

    def missing(self) -> str:
        """Return what is not as it should be by now; empty if all is well."""
        for row_id in self.promised:
            machines = self._machines(row_id)
            if len(machines) != 1:
                return f"{row_id} runs on {machines or 'no machine'}"
        for row_id in self.removed:
            if machines := self._machines(row_id):
                return f"{row_id} was removed, and runs on {machines}"
        return ""

    def _machines(self, row_id: RowId) -> list[str]:
        found: list[str] = []
        for machine, node in self._sim.nodes.items():
            kind = node._host.kinds.by_name.get(row_id[0])
            cell = None if kind is None else kind.cells.get((SPAWNED, row_id[1]))
            if cell is not None and cell.actor is not None:
                found.append(machine)
        return found

    def look_at_rows(self) -> str:
        """See that all keepers of each row have it, in one version that is none from before; else return who not."""
        nodes: dict[str, Any] = {node.id: node for node in self._sim.nodes.values()}
        for row_id in self.promised:
            keepers = next(iter(nodes.values()))._host.lives.register._keeper.copies.keepers(
                partition_of_path(row_id[1])
            )
            rows = [nodes[keeper]._host.lives.register._keeper.copies.row(row_id) for keeper in keepers]
            versions = {row.version for row in rows if row is not None}
            if None in rows or len(versions) != 1 or rows[0].ended is not None:
                return f"{row_id} has copies {rows}"
            version = versions.pop()
            if version < self._kept.get(row_id, version):
                self._object(self._sim.now, f"{row_id} is back at version {version}, after {self._kept[row_id]}")
            self._kept[row_id] = version
        return ""
