"""Calls on a client's behalf, between the client's node and the actor's owner.

A client is no member, so an owner cannot answer it: its node, the gateway, asks in its place, and
says for whom. Arguments and answers are *sealed*: packed by themselves, they pass through the gateway
as bytes. So a gateway needs none of the application's classes, and nothing that a client wrote is
decoded before the owner has found the call allowed.

Seals are made and opened without pickle, whatever two nodes allow one another, and what is built of a
client's bytes is bounded (`Bounds`). A reference to a class that no member hosts is refused: a node
would have to remember its name.

At the owner a `Behalf` is the sink of such a call: it seals the answers, knows the client, and stands
for the sink that leads to the gateway, so that a cancel or a PULL from there finds the call. A told
message has one too: what it raises goes back as a dead letter, and does not fail the actor. A client
could otherwise drop any activation that it may tell something.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

import msgpack

from ringcast.errors import CodecError, NotAllowed

from ..actors.messages import HandlerOptions, Message
from ..actors.ref import display, unknown_messages
from ..discovery.packed import look_through
from ..security.identity import CLIENT, Identity
from .calls import unencodable
from .envelope import Sink
from .failures import error_to_wire
from .guard import short_name

if TYPE_CHECKING:
    from .codec import Codec

PASSING = Message("ringcast", "call of a client", None, False, HandlerOptions())
"""What a parcel is about that holds a client's call: the call's own names stand in its frame."""

CALLERS_KEPT = 1024
"""Clients whose identities are kept as they were decoded."""


class ErrorSink(Sink, Protocol):
    """A sink that also takes an error as it stands on the wire."""

    def refuse(self, number: int, error: list[Any]) -> None:
        """Answer a call with an error."""
        ...


class Seals:
    """Makes and opens what travels sealed, on one node."""

    def __init__(self, codec: Codec, node_id: str, cluster: str, *, has_tracebacks: bool) -> None:
        """Use a codec without pickle, within the bounds of clients.

        Args:
            codec: Nobody else's.
            node_id: The id of this node.
            cluster: The cluster's name.
            has_tracebacks: Whether errors carry the traceback's text to clients.
        """
        self._codec = codec
        self._node_id = node_id
        self._cluster = cluster
        self._has_tracebacks = has_tracebacks
        self._callers: dict[bytes, Identity] = {}

    def seal(self, value: object) -> bytes:
        """Pack a value.

        Raises:
            CodecError: If it cannot travel to a client.
        """
        return self._codec.pack(value)

    def arguments(self, sealed: bytes) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments of a call.

        Raises:
            CodecError: If they cannot be decoded, or are none.
        """
        parts: Any = self._codec.unpack(sealed)
        match parts:
            case [list(), dict()]:
                args, kwargs = cast("tuple[list[Any], dict[Any, Any]]", tuple(cast("list[Any]", parts)))
                if all(isinstance(name, str) for name in kwargs):
                    return args, kwargs
            case _:
                pass
        raise CodecError("what came as arguments are none")

    def error(self, error: BaseException) -> list[Any]:
        """Return an error for the wire."""
        wire = error_to_wire(error, self._node_id, self._codec)
        if not self._has_tracebacks:
            wire[2] = f"(node {self._node_id} keeps tracebacks to itself: client_tracebacks=True shows them)"
        return wire

    def caller(self, packed: bytes) -> Identity:
        """Return the client that a gateway names.

        Raises:
            CodecError: If it names none.
        """
        found = self._callers.get(packed)
        if found is None:
            found = self._identity(packed)
            if len(self._callers) >= CALLERS_KEPT:
                self._callers.clear()
            self._callers[packed] = found
        return found

    def _identity(self, packed: bytes) -> Identity:
        try:
            look_through(packed, depth=2)
            parts: Any = cast("Any", msgpack).unpackb(packed)
        except ValueError as error:
            raise CodecError(f"a node has sent a call for a client whom it does not name: {error}") from None
        match parts:
            case [str(), bytes(), None | list(), None | str()]:
                name, key, patterns, signed_by = cast(
                    "tuple[str, bytes, list[object] | None, str | None]", tuple(cast("list[Any]", parts))
                )
                allowed = None if patterns is None else tuple(one for one in patterns if isinstance(one, str))
                return Identity(CLIENT, self._cluster, name, key, allowed, signed_by)
            case _:
                raise CodecError("a node has sent a call for a client whom it does not name")


def packed_caller(identity: Identity) -> bytes:
    """Return a client's identity as gateways name it to owners."""
    allow = None if identity.allow is None else list(identity.allow)
    return cast("bytes", cast("Any", msgpack).packb([identity.name, identity.key, allow, identity.signed_by]))


def named_message(class_name: str, method: str) -> Message:
    """Return a message by the names that a client gave, to be used once.

    It has one number for all methods of a class, so that what links remember does not grow with names.
    """
    return Message(class_name, method, None, False, HandlerOptions(), number=unknown_messages(class_name, "?").number)


def check_exposed(message: Message, key: Any) -> None:
    """Refuse a client's call of a handler that is closed to clients.

    Raises:
        NotAllowed: Saying what would open it.
    """
    if not message.is_exposed:
        raise NotAllowed(
            f"{display(message.class_name, key)}: {short_name(message.class_name)}.{message.name} is not exposed "
            f"to clients: @handler(expose=True) opens it, or `expose=True` among the keywords of its class"
        )


class Behalf:
    """The sink of a call that a gateway makes for a client."""

    __slots__ = ("caller", "inner", "is_told", "packed", "peer", "seals")

    def __init__(self, inner: ErrorSink, packed: bytes, is_told: bool, seals: Seals) -> None:
        """Stand before the sink that leads to the gateway.

        Args:
            inner: A link to the gateway, or this node's own sink where it is the gateway itself.
            packed: The client, as the gateway names it.
            is_told: Whether it was told, and nobody waits for the answer but the gateway.
            seals: This node's.
        """
        self.inner = inner
        self.peer = inner.peer
        self.packed = packed
        self.caller = seals.caller(packed)
        self.is_told = is_told
        self.seals = seals

    def __eq__(self, other: object) -> bool:
        """Stand for the inner sink: who cancels there means the calls here."""
        return other is self.inner or (isinstance(other, Behalf) and other.inner is self.inner)

    def __hash__(self) -> int:
        """Hash as the inner sink."""
        return hash(self.inner)

    def reply(self, number: int, value: Any) -> None:
        """Answer; what was told has no answer but that it is over."""
        try:
            sealed = self.seals.seal(None if self.is_told else value)
        except CodecError as error:
            self.fail(number, unencodable(None, None, self.peer, error))
        else:
            self.inner.reply(number, sealed)

    def fail(self, number: int, error: BaseException) -> None:
        """Answer with an error."""
        self.inner.refuse(number, self.seals.error(error))

    def item(self, number: int, value: Any) -> None:
        """Send one item of a stream."""
        self.inner.item(number, self.seals.seal(value))

    def end(self, number: int) -> None:
        """End a stream."""
        self.inner.end(number)
