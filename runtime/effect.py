"""Which frames are effects of turns: what must not leave without a lease.

An answer, an item of a stream and its end are, and so is what a running turn asks or tells: its frame holds
the name of the turn's chain. What was asked or told from outside of actors is none, nor is a message that
this node only sends on, nor an error, nor what links and nodes say to one another. They leave: nothing that
an actor did stands in them.

Frames are looked into here when there is no lease, so how long it takes does not matter.
"""

from __future__ import annotations

from typing import Any, cast

import msgpack

from ringcast.values import dataclass

from .wire import END, ITEM, REPLY, REQUEST_X, TELL_X


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to the peer's call of that number, or a part of one."""

    number: int


@dataclass(frozen=True, slots=True)
class Request:
    """A turn's own call of that number."""

    number: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a turn has told; by the message's number."""

    message: int


Effect = Answer | Request | Told


def effect_in(frame: bytes) -> Effect | None:
    """Return what of a turn's a packed frame is; None if it is nothing of the kind."""
    parts: list[Any] = cast(Any, msgpack).unpackb(
        frame, strict_map_key=False, unicode_errors="surrogatepass", object_pairs_hook=_unread
    )
    match parts[0]:
        case code if code in (REPLY, ITEM, END):
            return Answer(parts[1])
        case code if code == REQUEST_X:
            _, _, chain, trace, _, hops, _ = parts[6]
            return Request(parts[1]) if (chain or trace) and not hops else None
        case code if code == TELL_X:
            _, _, _, trace, hops = parts[4]
            return Told(parts[1]) if trace and not hops else None
        case _:
            return None


def _unread(pairs: list[tuple[Any, Any]]) -> None:
    """Leave a dict out: its keys may be lists here, of what was a tuple's."""
