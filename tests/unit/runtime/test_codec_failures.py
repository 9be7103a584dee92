"""Exceptions over the wire: as themselves if that can be, else as a RemoteError, always as something."""

# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false, reportAttributeAccessIssue=false

import asyncio
import dataclasses
import threading
import traceback
from typing import Any

import pytest

from ringcast.errors import CallError, CallTimeout, Certainty, CodecError, RemoteError, RingcastError
from ringcast.runtime.codec import Codec
from ringcast.runtime.failures import error_from_wire, error_to_wire


@pytest.fixture
def codec() -> Codec:
    return Codec(allow_pickle=False, ref_type=Codec, ref_to_wire=lambda ref: [], ref_from_wire=lambda parts: None)


class Plain(Exception):
    pass


class Odd(Exception):
    def __init__(self, a: int, *, b: int) -> None:
        super().__init__(f"{a} and {b}")
        self.a = a


class OddOs(OSError):
    def __init__(self, name: str) -> None:
        super().__init__(5, "broken", name)
        self.name = name


class OddNew(ValueError):
    def __new__(cls, a: int, b: int) -> "OddNew":
        return super().__new__(cls, a + b)

    def __init__(self, a: int, b: int) -> None:
        super().__init__(a + b)


class SaysHow(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a}/{b}")
        self.pair = (a, b)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.pair


class SaysOther(Exception):
    def __reduce__(self) -> tuple[Any, ...]:
        return ValueError, ("other",)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Busy(CallError):
    pass


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def over_the_wire(error: BaseException, codec: Codec) -> BaseException:
    wire = codec.unpack(codec.pack(error_to_wire(error, "node-7", codec)))
    return error_from_wire(wire, codec)


@pytest.mark.parametrize(
    "error",
    [
        Plain("text", (1, 2)),
        Plain(),
        Odd(1, b=2),
        OddOs("file"),
        OddNew(1, 2),
        KeyError(("tuple", "key")),
        FileNotFoundError(2, "no such file", "a", None, "b"),
        BlockingIOError(11, "busy"),
        OSError("only text"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SyntaxError("bad", ("file.py", 1, 2, "text")),
        ImportError("no", name="mod", path="p"),
        TimeoutError(),
    ],
    ids=repr,
)
def test_an_exception_arrives_as_itself(codec: Codec, error: BaseException) -> None:
    error.extra = [1, (2,)]  # type: ignore[attr-defined]
    backs: list[Any] = [over_the_wire(raised(error), codec), codec.unpack(codec.pack([error]))[0]]
    for back in backs:
        assert type(back) is type(error)
        assert back.args == error.args
        assert str(back) == str(error)
        assert vars(back)["extra"] == [1, (2,)]
        for name in (
            "errno",
            "strerror",
            "filename",
            "filename2",
            "name",
            "path",
            "a",
            "pair",
            "lineno",
            "start",
        ):
            assert getattr(back, name, None) == getattr(error, name, None)


def test_an_exception_that_says_how_it_is_called_is_called_so(codec: Codec) -> None:
    error = SaysHow(1, 2)
    error.add_note("note")
    back: Any = over_the_wire(raised(error), codec)
    assert type(back) is SaysHow
    assert (str(back), back.pair, back.__notes__[0]) == ("1/2", (1, 2), "note")


def test_the_remote_traceback_is_attached(codec: Codec) -> None:
    error = Plain("text")
    error.add_note("my note")
    try:
        try:
            raise ValueError("the cause")
        except ValueError as cause:
            raise error from cause
    except Plain as caught:
        back: Any = over_the_wire(caught, codec)
    assert back.__notes__[0] == "my note"
    assert back.__notes__[1] == back.remote_traceback
    for text in ("node-7", "the cause", "test_codec_failures.py", "direct cause"):
        assert text in back.remote_traceback
    assert back.remote_traceback in "".join(traceback.format_exception(back))
    again: Any = over_the_wire(raised(back), codec)
    assert len(again.__notes__) == 3


def test_a_frozen_exception_arrives_too(codec: Codec) -> None:
    back: Any = over_the_wire(Frozen(3), codec)
    assert isinstance(back, Frozen)
    assert back.code == 3
    assert "node-7" in vars(back)["remote_traceback"]


def test_our_own_errors_keep_their_fields(codec: Codec) -> None:
    error = CallTimeout(
        "too late", certainty=Certainty.EXECUTED, actor="a", method="m", node="n", place="queued behind x"
    )
    error.add_note("note")
    back = over_the_wire(raised(error), codec)
    assert type(back) is CallTimeout
    assert str(back) == str(error)
    assert back.certainty is Certainty.EXECUTED
    assert (back.actor, back.method, back.node, back.place) == ("a", "m", "n", "queued behind x")
    assert back.__notes__[0] == "note"
    assert type(over_the_wire(Busy("full"), codec)) is Busy
    assert over_the_wire(CodecError("no", "args[0]"), codec).path == "args[0]"  # type: ignore[attr-defined]


def test_a_remote_error_stays_one(codec: Codec) -> None:
    back = over_the_wire(raised(RemoteError("m:T", "text", "tb")), codec)
    assert isinstance(back, RemoteError)
    assert (back.type_name, back.message) == ("m:T", "text")


def test_groups_arrive_with_their_members(codec: Codec) -> None:
    back = over_the_wire(raised(ExceptionGroup("g", [ValueError(1), ExceptionGroup("h", [Odd(1, b=2)])])), codec)
    assert isinstance(back, ExceptionGroup)
    assert back.message == "g"
    assert type(back.exceptions[0]) is ValueError
    inner = back.exceptions[1]
    assert isinstance(inner, ExceptionGroup)
    assert type(inner.exceptions[0]) is Odd


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt("k"),
        SystemExit("k"),
        GeneratorExit("k"),
        asyncio.CancelledError("k"),
        StopIteration("k"),
        StopAsyncIteration("k"),
        BaseExceptionGroup("k", [KeyboardInterrupt()]),
        Plain(threading.Lock()),
        SaysOther(),
        type("Local", (Exception,), {})("k"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_must_not_or_cannot_arrive_is_a_remote_error(codec: Codec, error: BaseException) -> None:
    back = over_the_wire(raised(error), codec)
    assert type(back) is RemoteError
    assert back.type_name == f"{type(error).__module__}:{type(error).__qualname__}"
    assert back.message == str(error)
    assert "node-7" in back.remote_traceback
    assert type(error).__name__ in back.remote_traceback


def test_a_failure_that_steers_is_refused_at_the_receiver_too(codec: Codec) -> None:
    back = error_from_wire(["m:T", "text", "tb", codec.pack(SystemExit(1))], codec)
    assert type(back) is RemoteError


def test_an_exception_that_cannot_print_itself_still_arrives(codec: Codec) -> None:
    wire = error_to_wire(raised(Unprintable()), "n", codec)
    assert "RuntimeError" in str(wire[1])
    assert type(over_the_wire(raised(Unprintable()), codec)) is Unprintable


def test_an_exception_whose_traceback_cannot_be_printed_still_arrives(
    codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(error: BaseException) -> list[str]:
        raise RuntimeError("no")

    monkeypatch.setattr(traceback, "format_exception", broken)
    back: Any = over_the_wire(Plain("x"), codec)
    assert type(back) is Plain
    assert "cannot be printed: RuntimeError" in vars(back)["remote_traceback"]


@pytest.mark.parametrize("wire", [[], ["a", "b"], ["m:T", "x", "tb", b"\xc1"], ["m:T", "x", "tb", b"\x01"]])
def test_a_malformed_failure_is_a_remote_error(codec: Codec, wire: list[Any]) -> None:
    assert type(error_from_wire(wire, codec)) is RemoteError


def test_notes_that_are_no_list_are_replaced(codec: Codec) -> None:
    error = Plain("x")
    error.__notes__ = "odd"  # type: ignore[assignment]
    back = over_the_wire(error, codec)
    assert len(back.__notes__) == 1


def test_every_ringcast_error_travels(codec: Codec) -> None:
    def below(cls: type[RingcastError]) -> list[type[RingcastError]]:
        return [cls, *(deeper for sub in cls.__subclasses__() for deeper in below(sub))]

    for cls in below(RingcastError):
        if cls.__module__ == "ringcast.errors":
            back = over_the_wire(cls.rebuilt("what", {"field": (1,)}), codec)
            assert type(back) is cls
            assert back.args == ("what",)
            assert vars(back)["field"] == (1,)
