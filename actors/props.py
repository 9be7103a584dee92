"""`props`: an actor class with its constructor's arguments, checked statically, ready to travel."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, cast

from ringcast.values import dataclass

from .actor import Actor, actor_type

P = ParamSpec("P")
A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Props(Generic[A]):
    """How to make an actor: its class and the constructor's arguments."""

    cls: type[A]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def props(cls: Callable[P, A], *args: P.args, **kwargs: P.kwargs) -> Props[A]:
    """Describe an actor to spawn: ``props(Worker, "queue", retries=3)``.

    Raises:
        TypeError: If `cls` is no actor class or an abstract one, or its constructor does not take these arguments.
    """
    made = cast("type[Actor]", cls)
    actor_type(made)
    if inspect.isabstract(made):
        missing = ", ".join(sorted(getattr(made, "__abstractmethods__", ())))
        raise TypeError(f"{made.__qualname__} cannot be made: it leaves {missing} open; write a subclass that has it")
    if made.__init__ is object.__init__:
        if args or kwargs:
            raise TypeError(f"{made.__qualname__} has no constructor of its own; it takes no arguments")
    else:
        try:
            inspect.signature(made.__init__).bind(None, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"props({made.__qualname__}, …): {error}") from None
    return Props(cast("type[A]", cls), args, dict(kwargs))
