"""A cell of a durable actor: it claims the actor's row, and each of its turns is a transaction.

The activation begins with a claim, whose version is the actor's epoch. After each exclusive turn the state is
packed; if that differs from what is stored, it is written over the version that this activation knows, and only
then do the reply and the turn's effects leave. A turn that raises, or that cannot be saved, is undone: the state
is unpacked anew from what was saved last.

What a failed write does to the activation:

* surely not written, and nobody else has the row: the call fails, the activation goes on;
* fenced, or nobody knows: the activation is *spent*. The next message claims the row anew, which also fences
  the write that may still be on its way, and reads what became of it.

A claim that the store refuses fails the calls that wait, and is tried again with the next: a store that is away
ends no actor.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import NOT_SENT, CallError, CodecError, ConfigError, StaleActivation, StoreError

from ..actors.actor import Actor
from ..actors.durable import DurableActor
from ..actors.reminders import At, Every
from ..actors.turn import current_turn
from .alarms import Alarms
from .cell import INLINE_DEPTH, NOT_NOW, SUSPENDED, Cell
from .door import Door
from .durability import KEEP_ROUND
from .envelope import Envelope
from .once import KEEP, REMEMBERED_MAX, Remembered
from .outcome import fitting
from .reminder import Reminder
from .rownames import reply_key
from .runner import DONE, Suspended
from .saving import Raised, Saving
from .stores import Claimed, Reply, Write, Written
from .transaction import Transaction, open_transaction

if TYPE_CHECKING:
    from .host import Host
    from .kinds import Kind
    from .runner import Runner

__all__ = ["DurableCell"]

FORMAT = 1
"""The version of what is around a stored state."""

RETRY = 0.25
"""Seconds until a claim that was refused is tried again."""

VIEW_WAIT = 1.0
"""Seconds to wait for a newer view, when one has claimed the row."""

_NONE: list[Any] = []

Stored = tuple[Any, dict[str, Reminder]]


class DurableCell(Cell):
    """One activation of a durable actor."""

    __slots__ = (
        "_claimed",
        "_durability",
        "_form",
        "_is_spent",
        "_is_stored",
        "_operation",
        "_row",
        "_saved",
        "_since_kept",
        "_ver",
        "alarms",
        "is_saving",
        "transaction",
    )

    def __init__(self, host: Host, kind: Kind, key: Any) -> None:
        """Make an empty cell."""
        super().__init__(host, kind, key)
        self.transaction: Transaction | None = None
        self.is_saving = False
        self._durability = host.durability
        self.alarms = Alarms(self)
        self._row = self._durability.row_of(kind.actor, key)
        self._form = self._durability.form_of(kind.actor)
        self._claimed: Claimed | None = None
        self._is_spent = False
        """Whether the row may be another's by now, or hold what this activation does not know."""
        self._operation = 0
        self._ver = 0
        self._saved = b""
        """What `_packed` returned at the last save, or at the beginning."""
        self._is_stored = False
        self._since_kept = KEEP_ROUND
        """Remembered replies since older ones were forgotten; the first write of an activation looks after it."""

    # ---- beginning -------------------------------------------------------------------------------

    async def _prepare(self) -> bool:
        """Claim the row; False if there is nothing to begin with now."""
        self.alarms.forget_ticks()
        self._is_spent = False
        try:
            self._claimed = await self._claim()
        except (StoreError, ConfigError) as error:
            self.host.log.warning("a durable actor's row cannot be claimed", actor=self.name, error=str(error))
            refusal = error
            self.refuse_rest(lambda envelope: refusal)
            self.not_before = monotonic() + RETRY
            return False
        return self._claimed is not None

    async def _claim(self) -> Claimed | None:
        """Claim the row; None if this activation has to go.

        Raises:
            StoreError: If the store is away, or another node has claimed the row in a view that does not come here.
        """
        end = monotonic() + VIEW_WAIT
        while self.retiring is None:
            view = self.host.kinds.view
            assert view is not None, "messages come with the first view"
            claimed = await self._durability.claim(self._row, view.lineage, view.number)
            if claimed is not None:
                return claimed
            if monotonic() > end:
                raise StaleActivation(
                    f"{self.name} was claimed by the owner of a view newer than view {view.number} of node "
                    f"{self.host.node_id}, which has not come there yet: try again",
                    certainty=NOT_SENT,
                )
            await self.host.wait_for_view(VIEW_WAIT)
        return None

    def _next_epoch(self) -> int:
        assert self._claimed is not None, "an actor is made after its row was claimed"
        self._ver = self._claimed.ver
        # Names this activation's writes: drawing for each would cost a system call.
        self._operation = int.from_bytes(os.urandom(10), "big") << 48
        return self._ver

    def door(self) -> DurableDoor:
        """Return what stands behind the actor's context."""
        return DurableDoor(self)

    def _furnish(self, actor: Actor) -> None:
        """Give a new actor its state."""
        claimed, self._claimed = self._claimed, None
        assert claimed is not None
        durable = cast("DurableActor[Any]", actor)
        self._is_stored = claimed.payload is not None
        if claimed.payload is None:
            durable.state, self.alarms.known = durable.initial_state(), {}
        else:
            durable.state, self.alarms.known = self._unpacked(claimed.payload, claimed.schema, durable)
        # A state of an older form is not written before it changes; until then it is undone to this.
        self._saved = self._packed(durable)
        self.alarms.arm()

    async def _run_on_start(self, actor: Actor) -> None:
        turn = current_turn.get()
        assert turn is not None
        await self._transact(actor.on_start(), turn[2])

    async def run_on_stop(self, actor: Actor, reason: str) -> None:
        """Run `on_stop`, and save what it changed; not after a failure, when nothing of it is to be kept."""
        if self._is_spent or reason == "failed":
            await actor.on_stop(reason)
            return
        turn = current_turn.get()
        assert turn is not None
        self.turn = turn[1]
        await self._transact(actor.on_stop(reason), turn[2])

    # ---- turns -----------------------------------------------------------------------------------

    def run_now(self, envelope: Envelope, now: float) -> Any:
        """See `Cell.run_now`; what the handler has changed is saved without a task, if the store can.

        Whatever does not end well, or at once, goes on in the runner, as any other turn.
        """
        host, actor, runners = self.host, self.actor, self.host.runners
        if (
            actor is None
            or self._is_spent
            or self.side is not None
            or self.retiring is not None
            or self.queue
            or not runners.parked
            or runners.depth >= INLINE_DEPTH
            or now >= host.gate.until_monotonic
        ):
            return NOT_NOW
        runner = runners.parked.pop()
        self.task = runner.task
        self.number = self.turn = number = self.number + 1
        self.current = envelope
        self.since = self.last_used = now
        turn = self, number, envelope
        self.transaction = transaction = Transaction(turn)
        message = envelope[0]
        begun: Awaitable[Any]
        try:
            yielded = runners.begin(runner, turn, message.function(actor, *envelope[1]))  # type: ignore[misc]
        except BaseException as error:
            runner.renew()
            begun = Raised(fitting(self, message, error))
        else:
            if yielded is DONE and not (self.cancelling or transaction.has_effects or transaction.is_deleting):
                ended = self._save_now(runner, actor)
                if ended is not NOT_NOW:
                    return ended
            begun = Suspended(runner, yielded)
        runner.give(partial(self._drain, begun))
        return SUSPENDED

    def _save_now(self, runner: Runner, actor: Actor) -> Any:
        """End a turn whose handler has ended.

        Returns:
            As `run_now`; `NOT_NOW` if its state is to be saved by a task.
        """
        begin = self._durability.begin
        if begin is None or runner.is_woken:
            return NOT_NOW
        try:
            payload = self._packed(actor)  # type: ignore[arg-type]
            write = None if payload == self._saved else self._next_write(payload)
        except (CodecError, TypeError, StoreError):
            return NOT_NOW  # there it is said to whom it belongs
        if write is None:
            return self.concluded(runner)
        saving = Saving(self, runner, write)
        self.is_saving = True
        begin(write, saving)
        return saving.given()

    def saved(self, write: Write) -> None:
        """A write of this turn is done that was begun without a task."""
        self.is_saving = False
        self._ver += 1
        self._saved, self._is_stored = cast("bytes", write.payload), True
        self._durability.saved()

    async def settled(self, write: Write, first: Awaitable[Written]) -> None:
        """Wait for such a write in a task."""
        await self.commit(write, first)
        self._saved, self._is_stored = cast("bytes", write.payload), True

    def concluded(self, runner: Runner) -> Any:
        """End a turn that is saved; return its value."""
        self.transaction = None
        self.alarms.arm_again()
        value, runner.value = runner.value, None
        self._over(runner)
        return value

    async def _special(self, envelope: Envelope) -> Any:
        """Run a turn; all turns of a durable actor come here."""
        message, args, kwargs, sink, *_ = envelope
        options = message.options
        if options.read_only:
            return await super()._special(envelope)
        if isinstance(sink, Remembered):
            return await self._once(sink, envelope)
        if self.alarms.ticks and (name := self.alarms.name_of(envelope)) is not None:
            return await self._tick(name, envelope)
        if kwargs or options.timeout is not None:
            return await self._transact(super()._special(envelope), envelope)
        try:
            running = message.function(self.actor, *args)  # type: ignore[misc]
        except TypeError as error:
            raise fitting(self, message, error) from None
        return await self._transact(running, envelope)

    async def _once(self, sink: Remembered, envelope: Envelope) -> Any:
        """Answer a call with an idempotency key from what is stored, or run it and store its reply."""
        method = envelope[0].name
        key = reply_key(method, sink.key)
        found = await self._durability.reply(self._row, key)
        if found is None:
            return await self._transact(super()._special(envelope), envelope, key)
        arguments, value = self._durability.codec.unpack(found)
        if arguments != sink.arguments:
            raise CallError(
                f"{self.name}.{method}: this idempotency key was used with other arguments; take a new key",
                certainty=NOT_SENT,
                actor=self.name,
                method=method,
                node=self.host.node_id,
            )
        return value

    async def _transact(self, running: Awaitable[Any], envelope: Envelope, once: str | None = None) -> Any:
        """Run something as the transaction that the present turn is.

        Args:
            running: The coroutine of a handler or a hook, of which nothing has run.
            envelope: The turn's message.
            once: What its reply is to be remembered by.
        """
        self.transaction = Transaction((self, self.turn, envelope))
        return await self._resumed(running, envelope, once)

    async def _resumed(self, begun: Awaitable[Any], envelope: Envelope, once: str | None = None) -> Any:
        """Go on with the present turn, whose transaction is there, to its end."""
        transaction = self.transaction
        assert transaction is not None, "a turn that has begun is a transaction"
        try:
            value = await begun
            if self.cancelling == self.turn:
                await asyncio.sleep(0)  # a cancel that came in the handler's last step: it is raised here
            await self._save(transaction, self._reply(once, envelope, value) if once is not None else None)
        except BaseException:
            self.transaction = None
            transaction.discard()
            self._undo()
            raise
        self.transaction = None
        return value

    def _reply(self, once: str, envelope: Envelope, value: Any) -> Reply:
        """Return a reply to remember.

        Raises:
            CodecError: If it cannot be kept: then the call did not happen.
        """
        sink = cast("Remembered", envelope[3])
        try:
            packed = self._durability.codec.pack([sink.arguments, value])
        except CodecError as error:
            raise CodecError(
                f"{self.name}.{envelope[0].name} was undone, for its reply cannot be stored with its key: {error}"
            ) from error
        return Reply(once, packed, time.time() + KEEP)

    async def _save(self, transaction: Transaction, reply: Reply | None = None) -> None:
        """Write what has changed, and let the turn's effects go."""
        payload = self._packed(self.actor)  # type: ignore[arg-type]
        is_deletion = transaction.is_deleting and payload == self._initial()
        if is_deletion or payload != self._saved or reply is not None:
            await self._write(None if is_deletion else payload, reply)
            self._saved, self._is_stored = payload, not is_deletion
        transaction.is_deleting = False
        self.alarms.arm_again()
        if transaction.has_effects:
            await transaction.release()

    async def _write(self, payload: bytes | None, reply: Reply | None) -> None:
        """Write the row.

        Raises:
            StoreError: If it was not, or nobody knows; the activation is spent unless it was surely not.
        """
        await self.commit(self._next_write(payload, reply))

    def _next_write(self, payload: bytes | None, reply: Reply | None = None) -> Write:
        """Return the write of a state, and of a reply to remember.

        Raises:
            StoreError: If the state is too large.
        """
        if payload is not None and len(payload) > self._durability.max_state_bytes:
            raise StoreError(
                f"{self.name}: its state of {len(payload)} bytes is not stored: "
                f"NodeConfig(max_state_bytes={self._durability.max_state_bytes}) is the most; keep less in one actor, "
                f"or raise it",
                certainty=NOT_SENT,
            )
        keep = None
        if reply is not None:
            self._since_kept += 1
            if self._since_kept >= KEEP_ROUND:
                self._since_kept, keep = 0, REMEMBERED_MAX
        if payload == self._saved and not self._is_stored:
            payload = None  # only a reply is new: the state is still what everyone begins with
        due = self.alarms.due()
        replies = () if reply is None else (reply,)
        self._operation += 1
        return Write(
            self._row, self._ver, self._operation.to_bytes(16, "big"), self._form.schema, payload, due, replies, keep
        )

    async def commit(self, write: Write, first: Awaitable[Written] | None = None) -> None:
        """Have a row written; `first` is what comes of the first try, if that has begun.

        Raises:
            StoreError: If it was not written, or nobody knows; the activation is spent unless it was surely not.
        """
        self.is_saving = True
        try:
            await self._durability.write(write, first)
        except StoreError as error:
            self._is_spent = isinstance(error, StaleActivation) or error.certainty is not NOT_SENT
            what = f"{self.name} could not save what it did: {error.args[0]}"
            raise type(error)(what, certainty=error.certainty) from error
        except BaseException:
            self._is_spent = True
            raise
        finally:
            self.is_saving = False
        self._ver += 1

    def _undo(self) -> None:
        """Put back the state of the last save."""
        if self.actor is None or self._is_spent:
            return  # it never began, or is about to go
        actor = cast("DurableActor[Any]", self.actor)
        try:
            actor.state, self.alarms.known = self._unpacked(self._saved, self._form.schema, actor)
        except StoreError as error:  # its class cannot make again what it let be packed
            self._is_spent = True
            self.host.log.error("a state cannot be undone, so its activation ends", actor=self.name, exc_info=error)
        self.alarms.arm()

    def raised(self, envelope: Envelope, error: BaseException) -> bool:
        """Give an error to whom it belongs; a spent activation goes in any case, so that the next one claims.

        That a keyed actor was fenced is no failure of its own: the next one begins at once, without a backoff.
        """
        if not self._is_spent:
            return super().raised(envelope, error)
        sink = envelope[3]
        if self.life is not None:
            if not super().raised(envelope, error):
                self.host.failed(self, error, envelope)
            return True
        self.host.log.warning("an activation is over, for its row may be another's", actor=self.name, error=str(error))
        if sink is not None:
            sink.fail(envelope[4], error)
        else:
            self.host.dead_letter(self, envelope, str(error))
        self.retire("moved")
        return False

    # ---- what is stored --------------------------------------------------------------------------

    def _packed(self, actor: DurableActor[Any]) -> bytes:
        """Return what is stored of the state and its reminders."""
        try:
            content = self._form.content(actor.state)
            reminders = self.alarms.parts() if self.alarms.known else _NONE
            return self._durability.codec.pack([FORMAT, content, reminders])
        except (CodecError, TypeError) as error:
            raise type(error)(f"{self.name}: its state cannot be stored: {error}") from error

    def _initial(self) -> bytes:
        actor = cast("DurableActor[Any]", self.actor)
        return self._durability.codec.pack([FORMAT, self._form.content(actor.initial_state()), _NONE])

    def _unpacked(self, payload: bytes, schema: int, actor: DurableActor[Any]) -> Stored:
        """Return the state and the reminders that were stored.

        Raises:
            StoreError: If they cannot be had.
        """
        try:
            version, content, reminders = self._durability.codec.unpack(payload)
            if version != FORMAT:
                raise CodecError(f"it has format {version!r}, and this version of ringcast knows {FORMAT}")
            found = {one.name: one for one in map(Reminder.from_parts, reminders)}
            return self._form.state(content, schema, actor), found
        except StoreError as error:
            raise StoreError(f"{self.name}: {error.args[0]}", certainty=NOT_SENT) from error
        except (CodecError, TypeError, ValueError) as error:
            raise StoreError(
                f"{self.name}: what is stored in row {self._row} does not decode: {error}", certainty=NOT_SENT
            ) from error

    # ---- for the context ---------------------------------------------------------------------------

    def _open(self, what: str) -> Transaction:
        transaction = open_transaction()
        if transaction is None or transaction is not self.transaction:
            raise RuntimeError(
                f"context.{what} belongs into a handler or hook of {self.name} that is not read_only, before it ends"
            )
        return transaction

    async def save(self) -> None:
        """See `Context.save`."""
        await self._save(self._open("save()"))

    async def delete_state(self) -> None:
        """See `Context.delete_state`."""
        transaction = self._open("delete_state()")
        actor = cast("DurableActor[Any]", self.actor)
        actor.state = actor.initial_state()
        self.alarms.known = {}
        transaction.is_deleting = self._is_stored

    async def remind(self, name: str, when: At | Every, method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """See `Context.remind`."""
        self._open("remind()")
        if not isinstance(name, str) or not 0 < len(name) <= 200:
            raise TypeError(f"remind takes a name of 1 to 200 characters, not {name!r:.250}")
        if not isinstance(when, At | Every):
            raise TypeError(f"remind({name!r}, {when!r}): it takes At(when) or Every(seconds)")
        message = self.kind.actor.messages.get(getattr(method, "__name__", ""))
        if message is None or getattr(method, "__self__", None) is not self.actor or message.options.read_only:
            raise TypeError(
                f"a reminder takes a message of the actor itself, such as self.renew, not read_only; not {method!r}"
            )
        if not self._durability.is_readable(self._row):
            raise TypeError(f"the key of {self.name} is too long for reminders: use a digest of it")
        args = cast("tuple[Any, ...]", self.host.codec.copy(args))
        self.alarms.keep(Reminder.at(name, when, time.time(), message.name, args))

    async def forget(self, name: str) -> bool:
        """See `Context.forget`."""
        self._open("forget()")
        return self.alarms.known.pop(name, None) is not None

    # ---- reminders ---------------------------------------------------------------------------------

    async def _tick(self, name: str, envelope: Envelope) -> Any:
        """Run a reminder's tick, and save with it when the next one is."""
        alarms, now = self.alarms, time.time()
        try:
            reminder = alarms.due_by(name, envelope, now)
            if reminder is None:
                return None

            async def run() -> Any:
                alarms.went_off(reminder, now)
                if reminder.is_skipped(now):
                    return None
                return await super(DurableCell, self)._special(envelope)

            return await self._transact(run(), envelope)
        finally:
            alarms.ended(name)

    def take_rest(self) -> list[Envelope]:
        """Return what still waits; ticks are fired by the next owner."""
        self.alarms.forget_ticks()
        return super().take_rest()

    def cancel_timers(self) -> None:
        """End the timers of this activation; what is due soon is left to the node."""
        super().cancel_timers()
        self.alarms.disarm()
        due = self.alarms.due()
        if due is not None and self.life is None:
            self._durability.expect(self.kind, self.key, due)


class DurableDoor(Door):
    """What stands behind the context of a durable actor."""

    __slots__ = ("_durable",)

    def __init__(self, cell: DurableCell) -> None:
        """Stand before one activation."""
        super().__init__(cell)
        self._durable = cell

    async def save(self) -> None:
        """Save the state now."""
        await self._durable.save()

    async def delete_state(self) -> None:
        """Delete the state with the turn's save."""
        await self._durable.delete_state()

    async def remind(self, name: str, when: At | Every, method: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Keep a reminder with the state."""
        await self._durable.remind(name, when, method, args)

    async def forget(self, name: str) -> bool:
        """Keep a reminder no longer."""
        return await self._durable.forget(name)
