"""Groups: which members may run a class, and which partitions of its keys each of them owns.

The members that host a class share its partitions by the ring over their ids. Everything here is a
function of the view and of nothing else, so that every node gives the same answer without a word from
another one. It is asked on two threads: the actors' loop aims messages by it, and the membership's thread
opens and hands over partitions by it. Both must see the same owners, or an actor would wait for ever where
no partition opens.

A class that travels by its name is hosted by the members that say so in their record, which they do only
for classes whose placement their labels match. Classes that travel by value are not in any record. Each
belongs to a *group of travellers*: the members that take classes by value and carry the labels that the
class wants, under a name of the group, ``@`` or ``@gpu=1``. All classes of such a group have one share.

With a quorum (``split_brain="static:q"``) nobody owns anything in a view of fewer than `q` members.

References:
    docs of the protocol: "Terms" (group, partition) and "Quorum lost for good, and split brain".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from functools import lru_cache

from ..discovery.member import Member, View
from ..discovery.share import PARTITIONS
from .ring import SCHEME, VNODES, Ring

TRAVELLERS = "@"
"""The group of the classes that travel by value and want no labels; the others' names begin with it, too."""

Wanted = tuple[tuple[str, str], ...]
"""The labels that a member must carry."""


@lru_cache(maxsize=256)
def owners_of(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the owner of each partition among nodes; none without a node.

    Args:
        ids: Ascending.
    """
    return Ring(ids).owners if ids else ()


@lru_cache(maxsize=1024)
def share_of(ids: tuple[str, ...], node_id: str) -> int:
    """Return the partitions that one of these nodes owns, as bits."""
    bits = 0
    for partition, owner in enumerate(owners_of(ids)):
        if owner == node_id:
            bits |= 1 << partition
    return bits


def digest_of(split_brain: str) -> str:
    """Return what all members must have in common: all that ownership rests on."""
    return hashlib.sha256(f"{PARTITIONS} {VNODES} {SCHEME} {split_brain}".encode()).hexdigest()


def travellers(wanted: Wanted) -> str:
    """Return the name of the group of classes that travel by value and want these labels."""
    return TRAVELLERS + ",".join(f"{name}={value}" for name, value in wanted)


class Groups:
    """The groups that one node knows."""

    def __init__(self, quorum: int = 0) -> None:
        """Know the group of travellers that want nothing.

        Args:
            quorum: Members that a view must have for anybody to own anything.
        """
        self.changed: Callable[[], None] = _ignore
        """Is called when there is one more; it may be called before there is a view."""
        self.quorum = quorum
        self._wanted: Mapping[str, Wanted] = {TRAVELLERS: ()}  # replaced, never changed: two threads read it

    def learn(self, wanted: Wanted) -> str:
        """Know the group of travellers that want these labels; return its name. On the actors' loop."""
        name = travellers(wanted)
        if name not in self._wanted:
            self._wanted = {**self._wanted, name: wanted}
            self.changed()
        return name

    def hosts(self, view: View) -> dict[str, tuple[str, ...]]:
        """Return for each class and group the ids of the members that host it, ascending."""
        if len(view.members) < self.quorum:
            return {}
        staying = sorted((member for member in view.members if not member.leaving), key=lambda member: member.id)
        found: dict[str, list[str]] = {}
        for member in staying:
            for name in member.hosts:
                found.setdefault(name, []).append(member.id)
        hosts = {name: tuple(ids) for name, ids in found.items()}
        for name, wanted in self._wanted.items():
            hosts[name] = tuple(member.id for member in staying if _takes(member, wanted))
        return hosts

    def shares_of(self, view: View, node_id: str) -> dict[str, int]:
        """Return for each class and group that a node owns something of its partitions, as bits."""
        shares = {name: share_of(ids, node_id) for name, ids in self.hosts(view).items() if node_id in ids}
        return {name: bits for name, bits in shares.items() if bits}


def _takes(member: Member, wanted: Wanted) -> bool:
    """Return whether a member takes classes by value that want these labels."""
    return member.hosts_by_value and all(member.labels.get(name) == value for name, value in wanted)


def _ignore() -> None:
    """Tell nobody."""
