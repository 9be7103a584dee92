"""The codec's own rules: types kept, buffers apart, refusals that name the place, hostile bytes."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import pathlib
import pickle
import random
import socket
import subprocess
import sys
import threading
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import msgpack
import msgspec
import numpy as np
import pydantic
import pytest

from ringcast.actors.naming import wire_name
from ringcast.errors import CodecError
from ringcast.runtime import codec as codec_module
from ringcast.runtime.codec import MAX_DEPTH, OUT_OF_BAND, Codec
from ringcast.runtime.extensions import Code

ROOT = pathlib.Path(__file__).resolve().parents[3]


packb: Any = cast("Any", msgpack).packb


class FakeRef:
    """Stands for a reference."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FakeRef) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> str:
        raise TypeError("a ref goes through the codec")


class FakeTypedRef(FakeRef):
    pass


class FakeActor:
    pass


def make_codec(allow_pickle: bool = False) -> Codec:
    return Codec(
        allow_pickle=allow_pickle,
        ref_type=FakeRef,
        ref_to_wire=lambda ref: [ref.name],
        ref_from_wire=lambda parts: FakeRef(*parts),
        actor_type=FakeActor,
    )


@pytest.fixture
def codec() -> Codec:
    return make_codec()


@pytest.fixture
def pickling() -> Codec:
    return make_codec(allow_pickle=True)


class Color(enum.Enum):
    RED = (1, 2)
    CRIMSON = RED
    BLUE = "blue"


class Word(enum.StrEnum):
    HELLO = "hello"


class Level(enum.IntEnum):
    LOW = 1


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Point(NamedTuple):
    x: int
    y: object = 0


class NamedPoint(Point):
    """Has a `__dict__`, unlike its base."""


@dataclasses.dataclass
class Item:
    name: str
    tags: tuple[str, ...] = ()
    counts: dict[Any, Any] = dataclasses.field(default_factory=dict[Any, Any])
    doubled: str = dataclasses.field(init=False)
    seed: dataclasses.InitVar[int] = 1

    def __post_init__(self, seed: int) -> None:
        self.doubled = self.name * 2 * seed

    @functools.cached_property
    def cached(self) -> str:
        return self.name.upper()


@dataclasses.dataclass(frozen=True)
class Base:
    a: int


@dataclasses.dataclass(frozen=True)
class Derived(Base):
    b: list[int]


@dataclasses.dataclass(slots=True)
class Slotted:
    x: int
    y: int = 2
    z: list[int] = dataclasses.field(default_factory=list[int])
    late: int = dataclasses.field(init=False)


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotted:
    x: object


@dataclasses.dataclass
class Reduced:
    x: int

    def __reduce__(self) -> tuple[Any, ...]:
        return Reduced, (self.x,)


@dataclasses.dataclass
class Dictlike(dict[str, int]):
    x: int = 1


@dataclasses.dataclass
class Holder:
    file: Any


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")

    name: str
    when: datetime.datetime | None = None
    _secret: int = pydantic.PrivateAttr(default=0)


class Struct(msgspec.Struct, frozen=True):
    name: str
    items: tuple[int, ...] = ()


class MyStr(str):
    pass


def same(left: Any, right: Any) -> bool:
    """Say whether two values are equal, with their types, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, float) and left != left:
        return bool(right != right)
    return bool(left == right)


VALUES: list[Any] = [
    None,
    True,
    -(2**63),
    2**64 - 1,
    2**64,
    -(2**200),
    1.5,
    float("nan"),
    "text \u20ac",
    "lone \ud800 surrogate",
    ["a", "\udfff", {"\ud800": ("\ud801",)}],
    b"bytes",
    bytearray(b"array"),
    memoryview(b"view"),
    memoryview(bytearray(b"view")),
    [b"a", bytearray(b"b"), {"c": memoryview(b"d")}],
    (),
    (1, (2, [3, (4,)]), {"a": (5,)}),
    {(1, 2): "tuple key", 3: 4, None: 5, b"k": 6, frozenset({1}): 7, 1.5: 8, True: 9},
    {1, "a", (2,)},
    frozenset({1}),
    1 + 2j,
    range(1, 10, 2),
    slice(None, 5, None),
    datetime.date(2024, 2, 29),
    datetime.time(1, 2, 3, 4, fold=1),
    datetime.time(1, tzinfo=datetime.UTC),
    datetime.datetime(2024, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2024, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=-3), "BRT")),
    datetime.timedelta(days=-1, microseconds=5),
    datetime.timezone(datetime.timedelta(minutes=90)),
    zoneinfo.ZoneInfo("Europe/Berlin"),
    uuid.UUID(int=5),
    decimal.Decimal("-1.50"),
    pathlib.Path("a/b"),
    pathlib.PurePosixPath("/x"),
    pathlib.PureWindowsPath("c:\\x"),
    Color.RED,
    Word.HELLO,
    Level.LOW,
    Right.READ | Right.WRITE,
    Point(1, (2,)),
    Item("a", ("b", "c"), {(1,): {2}}),
    Derived(1, [2]),
    FrozenSlotted((1, 2)),
    Model(name="m", when=datetime.datetime(2024, 1, 1), more=[1, 2]),  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Struct("s", (1, 2)),
    FakeRef("me"),
    np.float64(1.5),
    np.datetime64("2024-01-01"),
    np.str_("text"),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: f"{type(value).__name__}-{value!r:.20}")
def test_values_return_as_what_they_were(codec: Codec, value: Any) -> None:
    assert same(codec.unpack(codec.pack(value)), value)
    assert same(codec.unpack(codec.pack([value, (value,)])), [value, (value,)])
    assert same(codec.copy([value]), [value])
    head, apart = codec.pack_parts([value])
    assert same(codec.unpack_parts(head, apart), [value])


def test_fold_and_zone_survive(codec: Codec) -> None:
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    autumn = datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zone)
    back = codec.unpack(codec.pack(autumn))
    assert (back.fold, back.tzinfo, back.utcoffset()) == (1, zone, autumn.utcoffset())


def test_signed_zero_and_decimal_nan_survive(codec: Codec) -> None:
    assert str(codec.unpack(codec.pack(-0.0))) == "-0.0"
    assert codec.unpack(codec.pack(decimal.Decimal("sNaN123"))).is_snan()


def test_a_dataclass_is_rebuilt_without_its_constructor(codec: Codec) -> None:
    item = Item("a")
    item.doubled = "changed since"
    assert item.cached == "A"
    back = codec.unpack(codec.pack(item))
    assert back.doubled == "changed since"
    assert vars(back) == vars(item)


def test_attributes_of_a_named_tuple_subclass_survive(codec: Codec) -> None:
    point = NamedPoint(1, 2)
    point.note = "extra"  # type: ignore[attr-defined]
    back: Any = codec.unpack(codec.pack(point))
    assert isinstance(back, NamedPoint)
    assert (back, vars(back)) == ((1, 2), {"note": "extra"})


def test_private_attributes_and_set_fields_of_a_model_survive(codec: Codec) -> None:
    model = Model(name="m")
    model._secret = 7
    back = codec.unpack(codec.pack(model))
    assert back._secret == 7
    assert back.model_fields_set == {"name"}


def test_an_empty_slot_stays_empty(codec: Codec) -> None:
    back = codec.unpack(codec.pack(Slotted(1, z=[3])))
    assert back.z == [3]
    assert not hasattr(back, "late")


def test_subclasses_of_refs_travel_as_refs(codec: Codec) -> None:
    assert codec.unpack(codec.pack((FakeTypedRef("x"),))) == (FakeRef("x"),)


def extension(code: Code, parts: object) -> bytes:
    codec = make_codec()
    return bytes(packb(msgpack.ExtType(code, codec.pack(parts))))


def test_a_field_that_the_sender_did_not_have_takes_its_default(codec: Codec) -> None:
    back = codec.unpack(extension(Code.DATACLASS, [wire_name(Slotted), {"x": 1}]))
    assert (back.x, back.y, back.z) == (1, 2, [])
    state: dict[str, Any] = Model(name="n").__getstate__()
    del state["__dict__"]["when"]
    assert codec.unpack(extension(Code.MODEL, [wire_name(Model), state])) == Model(name="n")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (extension(Code.DATACLASS, [wire_name(Slotted), {}]), "'x'.*no default"),
        (extension(Code.DATACLASS, [wire_name(Slotted), {"x": 1, "w": 1}]), "no field 'w'"),
        (extension(Code.DATACLASS, [wire_name(Color), {}]), "no dataclass"),
        (extension(Code.DATACLASS, ["nowhere:Thing", {}]), "'nowhere:Thing'.*import its module"),
        (extension(Code.ENUM, [wire_name(Item), "RED"]), "no Enum"),
        (extension(Code.CLASS, wire_name(Color)), "came as an actor class, and is none"),
        (extension(Code.CLASS, b"no pickle"), "does not allow pickle"),
        (extension(Code.ENUM, [wire_name(Color), "GREEN"]), "malformed.*GREEN"),
        (extension(Code.NAMEDTUPLE, [wire_name(Point), [[1], None]]), "no named tuple of 1"),
        (extension(Code.NAMEDTUPLE, [wire_name(Item), [[1], None]]), "no named tuple"),
        (extension(Code.MODEL, [wire_name(Item), {}]), "no pydantic model"),
        (extension(Code.MODEL, [wire_name(Model), {"__dict__": {}}]), "'name'.*no default"),
        (extension(Code.STRUCT, [wire_name(Item), {}]), "no msgspec Struct"),
        (extension(Code.EXCEPTION, [wire_name(Item), [[], {}]]), "no exception"),
        (extension(Code.ZONE, "Nowhere/Land"), "tzdata"),
        (extension(Code.NDARRAY, ["|O", [1], False, b"12345678"]), "Python objects"),
        (extension(Code.NDARRAY, ["<i8", [1000], False, b"1"]), "malformed"),
        (extension(Code.PICKLE, pickle.dumps(1)), "not allow pickle"),
        (extension(Code.APART, 0), "buffer 0"),
        (extension(Code.BYTES_APART, 3), "buffer 3"),
        (extension(Code.SET, [[1]]), r"extension 2 \(set\).*unhashable"),
        (b"\xd4\x7f\x00", "127 .unknown"),
        (b"", "no packed value"),
        (b"\xc1", "no packed value"),
        (b"\x01\x02", "no packed value"),
        (b"\xa2\xff\xff", "no packed value"),
        (b"\x81\x90\x01", "unhashable"),
        (b"\xdd\xff\xff\xff\xff", "no packed value"),
    ],
)
def test_what_cannot_be_decoded_is_a_codec_error(codec: Codec, data: bytes, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        codec.unpack(data)
    assert codec.failure is None
    assert codec.unpack(codec.pack((1, 2))) == (1, 2)


def nested(levels: int) -> bytes:
    data = b"\x01"
    for _ in range(levels):
        data = packb(msgpack.ExtType(Code.TUPLE, b"\x91" + data))
    return data


def test_depth_is_limited_at_the_receiver(codec: Codec) -> None:
    assert codec.unpack(nested(MAX_DEPTH)) is not None
    with pytest.raises(CodecError, match="nested too deeply"):
        codec.unpack(nested(5000))


def test_a_deep_extension_holds_one_object(codec: Codec) -> None:
    data = b"\x90\x90"
    for _ in range(12):
        data = packb(msgpack.ExtType(Code.TUPLE, data))
        data = b"\x91" + data
    with pytest.raises(CodecError, match="more than one object"):
        codec.unpack(data)


def test_mutated_bytes_are_never_anything_but_a_codec_error(codec: Codec) -> None:
    rng = random.Random(7)
    packs = [codec.pack([value, {"k": value}]) for value in VALUES] + [codec.pack(np.zeros((2, 3)))]
    decoded = 0
    for round in range(6000):
        data = bytearray(packs[round % len(packs)])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            codec.unpack(bytes(data))
            decoded += 1
        except CodecError:
            assert codec.failure is None
    assert decoded > 100


def test_a_stream_survives_a_value_that_cannot_be_decoded(codec: Codec) -> None:
    unpacker = codec.unpacker(1 << 16)
    unknown = msgpack.ExtType(Code.ENUM, packb(["nowhere:Color", "RED"]))
    unpacker.feed(packb([1, (unknown, unknown)]) + codec.pack([2, (3,)]))
    frames = iter(unpacker)
    assert next(frames) == [1, [None, None]]
    failure = codec.take_failure()
    assert failure is not None
    assert "nowhere:Color" in str(failure)
    assert codec.take_failure() is None
    assert next(frames) == [2, (3,)]
    assert codec.failure is None


def test_a_hook_that_failed_does_not_hide_behind_a_broken_frame(codec: Codec) -> None:
    unknown = packb(msgpack.ExtType(Code.ENUM, packb(["nowhere:Color", "RED"])))
    with pytest.raises(CodecError, match="nowhere"):
        codec.unpack(b"\x92" + unknown)


# Buffers


def address(value: Any) -> int:
    return int(np.frombuffer(value, np.uint8).__array_interface__["data"][0])


def test_large_buffers_travel_apart_without_a_copy(codec: Codec) -> None:
    data, array, raw = b"b" * OUT_OF_BAND, np.arange(OUT_OF_BAND, dtype=np.int64), bytearray(OUT_OF_BAND)
    view = memoryview(array.view(np.uint8).data)
    frame = [1, data, {"k": [data]}, (array, raw), Holder(view), b"small"]
    head, apart = codec.pack_parts(frame)
    assert len(head) < 1000
    assert [part.obj for part in apart[:2]] == [data, data]
    # By address, because a view's owner is not always the object that it was made of.
    assert [address(part) for part in apart[2:]] == [address(raw), address(array), address(view)]
    received: list[Any] = [data, data, bytearray(apart[2]), bytearray(apart[3]), bytes(apart[4])]
    back = codec.unpack_parts(head, received)
    assert back[1] is data
    assert back[2]["k"][0] is data
    assert address(back[3][0]) == address(received[3])
    assert back[3][0].flags.writeable
    np.testing.assert_array_equal(back[3][0], array)
    assert back[3][1] is received[2]
    assert back[4].file == view
    assert address(back[4].file) == address(received[4])
    assert back[4].file.readonly
    assert back[5] == b"small"


def test_buffers_that_are_other_than_they_were_are_converted(codec: Codec) -> None:
    data, raw, array = b"b" * OUT_OF_BAND, bytearray(b"r" * OUT_OF_BAND), np.zeros(OUT_OF_BAND, np.uint8)
    frozen = memoryview(data)
    head, apart = codec.pack_parts([data, raw, array, frozen])
    everything = bytearray().join(apart)
    parts = [memoryview(everything)[i * OUT_OF_BAND : (i + 1) * OUT_OF_BAND] for i in range(4)]
    back = codec.unpack_parts(head, parts)
    assert same(back[:2], [data, raw])
    assert back[2].flags.writeable
    assert back[3].readonly
    back = codec.unpack_parts(head, [bytes(part) for part in apart])
    assert same(back[:2], [data, raw])
    assert not back[2].flags.writeable


def test_small_frames_have_no_parts(codec: Codec) -> None:
    for frame in ([1, "x", {"a": b"1"}, (2,), [b"3"], 4j], {"not": "a list"}, [np.zeros(3)]):
        _, apart = codec.pack_parts(frame)
        assert apart == []


def test_parts_are_found_deep_inside_too(codec: Codec) -> None:
    frame = [1, [[[b"b" * OUT_OF_BAND]]], "\ud800"]
    head, apart = codec.pack_parts(frame)
    assert len(apart) == 1
    assert same(codec.unpack_parts(head, apart), frame)


def test_a_refusal_while_buffers_are_apart_names_the_place(codec: Codec) -> None:
    with pytest.raises(CodecError) as caught:
        codec.pack_parts([b"b" * OUT_OF_BAND, [threading.Lock()]])
    assert caught.value.path == "frame[1][0]"
    assert codec.pack_parts([b"b" * OUT_OF_BAND])[1]
    assert codec.pack(b"b" * OUT_OF_BAND)[0] == 0xC6


@pytest.mark.parametrize(
    "array",
    [
        np.array(5),
        np.zeros((0, 3)),
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.arange(20).reshape(4, 5)[::2, ::-1],
        np.array(["2024-01-01", "NaT"], "M8[D]"),
        np.array([(1, 2.5)], np.dtype([("a", "i4"), ("b", "f8")], align=True)),
        np.array(["ab", "c"]),
        np.array([1 + 2j, 3], ">c8"),
        np.array(["", ""], "S0"),
        np.ones(OUT_OF_BAND)[::2],
    ],
)
def test_arrays_keep_shape_order_and_type(codec: Codec, array: Any) -> None:
    head, apart = codec.pack_parts([array])
    for back in (codec.unpack(codec.pack(array)), codec.unpack_parts(head, [bytearray(p) for p in apart])[0]):
        assert type(back) is np.ndarray
        assert back.dtype == array.dtype
        assert back.shape == array.shape
        assert back.flags.f_contiguous or not array.flags.f_contiguous
        assert back.flags.writeable
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    "view",
    [
        np.arange(6, dtype=np.int32).reshape(2, 3).data,
        np.arange(6, dtype=np.int32).data,
        memoryview(b"abcdef")[::2],
        memoryview(b"abcd").cast("I", []),
    ],
)
def test_views_keep_format_and_shape(codec: Codec, view: memoryview) -> None:
    back = codec.unpack(codec.pack([view]))[0]
    assert (back.format, back.shape, back.tolist()) == (view.format, view.shape, view.tolist())
    assert back.readonly == view.readonly


def test_numpy_is_asked_for_only_when_its_values_come(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    data = codec.pack(np.zeros(2))
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(CodecError, match="numpy is not installed"):
        codec.unpack(data)


def test_nothing_is_imported_for_nothing() -> None:
    script = (
        "import sys, ringcast.runtime.codec as c\n"
        "codec = c.Codec(allow_pickle=True, ref_type=c.Codec, ref_to_wire=list, ref_from_wire=list)\n"
        "assert codec.unpack(codec.pack([(1, 2), {3}])) == [(1, 2), {3}]\n"
        "print([m for m in ('numpy', 'pydantic', 'msgspec', 'cloudpickle') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert done.stdout.strip() == "[]"


# Isolation


def test_copy_shares_what_is_immutable_and_nothing_else(codec: Codec) -> None:
    ref, data = FakeRef("r"), b"b" * OUT_OF_BAND
    for value in (1, "a", b"b", None, uuid.UUID(int=1), ref, (1, "a")):
        assert codec.copy(value) is value
    inner: list[Any] = [1]
    copied: Any = codec.copy((inner, ref, {"a": data}, {"b": inner}, bytearray(OUT_OF_BAND)))
    assert copied[0] == inner
    assert copied[0] is not inner
    assert copied[1] is ref
    assert copied[2]["a"] is data
    assert copied[3]["b"] is not inner
    array = np.zeros(OUT_OF_BAND)
    own: Any = codec.copy([array, [data]])
    own[0][0] = 1
    assert array[0] == 0
    assert own[1][0] is data


def test_what_cannot_travel_is_not_copied_either(codec: Codec) -> None:
    with pytest.raises(CodecError) as caught:
        codec.copy((1, {"file": threading.Lock()}))
    assert caught.value.path == "value[1]['file']"
    deep: Any = 1
    for _ in range(20_000):
        deep = (deep, [])
    with pytest.raises(CodecError, match="nested"):
        codec.copy(deep)


# Refusals


def generator() -> Iterator[int]:
    yield 1


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __hash__(self) -> int:
        return 1


def noted_point() -> NamedPoint:
    point = NamedPoint(1)
    vars(point)["note"] = threading.Lock()
    return point


class Solar(datetime.tzinfo):
    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return datetime.timedelta(0)

    def dst(self, dt: datetime.datetime | None) -> None:
        return None

    def tzname(self, dt: datetime.datetime | None) -> str:
        return "sun"


REFUSED: list[tuple[Any, str, str]] = [
    ([{"file": Holder(threading.Lock())}], "args[0]['file'].file", "lock"),
    ([(1, {threading.Lock()})], "args[0][1]<element <unlocked", "lock"),
    ([{len: 1}], "args[0]<key <built-in", "builtin_function"),
    ([{"a": Point(1, generator())}], "args[0]['a'].y", "generator"),
    ([lambda: 1], "args[0]", "function"),
    ([sys.stderr], "args[0]", "cannot travel without pickle"),
    ([FakeActor()], "args[0]", "self.context.me"),
    ([Struct(threading.Lock())], "args[0].name", "lock"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ([Model(name="x", lock=threading.Lock())], "args[0].lock", "lock"),  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ([ValueError(threading.Lock())], "args[0].args[0]", "lock"),
    ([Unprintable()], "args[0]", "Unprintable"),
    ([{Unprintable(): 1}], "args[0]<key <Unprintable instance", "Unprintable"),
    ([MyStr("x")], "args[0]", "MyStr"),
    ([collections.OrderedDict()], "args[0]", "OrderedDict"),
    ([Reduced(1)], "args[0]", "Reduced"),
    ([Dictlike()], "args[0]", "Dictlike"),
    ([np.array([object()])], "args[0]", "Python objects"),
    ([noted_point()], "args[0].note", "lock"),
    ([Item("x", counts={"a": threading.Lock()})], "args[0].counts['a']", "lock"),
    ([datetime.datetime(2024, 1, 1, tzinfo=Solar())], "args[0]", "Solar"),
    ([int], "args[0]", "type"),
    ([Slotted], "args[0]", "type"),
]


@pytest.mark.parametrize(("value", "path", "says"), REFUSED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_travel_is_named_with_its_place(codec: Codec, value: Any, path: str, says: str) -> None:
    with pytest.raises(CodecError) as refused:
        codec.pack([1, value])
    assert refused.value.path is not None
    assert refused.value.path.startswith("frame[1][0]")
    error = codec.explain(value, "args")
    assert error.path is not None
    assert error.path.startswith(path)
    assert says in str(error)
    assert codec.unpack(codec.pack([(1,), {2}])) == [(1,), {2}]


def test_a_socket_and_a_missing_slot_are_named_too(codec: Codec) -> None:
    with socket.socket() as sock:
        error = codec.explain([Slotted(1, sock)], "args")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert error.path == "args[0].y"


def test_explaining_a_value_that_can_travel_says_so(codec: Codec) -> None:
    assert "changed while" in str(codec.explain([1], "args"))


def test_a_zone_without_a_key_is_refused(codec: Codec) -> None:
    path = next(p for p in map(pathlib.Path, zoneinfo.TZPATH) if (p / "UTC").exists())
    with (path / "UTC").open("rb") as file:
        zone = zoneinfo.ZoneInfo.from_file(file)
    with pytest.raises(CodecError, match="without a key"):
        codec.pack([zone])


def test_memory_that_is_gone_is_refused(codec: Codec) -> None:
    view = memoryview(b"abc")
    view.release()
    with pytest.raises(CodecError, match="released") as caught:
        codec.pack([view])
    assert caught.value.path == "frame[0]"


def test_without_numpy_nothing_is_an_array(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "numpy")
    with pytest.raises(CodecError, match="without pickle"):
        codec.pack(np.zeros(2))


def cycle() -> list[Any]:
    around: list[Any] = []
    around.append((around,))
    return around


def towers() -> Iterator[Any]:
    wraps: list[tuple[Callable[[Any, int], Any], list[int]]] = [
        (lambda value, _: [value], [1100, 30_000]),
        (lambda value, _: (value,), [200, 30_000]),
        (lambda value, level: (value,) if level % 1000 == 0 else [value], [30_000]),
        (lambda value, level: {"k": value} if level % 2 else Holder(value), [400, 30_000]),
    ]
    for wrap, heights in wraps:
        for height in heights:
            value: Any = 1
            for level in range(height):
                value = wrap(value, level)
            yield value


@pytest.mark.parametrize("allow_pickle", [False, True])
def test_cycles_and_towers_are_refused(allow_pickle: bool) -> None:
    codec = make_codec(allow_pickle)
    error = codec.explain(cycle(), "args")
    assert error.path == "args[0][0]"
    assert "contains itself" in str(error)
    for tower in towers():
        with pytest.raises(CodecError, match="nested too deeply") as caught:
            codec.pack([tower])
        assert caught.value.path == "frame"
    assert codec.unpack(codec.pack((1,))) == (1,)


def test_values_nested_within_the_limits_travel(codec: Codec) -> None:
    value: Any = [[1, 2]]
    for level in range(90):
        value = (value,) if level % 2 else Holder(value)
    assert codec.unpack(codec.pack(value)) == value


# Pickle


def test_unknown_types_are_pickled_where_that_is_allowed(pickling: Codec) -> None:
    values: list[Any] = [
        MyStr("x"),
        collections.OrderedDict(a=1),
        collections.deque([1], 5),
        Reduced(1),
        int,
        Ellipsis,
    ]
    back = pickling.unpack(pickling.pack(values))
    assert same(back, values)
    assert pickling.unpack(pickling.pack(lambda: 41))() == 41
    big = collections.deque([b"x" * OUT_OF_BAND])
    head, apart = pickling.pack_parts([big])
    assert len(apart) == 1
    assert pickling.unpack_parts(head, apart) == [big]


def test_types_of_a_function_travel_by_value_only_with_pickle(codec: Codec, pickling: Codec) -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    class LocalError(Exception):
        pass

    assert pickling.unpack(pickling.pack(Local(1))) == Local(1)
    for value in (Local(1), LocalError()):
        with pytest.raises(CodecError, match="without pickle"):
            codec.pack(value)


def test_types_that_their_name_does_not_find_are_unknown(codec: Codec) -> None:
    hidden = dataclasses.make_dataclass("Hidden", ["x"])
    hidden.__module__ = __name__
    broken = type("Broken", (Exception,), {"__module__": __name__})
    for value in (hidden(1), broken()):
        with pytest.raises(CodecError, match="without pickle"):
            codec.pack(value)


def test_refs_inside_pickles_are_bound_at_the_receiver(pickling: Codec) -> None:
    back = pickling.unpack(pickling.pack(collections.deque([FakeRef("r")])))
    assert back == collections.deque([FakeRef("r")])


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (collections.deque([threading.Lock()]), "cannot be pickled"),
        (collections.deque([FakeActor()]), "self.context.me"),
        (collections.deque([io.FileIO(0, closefd=False)]), "open file"),
        (generator(), "generator"),
    ],
)
def test_what_pickle_must_not_take_is_refused(pickling: Codec, value: Any, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        pickling.pack([value])


def test_memory_files_may_be_pickled(pickling: Codec) -> None:
    assert pickling.unpack(pickling.pack(io.BytesIO(b"x"))).getvalue() == b"x"


def test_a_pickle_that_does_not_load_is_a_codec_error(pickling: Codec) -> None:
    for data in (b"\x80\x04garbage", b"cnowhere\nThing\n."):
        with pytest.raises(CodecError, match="does not load"):
            pickling.unpack(extension(Code.PICKLE, data))
    # A persistent id of a class that no module here has.
    data = b"(Vclass\nVnowhere:Thing\ntQ."
    with pytest.raises(CodecError, match="nowhere:Thing"):
        pickling.unpack(extension(Code.PICKLE, data))


def test_modules_are_imported_for_a_peer_only_where_it_may_pickle(
    codec: Codec, pickling: Codec, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far_colors.py").write_text("import enum\nclass Color(enum.Enum):\n    RED = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    data = extension(Code.ENUM, ["far_colors:Color", "RED"])
    with pytest.raises(CodecError, match="far_colors"):
        codec.unpack(data)
    assert "far_colors" not in sys.modules
    assert pickling.unpack(data).name == "RED"
    monkeypatch.delitem(sys.modules, "far_colors")


def test_packers_do_not_keep_huge_buffers(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_module, "_KEPT", 1000)
    value = [bytes(2000), (bytes(2000),)]
    for _ in range(2):
        assert codec.unpack(codec.pack(value)) == value


def test_a_key_that_cannot_be_printed_is_named_by_its_type(codec: Codec) -> None:
    key = type("tuple", (), {})()  # reprlib goes by the name of the type, and asks for its length
    assert "<key <tuple>>" in str(codec.explain({key: 1}, "args"))


def test_a_class_of_an_importable_script_is_pickled_by_its_name(
    pickling: Codec, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "codec_script.py"
    script.write_text(
        "import collections, sys, ringcast.runtime.codec as c\n"
        "class Thing:\n"
        "    def __init__(self):\n"
        "        self.x = 1\n"
        "if __name__ == '__main__':\n"
        "    codec = c.Codec(allow_pickle=True, ref_type=c.Codec, ref_to_wire=list, ref_from_wire=list)\n"
        "    sys.stdout.write(codec.pack([Thing(), Thing]).hex())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sent = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(ROOT)},
        timeout=60,
    ).stdout
    thing, cls = pickling.unpack(bytes.fromhex(sent))
    assert cls is sys.modules["codec_script"].Thing
    assert type(thing) is cls
    assert thing.x == 1
    monkeypatch.delitem(sys.modules, "codec_script")


def test_a_class_of_this_script_is_pickled_by_its_name(
    pickling: Codec, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "codec_main.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    main: Any = types.ModuleType("__main__")
    main.__file__ = str(tmp_path / "codec_main.py")
    main.Thing = type("Thing", (), {"__module__": "__main__"})
    monkeypatch.setitem(sys.modules, "__main__", main)
    data = pickling.pack([main.Thing()])
    assert b"codec_main:Thing" in data
    assert type(pickling.unpack(data)[0]) is main.Thing
