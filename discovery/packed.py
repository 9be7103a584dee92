"""msgpack that others made, looked through before anything is built of it.

A few bytes can claim much: msgpack's decoder makes a list as long as an array's header says before it
has seen one element, and a thousand such headers inside one another are three kilobytes. It can also
walk over bytes without building anything, in about a nanosecond a byte, and that walk fails where the
bytes do not hold what they claim. What has passed it holds at least one byte for each element that it
claims, so what a decoder then allocates is bounded by a factor of the bytes that really came:
`EXPANSION`. Only the outermost level is looked at: what an extension holds is bytes to msgpack, and
whoever decodes it looks it through in turn.

The walk also tells the depth, at no cost: the decoder's own stack ends at `LEVELS`, so a value that
stands inside so many lists more passes if it is not deeper than what is left.
"""

from __future__ import annotations

from typing import Any, Final, cast

import msgpack

__all__ = ["EXPANSION", "LEVELS", "SHORT", "SMALL", "look_through"]

_msgpack = cast("Any", msgpack)  # it has no types

EXPANSION: Final = 96
"""Bytes of memory that one byte of msgpack can become, at most: a dict of one entry is 233 for 3.

What extensions are put together of stays below it, too (a set of five numbers is 728 bytes for 9); a test
measures them all."""

SMALL: Final = 1024
"""Bytes that need not be looked through, if no array in them may claim more elements than this: nested as
deeply as they can be they claim 3 MiB, for a moment, and no single one 64 KiB."""

SHORT: Final = 128
"""Elements of the longest list in bytes of any number that need not be looked through: nested as deeply as they can
be (`LEVELS`), such lists claim 1 MiB, for a moment."""


def _passes(data: bytes) -> bool:
    unpacker = _msgpack.Unpacker(max_buffer_size=len(data))
    unpacker.feed(data)
    try:
        unpacker.skip()
    except ValueError:
        return False
    return True


LEVELS: Final = next(levels for levels in range(2000, 0, -1) if _passes(b"\x91" * levels + b"\0"))
"""Lists and dicts inside one another that msgpack can decode."""


def look_through(data: bytes | memoryview, depth: int = LEVELS) -> int:
    """Refuse bytes that do not hold what they claim; nothing is built of them.

    Args:
        data: Whole values, one after the other.
        depth: Lists and dicts that may stand inside one another, 0 to `LEVELS`; an extension counts
            as a value, whatever it holds.

    Returns:
        How many values there are.

    Raises:
        ValueError: If it is no msgpack, or a value is cut short or deeper than `depth`.
    """
    unpacker = _msgpack.Unpacker(max_buffer_size=len(data) + LEVELS)
    unpacker.feed(data)
    values = 0
    try:
        while unpacker.tell() < len(data):
            unpacker.skip()
            values += 1
    except _msgpack.OutOfData:
        raise ValueError("it ends in the middle of a value") from None
    except ValueError as error:
        raise ValueError(f"it is no msgpack: {error!r}") from None
    if depth < LEVELS:
        _look_at_depth(data, depth)
    return values


def _look_at_depth(data: bytes | memoryview, depth: int) -> None:
    unpacker = _msgpack.Unpacker(max_buffer_size=len(data) + LEVELS + 5)
    # The last of the arrays around it never ends, so that it takes in all values.
    unpacker.feed(b"\x91" * (LEVELS - depth - 1) + b"\xdd\xff\xff\xff\xff")
    unpacker.feed(data)
    try:
        unpacker.skip()
    except _msgpack.StackError:
        raise ValueError(f"it holds lists and dicts more than {depth} levels deep") from None
    except _msgpack.OutOfData:
        return
