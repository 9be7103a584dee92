"""The extension types of the wire: how values that msgpack does not know are taken apart.

msgpack itself carries None, bool, int up to 64 bits, float, str, bytes, list and dict. Any
other value travels as an extension: a code from the table `Code`, and as its payload one
packed object, the value's *parts*. Taking apart is one step deep: the parts may hold further
values of any kind, which the codec takes apart in turn. So each kind of value needs two small
functions and nothing else, and no value can lose its type because of what it contains.

Here are the values that need no more than themselves. Values of classes that are looked up by
name are in `records`, raw memory is in `buffers`, exceptions in `failures`.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import re
import uuid
import zoneinfo
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, cast

from ringcast.errors import CodecError

TakeApart = tuple[int, Callable[[Any], object]]
"""A code, and the function that gives a value's parts."""


class Code(enum.IntEnum):
    """The code of each extension; a part of the protocol: codes are added, never changed."""

    TUPLE = 1
    SET = 2
    FROZENSET = 3
    BIG_INT = 4
    COMPLEX = 5
    TEXT = 6
    """A str with lone surrogates, which UTF-8 proper cannot express."""
    DATE = 7
    TIME = 8
    DATETIME = 9
    TIMEDELTA = 10
    TIMEZONE = 11
    ZONE = 12
    UUID = 13
    DECIMAL = 14
    RANGE = 15
    SLICE = 16
    PATH = 17

    ENUM = 32
    DATACLASS = 33
    NAMEDTUPLE = 34
    MODEL = 35
    """A pydantic model."""
    STRUCT = 36
    """A msgspec Struct."""
    EXCEPTION = 37

    BYTEARRAY = 48
    MEMORYVIEW = 49
    NDARRAY = 50
    SCALAR = 51
    """A numpy scalar."""
    APART = 52
    """Memory that travels beside the frame, by its number; only inside the four above."""
    BYTES_APART = 53
    """The same for a bytes object."""

    REF = 64
    PICKLE = 65


INT_BYTES_MAX = 65536
"""Bytes of the largest int: arithmetic on larger ones stops the loop."""

EXPONENT_MAX = 999_999
"""The largest exponent of a Decimal, which is that of Python's default context."""

_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")

_PATHS = {
    "Path": pathlib.Path,
    "PurePosixPath": pathlib.PurePosixPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}


def _zone_key(zone: zoneinfo.ZoneInfo) -> str:
    if zone.key is None:  # pyright: ignore[reportUnnecessaryComparison]  (true of from_file without a key)
        raise CodecError("a ZoneInfo without a key cannot travel; make it with ZoneInfo(key)")
    return zone.key


def _zone(key: str) -> zoneinfo.ZoneInfo:
    if _ZONE_KEY.fullmatch(key) is None:  # with dots it could name a module to zoneinfo, which imports tzdata's
        raise CodecError(f"{key!r:.100} is no time zone's key")
    try:
        return zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError:
        raise CodecError(f"no time zone {key!r} on this node: install the tzdata package there") from None


def _big_int_parts(value: int) -> bytes:
    if value.bit_length() > INT_BYTES_MAX * 8 - 8:
        raise CodecError(
            f"an int of {value.bit_length()} bits cannot travel, at most {INT_BYTES_MAX * 8 - 8}: send bytes"
        )
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


def _big_int(parts: bytes) -> int:
    if len(parts) > INT_BYTES_MAX:
        raise CodecError(f"an int of {len(parts)} bytes came, at most {INT_BYTES_MAX} may")
    return int.from_bytes(parts, "little", signed=True)


def _checked_decimal(value: decimal.Decimal) -> decimal.Decimal:
    """Return a number that arithmetic can be done with: `int` of a huge one takes all memory that there is."""
    if value.is_finite() and value and abs(value.adjusted()) > EXPONENT_MAX:
        raise CodecError(f"a Decimal of exponent {value.adjusted()} cannot travel, at most {EXPONENT_MAX}")
    return value


def _time_parts(t: datetime.time) -> list[object]:
    return [t.hour, t.minute, t.second, t.microsecond, t.fold, t.tzinfo]


def _time(parts: list[Any]) -> datetime.time:
    hour, minute, second, microsecond, fold, zone = parts
    return datetime.time(hour, minute, second, microsecond, zone, fold=fold)


def _datetime_parts(t: datetime.datetime) -> list[object]:
    return [t.year, t.month, t.day, t.hour, t.minute, t.second, t.microsecond, t.fold, t.tzinfo]


def _datetime(parts: list[Any]) -> datetime.datetime:
    year, month, day, hour, minute, second, microsecond, fold, zone = parts
    return datetime.datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _timezone_parts(zone: datetime.timezone) -> object:
    return list(cast("Any", zone).__getinitargs__())  # the offset, and the name if it was given one


def _pure_path_parts(path: pathlib.PurePath) -> list[str]:
    return [type(path).__name__, str(path)]


OF_TYPE: MappingProxyType[type, TakeApart] = MappingProxyType(
    {
        tuple: (Code.TUPLE, list),
        set: (Code.SET, list),
        frozenset: (Code.FROZENSET, list),
        int: (Code.BIG_INT, _big_int_parts),
        complex: (Code.COMPLEX, lambda v: [v.real, v.imag]),
        str: (Code.TEXT, lambda v: v.encode("utf-8", "surrogatepass")),
        datetime.date: (Code.DATE, datetime.date.toordinal),
        datetime.time: (Code.TIME, _time_parts),
        datetime.datetime: (Code.DATETIME, _datetime_parts),
        datetime.timedelta: (Code.TIMEDELTA, lambda v: [v.days, v.seconds, v.microseconds]),
        datetime.timezone: (Code.TIMEZONE, _timezone_parts),
        zoneinfo.ZoneInfo: (Code.ZONE, _zone_key),
        uuid.UUID: (Code.UUID, lambda v: v.bytes),
        decimal.Decimal: (Code.DECIMAL, lambda v: str(_checked_decimal(v))),
        range: (Code.RANGE, lambda v: [v.start, v.stop, v.step]),
        slice: (Code.SLICE, lambda v: [v.start, v.stop, v.step]),
        type(pathlib.Path()): (Code.PATH, lambda v: ["Path", str(v)]),
        pathlib.PurePosixPath: (Code.PATH, _pure_path_parts),
        pathlib.PureWindowsPath: (Code.PATH, _pure_path_parts),
    }
)
"""How values of exactly these types are taken apart. int and str: those that msgpack refuses."""

PUT_TOGETHER: MappingProxyType[int, Callable[[Any], object]] = MappingProxyType(
    {
        Code.TUPLE: tuple,
        Code.SET: set,
        Code.FROZENSET: frozenset,
        Code.BIG_INT: _big_int,
        Code.COMPLEX: lambda parts: complex(*parts),
        Code.TEXT: lambda parts: parts.decode("utf-8", "surrogatepass"),
        Code.DATE: datetime.date.fromordinal,
        Code.TIME: _time,
        Code.DATETIME: _datetime,
        Code.TIMEDELTA: lambda parts: datetime.timedelta(*parts),
        Code.TIMEZONE: lambda parts: datetime.timezone(*parts),
        Code.ZONE: _zone,
        Code.UUID: lambda parts: uuid.UUID(bytes=parts),
        Code.DECIMAL: lambda parts: _checked_decimal(decimal.Decimal(parts)),
        Code.RANGE: lambda parts: range(*parts),
        Code.SLICE: lambda parts: slice(*parts),
        Code.PATH: lambda parts: _PATHS[parts[0]](parts[1]),
    }
)
"""The way back, by code. The functions raise whatever malformed parts make them raise."""

_LIST, _BYTES, _STR, _INT = frozenset({list}), frozenset({bytes}), frozenset({str}), frozenset({int})

PARTS: MappingProxyType[int, frozenset[type]] = MappingProxyType(
    {
        **dict.fromkeys(Code, _LIST),
        **dict.fromkeys((Code.BIG_INT, Code.TEXT, Code.UUID, Code.PICKLE), _BYTES),
        **dict.fromkeys((Code.ZONE, Code.DECIMAL), _STR),
        **dict.fromkeys((Code.DATE, Code.APART, Code.BYTES_APART), _INT),
        Code.BYTEARRAY: frozenset({bytes, memoryview}),
    }
)
"""Of what each value is put together. Nothing else will do: a tuple of a range, say, or a bytearray of a
number, would take as much memory as the range or the number says."""
