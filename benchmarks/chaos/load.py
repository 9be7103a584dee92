"""What a node process asks of the workers: until each answers, or so many times a second.

`answers` is the client that retries: an ask is given up after `ATTEMPT`, and repeated after `PAUSE`.
`Asks` do not retry; each is sent when its time has come, whether or not earlier ones were answered.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from typing import Any

from ringcast import CallError, Node, tell, using

from .actors import Collector, Worker

__all__ = ["Asks", "answers"]

ATTEMPT = 0.25
"""Seconds after which the client that retries gives up an ask."""

PAUSE = 0.02
"""Seconds until it asks again."""


async def answers(node: Node, keys: Sequence[int], limit: float, show: Collector | None) -> list[list[Any]]:
    """Ask each key until it answers, all at once; what each says.

    Args:
        node: Where the asks start.
        keys: Of the workers.
        limit: Seconds after which a key is given up.
        show: If given, the workers are asked to show themselves to it.

    Returns:
        For each key that answered: the key, when the reply was there, the process and the epoch.
    """
    until = time.monotonic() + limit

    async def answer(key: int) -> list[Any] | None:
        while time.monotonic() < until:
            ref = using(node.ref(Worker, key), timeout=ATTEMPT)
            try:
                turn = await (ref.work("", 0.0) if show is None else ref.show(show))
            except CallError:
                await asyncio.sleep(PAUSE)
            else:
                return [key, time.monotonic(), turn.pid, turn.epoch]
        return None

    return [found for found in await asyncio.gather(*map(answer, keys)) if found is not None]


class Asks:
    """Asks and tells at a steady rate.

    Each ask leaves a row: key, call, sent, replied, pid, epoch, began, ended, error. The last five are
    of the turn, or None if there was an error. Tells leave their calls only, in
    `told`, or in `refused` if they failed where they were sent.
    """

    def __init__(
        self, node: Node, keys: Sequence[int], rate: float, turn: float, limit: float, tell_every: int = 0
    ) -> None:
        """Do nothing yet.

        Args:
            node: Where they start.
            keys: Asked one after the other.
            rate: Asks a second.
            turn: Seconds that a turn takes at most; each is of another length.
            limit: Seconds for each ask.
            tell_every: One of so many asks is followed by a tell of the same key; 0 is none.
        """
        self._node = node
        self._keys = keys
        self._rate = rate
        self._turn = turn
        self._limit = limit
        self._tell_every = tell_every
        self._rng = random.Random(os.getpid())
        self._count = 0
        self._running: set[asyncio.Task[None]] = set()
        self._stopped = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.rows: list[list[Any]] = []
        self.told: list[str] = []
        self.refused: list[str] = []

    def begin(self) -> None:
        """Start asking."""
        self._loop = asyncio.create_task(self._go_on())

    async def end(self) -> None:
        """Ask no more, and wait for the answers that are due."""
        assert self._loop is not None, "it has begun"
        self._stopped.set()
        await self._loop
        while self._running:
            await asyncio.wait(self._running)

    async def _go_on(self) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            while due <= time.monotonic():
                due += 1 / self._rate
                self._send()
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _send(self) -> None:
        self._count += 1
        key, call = self._keys[self._count % len(self._keys)], f"{os.getpid()}.{self._count}"
        coroutines = [self._ask(key, call)]
        if self._tell_every and self._count % self._tell_every == 0:
            coroutines.append(self._tell(key, f"{call}t"))
        for coroutine in coroutines:
            task = asyncio.create_task(coroutine)
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _ask(self, key: int, call: str) -> None:
        worker = using(self._node.ref(Worker, key), timeout=self._limit)
        sent = time.monotonic()
        try:
            turn = await worker.work(call, self._rng.random() * self._turn)
        except CallError as error:
            what = f"{type(error).__name__}({error.certainty.name}): {error}"
            self.rows.append([key, call, sent, time.monotonic(), None, None, None, None, what])
        else:
            now = time.monotonic()
            self.rows.append([key, call, sent, now, turn.pid, turn.epoch, turn.began, turn.ended, None])

    async def _tell(self, key: int, call: str) -> None:
        try:
            await tell(self._node.ref(Worker, key).work, call, 0.0)
        except CallError:
            self.refused.append(call)
        else:
            self.told.append(call)
