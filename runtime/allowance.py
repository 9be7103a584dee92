"""What a peer may cost this node: the limits of a link, by the peer's role.

A member is believed to be what it says, and may send what the application sends; its limits keep a
mistake on one node from taking another one's memory. A client is a stranger with a credential, and its
limits are those of hostile bytes: what is built of a message is bounded, not only the message.

A `Bounds` is the part that decoding keeps to, an `Allowance` the part of the connection and the link.
Both are made of the node's `NodeConfig`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ringcast.values import dataclass

from ..discovery.packed import LEVELS
from .wire import BATCH, MAX_BATCH

if TYPE_CHECKING:
    from .config import NodeConfig

CLIENT_BATCH: Final = BATCH
"""Bytes of a client's batch: what it sends at once of small messages."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a codec builds of bytes that came; everything for members.

    Attributes:
        levels: Lists and dicts that may stand inside one another in one packed value, and extensions.
        decoded_bytes: Memory that one value may take, by an upper estimate; None for `EXPANSION` times its
            bytes, which always holds.
        hashed: Entries of a dict, and elements of a set, that may be something else than str and bytes.
            Python hashes those with a secret; a set of chosen integers can take quadratic time. None for
            any number.
        is_for_own_classes: Whether only classes of packages that have actor classes here, of Python's
            exceptions and of `ringcast.errors` are built by name, and not all that are imported.
    """

    levels: int = LEVELS
    decoded_bytes: int | None = None
    hashed: int | None = None
    is_for_own_classes: bool = False


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one peer may cost.

    Attributes:
        batch_bytes: The largest batch of small messages.
        message_bytes: The largest large message.
        in_flight_bytes: Messages of the peer that wait in mailboxes, and large ones that are still
            coming. Above it the peer is asked to hold its messages back (see `inflight`).
        expansion: How much a byte of a small message counts there.
        unsent_bytes: Answers that the peer has not taken. Above it the connection is closed.
        half_frame_timeout: Seconds after which a peer is cut off that sends nothing more in the middle of
            a frame or of a large message.
    """

    batch_bytes: int
    message_bytes: int
    in_flight_bytes: int
    expansion: int
    unsent_bytes: int
    half_frame_timeout: float

    @classmethod
    def for_nodes(cls, config: NodeConfig) -> Allowance:
        """Return what another member may cost."""
        return cls(
            batch_bytes=MAX_BATCH,
            message_bytes=config.max_message_bytes,
            in_flight_bytes=config.link_in_flight_bytes,
            expansion=1,
            unsent_bytes=config.unsent_bytes,
            half_frame_timeout=config.half_frame_timeout,
        )

    @classmethod
    def for_clients(cls, config: NodeConfig) -> Allowance:
        """Return what a client may cost."""
        return cls(
            batch_bytes=CLIENT_BATCH,
            message_bytes=config.client_max_message_bytes,
            in_flight_bytes=config.client_in_flight_bytes,
            expansion=16,
            unsent_bytes=config.client_unsent_bytes,
            half_frame_timeout=config.half_frame_timeout,
        )


def client_bounds(config: NodeConfig) -> Bounds:
    """Return what is built of a client's bytes."""
    return Bounds(
        levels=config.client_max_depth,
        decoded_bytes=config.client_decoded_bytes,
        hashed=config.client_max_hashed,
        is_for_own_classes=True,
    )
