"""What members say of each other: claims, in an order in which the latest word wins.

A claim names a run of a node by `(id, incarnation)` and says whether it is alive, suspect,
dead or gone by its own wish. A suspect refutes within its run by the claim's second
number, the *refutation* counter, which only the member itself raises. Claims about one
node are totally ordered, so members that have seen the same claims, in whatever order,
believe the same; whoever stores the highest of any evidence seen can never be talked into
a resurrection by older news.

Death is a belief like suspicion, only graver, and is refuted in the same way: it is the views
that decide who is a member, and a member that a view has left out comes back as a new
incarnation. Only a goodbye is final.

References:
    Das, Gupta, Motivala. "SWIM". DSN 2002, section 4.2 (the order of claims).
"""

from __future__ import annotations

import enum

from ringcast.values import dataclass

__all__ = ["Claim", "Status"]


class Status(enum.IntEnum):
    """What is believed of a member; at equal counters the higher wins."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    LEFT = 3

    @property
    def is_final(self) -> bool:
        """Whether it is believed to be gone; the dead may refute that, who said goodbye cannot."""
        return self >= Status.DEAD


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement about one run of a node.

    Attributes:
        id: The node that it is about.
        address: Where that node is heard, ``"host:port"``.
        incarnation: Which run of the node; see `Member.incarnation`.
        refutation: How often that run has refuted suspicion; raised only by itself.
        status: What is claimed.
        accuser: Who suspects, for the count of independent accusers; else empty.
    """

    id: str
    address: str
    incarnation: int
    refutation: int = 0
    status: Status = Status.ALIVE
    accuser: str = ""

    @property
    def identity(self) -> tuple[str, int]:
        """The run that the claim is about."""
        return self.id, self.incarnation

    @property
    def precedence(self) -> tuple[int, bool, int, Status]:
        """The place of this claim in the order of all claims about its node."""
        return self.incarnation, self.status is Status.LEFT, self.refutation, self.status

    def supersedes(self, other: Claim) -> bool:
        """Return whether this claim must replace `other`, which is about the same node."""
        return self.precedence > other.precedence
