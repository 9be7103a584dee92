"""Bytes that claim much, or become much, or make much work: what is built of them is bounded."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false

from __future__ import annotations

import datetime
import decimal
import enum
import gc
import sys
import tracemalloc
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest

from ringcast import Actor, NodeConfig
from ringcast.actors.naming import find_class, wire_name
from ringcast.discovery.packed import EXPANSION, LEVELS, SMALL, look_through
from ringcast.errors import CallError, CodecError
from ringcast.runtime.allowance import Bounds, client_bounds
from ringcast.runtime.codec import MEMBERS, Codec
from ringcast.runtime.extensions import INT_BYTES_MAX, Code
from ringcast.runtime.records import COMBINATIONS_MAX
from ringcast.runtime.weigh import weigh

packb: Any = msgpack.packb
DECODER = 40 * 1024  # bytes of msgpack's own stack, which each Unpacker has
CLIENTS = client_bounds(NodeConfig())


def make_codec(bounds: Bounds = MEMBERS) -> Codec:
    return Codec(
        allow_pickle=False, ref_type=Codec, ref_to_wire=lambda ref: [], ref_from_wire=lambda parts: None, bounds=bounds
    )


def ext(code: int, parts: object) -> bytes:
    return bytes(packb(msgpack.ExtType(code, make_codec().pack(parts))))


def many(count: int, unit: bytes) -> bytes:
    return b"\xdd" + count.to_bytes(4, "big") + unit * count


def taken(build: Any) -> int:
    """Return the most memory that was taken while something was built or refused; what others take only adds."""
    peaks: list[int] = []
    for _ in range(2):
        gc.collect()
        tracemalloc.start()
        try:
            result = build()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        del result
    return min(peaks)


def refused(codec: Codec, data: bytes, says: str) -> None:
    with pytest.raises(CodecError, match=says):
        codec.unpack(data)


# ---- claims ----------------------------------------------------------------------------------------

HUGE = b"\xdd\x00\xf0\x00\x00"  # a list of 15 million
CLAIMS = {
    "one list": HUGE,
    "lists in lists": HUGE * 1000,
    "lists of 65535": b"\xdc\xff\xff" * 1000,
    "a dict": b"\xdf\x7f\xff\xff\xff" * 500,
    "bytes": b"\xc6\x7f\xff\xff\xff",
    "a text": b"\xdb\x7f\xff\xff\xff",
    "an extension": b"\xc9\x7f\xff\xff\xff\x01",
    "in an extension": packb(msgpack.ExtType(Code.TUPLE, HUGE * 1000)),
    "in extensions": packb([msgpack.ExtType(Code.TUPLE, packb(msgpack.ExtType(Code.SET, HUGE * 1000)))]),
    "after much": packb([0] * 5000) + HUGE * 1000,
    "a bytearray of a number": ext(Code.BYTEARRAY, 1 << 34),
    "a tuple of a range": ext(Code.TUPLE, range(1 << 30)),
    "a set of a range": ext(Code.SET, range(1 << 30)),
    "a complex of a range": ext(Code.COMPLEX, range(1 << 30)),
    "an error of a range": ext(Code.EXCEPTION, ["builtins:OSError", [range(1 << 30), {}]]),
    "an array": ext(Code.NDARRAY, ["<f8", [1 << 30], False, b"12345678"]),
    "an array of nothing": ext(Code.NDARRAY, ["|V0", [1 << 60], False, b""]),
    "a scalar": ext(Code.SCALAR, ["|S1073741824", b"1"]),
    "a view": ext(Code.MEMORYVIEW, ["B", [1 << 20, 1 << 20], True, b"1"]),
}


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("bounds", [MEMBERS, CLIENTS], ids=["member", "client"])
def test_a_claim_allocates_nothing(claim: str, bounds: Bounds) -> None:
    codec = make_codec(bounds)
    data = CLAIMS[claim]
    refused(codec, data, ".")  # what is imported and cached once is there now

    def build() -> None:
        refused(codec, data, ".")

    assert taken(build) < 2 * DECODER + 65536 + 12 * len(data)


def test_small_claims_take_little_too() -> None:
    codec = make_codec()
    assert taken(lambda: refused(codec, b"\xdc\x03\xff" * (SMALL // 3), ".")) < 4 << 20


WORST = {
    "empty lists": many(100_000, b"\x90"),
    "empty dicts": many(100_000, b"\x80"),
    "dicts of one": many(100_000, b"\x81\x00\x00"),
    "dicts of six": many(20_000, packb(dict.fromkeys(range(6), 0))),
    "a dict": packb(dict.fromkeys(range(87400), 0)),
    "negative numbers": many(100_000, b"\xe0"),
    "short texts": many(100_000, b"\xa2ab"),
    "wide texts": many(20_000, packb("a" * 27 + "\U0001f600")),
    "wide text": packb("a" * 100_000 + "\U0001f600"),
    "empty sets": many(100_000, packb(msgpack.ExtType(Code.SET, b"\x90"))),
    "sets of five": many(50_000, ext(Code.SET, [0, 1, 2, 3, 4])),
    "a set": ext(Code.SET, list(range(78_700))),
    "frozen sets": many(100_000, ext(Code.FROZENSET, [1])),
    "views": many(20_000, ext(Code.MEMORYVIEW, ["B", [0], False, b""])),
    "arrays": many(5_000, ext(Code.NDARRAY, [[["a", "|u1"]], [0], False, b""])),
    "paths": many(10_000, ext(Code.PATH, ["Path", "a/b/c/d/e/f"])),
    "decimals": many(20_000, ext(Code.DECIMAL, "1")),
    "errors": many(10_000, ext(Code.EXCEPTION, ["builtins:OSError", [[], {"a": 1}]])),
}


@pytest.mark.parametrize("what", WORST)
def test_what_is_built_is_bounded_by_a_factor(what: str) -> None:
    codec, data = make_codec(), WORST[what]
    codec.unpack(data)
    peak = taken(lambda: codec.unpack(data))
    assert peak < EXPANSION * len(data) + 65536
    assert peak < weigh(data, 1 << 40) + len(data) + 65536


def test_extensions_in_extensions_do_not_copy_a_message_over_and_over() -> None:
    codec = make_codec()
    inner = packb(list(range(200_000)))
    data = inner
    for _ in range(40):
        data = packb(msgpack.ExtType(Code.TUPLE, b"\x91" + data))

    def build() -> None:
        refused(codec, data, "nested too deeply")

    assert taken(build) < 12 * len(inner)
    for _ in range(4):
        inner = packb(msgpack.ExtType(Code.TUPLE, b"\x91" + inner))
    assert codec.unpack(inner)[0][0][0][0][-1] == 199_999


# ---- looking through -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "depth", "says"),
    [
        (b"\x91" * 10 + b"\0", 10, 1),
        (b"\x91" * 11 + b"\0", 10, "more than 10 levels"),
        (b"\x91\x81\x00\x91\x00", 3, 1),
        (b"\x91\x81\x00\x91\x00", 2, "more than 2 levels"),
        (b"\0\x90\0", 1, 3),
        (b"\0\x90\0", 0, "more than 0 levels"),
        (b"\0\0", 0, 2),
        (b"", LEVELS, 0),
        (b"\x91" * LEVELS + b"\0", LEVELS, 1),
        (b"\x91" * (LEVELS + 1) + b"\0", LEVELS, "no msgpack"),
        (b"\0\xc1", LEVELS, "no msgpack"),
        (b"\0\x92\0", LEVELS, "middle of a value"),
        (b"\0\xa2a", LEVELS, "middle of a value"),
        (b"\xc7\xff\x01\x90", LEVELS, "middle of a value"),
    ],
)
def test_bytes_are_looked_through(data: bytes, depth: int, says: int | str) -> None:
    if isinstance(says, int):
        assert look_through(data, depth) == says
        assert look_through(memoryview(data), depth) == says
    else:
        with pytest.raises(ValueError, match=says):
            look_through(data, depth)


def test_a_clients_depth_is_limited_at_each_level() -> None:
    client = make_codec(CLIENTS)
    deep = b"\x91" * CLIENTS.levels + b"\0"
    assert client.unpack(deep)
    refused(client, b"\x91" + deep, "levels")
    refused(client, packb(msgpack.ExtType(Code.TUPLE, deep)), "levels")
    tower = b"\0"
    for _ in range(CLIENTS.levels + 1):
        tower = packb(msgpack.ExtType(Code.TUPLE, b"\x91" + tower))
    refused(client, tower, "levels|nested")
    assert make_codec().unpack(packb(msgpack.ExtType(Code.TUPLE, deep)))


# ---- weighing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", WORST)
def test_a_clients_message_may_become_so_much(what: str) -> None:
    data = WORST[what]
    small = Bounds(decoded_bytes=len(data))
    refused(make_codec(small), data, "client_decoded_bytes")

    def build() -> None:
        refused(make_codec(small), data, "client_decoded_bytes")

    assert taken(build) < 3 * len(data) + 65536
    enough = Bounds(decoded_bytes=weigh(data, 1 << 40))
    assert make_codec(enough).unpack(data) is not None


def test_weighing_ends_at_its_limit() -> None:
    assert 1000 < weigh(b"\x90" * (1 << 20), 1000) < 1200


@pytest.mark.parametrize(
    "payload",
    [b"\xc6\xff\xff\xff\xff", b"\xdd\xff", b"\xc7\x20\x01", b"\xa5a", b"\xcd\x00"],
    ids=bytes.hex,
)
def test_an_extension_hides_nothing_behind_it_from_being_weighed(payload: bytes) -> None:
    data = packb([msgpack.ExtType(Code.TUPLE, payload)])[:-1] + payload[-1:] + b"\x90" * 2000
    with pytest.raises(ValueError, match="middle of a value"):
        weigh(data, 1 << 40)


def test_random_values_weigh_at_least_what_they_take() -> None:
    codec = make_codec()
    values: list[Any] = [
        [{"id": n, "name": f"name {n}", "tags": {"a", n}, "price": 1.5 * n} for n in range(3000)],
        [b"x" * 100, "ü" * 50, None, -700, 1 << 60] * 2000,
        {f"k{n}": (n, [n], {n: n}) for n in range(5000)},
    ]
    for value in values:
        data = codec.pack(value)
        assert taken(lambda data=data: codec.unpack(data)) < weigh(data, 1 << 40) + len(data)


# ---- work ------------------------------------------------------------------------------------------


def meeting(count: int) -> list[int]:
    """Return integers of one hash."""
    return [n * sys.hash_info.modulus for n in range(count)]


def test_keys_that_a_client_can_choose_to_meet_are_few() -> None:
    client = make_codec(CLIENTS)
    limit = CLIENTS.hashed
    assert limit is not None
    pack = make_codec().pack
    value: Any
    for value in (dict.fromkeys(range(limit), 0), {str(n): 0 for n in range(5000)}, set(map(str, range(5000)))):
        assert client.unpack(pack(value)) == value
    for value in (dict.fromkeys(meeting(limit + 1)), set(meeting(limit + 1)), frozenset(meeting(limit + 1))):
        refused(client, pack(value), "client_max_hashed")
        refused(client, pack([1, {"a": value}]), "client_max_hashed")
    assert make_codec().unpack(pack(set(meeting(limit + 1)))) == set(meeting(limit + 1))


def test_numbers_that_arithmetic_chokes_on_do_not_travel() -> None:
    codec = make_codec()
    for number in ("1E+999999999999", "-1E+1000000", "1E-1000000"):
        refused(codec, ext(Code.DECIMAL, number), "exponent")
        with pytest.raises(CodecError, match="exponent"):
            codec.pack([decimal.Decimal(number)])
    for number in ("1E+999999", "0E+5000000", "NaN", "-Infinity"):
        assert str(codec.unpack(codec.pack(decimal.Decimal(number)))) == number
    most = (1 << (INT_BYTES_MAX * 8 - 8)) - 1
    assert codec.unpack(codec.pack(most)) == most
    refused(codec, ext(Code.BIG_INT, b"\1" * (INT_BYTES_MAX + 1)), "bytes came")
    with pytest.raises(CodecError, match="bits"):
        codec.pack([1 << (INT_BYTES_MAX * 8)])


# ---- classes and modules ---------------------------------------------------------------------------


class Flags(enum.Flag, boundary=enum.KEEP):
    A = 1


@dataclass
class Record:
    a: int = 1


class Guard(Actor):
    """Makes this test's package one that has actors."""


def test_combinations_of_flags_cannot_fill_the_memory() -> None:
    codec = make_codec()
    name = wire_name(Flags)
    for n in range(COMBINATIONS_MAX + 1):
        codec.unpack(ext(Code.ENUM, [name, n]))
    refused(codec, ext(Code.ENUM, [name, COMBINATIONS_MAX + 10]), "combinations")
    assert codec.unpack(ext(Code.ENUM, [name, 1])) is Flags.A


def test_a_name_from_a_peer_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("concurrent.futures.process", "concurrent.futures.thread"):
        monkeypatch.delitem(sys.modules, part, raising=False)
    import concurrent.futures

    for part in ("ProcessPoolExecutor", "ThreadPoolExecutor"):
        monkeypatch.delitem(vars(concurrent.futures), part, raising=False)
    before = set(sys.modules)
    codec = make_codec()
    for name in (
        "concurrent.futures:ProcessPoolExecutor",
        "concurrent.futures:process.BrokenProcessPool",
        "this:Zen",
        "antigravity:fly.Away",
        "xml.sax.expatreader:ExpatParser",
    ):
        refused(codec, ext(Code.DATACLASS, [name, {}]), "not known here")
        assert find_class(name) is None
    refused(codec, ext(Code.ZONE, "a.b/c"), "no time zone's key")
    refused(codec, ext(Code.ZONE, "../etc/passwd"), "no time zone's key")
    assert set(sys.modules) - before == set()


def test_nested_and_inherited_classes_are_still_found() -> None:
    class Inner:
        pass

    Record.Inner = Inner  # type: ignore[attr-defined]
    assert find_class(f"{__name__}:Record.Inner") is Inner
    assert find_class(f"{__name__}:Record.__class__.mro") is None
    assert find_class(f"{__name__}:Record.a.real") is None
    assert find_class(f"{__name__}:pytest.nothing") is None


def test_a_client_builds_only_what_is_meant_for_actors() -> None:
    client, member = make_codec(CLIENTS), make_codec()
    own = ext(Code.DATACLASS, [wire_name(Record), {"a": 2}])
    assert client.unpack(own) == Record(2)
    assert type(client.unpack(member.pack(KeyError("k")))) is KeyError
    assert type(client.unpack(member.pack(CallError("what")))) is CallError
    for value in (NodeConfig(), json_error()):
        assert member.unpack(member.pack(value))
        refused(client, member.pack(value), "came from a client")
    refused(client, ext(Code.EXCEPTION, ["builtins:SystemExit", [[], {}]]), "came from a client")
    refused(client, ext(Code.PICKLE, b"cos\nsystem\n."), "pickle")


def json_error() -> Exception:
    import json

    return json.JSONDecodeError("bad", "doc", 0)


@pytest.mark.parametrize(
    "parts",
    [
        [wire_name(Record), {1: 2}],
        [wire_name(Record), [["a", 1]]],
        [wire_name(Record), None],
    ],
)
def test_records_have_named_fields(parts: list[Any]) -> None:
    refused(make_codec(), ext(Code.DATACLASS, parts), "names|malformed")


def test_an_error_of_ours_can_always_be_printed() -> None:
    codec = make_codec()
    back = codec.unpack(ext(Code.EXCEPTION, ["ringcast.errors:CallError", [[b"what"], {}]]))
    assert "what" in str(back)
    for fields in ({"certainty": "sure"}, {"actor": 1}, {"place": b""}):
        refused(codec, ext(Code.EXCEPTION, ["ringcast.errors:CallError", [["what"], fields]]), "none of its own")


@pytest.mark.parametrize("descr", ["O", "T", "i4,i4", "(1000000000,)f8", "float64", [["a", "|O"]], {"names": []}, 5])
def test_an_arrays_type_is_plain_memory(descr: Any) -> None:
    refused(make_codec(), ext(Code.NDARRAY, [descr, [1], False, b"12345678"]), "numpy|malformed")


def test_offsets_of_time_zones_and_dates_are_checked_by_python() -> None:
    codec = make_codec()
    refused(codec, ext(Code.TIMEZONE, [datetime.timedelta(days=2)]), "malformed")
    refused(codec, ext(Code.DATE, 1 << 40), "malformed")
    refused(codec, ext(Code.TIMEDELTA, [1e300, 0, 0]), "malformed")
