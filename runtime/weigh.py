"""How much memory a packed value would take, found out before it is built.

For peers that are not members, and only for values so large that `EXPANSION` times their bytes is more
than such a peer may have built: a walk in Python over each value, a quarter of a microsecond for each. It
goes into extensions, whose payloads are packed values themselves, and ends as soon as the limit is passed,
so what it costs is bounded, too. All figures are upper bounds for CPython on 64 bits.
"""

from __future__ import annotations

from collections.abc import Generator
from struct import Struct
from typing import Final

from .extensions import Code

_POINTER: Final = 8  # in the list or dict around it; a dict's entry is counted with the dict
_LIST: Final = 64
_DICT: Final = 240
_ENTRY: Final = 100
_EXTENSION: Final = 240  # an empty set is 216 bytes, most are less
_PLACES: Final = 128
_BYTES: Final = 48
_STR: Final = 80
_CHARACTER: Final = 4  # one character beyond the BMP makes all of a str take four bytes each

_LENGTHS: Final = {
    0xC4: Struct(">xB"),
    0xC5: Struct(">xH"),
    0xC6: Struct(">xI"),
    0xC7: Struct(">xBx"),
    0xC8: Struct(">xHx"),
    0xC9: Struct(">xIx"),
    0xD9: Struct(">xB"),
    0xDA: Struct(">xH"),
    0xDB: Struct(">xI"),
    0xDC: Struct(">xH"),
    0xDD: Struct(">xI"),
    0xDE: Struct(">xH"),
    0xDF: Struct(">xI"),
}
"""By first byte: where the length stands, of what is not told by the first byte alone."""

_SETS: Final = frozenset({Code.SET, Code.FROZENSET})
_FIXED_EXTENSIONS: Final = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


def _steps_and_costs() -> tuple[list[int], list[int]]:
    """Return the bytes and the cost of each value that its first byte tells all of; 0 bytes for others."""
    steps, costs = [1] * 256, [_POINTER] * 256
    for entries in range(16):
        costs[0x80 + entries] += _DICT + entries * _ENTRY if entries else _LIST
        costs[0x90 + entries] += _LIST
    for length in range(32):
        steps[0xA0 + length] += length
        costs[0xA0 + length] += _STR + length * _CHARACTER
        costs[0xE0 + length] += 32
    for first, length in {
        0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    }.items():  # fmt: skip
        steps[first] += length
        costs[first] += 40
    for first in (*_LENGTHS, *_FIXED_EXTENSIONS):
        steps[first] = 0
    return steps, costs


_STEPS, _COSTS = _steps_and_costs()


PART = 1000
"""Values between two pauses of `weigh_slowly`: a fifth of a millisecond."""

EXTENSION_VALUES: Final = 10
"""Values that an extension counts as there: Python puts it together, in five microseconds."""


def weigh(data: bytes, limit: int) -> int:
    """Return how many bytes of memory the values in `data` take when they are decoded, at most.

    Args:
        data: Packed values that `look_through` has let pass.
        limit: Bytes; more is not counted any further.

    Raises:
        ValueError: If an extension does not hold whole values.
    """
    weighing = weigh_slowly(data, limit)
    while True:
        try:
            next(weighing)
        except StopIteration as done:
            return int(done.value)


def weigh_slowly(data: bytes, limit: int) -> Generator[None, None, int]:
    """Do the same in parts of `PART` values each, so that others may be served in between."""
    position, end, ends, cost, left = 0, len(data), list[int](), 0, PART
    while cost <= limit:
        left -= 1
        if left <= 0:
            yield
            left += PART
        while position >= end:
            if position > end:
                raise ValueError("an extension ends in the middle of a value")
            if not ends:
                return cost
            end = ends.pop()
        first = data[position]
        step = _STEPS[first]
        cost += _COSTS[first]
        if step:
            position += step
            continue
        if (length := _FIXED_EXTENSIONS.get(first, 0)) != 0 and position + 2 <= end:
            header = 2
        elif first in _LENGTHS and position + _LENGTHS[first].size <= end:
            (length,), header = _LENGTHS[first].unpack_from(data, position), _LENGTHS[first].size
        else:
            raise ValueError("an extension ends in the middle of a value")
        position += header
        match first:
            case 0xDC | 0xDD:
                cost += _LIST
            case 0xDE | 0xDF:
                cost += _DICT + length * _ENTRY
            case 0xC4 | 0xC5 | 0xC6:
                cost += _BYTES + length
                position += length
            case 0xD9 | 0xDA | 0xDB:
                cost += _STR + length * _CHARACTER
                position += length
            case _:
                # Its payload is copied; a set that has just grown has eight places for each element.
                is_set = data[position - 1] in _SETS
                cost += _EXTENSION + length + (length * _PLACES if is_set else 0)
                ends.append(end)
                end = position + length
                left -= EXTENSION_VALUES - 1
                if end > ends[-1]:
                    raise ValueError("an extension ends in the middle of a value")
    return cost
