"""What the parts of a membership message are made of, checked one by one.

msgpack says what kind of thing arrived; here it is said what it must be. Whatever does not
fit raises `ValueError`, which `codec` turns into a rejection.
"""

from __future__ import annotations

from typing import cast

from .address import split_address
from .member import KEY_BYTES, Member

__all__ = [
    "ADDRESS_MAX",
    "HOSTS_MAX",
    "ID_BYTES_MAX",
    "LABELS_MAX",
    "TEXT_MAX",
    "address_of",
    "array_of",
    "flag_of",
    "key_of",
    "node_id_of",
    "number_of",
    "pack_member",
    "text_of",
    "unpack_member",
]

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


def pack_member(member: Member) -> list[object]:
    """Return a member's record as an array."""
    return [
        member.id,
        member.address,
        dict(sorted(member.labels.items())),
        member.incarnation,
        sorted(member.hosts),
        member.hosts_by_value,
        member.leaving,
        member.key,
        member.has_record,
        member.store,
    ]


def unpack_member(value: object) -> Member:
    """Return the record that an array holds."""
    node_id, address, labels, incarnation, hosts, hosts_by_value, leaving, key, has_record, store = array_of(value, 10)
    if not isinstance(labels, dict) or len(cast("dict[object, object]", labels)) > LABELS_MAX:
        raise ValueError("labels are not a map, or too many")
    return Member(
        id=node_id_of(node_id),
        address=address_of(address),
        labels={text_of(k): text_of(v) for k, v in cast("dict[object, object]", labels).items()},
        incarnation=number_of(incarnation),
        hosts=frozenset(map(text_of, array_of(hosts, most=HOSTS_MAX))),
        hosts_by_value=flag_of(hosts_by_value),
        leaving=flag_of(leaving),
        key=key_of(key),
        has_record=flag_of(has_record),
        store=text_of(store),
    )


def array_of(value: object, length: int | None = None, most: int = 1 << 20) -> list[object]:
    """Return the value as an array, of this length if one is given, and not too long."""
    if not isinstance(value, list):
        raise ValueError("not an array")
    fields = cast("list[object]", value)
    if len(fields) > most:
        raise ValueError(f"{len(fields)} elements, more than {most}")
    if length is not None and len(fields) != length:
        raise ValueError(f"{len(fields)} fields instead of {length}")
    return fields


def number_of(value: object) -> int:
    """Return the value as a number from 0 to 2^63."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError("not a number from 0 to 2^63")
    return value


def flag_of(value: object) -> bool:
    """Return the value as a truth value."""
    if not isinstance(value, bool):
        raise ValueError("not a truth value")
    return value


def key_of(value: object) -> bytes:
    """Return the value as a key's fingerprint, or as none."""
    if not isinstance(value, bytes) or len(value) not in (0, KEY_BYTES):
        raise ValueError("not a key's fingerprint")
    return value


def text_of(value: object, most: int = TEXT_MAX) -> str:
    """Return the value as a text that is not too long."""
    if not isinstance(value, str) or len(value) > most:
        raise ValueError("not a text, or a long one")
    return value


def node_id_of(value: object) -> str:
    """Return the value as a node's id."""
    text = text_of(value)
    if not 0 < len(text.encode()) <= ID_BYTES_MAX:
        raise ValueError("not a node id")
    return text


def address_of(value: object) -> str:
    """Return the value as an address that can be dialled."""
    text = text_of(value, ADDRESS_MAX)
    if split_address(text)[1] == 0:
        raise ValueError("nobody can be dialled at port 0")
    return text
