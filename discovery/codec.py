"""Membership messages as bytes, and back. Nothing that arrives makes it raise.

One encoding serves datagrams and TCP frames: a msgpack array of protocol version, cluster
tag, kind, sender, the kind's own fields, and claims. The tag, a hash of the cluster's name,
stands in each of them, because an address may be another cluster's by the time a datagram
reaches it. Every field is checked for its type and size; msgpack itself allocates nothing
for a claimed length that the bytes do not hold.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from hashlib import blake2b
from typing import cast

import msgpack

from .agreement_codec import AGREEMENT_KINDS, pack_agreement, unpack_agreement
from .claim import Claim, Status
from .fields import (
    ADDRESS_MAX,
    HOSTS_MAX,
    ID_BYTES_MAX,
    LABELS_MAX,
    TEXT_MAX,
    address_of,
    array_of,
    flag_of,
    node_id_of,
    number_of,
    text_of,
)
from .messages import (
    Ack,
    Envelope,
    Exchange,
    Gossip,
    Message,
    Nack,
    Ping,
    PingRequest,
    Refused,
)
from .packed import look_through

__all__ = [
    "ADDRESS_MAX",
    "HOSTS_MAX",
    "ID_BYTES_MAX",
    "LABELS_MAX",
    "LEVELS_MAX",
    "PROTOCOL",
    "TEXT_MAX",
    "Codec",
    "Rejected",
    "cluster_tag",
]

PROTOCOL = 1
"""The version of the membership protocol; others are refused."""

LEVELS_MAX = 7
"""Lists and maps inside one another: a label of a member of a view in a vote stands in seven."""

_KINDS: tuple[type[Message], ...] = (
    Ping,
    Ack,
    Nack,
    PingRequest,
    Gossip,
    Exchange,
    Refused,
    *AGREEMENT_KINDS,
)
"""A message's kind on the wire is its place here: append only."""


# msgpack has no types of its own.
_pack = cast("Callable[[object], bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]
_unpack = cast("Callable[[bytes], object]", msgpack.unpackb)  # pyright: ignore[reportUnknownMemberType]


class Rejected(enum.Enum):
    """Why bytes were not taken for a message."""

    MALFORMED = "malformed"
    FOREIGN = "another cluster's, or of another protocol version"


def cluster_tag(cluster: str) -> bytes:
    """Return the 8 bytes that stand for the cluster's name in every message."""
    return blake2b(cluster.encode(), digest_size=8).digest()


class Codec:
    """Encodes and decodes for one cluster."""

    def __init__(self, cluster: str) -> None:
        """Tag everything with the cluster's name, and take nothing else."""
        self._tag = cluster_tag(cluster)

    def encode(self, envelope: Envelope) -> bytes:
        """Return the envelope as bytes, unsealed."""
        sender, message = envelope.sender, envelope.message
        fields: list[object] = [
            PROTOCOL,
            self._tag,
            _KINDS.index(type(message)),
            [sender.id, sender.address, sender.incarnation, sender.refutation],
            _pack_message(message),
            [_pack_claim(claim) for claim in envelope.claims],
        ]
        return _pack(fields)

    def decode(self, data: bytes) -> Envelope | Rejected:
        """Return what the bytes say, or why they are not taken.

        A `Refused` is taken from any cluster: it is how strangers explain themselves.
        """
        try:
            look_through(data, depth=LEVELS_MAX)
            protocol, tag, kind_number, sender, body, claims = array_of(_unpack(data), 6)
            kind = _KINDS[number_of(kind_number)]
            if kind is not Refused and (protocol != PROTOCOL or tag != self._tag):
                return Rejected.FOREIGN
            return Envelope(
                _unpack_sender(sender),
                _unpack_message(kind, body),
                tuple(map(_unpack_claim, array_of(claims))),
            )
        except (ValueError, IndexError, msgpack.UnpackException):
            return Rejected.MALFORMED


def _pack_message(message: Message) -> list[object]:
    match message:
        case Ping(seq, target):
            return [seq, target]
        case Ack(seq) | Nack(seq):
            return [seq]
        case PingRequest(seq, target, incarnation, address):
            return [seq, target, incarnation, address]
        case Gossip():
            return []
        case Exchange(wants_reply):
            return [wants_reply]
        case Refused(cluster, protocol):
            return [cluster, protocol]
        case _:
            return pack_agreement(message)


def _unpack_message(kind: type[Message], body: object) -> Message:
    if kind is Ping:
        seq, target = array_of(body, 2)
        return Ping(number_of(seq), node_id_of(target))
    if kind is Ack:
        return Ack(number_of(array_of(body, 1)[0]))
    if kind is Nack:
        return Nack(number_of(array_of(body, 1)[0]))
    if kind is PingRequest:
        seq, target, incarnation, address = array_of(body, 4)
        return PingRequest(number_of(seq), node_id_of(target), number_of(incarnation), address_of(address))
    if kind is Gossip:
        array_of(body, 0)
        return Gossip()
    if kind is Exchange:
        return Exchange(flag_of(array_of(body, 1)[0]))
    if kind is Refused:
        cluster, protocol = array_of(body, 2)
        return Refused(text_of(cluster), number_of(protocol))
    return unpack_agreement(kind, body)


def _pack_claim(claim: Claim) -> list[object]:
    status = int(claim.status)
    return [claim.id, claim.address, claim.incarnation, claim.refutation, status, claim.accuser]


def _unpack_claim(value: object) -> Claim:
    node_id, address, incarnation, refutation, status, accuser = array_of(value, 6)
    return Claim(
        node_id_of(node_id),
        address_of(address),
        number_of(incarnation),
        number_of(refutation),
        Status(number_of(status)),
        node_id_of(accuser) if accuser else "",
    )


def _unpack_sender(value: object) -> Claim:
    node_id, address, incarnation, refutation = array_of(value, 4)
    return Claim(node_id_of(node_id), address_of(address), number_of(incarnation), number_of(refutation))
