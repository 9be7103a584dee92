"""The guard: who may send what to this node's actors.

Three rules, each of which can refuse with `NotAllowed`, before a message's arguments are decoded if
it is a client's, and before its actor is activated:

    exposure     clients reach handlers that the class, or `@handler(expose=True)`, opens (at the owner)
    allow        a credential's patterns of ``Class.method``: a client's at its gateway, a limited
                 node's wherever its messages arrive
    authorize    the hook of `Node(authorize=…)`: sees every message that comes from outside of this node

Between nodes without limits, and without a hook, there is nothing to ask, and nothing is: the links
of others get a *sieve*, through which their frames pass one by one. A limited node is a member, and
the application's code runs there, but whoever takes it over gets no further than its patterns: it may
not answer calls that were not made to it, speak for other nodes or for clients, spawn or stop anything,
nor send classes or pickles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from ringcast.errors import CodecError, NotAllowed
from ringcast.logger import get_logger
from ringcast.values import dataclass

from ..actors.ref import display, unknown_messages
from ..security.identity import NODE, Identity
from . import wire

if TYPE_CHECKING:
    from .behalf import Seals
    from .link import Link

Sieve = Callable[[Iterable[list[Any]]], Iterable[list[Any]]]

_MESSAGES = frozenset({wire.REQUEST, wire.REQUEST_X, wire.TELL, wire.TELL_X})
_ANSWERS = frozenset({wire.REPLY, wire.ERROR, wire.ITEM, wire.END, wire.MOVED})


@dataclass(frozen=True, slots=True)
class ActorName:
    """Which actor a message is for.

    Attributes:
        class_name: The class's name on the wire, such as ``shop.carts:Cart``.
        key: The actor's key.
    """

    class_name: str
    key: Any

    def __str__(self) -> str:
        """Return the actor's name for people."""
        return display(self.class_name, self.key)


class Authorize(Protocol):
    """The hook of a node: ``Node(authorize=…)``.

    It is called in the node's event loop for each message from outside of the node, so it must be quick:
    look things up, do not ask anybody.
    """

    def __call__(self, caller: Identity, actor: ActorName, method: str, /) -> bool | str:
        """Return True to allow a message; False, or a reason for people, refuses.

        Anything else than True refuses, an exception too.
        """
        ...


class Guard:
    """The rules of one node."""

    def __init__(self, node_id: str, cluster: str, authorize: Authorize | None) -> None:
        """Ask the hook `authorize`, if there is one."""
        self.refused = 0
        self._cluster = cluster
        self._authorize = authorize
        self._log = get_logger("ringcast").bind(node=node_id)

    def check(self, caller: Identity, class_name: str, key: Any, method: str) -> None:
        """Refuse what the caller's credential or the hook does not allow.

        Raises:
            NotAllowed: Saying which rule it is.
        """
        check_allowed(caller, class_name, method)
        if self._authorize is None:
            return
        actor = ActorName(class_name, key)
        try:
            said: object = self._authorize(caller, actor, method)
        except Exception as error:
            self._log.error("authorize failed, so the call was refused", caller=str(caller), exc_info=error)
            said = "it failed; the node's log says why"
        if said is not True:
            if said is not False and not isinstance(said, str):
                self._log.error("authorize returned neither True, False nor a reason", returned=repr(said)[:200])
                said = "it gave no answer; the node's log says more"
            reason = f": {said}" if said else ""
            raise NotAllowed(f"{actor}.{method}: authorize refused {caller.role} {caller.name}{reason}")

    def sieve(self, link: Link, seals: Seals) -> Sieve | None:
        """Return what the frames of a link that came up have to pass; None if nothing is to be asked."""
        caller = link.identity
        if caller is None:  # without TLS a peer is who it says
            caller = Identity(NODE, self._cluster, link.peer, b"")
        if caller.allow is not None:
            return Limited(self, link, caller, seals).passing
        return None if self._authorize is None else Asked(self, link, caller, seals).passing


def check_allowed(caller: Identity, class_name: str, method: str) -> None:
    """Refuse what the patterns in the caller's certificate leave out.

    Raises:
        NotAllowed: Naming them.
    """
    if not caller.may(class_name, method):
        patterns = ", ".join(caller.allow or ()) or "nothing"
        raise NotAllowed(
            f"the credential of {caller.role} {caller.name} allows {patterns}; not {short_name(class_name)}.{method}"
        )


def short_name(class_name: str) -> str:
    """Return the last part of a class's name on the wire: ``Cart`` of ``shop.carts:Cart``."""
    return class_name.rpartition(":")[2].partition("@")[0]


class Asked:
    """The sieve of a member's link where there is a hook: each message is asked about."""

    def __init__(self, guard: Guard, link: Link, caller: Identity, seals: Seals) -> None:
        """Judge what `caller` sends over `link`."""
        self._guard = guard
        self._link = link
        self._caller = caller
        self._seals = seals

    def passing(self, frames: Iterable[list[Any]]) -> Iterator[list[Any]]:
        """Yield the frames that are allowed; answer the others.

        One at a time: whether a frame could be decoded is known until the next one is.
        """
        codec = self._link.codec
        for frame in frames:
            if codec.failure is None:
                if self._is_allowed(frame):
                    yield frame
            elif self._may_fail(frame):
                yield frame
            else:
                codec.take_failure()

    def _may_fail(self, frame: list[Any]) -> bool:
        """Return whether the link is to deal with a frame of which a value could not be decoded."""
        return True

    def _is_allowed(self, frame: list[Any]) -> bool:
        code = frame[0]
        try:
            if code in _MESSAGES:
                number, key = (frame[2], frame[3]) if code in (wire.REQUEST, wire.REQUEST_X) else (frame[1], frame[2])
                kind, message = self._link.messages[number]
                self._check_message(kind.name, key, message.name)
            elif code == wire.FOR_CLIENT:
                client = self._seals.caller(frame[7][1])
                self._check_message(frame[2], frame[4], frame[3], client)
        except NotAllowed as error:
            self._refuse(frame, error)
            return False
        return True

    def _check_message(self, class_name: str, key: Any, method: str, client: Identity | None = None) -> None:
        self._guard.check(client or self._caller, class_name, key, method)

    def _refuse(self, frame: list[Any], error: NotAllowed) -> None:
        """Give back the message's credit, and say why it was refused."""
        link, code = self._link, frame[0]
        self._guard.refused += 1
        if code == wire.FOR_CLIENT:
            link.grant(unknown_messages(frame[2], "?"), frame[4], 1)
            link.refuse(frame[1], self._seals.error(error))
            return
        if code in (wire.REQUEST, wire.REQUEST_X):
            _, message = link.messages[frame[2]]
            link.grant(message, frame[3], 1)
            link.fail(frame[1], error)
        else:
            _, message = link.messages[frame[1]]
            link.grant(message, frame[2], 1)
            link.send(message, link.pack([wire.LOST, message.number, frame[2], str(error)]))


class Limited(Asked):
    """The sieve of a link to a limited node."""

    def _may_fail(self, frame: list[Any]) -> bool:
        return frame[0] not in _ANSWERS or self._is_asked(frame)

    def _is_asked(self, frame: list[Any]) -> bool:
        """Return whether an answer is one to a call that was made to this node."""
        call = self._link.router.calls.get(frame[1])
        return call is not None and call.link is self._link

    def _is_allowed(self, frame: list[Any]) -> bool:
        link, code = self._link, frame[0]
        if code in _ANSWERS:
            return self._is_asked(frame)
        if code == wire.SYSTEM:
            link.fail(frame[1], NotAllowed(f"{self._whose} is limited: it may not {frame[2]} actors"))
            return False
        if code == wire.DEFINE and frame[5] is not None:
            raise CodecError(f"{self._whose} is limited, and sent a class by value")
        if code == wire.FOR_CLIENT:  # whom it names could be anybody
            self._refuse(
                frame, NotAllowed(f"{self._whose} is limited: it may not call for clients, who can dial others")
            )
            return False
        if code == wire.REQUEST_X:
            meta = frame[6]
            if meta[4] not in (None, link.peer):
                link.log.warning("a limited node sent a call on for another node, which it may not")
                return False
            if meta[6] is not None:  # its idempotency keys are its own: it gets no reply that one of others remembers
                meta[6] = f"node {self._caller.name}: {meta[6]}"
        return super()._is_allowed(frame)

    def _check_message(self, class_name: str, key: Any, method: str, client: Identity | None = None) -> None:
        check_allowed(self._caller, class_name, method)
        super()._check_message(class_name, key, method, client)

    @property
    def _whose(self) -> str:
        return f"the credential of {self._caller.role} {self._caller.name}"
