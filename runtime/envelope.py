"""What waits in a mailbox, and where its answer goes.

An envelope is a plain tuple: it is made once per message on the hot path, and a tuple costs a
third of a slotted object (SPEED notes in docs/architecture.md).
"""

from __future__ import annotations

from typing import Any, Protocol

from ..actors.messages import Message
from ..actors.turn import ChainEntry


class Sink(Protocol):
    """Where the answers of a call go: a peer's link, or the caller on this node."""

    peer: str
    """Id of the node that asked."""

    def reply(self, number: int, value: Any) -> None:
        """Answer an ask; an answer that cannot travel becomes an error of certainty EXECUTED."""
        ...

    def fail(self, number: int, error: BaseException) -> None:
        """Answer an ask or a stream with an error."""
        ...

    def item(self, number: int, value: Any) -> None:
        """Send one item of a stream.

        Raises:
            CodecError: If the item cannot travel.
        """
        ...

    def end(self, number: int) -> None:
        """End a stream."""
        ...


Envelope = tuple[Message, Any, "dict[str, Any] | None", "Sink | None", int, float, tuple[ChainEntry, ...], "str | None"]
"""One message on its way into a turn: (message, args, kwargs, sink, number, deadline, chain, trace).

message
    Which message.
args, kwargs
    Its arguments; kwargs is None for none.
sink
    Where the answer goes; None for a told message.
number
    The call's number at its caller; 0 for a told message.
deadline
    Monotonic seconds after which it is not executed; inf for no limit.
chain
    The waiting turns of the chain of asks that led here.
trace
    The chain's name for logs; None where the call began outside of actors.
"""
