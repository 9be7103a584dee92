"""A sampler of stacks that costs little: a timer's signal, and where the main thread is when Python hears of it.

Python hears of a signal between two of its own instructions: what is spent in C (the codec, a write to the socket) is
noticed where that returns, so it counts for the line that called it; what the event loop spends on reading from a
socket counts for the callback that it calls next. Each sample weighs what the thread has used of its core since the
last one. Where that is less than half of the time that has passed, the process was waiting in between, nobody knows
where it had been busy, and the sample is left out.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from types import FrameType
from typing import Self

from .steps import LOOP, Place, step_of

__all__ = ["Sampler"]

INTERVAL_S = 0.001
DEPTH = 24


class Sampler:
    """Samples until it is stopped; in the main thread.

    Attributes:
        own: Seconds that the sampler itself has taken.
    """

    def __init__(self) -> None:
        self.own = 0.0
        self._stacks: Counter[tuple[Place, ...]] = Counter()
        self._random = random.Random(0)
        self._wall = self._cpu = 0.0

    def start(self) -> Self:
        signal.signal(signal.SIGALRM, self._sample)
        self._wall, self._cpu = time.perf_counter(), time.thread_time()
        self._arm()
        return self

    def stop(self) -> dict[str, float]:
        """Return, by step, which part of the time was spent there."""
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # first: one that is due would set the timer again
        signal.setitimer(signal.ITIMER_REAL, 0)
        steps: Counter[str] = Counter()
        for stack, weight in self._stacks.items():
            steps[step_of(stack)] += weight
        total = sum(steps.values())
        return {step: weight / total for step, weight in steps.items()} if total else {LOOP: 1.0}

    def _arm(self) -> None:
        """Not in even steps: the load has a rhythm, too."""
        signal.setitimer(signal.ITIMER_REAL, INTERVAL_S * self._random.uniform(0.5, 1.5))

    def _sample(self, _: int, frame: FrameType | None) -> None:
        wall, cpu = time.perf_counter(), time.thread_time()
        stack: list[Place] = []
        while frame is not None and len(stack) < DEPTH:
            # A frame that is traced as it begins has no line yet.
            stack.append((frame.f_code, frame.f_lineno or frame.f_code.co_firstlineno))
            frame = frame.f_back
        used = cpu - self._cpu
        if used > (wall - self._wall) / 2:
            self._stacks[tuple(stack)] += int(used * 1e9)
        self._arm()
        self._wall, self._cpu = time.perf_counter(), time.thread_time()
        self.own += self._cpu - cpu
