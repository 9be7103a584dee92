"""A family: the children of one supervisor, and what is decided about them.

The pure core of supervision. It is told what happened to a child, and when, and returns what is to
be done; it starts and stops nothing itself, and reads no clock. The rules are those of Erlang's
``supervisor``:

* Children are started in order, each once the one before it is up, and stopped in reverse order,
  one at a time. With `OneForAll` and `RestForOne`, all that have to stop have stopped before any
  is started.
* PERMANENT children are always started again, TRANSIENT ones after a failure, TEMPORARY ones never,
  not even when a sibling takes them along.
* What happens to a child that is about to be stopped anyway is no failure of its own.
* More than ``max_restarts`` in ``within`` seconds, of all children together, and the supervisor
  itself fails.

Where it differs: a restart waits for the backoff of the child that failed; a first start that fails
is a failure like others; a child that has ended for good is forgotten, so no sibling brings it back;
and the cluster's root counts for each child apart, restarts each by itself, and never fails.

Invariants: at most one `Stop` is unanswered; while one is, no `Start` is returned, except by
`OneForOne` for the child that has failed; and no child is started that has not gone down since its
last start.

References:
    Erlang/OTP. "Supervisor Behaviour", and the reference manual of ``supervisor``.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass

from ..actors.supervision import PERMANENT, TEMPORARY, OneForAll, Restart, RestForOne, Strategy
from .directives import Closed, Directive, End, Escalate, Ready, Start, Stop
from .intensity import Intensity


class Phase(enum.Enum):
    """Where a child is between two starts."""

    DOWN = "down"
    """Not running; to be started when its turn comes."""
    STARTING = "starting"
    UP = "up"
    AWAY = "away"
    """Lost with its node, or without a node that fits: the register starts it, and it comes up by itself."""


@dataclass(slots=True, eq=False)
class Child:
    """What a family knows of one child.

    Attributes:
        restart: Whether it is started again.
        phase: Where it is.
        is_declared: Whether it stands in its supervisor's ``children()``.
        failures: Restarts in a row that were its own; none any more once it has been up for ``within``.
        since: When it came up last; monotonic seconds.
        intensity: Its own window, under the root.
        is_failing: Whether the root has given up counting, and retries at the backoff's limit.
        is_named: Whether its supervisor has named it; others do not outlive the supervisor's activation.
    """

    restart: Restart
    phase: Phase
    is_declared: bool = False
    failures: int = 0
    since: float = 0.0
    intensity: Intensity | None = None
    is_failing: bool = False
    is_named: bool = True


class Family:
    """The children of one supervisor, in start order."""

    __slots__ = (
        "_awaited",
        "_backoff",
        "_children",
        "_has_given_up",
        "_intensity",
        "_is_closed",
        "_is_closing",
        "_is_final",
        "_is_ready",
        "_is_root",
        "_is_unsorted",
        "_pending",
        "_rng",
        "_starts",
        "_stopping",
        "_stops",
        "_strategy",
    )

    def __init__(self, strategy: Strategy, rng: random.Random, *, is_root: bool = False) -> None:
        """Begin without children.

        Args:
            strategy: Who restarts with whom, the intensity and the backoff.
            rng: Draws the jitter.
            is_root: Whether this is the cluster's root, which counts per child and never fails.
        """
        self._strategy = strategy
        self._backoff = strategy.backoff
        self._rng = rng
        self._is_root = is_root
        self._children: dict[Hashable, Child] = {}
        self._stopping: Hashable | None = None
        self._stops: list[Hashable] = []  # in start order: the last one is next
        self._starts: deque[Hashable] = deque()
        self._awaited: Hashable | None = None  # the next start waits until this child is up, or down
        self._is_final = False
        self._is_ready = True
        self.reopen()

    def __len__(self) -> int:
        """Return how many children there are, those that are down included."""
        return len(self._children)

    def __contains__(self, child: object) -> bool:
        """Whether a child belongs to this family."""
        return child in self._children

    def __iter__(self) -> Iterator[Hashable]:
        """Yield the children in start order."""
        return iter(tuple(self._children))

    @property
    def is_closing(self) -> bool:
        """Whether it takes no more children: its supervisor is about to go, or has gone."""
        return self._is_closing

    @property
    def stopping(self) -> Hashable | None:
        """The child whose `Stop` is not answered yet."""
        return self._stopping

    # ---- who belongs to it ---------------------------------------------------------------------

    def declare(self, children: Iterable[tuple[Hashable, Restart]], down: Iterable[Hashable] = ()) -> list[Directive]:
        """Take the children of a supervisor that begins, to be started one after the other.

        After `reopen` those that are kept come back: in the order that is declared now, then those
        that were added at run time. What is no longer declared ends. Children that the supervisor
        has started itself meanwhile come first. `Ready` says when all had their turn.

        Args:
            children: Who is declared, and whether each is started again.
            down: Children that were found, and were not up: their last supervisor was lost before it started them.
        """
        kept = self._children
        for key in down:
            if key in kept and kept[key].phase in (Phase.UP, Phase.STARTING):
                kept[key].phase = Phase.DOWN
        declared: dict[Hashable, Child] = {}
        for key, restart in children:
            child = declared[key] = kept.get(key) or Child(restart, Phase.DOWN)
            child.restart = restart
            child.is_declared = True
        others = {key: child for key, child in kept.items() if key not in declared}
        running = {key: child for key, child in others.items() if child.phase is not Phase.DOWN}
        added = {key: child for key, child in others.items() if child.phase is Phase.DOWN and not child.is_declared}
        self._children = {**running, **declared, **added}
        self._is_ready = False
        dropped = [key for key in others if key not in self._children]
        self._starts.extend(key for key, child in self._children.items() if child.phase is Phase.DOWN)
        return [*map(End, reversed(dropped)), *self._advance()]

    def add(self, child: Hashable, restart: Restart, *, is_up: bool = False, is_named: bool = True) -> None:
        """Take a child that is being started, or is up already; nothing if it belongs here already."""
        assert not self._is_closing, "a supervisor that goes takes no more children"
        if child not in self._children:
            self._children[child] = Child(restart, Phase.UP if is_up else Phase.STARTING, is_named=is_named)

    def is_started(self, child: Hashable) -> bool:
        """Whether a child is up, or about to be, as far as is known here."""
        return child in self._children and self._children[child].phase in (Phase.UP, Phase.STARTING)

    def is_named(self, child: Hashable) -> bool:
        """Whether a child outlives this activation of its supervisor, if that goes on elsewhere."""
        return child in self._children and self._children[child].is_named

    # ---- what happens to them ------------------------------------------------------------------

    def up(self, child: Hashable, now: float) -> list[Directive]:
        """Note that a child has started."""
        known = self._children.get(child)
        if known is None or known.phase not in (Phase.STARTING, Phase.AWAY):
            return []
        known.phase = Phase.UP
        known.since = now
        if self._awaited != child:
            return []
        self._awaited = None
        return self._advance()

    def moved(self, child: Hashable) -> list[Directive]:
        """Note that a child was lost with its node and is started again elsewhere: no failure of its own.

        Its siblings do not wait for it, neither to be started nor to be stopped.
        """
        known = self._children.get(child)
        if known is None:
            return []
        known.phase = Phase.AWAY
        if self._awaited == child:
            self._awaited = None
        if self._stopping == child and not self._is_final and known.restart is not TEMPORARY:
            self._stopping = None
        return self._advance()

    def failed(self, child: Hashable, now: float) -> list[Directive]:
        """Decide about a child that has failed, or could not be started; it is down."""
        return self._down(child, now, has_failed=True)

    def ended(self, child: Hashable, now: float) -> list[Directive]:
        """Decide about a child that has ended itself, normally; it is down."""
        return self._down(child, now, has_failed=False)

    def halted(self, child: Hashable) -> list[Directive]:
        """Note that a `Stop` that is not final has been carried out."""
        if self._stopping is None or self._stopping != child:
            return []
        self._stopping = None
        self._children[child].phase = Phase.DOWN
        return self._advance()

    def gone(self, child: Hashable) -> list[Directive]:
        """Forget a child that has ended for good: somebody stopped it, or its node was lost."""
        if self._children.pop(child, None) is None:
            return []
        if self._stopping == child:
            self._stopping = None
        if self._awaited == child:
            self._awaited = None
        if child in self._stops:
            self._stops.remove(child)
        return self._advance()

    # ---- beginning and end of the supervisor itself ----------------------------------------------

    def close(self, *, is_final: bool) -> list[Directive]:
        """Stop all children, because the supervisor goes; `Closed` says when that is done.

        Args:
            is_final: Whether they end for good. Otherwise they are kept for `reopen`, except TEMPORARY ones.
        """
        self._is_closing = True
        self._is_closed = False
        self._is_final = self._is_final or is_final
        self._stops = list(self._children)
        self._starts.clear()
        self._awaited = None
        return self._advance()

    def reopen(self) -> None:
        """Begin anew with the children that `close` has kept; the past does not count."""
        self._intensity = Intensity(self._strategy.max_restarts, self._strategy.within)
        self._is_closing = self._is_closed = self._is_final = False
        self._has_given_up = False
        self._is_unsorted = False
        self._pending: tuple[float, Hashable | None, int] = (0.0, None, 0)
        for child in self._children.values():
            child.failures = 0

    # ---- deciding --------------------------------------------------------------------------------

    def _down(self, key: Hashable, now: float, *, has_failed: bool) -> list[Directive]:
        child = self._children.get(key)
        if child is None or child.phase is Phase.DOWN:
            return []
        was_stable = child.phase is Phase.UP and now - child.since >= self._strategy.within
        child.phase = Phase.DOWN
        if self._awaited == key:
            self._awaited = None
        if self._stopping == key or key in self._stops or self._is_closing or self._has_given_up:
            return []  # it was to go anyway, and who waits for it goes on when its `Stop` is answered
        if not (child.restart is PERMANENT or (has_failed and child.restart is not TEMPORARY)):
            del self._children[key]
            return [End(key), *self._advance()]
        if was_stable:
            child.failures = 0
            child.is_failing = False
        child.failures += 1
        window = self._intensity
        if self._is_root:
            window = child.intensity = child.intensity or Intensity(self._strategy.max_restarts, self._strategy.within)
        is_too_much = window.note(now)
        if is_too_much and not self._is_root:
            self._has_given_up = True
            return [Escalate(key, window.count)]
        child.is_failing = child.is_failing or is_too_much
        delay = self._backoff.limit if child.is_failing else self._backoff.delay(child.failures, self._rng)
        if self._is_root or not isinstance(self._strategy, (OneForAll, RestForOne)):
            child.phase = Phase.STARTING
            return [Start(key, delay, key, window.count, child.is_failing), *self._advance()]
        self._take_along(key)
        self._pending = (delay, key, window.count)
        return self._advance()

    def _take_along(self, key: Hashable) -> None:
        """Plan to stop whom a failed child takes along, and to start all that are down after that."""
        order = list(self._children)
        first = 0 if isinstance(self._strategy, OneForAll) else order.index(key)
        still = (Phase.DOWN, Phase.AWAY)
        doomed = {other for other in order[first:] if self._children[other].phase not in still}
        if self._awaited in doomed:
            self._awaited = None
        doomed.update(self._stops)
        doomed.discard(self._stopping)
        self._stops = [other for other in order if other in doomed]
        self._is_unsorted = True

    def _advance(self) -> list[Directive]:
        """Return the next step of what is planned: stops first, then starts."""
        if self._stopping is not None or (self._has_given_up and not self._is_closing):
            return []
        while self._stops:
            key = self._stops.pop()
            child = self._children[key]
            is_final = self._is_final or child.restart is TEMPORARY
            if is_final or child.phase not in (Phase.DOWN, Phase.AWAY):
                self._stopping = key
                return [Stop(key, is_final)]
        if self._is_closing:
            was_closed, self._is_closed = self._is_closed, True
            return [] if was_closed else [Closed()]
        if self._is_unsorted:
            self._is_unsorted = False
            self._starts = deque(key for key, child in self._children.items() if child.phase is Phase.DOWN)
        while self._starts and self._awaited is None:
            key = self._starts.popleft()
            found = self._children.get(key)
            if found is not None and found.phase is Phase.DOWN:
                found.phase = Phase.STARTING
                self._awaited = key
                delay, cause, restarts = self._pending
                self._pending = (0.0, cause, restarts)
                return [Start(key, delay, cause, restarts)]
        if self._awaited is None and not self._is_ready:
            self._is_ready = True
            return [Ready()]
        return []
