"""`Company`: a simulation with its checkers, and a client in each node's process."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Coroutine
from contextlib import ExitStack
from typing import Any, Self

from ringcast import NodeStopped, RingcastError, tell, using
from ringcast.errors import NOT_SENT, CallError
from ringcast.runtime.node import Node
from ringcast.runtime.simulation import Process, ProcessGone, Simulation
from ringcast.runtime.simulation.checkers import OneViewPerNumber, Outcomes, Registers, Told, Turns
from ringcast.runtime.simulation.epochs import Epochs
from ringcast.runtime.simulation.history import UNKNOWN, Operation

from .desk import Desk
from .ledger import Counter, Register, witnessed_by

KEYS = 12
REGISTERS = 3
LIMIT = 5.0
"""Seconds that a call may take."""

GRACE = 30.0
"""Seconds that it may take longer in true time: its caller may stand still itself."""

RECOVERY = 10.0
"""Virtual seconds after the last heal in which there must be one cluster that serves everything."""

BEGIN_AGAIN = 20.0
"""The same where they have lost their lineage for good: until they look for another one, hear nobody for a while,
and agree on who begins it."""


class Company:
    """Who takes part in a story.

    Attributes:
        sim: What it is told in.
        options: Of each machine's node, besides those of all simulated nodes.
        coming: Starts that are under way.
        going: Leaves that are under way.
        operated: How often an operator had to dissolve a lineage.
        started_over: How often nodes had lost their lineage for good, and took longer than `RECOVERY` to begin again.
    """

    def __init__(self, sim: Simulation, **options: Any) -> None:
        """Be ready to start nodes with these options."""
        self.sim = sim
        self.options: dict[str, dict[str, Any]] = {}
        self.coming: list[asyncio.Task[None]] = []
        self.going: list[asyncio.Task[None]] = []
        self.operated = self.started_over = 0
        self.epochs = Epochs(sim)
        self.outcomes = Outcomes(sim.world, LIMIT + GRACE)
        self.turns = Turns()
        self.told = Told()
        self.registers = Registers()
        sim.observers += [self.epochs, self.outcomes, self.turns, self.told, self.registers, OneViewPerNumber()]
        self._all = options
        self._nodes: list[Node] = []
        self._clients: dict[str, asyncio.Task[None]] = {}
        self._ending: set[str] = set()
        self._number = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Be told what actors do."""
        self._stack.enter_context(witnessed_by(self))
        return self

    def __exit__(self, *_: object) -> None:
        """Be told no more."""
        self._stack.close()

    def began(self, name: str, key: object, epoch: int) -> None:
        """See `Witness`."""
        self.epochs.began(name, key, epoch)

    def handled(self, number: int) -> None:
        """See `Witness`."""
        self.told.was_handled(number)

    # ---- coming and going ------------------------------------------------------------------------------

    async def start(self, name: str) -> None:
        """Start a node, and a client in its process once it is a member."""
        # Only these: which other classes are imported must not make another run of a seed.
        options = {"hosts": [Counter.__module__], **self._all, **self.options.get(name, {})}
        node = await self.sim.start(name, **options)
        self._nodes.append(node)
        self._ending.discard(name)
        self._clients[name] = asyncio.create_task(self._call(name, self.sim.process(name)))

    async def leave(self, name: str) -> None:
        """Have a node's application end, and then the node leave."""
        self._ending.add(name)
        client = self._clients.get(name)
        if client is not None:
            await client
        await self.sim.stop(name)

    def come(self, name: str) -> None:
        """Start a node beside what else happens."""
        self.coming.append(asyncio.create_task(_unless_gone(self.start(name))))

    def go(self, name: str) -> None:
        """Have a node leave beside what else happens."""
        if name not in self._ending:
            self._ending.add(name)
            self.going.append(asyncio.create_task(_unless_gone(self.leave(name))))

    @property
    def staying(self) -> list[str]:
        """The machines whose nodes have joined, and do not leave."""
        return [name for name, node in self.sim.nodes.items() if node in self._nodes and name not in self._ending]

    def is_going(self, name: str) -> bool:
        """Whether it leaves."""
        return name in self._ending

    async def finish(self) -> None:
        """Have the clients end, and all nodes leave: nothing is left running in any."""
        self._ending.update(self._clients)
        await asyncio.gather(*self._clients.values())
        await asyncio.gather(*(self.sim.stop(name) for name in self.sim.nodes))

    @property
    def dead_letters(self) -> int:
        """How many messages all nodes that ever ran have counted as dead."""
        return sum(node.dead_letters.total for node in self._nodes)

    # ---- calling -----------------------------------------------------------------------------------------

    async def _call(self, name: str, process: Process) -> None:
        rng = random.Random(f"{self.sim.seed} client {name} {process.run}")
        while name not in self._ending and not process.has_ended:
            key = f"key-{rng.randrange(KEYS)}"
            chance = rng.random()
            if chance < 0.5:
                await self.add(name, key)
            elif chance < 0.6:
                await self.add(name, key, rng.uniform(0, 0.05))
            elif chance < 0.75:
                await self.note(name, key)
            else:
                await self._use_register(name, f"register-{rng.randrange(REGISTERS)}", rng)
            await asyncio.sleep(rng.uniform(0.1, 0.4))

    async def add(self, name: str, key: str, pause: float = 0.0) -> bool:
        """Call a counter from a node; return whether it has answered."""

        async def add(node: Node) -> tuple[str, int, str]:
            return await using(node.ref(Counter, key), timeout=LIMIT).add(pause)

        answer = await self._ask(f"{key} from {name}", name, add)
        if answer is not None:
            self.turns.counted(key, *answer[:2])
        return answer is not None

    async def note(self, name: str, key: str) -> None:
        """Tell a counter a number."""
        self._number += 1
        number = self._number

        async def note(node: Node) -> bool:
            await tell(using(node.ref(Counter, key), timeout=LIMIT).note, number)
            return True

        if await self._ask(f"a note to {key} from {name}", name, note):
            self.told.accepted.add(number)

    async def block(self, name: str, key: str, seconds: float) -> None:
        """Have an actor's node stand still, behind a few calls that arrive with it."""

        async def call(node: Node) -> None:
            counter = using(node.ref(Counter, key), timeout=LIMIT)
            others = [using(node.ref(Counter, f"key-{number}"), timeout=LIMIT) for number in range(KEYS)]
            calls = [asyncio.ensure_future(_quietly(other.add())) for other in others]
            calls.insert(KEYS // 2, asyncio.ensure_future(_quietly(counter.block(seconds))))
            await asyncio.gather(*calls)

        await self._ask(f"a burst from {name}", name, call)

    async def fail(self, name: str, key: str) -> None:
        """Have an actor fail, and start anew."""

        async def fail(node: Node) -> None:
            await tell(using(node.ref(Counter, key), timeout=LIMIT).fail)

        await self._ask(f"a failure of {key} from {name}", name, fail)

    async def crowd(self, name: str, key: str, rng: random.Random) -> None:
        """Queue before a desk: more than can wait there, and one who takes numbers slowly."""
        pause, slowness, count = rng.uniform(0.001, 0.03), rng.choice((0.0, rng.uniform(0, 0.2))), rng.randrange(60)

        async def tell_one(number: int) -> None:
            async def note(node: Node) -> bool:
                await tell(using(node.ref(Desk, key), timeout=LIMIT).note, number, pause)
                return True

            if await self._ask(f"a note to desk {key} from {name}", name, note):
                self.told.accepted.add(number)

        async def serve(node: Node) -> str:
            return await using(node.ref(Desk, key), timeout=LIMIT).serve(pause)

        async def take(node: Node) -> None:
            expected = 0
            async for number in using(node.ref(Desk, key), timeout=LIMIT).hand_out(count):
                assert number == expected, f"desk {key} handed {number} out instead of {expected}"
                expected += 1
                if name in self._ending:
                    return  # an application ends before its node leaves
                await asyncio.sleep(slowness)
            assert expected == count, f"desk {key} stopped at {expected} of {count} numbers, and said nothing"

        calls: list[Coroutine[Any, Any, Any]] = [self._ask(f"desk {key} hands out to {name}", name, take)]
        for _ in range(rng.choice((20, 100, 300))):
            self._number += 1
            calls.append(
                tell_one(self._number) if rng.random() < 0.5 else self._ask(f"desk {key} serves {name}", name, serve)
            )
        await asyncio.gather(*calls)

    async def _use_register(self, name: str, key: str, rng: random.Random) -> None:
        method = rng.choice(("read", "write", "swap"))
        arguments = tuple(rng.randrange(5) for _ in range({"read": 0, "write": 1, "swap": 2}[method]))
        sim, begun = self.sim, self.sim.now

        async def use(node: Node) -> tuple[str, object, str]:
            register = using(node.ref(Register, key), timeout=LIMIT)
            return await getattr(register, method)(*arguments)  # type: ignore[no-any-return]

        try:
            activation, answer, _ = await self.outcomes.or_error(f"{key} from {name}", sim.ask(name, use))
        except CallError as error:
            if error.certainty is not NOT_SENT:
                self.registers.called(key, None, Operation(begun, math.inf, method, arguments, UNKNOWN))
        except (ProcessGone, RingcastError):
            self.registers.called(key, None, Operation(begun, math.inf, method, arguments, UNKNOWN))
        else:
            self.registers.called(key, activation, Operation(begun, sim.now, method, arguments, answer))

    async def _ask(self, what: str, name: str, work: Any) -> Any:
        if name not in self.sim.nodes:
            return None
        return await self.outcomes.of(what, self.sim.ask(name, work))

    # ---- looking -----------------------------------------------------------------------------------------

    async def settled(self, lasting: float = 0.0) -> None:
        """Wait until all that runs is one cluster that serves, and stays one; every key answers every node."""
        before = self._lineages()
        try:
            await self._serving(RECOVERY)
        except AssertionError:
            hopeless = self.sim.hopeless()
            begins_again = "none" in self._lineages() or self._lineages() != before
            if not hopeless and not begins_again:
                raise
            self.started_over += begins_again
            # All that could prove who is dead has died as well. The protocol waits for a person.
            self.operated += bool(hopeless)
            for name in hopeless:
                self.sim.nodes[name]._membership.dissolve("an operator has looked at it")
            await self._serving(BEGIN_AGAIN)
        found = self.sim.views()
        await asyncio.sleep(lasting)
        trouble = self.sim.serves()
        assert not trouble, f"it did not last: {trouble}"
        assert self.sim.views() == found, f"views change though nothing happens: {found}; {self.sim.views()}"
        for number in range(KEYS):
            for name in self.sim.nodes:
                key = f"key-{number}"
                # The first call may find that a connection has died in silence.
                assert await self.add(name, key) or await self.add(name, key), (
                    f"{key} does not answer {name}: {self.outcomes.latest}"
                )

    def _lineages(self) -> set[str]:
        """Return what the nodes belong to. Where a quorum is lost for good they notice that, and begin again."""
        councils = [self.sim.council_of(name) for name in self.sim.nodes]
        return {council.view.lineage if council is not None else "none" for council in councils}

    async def _serving(self, within: float) -> None:
        begun = self.sim.now
        while trouble := self._missing() or self.sim.serves():
            assert self.sim.now - begun < within, f"not within {within} s: {trouble}"
            await asyncio.sleep(0.1)

    def _missing(self) -> str:
        """Return who is still to start; raise if somebody could not."""
        for task in self.coming:
            if task.done():
                task.result()
        return "some have not joined" if not all(task.done() for task in self.coming) else ""


async def _unless_gone(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ProcessGone, NodeStopped):  # killed, or told to leave, before it has joined or left
        await work


async def _quietly(call: Any) -> None:
    with contextlib.suppress(RingcastError):
        await call
