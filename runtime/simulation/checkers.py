"""What must hold whatever happens: checkers, which know nothing of the story that is told.

Each is an observer of a `Simulation`, or is told by a story what its clients have seen. They note what
they object to and raise at the end, for an exception in the middle would be the node's to handle. That no two
activations of a key act at a time is in `epochs`.

    OneViewPerNumber    one view for each number of a lineage, everywhere, and none is skipped
    Outcomes            every call has an outcome, in time
    Turns               no turn of an activation is answered twice
    Told                no told message is handled twice, and none is lost where nothing fails
    Registers           what registers answer can be explained (`history`)
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from ringcast.errors import RingcastError

from ...discovery.member import Identity, View
from ..cell import Cell
from .history import Operation, is_linearizable
from .machine import ProcessGone
from .world import World

T = TypeVar("T")


class Checker:
    """An observer that objects to nothing."""

    def __init__(self) -> None:
        """Have seen nothing."""
        self.objections: list[str] = []

    def viewed(self, now: float, machine: str, run: int, view: View, node_id: str) -> None:
        """See `Observer`."""

    def activated(self, now: float, machine: str, run: int, cell: Cell) -> None:
        """See `Observer`."""

    def deactivated(self, now: float, machine: str, run: int, cell: Cell) -> None:
        """See `Observer`."""

    def ended(self, now: float, machine: str, run: int) -> None:
        """See `Observer`."""

    def check(self, now: float) -> None:
        """Raise if there was anything to object to.

        Raises:
            AssertionError: With the first objections.
        """
        if self.objections:
            more = f"\n… and {len(self.objections) - 10} more" if len(self.objections) > 10 else ""
            raise AssertionError(f"{type(self).__name__}: " + "\n".join(self.objections[:10]) + more)


class OneViewPerNumber(Checker):
    """Equal lineage and number mean equal members, each run of a node installs one view after the other, and the
    runs of a node id only grow."""

    def __init__(self) -> None:
        """Have seen no view."""
        super().__init__()
        self.views: dict[tuple[str, int], tuple[str, tuple[tuple[str, int], ...]]] = {}
        self._latest: dict[tuple[str, int], tuple[str, int, Identity | None]] = {}
        self._runs: dict[Identity, tuple[str, int]] = {}

    def viewed(self, now: float, machine: str, run: int, view: View, node_id: str) -> None:
        """Compare it with what others have under that number."""
        members = tuple(member.identity for member in view.members)
        number = (view.lineage, view.number)
        first, known = self.views.setdefault(number, (machine, members))
        if known != members:
            self.objections.append(f"{now:.6f}: view {number} is {known} on {first} and {members} on {machine}")
        member = view.member(node_id)
        me = member.identity if member is not None else None
        if me is not None and self._runs.setdefault(me, (machine, run)) != (machine, run):
            self.objections.append(f"{now:.6f}: {machine} is {me}, as {self._runs[me]} was before")
        lineage, before, was = self._latest.get((machine, run), (view.lineage, -1, None))
        if lineage == view.lineage and (
            view.number <= before or (was == me and before >= 0 and view.number > before + 1)
        ):
            self.objections.append(f"{now:.6f}: {machine} has installed view {number} after {before}")
        self._latest[machine, run] = (*number, me)


class Outcomes(Checker):
    """Every call that a story makes ends: by an answer, or by an error of ringcast.

    Attributes:
        answered: Calls that were answered.
        failed: Calls that ended by an error, by its class.
        lost: Calls whose caller's process has ended.
        latest: How the latest that failed has failed, in words.
    """

    def __init__(self, world: World, limit: float) -> None:
        """Allow each call so many virtual seconds, on a clock that is right."""
        super().__init__()
        self._world = world
        self._limit = limit
        self._open: dict[int, tuple[float, str]] = {}
        self._number = 0
        self.answered = 0
        self.failed: dict[str, int] = {}
        self.lost = 0
        self.latest = ""

    async def of(self, what: str, call: Awaitable[T]) -> T | None:
        """Await a call; return None if it has failed."""
        try:
            return await self.or_error(what, call)
        except (ProcessGone, RingcastError):
            return None

    async def or_error(self, what: str, call: Awaitable[T]) -> T:
        """Await a call; return what it returns, and raise what it raises."""
        self._number += 1
        number, begun = self._number, self._world.now
        self._open[number] = (begun, what)
        try:
            value = await call
        except ProcessGone:
            self.lost += 1
            raise
        except RingcastError as error:
            self.failed[type(error).__name__] = self.failed.get(type(error).__name__, 0) + 1
            self.latest = f"{what}, called at {begun:.6f}: {type(error).__name__}: {error}"
            raise
        else:
            self.answered += 1
            return value
        finally:
            del self._open[number]
            if self._world.now - begun > self._limit:
                self.objections.append(
                    f"{what}, called at {begun:.6f}, has ended after {self._world.now - begun:.3f} s"
                )

    def check(self, now: float) -> None:
        """Object to calls that have not ended, too."""
        for begun, what in self._open.values():
            if now - begun > self._limit:
                self.objections.append(f"{what}, called at {begun:.6f}, has no outcome at {now:.6f}")
        super().check(now)


class Turns(Checker):
    """What counters answer: each activation counts its turns from 1, and no count is answered twice."""

    def __init__(self) -> None:
        """Have seen no answer."""
        super().__init__()
        self.seen: dict[tuple[str, str], set[int]] = {}

    def counted(self, key: str, activation: str, count: int) -> None:
        """An activation of a counter has answered that this was its turn number `count`."""
        counts = self.seen.setdefault((key, activation), set())
        if count in counts or count < 1:
            self.objections.append(f"activation {activation} of {key!r} has answered {count} twice")
        counts.add(count)


class Told(Checker):
    """Told messages, by numbers that the story gives them: each is handled once at most.

    Attributes:
        accepted: Those that `tell` has accepted.
        handled: Those that a handler has seen.
    """

    def __init__(self) -> None:
        """Have seen no message."""
        super().__init__()
        self.accepted: set[int] = set()
        self.handled: set[int] = set()

    def was_handled(self, number: int) -> None:
        """A handler has begun with it."""
        if number in self.handled:
            self.objections.append(f"message {number} is handled twice")
        self.handled.add(number)

    def none_is_lost(self, dead: int) -> None:
        """Object if more is missing than nodes have counted as dead letters."""
        missing = self.accepted - self.handled
        if len(missing) > dead:
            self.objections.append(
                f"{len(missing)} of {len(self.accepted)} told messages were not handled, and {dead} are dead letters: "
                f"{sorted(missing)[:10]}"
            )


class Registers(Checker):
    """What actors with the methods of `history.register` answer, activation by activation.

    A call that has not failed for certain may have taken effect on any activation of its key.
    """

    def __init__(self) -> None:
        """Have seen no call."""
        super().__init__()
        self.answered: dict[tuple[str, str], list[Operation]] = {}
        self.unknown: dict[str, list[Operation]] = {}

    def called(self, key: str, activation: str | None, operation: Operation) -> None:
        """A call has ended; without an activation its outcome is not known."""
        if activation is not None:
            self.answered.setdefault((key, activation), []).append(operation)
        elif operation.method != "read":
            self.unknown.setdefault(key, []).append(operation)

    def check(self, now: float) -> None:
        """Object to histories that no order of calls explains."""
        for (key, activation), calls in self.answered.items():
            last = max(call.ended for call in calls)
            maybe = [call for call in self.unknown.get(key, ()) if call.begun <= last]
            if not is_linearizable([*calls, *maybe]):
                self.objections.append(f"no order of these calls of {key} explains {activation}: {calls} and {maybe}")
        super().check(now)
