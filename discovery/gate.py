"""The gate: until when what this node does may have effects, for two threads.

The membership's thread writes when the lease ends. The actors' loop reads it before each turn, and
again in the flush, right before the turn's effects are written. Reading takes no lock: a lease that is
read a moment late only ends later than it was read.

When a run of the node is over (it was declared lost, or moves to another lineage), the gate is
*shut*: a lease that the next run gets does not open it before the loop has said that everything of
the old run is stopped (`passed`). A loop that a handler blocks cannot say so, and what that handler
then sends stays behind the gate.

Times are seconds of `boot_time`, which also counts while the machine sleeps. Turns compare with the
monotonic clock, which is at hand there, so `until_monotonic` is the same instant on that clock; if
the machine sleeps in between it lies too late, and the flush is what holds the effects back.

References:
    docs of the protocol: "Leases".
"""

from __future__ import annotations

import threading
import time

__all__ = ["NEVER", "Gate", "boot_time"]

NEVER = float("-inf")


def boot_time() -> float:
    """Return seconds since boot, time asleep included, where the system tells them."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except AttributeError:
        return time.monotonic()


class Gate:
    """One node's lease, as its actors see it.

    Attributes:
        until: When the lease ends, in seconds of `boot_time`; `NEVER` without one.
        until_monotonic: The same on the monotonic clock.
        suppressed: Effects that came too late and were held back; written by the loop.
    """

    __slots__ = ("_granted", "_lock", "_runs_passed", "_runs_shut", "suppressed", "until", "until_monotonic")

    def __init__(self) -> None:
        """Start without a lease."""
        self.until = self.until_monotonic = self._granted = NEVER
        self.suppressed = 0
        self._runs_shut = self._runs_passed = 0
        self._lock = threading.Lock()

    # On the membership's thread

    def grant(self, until: float) -> bool:
        """Take the lease's new end; return whether the gate was closed and is open by it."""
        now = boot_time()
        was_open = self.until > now
        with self._lock:
            self._granted = until
            if self._runs_passed == self._runs_shut:
                self._set(until, now)
        return not was_open and self.until > now

    def shut(self) -> None:
        """The run is over."""
        with self._lock:
            self._runs_shut += 1
            self.until = self.until_monotonic = self._granted = NEVER

    # On the actors' loop

    def passed(self) -> None:
        """All that belonged to one more run that is over is stopped here."""
        with self._lock:
            self._runs_passed += 1
            if self._runs_passed == self._runs_shut:
                self._set(self._granted, boot_time())

    @property
    def is_open(self) -> bool:
        """Whether effects may leave at this instant."""
        return boot_time() < self.until

    def _set(self, until: float, now: float) -> None:
        self.until = until
        self.until_monotonic = until - now + time.monotonic()
