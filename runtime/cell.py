"""A cell: one activation of one actor, its mailbox and its turns.

Messages are handled one at a time, in order, by a drain task that lives only while there is
something to do, so an idle actor costs no task and no queue. A turn may begin at once, where its
message came from (`run_now`; see `runner`). Each turn begins in a clean context, so what a handler
sets in a context variable ends with its turn. `read_only` handlers run in tasks of their own beside
one another; an exclusive turn waits for them.

What happens to an activation that fails, is idle, or has to go is decided by the host.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections.abc import Awaitable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ringcast.errors import WrongArguments

from ..actors.actor import Actor
from ..actors.context import Context, Timer
from ..actors.messages import Message
from ..actors.ref import ActorRef
from ..actors.supervisor import Supervisor
from ..actors.turn import set_turn
from .blame import Blame, blame
from .door import Door
from .envelope import Envelope
from .expiry import expire, shed
from .inflight import LIGHT, Account, Weighed
from .mailbox import Mailbox, lighten
from .orders import PASSING
from .outcome import bounded, fitting, forget_cancel, went_wrong
from .runner import DONE, RUNNING, Runner, Suspended, swap_task
from .streams import serve_stream
from .tasks import tasks_by_cell
from .tenancy import FENCED, NOWHERE

if TYPE_CHECKING:
    from .backlog import Backlog
    from .family import Family
    from .host import Host
    from .kinds import Kind
    from .life import Life
    from .once import Remembered
    from .transaction import Transaction

INLINE_WINDOW = 0.004
"""Seconds of a tick in which calls of this node may begin their turns at once."""
INLINE_DEPTH = 8
"""How deep turns that begin at once may stand inside one another."""

_UNHURRIED = frozenset({"idle", "moved", "leaving"})
"""Reasons of an end that lets streams come to theirs."""

_NO_CHAIN: Final = ()
"""The one empty tuple: a local message outside of a chain of calls is known by it at once."""

NOT_NOW = object()
SUSPENDED = object()


class Cell(Mailbox):
    """One activation. Made by the host; everything else goes through its methods.

    Attributes:
        transaction: The running turn of a durable actor; None for others.
        is_saving: Whether that turn is being saved, and so cannot be cancelled any more.
    """

    transaction: Transaction | None = None
    is_saving: bool = False

    __slots__ = (
        "__weakref__",
        "actor",
        "backlog",
        "burden",
        "cancelling",
        "children",
        "current",
        "epoch",
        "failures",
        "fault",
        "last_used",
        "life",
        "not_before",
        "number",
        "pause",
        "remembered",
        "retiring",
        "side",
        "since",
        "tenure",
        "timers",
        "turn",
    )

    def __init__(self, host: Host, kind: Kind, key: Any) -> None:
        """Make an empty cell; the actor itself is made before its first turn."""
        self.host = host  # the mailbox's, written out: an actor's first message waits for this
        self.kind = kind
        self.key = key
        self.queue = self.task = self.parked = self.deferred = self.debts = None
        self.actor: Actor | None = None
        self.epoch = 0
        self.number = 0
        self.turn = 0
        self.current: Envelope | None = None
        self.since = 0.0
        self.cancelling = 0
        self.burden: Envelope | None = None
        """The message of the running turn, while it still counts for much in its peer's account."""
        self.side: dict[int, tuple[Envelope, asyncio.Task[None], float, bool]] | None = None
        self.timers: set[Timer] | None = None
        self.remembered: dict[tuple[str, str], Remembered] | None = None
        self.children: Family | None = None
        """What it supervises."""
        self.life: Life | None = None
        self.retiring: str | None = None
        self.fault: BaseException | None = None
        self.failures = 0
        self.not_before = 0.0
        self.pause: asyncio.Future[None] | None = None
        """What `_begin` waits for while it is too early to make the actor."""
        self.last_used = monotonic()
        self.backlog: Backlog | None = None
        """What is seen of a queue whose messages wait for long; see `shed`."""
        self.tenure = NOWHERE
        """Where its activation is counted: a partition, or `UNCOUNTED`; see `tenancy`."""

    # ---- turns -------------------------------------------------------------------------------

    def run_now(self, envelope: Envelope, now: float) -> Any:
        """Begin a turn at once, if the actor is idle and its handler is a plain one, called without keywords.

        The caller has seen that no task drains the mailbox.

        Returns:
            The handler's value; `SUSPENDED` if it has begun and goes on later, answering its sink;
            `NOT_NOW` if it was not begun.

        Raises:
            BaseException: What the handler raised; the sink has not been told.
        """
        host = self.host
        runners = host.runners
        parked = runners.parked
        actor = self.actor
        if (
            self.side is not None
            or self.retiring is not None
            or self.queue  # it waits for the loop to see that turns may begin again
            or not parked
            or runners.depth >= INLINE_DEPTH
            or now >= host.gate.until_monotonic
            or (actor is None and not self._may_be_made())
        ):
            return NOT_NOW
        message = envelope[0]
        args = envelope[1]
        function = message.function  # a local is called quicker than an attribute
        runner = parked.pop()
        self.task = task = runner.task
        loop = runners.loop
        swap = swap_task
        running_tasks = RUNNING
        if swap is not None:
            caller = swap(loop, task)
        else:
            caller = running_tasks.get(loop)
            running_tasks[loop] = task
        runners.depth += 1
        try:
            if actor is None:
                runner.run(self._make, now)
                actor = self.actor
                host.started(self)
            self.number = self.turn = number = self.number + 1
            self.current = envelope
            self.since = self.last_used = now
            running = function(actor, args[0]) if len(args) == 1 else function(actor, *args)  # type: ignore[misc]
            yielded = runner.run(runner.step, ((self, number, envelope), running))
        except BaseException as error:
            if self.actor is None:
                refusal = host.start_failed(self, error)
                self._over(runner)
                raise refusal(envelope) from error
            misfit = fitting(self, message, error)
            has_run = misfit is error
            if has_run:
                runner.renew()
            if blame(error, is_asked=True, has_run=has_run, failures=self.kind.actor.failures) & Blame.SUPERVISOR:
                host.failed(self, error, envelope)
            self._over(runner)
            if not has_run:
                raise misfit from None
            raise
        finally:
            runners.depth -= 1
            if swap is not None:
                swap(loop, caller)
            elif caller is None:
                del running_tasks[loop]
            else:
                running_tasks[loop] = caller
        if yielded is not DONE:
            runner.give(partial(self._drain, Suspended(runner, yielded)))
            return SUSPENDED
        value = runner.value
        self.task = self.current = runner.value = None  # `_over`, written out
        if len(runner.context) > 1:
            runners.discard(runner)
        else:
            parked.append(runner)
        if self.queue or self.retiring is not None or self.fault is not None:
            self.start()
        return value

    def move_now(self, message: Message, args: Any, now: float) -> Any:
        """Take the whole turn of a handler that only moves values, if the actor is idle; see `moves` and `run_now`.

        Returns:
            The handler's value; `NOT_NOW` if it was not begun, or has raised: where it does so again, errors are
            sorted out.
        """
        host = self.host
        actor, function = self.actor, message.function
        if (
            actor is None
            or self.side is not None
            or self.retiring is not None
            or self.queue
            or now >= host.gate.until_monotonic
        ):
            return NOT_NOW
        runners = host.runners
        try:
            value = runners.moved(function(actor, args[0]) if len(args) == 1 else function(actor, *args))  # type: ignore[misc]
        except Exception:
            runners.renew()
            return NOT_NOW
        self.number = self.turn = self.number + 1
        self.since = self.last_used = now
        return value

    def _may_be_made(self) -> bool:
        """Return whether the actor can be made at once, as one that has no state and no `on_start`."""
        return (
            self.kind.begins_plainly
            and self.life is None
            and not self.not_before
            and (self.tenure != NOWHERE or self.host.tenancy.enter(self))
        )

    def _over(self, runner: Runner) -> None:
        """A turn that was begun at once has ended at once."""
        self.task = None
        self.current = None
        runners = self.host.runners
        if len(runner.context) > 1:
            runners.discard(runner)
        else:
            runners.parked.append(runner)
        if self.queue or self.retiring is not None or self.fault is not None:
            self.start()

    def start(self) -> None:
        """See that the mailbox is drained, from the loop's next tick on, or as soon as turns may begin here."""
        if self.retiring is None and self.fault is None and not self.host.tenancy.admits(self):
            return
        self.task = self.host.runners.start(self._drain).task

    async def _drain(self, begun: Awaitable[Any] | None = None) -> None:
        """Run turns until there is nothing left to do; `begun` is one whose first step was taken."""
        try:
            if begun is not None:
                assert self.current is not None
                await self._turn(self._resumed(begun, self.current), self.current)
                self.current = None
            if self.fault is None and (self.actor is not None or await self._begin()):
                await self._turns()
            self.current = None
            if self.fault is not None:
                await self.host.recover(self)
                self.fault = None
        finally:
            if self.cancelling and self.task is not None:
                forget_cancel(self, self.task)
            self.task = None
            self.current = None
            self.unburden()
        if self.retiring is not None:
            if self._holders():
                return  # the last of them calls us again
            self.task = asyncio.current_task()
            await self.host.retire(self)
            return
        goes_on = self.life is not None and self.actor is None and self.kind.cells.get(self.key) is self
        if self.queue or goes_on:  # a failure left something, or this runner's context is spent
            self.start()
            return
        self.queue = None
        self.last_used = monotonic()

    def _resumed(self, begun: Awaitable[Any], envelope: Envelope) -> Awaitable[Any]:
        """Return what is still to be awaited of a turn that was begun."""
        return begun

    async def _begin(self) -> bool:
        """Make the actor. Return False if that failed, or it is to go before it was made."""
        while (wait := self.not_before - monotonic()) > 0 and self.retiring is None:
            await self._rest(wait)
        if self.retiring is not None:
            return True
        if not self.host.tenancy.admits(self):
            return False
        try:
            if not await self._prepare():
                return False
            self._make(monotonic())
            assert self.actor is not None
            if self.children is not None:
                self.children.reopen()  # they were kept for this start
            if not self.kind.begins_plainly:
                await self._run_on_start(self.actor)
            if isinstance(self.actor, Supervisor):
                await self.host.lives.declare(self, self.actor)
        except asyncio.CancelledError:
            if self.retiring is not None and not self.host.runners.is_closed and self.task is not None:
                self.task.uncancel()  # it took too long to start; it goes in order
                return True
            self.actor = None
            raise
        except Exception as error:
            self.actor = None
            self.host.start_failed(self, error)
            return False
        self.current = None
        self.host.started(self)
        return True

    async def _prepare(self) -> bool:
        """Do what comes before the actor can be made; False if it cannot be now, and who waits has been told."""
        return True

    async def _run_on_start(self, actor: Actor) -> None:
        await actor.on_start()

    async def run_on_stop(self, actor: Actor, reason: str) -> None:
        """Run the actor's `on_stop`, in the turn that is set."""
        await actor.on_stop(reason)

    def _next_epoch(self) -> int:
        return self.host.next_epoch(self.epoch >> 32)

    def door(self) -> Door:
        """Return what stands behind the actor's context."""
        return Door(self)

    def _furnish(self, actor: Actor) -> None:
        """Give a new actor what it has before its ``__init__`` runs, beside its context."""

    async def _rest(self, seconds: float) -> None:
        """Wait until it may be time to make the actor; `_wake` ends that early."""
        self.pause = asyncio.get_running_loop().create_future()
        timer = None if seconds == math.inf else self.host.loop.call_later(seconds, self._wake)
        try:
            await self.pause
        finally:
            self.pause = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self.pause is not None and not self.pause.done():
            self.pause.set_result(None)

    def _make(self, now: float) -> None:
        """Make the actor, in a turn of its own; `on_start` is still to come."""
        self.epoch = self._next_epoch()
        self.number = self.turn = number = self.number + 1
        self.since = now
        self.current = current = (self.kind.hooks["on_start"], (), None, None, 0, math.inf, (), None)
        set_turn((self, number, current))
        cls = self.kind.actor.cls
        actor = cls.__new__(cls)
        actor.context = Context(self)
        self._furnish(actor)
        if self.life is None:
            actor.__init__()  # type: ignore[misc]
        else:
            actor.__init__(*self.life.args, **self.life.kwargs)  # type: ignore[misc]
        self.actor = actor

    async def _turns(self) -> None:
        """Run the turns of what waits; `current` is the last one's until the loop goes on, or the drain ends."""
        mailbox = self.queue
        if mailbox is None:
            return
        assert self.task is not None
        runners = self.host.runners
        context = runners.tasks[self.task].context
        actor = self.actor
        gate = self.host.gate
        light: Weighed | None = None  # the chain of the last small message of a peer, and whose account it is in
        account: Account | None = None
        slice_end = monotonic() + runners.share()
        while mailbox and self.retiring is None and len(context) <= 1:  # else it is spent: see runner
            now = monotonic()
            if now > slice_end:
                self.current = None
                left_off = now
                await asyncio.sleep(0)
                now = monotonic()
                slice_end = now + runners.share()
                shed(self, now, now - left_off)
                continue
            if self.side and not mailbox[0][0].options.read_only and self._holders():
                self.current = None
                if not await self._readers_done() or self.fault is not None:
                    return
                continue  # it may have been cancelled while it waited
            if now >= gate.until_monotonic:
                return
            envelope = mailbox.popleft()
            message, args, kwargs, sink, number, deadline, chain, _ = envelope
            if chain is light and account is not None:  # `Account.remove`, written out
                account.waiting -= LIGHT
                if account.is_held:
                    account.remove(0)
            elif chain is not _NO_CHAIN and type(chain) is Weighed:
                if chain.weight == LIGHT:
                    light, account = chain, chain.account
                    account.remove(LIGHT)
                else:
                    self.burden = envelope
            if self.parked or self.deferred:
                self.room()
            if now > deadline:
                self.current = None
                expire(self, envelope)
                self.unburden()
                continue
            if message.is_plain and not kwargs:
                self.number = self.turn = turn = self.number + 1
                self.current = envelope
                self.since = now
                set_turn((self, turn, envelope))
                function = message.function  # a local is called quicker than an attribute
                try:
                    if len(args) == 1:  # a call without a star is quicker by a tenth of the turn
                        value = await function(actor, args[0])  # type: ignore[misc]
                    else:
                        value = await function(actor, *args)  # type: ignore[misc]
                    if sink is not None:
                        sink.reply(number, value)
                except BaseException as error:
                    if went_wrong(self, envelope, error):
                        return
            elif not message.is_plain and message.options.read_only:
                self.run_beside(envelope)
                continue
            else:
                self.number = self.turn = turn = self.number + 1
                self.current = envelope
                self.since = now
                set_turn((self, turn, envelope))
                if await self._turn(self._special(envelope), envelope):
                    return
            if self.burden is not None:
                self.unburden()

    def unburden(self) -> None:
        """The turn of a large message is over: it counts no more."""
        if self.burden is not None:
            envelope, self.burden = self.burden, None
            lighten(envelope)

    async def _turn(self, running: Awaitable[Any], envelope: Envelope) -> bool:
        """Run one turn to its end; return whether the actor has failed."""
        sink, number = envelope[3], envelope[4]
        try:
            value = await running
            if sink is not None and not envelope[0].streams:
                sink.reply(number, value)
        except BaseException as error:
            return went_wrong(self, envelope, error)
        return False

    async def _special(self, envelope: Envelope) -> Any:
        """Run a handler that streams, has a limit of its own, or is called with keywords."""
        message, args, kwargs, *_ = envelope
        if message.streams:
            await serve_stream(self, envelope)
            return None
        try:
            running = message.function(self.actor, *args, **(kwargs or {}))  # type: ignore[misc]
        except TypeError as error:
            raise fitting(self, message, error) from None
        if message.options.timeout is not None:
            running = bounded(self, running, envelope)
        return await running

    def raised(self, envelope: Envelope, error: BaseException) -> bool:
        """Give an error to whom it belongs; return whether it is the actor's own failure."""
        sink, number = envelope[3], envelope[4]
        is_misfit = isinstance(error, WrongArguments) and (error.actor, error.method) == (self.name, envelope[0].name)
        whose = blame(error, is_asked=sink is not None, has_run=not is_misfit, failures=self.kind.actor.failures)
        if sink is not None:
            sink.fail(number, error)
            if not isinstance(error, (Exception, asyncio.CancelledError)) and not whose & Blame.SUPERVISOR:
                raise error
        elif not whose:
            self.host.dead_letter(self, envelope, str(error))
        if not whose & Blame.SUPERVISOR:
            return False
        self.host.failed(self, error, envelope)
        return True

    # ---- turns beside the drain: read-only and reentrant ones -----------------------------------

    def run_beside(self, envelope: Envelope) -> None:
        """Run a turn in a task of its own. A read-only stream holds no turn; others do."""
        if self.side is None:
            self.side = {}
        self.number = turn = self.number + 1
        message = envelope[0]
        holds = not message.streams
        task = asyncio.Task(self._beside(envelope, turn), loop=self.host.loop, context=contextvars.Context())
        self.side[turn] = (envelope, task, monotonic(), holds)
        if (burden := self.burden) is not None:  # else it was small, or has not waited
            self.burden = None
            task.add_done_callback(lambda _: lighten(burden))

    async def _beside(self, envelope: Envelope, turn: int) -> None:
        sink, number = envelope[3], envelope[4]
        set_turn((self, turn, envelope))
        failed = False
        try:
            value = await self._special(envelope)
            if sink is not None and not envelope[0].streams:
                sink.reply(number, value)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            assert task is not None
            if not task.cancelling():
                failed = self.raised(envelope, error)
            elif sink is not None and self.retiring != FENCED:
                sink.fail(number, self.host.lost(self, envelope, "was cancelled, for its activation ended"))
        except BaseException as error:
            failed = self.raised(envelope, error)
        finally:
            side = self.side
            if side is not None:
                side.pop(turn, None)
                if not side:
                    self.side = None
            self.last_used = monotonic()
            if self.task is None and not self._holders() and (failed or self.queue or self.retiring):
                self.start()

    async def _readers_done(self) -> bool:
        """Wait for the turns beside; return False if the cell is to go meanwhile."""
        while tasks := self._holders():
            await asyncio.wait(tasks)
        return self.retiring is None

    def _holders(self) -> list[asyncio.Task[None]]:
        """Return the tasks of turns beside the drain; read-only streams hold no turn."""
        return [task for _, task, _, holds in (self.side or {}).values() if holds]

    def holds(self, envelope: Envelope) -> bool:
        """Whether a message still waits or runs here."""
        return (
            self.current is envelope
            or any(waiting is envelope for waiting in self.queue or ())
            or any(running is envelope for running, _, _, _ in (self.side or {}).values())
        )

    # ---- the end -----------------------------------------------------------------------------

    def retire(self, reason: str) -> None:
        """See that the activation ends after its running turn; see `Host.retire`.

        A final reason takes the place of one after which the actor might be started again.
        """
        if self.is_going or (self.retiring is not None and reason in PASSING):
            return
        self.retiring = reason
        self._wake()
        if self.task is None and not (self.side if reason in _UNHURRIED else self._holders()):
            self.start()

    def fail(self, error: BaseException) -> None:
        """Fail the actor for something that is not its own turn's: its children have failed too often."""
        if self.retiring is None and self.fault is None:
            self.fault = error
            self.retiring = "failed"  # so that no further turn begins
            if self.task is None and not self._holders():
                self.start()

    @property
    def is_going(self) -> bool:
        """Whether it is to end for good; a spawned actor may come back from other ends."""
        if self.life is None:
            return self.retiring not in (None, "failed")
        return self.retiring is not None and (self.life.is_over or self.retiring not in PASSING)

    def revive_at(self, when: float) -> None:
        """Make the actor again at a monotonic time without waiting for a message: it has a life of its own."""
        self.not_before = when
        self._wake()
        if self.task is None:
            self.start()

    def cancel_timers(self) -> None:
        """End the timers of this activation."""
        for timer in list(self.timers or ()):
            timer.cancel()
        self.timers = None

    def cancel_turns(self) -> None:
        """Cancel what still runs: the time to finish is over."""
        if self.task is not None:
            self.task.cancel()
        for _, task, _, _ in (self.side or {}).values():
            task.cancel()

    async def end_tasks(self) -> None:
        """End the turns beside and the tasks that handlers of this activation started."""
        tasks: list[asyncio.Task[Any]] = [task for _, task, _, _ in (self.side or {}).values()]
        tasks += tasks_by_cell(self.host).get(self, [])
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5.0)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits, ticks or streams here."""
        return self.task is None and not self.side and not self.queue and not self.timers

    @property
    def me(self) -> ActorRef:
        """The actor's own ref."""
        return self.host.ref_to(self)

    def run_hook(self, message: Message, *args: Any) -> None:
        """Run a hook as a told message: in turn, and its failure is the actor's."""
        self.accept((message, args, None, None, 0, math.inf, (), None))
