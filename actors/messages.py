"""Messages: the public ``async def`` methods of an actor class, and what `@handler` says of them.

A `Message` is made once per method and class. It is the unit that everything else counts in:
a ref offers one ask per message, a link gives each a number, a mailbox holds calls of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import field
from typing import Any, TypeVar, overload

from ringcast.values import dataclass

F = TypeVar("F", bound=Callable[..., Any])

HOOKS = frozenset({"on_start", "on_stop", "on_terminated"})
"""Methods that the runtime calls; they are not messages."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class HandlerOptions:
    """What `@handler(...)` says of one method; see `handler`."""

    timeout: float | None = None
    read_only: bool = False
    reentrant: bool = False
    cancellable: bool = False
    expose: bool | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """One message of one actor class.

    Attributes:
        class_name: The actor class's name on the wire.
        name: The method's name.
        function: The handler, unbound; None where only the name is known (the class is not here).
        streams: Whether the reply is a stream of items.
        options: What `@handler` said.
        is_exposed: Whether clients, which are no members, may send it.
        is_transaction: Whether a turn of it is a durable actor's, which is saved or undone.
        only_moves: Whether its handler does nothing but move values, and runs no code but its own; see `moves`.
        number: This process's number for the message; it stands for both names on a link.
        is_plain: Whether a turn of it needs nothing special: no stream, no limit of its own, exclusive,
            nothing to save.
        may_begin: Whether a turn of it may begin where the message comes from: a plain one, or one that is only saved.
    """

    class_name: str
    name: str
    function: Callable[..., Any] | None
    streams: bool
    options: HandlerOptions
    is_exposed: bool = False
    is_transaction: bool = False
    only_moves: bool = False
    number: int = field(default_factory=lambda: next(_numbers))
    is_plain: bool = field(init=False)
    may_begin: bool = field(init=False)

    def __post_init__(self) -> None:
        """Work out what the hot path asks."""
        options = self.options
        plain = self.function is not None and not self.streams and not options.read_only and options.timeout is None
        object.__setattr__(self, "may_begin", plain)
        object.__setattr__(self, "is_plain", plain and not self.is_transaction)


@overload
def handler(function: F, /) -> F: ...
@overload
def handler(
    *,
    timeout: float | None = None,
    read_only: bool = False,
    reentrant: bool = False,
    cancellable: bool = False,
    expose: bool | None = None,
) -> Callable[[F], F]: ...
def handler(
    function: Any = None,
    /,
    *,
    timeout: float | None = None,
    read_only: bool = False,
    reentrant: bool = False,
    cancellable: bool = False,
    expose: bool | None = None,
) -> Any:
    """Give options to a message of an actor class; the function's own type is unchanged.

    Args:
        function: The method, when used without parentheses.
        timeout: Seconds: the default limit of an ask, and how long the handler may run before
            it is cancelled.
        read_only: It changes nothing, so it may interleave with other read-only handlers, and
            is sent again when a node is lost. A read-only stream holds no turn.
        reentrant: A chain of calls that comes back to the waiting actor may enter here.
        cancellable: Cancelling the call cancels the running handler.
        expose: Whether clients, which are no members of the cluster, may call it; default is what the
            class says that defines it (``class Cart(Actor, expose=True)``), and that is False.

    Raises:
        TypeError: At once, when `timeout` is not a positive number, `expose` is no bool, or the target
            is no function.
    """
    if timeout is not None and (isinstance(timeout, bool) or not timeout > 0):
        raise TypeError(f"@handler(timeout={timeout!r}): give a positive number of seconds, or None")
    if expose not in (None, True, False):
        raise TypeError(f"@handler(expose={expose!r}): give True or False, or leave it to the class")
    options = HandlerOptions(timeout, read_only, reentrant, cancellable, expose)

    def mark(function: F) -> F:
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"@handler goes on an `async def` method of an actor class, not on {function!r}")
        function.__handler_options__ = options  # type: ignore[attr-defined]
        return function

    return mark if function is None else mark(function)


def options_of(function: Callable[..., Any]) -> HandlerOptions:
    """Return what `@handler` said of a function, or the defaults."""
    found: HandlerOptions = getattr(function, "__handler_options__", HandlerOptions())
    return found
