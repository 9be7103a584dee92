"""The actors of the node processes, and what each process remembers of them.

A `Worker` says of each turn where, in which activation and when it ran; clocks are the machine's own
monotonic one, which all processes share, also those in namespaces. A process lists the calls that it
has handled, so that what was lost or done twice can be counted afterwards.

A worker that `shows` tells a `Collector` again and again that it lives: these are the effects that a
stale activation must not let out. The collector stays on the node that started it.
"""

from __future__ import annotations

import os
import re
import time
from asyncio import sleep
from dataclasses import dataclass

from ringcast import Actor, Timer, tell

__all__ = ["Collector", "Effect", "Turn", "Worker", "effects", "handled"]

SHOW = 0.02
"""Seconds between two effects of a worker that shows."""

Effect = tuple[float, int, int, int]
"""When an effect arrived, of which key and epoch, and from which process."""

handled: list[str] = []
"""The calls that workers of this process have begun to handle."""

effects: list[Effect] = []
"""What has reached this process's collector, in order."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a worker.

    Attributes:
        pid: The process where it ran.
        epoch: Of the activation.
        began: On the machine's monotonic clock.
        ended: The same.
    """

    pid: int
    epoch: int
    began: float
    ended: float


class Collector(Actor, name="chaos.Collector", mailbox=100_000):
    """Writes down what it is told."""

    async def effect(self, key: int, epoch: int, pid: int) -> None:
        effects.append((time.monotonic(), key, epoch, pid))


class Worker(Actor, name="chaos.Worker", idle_after=None):
    """Its key is a number."""

    def __init__(self) -> None:
        self._collector: Collector | None = None
        self._shows: Timer | None = None

    async def work(self, call: str, seconds: float) -> Turn:
        """Take a turn of so many seconds."""
        began = time.monotonic()
        handled.append(call)
        if seconds:
            await sleep(seconds)
        return self._turn(began)

    async def show(self, collector: Collector) -> Turn:
        """Tell the collector of this activation from now on."""
        self._collector = collector
        if self._shows is None:
            self._shows = self.context.every(SHOW, self.shown)
        return self._turn(time.monotonic())

    async def hide(self) -> None:
        """Tell it no more."""
        if self._shows is not None:
            self._shows.cancel()
            self._shows = None

    async def shown(self) -> None:
        assert self._collector is not None, "the timer starts with it"
        await tell(self._collector.effect, int(self.context.key), self.context.epoch, os.getpid())

    async def block(self, seconds: float) -> Turn:
        """Keep the event loop, and let other threads run."""
        began = time.monotonic()
        time.sleep(seconds)  # noqa: ASYNC251  what it is about
        return self._turn(began)

    async def hold(self, seconds: float) -> Turn:
        """Keep the interpreter's global lock: no other thread runs."""
        began = time.monotonic()
        runaway(seconds)
        return self._turn(began)

    def _turn(self, began: float) -> Turn:
        return Turn(os.getpid(), self.context.epoch, began, time.monotonic())


def runaway(seconds: float) -> None:
    """Match a regular expression that backtracks for about so many seconds, in one call."""
    pattern, piece = re.compile(r"(?:a+)+b"), "a" * 16 + "c"
    began = time.perf_counter()
    pattern.findall(piece * 4)
    each = (time.perf_counter() - began) / 4
    pattern.findall(piece * max(1, round(seconds / each)))
