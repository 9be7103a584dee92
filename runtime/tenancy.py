"""The tenancy: what of each class may run here, on the side of the actors' loop.

A keyed actor is made only while its partition is open on this node (`discovery.share`) and under a lease;
a spawned one needs the lease only. Until then its cell is *aside*: it takes messages and runs none.

The membership's thread changes a partition's place whenever it installs a view, and the loop follows a
moment later. What keeps an activation from beginning meanwhile in a partition that is just given away is
the order of two steps (`Share.enter`): count the activation, then look at the place.

The count goes down when the activation has gone and what its turns have said is written. The links write
at the end of the loop's tick, or later while there is no lease; so the count goes down one tick after the
cell has gone, and not before the links have written.

*Pledges*: to know an actor's partition takes a hash of its key, as much time as the rest of a small
activation. Where one member alone hosts a class, all partitions are its own, and nobody need know which of
them an actor is in. There one count on every partition of the class stands for any number of activations.
It is taken back when a view brings another host, and then the activations that are there are counted one
by one, as it would have been done from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Final

from ringcast.errors import NOT_SENT, Unreachable

from ..discovery.gate import Gate
from ..discovery.share import PARTITIONS, Share
from .ring import key_hash, partition_of
from .vigil import Vigil

if TYPE_CHECKING:
    from .cell import Cell
    from .host import Host
    from .kinds import Kind, Kinds

NOWHERE: Final = -2
"""The tenure of a cell whose activation has not begun, or has gone."""
UNCOUNTED: Final = -1
"""That of an activation for which a pledge stands, or of a class that each node has for itself."""
FENCED: Final = "lost"
"""Why an activation goes whose run of the node is over: nothing of it may have effects any more."""

_ALL: Final = (1 << PARTITIONS) - 1
_NUMBERS: Final = tuple(range(PARTITIONS))
"""One object for each partition: an int of its own for each activation would take memory."""


class Tenancy:
    """What may run on one node."""

    def __init__(self, node_id: str, kinds: Kinds, gate: Gate, vigil: Vigil) -> None:
        """Own nothing; the node sets `host`, `shares` and `emptied` before the first message.

        Args:
            node_id: This node's.
            kinds: Its classes.
            gate: Its lease.
            vigil: Watches over it.
        """
        self.host: Host
        self.shares: Mapping[str, Share] = {}
        """By group of classes; the membership's."""
        self.emptied: Callable[[], None]
        """Tells the membership's thread that a partition which drains may be empty."""
        self._node_id = node_id
        self._kinds = kinds
        self._gate = gate
        self._vigil = vigil
        self._aside: dict[Cell, None] = {}
        self._left: list[tuple[Share, int]] = []
        self._ended: list[Share] = []
        """Where pledges are taken back as soon as all is written."""

    # ---- activations -----------------------------------------------------------------------------

    def admits(self, cell: Cell) -> bool:
        """Return whether turns of an activation may begin now; if not, it is set aside until they may."""
        if monotonic() >= self._gate.until_monotonic:
            if not self._vigil.hold(self):
                self._refuse(cell)
                if cell.life is None:
                    return False
        elif cell.life is not None or cell.tenure != NOWHERE or self.enter(cell):
            return True
        self._aside[cell] = None
        return False

    def enter(self, cell: Cell) -> bool:
        """Count the activation of a keyed actor in, if it may begin here now."""
        kind = cell.kind
        share = kind.share
        if kind.is_pledged and share is not None and share.open == _ALL:
            cell.tenure = UNCOUNTED
            return True
        owners = self._kinds.owners(kind)
        if kind.group is None and owners:
            cell.tenure = UNCOUNTED
            return True
        if share is None and (share := self._share(kind)) is None:
            return False
        if not kind.is_pledged and kind.is_alone and owners[0] == self._node_id and share.open == _ALL:
            kind.is_pledged = True
            _count(share, 1)
            if share.open == _ALL:  # a look that comes after the pledge
                cell.tenure = UNCOUNTED
                return True
        partition = partition_of(key_hash(kind.name, cell.key))
        if not share.enter(partition):
            return False
        cell.tenure = _NUMBERS[partition]
        return True

    def leave(self, cell: Cell) -> None:
        """An activation has gone: count it out once what it has said is written."""
        partition, cell.tenure = cell.tenure, NOWHERE
        self._aside.pop(cell, None)
        if partition >= 0:
            share = cell.kind.share
            assert share is not None, "it was counted there"
            if not self._left and not self._ended:
                self._vigil.loop.call_soon(self._count_out)
            self._left.append((share, partition))

    def _count_out(self) -> None:
        if self._vigil.is_waiting and self._vigil.hold(self):
            return  # what they have said may wait in a link
        left, self._left = self._left, []
        ended, self._ended = self._ended, []
        is_waited_for = False
        for share, partition in left:
            is_waited_for |= share.leave(partition)
        for share in ended:
            _count(share, -1)
            is_waited_for |= share.draining != 0
        if is_waited_for:
            self.emptied()

    def _share(self, kind: Kind) -> Share | None:
        kind.share = None if kind.group is None else self.shares.get(kind.group)
        return kind.share

    # ---- change ------------------------------------------------------------------------------------

    def stays(self, kind: Kind) -> bool:
        """Return whether all activations of a class stay here under the present view."""
        owners = self._kinds.owners(kind)
        return kind.is_alone and owners[0] == self._node_id

    def belongs_here(self, cell: Cell) -> bool:
        """Return whether a keyed actor's partition is this node's under the present view."""
        kind = cell.kind
        owners = self._kinds.owners(kind)
        if kind.group is None or not owners:
            return bool(owners)
        partition = cell.tenure if cell.tenure >= 0 else partition_of(key_hash(kind.name, cell.key))
        return owners[partition] == self._node_id

    def view_changed(self) -> None:
        """Take back the pledges of classes that other members host now, too."""
        for kind in list(self._kinds.by_name.values()):
            if kind.is_pledged and not self.stays(kind):
                self._take_back(kind)

    def _take_back(self, kind: Kind) -> None:
        """Count the activations of a class one by one; those that have just gone are counted until all is written."""
        share = kind.share
        assert share is not None, "a pledge was made there"
        for cell in kind.cells.values():
            if cell.tenure == UNCOUNTED:
                cell.tenure = partition = _NUMBERS[partition_of(key_hash(kind.name, cell.key))]
                share.running[partition] += 1
        kind.is_pledged = False
        if not self._left and not self._ended:
            self._vigil.loop.call_soon(self._count_out)
        self._ended.append(share)

    def fenced(self) -> None:
        """The run is over, and all activations are gone: nothing of it is counted any more."""
        left, self._left = self._left, []
        for share, partition in left:
            share.running[partition] -= 1
        ended, self._ended = self._ended, []
        for share in ended:
            _count(share, -1)
        for kind in self._kinds.by_name.values():
            if kind.is_pledged:
                assert kind.share is not None, "a pledge was made there"
                kind.is_pledged = False
                _count(kind.share, -1)
        self.emptied()  # the next run may have begun, and wait for this one's counts

    # ---- what is aside -------------------------------------------------------------------------------

    def wake(self) -> None:
        """Begin what may begin now: partitions have opened, or the lease is back."""
        aside, self._aside = self._aside, {}
        for cell in aside:
            if cell.task is None and (cell.queue or cell.life is not None) and cell.kind.cells.get(cell.key) is cell:
                cell.start()

    def go_on(self) -> None:
        """The lease is back."""
        if self._left or self._ended:
            self._vigil.loop.call_soon(self._count_out)  # once the links have written
        self.wake()

    def give_up(self) -> None:
        """It is not: answer what waits in the mailboxes."""
        if self._left or self._ended:
            self._vigil.loop.call_soon(self._count_out)
        for cell in self.host.cells():
            if cell.queue or cell.parked:
                self._refuse(cell)

    def _refuse(self, cell: Cell) -> None:
        cell.refuse_rest(lambda envelope: self._vigil.refusal(cell.name, envelope[0].name))

    def stats(self) -> dict[str, int | float]:
        """Return counts, by name."""
        shares = self.shares.values()
        return {
            "partitions_open": sum(share.open.bit_count() for share in shares),
            "partitions_opening": sum(share.opening.bit_count() for share in shares),
            "partitions_draining": sum(share.draining.bit_count() for share in shares),
            "effects_suppressed": self._gate.suppressed,
            "lease_left_s": round(min(self._vigil.lease_left, 1e6), 3),
        }


def _count(share: Share, by: int) -> None:
    running = share.running
    for partition in range(PARTITIONS):
        running[partition] += by


def check_run(cell: Cell) -> None:
    """Refuse what an activation wants to do that is over with its run of the node.

    Raises:
        Unreachable: With certainty NOT_SENT.
    """
    if cell.retiring == FENCED:
        raise Unreachable(
            f"{cell.name} is over: node {cell.host.node_id} was declared lost, or has moved to another cluster of its "
            f"name, and ended its activations; another node may have taken the actor over, so what this one still "
            f"asks, tells or starts is not done",
            certainty=NOT_SENT,
            actor=cell.name,
            node=cell.host.node_id,
        )
