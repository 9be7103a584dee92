"""What the pure cores ask their shell to do. The shell decides nothing."""

from __future__ import annotations

from ringcast.values import dataclass

from .agreement_messages import Ballot, Vote
from .claim import Claim, Status
from .handoff import Open
from .member import Event, Member, View
from .messages import DatagramMessage, Message

__all__ = [
    "Changed",
    "Check",
    "Depart",
    "Dial",
    "Effect",
    "Excluded",
    "InstallView",
    "LeaseUntil",
    "Notify",
    "Persist",
    "Record",
    "SelfFence",
    "Send",
    "SendUdp",
    "Warn",
]


@dataclass(frozen=True, slots=True)
class SendUdp:
    """Send one datagram, which only `recipient`, the `(id, incarnation)` of one run of a node, can open."""

    address: str
    recipient: tuple[str, int]
    message: DatagramMessage
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Send:
    """Send one frame over TCP, dialling if there is no connection."""

    address: str
    message: Message
    claims: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class Dial:
    """Make contact with whoever is heard at the address."""

    address: str


@dataclass(frozen=True, slots=True)
class InstallView:
    """This view is in force from now on."""

    view: View


@dataclass(frozen=True, slots=True)
class Notify:
    """Tell the application."""

    event: Event


@dataclass(frozen=True, slots=True)
class Changed:
    """SWIM believes something new of a node; `was` is None for one never heard of."""

    claim: Claim
    was: Status | None


@dataclass(frozen=True, slots=True)
class Record:
    """What a voter must find again after a restart, or it may not vote.

    Attributes:
        incarnation: The highest that this node has run under.
        view: The view whose successor it votes on; None if it belongs to no lineage.
        promised: The highest ballot that it has promised, under that view.
        vote: What it has accepted, under that view.
    """

    incarnation: int
    view: View | None = None
    promised: Ballot | None = None
    vote: Vote | None = None


@dataclass(frozen=True, slots=True)
class Persist:
    """Write the record and force it to disk; only then carry out `then`.

    Records are written in the order in which they come, and one that is newer may take the
    place of one that is not yet written.
    """

    record: Record
    then: tuple[Send, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseUntil:
    """This node may act under the view in force until then, by its own clock; -inf: no longer."""

    until: float


@dataclass(frozen=True, slots=True)
class SelfFence:
    """Stop all that acts, at once: this run is over. The node goes on as `me`, a new one."""

    why: str
    me: Member


@dataclass(frozen=True, slots=True)
class Check:
    """Connect afresh to the address and report whether that was refused, or who answered."""

    address: str


@dataclass(frozen=True, slots=True)
class Depart:
    """This node has left: nothing more is asked of it, and its process may end."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A member says that this node cannot join, and why."""

    why: str
    member: str
    address: str


@dataclass(frozen=True, slots=True)
class Warn:
    """Something a person should know: what is wrong, with whom, and what to do."""

    what: str
    member: str
    address: str


Effect = (
    SendUdp
    | Send
    | Dial
    | InstallView
    | Open
    | Notify
    | Changed
    | Warn
    | Persist
    | LeaseUntil
    | SelfFence
    | Check
    | Depart
    | Excluded
)
