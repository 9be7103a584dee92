"""What the keepers of the register tell one another. Each word is about one view, and void under any other.

Every word may be lost, repeated or late; whoever waits for an answer says it again. Words that change
a copy carry a number that grows with each word of one keeper in one view: an old one that arrives late
changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ringcast.values import dataclass

from .rows import Row, RowId, Version, row_from_wire


@dataclass(frozen=True, slots=True)
class Offer:
    """These are the copies that I have of what you lead: by partition, the view of the copy and its digest."""

    view: int
    copies: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Heard:
    """Your offer has arrived."""

    view: int


@dataclass(frozen=True, slots=True)
class Safe:
    """All keepers of these have them: who is none may forget them."""

    view: int
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Digests:
    """This is what the partitions that I lead are like now, for you are one of their keepers."""

    view: int
    digests: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Send me these partitions."""

    view: int
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """Here is what a partition holds, whole."""

    view: int
    seq: int
    partition: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Same:
    """My copies of these are what yours are."""

    view: int
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Put:
    """Keep these rows."""

    view: int
    seq: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """I have these rows, in this version or a later one."""

    view: int
    rows: tuple[tuple[RowId, Version], ...]


@dataclass(frozen=True, slots=True)
class Forget:
    """Every keeper knows that these have ended: nobody needs their rows any more."""

    view: int
    rows: tuple[tuple[RowId, Version], ...]


Word = Offer | Heard | Safe | Digests | Fetch | Rows | Same | Put | Kept | Forget

_KINDS: tuple[type[Word], ...] = (Offer, Heard, Safe, Digests, Fetch, Rows, Same, Put, Kept, Forget)


def to_wire(word: Word) -> list[Any]:
    """Return a word as plain values."""
    code = _KINDS.index(type(word))
    match word:
        case Offer(view, copies):
            return [code, view, {partition: [*copy] for partition, copy in copies.items()}]
        case Heard(view):
            return [code, view]
        case Digests(view, digests):
            return [code, view, {**digests}]
        case Safe(view, partitions) | Fetch(view, partitions) | Same(view, partitions):
            return [code, view, [*partitions]]
        case Rows(view, seq, partition, rows):
            return [code, view, seq, partition, [row.to_wire() for row in rows]]
        case Put(view, seq, rows):
            return [code, view, seq, [row.to_wire() for row in rows]]
        case _:
            return [code, word.view, [[*row_id, *version] for row_id, version in word.rows]]


def from_wire(parts: list[Any]) -> Word:
    """Return the word that came as plain values.

    Raises:
        LookupError, TypeError or ValueError: If it cannot be one.
    """
    code, view, *rest = parts
    kind = cast("type[Any]", _KINDS[code])
    if kind is Offer:
        return Offer(view, {partition: (copy[0], copy[1]) for partition, copy in rest[0].items()})
    if kind is Heard:
        return Heard(view)
    if kind is Digests:
        return Digests(view, rest[0])
    if kind is Rows:
        return Rows(view, rest[0], rest[1], tuple(map(row_from_wire, rest[2])))
    if kind is Put:
        return Put(view, rest[0], tuple(map(row_from_wire, rest[1])))
    if kind is Kept or kind is Forget:
        named = tuple(((name, path), (number, count)) for name, path, number, count in rest[0])
        return Kept(view, named) if kind is Kept else Forget(view, named)
    partitions = tuple(rest[0])
    if kind is Safe:
        return Safe(view, partitions)
    return Fetch(view, partitions) if kind is Fetch else Same(view, partitions)
