"""The messages of agreement and of hand-off as arrays, and back; `codec` puts them into bytes.

Each kind of message is a tuple of fields, and each kind of field knows both directions. The
order of the fields is that of the dataclass; the order of the kinds is that on the wire, so
kinds are only ever appended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Generic, TypeVar, cast

from ringcast.values import dataclass

from .agreement_messages import (
    Accept,
    Accepted,
    AgreementMessage,
    Alive,
    Apply,
    Ballot,
    Charter,
    Decided,
    Denial,
    Fetch,
    Hello,
    Meet,
    Nack,
    NotRenewed,
    Prepare,
    Promised,
    Proof,
    Release,
    Renew,
    Renewed,
    Spent,
    Unfit,
    Vote,
)
from .fields import address_of, array_of, flag_of, node_id_of, number_of, pack_member, text_of, unpack_member
from .handoff import Drained, DrainedSeen
from .member import Identity, View
from .share import PARTITIONS

__all__ = ["AGREEMENT_KINDS", "BALLOT", "VIEW", "VOTE", "Field", "maybe", "pack_agreement", "unpack_agreement"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Field(Generic[T]):
    """How one kind of value travels; `read` raises `ValueError` for anything else."""

    write: Callable[[T], object]
    read: Callable[[object], T]


def _as_it_is(value: object) -> object:
    return value


def _tuple_of(part: Field[T]) -> Field[tuple[T, ...]]:
    return Field(lambda values: [*map(part.write, values)], lambda value: tuple(map(part.read, array_of(value))))


def maybe(part: Field[T]) -> Field[T | None]:
    """Return how a value travels that may be missing."""
    return Field(
        lambda value: None if value is None else part.write(value),
        lambda value: None if value is None else part.read(value),
    )


def _read_identity(value: object) -> Identity:
    node_id, incarnation = array_of(value, 2)
    return node_id_of(node_id), number_of(incarnation)


def _write_view(view: View) -> object:
    return [view.lineage, view.number, [pack_member(member) for member in view.members], view.lease_ms]


_VIEWS_KEPT = 16
_views: dict[tuple[str, int], tuple[object, View]] = {}
"""Views that were read, and what they were read from: each comes in several messages, and with the ones after it."""


def _read_view(value: object) -> View:
    lineage, view_number, members, lease_ms = array_of(value, 4)
    name = text_of(lineage), number_of(view_number)
    known = _views.get(name)
    if known is not None and known[0] == value:
        return known[1]
    found = tuple(map(unpack_member, array_of(members)))
    view = View(*name, found, number_of(lease_ms))
    if len(_views) >= _VIEWS_KEPT:
        _views.clear()
    _views[name] = value, view
    return view


def _write_ballot(ballot: Ballot) -> object:
    return [ballot.counter, ballot.node_id, ballot.incarnation]


def _read_ballot(value: object) -> Ballot:
    counter, node_id, incarnation = array_of(value, 3)
    return Ballot(number_of(counter), node_id_of(node_id), number_of(incarnation))


def _write_vote(vote: Vote) -> object:
    return [_write_ballot(vote.ballot), _write_view(vote.view)]


def _read_vote(value: object) -> Vote:
    ballot, view = array_of(value, 2)
    return Vote(_read_ballot(ballot), _read_view(view))


def _read_charter(value: object) -> Charter:
    config, drift_ppm = array_of(value, 2)
    return Charter(text_of(config), number_of(drift_ppm))


def _write_charter(charter: Charter) -> object:
    return [charter.config, charter.drift_ppm]


def _write_bits(bits: int) -> bytes:
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _read_bits(value: object) -> int:
    if not isinstance(value, bytes) or len(value) > PARTITIONS // 8:
        raise ValueError("not a set of partitions")
    return int.from_bytes(value, "little")


_TEXT: Field[str] = Field(_as_it_is, text_of)
_NUMBER: Field[int] = Field(_as_it_is, number_of)
_FLAG: Field[bool] = Field(_as_it_is, flag_of)
_ADDRESS: Field[str] = Field(_as_it_is, address_of)
_MEMBER = Field(pack_member, unpack_member)
_IDENTITY: Field[Identity] = Field(list, _read_identity)
VIEW = Field(_write_view, _read_view)
BALLOT = Field(_write_ballot, _read_ballot)
VOTE = Field(_write_vote, _read_vote)
_CHARTER: Field[Charter] = Field(_write_charter, _read_charter)
_BITS: Field[int] = Field(_write_bits, _read_bits)
_DENIAL: Field[Denial] = Field(int, lambda value: Denial(number_of(value)))

_LAYOUTS: dict[type[AgreementMessage | Drained | DrainedSeen], tuple[Field[Any], ...]] = {
    Hello: (_MEMBER, _TEXT, _FLAG),
    Meet: (_TEXT, _NUMBER, _NUMBER, _FLAG, _FLAG, _tuple_of(_ADDRESS)),
    Apply: (_TEXT, _NUMBER, _MEMBER, _CHARTER),
    Unfit: (_TEXT,),
    Spent: (_TEXT, _IDENTITY),
    Release: (_TEXT, _NUMBER),
    Proof: (_TEXT, _IDENTITY),
    Alive: (_TEXT, _IDENTITY),
    Renew: (_TEXT, _NUMBER, _NUMBER, _tuple_of(VIEW)),
    Renewed: (_TEXT, _NUMBER, _NUMBER),
    NotRenewed: (_TEXT, _NUMBER, _DENIAL),
    Prepare: (_TEXT, _NUMBER, BALLOT, _tuple_of(_IDENTITY)),
    Promised: (_TEXT, _NUMBER, BALLOT, maybe(VOTE)),
    Accept: (_TEXT, _NUMBER, BALLOT, VIEW, _tuple_of(_IDENTITY)),
    Accepted: (_TEXT, _NUMBER, BALLOT),
    Nack: (_TEXT, _NUMBER, BALLOT, maybe(BALLOT), _tuple_of(_IDENTITY)),
    Decided: (_TEXT, _tuple_of(VIEW), _FLAG),
    Fetch: (_TEXT, _NUMBER),
    Drained: (_TEXT, _NUMBER, _NUMBER, _BITS),
    DrainedSeen: (_IDENTITY, _NUMBER),
}

AGREEMENT_KINDS: tuple[type[AgreementMessage | Drained | DrainedSeen], ...] = tuple(_LAYOUTS)
"""In the order of their numbers on the wire."""


def pack_agreement(message: AgreementMessage | Drained | DrainedSeen) -> list[object]:
    """Return a message's own fields as what msgpack can write."""
    layout = _LAYOUTS[type(message)]
    return [part.write(getattr(message, field.name)) for field, part in zip(fields(message), layout, strict=True)]


def unpack_agreement(kind: type[Any], body: object) -> AgreementMessage | Drained | DrainedSeen:
    """Return the message of that kind that the array holds.

    Raises:
        ValueError: If a field is missing, or is not what it must be.
    """
    layout = _LAYOUTS[kind]
    values = array_of(body, len(layout))
    read = (part.read(value) for part, value in zip(layout, values, strict=True))
    return cast("AgreementMessage | Drained | DrainedSeen", kind(*read))
