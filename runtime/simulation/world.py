"""The world of a simulation: virtual time, what is due, and whose turn it is.

There is one clock that nobody in the simulation sees; every machine has its own, which may run fast or
slow (`loop`). The world jumps to the next thing that is due when nobody has anything to do. Callbacks
of one loop run in order; between loops the seed chooses who is next, so another seed is another
interleaving. A callback takes `MOMENT` on the world's clock, and longer if it says so (`Loop.block`).

Nothing here reads a real clock, and nothing waits.
"""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.events import _set_running_loop  # pyright: ignore[reportPrivateUsage]
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from .trace import Trace

if TYPE_CHECKING:
    from .loop import VirtualLoop

MOMENT = 1e-6
"""Seconds that a callback takes: a loop that is never idle does not stop time for the others."""

PREEMPTED = 0.7
"""The chance of each callback of another thread to run where a thread may be preempted."""

CANCELLED_MAX = 1000
"""Cancelled timers that may lie in the heap before it is cleared of them, if they are half of it."""


class Stalled(Exception):
    """The simulation did not end within its limit of virtual time, or nothing is left that could happen."""


class World:
    """Virtual time, and everything that is to happen.

    Attributes:
        now: Seconds since the simulation began.
        seed: Everything that is drawn comes from it.
        current: The loop whose callback runs.
        trace: What has happened.
        preempted_for: By a loop's name, for how many seconds its thread gets no processor when it comes to such a place
            next (see `preempt`). Its process must not end meanwhile.
        on_write: Is told what a loop writes to a connection, at the instant at which it does.
    """

    def __init__(self, seed: int | str, *, keeps_trace: bool = False) -> None:
        """Begin at 0."""
        self.now = 0.0
        self.seed = seed
        self.current: VirtualLoop | None = None
        self.trace = Trace(keeps_trace)
        self.preempted_for: dict[str, float] = {}
        self.on_write: Callable[[VirtualLoop, bytes], None] | None = None
        self.callbacks = 0
        self._draw = self.random("order").random
        self._due: list[tuple[float, int, VirtualLoop | None, Any]] = []
        self._sequence = 0
        self._ready: list[VirtualLoop] = []
        self._cancelled = 0
        self._is_stopped = False
        self._is_preempted = False

    def random(self, purpose: str) -> random.Random:
        """Return the draws for one purpose: what is drawn for another does not change them."""
        return random.Random(f"{self.seed} {purpose}")

    # ---- what is to happen -----------------------------------------------------------------------

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Do something outside of all loops, as the network and the kernels do; it cannot be cancelled."""
        self._sequence += 1
        heappush(self._due, (self.now + delay, self._sequence, None, action))

    def at(self, when: float, loop: VirtualLoop, handle: asyncio.Handle) -> None:
        """Have the loop run the handle from then on."""
        self._sequence += 1
        heappush(self._due, (when, self._sequence, loop, handle))

    def make_ready(self, loop: VirtualLoop) -> None:
        """The loop has something to do now."""
        self._ready.append(loop)

    def make_idle(self, loop: VirtualLoop) -> None:
        """The loop has nothing to do, or is not to do it."""
        self._ready.remove(loop)

    def timer_cancelled(self) -> None:
        """A timer that lies in the heap will not be needed."""
        self._cancelled += 1
        if self._cancelled > CANCELLED_MAX and self._cancelled * 2 > len(self._due):
            self._due[:] = [due for due in self._due if due[2] is None or not due[3]._cancelled]
            heapify(self._due)
            self._cancelled = 0

    # ---- happening -------------------------------------------------------------------------------

    def stop(self) -> None:
        """Return from `run` after the present callback."""
        self._is_stopped = True

    def run(self, limit: float) -> None:
        """Let things happen until `stop` is called.

        Args:
            limit: When to give up, in seconds since the simulation began.

        Raises:
            Stalled: If it was not called before that.
        """
        self._is_stopped = False
        due, ready, draw, called = self._due, self._ready, self._draw, self.trace.called
        hooks = sys.get_asyncgen_hooks()
        try:
            while not self._is_stopped:
                now = self.now
                while due and due[0][0] <= now:
                    _, _, loop, work = heappop(due)
                    if loop is None:
                        work()
                    elif work._cancelled:
                        self._cancelled -= 1
                    else:
                        work._scheduled = False
                        loop.enqueue(work)
                if ready:
                    count = len(ready)
                    loop = ready[0 if count == 1 else int(draw() * count)]
                    handle = loop.queue.popleft()
                    if not loop.queue:
                        loop.is_listed = False
                        ready.remove(loop)
                    if handle._cancelled:
                        continue
                    if loop is not self.current:
                        self.enter(loop)
                    called(now, loop.name, handle)
                    self.callbacks += 1
                    handle._run()
                    self.now += MOMENT
                    if loop.lead:
                        loop.rest()
                elif due:
                    when = due[0][0]
                    if when > limit:
                        raise Stalled(f"it goes on after {limit} virtual seconds")
                    self.now = when
                else:
                    raise Stalled(f"nothing can happen any more, after {self.now} virtual seconds")
        finally:
            self.enter(None)
            sys.set_asyncgen_hooks(*hooks)

    def preempt(self) -> None:
        """Let other threads of the running process run here, as they may between any two steps of real ones.

        Callbacks are what the simulation schedules. Where the order of steps inside of one matters to another
        thread, this is called between them.
        """
        running = self.current
        seconds = 0.0 if running is None else self.preempted_for.pop(running.name, 0.0)
        if running is not None and seconds and not self._is_preempted:
            self._go_on_without(running, seconds)
        if running is None or self._is_preempted:
            return  # who runs inside of another's callback must not run that other's next one
        self._is_preempted = True
        for loop in running.process.loops:
            while loop is not running and loop.is_listed and not loop.lead and self._draw() < PREEMPTED:
                self._step(loop)
        self._is_preempted = False
        if self.current is not running:
            self.enter(running)

    def _go_on_without(self, running: VirtualLoop, seconds: float) -> None:
        """Let everything else happen for so long, in the midst of a callback: its thread gets no processor."""
        self._is_preempted = True
        running.pause()
        until = self.now + seconds
        while self.now < until and not self._is_stopped:
            while self._due and self._due[0][0] <= self.now:
                _, _, loop, work = heappop(self._due)
                if loop is None:
                    work()
                elif work._cancelled:
                    self._cancelled -= 1
                else:
                    work._scheduled = False
                    loop.enqueue(work)
            if self._ready:
                self._step(self._ready[int(self._draw() * len(self._ready))])
                self.now += MOMENT
            else:
                self.now = min(until, self._due[0][0]) if self._due else until
        self._is_preempted = False
        self.enter(running)
        if not running.process.is_paused:
            running.resume()

    def _step(self, loop: VirtualLoop) -> None:
        """Run one callback of a loop inside of another's."""
        handle = loop.queue.popleft()
        if not loop.queue:
            loop.is_listed = False
            self._ready.remove(loop)
        if handle._cancelled:
            return
        self.enter(loop)
        self.trace.called(self.now, loop.name, handle)
        self.callbacks += 1
        handle._run()
        if loop.lead:
            loop.rest()

    def forget(self) -> None:
        """Drop everything that was still to happen."""
        self._due.clear()
        self._ready.clear()
        self.enter(None)

    def enter(self, loop: VirtualLoop | None) -> None:
        """From now on it is this loop whose code runs."""
        self.current = loop
        _set_running_loop(loop)
        if loop is not None:
            sys.set_asyncgen_hooks(firstiter=None, finalizer=loop.finish_generator)
