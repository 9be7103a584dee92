"""Stories of faults, one drawn from each seed: what may happen to a cluster, and for how long."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from ringcast.discovery.applicant import Founding
from tests.simulation.world import World

RECOVERY_SECONDS = 10.0
"""So long after the last heal there must be one lineage that serves."""

CALM = 0.15


@dataclass(slots=True)
class Told:
    """How a story went."""

    world: World
    faults: list[str]


class Stuck(AssertionError):
    """There is no one serving lineage long after the last fault."""


def tell(seed: int, prepare: Callable[[World], None] | None = None) -> Told:
    """Tell the story of one seed to its end; what is broken on the way is raised."""
    rng = random.Random(seed)
    size = rng.choice((1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 7))
    trusts = rng.random() < 0.85
    world = World(rng.getrandbits(64), trusts_refusal=trusts)
    faults: list[str] = [f"{size} machines, refusal {'trusted' if trusts else 'not trusted'}"]
    if prepare is not None:
        prepare(world)
    # Without proof only those with a record bring a lost quorum back.
    disks = rng.choice((0.0, 0.5, 1.0)) if trusts else 1.0
    if rng.random() < 0.2:
        world.founding = Founding(expect=size)
    for i in range(size):
        world.add(str(i), has_disk=rng.random() < disks, drift=rng.uniform(-0.005, 0.005))
    story = _Story(world, rng, faults)
    if rng.random() < 0.5:
        story.weather()
    for name in list(world.machines):
        world.start(name)
        world.run(rng.choice((0.0, 0.0, rng.uniform(0, 2.0))))
    world.run(rng.uniform(0.5, 4.0))
    for _ in range(rng.randrange(12)):
        story.happen()
        world.run(rng.choice((rng.uniform(0, 0.2), rng.uniform(0, 1.5), rng.uniform(0, 5.0))))
    story.end()
    if world.run(RECOVERY_SECONDS, lambda: not world.trouble()) >= RECOVERY_SECONDS:
        # Proof of deaths can die with those who had it; then the protocol waits for a person.
        for machine in world.hopeless():
            faults.append(f"{world.now - 100:.3f} dissolve {machine.name}")
            world.dissolve(machine)
    if world.run(RECOVERY_SECONDS, lambda: not world.trouble()) >= RECOVERY_SECONDS:
        raise Stuck("; ".join(world.trouble()))
    world.run(1.0)
    # Somebody may be leaving at this very moment.
    if world.run(2.0, lambda: not world.trouble()) >= 2.0:
        raise Stuck("it did not last: " + "; ".join(world.trouble()))
    return Told(world, faults)


class _Story:
    """Draws faults, and sees to it that the end can be a good one."""

    def __init__(self, world: World, rng: random.Random, faults: list[str]) -> None:
        self._world = world
        self._rng = rng
        self._faults = faults
        self._joined = 0

    def happen(self) -> None:
        """Let the next thing happen."""
        rng, world = self._rng, self._world
        kind = rng.choice(
            (
                *("kill", "kill", "kill two", "silence", "pause", "pause", "restart", "restart", "restart"),
                *("cut", "cut", "one way", "pairs", "pairs", "unblock", "unblock"),
                *("weather", "storm", "calm", "join", "join", "leave"),
            )
        )
        names = sorted(world.machines)
        name = rng.choice(names)
        machine = world.machines[name]
        self._faults.append(f"{world.now - 100:.3f} {kind} {name}")
        match kind:
            case "kill":
                world.kill(name)
            case "kill two":
                world.kill(name)
                world.kill(rng.choice(names))
            case "silence":
                world.silence(name)
            case "pause":
                world.pause(name, rng.choice((rng.uniform(0, 1.0), rng.uniform(0.5, 9.0))))
            case "restart":
                self._restart(name)
            case "cut" | "one way":
                side = [other for other in names if rng.random() < 0.5]
                world.cut(side, is_one_way=kind == "one way")
            case "pairs":
                for one in names:
                    world.blocked |= {(one, other) for other in names if one != other and rng.random() < 0.2}
            case "storm":
                world.loss, world.late = rng.choice((0.5, 0.8)), 0.2
            case "unblock":
                world.blocked.clear()
            case "weather":
                self.weather()
            case "calm":
                world.loss = world.duplicates = world.late = world.mistakes = 0.0
                world.delay = 0.001
            case "join":
                if len(world.up()) < 7 and self._joined < 3:
                    self._joined += 1
                    new = f"j{self._joined}"
                    world.add(new, has_disk=machine.has_disk, drift=rng.uniform(-0.005, 0.005))
                    world.start(new)
            case _:
                if len(world.up()) > 1:
                    world.leave(name)

    def weather(self) -> None:
        """Make the network, the disks and SWIM bad, each by chance."""
        rng, world = self._rng, self._world
        world.loss = rng.choice((0.0, 0.05, 0.2))
        world.duplicates = rng.choice((0.0, 0.1))
        world.late = rng.choice((0.0, 0.02, 0.2))
        world.delay = rng.choice((0.001, 0.001, 0.02, 0.1))
        world.fsync = rng.choice((0.002, 0.05))
        world.mistakes = rng.choice((0.0, 0.0, 0.05))

    def end(self) -> None:
        """Heal all, and bring back those whose records may be needed."""
        world = self._world
        self._faults.append(f"{world.now - 100:.3f} heal")
        world.heal()
        for name, machine in world.machines.items():
            if machine.process is None and machine.has_disk and not machine.has_left:
                self._restart(name)
        staying = [machine for machine in world.up() if machine.process is not None and not machine.process.is_leaving]
        wanted = max(1, world.founding.expect // 2 + 1)
        for i in range(wanted - len(staying)):
            new = f"last{i}"
            world.add(new)
            world.start(new)

    def _restart(self, name: str) -> None:
        world, machine = self._world, self._world.machines[name]
        if machine.process is not None:
            world.kill(name)
        world.reboot(name)
        machine.has_left = False
        world.start(name)
