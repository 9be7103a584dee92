"""Machines and the processes on them: clocks, sockets, loops, and the ways in which they fail.

A machine has an address, a clock and a disk. A process on it has loops (one of the application, and
what its node starts) and sockets. What can happen to them:

    pause       the process is stopped (SIGSTOP): its kernel still takes what comes
    stall       one loop stands still, as if its code blocked; the others go on
    kill        the process is gone at once: its kernel closes its sockets
    power_off   the machine is gone, in silence; what its disk had not synced is lost
    power_on    it is back, and its kernel knows no connections
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeVar, cast

from .disk import VirtualDisk
from .loop import VirtualLoop
from .network import Network
from .sockets import Address, DatagramSocket, StreamSocket, VirtualSocket
from .world import World

if TYPE_CHECKING:
    import random

T = TypeVar("T")

FIRST_FREE_PORT = 32_768
CLOSINGS_MAX = 20


class ProcessGone(Exception):
    """What was asked of a process has no answer, for the process is not there any more."""


@dataclass(slots=True)
class Clock:
    """A machine's clock.

    Attributes:
        origin: Monotonic seconds when the simulation began.
        wall: Seconds since 1970 at that moment, by this clock.
        rate: Its seconds in one of the world's.
    """

    origin: float = 1000.0
    wall: float = 1_800_000_000.0
    rate: float = 1.0


class Machine:
    """One machine of a simulation.

    Attributes:
        name: Its name.
        ip: Its address. All are loopback addresses, where nodes may do without TLS.
        is_on: Whether it has power.
        boots: How often it was switched on.
        process: What runs on it, if something does.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        name: str,
        ip: str,
        clock: Clock,
        entropy: random.Random,
        on_error: Callable[[str, dict[str, Any]], None],
    ) -> None:
        """Be on, and run nothing."""
        self.world = world
        self.network = network
        self.name = name
        self.ip = ip
        self.clock = clock
        self.entropy = entropy
        self.on_error = on_error
        self.disk = VirtualDisk(world.random(f"disk of {name}"))
        self.is_on = True
        self.boots = 1
        self.process: Process | None = None
        self.processes = 0
        self.former: list[Process] = []
        self._ports: dict[tuple[int, int], VirtualSocket] = {}
        self._next_port = FIRST_FREE_PORT
        network.join(self)

    def __repr__(self) -> str:
        """Show the name."""
        return f"<Machine {self.name}>"

    # ---- processes ---------------------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a process is there, be it paused."""
        return self.process is not None

    def boot(self) -> Process:
        """Start a process; it has an application's loop, and nothing to do yet."""
        assert self.process is None, f"{self.name} runs a process already"
        if not self.is_on:
            self.power_on()
        self.process = Process(self)
        return self.process

    def kill(self) -> None:
        """End the process at once (SIGKILL); its kernel closes its sockets."""
        if self.process is not None:
            process, self.process = self.process, None
            self.former.append(process)
            process.end(closes_sockets=True)

    def power_off(self) -> None:
        """Be gone without a word."""
        self.is_on = False
        self.disk.crash()
        if self.process is not None:
            process, self.process = self.process, None
            self.former.append(process)
            process.end(closes_sockets=False)
        self._ports.clear()

    def power_on(self) -> None:
        """Be back; no process runs."""
        if not self.is_on:
            self.is_on = True
            self.boots += 1

    # ---- the kernel ----------------------------------------------------------------------------------

    def take_port(self, sock: VirtualSocket, port: int) -> int:
        """Bind a socket; port 0 is any free one.

        Raises:
            OSError: If it is in use.
        """
        while port == 0:
            self._next_port += 1
            if (sock.type, self._next_port) not in self._ports:
                port = self._next_port
        if (sock.type, port) in self._ports:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        self._ports[sock.type, port] = sock
        return port

    def drop_port(self, sock: VirtualSocket) -> None:
        """Free a socket's port."""
        if self._ports.get((sock.type, sock.local[1])) is sock:
            del self._ports[sock.type, sock.local[1]]

    def listener(self, port: int) -> StreamSocket | None:
        """Return who takes connections at a port."""
        sock = self._ports.get((socket.SOCK_STREAM, port))
        return sock if isinstance(sock, StreamSocket) and sock.is_listening else None

    def receive_datagram(self, data: bytes, source: Address, port: int) -> None:
        """A datagram has come."""
        sock = self._ports.get((socket.SOCK_DGRAM, port))
        if isinstance(sock, DatagramSocket):
            sock.receive(data, source)

    def resolve(self, host: object, port: object, kind: int = 0) -> list[Any]:
        """Return what getaddrinfo does; names are those of machines.

        Raises:
            socket.gaierror: If nobody has that name.
        """
        name = host.decode() if isinstance(host, bytes) else str(host)
        named = [machine.ip for machine in self.network.machines.values() if machine.name == name]
        if not named:
            try:
                named = [str(ip_address(name))]
            except ValueError:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        where = (named[0], int(cast(Any, port or 0)))
        return [(socket.AF_INET, kind or socket.SOCK_STREAM, 0, "", where)]


class Process:
    """One process: its loops, its sockets, and what is asked of it from outside.

    Attributes:
        app: The application's loop.
        loops: All its loops, the application's first.
        number: Its process id.
        is_paused: Whether it is stopped.
        has_ended: Whether it is gone.
    """

    def __init__(self, machine: Machine) -> None:
        """Begin on a machine."""
        self.machine = machine
        self.world = machine.world
        machine.processes += 1
        self.number = 1000 + machine.processes
        self.is_paused = False
        self.has_ended = False
        self.loops: list[VirtualLoop] = []
        self.app = self.open_loop("app")
        self._sockets: dict[int, VirtualSocket] = {}
        self._descriptors = 2
        self._asked: dict[asyncio.Future[Any], None] = {}
        self.unfinished: list[asyncio.Task[Any]] = []

    def open_loop(self, purpose: str) -> VirtualLoop:
        """Return another loop of this process."""
        loop = VirtualLoop(self, purpose)
        if self.is_paused:
            loop.pause()
        self.loops.append(loop)
        return loop

    def open_socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
    ) -> VirtualSocket:
        """Return a socket, as `socket.socket` does."""
        if kind == socket.SOCK_DGRAM:
            return DatagramSocket(self, family, kind)
        if kind == socket.SOCK_STREAM:
            return StreamSocket(self, family, kind)
        raise OSError(errno.EPROTONOSUPPORT, f"sockets of type {kind} are not simulated")

    def take_descriptor(self, sock: VirtualSocket) -> int:
        """Return a number for a socket, which is this process's now."""
        self._descriptors += 1
        self._sockets[self._descriptors] = sock
        return self._descriptors

    def drop_descriptor(self, number: int) -> None:
        """Forget a socket that was closed."""
        self._sockets.pop(number, None)

    def leftovers(self) -> list[str]:
        """Return what a process still has that has nothing to do any more: open sockets, unfinished tasks."""
        tasks = [task.get_coro() for loop in self.loops for task in asyncio.all_tasks(loop)]
        return sorted(
            [f"a socket at {sock.local}" for sock in self._sockets.values()]
            + [f"a task in {getattr(work, '__qualname__', work)}" for work in tasks]
        )

    # ---- faults --------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop it (SIGSTOP)."""
        self.is_paused = True
        for loop in self.loops:
            loop.pause()

    def resume(self) -> None:
        """Let it go on (SIGCONT)."""
        self.is_paused = False
        for loop in self.loops:
            loop.resume()

    def stall(self, loop: VirtualLoop, seconds: float) -> None:
        """Have one loop do nothing for so long, as if its code blocked."""
        loop.pause()
        self.world.later(seconds, lambda: None if self.is_paused else loop.resume())

    def end(self, *, closes_sockets: bool) -> None:
        """Be gone."""
        self.has_ended = True
        self.machine.disk.unlock_all()
        for loop in self.loops:
            loop.kill()
            # Kept, for a task that is dropped would run its `finally`, and nothing runs here any more.
            self.unfinished.extend(asyncio.all_tasks(loop))
        for sock in list(self._sockets.values()):
            if closes_sockets:
                sock.close()
            else:
                sock.is_closed = True
        self._sockets.clear()
        asked, self._asked = self._asked, {}
        for answer in asked:
            if not answer.done():
                answer.set_exception(ProcessGone(f"the process on {self.machine.name} is gone"))
                answer.exception()

    # ---- from outside --------------------------------------------------------------------------------

    def ask(self, begin: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        """Have the application's loop call something, and give what it returns, or awaits, to a future of another.

        The future fails with `ProcessGone` if the process ends before.
        """
        if self.has_ended:
            answer.set_exception(ProcessGone(f"the process on {self.machine.name} is gone"))
            return
        self._asked[answer] = None

        def begun() -> None:
            try:
                value = begin()
            except Exception as error:
                settle(None, error)
                return
            if not asyncio.isfuture(value) and not asyncio.iscoroutine(value):
                settle(value, None)
                return
            work: asyncio.Future[Any] = self.app.create_task(value) if asyncio.iscoroutine(value) else value
            work.add_done_callback(done)
            answer.add_done_callback(lambda _: self.app.call_soon(work.cancel) if answer.cancelled() else None)

        def done(work: asyncio.Future[Any]) -> None:
            if work.cancelled():
                settle(None, asyncio.CancelledError())
            else:
                error = work.exception()
                settle(None if error is not None else work.result(), error)

        def settle(value: Any, error: BaseException | None) -> None:
            if self._asked.pop(answer, 0) == 0:
                return
            answer.get_loop().call_soon_threadsafe(_settle, answer, value, error)

        self.app.call_soon_threadsafe(begun)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Run a coroutine on the application's loop; return a future of the running loop."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda _: _drop(work))
        self.ask(lambda: work, answer)
        return answer


def _settle(answer: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if answer.done():
        return
    if isinstance(error, asyncio.CancelledError):
        answer.cancel()
    elif error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(value)


def _drop(work: Coroutine[Any, Any, Any]) -> None:
    """Close a coroutine if it was never begun: its process has ended before."""
    if inspect.getcoroutinestate(work) == inspect.CORO_CREATED:
        work.close()


def silence(process: Process) -> None:
    """Let the unfinished tasks of a process that is gone go; what they still do has no effect any more."""
    for task in process.unfinished:
        process.world.enter(cast(VirtualLoop, task.get_loop()))
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        coroutine = cast("Coroutine[Any, Any, Any]", task.get_coro())
        for _ in range(CLOSINGS_MAX):  # once for each `finally` that awaits something
            try:
                coroutine.close()
            except RuntimeError:
                continue
            except BaseException:
                pass
            break
    process.unfinished.clear()
