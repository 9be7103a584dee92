"""The tree of errors: what they say, and that they can be pickled with their fields."""

import pickle

import pytest

from ringcast import errors
from ringcast.errors import (
    MAYBE_EXECUTED,
    NOT_SENT,
    CallError,
    CallTimeout,
    CodecError,
    HandshakeRefused,
    NotAMessage,
    RemoteError,
    RingcastError,
    StaleActivation,
    StoreError,
    Unreachable,
)


def test_a_call_error_says_what_where_and_how_certain() -> None:
    error = Unreachable("nobody hosts X", certainty=NOT_SENT, actor="X['a']", place="routing")
    assert str(error) == "nobody hosts X [routing] (not sent)"
    assert str(CallError("lost")) == "lost (maybe executed)"
    assert CallError("lost").certainty is MAYBE_EXECUTED
    assert str(StoreError("away", certainty=NOT_SENT)) == "away (not sent)"
    assert StoreError("away").certainty is MAYBE_EXECUTED


@pytest.mark.parametrize(
    "error",
    [
        CallTimeout("late", certainty=NOT_SENT, actor="a", method="m", node="n", place="p"),
        RemoteError("m:T", "text", "traceback"),
        CodecError("no", "args[0]"),
        NotAMessage("x"),
        StaleActivation("old"),
        HandshakeRefused(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_pickled_with_their_fields(error: RingcastError) -> None:
    error.add_note("note")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert back.args == error.args or not error.args
    assert vars(back) == vars(error)


def test_rebuilt_takes_any_fields() -> None:
    error = RemoteError.rebuilt("what", {"type_name": "m:T"})
    assert (type(error), error.args, error.type_name) == (RemoteError, ("what",), "m:T")
    assert str(CallError.rebuilt("what", {"certainty": NOT_SENT, "place": None})) == "what (not sent)"
    assert str(CallError("")) == " (maybe executed)"


def test_the_standard_library_knows_them() -> None:
    assert issubclass(errors.CallTimeout, TimeoutError)
    assert issubclass(errors.NotAMessage, AttributeError)
