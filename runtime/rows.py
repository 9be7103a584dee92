"""Rows of the register: what the cluster knows of a spawned actor, so that it can be started again elsewhere.

A row says how the actor is made, whose child it is, and which run of which node it lives on. Each
change gives it a higher version; of two rows for one actor the one of the higher version counts. A row
of an actor that has ended says so until all copies of it do; then it is forgotten.

A whole tree is kept together: the first step of an actor's path chooses the partition, so whoever
keeps a supervisor keeps its children, too, and sees the tree in one piece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ringcast.values import dataclass

from ..actors.spawned import is_spawned
from ..actors.supervision import Restart
from ..discovery.member import Identity
from .ring import key_hash, partition_of

__all__ = ["Notes", "Row", "RowId", "Version", "notes_from_wire", "partition_of_path", "row_from_wire"]

RowId = tuple[str, str]
"""The class's name on the wire, and the actor's path."""

Version = tuple[int, int]
"""The number of the view in which a row was written, and a count of its keeper."""


@dataclass(frozen=True, slots=True)
class Notes:
    """What an actor takes along when it is started elsewhere, besides what it is made of.

    Attributes:
        removed: Names of children that it declares, and that were stopped for good.
        watching: Whom it watches: class name, key, and the node where a spawned one was.
    """

    removed: tuple[str, ...] = ()
    watching: tuple[tuple[str, Any, str | None], ...] = ()

    def to_wire(self) -> list[Any] | None:
        """Return them as plain values; None if there are none, which is the common case."""
        if not self.removed and not self.watching:
            return None
        return [[*self.removed], [[*target] for target in self.watching]]


NONE = Notes()


@dataclass(frozen=True, slots=True)
class Row:
    """One spawned actor.

    Attributes:
        id: Which.
        spec: How it is made and placed, packed; opaque to all but the node that makes it.
        restart: Whether it is started again.
        parent: The class name and the key of its supervisor; None for the cluster's root.
        is_named: Whether its spawner has named it; others do not outlive their parent's activation.
        is_local: Whether it ends with its node, whatever `restart` says.
        claim: Which call of `spawn` has made it.
        host: The run of the node where it lives; None while there is none that fits.
        version: Grows with each change.
        ended: Why it has ended for good; None while it is to live.
        notes: What it takes along.
    """

    id: RowId
    spec: bytes
    restart: Restart
    parent: tuple[str, Any] | None
    is_named: bool
    is_local: bool
    claim: str
    host: Identity | None
    version: Version
    ended: str | None = None
    notes: Notes = NONE

    @property
    def partition(self) -> int:
        """Where it is kept."""
        return partition_of_path(self.id[1])

    @property
    def parent_id(self) -> RowId | None:
        """The row of its supervisor, if that may have one: a keyed actor has not."""
        if self.parent is None or not is_spawned(self.parent[1]):
            return None
        return self.parent[0], self.parent[1][1]

    @property
    def digest(self) -> int:
        """64 bits that stand for this version; nothing for an actor that has ended."""
        if self.ended is not None:
            return 0
        text = repr((self.id, self.version)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")

    def to_wire(self) -> list[Any]:
        """Return it as plain values."""
        parent = None if self.parent is None else [*self.parent]
        host = None if self.host is None else [*self.host]
        flags = self.is_named | self.is_local << 1
        version = [*self.version]
        rest = [parent, flags, self.claim, host, version, self.ended, self.notes.to_wire()]
        return [*self.id, self.spec, self.restart.value, *rest]


def row_from_wire(parts: Sequence[Any]) -> Row:
    """Return the row that came as plain values."""
    name, path, spec, restart, parent, flags, claim, host, version, ended, notes = parts
    return Row(
        (name, path),
        spec,
        Restart(restart),
        None if parent is None else (parent[0], parent[1]),
        bool(flags & 1),
        bool(flags & 2),
        claim,
        None if host is None else (host[0], host[1]),
        (version[0], version[1]),
        ended,
        notes_from_wire(notes),
    )


def notes_from_wire(parts: Sequence[Any] | None) -> Notes:
    """Return the notes that came as plain values."""
    if parts is None:
        return NONE
    removed, watching = parts
    return Notes(tuple(removed), tuple((name, key, hint) for name, key, hint in watching))


def partition_of_path(path: str) -> int:
    """Return the slice of the circle in which the tree of an actor is kept."""
    return _partition_of_tree(path.removeprefix("/").partition("/")[0])


@lru_cache(maxsize=1 << 16)
def _partition_of_tree(step: str) -> int:
    return partition_of(key_hash("", step))
