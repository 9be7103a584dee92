"""`Context`: an actor's only door to the runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

from .placement import Placement
from .props import Props
from .reminders import At, Every
from .supervision import PERMANENT, Restart

if TYPE_CHECKING:
    import structlog

    from ..security.identity import Identity

P = ParamSpec("P")
A = TypeVar("A")


class Timer:
    """A told message to come; `cancel()` ends it, any number of times."""

    __slots__ = ("_cancel",)

    def __init__(self, cancel: Callable[[], None]) -> None:
        """Keep what ends it."""
        self._cancel = cancel

    def cancel(self) -> None:
        """Send no more; a message that is already in the mailbox is still handled."""
        self._cancel()


class Activation(Protocol):
    """What a context needs of the activation behind it (the runtime's cell)."""

    @property
    def key(self) -> Any: ...  # noqa: D102
    @property
    def epoch(self) -> int: ...  # noqa: D102
    @property
    def me(self) -> Any: ...  # noqa: D102
    @property
    def parent(self) -> Any: ...  # noqa: D102
    @property
    def children(self) -> dict[str, Any]: ...  # noqa: D102
    @property
    def log(self) -> Any: ...  # noqa: D102
    @property
    def caller(self) -> Identity | None: ...  # noqa: D102
    def ref(self, cls: type[Any], key: Any) -> Any: ...  # noqa: D102
    async def spawn(self, props: Props[Any], name: str | None, restart: Restart, on: Placement | None) -> Any: ...  # noqa: D102
    async def stop(self, ref: Any) -> None: ...  # noqa: D102
    async def watch(self, ref: Any) -> None: ...  # noqa: D102
    def timer(self, first: float, every: float | None, method: Callable[..., Any], args: tuple[Any, ...]) -> Timer: ...  # noqa: D102
    async def save(self) -> None: ...  # noqa: D102
    async def delete_state(self) -> None: ...  # noqa: D102
    async def remind(self, name: str, when: At | Every, method: Callable[..., Any], args: tuple[Any, ...]) -> None: ...  # noqa: D102
    async def forget(self, name: str) -> bool: ...  # noqa: D102


class Opener(Protocol):
    """What has the door of an activation (the runtime's cell); many actors never go through theirs."""

    def door(self) -> Activation:
        """Return what stands behind the context."""
        ...


class Context:
    """The runtime, as one actor sees it; ``self.context``, there before ``__init__`` runs."""

    __slots__ = ("_opener",)

    def __init__(self, opener: Opener) -> None:
        """Belong to one activation."""
        self._opener = opener

    @property
    def _activation(self) -> Activation:
        return self._opener.door()

    @property
    def key(self) -> Any:
        """The key of a keyed actor; the name of a spawned one."""
        return self._activation.key

    @property
    def me(self) -> Any:
        """The actor's own ref."""
        return self._activation.me

    @property
    def parent(self) -> Any:
        """The ref of the actor that spawned this one; None for others."""
        return self._activation.parent

    @property
    def children(self) -> dict[str, Any]:
        """The refs of the actors that this one supervises, by name, in start order."""
        return self._activation.children

    @property
    def epoch(self) -> int:
        """The fencing token of this activation, an int of at most 63 bits.

        It grows with every activation of the same key: hand it to outside systems that can
        refuse what an older activation sends.
        """
        return self._activation.epoch

    @property
    def log(self) -> structlog.typing.FilteringBoundLogger:
        """A structlog logger, bound to node, actor and trace."""
        return cast("structlog.typing.FilteringBoundLogger", self._activation.log)

    @property
    def caller(self) -> Identity | None:
        """The client for which the running handler was called; None for calls from inside the cluster.

        What the handler calls in turn it calls on the actor's own authority: there it is None again.
        """
        return self._activation.caller

    def ref(self, cls: type[A], key: Any) -> A:
        """Return the ref of a keyed actor; see `Node.ref`."""
        return cast(A, self._activation.ref(cls, key))

    async def spawn(
        self,
        props: Props[A],
        name: str | None = None,
        restart: Restart = PERMANENT,
        on: Placement | None = None,
    ) -> A:
        """Start an actor that this one supervises; see `Node.spawn`."""
        return cast(A, await self._activation.spawn(props, name, restart, on))

    async def stop(self, ref: object) -> None:
        """Stop an actor for good; ``context.me`` ends this one after the running turn."""
        await self._activation.stop(ref)

    async def watch(self, ref: object) -> None:
        """Have `on_terminated(ref, reason)` called once when that actor has ended for good."""
        await self._activation.watch(ref)

    def after(self, seconds: float, method: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Tell this actor a message of its own in `seconds`: ``context.after(5, self.flush)``."""
        return self._activation.timer(seconds, None, _bound(method, kwargs), args)

    def every(self, seconds: float, method: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Tell this actor a message of its own every `seconds`.

        A tick that would pile up behind its predecessor is skipped.
        """
        return self._activation.timer(seconds, seconds, _bound(method, kwargs), args)

    async def save(self) -> None:
        """Save a durable actor's state now, and let go what the turn has told, spawned and timed so far.

        What the handler does afterwards is a transaction of its own.

        Raises:
            StoreError: If it was not saved, or nobody knows: let it pass, and the turn is undone.
            RuntimeError: Outside of a turn, or in a `read_only` one.
            TypeError: If the actor is not durable.
        """
        await self._activation.save()

    async def delete_state(self) -> None:
        """Begin anew: the state is the initial one, and with the turn's save nothing is stored any more.

        Reminders are forgotten, too; replies to idempotency keys are not, so that a retry finds its reply.

        Raises:
            RuntimeError: Outside of a turn, or in a `read_only` one.
            TypeError: If the actor is not durable.
        """
        await self._activation.delete_state()

    async def remind(
        self, name: str, when: At | Every, method: Callable[P, object], *args: P.args, **kwargs: P.kwargs
    ) -> None:
        """Tell this actor a message of its own, after any restart or move: ``remind("renew", Every(60), self.renew)``.

        The reminder is saved with the turn. Each tick is a transaction: a tick whose turn was saved does not run
        again; one that fails, or is lost with its node, does.

        Args:
            name: Names it; another one of that name is replaced. An `Every` that says the same as before goes on
                as it was, so `on_start` may say it each time.
            when: `At` a time, or `Every` so many seconds.
            method: A message of the actor itself, such as ``self.renew``.
            args: What the message is told with.
            kwargs: None: there are positional arguments only.

        Raises:
            CodecError: If an argument cannot be stored.
            RuntimeError: Outside of a turn, or in a `read_only` one.
            TypeError: If the actor is not durable, or an argument is none.
        """
        await self._activation.remind(name, when, _bound(method, kwargs), args)

    async def forget(self, name: str) -> bool:
        """Forget a reminder with the turn's save; return whether there was one of that name.

        Raises:
            RuntimeError: Outside of a turn, or in a `read_only` one.
            TypeError: If the actor is not durable.
        """
        return await self._activation.forget(name)


def _bound(method: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    if kwargs:
        raise TypeError("a timer's message takes positional arguments only")
    return method
