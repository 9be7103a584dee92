"""The watchdog: says who keeps the application's loop to itself.

A node whose loop stands still is alive, for its membership answers from a thread of its own, but
it makes no progress. The loop beats once in `BEAT` seconds; a thread looks at the beat, and when it
is late, names the code that runs. After a much longer time the node is given up.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic

from ringcast.logger import get_logger

from ..discovery.threads import TickThread

BEAT = 0.25


class Watchdog:
    """Watches one node's loop from a thread."""

    def __init__(self, node_id: str, limit: float, stuck_after: float, give_up: Callable[[], None]) -> None:
        """Complain when the loop has stood still for `limit` seconds; give up, once, after `stuck_after`."""
        self.lag_max = 0.0
        self._limit = limit
        self._stuck_after = stuck_after
        self._give_up = give_up
        self._log = get_logger("ringcast").bind(node=node_id)
        self._beat = 0.0
        self._told = 0.0
        self._thread = TickThread(f"ringcast watchdog {node_id}", BEAT, self._look)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin; called on the loop's thread."""
        self._loop = loop
        self._watched = threading.get_ident()
        self._on_beat()
        self._thread.start()

    def stop(self) -> None:
        """End; returns at once, and the thread soon after."""
        self._thread.stop()
        self._handle.cancel()

    def _on_beat(self) -> None:
        now = monotonic()
        if self._beat:
            self.lag_max = max(self.lag_max, now - self._beat - BEAT)
        self._beat = now
        self._handle = self._loop.call_later(BEAT, self._on_beat)

    def _look(self) -> bool:
        """Look at the beat; return whether to look again."""
        beat = self._beat
        late = monotonic() - beat - BEAT
        if late >= self._stuck_after:
            self._log.critical("the event loop stood still for too long: the node is given up", for_seconds=late)
            self._give_up()
            return False
        if late < self._limit or beat == self._told:
            return True
        self._told = beat
        frame = sys._current_frames().get(self._watched)
        where = "".join(traceback.format_stack(frame, limit=8)) if frame is not None else "unknown"
        self._log.warning(
            "the event loop stands still: a handler blocks it; use await, or asyncio.to_thread",
            for_seconds=round(late, 1),
            stack=where,
        )
        return True
