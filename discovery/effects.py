"""What the pure cores ask their shell to do. The shell decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from .claim import Claim, Status
from .member import Event, View
from .messages import DatagramMessage, Message

__all__ = ["Changed", "Dial", "Effect", "InstallView", "Notify", "Send", "SendUdp", "Warn"]


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
class Warn:
    """Something a person should know: what is wrong, with whom, and what to do."""

    what: str
    member: str
    address: str


Effect = SendUdp | Send | Dial | InstallView | Notify | Changed | Warn
