"""Who is in the cluster: members, views and what happens to them, as values.

A member is one run of a node, named by `(id, incarnation)`. The incarnation is the wall
clock in milliseconds when that run began, so it grows from run to run, and together with
the id it orders members by seniority: the oldest comes first. A node that was declared
lost and lives comes back under the same id with a higher incarnation; to everyone it is a
new member.

A view is a numbered list of members. The router computes every ring from the view alone,
so whatever placement rests on (labels, hosted classes, whether the member is leaving) is
part of the member's record there. Invariant: the same `(lineage, number)` means the same
members on every node.

References:
    docs of the protocol: "Terms" and "Views".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import TypeAlias

from ringcast.values import dataclass

__all__ = [
    "KEY_BYTES",
    "Event",
    "Identity",
    "LeaseLost",
    "LeaseRegained",
    "Member",
    "MemberJoined",
    "MemberLeft",
    "MemberLost",
    "MemberSuspected",
    "View",
    "ViewChanged",
    "store_of",
]

KEY_BYTES = 32
"""The length of a public key's fingerprint, SHA-256."""

Identity: TypeAlias = "tuple[str, int]"
"""A run of a node: its id and its incarnation."""


@dataclass(frozen=True, slots=True)
class Member:
    """One run of a node, as the others see it.

    Two members are equal when their whole records are equal; they hash by identity, the
    part of the record that never changes while the run lasts.

    Attributes:
        id: The node's id, unique in the cluster.
        address: ``"host:port"``, where TCP and UDP are heard.
        labels: What the node says of itself, for placement.
        incarnation: Wall clock in milliseconds at the start of this run; only grows.
        hosts: Names of the actor classes that the node hosts.
        hosts_by_value: Whether it takes classes that are shipped by value.
        leaving: Whether it is handing its actors over and must get no new ones.
        key: Fingerprint of the public key that it proves over TLS, `KEY_BYTES` long; empty without TLS.
        has_record: Whether it keeps its votes on disk, so that it may vote again after a restart.
        store: The id of the store where its durable actors keep their state; empty as long as it has opened none.
    """

    id: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    incarnation: int = 0
    hosts: frozenset[str] = frozenset()
    hosts_by_value: bool = False
    leaving: bool = False
    key: bytes = b""
    has_record: bool = False
    store: str = ""

    def __hash__(self) -> int:
        """Hash by identity: labels are a mapping, and may change."""
        return hash((self.id, self.incarnation))

    @property
    def identity(self) -> Identity:
        """The pair `(id, incarnation)` that names this run and no other."""
        return self.id, self.incarnation

    @property
    def started_ms(self) -> int:
        """Wall clock in milliseconds when this run began, by the node's own clock."""
        return self.incarnation

    @property
    def seniority(self) -> tuple[int, str]:
        """The sort key of members: the lowest is the most senior."""
        return self.incarnation, self.id


def store_of(members: Iterable[Member]) -> str:
    """Return the id of the store that these members name; empty if none names one."""
    return next((member.store for member in members if member.store), "")


@dataclass(frozen=True, slots=True)
class View:
    """The members that are agreed on, under a number.

    Attributes:
        lineage: Names the chain of views that this one belongs to.
        number: Grows by each change; never goes back at any node.
        members: In order of seniority.
        lease_ms: L, the length of a lease, in milliseconds; the same in all views of a lineage. A voter's
            promise has to outlast the lease of whoever it renews, so all go by one number; 0 stands for each
            node's own.
    """

    lineage: str
    number: int
    members: tuple[Member, ...]
    lease_ms: int = 0

    @property
    def store(self) -> str:
        """The id of the store that the members have in common; empty as long as none of them has one."""
        return store_of(self.members)

    def member(self, node_id: str) -> Member | None:
        """Return the member with this id, or None."""
        return next((member for member in self.members if member.id == node_id), None)


@dataclass(frozen=True, slots=True)
class MemberJoined:
    """The member is in the view for the first time."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberLeft:
    """The member left on its own wish and is no longer in the view."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberSuspected:
    """The member does not answer; it stays in the view until it refutes or is declared lost."""

    member: Member


@dataclass(frozen=True, slots=True)
class MemberLost:
    """The member was declared dead and is no longer in the view."""

    member: Member


@dataclass(frozen=True, slots=True)
class ViewChanged:
    """Another view is in force; follows the events of the members that it adds and drops."""

    view: View


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """This node is cut off from the majority of its cluster: it serves nothing, and refuses what waits.

    Its lease has ended a lease's length before; until now it may have been back in a moment.
    """

    member: Member


@dataclass(frozen=True, slots=True)
class LeaseRegained:
    """After a `LeaseLost` this node serves again; with `member`'s incarnation, as another run if it was left out."""

    member: Member


Event = MemberJoined | MemberLeft | MemberSuspected | MemberLost | ViewChanged | LeaseLost | LeaseRegained
