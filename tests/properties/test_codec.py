"""Any value of the supported types comes back as what it was, by every way through the codec."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

import dataclasses
import datetime
import enum
import pathlib
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringcast.errors import CodecError
from ringcast.runtime.codec import Codec


class Kind(enum.Enum):
    ONE = 1
    TWO = "two"


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclasses.dataclass
class Box:
    content: Any
    more: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Tag:
    name: Any


def make_codec() -> Codec:
    return Codec(allow_pickle=False, ref_type=Codec, ref_to_wire=lambda ref: [], ref_from_wire=lambda parts: None)


zones = st.none() | st.just(datetime.UTC) | st.timezones()
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(st.characters(), max_size=20),  # lone surrogates too
    st.binary(max_size=20),
    st.dates(),
    st.times(timezones=st.none() | st.just(datetime.UTC)),
    st.datetimes(timezones=zones),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.sampled_from(Kind),
    st.sampled_from(["a", "../b", "/c/d"]).map(pathlib.Path),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9)),
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Tag, inner)
        | st.builds(Pair, inner, inner)
    ),
    max_leaves=5,
)
values: st.SearchStrategy[Any] = st.recursive(
    hashables | st.just(float("nan")) | st.binary().map(bytearray) | st.binary().map(lambda data: memoryview(data)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.sets(hashables, max_size=4),
        st.builds(Box, inner, st.tuples(inner)),
        st.builds(Pair, inner, inner),
    ),
    max_leaves=15,
)


def same(left: Any, right: Any) -> bool:
    if type(left) is not type(right):
        return False
    if isinstance(left, Box):
        return same(vars(left), vars(right))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, float | complex):
        return repr(left) == repr(right)
    if isinstance(left, datetime.datetime | datetime.time):
        return same(left.tzinfo, right.tzinfo) and (left.replace(tzinfo=None), left.fold) == (
            right.replace(tzinfo=None),
            right.fold,
        )
    return bool(left == right)


relaxed = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(values)
def test_every_way_keeps_type_and_value(value: Any) -> None:
    codec = make_codec()
    assert same(codec.unpack(codec.pack(value)), value)
    assert same(codec.copy(value), value)
    head, apart = codec.pack_parts([value])
    assert same(codec.unpack_parts(head, apart), [value])
    unpacker = codec.unpacker()
    for _ in range(2):
        unpacker.feed(codec.pack([value]))
    for frame in unpacker:
        assert codec.failure is None
        assert same(frame, [value])


@relaxed
@given(values, st.data())
def test_a_refused_value_is_found_and_spoils_nothing(value: Any, data: st.DataObject) -> None:
    codec = make_codec()
    depth = data.draw(st.integers(0, 4))
    bad: Any = object()
    path = "args"
    for _ in range(depth):
        how = data.draw(st.sampled_from(["list", "tuple", "dict", "box", "pair"]))
        if how == "list":
            bad, step = [value, bad], "[1]"
        elif how == "tuple":
            bad, step = (bad, value), "[0]"
        elif how == "dict":
            bad, step = {"k": bad}, "['k']"
        elif how == "box":
            bad, step = Box(bad), ".content"
        else:
            bad, step = Pair(value, bad), ".right"
        path = path[:4] + step + path[4:]
    error = codec.explain(bad, "args")
    assert error.path == path
    assert same(codec.unpack(codec.pack(value)), value)


@relaxed
@given(st.binary(max_size=200))
def test_hostile_bytes_raise_codec_errors_only(data: bytes) -> None:
    codec = make_codec()
    try:
        codec.unpack(data)
    except CodecError:
        assert codec.failure is None
    try:
        codec.unpack_parts(data, [b"x"])
    except CodecError:
        assert codec.failure is None
