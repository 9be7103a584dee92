"""`VirtualLoop`: asyncio's event loop in virtual time, one for each thread of a simulated process.

A process of a real node has two loops on two threads: the application's and the membership's. Each is
a `VirtualLoop` here, with a queue of its own, so that one can stand still while the other goes on. What
they read as time is their machine's clock, which starts anywhere and may run fast or slow.

A loop that was stopped for good (its process was killed) takes nothing more, and what its tasks would
still have done is never done.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import Handle, TimerHandle
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .refusals import RefusingLoop
from .sockets import StreamSocket, VirtualSocket
from .transport import Transport

if TYPE_CHECKING:
    from .machine import Process


class VirtualLoop(RefusingLoop):
    """One loop of one simulated process.

    Attributes:
        name: Machine and purpose, for traces.
        process: The process that it belongs to.
        queue: What is to run, in order.
        is_listed: Whether the world knows that there is something in the queue.
        is_paused: Whether nothing runs for now.
        is_dead: Whether nothing will ever run again.
        lead: How far the running callback is ahead of the world, in its seconds: it has blocked.
    """

    def __init__(self, process: Process, purpose: str) -> None:
        """Belong to a process; there is nothing to do yet."""
        self.world = process.world
        self.process = process
        self.name = f"{process.machine.name}/{purpose}"
        self.queue: deque[Handle] = deque()
        self.is_listed = False
        self.is_paused = False
        self.is_dead = False
        self.lead = 0.0
        self._clock = process.machine.clock
        self._is_closed = False
        self._on_error: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None

    def __repr__(self) -> str:
        """Show whose it is."""
        return f"<VirtualLoop {self.name}>"

    # ---- for the world -----------------------------------------------------------------------------

    def enqueue(self, handle: Handle) -> None:
        """Have something run soon."""
        if self.is_dead:
            return
        self.queue.append(handle)
        if not self.is_listed and not self.is_paused:
            self.is_listed = True
            self.world.make_ready(self)

    def enqueue_call(self, function: Callable[..., object], *args: Any) -> None:
        """Have something called soon, from outside of all loops."""
        self.enqueue(Handle(function, args, self, None))

    def pause(self) -> None:
        """Run nothing until `resume`."""
        self.is_paused = True
        if self.is_listed:
            self.is_listed = False
            self.world.make_idle(self)

    def resume(self) -> None:
        """Go on."""
        self.is_paused = False
        if self.queue and not self.is_listed and not self.is_dead:
            self.is_listed = True
            self.world.make_ready(self)

    def kill(self) -> None:
        """Run nothing ever again."""
        self.pause()
        self.is_dead = True
        self.queue.clear()

    def block(self, seconds: float) -> None:
        """The running callback keeps the loop to itself for so long, by its own clock; others go on."""
        self.lead += seconds / self._clock.rate

    def rest(self) -> None:
        """Take the time that the callback has taken."""
        seconds, self.lead = self.lead, 0.0
        if not self.is_paused:
            self.pause()
            self.world.later(seconds, self._rested)

    def _rested(self) -> None:
        if not self.process.is_paused:
            self.resume()

    def finish_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Close an asynchronous generator that was dropped half-way."""
        if not self.is_dead and not self._is_closed:
            self.call_soon(lambda: self.create_task(generator.aclose()))

    # ---- time and callbacks --------------------------------------------------------------------------

    def time(self) -> float:
        """Return the machine's monotonic time, in seconds."""
        return self._clock.origin + (self.world.now + self.lead) * self._clock.rate

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Handle:  # type: ignore[override]
        """Run it after what is queued."""
        handle = Handle(callback, args, self, context)
        if self.is_dead:
            return handle
        self.queue.append(handle)
        if not self.is_listed and not self.is_paused:
            self.is_listed = True
            self.world.make_ready(self)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        """Run it after what is queued; from another loop of the process."""
        if self._is_closed:
            raise RuntimeError("Event loop is closed")
        caller = self.world.current
        if caller is not None and caller is not self and caller.lead:
            return self.call_later(caller.lead, callback, *args, context=context)
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Run it when the machine's clock has gone on by so much."""
        timer = TimerHandle(self.time() + delay, callback, args, self, context)
        if not self.is_dead:
            timer._scheduled = True  # type: ignore[attr-defined]
            self.world.at(self.world.now + self.lead + max(0.0, delay) / self._clock.rate, self, timer)
        return timer

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        """Run it at that time of the machine's clock."""
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        if handle._scheduled:  # type: ignore[attr-defined]
            self.world.timer_cancelled()

    # ---- futures and tasks ---------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Begin a task."""
        if self.is_dead:  # what a process that is gone would begin
            coro.close()
            never: asyncio.Future[Any] = asyncio.Future(loop=self)
            never.cancel()
            return cast("asyncio.Task[Any]", never)
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_task_factory(self) -> None:
        """There is none."""

    def run_in_executor(self, executor: object, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run a function of another thread as one callback: nothing of the simulation leaves its thread."""
        future = self.create_future()

        def run() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_soon(run)
        return future

    # ---- the loop's own life -------------------------------------------------------------------------

    def is_running(self) -> bool:
        """A loop runs from its process's beginning to its end."""
        return not self.is_dead and not self._is_closed

    def is_closed(self) -> bool:
        """Whether it takes nothing more."""
        return self._is_closed

    def close(self) -> None:
        """Take nothing more."""
        self._is_closed = True
        self.kill()

    def get_debug(self) -> bool:
        """It is never in debug mode: that reads clocks."""
        return False

    async def shutdown_asyncgens(self) -> None:
        """Nothing is kept of them."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """There is none."""

    def set_exception_handler(
        self, handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None
    ) -> None:
        """Set who is told of exceptions that nobody caught."""
        self._on_error = handler

    def get_exception_handler(self) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None:
        """Return who is told of them."""
        return self._on_error

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Note it, for whoever runs the simulation."""
        self.process.machine.on_error(self.name, context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell of an exception that nobody caught."""
        if self.is_dead:
            return
        if self._on_error is None:
            self.default_exception_handler(context)
        else:
            self._on_error(self, context)

    # ---- sockets -------------------------------------------------------------------------------------

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        """Call it whenever the socket has something."""
        cast(VirtualSocket, fd).watch(self, callback, args)

    def remove_reader(self, fd: Any) -> bool:
        """Call it no more."""
        return cast(VirtualSocket, fd).unwatch()

    async def sock_recv(self, sock: Any, nbytes: int) -> bytes:
        """Return what there is, at most so many bytes; nothing at the end."""
        virtual = cast(VirtualSocket, sock)
        while True:
            try:
                return virtual.recv(nbytes)
            except BlockingIOError:
                await self._readable(virtual)

    async def sock_accept(self, sock: Any) -> tuple[Any, Any]:
        """Return the next connection and where it comes from."""
        listener = cast(StreamSocket, sock)
        while True:
            try:
                return listener.accept()
            except BlockingIOError:
                await self._readable(listener)

    async def _readable(self, sock: VirtualSocket) -> None:
        future = self.create_future()
        sock.watch(self, partial(_wake, future), ())
        try:
            await future
        finally:
            sock.unwatch()

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect."""
        future = self.create_future()
        cast(StreamSocket, sock).connect((str(address[0]), int(address[1])), future)
        await future

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Resolve literals, and names that the simulation has been told of."""
        return self.process.machine.resolve(host, port, type)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, **options: Any
    ) -> tuple[Transport, asyncio.Protocol]:
        """Connect, and give the connection to a protocol."""
        if options:
            raise NotImplementedError(f"create_connection with {sorted(options)} is not simulated")
        error: OSError | None = None
        for family, kind, _, _, where in await self.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = cast(StreamSocket, self.process.open_socket(family, kind))
            try:
                await self.sock_connect(sock, where)
            except OSError as failed:
                error = failed
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                return await self._transport(protocol_factory, sock)
        raise error or OSError(f"{host} has no address")

    async def connect_accepted_socket(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.Protocol], sock: Any, **options: Any
    ) -> tuple[Transport, asyncio.Protocol]:
        """Give a connection that was accepted to a protocol."""
        if options:
            raise NotImplementedError(f"connect_accepted_socket with {sorted(options)} is not simulated")
        return await self._transport(protocol_factory, cast(StreamSocket, sock))

    async def _transport(
        self, protocol_factory: Callable[[], asyncio.Protocol], sock: StreamSocket
    ) -> tuple[Transport, asyncio.Protocol]:
        protocol = protocol_factory()
        transport = Transport(self, sock, protocol)
        begun = self.create_future()
        self.call_soon(protocol.connection_made, transport)
        self.call_soon(transport.begin)
        self.call_soon(_wake, begun)
        try:
            await begun
        except BaseException:
            transport.close()
            raise
        return transport, protocol


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
