"""`Simulation`: machines that run real nodes, and a story that is told about them.

    async def story(sim: Simulation) -> None:
        for name in ("a", "b", "c"):
            await sim.start(name)
        sim.partition(["a"], ["b", "c"])
        await asyncio.sleep(10)
        sim.heal()
        await sim.until(lambda: sim.agree(3), 10, "one view of three")

    Simulation(seed=1).run(story)

The story runs on a loop of its own, as an operator who sees everything: what it reads of a node it reads
at once, and what it asks of one (`ask`) runs in the node's process. Whatever it does comes from the seed,
so a story that failed fails again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from ...discovery.council import Council
from ...discovery.member import View
from ...discovery.profile import LAN, Profile
from ...discovery.quorum import is_quorum
from ...discovery.share import PARTITIONS
from ...security.secret import Key, Secret
from ..cell import Cell
from ..node import Node
from ..stores import MemoryStore
from . import substitutes
from .air import Air, Ether
from .machine import Clock, Machine, Process, ProcessGone, silence
from .network import Network
from .world import World

T = TypeVar("T")

SECRET = Secret((Key(sha256(b"simulated clusters").digest(), 1_700_000_000),)).render().encode()
"""Of every simulated cluster; there is nothing in it to protect."""

PORT = 7400
LOG_MAX = 2000
LEFT_OUT = ("node", "cluster", "stack")
"""Values of log entries that say nothing here: machines have names, and all stacks are the simulation's."""

DRIFT_MAX = 0.005
"""How far a clock's rate is off at most: what the protocol allows."""

LAST_WORDS = 2.0
"""Seconds after a node has left in which its last words may still be on their way."""

LIMIT = 3600.0
"""Virtual seconds that a story may take."""


@dataclass(frozen=True, slots=True)
class Said:
    """One entry of the log."""

    now: float
    machine: str
    level: str
    event: str
    values: dict[str, Any]

    def __str__(self) -> str:
        """Show it in a line."""
        values = " ".join(f"{name}={value!r:.300}" for name, value in self.values.items() if name not in LEFT_OUT)
        return f"{self.now:10.6f} {self.machine:8} {self.level:8} {self.event} {values}"


class Observer(Protocol):
    """Who is told what happens in the nodes, at once; checkers are observers."""

    def viewed(self, now: float, machine: str, run: int, view: View, node_id: str) -> None:
        """The node of that id has installed a view. `run` counts the processes of its machine."""
        ...

    def activated(self, now: float, machine: str, run: int, cell: Cell) -> None:
        """A node has made an actor."""
        ...

    def deactivated(self, now: float, machine: str, run: int, cell: Cell) -> None:
        """A node has let an actor go."""
        ...

    def ended(self, now: float, machine: str, run: int) -> None:
        """A process has ended."""
        ...

    def check(self, now: float) -> None:
        """Raise AssertionError for what is only seen at the end."""
        ...


class SimulatedNode(Node):
    """A real node that also tells the simulation what it does."""

    def __init__(self, sim: Simulation, process: Process, **options: Any) -> None:
        """See `Node`."""
        self.sim = sim
        self.process = process
        super().__init__(**options)
        host, machine, run = self._host, process.machine.name, process.run
        started, removed = host.started, host._remove

        def on_started(cell: Cell) -> None:
            for observer in sim.observers:
                observer.activated(sim.now, machine, run, cell)
            started(cell)

        def on_removed(cell: Cell, reason: str) -> None:
            for observer in sim.observers:
                observer.deactivated(sim.now, machine, run, cell)
            removed(cell, reason)

        host.started = on_started  # type: ignore[method-assign]
        host._remove = on_removed  # type: ignore[method-assign]

    def vanish(self) -> None:
        """The process is gone: what is outside of the simulation is not to know the node any more."""
        forget: Callable[[], None] | None = getattr(self, "_forget_definitions", None)
        if forget is not None:
            with contextlib.suppress(ValueError):  # it has left, or was leaving
                forget()

    def _install(self, view: View) -> None:
        for observer in self.sim.observers:
            observer.viewed(self.sim.now, self.process.machine.name, self.process.run, view, self.id)
        super()._install(view)


class Simulation:
    """One world, and what is done to it.

    Attributes:
        seed: Everything that is drawn comes from it.
        rng: For the story's own choices.
        network: Its `quality` may be changed at any time.
        machines: By name, in the order in which they were first named.
        observers: Who is told what happens.
        log: The latest that nodes have logged.
        store: Where durable actors keep their state; it outlives every process.
        errors: Exceptions that nobody caught, as the loops have reported them.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        profile: Profile = LAN,
        tls: bool = False,
        drifts: bool = True,
        observers: Iterable[Observer] = (),
        modules: Iterable[str] = (),
        keeps_trace: bool = False,
    ) -> None:
        """Prepare a world without machines.

        Args:
            seed: What everything is drawn from.
            profile: The membership's numbers for all nodes.
            tls: Whether connections use TLS. Its randomness is not the simulation's, so two runs of a
                seed may then differ, and the walls' clocks begin at the present time.
            drifts: Whether the machines' clocks run fast or slow, by half a percent at most.
            observers: See above.
            modules: Names of modules that are to see simulated time, chance and sockets, besides those of
                ringcast and those that define actors.
            keeps_trace: Whether `world.trace.entries` keeps everything.
        """
        self.seed = seed
        self.world = World(seed, keeps_trace=keeps_trace)
        self.network = Network(self.world)
        self.rng = self.world.random("story")
        self.machines: dict[str, Machine] = {}
        self.observers: list[Observer] = list(observers)
        self.log: deque[Said] = deque(maxlen=LOG_MAX)
        self.errors: list[str] = []
        self.ether = Ether(self.network)
        self.store = MemoryStore("simulated")
        self._nodes: dict[str, SimulatedNode] = {}
        self._drifts = drifts
        self._tls = tls
        self._wall = time.time() if tls else 1_800_000_000.0
        self._clocks = self.world.random("clocks")
        self._entropy = self.world.random("machines")
        self._substitutes = substitutes.Substitutes(self.world, self._said, profile, modules)
        self._story = Machine(
            self.world, self.network, "story", "127.0.255.1", Clock(0.0, self._wall, 1.0), self._entropy, self._erred
        )

    # ---- running -------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds since the simulation began, as nobody inside can know them."""
        return self.world.now

    def run(self, story: Callable[[Simulation], Coroutine[Any, Any, T]], limit: float = LIMIT) -> T:
        """Tell a story to its end, check it, and return what it returns.

        Args:
            story: Is called once, inside the simulation.
            limit: Virtual seconds that it may take.

        Raises:
            Stalled: If it takes longer.
            AssertionError: If an observer objects.
        """
        substitutes.claim()
        was_collecting = gc.isenabled()
        # When it runs depends on more than the seed, and what it drops may act: so once, at the end, and only
        # through what the simulation has made.
        gc.disable()
        gc.collect()
        gc.freeze()
        try:
            self._substitutes.install()
            bench = self._story.boot()
            task: asyncio.Task[T] = bench.app.create_task(self._told(story))
            task.add_done_callback(lambda _: self.world.stop())
            try:
                self.world.run(self.world.now + limit)
            except BaseException as error:
                self._explain(error)
                raise
            finally:
                self._tear_down()
        finally:
            self._substitutes.remove()
            substitutes.release()
            gc.unfreeze()
            if was_collecting:
                gc.enable()
        try:
            told = task.result()
            for observer in self.observers:
                observer.check(self.now)
            assert not self.errors, "exceptions that nobody caught:\n" + "\n".join(self.errors)
        except BaseException as error:
            self._explain(error)
            raise
        return told

    async def _told(self, story: Callable[[Simulation], Coroutine[Any, Any, T]]) -> T:
        return await story(self)

    def _explain(self, error: BaseException) -> None:
        said = "\n".join(str(entry) for entry in list(self.log)[-40:])
        error.add_note(
            f"simulation of seed {self.seed!r}, after {self.now:.6f} virtual seconds; the last entries:\n{said}"
        )

    def _tear_down(self) -> None:
        """Let nothing of the simulation run or complain any more."""
        self._story.kill()
        for node in self._nodes.values():
            node.vanish()
        self._nodes.clear()
        machines = [*self.machines.values(), self._story]
        for machine in machines:
            machine.kill()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for machine in machines:
                for process in machine.former:
                    silence(process)
                machine.former.clear()
            self.ether.listeners.clear()
            self.world.forget()
            gc.collect()

    def digest(self) -> str:
        """Return the hash of all that has happened: equal for equal runs."""
        return self.world.trace.digest()

    def _said(self, level: str, event: str, values: dict[str, Any]) -> None:
        loop = self.world.current
        machine = "?" if loop is None else loop.process.machine.name
        error = values.get("exc_info")
        if isinstance(error, BaseException):
            values["exc_info"] = "".join(traceback.format_exception_only(error)).strip()
        self.log.append(Said(self.now, machine, level, event, values))

    def _erred(self, where: str, context: dict[str, Any]) -> None:
        error = context.get("exception")
        text = "" if error is None else "".join(traceback.format_exception(error))
        self.errors.append(f"{self.now:.6f} {where}: {context.get('message')}\n{text}")

    # ---- machines and nodes ----------------------------------------------------------------------------

    def machine(self, name: str) -> Machine:
        """Return a machine, which is made when it is first named."""
        machine = self.machines.get(name)
        if machine is None:
            number = len(self.machines) + 1
            clock = Clock(self._clocks.uniform(100, 1e6), self._wall + self._clocks.uniform(-0.5, 0.5))
            if self._drifts:
                clock.rate = 1 + self._clocks.uniform(-DRIFT_MAX, DRIFT_MAX)
            ip = f"127.0.{number >> 8}.{number & 255}"
            machine = self.machines[name] = Machine(
                self.world, self.network, name, ip, clock, self._entropy, self._erred
            )
        return machine

    async def start(self, name: str, **options: Any) -> Node:
        """Start a node on a machine that runs none, and return it when it is a member.

        Args:
            name: The machine's.
            options: Of `Node`; those that matter for being simulated have defaults.
        """
        machine = self.machine(name)
        process = machine.boot()
        self._substitutes.install()
        options = {
            "cluster": "simulated",
            "listen": f"{machine.ip}:{PORT}",
            "discovery": [Air(self.ether)],
            "secret": SECRET,
            "tls": None if self._tls else False,
            "store": lambda: self.store,
            **options,
        }

        async def begin() -> None:
            node = self._nodes[name] = SimulatedNode(self, process, **options)
            await node.start()

        await process.spawn(begin())
        return self._nodes[name]

    async def stop(self, name: str) -> None:
        """Have a node leave; its process ends. What the node has left open or running is an error."""
        node, process = self.node(name), self.process(name)
        await process.spawn(node.leave())
        await asyncio.sleep(LAST_WORDS)
        if process.has_ended:
            return
        left = process.leftovers()
        if left:
            self.errors.append(f"{self.now:.6f} {name}: left behind by a node that has left: {', '.join(left)}")
        self._end(name, self.machines[name].kill)

    def node(self, name: str) -> Node:
        """Return the node that runs on a machine.

        Raises:
            ProcessGone: If there is none.
        """
        self.process(name)
        return self._nodes[name]

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes whose processes are there, by machine."""
        return {
            name: self._nodes[name]
            for name, machine in self.machines.items()
            if machine.is_running and name in self._nodes
        }

    def process(self, name: str) -> Process:
        """Return the process on a machine.

        Raises:
            ProcessGone: If there is none.
        """
        process = self.machine(name).process
        if process is None:
            raise ProcessGone(f"no process runs on {name}")
        return process

    def name_of(self, node_id: str) -> str:
        """Return the machine of a node that runs; raises KeyError if it does not."""
        for name, node in self.nodes.items():
            if node.id == node_id:
                return name
        raise KeyError(node_id)

    async def ask(self, name: str, work: Callable[[Node], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in a node's process, and return what it returns.

        Raises:
            ProcessGone: If the process ends before.
        """
        node, process = self.node(name), self.process(name)
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        process.ask(lambda: work(node), answer)
        return await answer

    # ---- faults ------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """End a machine's process at once, as SIGKILL does."""
        self._end(name, self.machine(name).kill)

    def power_off(self, name: str) -> None:
        """Let a machine vanish in silence, with what its disk had not synced."""
        self._end(name, self.machine(name).power_off)

    def _end(self, name: str, end: Callable[[], None]) -> None:
        machine = self.machine(name)
        was_running = machine.is_running
        node = self._nodes.pop(name, None)
        end()
        if node is not None:
            node.vanish()
        if was_running:
            for observer in self.observers:
                observer.ended(self.now, name, machine.processes)

    def pause(self, name: str) -> None:
        """Stop a machine's process, as SIGSTOP does."""
        self.process(name).pause()

    def resume(self, name: str) -> None:
        """Let it go on, as SIGCONT does."""
        self.process(name).resume()

    def stall(self, name: str, seconds: float, *, thread: str = "app") -> None:
        """Have one of a node's loops (``app`` or ``membership``) do nothing for so long."""
        process = self.process(name)
        for loop in process.loops:
            if loop.name.endswith(f"/{thread}"):
                process.stall(loop, seconds)

    def partition(self, *sides: Collection[str]) -> None:
        """Cut all paths between machines of different sides; those that no side names are on the last."""
        named = {name for side in sides for name in side}
        rest = [name for name in self.machines if name not in named]
        groups = [[self.machine(name) for name in sorted(side)] for side in sides]
        groups[-1].extend(self.machine(name) for name in rest)
        for one in groups:
            for other in groups:
                if one is not other:
                    self.network.cut(one, other)

    def cut(self, source: str, target: str) -> None:
        """Let nothing through from one machine to another; the other way stays open."""
        self.network.cut([self.machine(source)], [self.machine(target)])

    def heal(self) -> None:
        """Let everything through, and let everybody be heard."""
        self.network.heal()
        self.ether.show_all()

    def reset(self, one: str, other: str) -> None:
        """Break all connections between two machines; both ends take it for the other's doing."""
        machine = self.machine(one)
        if machine.process is not None:
            machine.process.reset(self.machine(other).ip)

    # ---- looking -----------------------------------------------------------------------------------

    def lineage_of(self, name: str) -> str:
        """Return the lineage by which partitions are open on a machine; its loop may not know it yet."""
        return self._nodes[name]._membership.view.lineage

    def watches_all(self, name: str) -> bool:
        """Whether a node has the connections whose end would prove another one's death."""
        driver = self._nodes[name]._membership._driver
        participant = driver._participant if driver is not None else None
        return participant is not None and all(
            participant._agreement.evidence.is_connected(member.identity) for member in participant.watched
        )

    def council_of(self, name: str) -> Council | None:
        """Return a node's part in its lineage, to look at; None while it belongs to none."""
        driver = self._nodes[name]._membership._driver
        participant = driver._participant if driver is not None else None
        return participant._agreement.council if participant is not None else None

    def hopeless(self) -> list[str]:
        """Return the nodes whose lineage has lost its quorum for good, as nobody inside can know.

        What could have proved the death of the missing voters is gone, too. An operator has to dissolve it.
        """
        councils = {name: council for name in self.nodes if (council := self.council_of(name)) is not None}
        lost: list[str] = []
        for name, council in councils.items():
            view = council.view
            kin = {other: one for other, one in councils.items() if one.view.lineage == view.lineage}
            answering = [
                (node.id, node._membership.me.incarnation) for other, node in self.nodes.items() if other in kin
            ]
            is_behind = any(one.view.number > view.number for one in kin.values())
            if not is_behind and not is_quorum(view, answering, council.polls._evidence.proven):
                lost.append(name)
        return lost

    def lease_left(self, name: str) -> float:
        """Return for how many seconds of its own clock a machine's node may act; 0 if it may not."""
        node = self._nodes.get(name)
        if node is None:
            return 0.0
        return max(0.0, node._gate.until - self.machine(name).clock.at(self.now))

    def serves(self) -> str:
        """Return what keeps the nodes that run from being one cluster that serves everything; empty if nothing."""
        members = sorted((node._membership.me.id, node._membership.me.incarnation) for node in self.nodes.values())
        opened: dict[str, int] = {}
        for name, node in self.nodes.items():
            view = node._host.kinds.view
            if view is None or sorted(member.identity for member in view.members) != members:
                return f"{name} does not have the view of all: {self.views()}"
            if not self.lease_left(name):
                return f"{name} has no lease under {view.number}"
            council = self.council_of(name)
            if council is None or council.polls.is_pressing:
                return f"{name} is sealed or frozen"
            for group, share in list(node._membership.shares.items()):
                if share.draining:
                    return f"{name} still drains {share.draining.bit_count()} partitions of {group}"
                if opened.get(group, 0) & share.open:
                    return f"{name} has partitions of {group} open that another has, too"
                opened[group] = opened.get(group, 0) | share.open
        for group, bits in opened.items():
            hosted = any(group in node._membership.me.hosts for node in self.nodes.values())
            if hosted and bits.bit_count() != PARTITIONS:
                return f"{PARTITIONS - bits.bit_count()} partitions of {group} are open nowhere"
        return ""

    async def until(self, condition: Callable[[], bool], within: float, what: str, every: float = 0.05) -> float:
        """Wait until something is so; return how long that took.

        Raises:
            AssertionError: If it is not within so many virtual seconds.
        """
        begun = self.now
        while not condition():
            if self.now - begun > within:
                raise AssertionError(f"not within {within} s: {what}; {self.views()}")
            await asyncio.sleep(every)
        return self.now - begun

    def agree(self, count: int) -> bool:
        """Whether all nodes that run have one view, of so many members."""
        views = [node._host.kinds.view for node in self.nodes.values()]
        first = views[0] if views else None
        return (
            first is not None
            and len(first.members) == count
            and all(view is not None and (view.lineage, view.number) == (first.lineage, first.number) for view in views)
        )

    def views(self) -> str:
        """Return all nodes' views as text."""
        names = {node.id: name for name, node in self.nodes.items()}

        def text(view: View | None) -> str:
            if view is None:
                return "none"
            members = ",".join(names.get(member.id, member.id) for member in view.members)
            return f"{view.lineage}/{view.number} [{members}]"

        return "; ".join(f"{name}: {text(node._host.kinds.view)}" for name, node in self.nodes.items())


def simulate(story: Callable[[Simulation], Coroutine[Any, Any, T]], seeds: Sequence[int], **options: Any) -> list[T]:
    """Tell a story once for each seed, and return what each returned."""
    return [Simulation(seed, **options).run(story) for seed in seeds]
