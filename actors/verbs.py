"""The verbs: free functions over refs and their methods, so that no name of ours collides with a user's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from contextvars import copy_context
from types import MethodType
from typing import Any, ParamSpec, TypeVar, cast

from ringcast.errors import ConfigError

from .actor import Actor
from .messages import Message
from .ref import ActorRef, CallOptions, check_timeout, require_ref
from .turn import current_turn, new_chain

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def _parts(method: object, verb: str) -> tuple[ActorRef, Message]:
    """Return what a bound method of a ref stands for.

    Raises:
        TypeError: If it is none; says what the verb takes.
    """
    owner = getattr(method, "__self__", None)
    message: Message | None = getattr(method, "__ringcast_message__", None)
    if isinstance(method, MethodType) and isinstance(owner, ActorRef) and message is not None:
        return owner, message
    if isinstance(owner, Actor):
        raise TypeError(
            f"{verb} takes a message of a ref; inside an actor use self.context.me.{getattr(method, '__name__', '…')}"
        )
    if asyncio.iscoroutine(method):
        method.close()
        raise TypeError(f"{verb} takes the method and its arguments, uncalled: {verb}(ref.add, 1)")
    raise TypeError(f"{verb} takes a message of a ref, such as {verb}(ref.add, 1), not {method!r}")


async def tell(method: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Send a message and do not wait for it to be handled: at most once.

    Returns when the message is accepted into the destination's window.

    Raises:
        MailboxFull: If there was no room within the time limit.
        Unreachable: If nobody who hosts the actor was reachable within the time limit.
        CodecError: If an argument cannot travel.
    """
    try:  # the common case, without a call more
        ref: ActorRef = method.__self__  # type: ignore[attr-defined]
        message: Message = method.__ringcast_message__  # type: ignore[attr-defined]
    except AttributeError:
        ref, message = _parts(method, "tell")
    if message.streams:
        raise TypeError(f"{message.name} streams its reply, which a told message has none of: iterate over it")
    waiting = ref._caller.tell(ref, message, args, kwargs)
    if waiting is not None:
        await waiting


def using(
    ref: T,
    *,
    timeout: float | None = None,
    detached: bool | None = None,
    idempotency_key: str | None = None,
) -> T:
    """Return the same ref with options for the calls made through it.

    Args:
        ref: A ref.
        timeout: Seconds that a call may take; for a told message, also until it is handled.
        detached: The call takes neither the running turn's deadline nor its chain.
        idempotency_key: A retry with the same key gets the first reply, and the handler does not
            run again.

    Raises:
        ConfigError: If `timeout` is not a positive number, or the key no str of 1,024 characters at most.
    """
    actor = require_ref(ref, "using")
    check_timeout(timeout)
    if idempotency_key is not None and (not isinstance(idempotency_key, str) or len(idempotency_key) > 1024):
        raise ConfigError(f"using(idempotency_key={idempotency_key!r:.60}): it takes a str of at most 1,024 characters")
    before = actor._options or CallOptions()
    options = CallOptions(
        before.timeout if timeout is None else timeout,
        before.detached if detached is None else detached,
        before.idempotency_key if idempotency_key is None else idempotency_key,
    )
    copy = type(actor)(actor._caller, actor._type_name, actor._key, actor._node, options)
    return cast(T, copy)


def submit(method: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> asyncio.Task[R]:
    """Ask at once, and return the task that waits for the answer.

    It starts a new chain of calls with fresh limits. Cancelling the task cancels the call.
    """
    ref, message = _parts(method, "submit")
    if message.streams:
        raise TypeError(f"{message.name} streams its reply, and submit waits for one answer: iterate over it")
    context = copy_context()
    context.run(current_turn.set, None)
    context.run(new_chain.set, True)
    caller = ref._caller
    call = context.run(caller.ask, ref, message, args, cast(dict[str, Any], kwargs))

    async def wait() -> R:
        if isinstance(call, tuple):
            return cast(R, call[0])
        try:
            return cast(R, await call)
        except asyncio.CancelledError:
            caller.abandon(call.number)
            raise

    task = asyncio.get_running_loop().create_task(wait(), context=context)

    def unstarted(task: asyncio.Task[R]) -> None:
        if task.cancelled() and not isinstance(call, tuple) and not call.done():  # cancelled before its first step
            caller.abandon(call.number)

    task.add_done_callback(unstarted)
    return task


async def broadcast(refs: Iterable[T], method: Callable[..., Awaitable[R]], *args: Any, **kwargs: Any) -> list[R]:
    """Ask many actors the same: ``await broadcast(refs, Cart.total)``.

    Returns:
        The answers in the order of `refs`; where a call failed, its exception stands in place.
    """
    name = getattr(method, "__name__", None)
    targets = [require_ref(ref, "broadcast") for ref in refs]
    if not isinstance(name, str) or isinstance(method, MethodType):
        raise TypeError(f"broadcast takes a message of the class, such as Cart.total, not {method!r}")
    if inspect.isasyncgenfunction(method):
        raise TypeError(f"{name} streams its reply, and broadcast waits for one answer each: iterate over it")
    calls = [getattr(target, name)(*args, **kwargs) for target in targets]
    return cast(list[R], await asyncio.gather(*calls, return_exceptions=True))


@asynccontextmanager
async def watching(ref: object) -> AsyncIterator[asyncio.Future[str]]:
    """Watch an actor while the block runs: ``async with watching(ref) as ended: reason = await ended``.

    `ended` gives the reason once the actor has ended for good; at once if it is already gone.
    Restarts and idleness are not ends.
    """
    actor = require_ref(ref, "watching")
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def notice(reason: str) -> None:
        if not ended.done():
            ended.set_result(reason)

    stop = await actor._caller.watch(actor, notice)
    try:
        yield ended
    finally:
        stop()
        ended.cancel()
