"""The time limits of pending calls, and of told messages that wait for room, at the caller's node.

They are kept by one coarse sweep and not by a timer each. When a limit passes, the owner is asked
where the call is, and has `REPORT` seconds to tell; a call that still waited to be sent has
certainly not run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING

from ringcast.errors import MAYBE_EXECUTED, NOT_SENT, CallError, CallTimeout, MailboxFull, Unreachable

from ..actors.messages import Message
from .calls import Call, Parcel
from .strain import EARLY

if TYPE_CHECKING:
    from .routes import Route
    from .strain import Strain

SWEEP = 0.025
"""Seconds between two looks at the limits."""
REPORT = 0.1
"""Seconds that an owner has to say where a call is whose time has run out."""
LOOKS_A_SECOND = 400_000
"""Calls that may be looked at in a second: with very many the sweep is coarser."""
OLDEST = 1000
"""Calls of which one sweep asks whether they have waited for long: where limits are short, it would ask of all."""


class Limits:
    """Watches the limits of one node's calls."""

    def __init__(
        self,
        node_id: str,
        calls: dict[int, Call],
        ask_where: Callable[[Call], bool],
        are_slow: Callable[[Collection[Call], Collection[Call], float], None],
        are_crowded: Callable[[Route, float], Strain],
        ask_timeout: float,
    ) -> None:
        """Watch `calls`.

        Args:
            node_id: This node's.
            calls: What is watched, by number.
            ask_where: Asks the owner where a call is, or returns False if it is nowhere on this node.
            are_slow: Is told of calls that have waited for a good part of their limits, of those whose limits have
                passed, or would have, and when.
            are_crowded: Is told of a route in which a told message has waited for long, and when.
            ask_timeout: Seconds that calls have that do not say it.
        """
        self.loop: asyncio.AbstractEventLoop
        self.are_watched = False
        self._node_id = node_id
        self._calls = calls
        self._ask_where = ask_where
        self._are_slow = are_slow
        self._are_crowded = are_crowded
        self._ask_timeout = ask_timeout
        self._asked: set[int] = set()
        self._tellers: dict[asyncio.Future[None], tuple[float, float, Route, Message]] = {}
        self._sweeper: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """See that the limits are looked at while there are calls."""
        if not self.are_watched:
            self.are_watched = True
            self._sweeper = self.loop.call_later(max(SWEEP, len(self._calls) / LOOKS_A_SECOND), self._sweep)

    async def accepted(self, accepted: asyncio.Future[None], route: Route, message: Message, limit: float) -> None:
        """Wait until a told message has found room.

        Raises:
            MailboxFull: If it has not, within `limit` seconds.
            Unreachable: If its owner was not connected all the while.
        """
        self._tellers[accepted] = (monotonic() + limit, limit, route, message)
        self.watch()
        try:
            await accepted
        finally:
            del self._tellers[accepted]

    def stop(self) -> None:
        """Look no more."""
        if self._sweeper is not None:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        now = monotonic()
        self.are_watched = False
        if self._asked:
            self._asked.intersection_update(self._calls)
        soon = now + (1.0 - EARLY) * self._ask_timeout
        near = [call for call in self._calls.values() if call.deadline <= soon]
        late = [call for call in near if call.deadline <= now]
        if near:
            unwatched = (call for call in near if call.route.strain is None)
            slow = [call for call in islice(unwatched, OLDEST) if self._is_slow(call, now)]
            self._are_slow(slow, late, now)
        for call in late:
            self._expire(call, now)
        if self._tellers:
            self._sweep_tellers(now)
        if self._calls or self._tellers:
            self.watch()

    def _sweep_tellers(self, now: float) -> None:
        new: set[Route] = set()
        for accepted, (deadline, limit, route, message) in self._tellers.items():
            left = deadline - now
            if accepted.done() or left > (1.0 - EARLY) * limit:
                continue
            if route.link is not None and route.link.is_up:
                if route.crowd is None:
                    new.add(route)
                crowd = self._are_crowded(route, now)
                if left <= 0:
                    crowd.late(now)
            if left <= 0:
                accepted.set_exception(not_taken(route, message, self._node_id))
        if new:
            for accepted, (_, _, route, _) in self._tellers.items():
                if route in new and route.crowd is not None and not accepted.done():
                    route.crowd.count_teller(accepted)

    def _is_slow(self, call: Call, now: float) -> bool:
        """Return whether a call to another node has waited for a good part of its limit."""
        if call.route.link is None:
            return False
        parcel = call.parcel
        limit = parcel.limit if isinstance(parcel, Parcel) else None
        limit = limit or call.message.options.timeout or self._ask_timeout
        return call.deadline - now <= (1.0 - EARLY) * limit

    def _expire(self, call: Call, now: float) -> None:
        number = call.number
        if call.is_waiting:
            del self._calls[number]
            call.fail(not_taken(call.route, call.message, self._node_id))
        elif number in self._asked or (call.link is not None and not call.link.is_up):
            del self._calls[number]
            call.fail(self._timed_out(call, "its place is unknown: the owner did not say"))
        else:
            self._asked.add(number)
            call.deadline = now + REPORT
            if not self._ask_where(call):
                call.fail(self._timed_out(call, "its place is unknown"))
            if call.link is None:
                self._calls.pop(number, None)

    def _timed_out(self, call: Call, place: str) -> CallTimeout:
        return CallTimeout(
            f"{call.route.name}.{call.message.name} did not answer within its time limit",
            certainty=MAYBE_EXECUTED,
            actor=call.route.name,
            method=call.message.name,
            node=self._node_id if call.link is None else call.link.peer,
            place=place,
        )


def not_taken(route: Route, message: Message, node_id: str) -> CallError:
    """Return what a sender gets whose message waited here for its whole limit."""
    link = route.link
    if link is not None and not link.is_up:
        return Unreachable(
            f"{route.name}.{message.name} was not sent: node {link.peer}, which owns the actor, is not connected "
            f"({link.trouble}); the message waited for its whole time limit",
            certainty=NOT_SENT,
            actor=route.name,
            method=message.name,
            node=link.peer,
        )
    owner = node_id if link is None else link.peer
    return mailbox_full(route.name, message.name, owner, "waiting for room in the mailbox")


def mailbox_full(actor: str, method: str, node: str, place: str) -> MailboxFull:
    """Return what a sender gets for whom there was no room in time."""
    return MailboxFull(
        f"{actor} has a full mailbox: {method} found no room within its time limit; send less, give it more time, "
        f"or split the actor",
        certainty=NOT_SENT,
        actor=actor,
        method=method,
        node=node,
        place=place,
    )


def not_in_time(route: Route, message: Message, strain: Strain, left: float, node_id: str) -> MailboxFull:
    """Return what a sender gets whose call would not be answered in time, for too many are ahead of it."""
    return MailboxFull(
        f"{route.name} has more to do than it can: {message.name} was not sent, for {strain.ahead} calls of this node "
        f"are ahead of it, which take about {strain.wait:.2g} s, and its limit is over in {max(left, 0.0):.2g} s; send "
        f"less, give it more time, or split the actor",
        certainty=NOT_SENT,
        actor=route.name,
        method=message.name,
        node=None if route.link is None else route.link.peer,
        place=f"refused at node {node_id}",
    )


def no_room_in_time(route: Route, message: Message, crowd: Strain, limit: float, node_id: str) -> MailboxFull:
    """Return what a teller gets whose message would not find room in time, for too many wait for it already."""
    return MailboxFull(
        f"{route.name} has a full mailbox: {message.name} was not sent, for {crowd.ahead} messages of this node wait "
        f"for room there, which takes about {crowd.wait:.2g} s, and its limit is {limit:.2g} s; send less, give it "
        f"more time, or split the actor",
        certainty=NOT_SENT,
        actor=route.name,
        method=message.name,
        node=None if route.link is None else route.link.peer,
        place=f"refused at node {node_id}",
    )


def crowded_out(actor: str, method: str, node: str, waiting: int) -> MailboxFull:
    """Return what a sender gets whose message was taken out of a queue in which it would have run out of time."""
    return MailboxFull(
        f"{actor} has more to do than it can: {method} was taken out of its mailbox, with {waiting} more waiting there "
        f"and little of its time limit left; send less, give it more time, or split the actor",
        certainty=NOT_SENT,
        actor=actor,
        method=method,
        node=node,
        place=f"refused at node {node}",
    )


def not_held_back(node_id: str, peer: str) -> MailboxFull:
    """Return what a peer gets for its messages that sends more although it was asked not to."""
    return MailboxFull(
        f"node {node_id} takes no more messages from {peer} for now: those that wait there take more than three times "
        f"its NodeConfig(link_in_flight_bytes=…) or twice its in_flight_bytes; send less, or let its actors do less",
        certainty=NOT_SENT,
        node=node_id,
        place=f"refused at node {node_id}",
    )


def no_time(route: Route, message: Message, node_id: str) -> CallTimeout:
    """Return what a handler gets that calls when its own caller's limit is over."""
    return CallTimeout(
        f"{route.name}.{message.name} was not sent: the time limit of the running turn is over; use "
        f"using(ref, detached=True) for a call that outlives its caller's limit",
        certainty=NOT_SENT,
        actor=route.name,
        method=message.name,
        node=node_id,
    )
