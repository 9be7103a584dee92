"""What can happen to machines, processes and the network of a story; what is drawn, from its seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from ringcast.runtime.simulation import Quality, Simulation
from ringcast.runtime.simulation.rows import SimulatedStore, Weather

from .company import KEYS, Company

UP_MAX = 7
"""Nodes that run at a time."""


@dataclass
class Fate:
    """What happens in one story.

    Attributes:
        sim: What it is told in.
        company: Who takes part.
        names: Its machines.
        faults: What may happen; `FAULTS` unless something else is given.
        told: What has happened, for people.
        stalled_until: When no loop stands still any more; `end` waits for that.
    """

    sim: Simulation
    company: Company
    names: list[str]
    faults: Sequence[Callable[[Fate], None]] = field(default_factory=lambda: FAULTS)
    told: list[str] = field(default_factory=list[str])
    stalled_until: float = 0.0
    _besides: list[asyncio.Task[None]] = field(default_factory=list[asyncio.Task[None]])

    async def strike(self) -> None:
        """Let the next thing happen."""
        fault = self.sim.rng.choice(self.faults)
        self.told.append(f"{self.sim.now:.3f} {fault.__name__.strip('_')}")
        fault(self)

    def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Have something go on beside what else happens."""
        self._besides.append(asyncio.create_task(work))

    async def end(self) -> None:
        """Heal all that can be healed, and start what does not run."""
        sim, company = self.sim, self.company
        self.told.append(f"{sim.now:.3f} heal")
        sim.network.quality = Quality()
        sim.heal()
        for machine in sim.machines.values():
            if machine.process is not None and machine.process.is_paused:
                machine.process.resume()
        await asyncio.gather(*self._besides)
        if sim.now < self.stalled_until:
            await asyncio.sleep(self.stalled_until - sim.now)
        await asyncio.gather(*company.going)
        for name in self.names:
            if not sim.machine(name).is_running:
                company.come(name)

    def one(self) -> str | None:
        """Draw a machine whose process runs."""
        running = [name for name in self.names if name in self.sim.nodes and not self.sim.process(name).is_paused]
        return self.sim.rng.choice(running) if running else None

    def down(self) -> list[str]:
        """Return the machines on which nothing runs."""
        return [name for name in self.names if not self.sim.machine(name).is_running]


def _kill(fate: Fate) -> None:
    if name := fate.one():
        fate.sim.kill(name)


def _kill_two(fate: Fate) -> None:
    _kill(fate)
    _kill(fate)


def _power_off(fate: Fate) -> None:
    if name := fate.one():
        fate.sim.power_off(name)


def _power_cut(fate: Fate) -> None:
    """It is back before anybody misses it: connections are half open."""
    if name := fate.one():
        fate.sim.power_off(name)
        fate.company.come(name)


def _leave(fate: Fate) -> None:
    if name := fate.one():
        fate.company.go(name)


def _restart(fate: Fate) -> None:
    if down := fate.down():
        fate.company.come(fate.sim.rng.choice(down))


def _restart_without_disk(fate: Fate) -> None:
    """It has lost its disk, and so its name, and its votes."""
    if down := fate.down():
        name = fate.sim.rng.choice(down)
        fate.sim.machine(name).disk.erase()
        fate.company.come(name)


def _join(fate: Fate) -> None:
    if len(fate.names) < UP_MAX:
        name = f"n{len(fate.names)}"
        fate.names.append(name)
        fate.company.options[name] = fate.company.options[fate.names[0]]
        fate.company.come(name)


def _pause(fate: Fate) -> None:
    if name := fate.one():
        process, rng = fate.sim.process(name), fate.sim.rng
        process.pause()
        seconds = rng.choice((rng.uniform(0.05, 1), rng.uniform(0.5, 9)))
        asyncio.get_running_loop().call_later(seconds, process.resume)


def _stall(fate: Fate) -> None:
    if name := fate.one():
        rng = fate.sim.rng
        seconds = rng.uniform(0.1, 6)
        fate.sim.stall(name, seconds, thread=rng.choice(["app", "membership"]))
        fate.stalled_until = max(fate.stalled_until, fate.sim.now + seconds)


def _block(fate: Fate) -> None:
    if name := fate.one():
        rng = fate.sim.rng
        key, seconds = f"key-{rng.randrange(KEYS)}", rng.uniform(0.1, 8)
        fate.beside(fate.company.block(name, key, seconds))


def _block_and_partition(fate: Fate) -> None:
    """Turns that have ended while the loop stood still want to speak when the lease is over."""
    _block(fate)
    _isolate(fate)


def _fail_actor(fate: Fate) -> None:
    if name := fate.one():
        fate.beside(fate.company.fail(name, f"key-{fate.sim.rng.randrange(KEYS)}"))


def _fail_membership(fate: Fate) -> None:
    """The membership's thread ends by an error: the node stops."""
    if fate.company.staying:
        name = fate.sim.rng.choice(fate.company.staying)
        fate.sim.nodes[name]._membership.give_up("the story has it fail")
        fate.company.go(name)


def _crowd(fate: Fate) -> None:
    """More queue before an actor than may wait there, from one node or two."""
    rng = fate.sim.rng
    key = f"desk-{rng.randrange(3)}"
    for name in {fate.one(): None, fate.one(): None}:
        if name is not None:
            fate.beside(fate.company.crowd(name, key, random.Random(rng.random())))


def _isolate(fate: Fate) -> None:
    if name := fate.one():
        fate.sim.partition([name], [other for other in fate.names if other != name])


def _partition(fate: Fate) -> None:
    if len(fate.names) > 1:
        side = fate.sim.rng.sample(fate.names, fate.sim.rng.randint(1, len(fate.names) - 1))
        fate.sim.partition(side, [name for name in fate.names if name not in side])


def _one_way(fate: Fate) -> None:
    if len(fate.names) > 1:
        fate.sim.cut(*fate.sim.rng.sample(fate.names, 2))


def _pairs(fate: Fate) -> None:
    """Some do not hear some others: no two nodes have the same picture."""
    for one in fate.names:
        for other in fate.names:
            if one != other and fate.sim.rng.random() < 0.2:
                fate.sim.cut(one, other)


def _reset(fate: Fate) -> None:
    if len(fate.names) > 1:
        fate.sim.reset(*fate.sim.rng.sample(fate.names, 2))


def _heal(fate: Fate) -> None:
    fate.sim.heal()


def _weather(fate: Fate) -> None:
    rng = fate.sim.rng
    fate.sim.network.quality = Quality(
        delay=rng.choice([0.0001, 0.0001, 0.02, 0.2, 1.5]),
        jitter=rng.choice([0.0, 0.001, 0.05]),
        loss=rng.choice([0.0, 0.05, 0.2]),
        duplicates=rng.choice([0.0, 0.1]),
    )


def _calm(fate: Fate) -> None:
    fate.sim.network.quality = Quality()


FAULTS: list[Callable[[Fate], None]] = [
    *(_kill, _kill, _kill_two, _power_off, _power_cut),
    *(_restart, _restart, _restart, _restart_without_disk, _join, _leave),
    *(_pause, _pause, _stall, _block, _block_and_partition, _fail_actor, _fail_membership),
    *(_isolate, _partition, _one_way, _pairs, _reset, _heal, _heal, _heal),
    *(_weather, _calm, _calm),
]

CROWDS: list[Callable[[Fate], None]] = [_crowd] * (len(FAULTS) // 2) + FAULTS
"""The same where queues are full: a list of its own, for what a seed tells changes with what it may draw."""


def _store(weather: Weather) -> Callable[[Fate], None]:
    """Return the fault that the store is like this from now on."""

    def fault(fate: Fate) -> None:
        assert isinstance(fate.sim.store, SimulatedStore), "the story has a store"
        fate.sim.store.weather = weather

    fault.__name__ = f"store {weather}"
    return fault


GOOD, SLOW = Weather(), Weather(delay=3.0)
AWAY, FAILING = Weather(refuses=1.0), Weather(delay=0.05, refuses=0.2, unanswered=0.3)

DURABLE_FAULTS = [*FAULTS, *map(_store, (SLOW, AWAY, FAILING, FAILING, GOOD, GOOD))]
"""Those of stories with durable actors: their store is slow, away, or leaves it open what became of a write."""
