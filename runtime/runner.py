"""Runners: tasks that wait for turns, so that a turn needs no task of its own.

Making a task for each turn would cost more than most turns. A runner is a task that is parked; it
is woken to drain a mailbox. And a turn may begin without waking it: its first step runs at once,
wherever the message came from, with the runner entered as the current task, so that
`asyncio.timeout`, task groups and cancellation find the task that they expect. If the handler ends
in that step, the runner was never woken. If it suspends, the runner adopts it: it waits for what
the handler waits for, and goes on from there.

That first step goes through the runner's *pump*, a generator that drives one handler after another
in the runner's context. A handler that ends hands its value to the pump within the interpreter, where
a `send` of our own would have to make and catch a `StopIteration`, and that takes longer than most
handlers. If the handler suspends, the pump is suspended with it, and is what the runner adopts. One
that raises ends the pump, and the runner gets a new one.

Each turn begins in a clean context. A runner's context holds the running turn and nothing else; a
runner whose handler has set a context variable is not used again, so nothing leaks from one
turn into another.

References:
    Python documentation, "Extending asyncio": `_enter_task` and `_leave_task` are for this. `swap_task` is
    what asyncio has for its own eager tasks: the same in one step.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Final, Protocol, cast

from ..actors.turn import Turn, set_turn

SLICE = 0.003
"""Seconds that one drain may keep the loop before others get their turn."""
SLICE_LEAST = 0.0003
"""The same where very many drain: a turn or two at a time."""
WHOLE_SLICES = 4
"""Drains that get whole slices; more of them share what these would have."""
PARKED_MAX = 256
"""Parked runners that are kept; more are let go."""

Job = Callable[[], Coroutine[Any, Any, None]]


Step = Callable[[tuple[Turn, Any]], Any]
"""Takes the first step of a turn; returns `DONE`, or what the handler waits for."""

DONE: Final = object()
"""What a pump yields when a handler has ended; its value is the runner's `value`."""

swap_task = cast("Callable[[Any, Any], Any] | None", vars(asyncio.tasks).get("_swap_current_task"))
"""Makes a task the loop's current one, None for none, and returns which was; there from Python 3.12 on."""

RUNNING: Final = cast("dict[Any, Any]", vars(asyncio.tasks).get("_current_tasks"))
"""The current task of each loop, for Python 3.11: a function of our own around it would take longer than it all."""


class KeepsRunner(Protocol):
    """A turn that waits for something without a task."""

    def cancelled(self) -> Job:
        """Return what its runner is to do, which was cancelled: it is about to be cancelled in that once more."""
        ...


class Suspended:
    """A turn whose first step was taken elsewhere, and that waits for what it yielded: await it to go on."""

    __slots__ = ("_runner", "_yielded")

    def __init__(self, runner: Runner, yielded: Any) -> None:
        """Take over what the runner's pump drives."""
        self._runner = runner
        self._yielded = yielded

    def __await__(self) -> Generator[Any, Any, Any]:
        """Wait for what the handler waits for, and drive it to its end."""
        runner, yielded = self._runner, self._yielded
        pump = runner.pump
        try:
            while yielded is not DONE:
                try:
                    sent = yield yielded
                except GeneratorExit:
                    pump.close()
                    raise
                except BaseException as error:
                    yielded = pump.throw(error)
                else:
                    yielded = pump.send(sent)
        except BaseException:
            runner.renew()
            raise
        value = runner.value
        runner.value = None
        return value


class Runner:
    """One task for turns."""

    __slots__ = ("_job", "_park", "_pool", "context", "kept_for", "pump", "run", "step", "task", "value")

    pump: Generator[Any, Any, None]
    step: Step

    def __init__(self, pool: Runners, job: Job) -> None:
        """Start with a job, in the loop's next tick."""
        self._pool = pool
        self._job: Job | None = job
        self._park: asyncio.Future[None] | None = None
        self.context = Context()
        self.run = self.context.run
        self.value: Any = None
        """What the last handler returned that ended in its first step, until it is taken."""
        self.kept_for: KeepsRunner | None = None
        """A turn that waits without a task, while the runner is kept for it, parked."""
        self.renew()
        self.task: asyncio.Task[None] = asyncio.Task(self._live(), loop=pool.loop, context=self.context)
        pool.tasks[self.task] = self

    def renew(self) -> None:
        """Make a new pump: a handler has raised through the last one."""
        self.pump = cast("Generator[Any, Any, None]", _pump(self))
        self.step = self.pump.send
        self.pump.send(None)

    @property
    def is_woken(self) -> bool:
        """Whether it is parked, but about to run: a cancel has come that was meant for a turn that is over."""
        return self._park is None or self._park.done()

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
                    if self._job is not None:
                        if not self._park.cancelled():
                            self.task.cancel()  # it came after the job: it is meant for the turn just adopted
                    elif self.kept_for is not None:
                        self._job, self.kept_for = self.kept_for.cancelled(), None
                        self.task.cancel()
                    else:
                        pool.let_go(self)  # a stray cancel, from a turn that is over
                        return
                finally:
                    self._park = None
        finally:
            pool.tasks.pop(self.task, None)
            self.pump.close()  # it holds the runner, and the runner it


class Runners:
    """The runners of one node."""

    def __init__(self) -> None:
        """Start without any; the loop is set before the first turn."""
        self.loop: asyncio.AbstractEventLoop
        self.tasks: dict[asyncio.Task[Any], Runner] = {}
        self.depth = 0
        self.parked: list[Runner] = []
        self.is_closed = False
        self.moved = _mover()

    def renew(self) -> None:
        """Make a new mover: a handler has raised through the last one."""
        self.moved = _mover()

    def share(self) -> float:
        """Divide the loop's time between those that drain: return how long one of them may keep it."""
        busy = len(self.tasks) - len(self.parked)
        return SLICE if busy <= WHOLE_SLICES else max(SLICE * WHOLE_SLICES / busy, SLICE_LEAST)

    def start(self, job: Job) -> Runner:
        """Have a runner do something from the loop's next tick on."""
        if self.parked:
            runner = self.parked.pop()
            runner.give(job)
            return runner
        return Runner(self, job)

    def begin(self, runner: Runner, turn: Turn, running: Any) -> Any:
        """Take the first step of a turn in a runner that was parked, as `Cell.run_now` does: what its pump yields."""
        task, loop = runner.task, self.loop
        if swap_task is not None:
            caller = swap_task(loop, task)
        else:
            caller = RUNNING.get(loop)
            RUNNING[loop] = task
        self.depth += 1
        try:
            return runner.run(runner.step, (turn, running))
        finally:
            self.depth -= 1
            if swap_task is not None:
                swap_task(loop, caller)
            elif caller is None:
                del RUNNING[loop]
            else:
                RUNNING[loop] = caller

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


def _mover() -> Callable[[Any], Any]:
    """Return what drives handlers that cannot suspend, one after another: takes a coroutine, returns its value."""
    mover = cast("Generator[Any, Any, None]", _move())
    mover.send(None)
    return mover.send


@types.coroutine
def _move() -> Generator[Any, Any, None]:
    running = yield
    while True:
        running = yield (yield from running)


@types.coroutine
def _pump(runner: Runner) -> Generator[Any, Any, None]:
    """Drive handlers to their ends, one after another; to be sent (turn, coroutine) in the runner's context."""
    turn, running = yield
    while True:
        set_turn(turn)
        runner.value = yield from running
        turn, running = yield DONE


async def _nothing() -> None:
    """Do nothing."""
