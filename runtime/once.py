"""Idempotency keys: a retry of a call gets the first reply, and the handler does not run again.

Remembered per activation (a durable actor remembers with its state). The first call runs with a
`Remembered` as its sink; duplicates that arrive meanwhile wait for it. Exceptions are not
remembered. Clients choose keys, too, so there is an end to what an activation remembers: of more than
`REMEMBERED_MAX` replies the oldest is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from ringcast.errors import NOT_SENT, CallError, CodecError

from .envelope import Sink

KEEP = 24 * 3600.0
"""Seconds that a reply is remembered."""

REMEMBERED_MAX = 4096
"""Replies that one activation remembers."""


class Remembered:
    """The one run of a call with an idempotency key; a `Sink` for its answer."""

    __slots__ = ("_forget", "_keep", "_value", "_waiting", "arguments", "expires", "is_done", "key", "peer")

    def __init__(
        self,
        key: str,
        arguments: bytes,
        sink: Sink,
        number: int,
        keep: Callable[[Any], Any],
        forget: Callable[[], object],
    ) -> None:
        """Run for the first caller, a digest of whose arguments is kept to tell a retry from a mistake.

        Args:
            key: The idempotency key.
            arguments: The digest of the first caller's.
            sink: Where the first caller's answer goes.
            number: The first caller's call.
            keep: Returns a copy of the reply, which the actor cannot change afterwards.
            forget: Removes the key.
        """
        self.key = key
        self.arguments = arguments
        self.peer = sink.peer
        self.is_done = False
        self.expires = monotonic() + KEEP
        self._value: Any = None
        self._waiting = [(sink, number)]
        self._keep = keep
        self._forget = forget

    def join(self, arguments: bytes, sink: Sink, number: int, actor: str, method: str) -> None:
        """Answer a duplicate from memory, or have it wait for the first."""
        if arguments != self.arguments:
            what = f"{actor}.{method}: this idempotency key was used with other arguments; take a new key"
            sink.fail(number, CallError(what, certainty=NOT_SENT, actor=actor, method=method))
        elif self.is_done:
            sink.reply(number, self._value)
        else:
            self._waiting.append((sink, number))

    @property
    def first(self) -> Sink | None:
        """Who asked first, and has the handler run; None once it is done."""
        return self._waiting[0][0] if self._waiting else None

    def waiting(self) -> list[tuple[Sink, int]]:
        """Return who waits for the answer, and under which number."""
        return list(self._waiting)

    def reply(self, number: int, value: Any) -> None:
        """Remember the reply, and answer all who wait for it."""
        self.is_done = True
        try:
            self._value = self._keep(value)
        except CodecError:
            self._forget()  # it cannot travel, as those who wait for it are told below
        waiting, self._waiting = self._waiting, []
        for sink, waiter in waiting:
            sink.reply(waiter, value)

    def fail(self, number: int, error: BaseException) -> None:
        """Forget the key, and give the error to all who wait."""
        self._forget()
        waiting, self._waiting = self._waiting, []
        for sink, waiter in waiting:
            sink.fail(waiter, error)

    def item(self, number: int, value: Any) -> None:
        """Refuse: a stream has no one reply to remember."""
        raise AssertionError("a stream takes no idempotency key")

    def end(self, number: int) -> None:
        """Refuse: see `item`."""
        raise AssertionError("a stream takes no idempotency key")


def make_room(remembered: dict[tuple[str, str], Remembered]) -> None:
    """Forget the oldest replies, so that one more may be remembered; calls that still run are kept."""
    while len(remembered) >= REMEMBERED_MAX:
        oldest = next((place for place, one in remembered.items() if one.is_done), None)
        if oldest is None:
            return
        del remembered[oldest]
