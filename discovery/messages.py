"""The words that members exchange. Values only; `codec` puts them into bytes.

Every message travels in an `Envelope`, which says who speaks and carries claims about
others. Pings and gossip go by datagram or over TCP, the rest over TCP only, where the connection
shows who speaks.
"""

from __future__ import annotations

from ringcast.values import dataclass

from .agreement_messages import AgreementMessage
from .claim import Claim
from .handoff import Drained, DrainedSeen

__all__ = [
    "Ack",
    "DatagramMessage",
    "Envelope",
    "Exchange",
    "Gossip",
    "Message",
    "Nack",
    "Ping",
    "PingRequest",
    "Refused",
]


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there? Only `target` answers, not whoever got its address since."""

    seq: int
    target: str


@dataclass(frozen=True, slots=True)
class Ack:
    """Yes: to the ping `seq`, or to the ping request of that number."""

    seq: int


@dataclass(frozen=True, slots=True)
class Nack:
    """I am here, but the one that I was to ping in `seq` has not answered me yet."""

    seq: int


@dataclass(frozen=True, slots=True)
class PingRequest:
    """Ping `target`, the run that I know of, for me, and answer under `seq`."""

    seq: int
    target: str
    incarnation: int
    address: str


@dataclass(frozen=True, slots=True)
class Gossip:
    """Nothing but the envelope's claims."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """The envelope's claims are all that I know; `wants_reply` asks for the same."""

    wants_reply: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """To a stranger: we do not fit together; this is what I am."""

    cluster: str
    protocol: int


DatagramMessage = Ping | Ack | Nack | PingRequest | Gossip
"""What may come by datagram: it proves that a member speaks, and not which one."""

Message = DatagramMessage | Exchange | Refused | AgreementMessage | Drained | DrainedSeen


@dataclass(frozen=True, slots=True)
class Envelope:
    """What one datagram or one frame holds.

    Attributes:
        sender: The speaker, as a claim that it is alive.
        message: What it says.
        claims: What it says of others, or believes of the one that it speaks to.
    """

    sender: Claim
    message: Message
    claims: tuple[Claim, ...] = ()
