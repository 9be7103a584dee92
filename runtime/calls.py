"""Calls that wait for their answers, and the parcels in which messages to peers are sent.

A `Call` is an ask or a stream of this node. Its number is unique here, so the answer may come from
any peer, after the call was forwarded, say. A `Parcel` is a message that waits to be sent, or may
have to be sent again.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from ringcast.errors import EXECUTED, CallError, CodecError

from ..actors.messages import Message
from .failures import error_from_wire
from .streams import Inflow
from .wire import PIECE_BYTES

if TYPE_CHECKING:
    from .link import Link
    from .router import Router
    from .routes import Route

SCALARS = frozenset({int, str, float, bool, bytes, type(None)})
"""Types that pass as they are between actors of one node."""

PLAIN = frozenset({int, str, float, bool, type(None), dict, list, tuple})
"""Types that are packed into the frame itself; anything else may be, or hold, a large buffer."""


class Reader(Protocol):
    """Who reads the answers of a stream."""

    def feed(self, item: Any) -> None:
        """Take an item that has arrived."""
        ...

    def end(self) -> None:
        """End, after the items that have arrived."""
        ...


class Parcel:
    """A packed message: what is sent, or waits in a route to be sent."""

    __slots__ = ("buffers", "frame", "is_again", "is_nested", "is_sent", "limit", "message", "number", "taken")

    def __init__(
        self,
        message: Message,
        number: int,
        frame: bytes,
        buffers: list[memoryview] | None,
        taken: asyncio.Future[None] | None,
    ) -> None:
        """Keep the frame; `taken` is resolved for a teller when it has been sent."""
        self.message = message
        self.number = number
        self.frame = frame
        self.buffers = buffers
        self.taken = taken
        self.is_sent = False
        self.is_again = False
        """Whether it was sent before: then the handler may have run."""
        self.limit: float | None = None
        """Seconds that the call was given; None if as many as its method's calls are given."""
        self.is_nested = False
        """Whether a running turn sends it: then it is not held back."""

    @property
    def size(self) -> int:
        """Bytes, the buffers beside the frame included."""
        return len(self.frame) + sum(buffer.nbytes for buffer in self.buffers or ())

    @property
    def is_large(self) -> bool:
        """Whether it travels in pieces."""
        return len(self.frame) >= PIECE_BYTES or bool(self.buffers)


class Call(asyncio.Future[Any]):
    """An ask or a stream that waits for its answer: the future that the caller awaits."""

    __slots__ = ("deadline", "link", "message", "number", "parcel", "route")

    number: int
    deadline: float
    """Monotonic seconds; inf for a stream, whose reader keeps the limits."""
    route: Route
    message: Message
    link: Link | None
    """On whom the answer depends; None for this node."""
    parcel: Parcel | bytes | None
    """The packed message, or its frame, for a call to a peer."""

    @property
    def is_waiting(self) -> bool:
        """Whether its message still waits to be sent: then the handler has certainly not run."""
        return type(self.parcel) is Parcel and not self.parcel.is_sent

    @property
    def is_answered(self) -> bool:
        """Whether it is done, and what it got is what a handler returned or raised."""
        return self.done() and not self.cancelled() and not isinstance(self.exception(), CallError)

    @property
    def accepted(self) -> asyncio.Future[None] | None:
        """What to resolve when its message finds room on this node, if somebody waits for that."""
        return None

    def fail(self, error: BaseException) -> None:
        """Give the caller an error."""
        if not self.done():
            self.set_exception(error)
            self.exception()  # whoever abandoned it need not be warned

    def refuse(self, wire: list[Any], link: Link | None) -> None:
        """Give the caller an error as it stands on the wire; `link` is where it came from, None for here."""
        assert link is not None, "errors of this node come as themselves, but for calls of clients"
        self.fail(link.arrivals.blamed(self, error_from_wire(wire, link.codec)))

    def reader(self) -> Reader | None:
        """Return who reads the answers of a stream, if somebody still does."""
        return None


class StreamCall(Call):
    """A stream that is open here: a call whose answers are many."""

    __slots__ = ("stream",)

    stream: weakref.ref[Inflow]

    def fail(self, error: BaseException) -> None:
        """Give the reader an error."""
        if (stream := self.stream()) is not None:
            stream.fail(error)

    def reader(self) -> Reader | None:
        """Return who reads."""
        return self.stream()


class LocalSink:
    """Where answers to callers on this node go; while there is no lease they wait (see `vigil`)."""

    def __init__(self, router: Router, peer: str) -> None:
        """Belong to the router of node `peer`."""
        self._router = router
        self._calls = router.calls
        self._gate = router.gate
        self._held: list[tuple[Callable[[int, Any], None], int, Any]] = []
        self.peer = peer

    def reply(self, number: int, value: Any) -> None:
        """Resolve the caller's future with an isolated copy."""
        if monotonic() >= self._gate.until_monotonic:
            self._hold(self.reply, number, value)
            return
        call = self._calls.pop(number, None)
        if call is None or call.done():
            return
        if type(value) not in SCALARS:
            try:
                value = self._router.isolate(value)
            except CodecError as error:
                call.fail(unencodable(call.route.name, call.message.name, self.peer, error))
                return
        call.set_result(value)

    def fail(self, number: int, error: BaseException) -> None:
        """Fail the caller."""
        call = self._router.calls.pop(number, None)
        if call is not None:
            call.fail(self._router.localize(error))

    def refuse(self, number: int, error: list[Any]) -> None:
        """Fail the caller with an error as it stands on the wire."""
        call = self._router.calls.pop(number, None)
        if call is not None:
            call.refuse(error, None)

    def item(self, number: int, value: Any) -> None:
        """Hand an isolated item to the reader."""
        if monotonic() >= self._gate.until_monotonic:
            self._hold(self.item, number, value)
            return
        call = self._router.calls.get(number)
        if call is not None and (stream := call.reader()) is not None:
            stream.feed(self._router.isolate(value))

    def end(self, number: int) -> None:
        """End the reader's stream."""
        if monotonic() >= self._gate.until_monotonic:
            self._hold(self._end, number, None)
            return
        call = self._router.calls.pop(number, None)
        if call is not None and (stream := call.reader()) is not None:
            stream.end()

    def _end(self, number: int, _: None) -> None:
        self.end(number)

    def _hold(self, say: Callable[[int, Any], None], number: int, value: Any) -> None:
        """Keep what a turn has said, as it is now, until it may be said."""
        try:
            if type(value) not in SCALARS:
                value = self._router.isolate(value)
        except CodecError as error:
            self.fail(number, unencodable(None, None, self.peer, error))
            return
        self._held.append((say, number, value))
        if not self._router.vigil.hold(self):
            self.give_up()

    def go_on(self) -> None:
        """Say what was kept: the lease is back."""
        held, self._held = self._held, []
        for say, number, value in held:
            say(number, value)

    def give_up(self) -> None:
        """Say in the place of what was kept that it may not be said."""
        held, self._held = self._held, []
        router = self._router
        for _, number, _ in held:
            call = router.calls.get(number)
            if call is not None:
                self.fail(number, router.routes.arrivals.blamed(call, router.vigil.suppressed()))
                router.host.stop_stream(self, number)


def unencodable(actor: str | None, method: str | None, node: str, error: BaseException) -> CallError:
    """Return what a caller gets whose reply cannot travel; whom it had asked is filled in at its node."""
    whom = "the handler" if actor is None else f"{actor}.{method}"
    failure = CallError(
        f"{whom} ran, but its reply cannot travel: {error}",
        certainty=EXECUTED,
        actor=actor,
        method=method,
        node=node,
    )
    failure.__cause__ = error
    return failure
