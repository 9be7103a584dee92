"""The words by which members agree on views and leases. Values only.

All but `Hello`, `Meet` and `Unfit` belong to one lineage and name it; whoever follows
another one answers with nothing but `Meet`, or says that it has left. Numbers are those of
views: `number` in `Prepare`, `Promised`, `Accept`, `Accepted` and `Nack` is the number that
is to be decided, elsewhere that of the view which the sender has installed.

References:
    docs of the protocol: "Messages".
"""

from __future__ import annotations

import enum

from ringcast.values import dataclass

from .member import Identity, Member, View

__all__ = [
    "Accept",
    "Accepted",
    "AgreementMessage",
    "Alive",
    "Apply",
    "Ballot",
    "Charter",
    "Decided",
    "Denial",
    "Fetch",
    "Hello",
    "Meet",
    "Nack",
    "NotRenewed",
    "Prepare",
    "Promised",
    "Proof",
    "Release",
    "Renew",
    "Renewed",
    "Spent",
    "Unfit",
    "Vote",
    "other_store",
]


@dataclass(frozen=True, slots=True, order=True)
class Ballot:
    """One attempt to decide a number; totally ordered, and no two proposers share one."""

    counter: int
    node_id: str
    incarnation: int


@dataclass(frozen=True, slots=True)
class Vote:
    """What a voter has accepted, and under which ballot."""

    ballot: Ballot
    view: View


@dataclass(frozen=True, slots=True)
class Charter:
    """What all members of a lineage must have in common; who differs is refused.

    Attributes:
        config: Digest of what ownership rests on: partitions, virtual nodes, hash, `split_brain`.
        drift_ppm: rho in millionths: a voter's promise must outlast the lease of whoever it renews.
    """

    config: str = ""
    drift_ppm: int = 0

    def differs_from(self, theirs: Charter) -> str:
        """Return what a node that has this does not have in common with members that have `theirs`, for people."""
        if self.config != theirs.config:
            return (
                "it would place actors elsewhere than they do: give all the same split_brain=…, and the same version "
                "of ringcast"
            )
        return f"it reckons with clocks that drift by {self.drift_ppm} ppm, they with {theirs.drift_ppm}"


def other_store(its: str, theirs: str) -> str:
    """Return why a node does not fit that keeps state in another store than the members do, for people."""
    return (
        f"its store is {its:.40}, theirs is {theirs:.40}: give all nodes the same Node(store=…). A SQLite file serves "
        f"one machine, by one path; several machines can share postgresql://… or redis://…"
    )


class Denial(enum.IntEnum):
    """Why a lease was not renewed."""

    SEALED = 0
    """The voter has accepted a value for the next view."""
    FROZEN = 1
    """The voter was asked to accept a view without the asker."""
    PROVEN = 2
    """The voter holds the asker for dead."""
    RELEASED = 3
    """The asker gave its lease up itself."""
    LEFT = 4
    """The one asked is no voter of that lineage any more."""


@dataclass(frozen=True, slots=True)
class Hello:
    """I look for a lineage; `vote` is whom I would have found one, `is_candidate` if I may."""

    member: Member
    vote: str
    is_candidate: bool


@dataclass(frozen=True, slots=True)
class Meet:
    """This is my lineage; `voters` are the addresses to apply at."""

    lineage: str
    number: int
    size: int
    is_serving: bool
    is_reply: bool
    voters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Apply:
    """Let the next view hold exactly this record of me: to join, to change, or to leave."""

    lineage: str
    number: int
    member: Member
    charter: Charter


@dataclass(frozen=True, slots=True)
class Unfit:
    """You cannot join, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Spent:
    """That run has been a member and was left out: it cannot be one again, but a new run can."""

    lineage: str
    who: Identity


@dataclass(frozen=True, slots=True)
class Release:
    """I have given up my lease and will not act again: go on without me."""

    lineage: str
    number: int


@dataclass(frozen=True, slots=True)
class Proof:
    """To voters: I hold this run for dead; say so if it is not. To the run itself: are you there?"""

    lineage: str
    who: Identity


@dataclass(frozen=True, slots=True)
class Alive:
    """That run lives: I am it, or it has just answered me."""

    lineage: str
    who: Identity


@dataclass(frozen=True, slots=True)
class Renew:
    """Renew my lease under this view, which is in `views` if you may not have it yet."""

    lineage: str
    number: int
    round: int
    views: tuple[View, ...] = ()


@dataclass(frozen=True, slots=True)
class Renewed:
    """I accept no view without you for a lease and a bit."""

    lineage: str
    number: int
    round: int


@dataclass(frozen=True, slots=True)
class NotRenewed:
    """I do not renew, and why."""

    lineage: str
    number: int
    why: Denial


@dataclass(frozen=True, slots=True)
class Prepare:
    """Promise to take part in no lower ballot; `dead` was proven before this was sent."""

    lineage: str
    number: int
    ballot: Ballot
    dead: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class Promised:
    """I promise, and this is what I have accepted so far."""

    lineage: str
    number: int
    ballot: Ballot
    vote: Vote | None


@dataclass(frozen=True, slots=True)
class Accept:
    """Accept this view under this ballot."""

    lineage: str
    number: int
    ballot: Ballot
    view: View
    dead: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """I have accepted what the ballot asked for."""

    lineage: str
    number: int
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Nack:
    """Not under this ballot: I have promised a higher one, or one of its dead is alive."""

    lineage: str
    number: int
    ballot: Ballot
    promised: Ballot | None
    alive: tuple[Identity, ...]


@dataclass(frozen=True, slots=True)
class Decided:
    """These views were decided, in order of their numbers.

    Attributes:
        is_all: Answers `Fetch`: nothing older is kept by the sender than what is here.
    """

    lineage: str
    views: tuple[View, ...]
    is_all: bool = False


@dataclass(frozen=True, slots=True)
class Fetch:
    """Send me the views after this number."""

    lineage: str
    after: int


AgreementMessage = (
    Hello
    | Meet
    | Apply
    | Unfit
    | Spent
    | Release
    | Proof
    | Alive
    | Renew
    | Renewed
    | NotRenewed
    | Prepare
    | Promised
    | Accept
    | Accepted
    | Nack
    | Decided
    | Fetch
)
