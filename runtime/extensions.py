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
    CLASS = 66
    """A class, such as an actor's in its props."""


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
    try:
        return zoneinfo.ZoneInfo(key)
    except zoneinfo.ZoneInfoNotFoundError:
        raise CodecError(f"no time zone {key!r} on this node: install the tzdata package there") from None


def _big_int_parts(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)


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
        decimal.Decimal: (Code.DECIMAL, str),
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
        Code.BIG_INT: lambda parts: int.from_bytes(parts, "little", signed=True),
        Code.COMPLEX: lambda parts: complex(*parts),
        Code.TEXT: lambda parts: parts.decode("utf-8", "surrogatepass"),
        Code.DATE: datetime.date.fromordinal,
        Code.TIME: _time,
        Code.DATETIME: _datetime,
        Code.TIMEDELTA: lambda parts: datetime.timedelta(*parts),
        Code.TIMEZONE: lambda parts: datetime.timezone(*parts),
        Code.ZONE: _zone,
        Code.UUID: lambda parts: uuid.UUID(bytes=parts),
        Code.DECIMAL: decimal.Decimal,
        Code.RANGE: lambda parts: range(*parts),
        Code.SLICE: lambda parts: slice(*parts),
        Code.PATH: lambda parts: _PATHS[parts[0]](parts[1]),
    }
)
"""The way back, by code. The functions raise whatever malformed parts make them raise."""
