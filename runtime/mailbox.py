"""A mailbox: what waits for an actor, and how much room there is.

Room is bounded. A sender on this node is parked, first come, first served; a sender on another node
spends credit, which is given back at once while there is room, and otherwise as the mailbox drains
(see `wire.WINDOW`). The true bound is therefore the class's ``mailbox`` and a window for each peer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ringcast.errors import RingcastError

from ..actors.messages import Message
from ..actors.ref import display
from .envelope import Envelope
from .inflight import Weighed
from .wire import GRANT_EVERY

if TYPE_CHECKING:
    from .host import Host
    from .kinds import Kind


class Granter(Protocol):
    """The link to a node whose messages are here on credit."""

    def grant(self, message: Message, key: Any, count: int) -> None:
        """Give back credit for `count` messages to an actor."""
        ...


class Mailbox:
    """The waiting messages of one activation; a queue is made when it is needed."""

    __slots__ = ("debts", "deferred", "host", "key", "kind", "parked", "queue", "task")

    def __init__(self, host: Host, kind: Kind, key: Any) -> None:
        """Start empty."""
        self.host = host
        self.kind = kind
        self.key = key
        self.queue: deque[Envelope] | None = None
        self.task: asyncio.Task[None] | None = None
        """What drains it now; None while nothing does."""
        self.parked: deque[tuple[Envelope, asyncio.Future[None] | None]] | None = None
        self.deferred: deque[Granter] | None = None
        self.debts: dict[Granter, int] | None = None

    @property
    def name(self) -> str:
        """The actor's name for people."""
        return display(self.kind.actor.name, self.key)

    def start(self) -> None:
        """See that the mailbox is drained."""
        raise AssertionError("a mailbox is drained by its cell")

    def accept(self, envelope: Envelope) -> None:
        """Put a message into the mailbox, whether or not there is room, and see that it is handled."""
        burden(envelope)
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        queue.append(envelope)
        if self.task is None:
            self.start()

    def accept_remote(self, envelope: Envelope, granter: Granter) -> None:
        """Put a peer's message into the mailbox and give its credit back, now or when there is room.

        On the hot path: `accept` and `owe` are written out, and the caller has put it on its account.
        """
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        queue.append(envelope)
        if self.task is None:
            self.start()
        debts = self.debts
        if len(queue) > self.kind.bound:
            if self.deferred is None:
                self.deferred = deque()
            self.deferred.append(granter)
        elif debts is None or (count := debts.get(granter, 0) + 1) == GRANT_EVERY:
            self.owe(granter, envelope[0])
        else:
            debts[granter] = count

    def accept_many(self, envelopes: list[Envelope], granter: Granter) -> None:
        """Put messages of one peer into the mailbox, in their order, as `accept_remote` does with each of them."""
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        count = len(envelopes)
        if len(queue) + count > self.kind.bound:
            for envelope in envelopes:
                self.accept_remote(envelope, granter)
            return
        queue.extend(envelopes)
        if self.task is None:
            self.start()
        debts = self.debts
        if debts is None:
            debts = self.debts = {}
        owed = debts.get(granter, 0) + count
        if owed >= GRANT_EVERY:
            granter.grant(envelopes[0][0], self.key, owed)
            owed = 0
        debts[granter] = owed

    def accept_local(
        self, envelope: Envelope, accepted: asyncio.Future[None] | None = None
    ) -> asyncio.Future[None] | None:
        """Put a message of this node into the mailbox, or park it until there is room.

        Args:
            envelope: The message.
            accepted: For a teller: what to resolve once there was room.

        Returns:
            None if there was room, else `accepted`.
        """
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        elif self.parked or len(queue) >= self.kind.bound:
            if self.parked is None:
                self.parked = deque()
            if accepted is None and envelope[3] is None:
                accepted = self.host.loop.create_future()
            self.parked.append((envelope, accepted))
            return accepted
        queue.append(envelope)
        if self.task is None:
            self.start()
        return None

    def owe(self, granter: Granter, message: Message) -> None:
        """Give back credit for one message; it is paid in rounds."""
        debts = self.debts
        if debts is None:
            debts = self.debts = {}
        count = debts.get(granter, 0) + 1
        if count == GRANT_EVERY:
            granter.grant(message, self.key, count)
            count = 0
        debts[granter] = count

    def room(self) -> None:
        """One message has left the mailbox: let the next parked sender in, pay one deferred credit."""
        if self.deferred:
            self.owe(self.deferred.popleft(), self.kind.any_message)
        parked = self.parked
        while parked and self.queue is not None and len(self.queue) < self.kind.bound:
            envelope, accepted = parked.popleft()
            if accepted is not None:
                if accepted.done():
                    continue
                accepted.set_result(None)
            self.queue.append(envelope)

    def settle(self) -> None:
        """Give back all credit that is owed, because the cell goes away."""
        for granter in self.deferred or ():
            self.owe(granter, self.kind.any_message)
        for granter, count in (self.debts or {}).items():
            if count:
                granter.grant(self.kind.any_message, self.key, count)
        self.deferred = self.debts = None

    def refuse_rest(self, make: Callable[[Envelope], RingcastError]) -> None:
        """Answer all that still waits with an error; told messages become dead letters."""
        queue, self.queue = self.queue or (), None
        parked, self.parked = self.parked, None
        rest = list(queue)
        if queue:
            queue.clear()  # a turn may be running, and the next ones be taken from there
        for envelope in rest:
            lighten(envelope)
            if self.deferred:
                self.owe(self.deferred.popleft(), self.kind.any_message)
            self._refuse(envelope, make)
        for envelope, accepted in parked or ():
            if accepted is not None and not accepted.done():
                accepted.set_exception(make(envelope))
            elif accepted is None:
                self._refuse(envelope, make)

    def _refuse(self, envelope: Envelope, make: Callable[[Envelope], RingcastError]) -> None:
        if envelope[3] is not None:
            envelope[3].fail(envelope[4], make(envelope))
        else:
            self.host.dead_letter(self, envelope, str(make(envelope)))

    def take_rest(self) -> list[Envelope]:
        """Return what still waits, tellers let go: it is delivered elsewhere."""
        queue, self.queue = self.queue, None
        parked, self.parked = self.parked, None
        rest = list(queue or ())
        for envelope in rest:
            lighten(envelope)
        for envelope, accepted in parked or ():
            if accepted is not None:
                if accepted.done():
                    continue
                accepted.set_result(None)
            rest.append(envelope)
        return rest


def burden(envelope: Envelope) -> None:
    """Put a message that has to wait on its peer's account."""
    chain = envelope[6]
    if type(chain) is Weighed:
        chain.account.add(chain.weight)


def lighten(envelope: Envelope) -> None:
    """Take a message that waits no more off its peer's account."""
    chain = envelope[6]
    if type(chain) is Weighed:
        chain.account.remove(chain.weight)
