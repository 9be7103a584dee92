"""Runners: tasks that wait for turns, so that a turn needs no task of its own.

Making a task for each turn would cost more than most turns. A runner is a task that is parked; it
is woken to drain a mailbox. And a turn may begin without waking it: its first step runs at once,
wherever the message came from, with the runner entered as the current task, so that
`asyncio.timeout`, task groups and cancellation find the task that they expect. If the handler ends
in that step, the runner was never woken. If it suspends, the runner adopts it: it waits for what
the handler waits for, and goes on from there.

Each turn begins in a clean context. A runner's context holds the running turn and nothing else; a
runner whose handler has set a context variable is not used again, so nothing leaks from one
turn into another.

References:
    Python documentation, "Extending asyncio": `_enter_task` and `_leave_task` are for this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any

from ..actors.turn import Turn, current_turn

SLICE = 0.003
"""Seconds that one drain may keep the loop before others get their turn."""
SLICE_LEAST = 0.0003
"""The same where very many drain: a turn or two at a time."""
WHOLE_SLICES = 4
"""Drains that get whole slices; more of them share what these would have."""
PARKED_MAX = 256
"""Parked runners that are kept; more are let go."""

Job = Callable[[], Coroutine[Any, Any, None]]


class Suspended:
    """A coroutine that was begun elsewhere and waits for what it yielded: await it to go on."""

    __slots__ = ("_running", "_yielded")

    def __init__(self, running: Coroutine[Any, Any, Any], yielded: Any) -> None:
        """Take over a coroutine after its first step."""
        self._running = running
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for what the coroutine waits for, and drive it to its end."""
        running, yielded = self._running, self._yielded
        try:
            while True:
                try:
                    sent = yield yielded
                except GeneratorExit:
                    running.close()
                    raise
                except BaseException as error:
                    yielded = running.throw(error)
                else:
                    yielded = running.send(sent)
        except StopIteration as done:
            return done.value


class Runner:
    """One task for turns."""

    __slots__ = ("_job", "_park", "_pool", "context", "task")

    def __init__(self, pool: Runners, job: Job) -> None:
        """Start with a job, in the loop's next tick."""
        self._pool = pool
        self._job: Job | None = job
        self._park: asyncio.Future[None] | None = None
        self.context = Context()
        self.task: asyncio.Task[None] = asyncio.Task(self._live(), loop=pool.loop, context=self.context)
        pool.tasks[self.task] = self

    def give(self, job: Job) -> None:
        """Wake a parked runner to do something."""
        assert self._park is not None, "only a parked runner takes a job"
        self._job = job
        if not self._park.done():  # else a stray cancel is waking it already
            self._park.set_result(None)

    async def _live(self) -> None:
        pool = self._pool
        try:
            while True:
                job, self._job = self._job, None
                if job is not None:
                    await job()
                    if not pool.take_back(self):
                        return
                self._park = pool.loop.create_future()
                try:
                    await self._park
                except asyncio.CancelledError:
                    if pool.is_closed:
                        return
                    self.task.uncancel()
                    if self._job is None:
                        pool.let_go(self)  # a stray cancel, from a turn that is over
                        return
                    if not self._park.cancelled():
                        self.task.cancel()  # it came after the job: it is meant for the turn just adopted
                finally:
                    self._park = None
        finally:
            pool.tasks.pop(self.task, None)


class Runners:
    """The runners of one node."""

    def __init__(self) -> None:
        """Start without any; the loop is set before the first turn."""
        self.loop: asyncio.AbstractEventLoop
        self.tasks: dict[asyncio.Task[Any], Runner] = {}
        self.depth = 0
        self.parked: list[Runner] = []
        self.is_closed = False
        self.slice = SLICE
        """Seconds that a drain may keep the loop, as it was when one had last used its time up."""

    def share(self) -> float:
        """Divide the loop's time anew between those that drain; return what one gets."""
        busy = len(self.tasks) - len(self.parked)
        self.slice = max(SLICE * min(1.0, WHOLE_SLICES / max(busy, 1)), SLICE_LEAST)
        return self.slice

    def start(self, job: Job) -> Runner:
        """Have a runner do something from the loop's next tick on."""
        if self.parked:
            runner = self.parked.pop()
            runner.give(job)
            return runner
        return Runner(self, job)

    def take_back(self, runner: Runner) -> bool:
        """Keep a runner whose job is done, unless it is spent: return whether it is kept."""
        if len(runner.context) > 1 or self.is_closed or len(self.parked) >= PARKED_MAX:
            return False
        self.parked.append(runner)
        return True

    def discard(self, runner: Runner) -> None:
        """End a runner that was never woken, because its context is spent."""
        runner.give(_nothing)

    def let_go(self, runner: Runner) -> None:
        """Forget a runner that ends."""
        if runner in self.parked:
            self.parked.remove(runner)

    def close(self) -> None:
        """End all runners; their turns are over."""
        self.is_closed = True
        self.parked.clear()
        for task in list(self.tasks):
            task.cancel()


def first_step(running: Coroutine[Any, Any, Any], turn: Turn) -> Any:
    """Take the first step of a turn, inside a runner's context; return what it waits for.

    Raises:
        StopIteration: If the handler ended in that step; with its value.
    """
    current_turn.set(turn)
    return running.send(None)


async def _nothing() -> None:
    """Do nothing."""
