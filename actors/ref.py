"""References: small, immutable, and typed as the actor's class.

At run time a ref is an instance of a class made for its actor class, with one coroutine
method per message; there is no `__getattr__` on the way of a call. What it calls is a
`Caller`, the runtime's side of this door.

    ref.m(...)   ask       a real coroutine; sent when first awaited
    verbs.py     tell, using, submit, broadcast, watching
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, Protocol, TypeGuard, TypeVar

from ringcast.errors import ConfigError, NotAMessage

from .actor import Actor, ActorType, unknown_message
from .messages import Message
from .spawned import SPAWNED as SPAWNED
from .spawned import is_spawned as is_spawned

T = TypeVar("T")

Ref = Annotated[T, "ringcast.Ref"]
"""``Ref[Counter]`` is ``Annotated[Counter, …]``: type checkers see the class."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What `using` says of the calls through one ref."""

    timeout: float | None = None
    detached: bool = False
    idempotency_key: str | None = None


class PendingCall(Protocol):
    """The future of an answer."""

    number: int

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for the answer."""
        ...

    def done(self) -> bool:
        """Whether the answer is there."""
        ...


class Caller(Protocol):
    """What a ref needs of the runtime that it is bound to."""

    def ask(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> PendingCall | tuple[Any]:
        """Send an ask at once; return the future of its answer, or the answer itself in a tuple of one."""
        ...

    def abandon(self, number: int) -> None:
        """Cancel an ask or a stream: nobody waits for it any more."""
        ...

    def stream(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """Return the iterator of a streamed reply; it is asked for at the first item."""
        ...

    def tell(
        self, ref: ActorRef, message: Message, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[None] | None:
        """Send a told message; return None if it was accepted, else what to await until it is."""
        ...

    async def watch(self, ref: ActorRef, notice: Callable[[str], None]) -> Callable[[], None]:
        """Call `notice` with the reason once the actor has ended; return what ends the watch."""
        ...


class ActorRef:
    """The run-time part of `Ref`: equal and hashed by the actor that it names."""

    __slots__ = ("__weakref__", "_caller", "_hash", "_key", "_node", "_options", "_route", "_type_name")

    _caller: Caller
    _key: Any
    _node: str | None
    _options: CallOptions | None
    _route: Any
    _type_name: str

    def __init__(
        self, caller: Caller, type_name: str, key: Any, node: str | None, options: CallOptions | None = None
    ) -> None:
        """Name an actor: its class by wire name, its key, and for a spawned one its node."""
        self._caller = caller
        self._type_name = type_name
        self._key = key
        self._node = node
        self._options = options
        self._route = None
        self._hash = hash((type_name, key))

    def __hash__(self) -> int:
        """Hash by the actor's name."""
        return self._hash

    def __eq__(self, other: object) -> bool:
        """Compare by the actor's name; options of `using` do not count."""
        if isinstance(other, ActorRef):
            return self._type_name == other._type_name and self._key == other._key
        return NotImplemented

    def __repr__(self) -> str:
        """Show the actor's name."""
        return f"<ref {display(self._type_name, self._key)}>"

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse what is no message of the class."""
        messages = ", ".join(sorted(n for n in dir(type(self)) if not n.startswith("_"))) or "none"
        raise NotAMessage(
            f"{name!r} is no message of {self._type_name}; a ref has only the class's public "
            f"`async def` methods: {messages}"
        )

    def __reduce__(self) -> NoReturn:
        """Refuse pickle: the codec carries refs between nodes."""
        raise TypeError(f"{self!r} travels in messages between nodes, not through pickle")

    def __copy__(self) -> ActorRef:
        """Return itself: a ref is immutable."""
        return self

    def __deepcopy__(self, memo: object) -> ActorRef:
        """Return itself: a ref is immutable."""
        return self


def display(type_name: str, key: Any) -> str:
    """Return an actor's name for people: ``shop:Cart['ann']``, or ``shop:Worker(name)`` if spawned."""
    if is_spawned(key):
        return f"{type_name}({key[1]})"
    return f"{type_name}[{key!r}]"


def spawned_path(parent: ActorRef | None) -> str:
    """Return what the second part of a spawned actor's key has before its name: whose child it is."""
    if parent is None:
        return ""
    key = parent._key
    if is_spawned(key):
        return str(key[1])
    return f"/{display(parent._type_name, key)}"


def _ask(message: Message) -> Callable[..., Any]:
    async def ask(self: ActorRef, *args: Any, **kwargs: Any) -> Any:
        call = self._caller.ask(self, message, args, kwargs)
        if isinstance(call, tuple):
            return call[0]
        try:
            return await call
        except asyncio.CancelledError:
            self._caller.abandon(call.number)
            raise

    return ask


def _stream(message: Message) -> Callable[..., Any]:
    def stream(self: ActorRef, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        return self._caller.stream(self, message, args, kwargs)

    return stream


def _ref_class(name: str, messages: Iterable[Message]) -> type[ActorRef]:
    body: dict[str, Any] = {"__slots__": ()}
    for message in messages:
        method = (_stream if message.streams else _ask)(message)
        method.__name__ = message.name
        method.__qualname__ = f"{name}.{message.name}"
        if message.function is not None:
            method.__doc__ = message.function.__doc__
        method.__ringcast_message__ = message  # type: ignore[attr-defined]
        body[message.name] = method
    return type(f"Ref[{name}]", (ActorRef,), body)


class UnknownRef(ActorRef):
    """A ref to an actor whose class this process has not imported.

    Any public name is taken for a message, asked for by name; the owner says if it is none.
    """

    __slots__ = ("_messages",)

    _messages: dict[str, Any]

    def __init__(
        self, caller: Caller, type_name: str, key: Any, node: str | None, options: CallOptions | None = None
    ) -> None:
        """See `ActorRef`."""
        super().__init__(caller, type_name, key, node, options)
        self._messages = {}

    def __getattr__(self, name: str) -> Any:
        """Return the ask of the message of that name."""
        if name.startswith("_"):
            raise NotAMessage(f"{name!r} is private, and no message of {self._type_name}")
        method = self._messages.get(name)
        if method is None:
            method = _ask(unknown_messages(self._type_name, name))
            method.__ringcast_message__ = unknown_messages(self._type_name, name)  # type: ignore[attr-defined]
            self._messages[name] = method
        return method.__get__(self)


_unknown: dict[tuple[str, str], Message] = {}


def unknown_messages(type_name: str, name: str) -> Message:
    """Return the one `Message` of a class that is known by name only."""
    found = _unknown.get((type_name, name))
    if found is None:
        found = _unknown[type_name, name] = unknown_message(type_name, name)
    return found


_classes: dict[ActorType, type[ActorRef]] = {}


def ref_class(actor: ActorType) -> type[ActorRef]:
    """Return the ref class of an actor class, made at first use."""
    found = _classes.get(actor)
    if found is None:
        found = _classes[actor] = _ref_class(actor.name, actor.messages.values())
    return found


def is_ref(value: object) -> TypeGuard[ActorRef]:
    """Say whether `value` is a reference to an actor."""
    return isinstance(value, ActorRef)


def require_ref(value: object, verb: str) -> ActorRef:
    """Return `value` if it is a ref; otherwise say what the verb takes.

    Raises:
        TypeError: If it is no ref.
    """
    if isinstance(value, ActorRef):
        return value
    if isinstance(value, Actor):
        raise TypeError(f"{verb} takes a ref, not the actor itself; inside an actor use self.context.me")
    raise TypeError(f"{verb} takes a ref, such as node.ref(Counter, 'hits'), not {value!r}")


def check_timeout(timeout: float | None) -> None:
    """Refuse a time limit that is none.

    Raises:
        ConfigError: If it is not a positive number of seconds.
    """
    if timeout is not None and (isinstance(timeout, bool) or not timeout > 0):
        raise ConfigError(f"timeout={timeout!r}: give a positive number of seconds, or None for the default")
