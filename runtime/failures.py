"""Exceptions on the wire: they come back as themselves, or as a `RemoteError`.

An exception has two ways to travel. As a *value* (an argument, an element of a result) it must
arrive as itself, or the codec says why it cannot. As a *failure*, what a handler raised, it must
arrive in any case: what cannot be rebuilt at the caller becomes a `RemoteError` with the type's
name, the message and the traceback.

Constructors of exceptions take what they like, and `args` is often not what they took. So an
exception is not rebuilt by calling its class, as pickle does: the built-in class that it derives
from makes it from `args`, and its attributes are put back. Only a class that defines
``__reduce__`` has said itself how it wants to be called.

An exception that steers the interpreter or a task (`CancelledError`, `KeyboardInterrupt`,
`SystemExit`, `StopIteration`, …) meant something where it was raised, and would do harm where
it arrives: as a failure it always comes as a `RemoteError`.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import MAYBE_EXECUTED, CallError, Certainty, CodecError, RemoteError, RingcastError, StoreError

from ..actors.naming import find_class, travels_by_value, wire_name
from .extensions import Code, TakeApart

if TYPE_CHECKING:
    from .codec import Codec

_STEERING = (
    asyncio.CancelledError,
    GeneratorExit,
    KeyboardInterrupt,
    StopAsyncIteration,
    StopIteration,
    SystemExit,
)

_KINDS = {"certainty": Certainty, **dict.fromkeys(("actor", "method", "node", "place"), str | None)}
"""The fields of a `CallError`; without one of them it could not even be printed."""

_REMOTE = "Remote traceback, from node "

_FIELDS: dict[str, Any] = {"certainty": MAYBE_EXECUTED, **dict.fromkeys(("actor", "method", "node", "place"))}


def error_to_wire(error: BaseException, node: str, codec: Codec) -> list[object]:
    """Return a failure for the wire; it can be packed whatever the exception holds.

    Args:
        error: What the handler raised.
        node: The id of this node, for whoever reads the traceback.
        codec: Packs the exception itself, as bytes of their own: what another node cannot
            rebuild then does no harm to the frame around it.
    """
    body: bytes | None = None
    if not steers(error):
        with contextlib.suppress(CodecError):
            body = codec.pack(error)
    cls = type(error)
    return [f"{cls.__module__}:{cls.__qualname__}", _text(error), _traceback(error, node), body]


def error_from_wire(wire: list[Any], codec: Codec) -> BaseException:
    """Return the exception to raise at the caller.

    Its remote traceback is a note and the attribute `remote_traceback`. A failure that
    is malformed itself comes out as a `RemoteError` too: somebody waits for an exception.
    """
    try:
        type_name, message, remote, body = wire
    except ValueError:
        return RemoteError("unknown", f"the failure itself came malformed: {wire!r:.200}", "")
    error: object = None
    if body is not None:
        with contextlib.suppress(CodecError):
            error = codec.unpack(body)
    if not isinstance(error, BaseException) or steers(error):
        error = RemoteError(str(type_name), str(message), str(remote))
    return _noted(error, str(remote))


def steers(error: BaseException) -> bool:
    """Say whether raising `error` would steer the caller's task or process, not report a failure."""
    return isinstance(error, _STEERING) or (
        isinstance(error, BaseExceptionGroup) and not isinstance(error, ExceptionGroup)
    )


def take_apart_error(cls: type, has_tracebacks: bool = True) -> TakeApart | None:
    """Return how exceptions of `cls` are taken apart; None if it is none, or is not found by name.

    With `has_tracebacks` False they leave out what other nodes have told of their code (see `_noted`).
    """
    if not issubclass(cls, BaseException) or travels_by_value(cls):
        return None
    name = wire_name(cls)
    if find_class(name) is not cls:
        return None
    return Code.EXCEPTION, lambda error: [name, _content(error) if has_tracebacks else _untraced(_content(error))]


def put_together_error(cls: type, content: Any) -> BaseException:
    """Return the exception of a class that was found by its name."""
    if not issubclass(cls, BaseException):
        raise CodecError(f"{cls!r} is no exception here")
    args: list[Any]
    attributes: dict[str, Any]
    args, attributes = content
    if type(args) is not list or type(attributes) is not dict:
        raise CodecError("an exception came of something else than its arguments and attributes")
    if issubclass(cls, CallError):
        attributes = {**_FIELDS, **attributes}
        if not all(isinstance(attributes[name], kind) for name, kind in _KINDS.items()):
            raise CodecError("an error of ringcast came with fields that are none of its own")
    if issubclass(cls, StoreError) and not isinstance(attributes.setdefault("certainty", MAYBE_EXECUTED), Certainty):
        raise CodecError("an error of a store came with a certainty that is none")
    if issubclass(cls, RingcastError):
        return cls.rebuilt(str(args[0]), attributes)
    if _names_its_arguments(cls):
        error = cls(*args)
    else:
        built_in = next(base for base in cls.__mro__ if base.__module__ == "builtins")
        error = cast("BaseException", cast("Any", built_in.__new__)(cls, *args))
        cast("Any", built_in).__init__(error, *args)
    for name, value in attributes.items():
        object.__setattr__(error, name, value)  # the class's own may refuse, as a frozen dataclass's does
    return error


def _content(error: BaseException) -> list[object]:
    make, args, *state = cast("tuple[Any, ...]", error.__reduce__())
    if isinstance(error, RingcastError):
        _, what, fields = args
        return [[what], fields]
    if make is not type(error):
        raise CodecError(f"{type(error).__qualname__} is pickled as something else: {make!r}")
    attributes: dict[str, object] = dict(state[0] or {}) if state else {}
    if "__notes__" in vars(error):  # also where the class's own `__reduce__` leaves them out
        attributes["__notes__"] = vars(error)["__notes__"]
    return [list(args), attributes]


def _untraced(content: list[object]) -> list[object]:
    what, attributes = cast("tuple[object, dict[str, object]]", content)
    kept = {name: value for name, value in attributes.items() if name != "remote_traceback"}
    if isinstance(notes := kept.get("__notes__"), list):
        kept["__notes__"] = [note for note in cast("list[object]", notes) if not str(note).startswith(_REMOTE)]
    return [what, kept]


def _names_its_arguments(cls: type[BaseException]) -> bool:
    """Say whether a class outside of Python itself defines ``__reduce__``."""
    definer = next(base for base in cls.__mro__ if "__reduce__" in vars(base))
    return definer.__module__ != "builtins"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failed:
        return f"<its __str__ raised {type(failed).__name__}>"


def _traceback(error: BaseException, node: str) -> str:
    if isinstance(error, CallError) and not (error.__traceback__ or error.__cause__ or error.__context__):
        # Not raised, but made to be sent: a node that is asked too much makes many, and printing takes the most of it.
        return f"{_REMOTE}{node}:\n{type(error).__module__}.{type(error).__qualname__}: {_text(error)}\n"
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as failed:
        text = f"<its traceback cannot be printed: {type(failed).__name__}>\n"
    return f"{_REMOTE}{node}:\n{text}"


def _noted(error: BaseException, remote: str) -> BaseException:
    # By `__dict__`, where notes live, because the class's own `__setattr__` may refuse.
    attributes = vars(error)
    attributes["remote_traceback"] = remote
    notes = attributes.get("__notes__")
    attributes["__notes__"] = [*(notes if isinstance(notes, list) else ()), remote]
    return error
