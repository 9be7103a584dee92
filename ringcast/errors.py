"""Every error of ringcast, in one tree.

Errors carry fields, not only text; ``str(error)`` says what happened, to which actor, on
which node, and what to do. Each of them can be pickled and travels between nodes with
its fields.

    RingcastError
    ├── CallError                 no answer came; `certainty` says whether the handler may have run
    │   ├── Unreachable           nobody could be reached who hosts the actor
    │   ├── CallTimeout           the time limit ran out (also a TimeoutError)
    │   ├── MailboxFull           no room at the actor within the time limit
    │   ├── ActorStopped          the actor has ended for good
    │   ├── CallCycle             the call came back to an actor that waits in it
    │   ├── WrongArguments        the handler takes other arguments (also a TypeError)
    │   └── NodeStopped           this node has left, or was never started
    ├── NotAMessage               no such message on this actor class (also an AttributeError)
    ├── RemoteError               a handler raised something that cannot be rebuilt here
    ├── CodecError                a value cannot travel, or what arrived cannot be decoded
    ├── StoreError                the store of durable state refused or is away; has a certainty, too
    │   ├── StaleActivation       a newer activation owns the state
    │   └── VersionConflict       the state changed, and the write may have been in it
    ├── SecurityError             refused: identity or permission
    │   ├── HandshakeRefused      two nodes do not fit together; says both sides' values
    │   └── NotAllowed            a rule forbids the call; says which
    └── ConfigError               an option is wrong; says which and what it takes
"""

from __future__ import annotations

import enum
from typing import Any, Self


class Certainty(enum.Enum):
    """What is known about a call that got no answer."""

    NOT_SENT = "not sent"
    """The handler has certainly not run, and will not."""
    MAYBE_EXECUTED = "maybe executed"
    """The handler may have run, or may still be running."""
    EXECUTED = "executed"
    """The handler ran; its reply was lost or could not be encoded."""


NOT_SENT = Certainty.NOT_SENT
MAYBE_EXECUTED = Certainty.MAYBE_EXECUTED
EXECUTED = Certainty.EXECUTED


def _rebuild(cls: type[RingcastError], what: str, fields: dict[str, Any]) -> RingcastError:
    error = cls.__new__(cls)
    Exception.__init__(error, what)
    error.__dict__.update(fields)
    return error


class RingcastError(Exception):
    """The root of all errors that ringcast raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by message and fields, whatever the constructor's signature."""
        notes_and_fields = {k: v for k, v in self.__dict__.items() if not k.startswith("_") or k == "__notes__"}
        return _rebuild, (type(self), str(self.args[0]) if self.args else "", notes_and_fields)

    @classmethod
    def rebuilt(cls, what: str, fields: dict[str, Any]) -> Self:
        """Return an error of this class with the message and fields that came over the wire."""
        error = _rebuild(cls, what, fields)
        assert isinstance(error, cls)
        return error


class CallError(RingcastError):
    """No answer came. `certainty` says whether the handler may have run.

    Attributes:
        certainty: What is known about the execution.
        actor: The actor's display name, such as ``shop:Cart['ann']``.
        method: The message, such as ``add``.
        node: The id of the node where the call was, if that is known.
        place: Where the call was: queued (behind what, for how long), running (since when), or unknown.
    """

    certainty: Certainty
    actor: str | None
    method: str | None
    node: str | None
    place: str | None

    def __init__(
        self,
        what: str,
        *,
        certainty: Certainty = Certainty.MAYBE_EXECUTED,
        actor: str | None = None,
        method: str | None = None,
        node: str | None = None,
        place: str | None = None,
    ) -> None:
        """Keep the fields; `what` is the whole sentence a person reads."""
        super().__init__(what)
        self.certainty = certainty
        self.actor = actor
        self.method = method
        self.node = node
        self.place = place

    def __str__(self) -> str:
        """Return the sentence, where the call was, and the certainty."""
        where = f" [{self.place}]" if self.place else ""
        return f"{self.args[0] if self.args else type(self).__name__}{where} ({self.certainty.value})"


class Unreachable(CallError):
    """No node that hosts the actor could be reached, or it was lost before the answer came."""


class CallTimeout(CallError, TimeoutError):
    """The time limit of the call ran out."""


class MailboxFull(CallError):
    """The actor's mailbox had no room for the message within its time limit, or could not be answered by then."""


class ActorStopped(CallError):
    """The actor has ended for good."""


class CallCycle(CallError):
    """The call came back to an actor that is waiting in its own chain of calls."""


class WrongArguments(CallError, TypeError):
    """The handler, as the actor's node has it, does not take these arguments; it has not run."""


class NodeStopped(CallError):
    """The node that should carry the call has left its cluster or was not started."""


class NotAMessage(RingcastError, AttributeError):
    """The attribute is no message of the actor's class."""


class RemoteError(RingcastError):
    """A handler raised an exception that cannot be rebuilt in this process.

    Attributes:
        type_name: ``module:qualname`` of the exception's class.
        message: Its text.
        remote_traceback: The traceback, as the remote node printed it.
    """

    type_name: str
    message: str
    remote_traceback: str

    def __init__(self, type_name: str, message: str, remote_traceback: str) -> None:
        """Keep what is known of an exception that has no class here."""
        super().__init__(f"{type_name}: {message}")
        self.type_name = type_name
        self.message = message
        self.remote_traceback = remote_traceback


class CodecError(RingcastError):
    """A value cannot travel, or bytes that arrived cannot be decoded.

    Attributes:
        path: Where the value stands inside the arguments, such as ``args[0]['file']``.
    """

    path: str | None

    def __init__(self, what: str, path: str | None = None) -> None:
        """Keep the sentence and the place inside the arguments."""
        super().__init__(what)
        self.path = path


class StoreError(RingcastError):
    """The store of durable state refused an operation or cannot be reached.

    Attributes:
        certainty: Whether what was to be written may be in the store. The actor itself is at its last
            committed state.
    """

    certainty: Certainty

    def __init__(self, what: str, *, certainty: Certainty = Certainty.MAYBE_EXECUTED) -> None:
        """Keep what is known; `what` is the whole sentence a person reads."""
        super().__init__(what)
        self.certainty = certainty

    def __str__(self) -> str:
        """Return the sentence and the certainty."""
        return f"{self.args[0] if self.args else type(self).__name__} ({self.certainty.value})"


class StaleActivation(StoreError):
    """A newer activation has claimed the state; this one is stopped, and the call can be made again."""


class VersionConflict(StoreError):
    """The state changed while it was unknown whether a write had reached it."""


class SecurityError(RingcastError):
    """Refused for reasons of identity or permission."""


class HandshakeRefused(SecurityError):
    """Two nodes do not fit together; the message names both sides' values."""


class NotAllowed(SecurityError):
    """A rule forbids the call, which has certainly not run; the message says which rule.

    Attributes:
        certainty: `Certainty.NOT_SENT`, as calls that failed have it.
    """

    certainty = Certainty.NOT_SENT


class ConfigError(RingcastError):
    """An option is wrong; the message says which, and what it takes."""
