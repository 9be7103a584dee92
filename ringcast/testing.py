"""Test your actors under faults: a cluster in one process, in virtual time, from one seed.

    from ringcast.testing import cluster, simulated

    @simulated
    async def test_a_cart_answers_after_its_node_was_killed() -> None:
        async with cluster(5) as c:
            cart = c.ref(Cart, "ann")
            await cart.add("apple")
            await c.kill(c.owner(cart))
            await c.settled()
            assert await cart.items() == []     # its state was in memory

The nodes are real ones; time, network, chance and threads are simulated, so a minute takes milliseconds and
a test that failed fails again with the same seed. With the plugin for pytest, which comes with ringcast,
``pytest --ringcast-seeds=100`` runs each such test a hundred times, each time with other timings.

What may be used in such a test is asyncio, time and random as modules see them that define actors; real
sockets, files of other programs and threads are not part of it. See docs/testing.md.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar, cast, overload

from .actors.placement import Placement
from .actors.props import Props
from .actors.ref import require_ref
from .actors.supervision import PERMANENT, Restart
from .discovery.member import Member
from .runtime.node import Node
from .runtime.simulation import Network, ProcessGone, Quality, Simulation, Stalled
from .runtime.simulation.borrowed import Borrowed
from .runtime.simulation.checkers import OneViewPerNumber
from .runtime.simulation.simulation import LIMIT

__all__ = [
    "Cluster",
    "ClusterNode",
    "Network",
    "ProcessGone",
    "Quality",
    "Simulation",
    "Stalled",
    "cluster",
    "run",
    "simulated",
]

A = TypeVar("A")
P = ParamSpec("P")
T = TypeVar("T")

SETTLED = 90.0
"""Virtual seconds within which a cluster must have one view again; seeds and old members are dialled each 30 s."""

WATCHFUL = 1.0
"""Virtual seconds that `Cluster.settled` waits for connections between members that cannot be there."""

_running: list[Simulation] = []


class ClusterNode:
    """One node of a simulated cluster, and the process that it runs in."""

    def __init__(self, sim: Simulation, name: str, options: dict[str, Any]) -> None:
        """Be the node on the machine of that name; it is started by `Cluster.start`."""
        self._sim = sim
        self._options = options
        self.name = name

    def __repr__(self) -> str:
        """Show the name and whether it runs."""
        return f"<{self.name}, {'running' if self.is_running else 'not running'}>"

    @property
    def is_running(self) -> bool:
        """Whether its process is there; a paused one is."""
        return self.name in self._sim.nodes

    @property
    def is_paused(self) -> bool:
        """Whether its process is stopped for now."""
        return self.is_running and self._sim.process(self.name).is_paused

    @property
    def has_lease(self) -> bool:
        """Whether it may act, for it reaches a majority of its cluster; `Node.ready` tells its own process."""
        return self._sim.lease_left(self.name) > 0

    @property
    def node(self) -> Node:
        """The node itself, to look at; call it by `run`.

        Raises:
            ProcessGone: If it does not run.
        """
        return self._sim.node(self.name)

    @property
    def id(self) -> str:
        """The node's id; another after each start."""
        return self.node.id

    @property
    def members(self) -> tuple[Member, ...]:
        """The members of its present view."""
        return self.node.members

    def ref(self, cls: type[A], key: Any) -> A:
        """Return the ref of a keyed actor, as this node's application has it; see `Node.ref`."""
        return self._borrowed().lend(self.node.ref(cls, key))

    async def spawn(
        self,
        props: Props[A],
        name: str | None = None,
        restart: Restart = PERMANENT,
        on: Placement | None = None,
    ) -> A:
        """Start an actor from this node; see `Node.spawn`."""
        borrowed = self._borrowed()
        return borrowed.lend(await self.run(lambda node: node.spawn(props, name, restart, on)))

    async def run(self, work: Callable[[Node], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in this node's process, as its application would; return what it returns.

        Raises:
            ProcessGone: If the process ends before.
        """
        return await self._sim.ask(self.name, work)

    def _borrowed(self) -> Borrowed:
        return Borrowed(self.node, self._sim.process(self.name))


class Cluster:
    """Nodes that know each other, and what can be done to them. Faults take effect at once."""

    def __init__(self, sim: Simulation, count: int, options: dict[str, Any]) -> None:
        """Have `count` nodes, none of which runs yet."""
        self.sim = sim
        self.nodes = [ClusterNode(sim, f"node-{number}", options) for number in range(count)]

    def __len__(self) -> int:
        """Return how many nodes there are, running or not."""
        return len(self.nodes)

    def node(self, number: int) -> ClusterNode:
        """Return a node, counted from 0."""
        return self.nodes[number]

    @property
    def running(self) -> list[ClusterNode]:
        """The nodes whose processes are there and not paused."""
        return [node for node in self.nodes if node.is_running and not node.is_paused]

    def ref(self, cls: type[A], key: Any) -> A:
        """Return the ref of a keyed actor, as the application of the first running node has it.

        It goes on with that node: when it is killed, take another ref.
        """
        return self._any().ref(cls, key)

    def owner(self, ref: object) -> ClusterNode:
        """Return the node where an actor is, or would be, by the view of the first running node.

        Raises:
            Unreachable: If no member hosts it.
            LookupError: If the view is of before, and its node does not run any more.
        """
        target, kinds = require_ref(ref, "owner"), self._any().node._host.kinds
        if target._node is not None:  # where it was spawned; it may have moved since
            for node in self.nodes:
                if node.is_running and target._key in node.node._host.kinds.named(target._type_name).cells:
                    return node
        owner = kinds.owner(kinds.named(target._type_name), target._key, target._node)
        for node in self.nodes:
            if node.is_running and node.id == owner:
                return node
        raise LookupError(f"{ref!r} belongs to node {owner}, which does not run any more: wait with settled()")

    # ---- faults --------------------------------------------------------------------------------------

    async def kill(self, node: ClusterNode | int) -> None:
        """End a node's process at once (SIGKILL); its peers see its connections close."""
        self.sim.kill(self._named(node))

    async def power_off(self, node: ClusterNode | int) -> None:
        """Let a node's machine vanish in silence."""
        self.sim.power_off(self._named(node))

    async def pause(self, node: ClusterNode | int) -> None:
        """Stop a node's process (SIGSTOP), until `resume`."""
        self.sim.pause(self._named(node))

    async def resume(self, node: ClusterNode | int) -> None:
        """Let a node's process go on."""
        self.sim.resume(self._named(node))

    async def block(self, node: ClusterNode | int, seconds: float) -> None:
        """Let a node's application stand still for so long, as a handler that blocks does; its membership goes on."""
        self.sim.stall(self._named(node), seconds)

    async def leave(self, node: ClusterNode | int) -> None:
        """Have a node leave, as SIGTERM does; return when its process has ended."""
        await self.sim.stop(self._named(node))

    async def start(self, node: ClusterNode | int) -> None:
        """Start a node that does not run; return when it is a member."""
        name = self._named(node)
        await self.sim.start(name, **self.nodes[[node.name for node in self.nodes].index(name)]._options)

    async def partition(self, *sides: Collection[ClusterNode | int]) -> None:
        """Cut all paths between nodes of different sides; nodes that no side names are on the last."""
        self.sim.partition(*([self._named(node) for node in side] for side in sides))

    async def cut(self, source: ClusterNode | int, target: ClusterNode | int) -> None:
        """Let nothing through from one node to another; the other way stays open."""
        self.sim.cut(self._named(source), self._named(target))

    async def heal(self) -> None:
        """Let everything through again."""
        self.sim.heal()

    # ---- looking -------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], within: float, what: str) -> float:
        """Wait until something is so, looking each 50 ms; return the seconds it took.

        Raises:
            AssertionError: If it is not within so many virtual seconds; `what` names it.
        """
        return await self.sim.until(condition, within, what)

    async def settled(self, within: float = SETTLED) -> float:
        """Wait until all running nodes have one view that holds them and nobody else, and leases under it.

        Return the virtual seconds it took. What has no quorum never settles: of two nodes one that is silent.

        Raises:
            AssertionError: If it takes longer than `within` virtual seconds.
        """

        def is_settled() -> bool:
            running = self.running
            ids = sorted(node.id for node in running)
            views = [node.node.view for node in running]
            return all(self.sim.lease_left(node.name) for node in running) and all(
                (view.lineage, view.number) == (views[0].lineage, views[0].number)
                and sorted(member.id for member in view.members) == ids
                for view in views
            )

        def is_watchful() -> bool:
            return all(self.sim.watches_all(node.name) for node in self.running) or self.sim.now > until

        took = await self.sim.until(is_settled, within, "one view of all running nodes")
        # Who is killed in the very milliseconds in which it joins is missed as slowly as one that is silent.
        until = self.sim.now + WATCHFUL
        return took + await self.sim.until(is_watchful, within, "connections that prove a death")

    def _any(self) -> ClusterNode:
        if not self.running:
            raise ProcessGone("no node of the cluster runs")
        return self.running[0]

    def _named(self, node: ClusterNode | int) -> str:
        return node.name if isinstance(node, ClusterNode) else self.nodes[node].name


@asynccontextmanager
async def cluster(count: int, **options: Any) -> AsyncIterator[Cluster]:
    """Start a cluster in the running simulation; at the end its nodes leave.

    Args:
        count: How many nodes.
        options: Of every `Node`, such as ``config=NodeConfig(ask_timeout=1)``.

    Raises:
        RuntimeError: Outside of `simulated` and `run`.
    """
    if not _running:
        raise RuntimeError(
            "cluster(…) lives in virtual time: decorate the test with @ringcast.testing.simulated, or call it by "
            "ringcast.testing.run(main)"
        )
    made = Cluster(_running[-1], count, options)
    for node in made.nodes:
        await made.start(node)
    await made.settled()
    yield made
    await made.heal()
    for node in made.nodes:
        if node.is_paused:
            await made.resume(node)
    await asyncio.gather(*(made.leave(node) for node in made.running))


def run(main: Callable[[], Coroutine[Any, Any, T]], seed: int = 0, *, limit: float = LIMIT, **options: Any) -> T:
    """Run a coroutine in virtual time, to its end, and return what it returns.

    Args:
        main: Makes the coroutine.
        seed: What everything is drawn from.
        limit: Virtual seconds that it may take.
        options: Of `Simulation`.

    Raises:
        Stalled: If it takes longer, or waits for what can never happen.
    """
    sim = Simulation(seed, observers=[OneViewPerNumber()], **options)
    _running.append(sim)
    try:
        return sim.run(lambda _: main(), limit)
    finally:
        _running.remove(sim)


@overload
def simulated(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]: ...


@overload
def simulated(
    *, limit: float = ..., **options: Any
) -> Callable[[Callable[P, Coroutine[Any, Any, None]]], Callable[P, None]]: ...


def simulated(test: Any = None, *, limit: float = LIMIT, **options: Any) -> Any:
    """Make a test of a coroutine function: it runs in virtual time, once for each seed.

    Seeds come from pytest's ``--ringcast-seed`` (the first) and ``--ringcast-seeds`` (how many); without the
    plugin there is one, of the environment's ``RINGCAST_SEED`` or 0.

    Args:
        test: The coroutine function; its other parameters are fixtures, as ever.
        limit: Virtual seconds that it may take.
        options: Of `Simulation`.
    """
    if test is None:
        return functools.partial(simulated, limit=limit, **options)

    @functools.wraps(test)
    def once(*args: Any, ringcast_seed: int | None = None, **kwargs: Any) -> None:
        seed = int(os.environ.get("RINGCAST_SEED", "0")) if ringcast_seed is None else ringcast_seed
        run(lambda: test(*args, **kwargs), seed, limit=limit, **options)

    signature = inspect.signature(test)
    drawn = inspect.Parameter("ringcast_seed", inspect.Parameter.KEYWORD_ONLY)
    cast(Any, once).__signature__ = signature.replace(parameters=[*signature.parameters.values(), drawn])
    cast(Any, once).is_ringcast_simulated = True
    return once
