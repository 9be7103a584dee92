"""The threads of a simulated node: a loop more in its process, and ticks that are timers.

They stand in for `LoopThread` and `TickThread` of the real one. Callbacks of different loops take turns; within
one of them nothing else runs. The table that two threads share without a lock (`discovery.share`) is where that is
not enough: there another thread may run between any two steps (`ContestedShare`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from ...discovery.share import PARTITIONS, Share
from .loop import VirtualLoop
from .world import World


class VirtualLoopThread:
    """`LoopThread` in a simulation."""

    def __init__(
        self,
        world: World,
        name: str,
        work: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, None]],
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        """Belong to the process whose code makes it."""
        assert world.current is not None, "threads are made inside the simulation"
        self._work = work
        self._on_end = on_end
        self.loop: VirtualLoop = world.current.process.open_loop("membership")

    def start(self) -> None:
        """Begin."""
        self.loop.call_soon(self._begin)

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call something soon; nothing once it has ended."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *args)

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.loop.is_running()

    def join(self) -> None:
        """There is nothing to wait for: `on_end` was told already."""

    def _begin(self) -> None:
        self.loop.create_task(self._work(self.loop)).add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        self._on_end(error)
        self.loop.close()


class VirtualTickThread:
    """`TickThread` in a simulation."""

    def __init__(self, world: World, name: str, seconds: float, tick: Callable[[], bool]) -> None:
        """Belong to the process whose code makes it."""
        assert world.current is not None, "threads are made inside the simulation"
        self._loop = world.current.process.open_loop("ticks")
        self._seconds = seconds
        self._tick = tick
        self._is_stopped = False

    def start(self) -> None:
        """Begin."""
        self._loop.call_soon_threadsafe(self._wait)

    def stop(self) -> None:
        """Tick no more."""
        self._is_stopped = True

    def _wait(self) -> None:
        self._loop.call_later(self._seconds, self._due)

    def _due(self) -> None:
        if not self._is_stopped and self._tick():
            self._wait()


class ContestedShare(Share):
    """`Share` in a simulation: whoever reads or writes how much runs may be preempted there by the other thread."""

    __slots__ = ()

    def __init__(self, world: World) -> None:
        """See `Share`."""
        super().__init__()
        self.running = _Contested(world)


class _Contested(list[int]):
    """Counts that are read and written in steps of their own."""

    __slots__ = ("_preempt",)

    def __init__(self, world: World) -> None:
        super().__init__([0] * PARTITIONS)
        self._preempt = world.preempt

    def __iter__(self) -> Iterator[int]:
        self._preempt()
        return super().__iter__()

    def __setitem__(self, index: Any, value: Any) -> None:
        self._preempt()
        super().__setitem__(index, value)
        self._preempt()
