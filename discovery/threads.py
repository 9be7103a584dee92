"""The threads of a node beside the application's: one with an event loop of its own, and one that ticks.

They stand behind these two classes, and nowhere else, so that a simulation can put its own in their
place: there the loop is one more loop in virtual time, and the ticks are timers.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["LoopThread", "TickThread"]


class LoopThread:
    """Runs one coroutine to its end, on an event loop of its own.

    Attributes:
        loop: That loop.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[asyncio.AbstractEventLoop], Coroutine[Any, Any, None]],
        on_end: Callable[[BaseException | None], None],
    ) -> None:
        """Do nothing yet.

        Args:
            name: The thread's name.
            work: Makes the coroutine; gets the loop.
            on_end: Is told on the thread, last of all, what the coroutine raised.
        """
        self._work = work
        self._on_end = on_end
        # Not by the policy: uvloop, if the application has it, stays on the application's thread.
        self.loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def call(self, function: Callable[..., object], *args: Any) -> None:
        """Have the loop call something soon, from any thread; nothing once it has ended."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *args)

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait for the thread; it ends soon after `on_end` was told."""
        self._thread.join()

    def _run(self) -> None:
        ended_by: BaseException | None = None
        try:
            with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
                runner.run(self._work(self.loop))
        except BaseException as error:
            ended_by = error
        self._on_end(ended_by)


class TickThread:
    """Calls something again and again, whatever the event loops do."""

    def __init__(self, name: str, seconds: float, tick: Callable[[], bool]) -> None:
        """Do nothing yet; `tick` is called each so many seconds, as long as it returns True."""
        self._seconds = seconds
        self._tick = tick
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Tick no more; returns at once, and the thread ends soon after."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds) and self._tick():
            pass
