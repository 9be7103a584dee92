"""The pace of a gateway: all clients together get a slice of each tick of the loop.

What clients send is worked off in steps, one of each client in turn, until the slice is over; the rest
waits for the next tick. So however much they send, members and actors are served in between. A step is
one frame, or a part of the look at a large one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol

SLICE = 0.001
"""Seconds of a tick for what clients have sent. Raising it serves them sooner, and all others later."""


class Stepper(Protocol):
    """A client's link, as the pace sees it."""

    def step(self) -> bool:
        """Do a little; return whether there is more."""
        ...


class Pace:
    """Takes the steps of one node's clients."""

    def __init__(self) -> None:
        """Start with none."""
        self._waiting: deque[Stepper] = deque()
        self._is_open = False
        self._until = 0.0

    def enter(self, client: Stepper) -> None:
        """Take steps for a client that has something to do, and is not in line: now, as far as this tick has time."""
        self._waiting.append(client)
        if not self._is_open:
            self._open()
        self._run()

    def _open(self) -> None:
        self._is_open = True
        self._until = monotonic() + SLICE
        asyncio.get_running_loop().call_soon(self._close)

    def _close(self) -> None:
        self._is_open = False
        if self._waiting:
            self._open()
            self._run()

    def _run(self) -> None:
        while self._waiting and monotonic() < self._until:
            client = self._waiting.popleft()
            if client.step():
                self._waiting.append(client)
