"""The actor classes that a node knows, and where their actors belong.

A class may be known by its name only: a peer spoke of it, and this process has not imported it.
The owner of a keyed actor is a pure function of the view (`groups`): the ring over the members that host
its class and match its placement. Classes that the same members host share a ring.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, CodecError, Unreachable

from ..actors.actor import Actor, ActorType, actor_type, imported_types
from ..actors.messages import HandlerOptions, Message
from ..actors.naming import NAME_MAX, class_blob, class_from_blob
from ..actors.placement import Labels
from ..actors.ref import ActorRef, Caller, UnknownRef, display, is_spawned, ref_class
from ..actors.supervisor import Supervisor
from ..discovery.member import Member, View
from .groups import Groups, Wanted, owners_of
from .ring import check_key, key_hash, partition_of

if TYPE_CHECKING:
    from ..discovery.share import Share
    from .cell import Cell

KINDS_MAX = 65_536
"""Classes that a node knows, by name only or not: peers must not fill its memory with names."""

LOOK_AGAIN = 0.05
"""Seconds until a class that is not here is looked for again among those that are: a walk over all of them."""


class Kind:
    """One actor class on one node: its activations here, and its ring."""

    __slots__ = (
        "actor",
        "begins_plainly",
        "bound",
        "cells",
        "group",
        "hooks",
        "is_alone",
        "is_durable",
        "is_here",
        "is_pledged",
        "looked_for_until",
        "name",
        "owners",
        "share",
        "supervises",
        "version",
    )

    def __init__(self, name: str, actor: ActorType | None) -> None:
        """Know the class by name, and by its type if this process has it."""
        self.cells: dict[Any, Cell] = {}
        self.looked_for_until = 0.0
        """When to look again whether the class has been imported, if it is not here; monotonic seconds."""
        self.share: Share | None = None
        """What of it may run here, once this node owned some of it; see `Tenancy`."""
        self.is_pledged = False
        """Whether every partition of the share counts one activation that stands for any number; see `Tenancy`."""
        self._know(name, actor)

    def _know(self, name: str, actor: ActorType | None) -> None:
        self.name = name
        self.actor: ActorType = actor  # type: ignore[assignment]  # not to be used unless `is_here`
        self.is_here = actor is not None
        self.bound = actor.options.mailbox if actor is not None else 0
        self.group: str | None = name
        """Under which name the class has its share; None for one that each node has for itself."""
        self.owners: tuple[str, ...] = ()
        self.is_alone = False
        """Whether one member only hosts the class: then no key needs to be hashed."""
        self.version = 0
        self.hooks: dict[str, Message] = {}
        self.supervises = actor is not None and issubclass(actor.cls, Supervisor)
        """Whether its actors declare children."""
        self.is_durable = actor is not None and actor.cls.__is_durable__
        """Whether its actors' state is stored."""
        self.begins_plainly = (
            actor is not None and actor.cls.on_start is Actor.on_start and not self.supervises and not self.is_durable
        )
        if actor is not None:
            for hook in ("on_start", "on_stop", "on_terminated"):
                function = getattr(actor.cls, hook)
                self.hooks[hook] = Message(
                    name, hook, function, False, HandlerOptions(), is_transaction=self.is_durable
                )

    def replace(self, actor: ActorType) -> None:
        """Take the class, known by name until now, or a newer one of that name (a reloaded module)."""
        self._know(actor.name, actor)

    @property
    def any_message(self) -> Message:
        """Some message of the class: it stands for the class in a GRANT."""
        return next(iter(self.actor.messages.values()))

    def message(self, name: str) -> Message | None:
        """Return the message of that name, if the class is here and has it."""
        return self.actor.messages.get(name) if self.is_here else None


class Kinds:
    """The actor classes of one node, under the present view."""

    def __init__(self, node_id: str, caller: Caller, allow_pickle: bool, groups: Groups | None = None) -> None:
        """Know no class and no view; refs that are made here are bound to `caller`."""
        self.groups = groups if groups is not None else Groups()
        self.by_name: dict[str, Kind] = {}
        self.view: View | None = None
        self.members: dict[str, Member] = {}
        self.version = 0
        """Grows with each view."""
        self._node_id = node_id
        self._caller = caller
        self._allow_pickle = allow_pickle
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._keyed: dict[type[Any], Kind] = {}
        """By class: the record of those that refs by key were made of, so long as it is that class's."""

    # ---- classes and refs ------------------------------------------------------------------------

    def named(self, name: str) -> Kind:
        """Return the node's record of an actor class, by its name on the wire."""
        kind = self.by_name.get(name)
        if kind is not None and (kind.is_here or monotonic() < kind.looked_for_until):
            return kind
        for actor in imported_types():
            if actor.name == name:
                return self.of(actor)
        if kind is None:
            if len(self.by_name) >= KINDS_MAX:
                raise CodecError(f"a peer speaks of more than {KINDS_MAX} classes; {name!r:.100} is one too many")
            kind = self.by_name[name] = Kind(name, None)
        kind.looked_for_until = monotonic() + LOOK_AGAIN
        return kind

    def ref_from_wire(self, parts: list[Any]) -> ActorRef:
        """Return the ref that came over the wire.

        Raises:
            CodecError: If it cannot be one.
            TypeError: If its key cannot be one.
        """
        name, key, node = parts
        if not (isinstance(name, str) and len(name) <= NAME_MAX and (node is None or isinstance(node, str))):
            raise CodecError("a reference came that is none")
        if not is_spawned(key):
            check_key(key)
        return self.ref_by_name(name, key, node)

    def of(self, actor: ActorType) -> Kind:
        """Return the node's record of an actor class that is in this process."""
        kind = self.by_name.get(actor.name)
        if kind is None:
            kind = self.by_name[actor.name] = Kind(actor.name, actor)
        elif kind.actor is not actor:  # known by name until now, or a reloaded module
            kind.replace(actor)
        return kind

    def learn(self, name: str, blob: bytes | None) -> Kind:
        """Return the record of a class that a peer speaks of, loading it if it came by value."""
        kind = self.named(name)
        if blob is not None and not kind.is_here and self._allow_pickle:
            return self.of(actor_type(class_from_blob(name, blob)))
        return kind

    def is_known(self, name: str) -> bool:
        """Return whether a class is in this process or hosted by a member: what clients may speak of."""
        kind = self.by_name.get(name)
        return (kind is not None and kind.is_here) or any(name in member.hosts for member in self.members.values())

    def known_ref(self, name: object, key: object, node: object) -> ActorRef:
        """Return the ref that a client sent; nothing is remembered for names that it made up.

        Raises:
            CodecError: If it cannot be one.
        """
        if not isinstance(name, str) or not (node is None or isinstance(node, str)) or not self.is_known(name):
            raise CodecError(f"a client sent a reference to an actor of class {name!r:.200}, which no member hosts")
        try:
            check_key(key)
        except TypeError as error:
            raise CodecError(f"a client sent a reference that is none: {error}") from None
        return self.ref_by_name(name, key, node)

    def blob(self, name: str) -> bytes | None:
        """Return a class that travels by value; None for one that travels by name."""
        kind = self.named(name)
        return class_blob(kind.actor.cls) if kind.is_here and kind.actor.by_value else None

    def ref(self, cls: type[Any], key: Any) -> Any:
        """Return the ref of a keyed actor; see `Node.ref`."""
        kind = self._keyed.get(cls) if isinstance(cls, type) else None
        if kind is None or kind.actor.cls is not cls:
            kind = self._keyed[cls] = self._checked(cls)
        check_key(key)
        if is_spawned(key):
            raise TypeError(
                f"{key!r} cannot be an actor's key: it names a spawned actor; use the ref that spawn returned"
            )
        return ref_class(kind.actor)(self._caller, kind.name, key, None)

    def _checked(self, cls: type[Any]) -> Kind:
        """Return the record of a class that can be activated by its name.

        Raises:
            TypeError: If it is no actor class, or cannot.
        """
        actor = actor_type(cls)
        if actor.required:
            raise TypeError(
                f"{cls.__qualname__} needs {', '.join(actor.required)} to be made, so it cannot be activated by its "
                f"name; give the constructor defaults, or start it with spawn(props({cls.__qualname__}, …))"
            )
        kind = self.of(actor)
        self._keyed = {known: its for known, its in self._keyed.items() if its.actor.cls is known}
        return kind

    def ref_by_name(self, name: str, key: Any, node: str | None) -> ActorRef:
        """Return the ref that came over the wire."""
        kind = self.named(name)
        cls = ref_class(kind.actor) if kind.is_here else UnknownRef
        return cls(self._caller, name, key, node)

    # ---- the view and the ring --------------------------------------------------------------------

    def install(self, view: View) -> None:
        """Take a new view: owners are worked out anew, when they are asked for."""
        self.view = view
        self.members = {member.id: member for member in view.members}
        self._hosts = self.groups.hosts(view)
        self.version += 1

    def hosts(self, kind: Kind) -> tuple[str, ...]:
        """Return the ids of the members that may run a class, ascending."""
        kind.group = group = self._group(kind)
        if group is None:
            return (self._node_id,) if len(self.members) >= self.groups.quorum else ()
        ids = self._hosts.get(group)
        if ids is None and self.view is not None:  # a group that was met just now, or nobody's class
            self._hosts = self.groups.hosts(self.view)
            ids = self._hosts.setdefault(group, ())
        return ids or ()

    def _group(self, kind: Kind) -> str | None:
        """Return the name under which a class has its share; None if each node has its own of that class."""
        actor = kind.actor if kind.is_here else None
        if not (actor.by_value if actor is not None else "@" in kind.name):
            return kind.name
        wanted: Wanted = ()
        if actor is not None:
            if not (self._allow_pickle and actor.can_travel):
                return None
            if isinstance(actor.options.placement, Labels):
                wanted = actor.options.placement.wanted
        return self.groups.learn(wanted)

    def owner(self, kind: Kind, key: Any, node: str | None) -> str:
        """Return the id of the node where an actor belongs.

        Args:
            kind: Its class.
            key: Its key.
            node: For a spawned actor, the node where it was started.

        Raises:
            Unreachable: If there is none; certainty NOT_SENT.
        """
        if node is not None:
            if node in self.members or node == self._node_id:
                return node
            raise Unreachable(
                f"{display(kind.name, key)} ran on node {node}, which has left the cluster or was lost",
                certainty=NOT_SENT,
                actor=display(kind.name, key),
                node=node,
            )
        owner = self.owner_or_none(kind, key)
        if owner is None:
            there = len(self.members)
            if there < self.groups.quorum:
                raise Unreachable(
                    f"{display(kind.name, key)} cannot run: the cluster has {there} members, and "
                    f'split_brain="static:{self.groups.quorum}" has it do nothing with fewer: start more nodes',
                    certainty=NOT_SENT,
                    actor=display(kind.name, key),
                )
            raise Unreachable(
                f"no member of the cluster hosts {kind.name}, so {display(kind.name, key)} cannot run: import its "
                f"module on a node (`ringcast up MODULE`), and check Node(hosts=…) and the labels",
                certainty=NOT_SENT,
                actor=display(kind.name, key),
            )
        return owner

    def owner_or_none(self, kind: Kind, key: Any) -> str | None:
        """Return the id of the member that owns a keyed actor; None if nobody hosts its class."""
        owners = self.owners(kind)
        if not owners:
            return None
        return owners[0] if kind.is_alone else owners[partition_of(key_hash(kind.name, key))]

    def owners(self, kind: Kind) -> tuple[str, ...]:
        """Return the id of the owner of each partition of a class; none if nobody hosts it."""
        if kind.version != self.version:
            kind.version = self.version
            ids = self.hosts(kind)
            kind.owners = owners_of(ids)
            kind.is_alone = len(ids) == 1
        return kind.owners
