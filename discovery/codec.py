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

from .address import split_address
from .claim import Claim, Status
from .member import KEY_BYTES, Member, View
from .messages import (
    Ack,
    Envelope,
    Exchange,
    Gossip,
    Join,
    Message,
    Nack,
    Ping,
    PingRequest,
    Refused,
    ViewNews,
)
from .packed import look_through

__all__ = ["ID_BYTES_MAX", "PROTOCOL", "Codec", "Rejected", "cluster_tag"]

PROTOCOL = 1
"""The version of the membership protocol; others are refused."""

ID_BYTES_MAX = 100
"""Longer node ids do not travel: several must fit into a datagram."""

LABELS_MAX = 64
"""Labels of one member."""

HOSTS_MAX = 10_000
"""Classes that one member hosts."""

TEXT_MAX = 256
"""Characters of a label, a class's name or any other text; a cluster's name has 100 at most."""

ADDRESS_MAX = 300
"""Characters of an address: a name of the DNS, and a port."""

LEVELS_MAX = 6
"""Lists and maps inside one another: a label of a member of a view stands in five."""

_KINDS: tuple[type[Message], ...] = (
    Ping,
    Ack,
    Nack,
    PingRequest,
    Gossip,
    Exchange,
    Join,
    ViewNews,
    Refused,
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
            protocol, tag, kind_number, sender, body, claims = _array(_unpack(data), 6)
            kind = _KINDS[_number(kind_number)]
            if kind is not Refused and (protocol != PROTOCOL or tag != self._tag):
                return Rejected.FOREIGN
            return Envelope(
                _unpack_sender(sender),
                _unpack_message(kind, body),
                tuple(map(_unpack_claim, _array(claims))),
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
        case Join(member, lineage, number):
            return [_pack_member(member), lineage, number]
        case ViewNews(view):
            return [view.lineage, view.number, [_pack_member(member) for member in view.members]]
        case _:
            return [message.cluster, message.protocol]


def _unpack_message(kind: type[Message], body: object) -> Message:
    if kind is Ping:
        seq, target = _array(body, 2)
        return Ping(_number(seq), _node_id(target))
    if kind is Ack:
        return Ack(_number(_array(body, 1)[0]))
    if kind is Nack:
        return Nack(_number(_array(body, 1)[0]))
    if kind is PingRequest:
        seq, target, incarnation, address = _array(body, 4)
        return PingRequest(_number(seq), _node_id(target), _number(incarnation), _address(address))
    if kind is Gossip:
        _array(body, 0)
        return Gossip()
    if kind is Exchange:
        return Exchange(_flag(_array(body, 1)[0]))
    if kind is Join:
        member, lineage, number = _array(body, 3)
        return Join(_unpack_member(member), _text(lineage), _number(number))
    if kind is ViewNews:
        lineage, number, members = _array(body, 3)
        return ViewNews(View(_text(lineage), _number(number), tuple(map(_unpack_member, _array(members)))))
    assert kind is Refused
    cluster, protocol = _array(body, 2)
    return Refused(_text(cluster), _number(protocol))


def _pack_claim(claim: Claim) -> list[object]:
    status = int(claim.status)
    return [claim.id, claim.address, claim.incarnation, claim.refutation, status, claim.accuser]


def _unpack_claim(value: object) -> Claim:
    node_id, address, incarnation, refutation, status, accuser = _array(value, 6)
    return Claim(
        _node_id(node_id),
        _address(address),
        _number(incarnation),
        _number(refutation),
        Status(_number(status)),
        _node_id(accuser) if accuser else "",
    )


def _unpack_sender(value: object) -> Claim:
    node_id, address, incarnation, refutation = _array(value, 4)
    return Claim(_node_id(node_id), _address(address), _number(incarnation), _number(refutation))


def _pack_member(member: Member) -> list[object]:
    return [
        member.id,
        member.address,
        dict(sorted(member.labels.items())),
        member.incarnation,
        sorted(member.hosts),
        member.hosts_by_value,
        member.leaving,
        member.key,
    ]


def _unpack_member(value: object) -> Member:
    node_id, address, labels, incarnation, hosts, hosts_by_value, leaving, key = _array(value, 8)
    if not isinstance(labels, dict) or len(cast("dict[object, object]", labels)) > LABELS_MAX:
        raise ValueError("labels are not a map, or too many")
    return Member(
        id=_node_id(node_id),
        address=_address(address),
        labels={_text(k): _text(v) for k, v in cast("dict[object, object]", labels).items()},
        incarnation=_number(incarnation),
        hosts=frozenset(map(_text, _array(hosts, most=HOSTS_MAX))),
        hosts_by_value=_flag(hosts_by_value),
        leaving=_flag(leaving),
        key=_key(key),
    )


def _array(value: object, length: int | None = None, most: int = 1 << 20) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("not an array")
    fields = cast("list[object]", value)
    if len(fields) > most:
        raise ValueError(f"{len(fields)} elements, more than {most}")
    if length is not None and len(fields) != length:
        raise ValueError(f"{len(fields)} fields instead of {length}")
    return fields


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("not a number from 0 to 2^63")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("not a truth value")
    return value


def _key(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) not in (0, KEY_BYTES):
        raise ValueError("not a key's fingerprint")
    return value


def _text(value: object, most: int = TEXT_MAX) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise ValueError("not a text, or a long one")
    return value


def _node_id(value: object) -> str:
    text = _text(value)
    if not 0 < len(text.encode()) <= ID_BYTES_MAX:
        raise ValueError("not a node id")
    return text


def _address(value: object) -> str:
    text = _text(value, ADDRESS_MAX)
    if split_address(text)[1] == 0:
        raise ValueError("nobody can be dialled at port 0")
    return text
