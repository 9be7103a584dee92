"""`Context`: an actor's only door to the runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

from .placement import Placement
from .props import Props
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
    def log(self) -> Any: ...  # noqa: D102
    @property
    def caller(self) -> Identity | None: ...  # noqa: D102
    def ref(self, cls: type[Any], key: Any) -> Any: ...  # noqa: D102
    async def spawn(self, props: Props[Any], name: str | None, restart: Restart, on: Placement | None) -> Any: ...  # noqa: D102
    async def stop(self, ref: Any) -> None: ...  # noqa: D102
    async def watch(self, ref: Any) -> None: ...  # noqa: D102
    def timer(self, first: float, every: float | None, method: Callable[..., Any], args: tuple[Any, ...]) -> Timer: ...  # noqa: D102


class Context:
    """The runtime, as one actor sees it; ``self.context``, there before ``__init__`` runs."""

    __slots__ = ("_activation",)

    def __init__(self, activation: Activation) -> None:
        """Belong to one activation."""
        self._activation = activation

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


def _bound(method: Callable[..., Any], kwargs: dict[str, Any]) -> Callable[..., Any]:
    if kwargs:
        raise TypeError("a timer's message takes positional arguments only")
    return method
