"""`Actor`: what a user subclasses, and what the runtime reads from the class.

The body of an actor class is checked when the class is made, so that a mistake is a
`TypeError` at its own line and not a surprise at the first call. What the runtime needs of a
class is its `ActorType`: the name on the wire, the messages and the options. It is worked
out at first use, for a class that travels by value is rebuilt empty and filled afterwards.

Every class that is defined is remembered (weakly): a node hosts the actor classes that its
process has imported, and `on_defined` tells it of those that come later.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from ringcast.errors import CodecError
from ringcast.values import dataclass

from .messages import HOOKS, HandlerOptions, Message, options_of
from .moves import only_moves
from .naming import BY_VALUE, NAME_MAX, find_class, travels_by_value, wire_name
from .placement import Placement, Ring
from .supervision import Fatal, OneForOne, Strategy

if TYPE_CHECKING:
    from .context import Context

_PLAIN_ALLOWED = frozenset({"children", "initial_state", "migrate"})
_RESERVED = frozenset({"context", "state", "schema"})


@dataclass(frozen=True, slots=True)
class ClassOptions:
    """The class keywords of an actor class.

    Attributes:
        mailbox: Messages that may wait at one actor before senders do; at least 1.
        idle_after: Seconds without a message after which a keyed actor is deactivated; None is never.
        supervision: What this class does with the actors that it spawns that fail; of a keyed actor's own
            failures, the backoff.
        placement: Which members may run it: `Ring()` or `Labels(...)` for keyed actors; the default of
            ``on=`` for spawned ones.
        restart_on: Exceptions that fail the actor even when it was asked.
        name: The type's name on the wire, if given; not inherited.
        expose: Whether clients, which are no members of the cluster, may call the messages that the body
            of this very class defines; ``@handler(expose=…)`` says otherwise for one. Not inherited: what a
            subclass adds or overrides is closed until it says so itself.
    """

    mailbox: int = 1000
    idle_after: float | None = 300.0
    supervision: Strategy = field(default_factory=OneForOne)
    placement: Placement = field(default_factory=Ring)
    restart_on: tuple[type[BaseException], ...] = ()
    name: str | None = None
    expose: bool = False


_defined: weakref.WeakSet[type[Actor]] = weakref.WeakSet()
_listeners: list[Callable[[], None]] = []


class Actor:
    """Subclass it; public ``async def`` methods are messages, handled one at a time.

    Class keywords: ``mailbox``, ``idle_after``, ``supervision``, ``placement``, ``restart_on``,
    ``name`` and ``expose``; see `ClassOptions`. Hooks: `on_start`, `on_stop`, `on_terminated`.

    Attributes:
        context: The actor's door to the runtime; there before ``__init__`` runs.
    """

    context: Context
    __class_options__: ClassVar[ClassOptions] = ClassOptions()
    __is_durable__: ClassVar[bool] = False

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Check the body and the keywords of a new actor class."""
        super().__init_subclass__()
        cls.__class_options__ = _checked_options(cls, keywords)
        _check_body(cls)
        _defined.add(cls)
        for listener in tuple(_listeners):
            listener()

    async def on_start(self) -> None:
        """Run before the first message; a failure here fails the activation."""

    async def on_stop(self, reason: str) -> None:
        """Run after the last message of an activation.

        Args:
            reason: ``failed``, ``ended`` (it stopped itself), ``restarting`` (it is started again with a
                sibling or its supervisor), ``stopped`` (by its parent or from outside), ``leaving`` or ``lost``
                (its node); for keyed actors also ``idle`` and ``moved``.
        """

    async def on_terminated(self, ref: Any, reason: str) -> None:
        """Run once when an actor that this one watches has ended."""


def _checked_options(cls: type[Actor], keywords: dict[str, Any]) -> ClassOptions:
    known = ClassOptions.__slots__
    for keyword in keywords:
        if keyword not in known:
            raise TypeError(
                f"class {cls.__qualname__}: unknown option {keyword!r}; an actor class takes {', '.join(known)}"
            )
    inherited = replace(cls.__class_options__, name=None, expose=False)
    options = replace(inherited, **keywords)

    def refuse(option: str, what: str) -> TypeError:
        return TypeError(f"class {cls.__qualname__}: {option}={getattr(options, option)!r}; {what}")

    if isinstance(options.mailbox, bool) or not isinstance(options.mailbox, int) or options.mailbox < 1:
        raise refuse("mailbox", "it takes a whole number of messages, at least 1")
    if options.idle_after is not None and not (
        isinstance(options.idle_after, (int, float))
        and not isinstance(options.idle_after, bool)
        and options.idle_after > 0
    ):
        raise refuse("idle_after", "it takes seconds greater than 0, or None for never")
    if not isinstance(options.supervision, Strategy):
        raise refuse("supervision", "it takes OneForOne(...), OneForAll(...) or RestForOne(...)")
    if not isinstance(options.placement, Placement):
        raise refuse("placement", "it takes Ring(), Labels(...) or another placement")
    if not isinstance(options.restart_on, tuple) or not all(
        isinstance(error, type) and issubclass(error, BaseException) for error in options.restart_on
    ):
        raise refuse("restart_on", "it takes a tuple of exception classes")
    if options.name is not None and (not isinstance(options.name, str) or not 0 < len(options.name) <= 200):
        raise refuse("name", "it takes a string of 1 to 200 characters")
    if not isinstance(options.expose, bool):
        raise refuse("expose", "it takes True, for clients to call its messages, or False")
    return options


def _check_body(cls: type[Actor]) -> None:
    whole = f"{cls.__module__}:{cls.__qualname__}"
    if len(whole) > NAME_MAX - BY_VALUE and cls.__class_options__.name is None:
        raise TypeError(
            f"class {whole[:60]}… has a name of {len(whole)} characters, and on the wire it may have "
            f"{NAME_MAX - BY_VALUE}: give it the class keyword name=…"
        )
    for name, value in vars(cls).items():
        if len(name) > NAME_MAX:
            raise TypeError(
                f"{cls.__qualname__}.{name[:40]}… has a name of {len(name)} characters, it may have {NAME_MAX}"
            )
        where = f"{cls.__qualname__}.{name}"
        if name in _RESERVED and callable(value) and (name == "context" or cls.__is_durable__):
            raise TypeError(f"{where}: the name is the runtime's own door into the actor; choose another")
        if name.startswith("_") or isinstance(value, (staticmethod, classmethod)) or name in _PLAIN_ALLOWED:
            continue
        if isinstance(value, (property, functools.cached_property)):
            raise TypeError(
                f"{where} is a property, and a ref has no attributes: make it `async def {name}(self)`, "
                f"or private: `_{name}`"
            )
        is_async = inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)
        if name.startswith("on_") and name not in HOOKS and inspect.isfunction(value):
            raise TypeError(f"{where} is no hook; the hooks are {', '.join(sorted(HOOKS))}: give it another name")
        if inspect.isfunction(value) and not is_async:
            raise TypeError(
                f"{where} is a plain function, which cannot be a message: make it `async def {name}`, "
                f"private (`_{name}`), or a @staticmethod"
            )


@dataclass(frozen=True, slots=True, eq=False)
class ActorType:
    """What the runtime knows of an actor class.

    Attributes:
        cls: The class.
        name: The name on the wire and on the ring.
        messages: By method name, inherited ones included.
        options: The class keywords.
        required: Names of the constructor's required parameters.
        by_value: Whether the class is shipped (cloudpickle) rather than imported.
        can_travel: False for a class by value that cannot be pickled: it runs in its own process only.
        failures: Exceptions that fail the actor even when it was asked.
    """

    cls: type[Actor]
    name: str
    messages: dict[str, Message]
    options: ClassOptions
    required: tuple[str, ...]
    by_value: bool
    can_travel: bool
    failures: tuple[type[BaseException], ...]


_types: weakref.WeakKeyDictionary[type[Actor], ActorType] = weakref.WeakKeyDictionary()


def actor_type(cls: type[Actor]) -> ActorType:
    """Return the `ActorType` of a class; the same object every time.

    Raises:
        TypeError: If `cls` is not a subclass of `Actor`.
    """
    found = _types.get(cls) if isinstance(cls, type) else None
    if found is None:
        if not (isinstance(cls, type) and issubclass(cls, Actor)) or cls is Actor:
            raise TypeError(f"{cls!r} is not an actor class: give a subclass of ringcast.Actor")
        found = _types[cls] = _read(cls)
    return found


def _read(cls: type[Actor]) -> ActorType:
    options = cls.__class_options__
    by_value = travels_by_value(cls)
    can_travel = True
    try:
        name = wire_name(cls, None if by_value else options.name)
    except CodecError:
        can_travel = False
        name = f"{cls.__module__}:{cls.__qualname__}@here-{id(cls):x}"
    messages: dict[str, Message] = {}
    for base in reversed(cls.__mro__):
        if base in (Actor, object):
            continue
        own: ClassOptions | None = vars(base).get("__class_options__")
        opens = own is not None and own.expose
        for attribute, value in vars(base).items():
            messages.pop(attribute, None)
            if attribute.startswith("_") or attribute in HOOKS:
                continue
            streams = inspect.isasyncgenfunction(value)
            if streams or inspect.iscoroutinefunction(value):
                said = options_of(value)
                is_exposed = opens if said.expose is None else said.expose
                is_saved = cls.__is_durable__
                moves = not is_saved and only_moves(value, cls)
                messages[attribute] = Message(name, attribute, value, streams, said, is_exposed, is_saved, moves)
    required: tuple[str, ...] = ()
    if cls.__init__ is not object.__init__:
        required = tuple(
            parameter.name
            for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        )
    failures: tuple[type[BaseException], ...] = (Fatal, *options.restart_on)
    return ActorType(cls, name, messages, options, required, by_value, can_travel, failures)


def unknown_message(class_name: str, name: str) -> Message:
    """Return a message of which only the names are known, for a class that is not in this process."""
    return Message(class_name, name, None, False, HandlerOptions())


def forget_class(cls: type[Actor]) -> None:
    """Forget that a class was defined: it is a base of actors, which no node hosts by itself."""
    _defined.discard(cls)


def imported_types() -> Iterator[ActorType]:
    """Yield the actor classes of this process that other processes can import too."""
    for cls in sorted(_defined, key=lambda cls: (cls.__module__, cls.__qualname__)):
        if inspect.isabstract(cls) or travels_by_value(cls):
            continue
        # A class that was replaced (a reloaded module), or that is only half made, is not it.
        if find_class(wire_name(cls)) is cls:
            yield actor_type(cls)


def defined_modules() -> set[str]:
    """Return the names of the modules that define actor classes."""
    return {cls.__module__ for cls in _defined}


def on_defined(listener: Callable[[], None]) -> Callable[[], None]:
    """Call `listener` (from any thread) whenever an actor class is defined; return what ends that."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)
