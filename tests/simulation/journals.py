"""Durable actors that play in stories, and those who call them: what is acknowledged has to be there at the end."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from dataclasses import dataclass, field
from typing import Any

from ringcast import CallError, DurableActor, RingcastError, StoreError, using
from ringcast.discovery.member import View
from ringcast.errors import NOT_SENT
from ringcast.runtime.node import Node
from ringcast.runtime.simulation import Process, ProcessGone, Simulation
from ringcast.runtime.simulation.checkers import Checker, Registers
from ringcast.runtime.simulation.history import UNKNOWN, Operation
from ringcast.runtime.simulation.rows import SimulatedStore

from .company import LIMIT, Company
from .ledger import Counter

JOURNALS, REGISTERS = 4, 2
TRIES = 8


@dataclass
class Pages:
    """What was applied to a journal, and by which activations."""

    applied: list[str] = field(default_factory=list[str])
    epochs: list[int] = field(default_factory=list[int])


class Journal(DurableActor[Pages], name="story.Journal"):
    """Applies operations; the number of each is its answer."""

    async def apply(self, operation: str) -> int:
        pages = self.state
        pages.applied.append(operation)
        if not pages.epochs or pages.epochs[-1] != self.context.epoch:
            pages.epochs.append(self.context.epoch)
        return len(pages.applied)

    async def read(self) -> Pages:
        return self.state


@dataclass
class Value:
    """What a register holds."""

    value: int | None = None
    changes: int = 0


class Safe(DurableActor[Value], name="story.Safe"):
    """A register that outlives its nodes."""

    async def read(self) -> int | None:
        return self.state.value

    async def write(self, value: int) -> None:
        self.state.value = value
        self.state.changes += 1  # so that each write is saved, also that of the value which is there

    async def swap(self, old: int | None, new: int) -> bool:
        is_old = self.state.value == old
        await asyncio.sleep(0)
        if is_old:
            await self.write(new)
        return is_old


class Acknowledged(Checker):
    """Each operation that was acknowledged is in its journal, once, at the place that was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.by_key: dict[str, list[tuple[str, int]]] = {}
        self.count = 0

    def acknowledged(self, key: str, operation: str, place: int) -> None:
        self.by_key.setdefault(key, []).append((operation, place))
        self.count += 1

    def compare(self, key: str, pages: Pages, known: int) -> None:
        """Judge what a journal has answered; the first so many of its operations were acknowledged before."""
        place_of = {operation: place for place, operation in enumerate(pages.applied, 1)}
        if len(place_of) != len(pages.applied):
            self.objections.append(f"{key} has applied something twice: {pages.applied}")
        if pages.epochs != sorted(set(pages.epochs)):
            self.objections.append(f"epochs of {key} go back: {pages.epochs}")
        for operation, place in self.by_key.get(key, [])[:known]:
            if place_of.get(operation) != place:
                self.objections.append(f"{operation} was place {place} of {key}, and is {place_of.get(operation)}")


class Safes(Registers):
    """Registers whose rows outlive all activations.

    Where two lineages have lived, each may have an activation, and only what is saved goes through the row: an
    answer that changes nothing may be that of the older one. Those are left out then.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lineages: set[str] = set()

    def viewed(self, now: float, machine: str, run: int, view: View, node_id: str) -> None:
        self.lineages.add(view.lineage)

    def check(self, now: float) -> None:
        if len(self.lineages) > 1:
            saved = {
                name: [call for call in calls if call.method == "write" or call.answer is True]
                for name, calls in self.answered.items()
            }
            self.answered = {name: calls for name, calls in saved.items() if calls}
        super().check(now)


class Treasury(Company):
    """A company whose clients use durable actors, too, on a store that all nodes share."""

    def __init__(self, sim: Simulation, **options: Any) -> None:
        super().__init__(sim, hosts=[Counter.__module__, Journal.__module__], **options)
        self.store = SimulatedStore(sim.world, sim.seed)
        sim.store = self.store
        self.acknowledged = Acknowledged()
        sim.observers.remove(self.registers)
        self.registers = Safes()
        sim.observers += [self.registers, self.store.rows, self.acknowledged]

    async def _call(self, name: str, process: Process) -> None:
        rng = random.Random(f"{self.sim.seed} treasurer {name} {process.run}")
        number = 0
        while name not in self._ending and not process.has_ended:
            number += 1
            if rng.random() < 0.6:
                await self._apply(name, f"journal-{rng.randrange(JOURNALS)}", f"{name}.{process.run}.{number}")
            else:
                await self._use_safe(name, f"safe-{rng.randrange(REGISTERS)}", rng)
            await asyncio.sleep(rng.uniform(0.05, 0.3))

    async def _apply(self, name: str, key: str, operation: str) -> None:
        async def apply(node: Node) -> int:
            ref = using(node.ref(Journal, key), timeout=LIMIT, idempotency_key=operation)
            for _ in range(TRIES):
                with contextlib.suppress(CallError, StoreError):
                    return await ref.apply(operation)
                await asyncio.sleep(0.2)
            return await ref.apply(operation)

        try:
            place = await self.sim.ask(name, apply)
        except (ProcessGone, RingcastError):
            return
        self.acknowledged.acknowledged(key, operation, place)

    async def _use_safe(self, name: str, key: str, rng: random.Random) -> None:
        method = rng.choice(("read", "write", "swap"))
        arguments = tuple(rng.randrange(5) for _ in range({"read": 0, "write": 1, "swap": 2}[method]))
        sim, begun = self.sim, self.sim.now

        async def use(node: Node) -> object:
            safe = node.ref(Safe, key)
            if sum(arguments) % 2:  # some calls have no options, as most have: their turns begin at once
                safe = using(safe, timeout=LIMIT)
            return await getattr(safe, method)(*arguments)

        try:
            answer = await self.outcomes.or_error(f"{key} from {name}", sim.ask(name, use))
        except (ProcessGone, RingcastError) as error:
            if getattr(error, "certainty", None) is not NOT_SENT:
                self.registers.called(key, None, Operation(begun, math.inf, method, arguments, UNKNOWN))
        else:
            self.registers.called(key, "the row", Operation(begun, sim.now, method, arguments, answer))

    async def compare(self) -> None:
        """Read every journal, and compare it with what was acknowledged before: others go on meanwhile."""
        name = next(iter(self.sim.nodes))
        for number in range(JOURNALS):
            key = f"journal-{number}"

            async def read(node: Node, key: str = key) -> Pages:
                return await using(node.ref(Journal, key), timeout=LIMIT).read()

            known = len(self.acknowledged.by_key.get(key, ()))
            self.acknowledged.compare(key, await self.sim.ask(name, read), known)
