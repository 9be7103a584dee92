"""Stories that are told of real nodes in a simulation, and the actor that plays in them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from ringcast import Actor, NodeStopped, using
from ringcast.runtime.node import Node
from ringcast.runtime.simulation import Process, ProcessGone, Quality, Simulation
from ringcast.runtime.simulation.checkers import OneViewPerNumber, Outcomes, SingleActivation, Turns

KEYS = 12
LIMIT = 5.0
SETTLED = 60.0
"""Virtual seconds after the last fault in which there must be one view again: members of before are dialled
each 30 s."""


class Counter(Actor):
    """Counts, and says which activation it is."""

    def __init__(self) -> None:
        self.count = 0
        self.activation = uuid.uuid4().hex

    async def add(self, pause: float = 0.0) -> tuple[str, int]:
        self.count += 1
        count = self.count
        if pause:
            await asyncio.sleep(pause)
        return self.activation, count


class Cluster:
    """A simulation with its checkers and its clients: one in each node's process."""

    def __init__(self, sim: Simulation, *, is_single: bool, grace: float = 1.0) -> None:
        self.sim = sim
        self.outcomes = Outcomes(sim.world, LIMIT + grace)
        self.turns = Turns()
        sim.observers += [self.outcomes, self.turns, OneViewPerNumber()]
        if is_single:
            sim.observers.append(SingleActivation())
        self.coming_and_going: list[asyncio.Task[None]] = []
        self._clients: list[asyncio.Task[None]] = []
        self._is_over = False

    async def start(self, *names: str) -> None:
        """Start nodes one after the other, then a client at each: a join moves keys while both owners run."""
        for name in names:
            # Only these: which other classes are imported must not make another run of a seed.
            await self.sim.start(name, hosts=[Counter.__module__])
        if len(names) > 1:
            await self.sim.until(lambda: self.sim.agree(len(self.sim.nodes)), SETTLED, "one view of all")
        self._clients += [asyncio.create_task(self._call(name, self.sim.process(name))) for name in names]

    async def finish(self) -> None:
        """Have the clients end, and see that every call had an outcome."""
        self._is_over = True
        await asyncio.gather(*self._clients)

    async def call(self, name: str, key: str) -> bool:
        """Call a counter from a node; return whether it has answered."""

        async def add(node: Node) -> tuple[str, int]:
            return await using(node.ref(Counter, key), timeout=LIMIT).add()

        if name not in self.sim.nodes:
            return False
        answer = await self.outcomes.of(f"{key} from {name}", self.sim.ask(name, add))
        if answer is not None:
            self.turns.counted(key, *answer)
        return answer is not None

    async def _call(self, name: str, process: Process) -> None:
        rng = random.Random(f"{self.sim.seed} client {name} {process.number}")
        while not self._is_over and not process.has_ended:
            await self.call(name, f"key-{rng.randrange(KEYS)}")
            await asyncio.sleep(rng.uniform(0.1, 0.3))

    async def settled(self, count: int, lasting: float = 0.0) -> None:
        """Wait for one view of all that lasts so long, and for an answer from every key, asked from every node."""
        until = self.sim.now + SETTLED
        while True:
            await self.sim.until(lambda: self.sim.agree(count), until - self.sim.now, f"one view of {count}")
            found = self.sim.views()
            await asyncio.sleep(lasting)
            if self.sim.views() == found:
                break
        for name in self.sim.nodes:
            for number in range(KEYS):
                assert await self.call(name, f"key-{number}"), (
                    f"key-{number} does not answer {name} in a settled cluster"
                )


async def crashes(sim: Simulation) -> None:
    """Nodes crash, with their machine or without, and as many stay as can go on; the network is as good as any."""
    cluster = Cluster(sim, is_single=True)
    names = [f"n{number}" for number in range(sim.rng.randint(2, 5))]
    await cluster.start(*names)
    await cluster.settled(len(names))
    for _ in range(sim.rng.randint(1, 3)):
        if len(sim.nodes) < 2:
            break
        name = sim.rng.choice(sorted(sim.nodes))
        crash = sim.rng.choice([sim.kill, sim.power_off])
        voters = max(len(node.members) for node in sim.nodes.values())
        left = len(sim.nodes) - 1
        if 2 * left < voters or (2 * left == voters and crash == sim.power_off):
            await cluster.settled(len(sim.nodes))  # so many at once end the cluster, or a silent half of it does
            crash = sim.kill if len(sim.nodes) == 2 else crash
        crash(name)
        await asyncio.sleep(sim.rng.uniform(0, 8))
    await cluster.settled(len(sim.nodes))
    await cluster.finish()
    assert cluster.outcomes.answered > 0


async def quiet(sim: Simulation) -> None:
    """Nothing happens but calls: none fails, nobody is suspected."""
    cluster = Cluster(sim, is_single=True)
    names = [f"n{number}" for number in range(sim.rng.randint(1, 5))]
    await cluster.start(*names)
    await cluster.settled(len(names))
    failed = dict(cluster.outcomes.failed)
    await asyncio.sleep(sim.rng.uniform(5, 15))
    await cluster.finish()
    assert cluster.outcomes.failed == failed, f"calls failed in a settled cluster: {cluster.outcomes.failed}"
    lost = [entry for entry in sim.log if "lost" in entry.event or "suspect" in entry.event]
    assert not lost, lost


async def chaos(sim: Simulation) -> None:
    """Whatever can happen happens; then it ends in one cluster in which every key answers."""
    await _faults(sim, sim.rng.randint(2, 5), lambda faults: faults < 8 and sim.rng.random() < 0.9)


async def minute(sim: Simulation) -> None:
    """Five nodes for a minute, of which 40 seconds are bad."""
    await _faults(sim, 5, lambda _: sim.now < 40)


async def _faults(sim: Simulation, count: int, goes_on: Callable[[int], bool]) -> None:
    cluster = Cluster(sim, is_single=False, grace=30.0)  # a caller may stand still itself
    names = [f"n{number}" for number in range(count)]
    await cluster.start(*names)
    faults = 0
    while goes_on(faults):
        await sim.rng.choice(FAULTS)(sim, cluster, names)
        await asyncio.sleep(sim.rng.uniform(0, 3))
        faults += 1
    sim.network.quality = Quality()
    sim.heal()
    for machine in sim.machines.values():
        if machine.process is not None and machine.process.is_paused:
            machine.process.resume()
    async with asyncio.timeout(SETTLED):
        # All at once: a node may have to wait for another one's return, for the majority that it is a part of.
        back = [cluster.start(name) for name in names if not sim.machines[name].is_running]
        await asyncio.gather(*cluster.coming_and_going, *back)
        await asyncio.gather(*[cluster.start(name) for name in names if not sim.machines[name].is_running])
    await cluster.settled(len(names), lasting=10.0)
    await cluster.finish()


Fault = Callable[[Simulation, Cluster, list[str]], Coroutine[Any, Any, None]]


def _some(sim: Simulation, names: list[str]) -> str | None:
    """Return a machine whose process runs."""
    running = [name for name in names if name in sim.nodes and not sim.process(name).is_paused]
    return sim.rng.choice(running) if running else None


async def _kill(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    if name := _some(sim, names):
        sim.kill(name)


async def _power_off(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    if name := _some(sim, names):
        sim.power_off(name)


async def _leave(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    if name := _some(sim, names):
        cluster.coming_and_going.append(asyncio.create_task(_unless_gone(sim.stop(name))))


async def _unless_gone(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ProcessGone, NodeStopped):  # killed, or told to leave, before it has joined or left
        await work


async def _start(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    for name in names:
        if not sim.machines[name].is_running:  # it may not be able to join before the network heals
            cluster.coming_and_going.append(asyncio.create_task(_unless_gone(cluster.start(name))))
            return


async def _pause(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    if name := _some(sim, names):
        process = sim.process(name)
        process.pause()
        asyncio.get_running_loop().call_later(sim.rng.uniform(0.1, 9), process.resume)


async def _stall(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    if name := _some(sim, names):
        sim.stall(name, sim.rng.uniform(0.1, 6), thread=sim.rng.choice(["app", "membership"]))


async def _partition(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    side = sim.rng.sample(names, sim.rng.randint(1, len(names) - 1))
    sim.partition(side, [name for name in names if name not in side])


async def _one_way(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    sim.cut(*sim.rng.sample(names, 2))


async def _heal(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    sim.heal()


async def _bad_network(sim: Simulation, cluster: Cluster, names: list[str]) -> None:
    rng = sim.rng
    sim.network.quality = Quality(
        delay=rng.choice([0.0001, 0.02, 0.2]),
        jitter=rng.choice([0.0, 0.001, 0.05]),
        loss=rng.choice([0.0, 0.05, 0.2]),
        duplicates=rng.choice([0.0, 0.1]),
    )


FAULTS: list[Fault] = [
    _kill,
    _power_off,
    _leave,
    _start,
    _pause,
    _stall,
    _partition,
    _one_way,
    _heal,
    _heal,
    _bad_network,
]
