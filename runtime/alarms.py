"""The reminders of one activation of a durable actor, and what fires them.

Which reminders there are is state, saved and undone with the rest. The timer that waits for the next one belongs to the
activation, and so do the ticks that it has put into the mailbox: a tick is named by its reminder, and there is one at a
time of each.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from .envelope import Envelope
from .reminder import Reminder

if TYPE_CHECKING:
    from .durable import DurableCell

__all__ = ["Alarms"]

ALARM_MAX = 3600.0
"""Seconds that the loop's timer is set ahead, at most: the wall clock may be put right meanwhile."""


class Alarms:
    """See the module.

    Attributes:
        known: The reminders, by name.
        ticks: By reminder: its tick that waits in the mailbox, or runs.
    """

    __slots__ = ("_cell", "_timer", "known", "ticks")

    def __init__(self, cell: DurableCell) -> None:
        """Know no reminder."""
        self._cell = cell
        self.known: dict[str, Reminder] = {}
        self.ticks: dict[str, Envelope] = {}
        self._timer: asyncio.TimerHandle | None = None

    def parts(self) -> list[Any]:
        """Return what is stored of the reminders."""
        return [one.parts() for one in self.known.values()]

    def due(self) -> float | None:
        """Return when the first one is due, Unix seconds."""
        return min(one.due for one in self.known.values()) if self.known else None

    def keep(self, reminder: Reminder) -> None:
        """Keep a reminder; one that is there and says the same is not put off."""
        if reminder.name not in self.known or not reminder.is_like(self.known[reminder.name]):
            self.known[reminder.name] = reminder

    def arm(self) -> None:
        """See that the next one is fired when it is due."""
        self.disarm()
        dues = [one.due for one in self.known.values() if one.name not in self.ticks]
        if dues:
            wait = min(max(min(dues) - time.time(), 0.0), ALARM_MAX)
            self._timer = self._cell.host.loop.call_later(wait, self._fire)

    def arm_again(self) -> None:
        """Do so after a turn, which may have changed them; most actors have none."""
        if self.known or self._timer is not None:
            self.arm()

    def disarm(self) -> None:
        """Fire nothing by itself."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        """Put the ticks that are due into the mailbox."""
        cell = self._cell
        self._timer = None
        now = time.time()
        for reminder in list(self.known.values()):
            if reminder.due > now or reminder.name in self.ticks or cell.retiring is not None:
                continue
            message = cell.kind.actor.messages.get(reminder.method)
            if message is None or message.options.read_only:
                what = "a reminder's message is gone, or read_only by now"
                cell.host.log.error(what, actor=cell.name, reminder=reminder.name, method=reminder.method)
                continue
            tick: Envelope = (message, reminder.args, None, None, 0, float("inf"), (), None)
            self.ticks[reminder.name] = tick
            cell.accept(tick)
        self.arm()

    def name_of(self, envelope: Envelope) -> str | None:
        """Return the reminder whose tick a message is."""
        return next((name for name, tick in self.ticks.items() if tick is envelope), None)

    def due_by(self, name: str, envelope: Envelope, now: float) -> Reminder | None:
        """Return the reminder of a tick; None if it was forgotten, put off, or is another by now."""
        reminder = self.known.get(name)
        return None if reminder is None or reminder.due > now or reminder.args is not envelope[1] else reminder

    def went_off(self, reminder: Reminder, now: float) -> None:
        """Keep in a reminder's place what follows its tick."""
        following = reminder.after(now)
        if following is None:
            del self.known[reminder.name]
        else:
            self.known[reminder.name] = following

    def ended(self, name: str) -> None:
        """A tick is over."""
        self.ticks.pop(name, None)
        self.arm()

    def forget_ticks(self) -> None:
        """Take ticks out of the mailbox that an activation before has put there: this one fires its own."""
        ticks = list(self.ticks.values())
        self.ticks.clear()
        queue = self._cell.queue
        if ticks and queue:
            for envelope in [one for one in queue if any(one is tick for tick in ticks)]:
                queue.remove(envelope)
