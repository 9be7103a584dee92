"""A dependency that is away for half a minute ends no permanent actor: the defaults' arithmetic, in virtual time.

Trees of families, as the runtime keeps them: a supervisor that escalates fails, is started again by
the one above it, and the cluster's root has the last word.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Hashable
from typing import cast

import pytest

from ringcast import PERMANENT, OneForAll, OneForOne, RestForOne
from ringcast.actors.supervision import Strategy
from ringcast.runtime.directives import Closed, Directive, End, Escalate, Start, Stop
from ringcast.runtime.family import Family

AWAY = 30.0


class World:
    """Virtual time, and what is due when."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.rng = random.Random(seed)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def later(self, delay: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + delay, next(self._order), do))

    def run_until(self, end: float) -> None:
        while self._due and self._due[0][0] <= end:
            self.now, _, do = heapq.heappop(self._due)
            do()
        self.now = end


class Person:
    """An actor of the tree; one without children needs the dependency to start."""

    def __init__(self, world: World, name: str, strategy: Strategy, children: list[Person], above: Family) -> None:
        self.world, self.name, self.children, self.above = world, name, children, above
        self.family = Family(strategy, world.rng)
        self.is_up = self.is_closing = False
        self.starts: list[float] = []
        self.attempt = 0

    def start(self, delay: float) -> None:
        self.attempt += 1
        attempt = self.attempt
        self.world.later(delay, lambda: self.begin(attempt))

    def begin(self, attempt: int) -> None:
        if attempt != self.attempt:
            return  # it was stopped meanwhile
        self.starts.append(self.world.now)
        if not self.children and self.world.now < AWAY:
            self.tell(self.above.failed(self, self.world.now))
            return
        self.is_up = True
        self.tell(self.above.up(self, self.world.now))
        self.family.reopen()
        self.take(self.family.declare([(child, PERMANENT) for child in self.children]))

    def stop(self) -> None:
        self.is_up = False
        self.attempt += 1
        self.take(self.family.close(is_final=False))

    def tell(self, directives: list[Directive]) -> None:
        """Have the supervisor do what its family has decided."""
        self.supervisor.take(directives)

    supervisor: Person

    def take(self, directives: list[Directive]) -> None:
        for directive in directives:
            match directive:
                case Start(child, delay):
                    cast("Person", child).start(delay)
                case Stop(child, is_final):
                    assert not is_final, "nobody is ended for good"
                    cast("Person", child).stop()
                    self.take(self.family.halted(child))
                case Escalate():
                    self.stop()
                    self.tell(self.above.failed(self, self.world.now))
                case End():
                    raise AssertionError("nobody ends")
                case _:
                    assert not isinstance(directive, Closed) or not any(child.is_up for child in self.children)


def grown(world: World, strategy: Strategy, depth: int, width: int) -> tuple[Person, list[Person]]:
    """Return the root, and the leaves of one tree of the defaults below it."""
    leaves: list[Person] = []
    root = Person(world, "root", OneForOne(), [], Family(OneForOne(), world.rng))
    root.family = Family(OneForOne(), world.rng, is_root=True)

    def grow(name: str, level: int) -> Person:
        made = Person(world, name, strategy, [], root.family)
        if level < depth:
            made.children = [grow(f"{name}.{place}", level + 1) for place in range(width)]
            for child in made.children:
                child.above, child.supervisor = made.family, made
        else:
            leaves.append(made)
        return made

    top = grow("app", 0)
    top.supervisor = root
    root.family.add(cast("Hashable", top), PERMANENT)
    top.start(0.0)
    return root, leaves


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
@pytest.mark.parametrize("strategy", [OneForOne(), OneForAll(), RestForOne()])
@pytest.mark.parametrize("seed", range(5))
def test_nobody_has_ended_when_the_dependency_is_back(strategy: Strategy, depth: int, seed: int) -> None:
    world = World(seed)
    _, leaves = grown(world, strategy, depth, width=2)
    world.run_until(AWAY + 1.0)
    assert all(leaf.starts for leaf in leaves[:1])
    limit = OneForOne().backoff.limit
    world.run_until(AWAY + limit + 1.0)
    assert [leaf.name for leaf in leaves if not leaf.is_up] == []


def test_the_defaults_give_up_on_a_supervisor_after_three_seconds_and_on_its_tree_never() -> None:
    """1 + 5 starts, 0.1 + 0.2 + 0.4 + 0.8 + 1.6 s apart and up to a fifth more or less; then the next above."""
    world = World(0)
    root, (leaf,) = grown(world, OneForOne(), depth=0, width=1)
    world.run_until(AWAY)
    assert len(leaf.starts) == 6
    assert 3.1 * 0.8 <= leaf.starts[-1] <= 3.1 * 1.2
    assert len(root.family) == 1
    world.run_until(60.0)
    assert leaf.is_up
    assert leaf.starts[-1] - leaf.starts[-2] == pytest.approx(OneForOne().backoff.limit)
