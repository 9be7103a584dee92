"""Supervision against small models of what Erlang's ``supervisor`` documents.

`Documented` carries every order out at once, as OTP's supervisor does, so the whole trace of starts
and stops can be compared with the model. `Interleaved` answers orders late and in any order, as
nodes do, and checks what must hold all the same.
"""

from __future__ import annotations

import random
from collections.abc import Hashable

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ringcast import PERMANENT, TEMPORARY, TRANSIENT, Backoff, OneForAll, OneForOne, Restart, RestForOne
from ringcast.actors.supervision import Strategy
from ringcast.runtime.directives import Closed, Directive, End, Escalate, Ready, Start, Stop
from ringcast.runtime.family import Family

AT_ONCE = Backoff(first=0.0, limit=0.0, jitter=0.0)
STRATEGIES: list[type[Strategy]] = [OneForOne, OneForAll, RestForOne]
RESTARTS = [PERMANENT, TRANSIENT, TEMPORARY]

Step = tuple[str, int]
specs = st.lists(st.sampled_from(RESTARTS), max_size=6)
places = st.integers(0, 5)


class Erlang:
    """The model: the rules of the manual, each in the words of its own line."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self.children: list[tuple[int, Restart]] = []
        self.running: set[int] = set()
        self.restarts: list[float] = []
        self.broken: dict[int, int] = {}
        self.trace: list[Step] = []
        self.has_terminated = False

    def start(self, ids: list[int], now: float) -> None:
        """Children are started in order; one that cannot be started is as one that has failed."""
        for child in ids:
            self.trace.append(("start", child))
            self.running.add(child)
            if self.broken.get(child, 0) > 0:
                self.broken[child] -= 1
                takes_over = self.exit(child, normal=False, now=now)
                if takes_over or self.has_terminated:
                    return

    def exit(self, child: int, *, normal: bool, now: float) -> bool:
        """Decide about a child that has exited; return whether that takes the place of starts in progress."""
        self.running.discard(child)
        restart = dict(self.children)[child]
        if restart is TEMPORARY or (restart is TRANSIENT and normal):
            self.children.remove((child, restart))
            return False
        # "If more than MaxR restarts occur in the last MaxT seconds, the supervisor terminates all the
        # child processes and then itself."
        self.restarts = [t for t in [*self.restarts, now] if t >= now - self.strategy.within]
        if len(self.restarts) > self.strategy.max_restarts:
            self.has_terminated = True
            return True
        ids = [other for other, _ in self.children]
        match self.strategy:
            case OneForAll():  # "all other child processes are terminated, and then all are restarted"
                again = ids
            case RestForOne():  # "the rest, that is, the child processes after it in start order"
                again = ids[ids.index(child) :]
            case _:
                again = [child]
        for other in reversed(again):
            if other in self.running:
                self.running.discard(other)
                self.trace.append(("stop", other))
                # "A temporary child process is never restarted (even when a sibling's death terminates it)."
                self.children = [entry for entry in self.children if entry != (other, TEMPORARY)]
        left = dict(self.children)
        self.start([other for other in again if other in left], now)
        return not isinstance(self.strategy, OneForOne)


class Documented(RuleBasedStateMachine):
    """Every order is carried out before anything else happens."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.number = 0

    @initialize(
        kind=st.sampled_from(STRATEGIES),
        most=st.integers(0, 4),
        within=st.sampled_from([1.0, 10.0]),
        restarts=specs,
    )
    def begin(self, kind: type[Strategy], most: int, within: float, restarts: list[Restart]) -> None:
        self.strategy = kind(most, within, AT_ONCE)
        self.family = Family(self.strategy, random.Random(0))
        self.broken: dict[int, int] = {}
        self.running: list[int] = []
        self.trace: list[Step] = []
        self.escalated = self.closed = False
        self.model = Erlang(self.strategy)
        declared = [(self.fresh(), restart) for restart in restarts]
        self.model.children = list(declared)
        self.model.start([child for child, _ in declared], self.now)
        self.carry_out(self.family.declare(declared))
        self.compare()

    def fresh(self) -> int:
        self.number += 1
        return self.number

    def carry_out(self, directives: list[Directive]) -> None:
        for directive in directives:
            match directive:
                case Start(child):
                    assert isinstance(child, int)
                    self.trace.append(("start", child))
                    if self.broken.get(child, 0) > 0:
                        self.broken[child] -= 1
                        self.carry_out(self.family.failed(child, self.now))
                    else:
                        self.running.append(child)
                        self.carry_out(self.family.up(child, self.now))
                case Stop(child, is_final):
                    assert isinstance(child, int)
                    if child in self.running:
                        self.trace.append(("stop", child))
                        self.running.remove(child)
                    self.carry_out(self.family.gone(child) if is_final else self.family.halted(child))
                case Escalate():
                    self.escalated = True
                case Closed():
                    self.closed = True
                case End() | Ready():
                    pass

    def compare(self) -> None:
        assert self.trace == self.model.trace
        assert self.escalated == self.model.has_terminated
        if not self.escalated:
            assert list(self.family) == [child for child, _ in self.model.children]
            assert sorted(self.running) == list(self.family), "all that is left runs"

    def one_of(self, place: int) -> int:
        assume(self.running)
        return sorted(self.running)[place % len(self.running)]

    @precondition(lambda self: not self.escalated)
    @rule(place=places, normal=st.booleans(), broken=st.integers(0, 3), sibling=places)
    def exits(self, place: int, normal: bool, broken: int, sibling: int) -> None:
        """A child exits, and the next starts of one of them fail."""
        child = self.one_of(place)
        other = self.one_of(sibling)
        self.broken[other] = self.model.broken[other] = broken
        self.running.remove(child)
        directives = self.family.ended(child, self.now) if normal else self.family.failed(child, self.now)
        self.carry_out(directives)
        self.model.exit(child, normal=normal, now=self.now)
        self.broken.clear()
        self.model.broken.clear()
        self.compare()

    @precondition(lambda self: not self.escalated)
    @rule(restart=st.sampled_from(RESTARTS))
    def is_added(self, restart: Restart) -> None:
        child = self.fresh()
        self.family.add(child, restart)
        self.running.append(child)
        self.carry_out(self.family.up(child, self.now))
        self.model.children.append((child, restart))
        self.model.running.add(child)
        for trace in (self.trace, self.model.trace):
            trace.append(("start", child))
        self.compare()

    @precondition(lambda self: not self.escalated)
    @rule(place=places)
    def is_removed(self, place: int) -> None:
        child = self.one_of(place)
        self.running.remove(child)
        self.carry_out(self.family.gone(child))
        self.model.running.remove(child)
        self.model.children = [(other, restart) for other, restart in self.model.children if other != child]
        self.compare()

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.escalated)
    @rule()
    def terminates_and_is_restarted(self) -> None:
        """The supervisor stops its children in reverse order; its own restart starts them afresh."""
        self.trace.clear()
        running = [child for child in self.family if child in self.running]
        self.carry_out(self.family.close(is_final=False))
        assert self.trace == [("stop", child) for child in reversed(running)]
        assert self.closed
        assert self.running == []
        kept = list(self.family)
        assert not any(dict(self.model.children).get(child) is TEMPORARY for child in kept if isinstance(child, int))
        self.trace.clear()
        self.escalated = self.closed = False
        self.model = Erlang(self.strategy)
        self.family.reopen()
        declared = [(child, PERMANENT) for child in sorted(child for child in kept if isinstance(child, int))]
        self.model.children = list(declared)
        self.model.start([child for child, _ in declared], self.now)
        self.carry_out(self.family.declare(declared))
        self.compare()


class Interleaved(RuleBasedStateMachine):
    """Orders are answered late, and more goes wrong meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.number = 0

    @initialize(kind=st.sampled_from(STRATEGIES), most=st.integers(0, 6), restarts=specs)
    def begin(self, kind: type[Strategy], most: int, restarts: list[Restart]) -> None:
        self.is_group = kind is not OneForOne
        self.family = Family(kind(most, 10.0, AT_ONCE), random.Random(0))
        self.state: dict[Hashable, str] = {}
        self.stopping: Stop | None = None
        self.escalated = False
        self.closed = 0
        self.closing = ""
        self.ready = 0
        self.turn: Hashable | None = None
        """Who was started in its turn, and is not up yet: the next one waits for it."""
        self.joining: set[Hashable] = set()
        """Who was spawned at run time, and starts besides the others' turns."""
        declared: list[tuple[Hashable, Restart]] = [(self.fresh(), restart) for restart in restarts]
        self.restarts = dict(declared)
        self.state = dict.fromkeys(self.restarts, "down")
        self.take(self.family.declare(declared))

    def fresh(self) -> int:
        self.number += 1
        return self.number

    def take(self, directives: list[Directive]) -> None:
        """Note what was ordered, and check that it could be."""
        for directive in directives:
            match directive:
                case Start(child):
                    assert self.state[child] == "down", "only what is down is started"
                    self.check_turn(child, directive.cause)
                    assert not self.escalated
                    assert not self.closing
                    assert self.stopping is None or not self.is_group, "siblings stop before any starts"
                    self.state[child] = "starting"
                case Stop(child, is_final):
                    assert self.stopping is None, "one after the other"
                    assert is_final or self.state[child] != "down"
                    assert is_final == (self.closing == "final" or self.restarts[child] is TEMPORARY)
                    if self.closing:
                        order = list(self.family)
                        after = order[order.index(child) + 1 :]
                        assert not [other for other in after if self.state[other] != "down"], "the last goes first"
                    self.stopping = directive
                case End(child):
                    assert self.state.pop(child) == "down"
                    assert self.restarts[child] is not PERMANENT
                case Escalate():
                    self.escalated = True
                case Ready():
                    self.ready += 1
                case Closed():
                    self.closed += 1
                    assert {self.state[child] for child in self.family} <= {"down"}

    def check_turn(self, child: Hashable, cause: Hashable | None) -> None:
        """Children are started in order, each once the one before it is up."""
        if not self.is_group and cause == child:
            return  # it has failed by itself, and nobody restarts with it
        assert self.turn is None, "one after the other"
        self.turn = child
        if self.is_group:
            order = list(self.family)
            before = [other for other in order[: order.index(child)] if other not in self.joining]
            assert {self.state[other] for other in before} <= {"up"}, "those before it are up"

    def settle(self, child: Hashable) -> None:
        """Note that a start is over, however it has ended."""
        self.joining.discard(child)
        if self.turn == child:
            self.turn = None

    def some(self, place: int, *states: str) -> Hashable:
        found = [child for child, state in self.state.items() if state in states]
        assume(found)
        return found[place % len(found)]

    @rule(place=places)
    def starts(self, place: int) -> None:
        child = self.some(place, "starting")
        self.state[child] = "up"
        self.settle(child)
        self.take(self.family.up(child, self.now))

    @rule(place=places, normal=st.booleans())
    def goes_down(self, place: int, normal: bool) -> None:
        child = self.some(place, "starting", "up")
        self.state[child] = "down"
        self.settle(child)
        self.take(self.family.ended(child, self.now) if normal else self.family.failed(child, self.now))

    @precondition(lambda self: self.stopping is not None)
    @rule()
    def stops(self) -> None:
        assert self.stopping is not None
        stop, self.stopping = self.stopping, None
        self.settle(stop.child)
        if stop.is_final:
            del self.state[stop.child]
            self.take(self.family.gone(stop.child))
        else:
            self.state[stop.child] = "down"
            self.take(self.family.halted(stop.child))

    @rule(place=places)
    def is_stopped_by_somebody(self, place: int) -> None:
        child = self.some(place, "starting", "up", "down")
        del self.state[child]
        self.settle(child)
        if self.stopping is not None and self.stopping.child == child:
            self.stopping = None
        self.take(self.family.gone(child))

    @precondition(lambda self: not self.closing)
    @rule(restart=st.sampled_from(RESTARTS), is_up=st.booleans())
    def is_added(self, restart: Restart, is_up: bool) -> None:
        child = self.fresh()
        self.restarts[child] = restart
        self.state[child] = "up" if is_up else "starting"
        if not is_up:
            self.joining.add(child)
        self.family.add(child, restart, is_up=is_up)

    @rule(place=places)
    def an_answer_comes_twice(self, place: int) -> None:
        child = self.some(place, "down", "up")
        if self.stopping is None or self.stopping.child != child:
            self.take(self.family.halted(child))
        if self.state.get(child) == "down":
            self.take(self.family.failed(child, self.now))
            self.take(self.family.up(child, self.now))
        self.take(self.family.gone("nobody"))
        self.take(self.family.failed("nobody", self.now))

    @rule(seconds=st.sampled_from([0.5, 3.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.closing != "final")
    @rule(is_final=st.booleans())
    def closes(self, is_final: bool) -> None:
        """The supervisor goes; it may be told so again, for good, before its children have stopped."""
        self.closing = "final" if is_final else "kept"
        self.closed = 0
        self.take(self.family.close(is_final=is_final))

    @precondition(lambda self: self.closing == "kept" and self.closed > 0)
    @rule(data=st.data())
    def reopens(self, data: st.DataObject) -> None:
        assert not any(self.restarts[child] is TEMPORARY for child in self.family)
        self.closing, self.closed, self.escalated = "", 0, False
        self.ready = 0
        self.family.reopen()
        again = [(child, PERMANENT) for child in data.draw(st.permutations(list(self.family)))]
        self.restarts.update(again)
        self.take(self.family.declare(again))
        assert list(self.family) == [child for child, _ in again], "in the order that is declared now"

    @precondition(lambda self: not self.escalated and not self.closing)
    @rule()
    def all_goes_well(self) -> None:
        """Whatever went on: when nothing more goes wrong, all are up."""
        for _ in range(100):
            starting = [child for child, state in self.state.items() if state == "starting"]
            if self.stopping is not None:
                self.stops()
            elif starting:
                self.state[starting[0]] = "up"
                self.settle(starting[0])
                self.take(self.family.up(starting[0], self.now))
            else:
                break
        assert set(self.state.values()) <= {"up"}
        assert self.ready == 1, "the supervisor is up, and was told so once"

    @precondition(lambda self: bool(self.closing))
    @rule()
    def all_stop(self) -> None:
        for _ in range(100):
            if self.stopping is None:
                break
            self.stops()
        assert self.closed == 1
        assert set(self.state.values()) <= {"down"}
        if self.closing == "final":
            assert len(self.family) == 0

    @invariant()
    def family_and_world_agree(self) -> None:
        assert set(self.family) == set(self.state)


TestDocumented = Documented.TestCase
TestDocumented.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestInterleaved = Interleaved.TestCase
TestInterleaved.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
