"""The host: the activations of one node, and which of them belong here.

It makes cells, lets them go when they are idle, fail or belong elsewhere, and decides for each
message that arrives without a cell whether to activate the actor or to forward the message to the
owner. The owner of a keyed actor is a pure function of the view: the ring over the members that
host its class (`owner`).

What is decided elsewhere: which view is in force (discovery), how messages travel (link, router),
how a spawned actor begins and ends (lives).
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import hashlib
import math
from collections.abc import Callable, Container, Coroutine, Iterable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, ActorStopped, CallError, NodeStopped, RingcastError, StoreError, Unreachable
from ringcast.logger import get_logger

from ..actors.actor import Actor
from ..actors.ref import ActorRef, display, is_spawned
from ..actors.turn import current_turn
from ..discovery.gate import Gate
from ..discovery.member import View
from .cell import INLINE_WINDOW, Cell
from .codec import Codec
from .cycles import enter
from .dead import DeadLetters
from .durable import DurableCell
from .envelope import Envelope, Sink
from .expiry import cancel_call, stopped
from .kinds import Kind, Kinds
from .mailbox import Mailbox
from .once import Remembered, make_room
from .runner import Runners
from .streams import Outflow
from .tasks import tasks_by_cell
from .tenancy import FENCED, Tenancy

if TYPE_CHECKING:
    from .durability import Durability
    from .lives import Lives
    from .router import Router
    from .watched import Watched
    from .watches import Watches
    from .wills import Wills

IDLE_CHUNK = 5000
"""Cells that one step of the idle sweep looks at."""


class Host:
    """The activations of one node."""

    def __init__(
        self,
        node_id: str,
        router: Router,
        kinds: Kinds,
        codec: Codec,
        dead: DeadLetters,
    ) -> None:
        """Start empty and without a view; the node sets the loop, the gate, and the parts that are declared only."""
        self.node_id = node_id
        self.loop: asyncio.AbstractEventLoop
        self.router = router
        self.codec = codec
        self.dead = dead
        self.gate: Gate
        self.tenancy: Tenancy
        self.lives: Lives
        self.watches: Watches
        self.watched: Watched
        self.wills: Wills
        self.durability: Durability
        self.move_seconds = math.inf
        """How long a turn may run on whose actor belongs elsewhere."""
        self.kinds = kinds
        self.runners = Runners()
        self.inline_until = 0.0
        self._window_open = False
        self.outflows: dict[tuple[Sink, int], Outflow] = {}
        self.log = get_logger("ringcast").bind(node=node_id)
        self.activations = 0
        self._epochs = 0
        self.restarts = 0
        self._view_changed = asyncio.Event()
        self._retired = asyncio.Event()
        self._idle_sweep: asyncio.Task[None] | None = None
        self._background: dict[asyncio.Task[None], None] = {}
        self.ended: str | None = None
        """Why nothing of the node's own is begun any more."""

    # ---- the view --------------------------------------------------------------------------------

    def ref_to(self, cell: Cell) -> ActorRef:
        """Return the ref of an activation of this node."""
        return self.kinds.ref_by_name(cell.kind.name, cell.key, None if cell.life is None else self.node_id)

    def install(self, view: View) -> None:
        """Take a new view: what belongs elsewhere from now on is handed over."""
        self.kinds.install(view)
        self.tenancy.view_changed()
        self.router.routes.view_changed(view.number)
        self._move()
        self.lives.register.install(view)
        self.lives.supervision.view_changed()
        self.durability.view_changed()
        changed, self._view_changed = self._view_changed, asyncio.Event()
        changed.set()

    def _move(self) -> None:
        """Let the keyed actors go that belong elsewhere under the present view."""
        tasks = tasks_by_cell(self)
        slow: list[Cell] = []
        for kind in list(self.kinds.by_name.values()):
            if not kind.cells or self.tenancy.stays(kind):
                continue
            for cell in list(kind.cells.values()):
                if cell.life is None and cell.retiring is None and not self.tenancy.belongs_here(cell):
                    self._retire_now(cell, "moved", tasks)
                    if cell.retiring is not None and kind.cells.get(cell.key) is cell:
                        slow.append(cell)
        me = self.kinds.members.get(self.node_id)
        if slow and not (me is not None and me.leaving):  # then `drain` keeps the time
            self.loop.call_later(self.move_seconds, self._cut_short, slow)

    def _cut_short(self, cells: list[Cell]) -> None:
        """Cancel the turns of activations that had to go: the time to finish is over."""
        for cell in cells:
            if cell.kind.cells.get(cell.key) is cell:
                cell.cancel_turns()

    # ---- activating and delivering ----------------------------------------------------------------

    def activate(self, kind: Kind, key: Any) -> Cell:
        """Make the cell of a keyed actor that belongs here.

        Raises:
            ActorStopped: For a spawned actor that has ended.
            Unreachable: If this process cannot make one.
        """
        if is_spawned(key):
            raise ActorStopped(
                f"{display(kind.name, key)} has ended; spawn it again",
                certainty=NOT_SENT,
                actor=display(kind.name, key),
                node=self.node_id,
            )
        if not kind.is_here or kind.actor.required:
            raise Unreachable(
                f"{display(kind.name, key)} cannot be activated: node {self.node_id} has not imported its class, or "
                f"its constructor needs arguments there",
                certainty=NOT_SENT,
                actor=display(kind.name, key),
                node=self.node_id,
            )
        cell = self.make_cell(kind, key)
        if self._idle_sweep is None:
            self._idle_sweep = self.loop.create_task(self._sweep_idle(), context=contextvars.Context())
        return cell

    def make_cell(self, kind: Kind, key: Any) -> Cell:
        """Make the cell of an actor whose class is here."""
        cell = kind.cells[key] = DurableCell(self, kind, key) if kind.is_durable else Cell(self, kind, key)
        self.activations += 1
        return cell

    def next_epoch(self, number: int) -> int:
        """Return the next fencing token: a view's number, by default the present one's; then a count of this node."""
        self._epochs += 1
        return ((number or self.router.routes.view_number) << 32) | self._epochs

    def deliver(self, kind: Kind, key: Any, envelope: Envelope, once: str | None) -> None:
        """Deliver a call of this node to an actor that belongs here."""
        cell = kind.cells.get(key)
        if cell is None:
            cell = self.activate(kind, key)
        admitted = self.admit(cell, envelope, once)
        if admitted is not None:
            cell.accept_local(admitted)

    def open_window(self, now: float) -> bool:
        """Begin the time in this tick of the loop in which turns may begin at once; False if it is over.

        A caller in a tight loop whose every turn ends at once would never let the loop go on.
        """
        if self._window_open:
            return False
        self._window_open = True
        self.inline_until = now + INLINE_WINDOW
        self.loop.call_soon(self._close_window)
        return True

    def _close_window(self) -> None:
        self._window_open = False
        self.inline_until = 0.0

    def admit(self, cell: Cell, envelope: Envelope, once: str | None) -> Envelope | None:
        """Apply what few messages have: a chain that may come back here, an idempotency key.

        Returns:
            The envelope to put into the mailbox; None if the message has been dealt with.
        """
        if envelope[6] and enter(cell, envelope):
            return None
        sink = envelope[3]
        if once is None or sink is None:
            return envelope
        message, args, kwargs, _, number, deadline, chain, trace = envelope
        if cell.remembered is None:
            cell.remembered = {}
        place = (message.name, once)
        # What they were is not needed to tell a retry from a mistake, and a client's may be large.
        arguments = hashlib.sha256(self.codec.pack([list(args), kwargs or {}])).digest()
        known = cell.remembered.get(place)
        if known is not None and known.expires > monotonic():
            known.join(arguments, sink, number, cell.name, message.name)
            return None
        remembered = cell.remembered
        make_room(remembered)
        first = Remembered(once, arguments, sink, number, self.codec.copy, partial(remembered.pop, place, None))
        remembered[place] = first
        return (message, args, kwargs, first, number, deadline, chain, trace)

    async def wait_for_view(self, seconds: float) -> None:
        """Return with the next view, or after `seconds`.

        Raises:
            NodeStopped: If the node has ended: whoever asks until somebody answers asks no more.
        """
        changed = self._view_changed
        if self.ended is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed.wait()
        if self.ended is not None:
            raise NodeStopped(self.ended, certainty=NOT_SENT, node=self.node_id)

    def background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something of the node's own beside the turns; it ends with the node."""
        task = self.loop.create_task(work, context=contextvars.Context())
        self._background[task] = None
        task.add_done_callback(self._background_over)
        return task

    def _background_over(self, task: asyncio.Task[None]) -> None:
        self._background.pop(task, None)
        if self.ended is None or task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, NodeStopped):
            self.loop.call_exception_handler({"message": "a task of a node failed", "exception": error, "task": task})

    def cancel(self, kind: Kind, key: Any, sink: Sink, number: int, expired: bool) -> bool:
        """Cancel a call that is here; return whether it was found."""
        cell = kind.cells.get(key)
        return cell is not None and cancel_call(cell, sink, number, expired)

    def pull(self, sink: Sink, number: int, count: int) -> None:
        """Give a stream's handler room for more items."""
        outflow = self.outflows.get((sink, number))
        if outflow is not None:
            outflow.pull(count)

    def stop_stream(self, sink: Sink, number: int) -> None:
        """End a stream whose reader has been told that it gets no more."""
        outflow = self.outflows.get((sink, number))
        if outflow is not None:
            cancel_call(outflow.cell, sink, number, expired=False)

    def close_streams(self, sink: Sink) -> None:
        """End the streams of a reader whose link has ended."""
        for (reader, number), outflow in list(self.outflows.items()):
            if reader == sink:
                cancel_call(outflow.cell, sink, number, expired=False)

    # ---- failing, ending, going away -----------------------------------------------------------------

    def started(self, cell: Cell) -> None:
        """Note that an actor has been made; a supervisor is up once its children are."""
        if cell.life is not None and not cell.kind.supervises:
            self.lives.supervision.started(cell)

    def start_failed(self, cell: Cell, error: BaseException) -> Callable[[Envelope], RingcastError]:
        """An actor could not be made: whoever waits is told why, and the next try waits.

        Returns:
            What makes the error for one message.
        """
        self.log.error("actor could not be started", actor=cell.name, exc_info=error)

        def refusal(envelope: Envelope) -> RingcastError:
            if isinstance(error, StoreError):
                return error  # it says what is wrong with the actor's state
            failure = ActorStopped(
                f"{cell.name} could not be started: {type(error).__name__}: {error}",
                certainty=NOT_SENT,
                actor=cell.name,
                method=envelope[0].name,
                node=self.node_id,
            )
            failure.__cause__ = error
            return failure

        cell.refuse_rest(refusal)
        cell.fault = error
        return refusal

    def failed(self, cell: Cell, error: BaseException, envelope: Envelope) -> None:
        """A turn failed its actor; `recover` follows once the turn is over."""
        trace = self.router.trace_of((cell, cell.turn, envelope))
        self.log.error("actor failed", actor=cell.name, trace=trace, method=envelope[0].name, exc_info=error)
        cell.fault = error

    async def recover(self, cell: Cell) -> None:
        """End a failed activation; when the next begins is the backoff's, or the supervisor's, to say."""
        fault = cell.fault
        if cell.retiring == "failed":
            cell.retiring = None
        await self._wind_up(cell, "failed")
        options = cell.kind.actor.options.supervision
        now = monotonic()
        if now - cell.not_before > options.within:
            cell.failures = 0
        cell.failures += 1
        if cell.life is None:
            cell.not_before = now + options.backoff.delay(cell.failures, self.lives.rng)
            if cell.retiring is None and self.kinds.owner_or_none(cell.kind, cell.key) != self.node_id:
                cell.retire("moved")  # the view changed while its failure was on the way
        elif cell.retiring in (None, "ended"):
            cell.retiring = None
            self.lives.supervision.is_down(cell, "failed", f"{type(fault).__name__}: {fault}")

    def _retire_now(self, cell: Cell, reason: str, tasks: Container[Cell]) -> None:
        """Let an activation go; at once, if nothing runs and nothing needs to be awaited.

        `tasks` are the activations with tasks of their own: many go together, one look serves all.
        """
        if (
            cell.task is None
            and not cell.side
            and cell.life is None
            and not cell.children
            and (cell.actor is None or type(cell.actor).on_stop is Actor.on_stop)
            and cell not in tasks
        ):
            cell.retiring = reason
            cell.cancel_timers()
            self._remove(cell, reason)
        else:
            cell.retire(reason)

    async def retire(self, cell: Cell) -> None:
        """End an activation whose turns are over (called by the cell itself)."""
        await self._wind_up(cell, cell.retiring or "stopped")
        reason = cell.retiring or "stopped"  # a stop for good may have come meanwhile
        if cell.life is None or cell.is_going or cell.life.is_over:
            await self._release(cell, reason)
            return
        cell.retiring = None
        cell.task = None
        self.lives.supervision.is_down(cell, "halted" if reason == "restarting" else reason, reason)
        if cell.task is None:
            cell.start()

    async def _wind_up(self, cell: Cell, reason: str) -> None:
        """Stop children, run `on_stop`, end timers and tasks: the activation is over, the cell is not."""
        cell.cancel_timers()
        supervision = self.lives.supervision
        await supervision.close(cell, reason)
        actor = cell.actor
        if actor is not None and type(actor).on_stop is not Actor.on_stop:
            cell.number += 1
            current_turn.set((cell, cell.number, (cell.kind.hooks["on_stop"], (), None, None, 0, math.inf, (), None)))
            try:
                async with asyncio.timeout(supervision.patience):
                    await cell.run_on_stop(actor, reason)
            except Exception as error:
                self.log.error("on_stop failed", actor=cell.name, reason=reason, exc_info=error)
        await cell.end_tasks()
        cell.actor = None
        cell.remembered = None

    async def _release(self, cell: Cell, reason: str) -> None:
        await self.lives.supervision.close(cell, reason if cell.is_going else "stopped")  # who was kept until now
        cell.task = None
        if cell.retiring == FENCED:
            return  # it was removed at once
        self._remove(cell, reason)
        if cell.life is not None:
            self.lives.released(cell, reason)

    def _remove(self, cell: Cell, reason: str) -> None:
        """Forget a cell, and see where what still waits in it belongs."""
        cells = cell.kind.cells
        if cells.get(cell.key) is cell:
            del cells[cell.key]
        cell.settle()
        if cell.life is not None and reason in ("leaving", FENCED) and cell.life.outlives_its_node:
            for envelope in cell.take_rest():
                if not self.watches.is_notice(envelope):
                    self.lives.seeker.seek(None, cell.kind, cell.key, envelope, 0, None)
        elif cell.life is not None:
            cell.refuse_rest(lambda envelope: stopped(cell, envelope))
        else:
            for envelope in cell.take_rest():
                if not self.watches.is_notice(envelope):
                    self.redeliver(cell.kind, cell.key, envelope)
            self.watched.released(cell.kind.name, cell.key, reason)
        self.watches.released(cell, reason)
        self.tenancy.leave(cell)
        self.note_retired()

    def redeliver(self, kind: Kind, key: Any, envelope: Envelope) -> None:
        """Deliver what waited in an activation that is gone: here again, or at the new owner."""
        try:
            if self.kinds.owner(kind, key, None) == self.node_id and self.router.stopped is None:
                cell = kind.cells.get(key) or self.activate(kind, key)
                cell.accept(envelope)
            else:
                self.router.routes.forward(kind, key, envelope, 0)
        except CallError as error:
            if envelope[3] is not None:
                envelope[3].fail(envelope[4], error)
            else:
                self.dead.add(display(kind.name, key), envelope[0].name, str(error))

    def fence(self) -> None:
        """End all activations at once, for others may have begun them anew: this run of the node is over.

        Who waits for a running turn is told that it may have been executed; what a turn still says from now on
        is not done. Messages that wait stay here until a view says where they belong.
        """
        tasks = tasks_by_cell(self)
        cells = list(self.cells())
        for cell in cells:
            cell.children = None  # those here end, too, and those on other nodes see that this one is lost
        for cell in cells:
            was_going = cell.retiring is not None
            running = [envelope for envelope, *_ in (cell.side or {}).values()]
            if cell.current is not None:
                running.append(cell.current)
            cell.retiring = FENCED
            for envelope in running:
                if (sink := envelope[3]) is not None:
                    why = "was cut short: its node was declared lost, or has moved to another cluster of its name"
                    sink.fail(envelope[4], self.lost(cell, envelope, why))
            cell.cancel_timers()
            self._remove(cell, FENCED)
            if cell.life is not None:
                self.lives.released(cell, FENCED)
            if cell.task is not None or cell.side:
                if not was_going:  # else it is about to end
                    cell.cancel_turns()
            elif cell in tasks or (cell.actor is not None and type(cell.actor).on_stop is not Actor.on_stop):
                self.background(self.retire(cell))
        self.tenancy.fenced()

    async def drain(self, seconds: float) -> None:
        """Wait until all activations are gone, then cancel what still runs."""
        tasks = tasks_by_cell(self)
        for cell in list(self.cells()):
            if not cell.is_going and not self.lives.supervision.stops_with_its_parent(cell):
                self._retire_now(cell, "leaving", tasks)
        end = monotonic() + seconds
        while any(True for _ in self.cells()) and (left := end - monotonic()) > 0:
            try:
                async with asyncio.timeout(min(left, 0.5)):
                    await self.next_retired()
            except TimeoutError:
                continue
        for cell in list(self.cells()):
            cell.cancel_turns()
        for _ in range(50):
            if not any(True for _ in self.cells()):
                break
            await asyncio.sleep(0.02)

    def note_retired(self) -> None:
        """An activation has gone, or is over and its cell is kept."""
        self._retired.set()

    async def next_retired(self) -> None:
        """Wait until some activation has gone."""
        self._retired.clear()
        await self._retired.wait()

    def cells(self) -> Iterable[Cell]:
        """Yield every activation of this node."""
        for kind in list(self.kinds.by_name.values()):
            yield from list(kind.cells.values())

    async def _sweep_idle(self) -> None:
        """Deactivate keyed actors that have had nothing to do for long, a chunk at a time."""
        while True:
            shortest = 30.0
            for kind in list(self.kinds.by_name.values()):
                idle_after = kind.actor.options.idle_after if kind.is_here else None
                if idle_after is None or not kind.cells:
                    continue
                shortest = min(shortest, idle_after / 4)
                tasks = tasks_by_cell(self)
                for count, cell in enumerate(list(kind.cells.values())):
                    has_rested = cell.last_used + idle_after < monotonic()
                    if has_rested and cell.is_idle and cell.life is None and cell.retiring is None:
                        self._retire_now(cell, "idle", tasks)
                    if count % IDLE_CHUNK == IDLE_CHUNK - 1:
                        await asyncio.sleep(0)
                        tasks = tasks_by_cell(self)
            await asyncio.sleep(max(shortest, 0.02))

    def stats(self) -> dict[str, int | float]:
        """Return counts, by name."""
        return {
            "actors": sum(len(kind.cells) for kind in self.kinds.by_name.values()),
            "activations": self.activations,
            "restarts": self.restarts,
            "streams_open": len(self.outflows),
            **self.tenancy.stats(),
        }

    def end(self, why: str) -> None:
        """Begin nothing of the node's own any more; who waits for others waits no longer."""
        self.ended = why
        self.lives.register.stop()
        self._view_changed.set()

    async def stop_background(self) -> None:
        """End the host's own tasks."""
        await asyncio.sleep(0)  # what was begun just now must begin before it is ended: it may hold a socket
        tasks = [task for task in self._background if task is not asyncio.current_task()]
        if self._idle_sweep is not None:
            tasks.append(self._idle_sweep)
        self.runners.close()
        tasks.extend(task for task in self.runners.tasks if task is not asyncio.current_task())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- for cells ---------------------------------------------------------------------------------

    def dead_letter(self, cell: Mailbox, envelope: Envelope, reason: str) -> None:
        """Count a told message that was not handled."""
        self.dead.add(cell.name, envelope[0].name, reason)

    def lost(self, cell: Cell, envelope: Envelope, why: str) -> CallError:
        """Return what a caller gets whose running turn was ended."""
        return Unreachable(
            f"{cell.name}.{envelope[0].name} {why}", actor=cell.name, method=envelope[0].name, node=self.node_id
        )

    def log_of(self, cell: Cell) -> Any:
        """Return a logger bound to node, actor and trace."""
        turn = current_turn.get()
        trace = None if turn is None else self.router.trace_of(turn)
        return self.log.bind(actor=cell.name, trace=trace)
