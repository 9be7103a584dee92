"""The vigil over the lease: what waits while this node has none, and what becomes of it.

The lease belongs to the membership's thread, which renews it, and writes to the `Gate` until when it
runs. The actors' loop compares with that where it matters, and finds the gate closed in two cases. Renewals
may come late, on a busy machine or around a change of the view; then the lease is back in a moment. And when
a majority of the voters is out of reach it ends, and is not back until that is healed.

So what finds the gate closed waits at first: messages in their mailboxes and routes, and what turns have
said in the links' buffers. That is safe as long as it stays this node's to say. A lease that comes back
means that no view without this node has been decided; and a partition that is handed over meanwhile is not
given away before what its turns have said is written (`Tenancy`). After `patience`, a lease's length, it is
refused: messages with NOT_SENT, and answers of turns that have run with MAYBE_EXECUTED. From then on nothing
waits until the lease is back. A node that has just started waits without refusing.

When a run of the node is over (a fence), all of this ends with it: see `Host.fence`.

References:
    docs of the protocol: "Leases".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from ringcast.errors import MAYBE_EXECUTED, NOT_SENT, Certainty, Unreachable
from ringcast.logger import get_logger

from ..discovery.gate import Gate

AGAIN = 0.25
"""Seconds after which mailboxes behind running turns are looked through again, while messages are refused."""


class Waiting(Protocol):
    """What waits for the lease."""

    def go_on(self) -> None:
        """The lease is back."""
        ...

    def give_up(self) -> None:
        """It is not: nothing may wait any longer."""
        ...


class Vigil:
    """Watches over one node's lease, on the actors' loop."""

    def __init__(self, node_id: str, gate: Gate, patience: float) -> None:
        """Watch from the first lease on; the node sets the loop.

        Args:
            node_id: For errors and logs.
            gate: The node's.
            patience: Seconds that something waits without a lease.
        """
        self.loop: asyncio.AbstractEventLoop
        self.gate = gate
        self.is_lost = False
        """Whether nothing waits any more."""
        self.first = asyncio.Event()
        """Is set by the first lease."""
        self.on_changed: Callable[[bool], None] = lambda is_serving: None
        """Is called when nothing waits any more, with False, and when the lease is back after that, with True."""
        self.refused: list[Waiting] = []
        """Are told to give up with all others, whether or not they have said that they wait."""
        self._node_id = node_id
        self._patience = patience
        self._waiting: dict[Waiting, None] = {}
        self._closed_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._has_ended = False
        self._log = get_logger("ringcast").bind(node=node_id)

    @property
    def lease_left(self) -> float:
        """Seconds until the lease ends; 0 without one."""
        return max(self.gate.until_monotonic - monotonic(), 0.0) if self.gate.is_open else 0.0

    @property
    def is_waiting(self) -> bool:
        """Whether the gate was found closed, and what found it so still waits."""
        return self._closed_at is not None and not self.is_lost

    def hold(self, one: Waiting) -> bool:
        """Have something wait for the lease that found the gate closed; False if it has to give up now."""
        if self.is_lost:
            return False
        self._waiting[one] = None
        self._closed()
        return True

    async def permit(self) -> None:
        """Return when there is a lease.

        Raises:
            Unreachable: If there is none for too long.
        """
        while not self.gate.is_open:
            pause = _Pause(self)
            if not self.hold(pause):
                pause.give_up()
            await pause.over

    def leased(self) -> None:
        """There is a lease, for the first time or again."""
        if self._has_ended or not self.gate.is_open:
            return
        was_lost, self.is_lost = self.is_lost, False
        self._closed_at = None
        self.first.set()
        waiting, self._waiting = self._waiting, {}
        for one in waiting:
            one.go_on()
        if was_lost:
            self._log.info("this node has its lease again, and serves")
            self.on_changed(True)
        self._look_after(self.gate.until_monotonic - monotonic())

    def fenced(self) -> None:
        """The run is over: what waits from now on waits for the next one."""
        self._waiting.clear()
        self._closed()

    def end(self) -> None:
        """The lease was given up for good: nothing waits any more."""
        self._has_ended = self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._give_up()

    def refusal(self, actor: str, method: str) -> Unreachable:
        """Return what a caller gets whose message has waited here for too long."""
        return Unreachable(
            f"{actor}.{method} was not sent: {self._why}; call through another node, or again later",
            certainty=NOT_SENT,
            actor=actor,
            method=method,
            node=self._node_id,
        )

    def suppressed(self, certainty: Certainty = MAYBE_EXECUTED) -> Unreachable:
        """Return what a caller gets in the place of what may not leave any more; counts it."""
        self.gate.suppressed += 1
        return Unreachable(
            f"what a turn on node {self._node_id} had to say was held back: {self._why}; another node may have taken "
            f"its actors over",
            certainty=certainty,
            node=self._node_id,
        )

    @property
    def _why(self) -> str:
        if self._has_ended:
            return f"node {self._node_id} has left its cluster"
        since = "" if self._closed_at is None else f" for {monotonic() - self._closed_at:.1f} s"
        return (
            f"node {self._node_id} has had no lease{since}: it is cut off from the majority of its cluster, serves "
            f"nothing until it reaches it, and then goes on by itself"
        )

    # ---- the timer -------------------------------------------------------------------------------

    def _look_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(max(seconds, 0.0), self._look)

    def _look(self) -> None:
        """See whether the lease runs on; renewals are not told."""
        if self.gate.is_open:
            if self._closed_at is None:
                self._look_after(self.gate.until_monotonic - monotonic())
            else:
                self.leased()
        elif self._closed_at is None:
            self._closed()
        elif self.is_lost:
            self._give_up()
            self._look_after(AGAIN)
        else:
            self._lost()

    def _closed(self) -> None:
        """The gate was found closed."""
        if self._closed_at is None and self.first.is_set():
            self._closed_at = monotonic()
            self._look_after(self._patience)

    def _lost(self) -> None:
        """It has been closed for so long that nothing may wait any more."""
        self.is_lost = True
        self._log.warning(
            "this node has lost its lease, and serves nothing: it does not reach a majority of its cluster. It goes "
            "on by itself when it does; see whether the other nodes run, and the network between them",
            after=self._patience,
        )
        self._give_up()
        self.on_changed(False)
        self._look_after(AGAIN)

    def _give_up(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for one in (*waiting, *self.refused):
            one.give_up()


class _Pause:
    """Somebody who waits for the lease."""

    def __init__(self, vigil: Vigil) -> None:
        """Begin to wait."""
        self.over: asyncio.Future[None] = vigil.loop.create_future()
        self._vigil = vigil

    def go_on(self) -> None:
        """The lease is back."""
        if not self.over.done():
            self.over.set_result(None)

    def give_up(self) -> None:
        """It is not."""
        if not self.over.done():
            self.over.set_exception(self._vigil.suppressed(NOT_SENT))
