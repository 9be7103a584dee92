"""`Supervisor`: an actor whose children are data.

Every actor supervises what it spawns. A `Supervisor` says in `children` what it wants to have; the
runtime starts them in that order, and brings them back with it when it is started again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ringcast.values import dataclass

from .actor import Actor
from .messages import handler
from .placement import Placement
from .props import Props
from .supervision import PERMANENT, Restart


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child that a supervisor wants to have: ``ChildSpec(props(Db, url), name="db")``.

    Attributes:
        props: Its class and arguments.
        name: Its name among its siblings; by default that of its class.
        restart: `PERMANENT`, `TRANSIENT` or `TEMPORARY`.
        on: Where it is to run; by default the class's ``placement``.
    """

    props: Props[Any]
    name: str = ""
    restart: Restart = PERMANENT
    on: Placement | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be started, where it is written."""
        if not isinstance(self.props, Props):
            raise TypeError(f"ChildSpec takes props(Worker, …), not {self.props!r}")
        if not isinstance(self.name, str) or len(self.name) > 200:
            raise TypeError(f"ChildSpec(name={self.name!r}): it takes a string of 1 to 200 characters")
        if not isinstance(self.restart, Restart):
            raise TypeError(f"ChildSpec(restart={self.restart!r}): it takes PERMANENT, TRANSIENT or TEMPORARY")
        if self.on is not None and not isinstance(self.on, Placement):
            raise TypeError(f"ChildSpec(on={self.on!r}): it takes Ring(), Local(), Labels(...) or another placement")
        if not self.name:
            object.__setattr__(self, "name", self.props.cls.__name__)


class Supervisor(Actor, ABC):
    """Subclass it, and return the child specs from `children`.

    The children are started in order, each once the one before it is up, and stopped in reverse
    order. Which of them are started again when one fails, how often and after which pause, says the
    class keyword ``supervision``. Start it once for the cluster with `Node.supervise`, or as the
    child of another one.
    """

    @abstractmethod
    def children(self) -> Sequence[ChildSpec]:
        """Return what it wants to have, in start order; asked at each start of the supervisor."""

    async def add_child(self, spec: ChildSpec) -> Any:
        """Start one more child, after the others; return its ref, or that of the living one of its name.

        It is a child like those of `children`: it comes back when the supervisor is started again.
        """
        return await self.context.spawn(spec.props, spec.name, spec.restart, spec.on)

    async def remove_child(self, name: str) -> bool:
        """End a child for good, and return when it has ended; False if there is none of that name."""
        found = self.context.children.get(name)
        if found is None:
            return False
        await self.context.stop(found)
        return True

    @handler(read_only=True)
    async def child(self, name: str) -> Any:
        """Return the ref of a child.

        Raises:
            LookupError: If there is none of that name.
        """
        children = self.context.children
        if name not in children:
            raise LookupError(f"{type(self).__name__} has no child {name!r}; it has {', '.join(children) or 'none'}")
        return children[name]


def specs_of(supervisor: Supervisor) -> list[ChildSpec]:
    """Return what a supervisor wants to have.

    Raises:
        TypeError: If `children` returns anything but child specs with different names.
    """
    found = list(supervisor.children())
    where = f"{type(supervisor).__qualname__}.children()"
    names = set[str]()
    for spec in found:
        if not isinstance(spec, ChildSpec):
            raise TypeError(f"{where} returned {spec!r}; it returns ChildSpec(props(Worker, …), name=…)")
        if spec.name in names:
            raise TypeError(f"{where} has two children named {spec.name!r}; give each a name=… of its own")
        names.add(spec.name)
    return found
