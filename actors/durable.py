"""`DurableActor`: an actor whose state outlives it.

A message to a durable actor is a transaction. When the handler returns, the state is saved, if it changed,
and then the reply is sent; when it raises, the state is what it was at the last save. What the handler told,
spawned and timed leaves after the save, so nobody hears of a turn that never was. Asks leave at once: their
answers are needed. They are not undone.

What a class says of its state is checked when the class is made: which type it is (``DurableActor[Balance]``),
that it can begin (``Balance()``, or `initial_state`), and that no handler shares a turn: a transaction that is
open in two turns at once could neither be saved nor undone alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin

from .actor import Actor, forget_class
from .messages import options_of

__all__ = ["DurableActor"]

S = TypeVar("S")
_STATE: Any = S
_PLAIN = ("initial_state", "migrate")


class DurableActor(Actor, Generic[S]):
    """Subclass it with the type of its state: ``class Account(DurableActor[Balance], name="bank.Account")``.

    The state is a dataclass, a pydantic model, a msgspec Struct, or anything made of plain values. Other attributes
    are neither saved nor restored. Give the class a ``name=``: its rows are found by it, and the default changes
    with the module's name.

    Attributes:
        state: The state, there before ``__init__`` runs. Change it in place, or set another one.
        schema: The version of the state's form. Raise it when stored states have to be changed by `migrate`.
    """

    state: S
    schema: ClassVar[int] = 1
    __is_durable__ = True
    __state_type__: ClassVar[Any] = None
    __state_parameter__: ClassVar[Any] = _STATE

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Check what the class says of its state."""
        super().__init_subclass__(**keywords)
        _find_state_type(cls)
        _check(cls)

    def initial_state(self) -> S:
        """Return the state of an actor that has none stored: by default the state's type, called without arguments."""
        return cast("S", type(self).__state_type__())

    def migrate(self, old: Any, schema: int) -> Any:
        """Change a stored state of an older form; called when its `schema` is lower than the class's.

        Args:
            old: The fields of a record, by name, as a dict; any other state as it was.
            schema: The version of its form.

        Returns:
            The state, or for a record the dict of its fields: missing ones get their defaults.
        """
        return old


forget_class(DurableActor)  # it is a base of actors, and no actor that a node could host


def _find_state_type(cls: type[DurableActor[Any]]) -> None:
    for base in cast("tuple[Any, ...]", vars(cls).get("__orig_bases__", ())):
        origin: Any = get_origin(base)
        if not (isinstance(origin, type) and issubclass(origin, DurableActor)):
            continue
        parameters: tuple[Any, ...] = cast("Any", origin).__parameters__
        if origin.__state_parameter__ in parameters:
            found = get_args(base)[parameters.index(origin.__state_parameter__)]
            if isinstance(found, TypeVar):
                cls.__state_parameter__ = found
            else:
                cls.__state_type__ = found
                cls.__state_parameter__ = None
        return


def _check(cls: type[DurableActor[Any]]) -> None:
    name = cls.__qualname__
    for attribute in _PLAIN:
        if inspect.iscoroutinefunction(function := getattr(cls, attribute)) or not callable(function):
            raise TypeError(f"{name}.{attribute} is a plain method: `def {attribute}(self, …)`")
    if isinstance(cls.schema, bool) or not isinstance(cls.schema, int) or not 0 < cls.schema < 1 << 31:
        raise TypeError(f"{name}.schema = {cls.schema!r}: it takes a whole number, at least 1")
    for base in cls.__mro__:
        if base in (DurableActor, Actor, Generic, object):
            continue
        for attribute, value in vars(base).items():
            if not attribute.startswith("_") and inspect.isroutine(value):
                _check_handler(f"{name}.{attribute}", value)
    kind = cls.__state_type__
    if kind is None and cls.__state_parameter__ is _STATE and Generic not in cls.__bases__:
        raise TypeError(f"class {name}: say what its state is, such as DurableActor[Balance]")
    if isinstance(kind, str) or type(kind).__name__ == "ForwardRef":
        raise TypeError(f"class {name}: its state's type is named by a string; define the type first, and give itself")
    if (
        kind is not None
        and cast("Any", cls).initial_state is cast("Any", DurableActor).initial_state
        and not _begins(kind)
    ):
        shown = getattr(kind, "__qualname__", kind)
        raise TypeError(
            f"class {name}: {shown} cannot be made without arguments, so say how it begins: "
            f"`def initial_state(self) -> {shown}`"
        )


def _check_handler(where: str, function: Callable[..., Any]) -> None:
    options = options_of(function)
    if options.reentrant:
        raise TypeError(
            f"{where} is reentrant, and a turn of a durable actor is a transaction, which nothing may enter: "
            f"leave out reentrant=True, or make the handler read_only"
        )
    if inspect.isasyncgenfunction(function) and not options.read_only:
        raise TypeError(
            f"{where} streams, and would hold its transaction open for as long as its reader likes: "
            f"mark it @handler(read_only=True), or return a list"
        )


def _begins(kind: Any) -> bool:
    """Say whether a state can be made without arguments."""
    if not callable(kind):
        return False
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):  # of many a built-in type nobody knows; they can
        return True
    return all(
        parameter.default is not parameter.empty or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters
    )
