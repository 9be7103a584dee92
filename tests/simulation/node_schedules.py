"""Schedules by hand for real nodes, each for a mistake that chance finds only once in many stories.

Each is a story that ends well, and does not if the mistake of that name is planted (`planted_nodes`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from ringcast import using
from ringcast.actors.ref import require_ref
from ringcast.runtime.node import Node
from ringcast.runtime.simulation import Simulation

from .company import KEYS, LIMIT, Company
from .ledger import Counter

EVICTED = 6.0
"""Seconds after which a node that nobody reaches is left out, and its keys are served elsewhere."""

KEY = "key-0"


@asynccontextmanager
async def _company(sim: Simulation, count: int) -> AsyncIterator[Company]:
    """Start so many nodes; at the end all is one cluster that serves."""
    with Company(sim) as company:
        for number in range(count):
            company.come(f"n{number}")
        await asyncio.gather(*company.coming)
        await company.settled()
        yield company
        sim.heal()
        await asyncio.gather(*company.going)
        await company.settled()
        await company.finish()


def _owner_by(node: Node, key: str) -> str:
    """Return the id of a counter's owner, by a node's view."""
    kinds = node._host.kinds
    return kinds.owner(kinds.named(require_ref(kinds.ref(Counter, key), "owner")._type_name), key, None)


def _owner(sim: Simulation, key: str = KEY) -> str:
    """Return the machine of a counter, by the view of the first."""
    return sim.name_of(_owner_by(next(iter(sim.nodes.values())), key))


def _other(sim: Simulation, *names: str) -> str:
    return next(name for name in sim.nodes if name not in names)


async def _answered(company: Company, name: str, key: str = KEY) -> None:
    """Call a counter until it answers."""
    for _ in range(100):
        if await company.add(name, key):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{key} does not answer {name}: {company.outcomes.latest}")


async def no_lease_check(sim: Simulation) -> None:
    """Who is cut off calls its own actor, which another node has by then."""
    async with _company(sim, 3) as company:
        owner = _owner(sim)
        sim.partition([owner], [name for name in sim.nodes if name != owner])
        await asyncio.sleep(EVICTED)
        await _answered(company, _other(sim, owner))
        await company.add(owner, KEY)


async def no_drain_barrier(sim: Simulation) -> None:
    """A third node joins while turns of actors run that move to it."""
    async with _company(sim, 2) as company:
        slow = [asyncio.create_task(company.add("n0", f"key-{number}", 1.5)) for number in range(KEYS)]
        await asyncio.sleep(0.1)
        company.come("n2")
        await sim.until(lambda: "n2" in company.staying, 10, "the third has joined")
        await asyncio.gather(*(_answered(company, "n1", f"key-{number}") for number in range(KEYS)))
        assert all(await asyncio.gather(*slow))


async def stale_forward(sim: Simulation) -> None:
    """A node leaves, and sends messages on to one that hears of it a moment later."""
    async with _company(sim, 4) as company:
        failed = dict(company.outcomes.failed)
        company.go("n2")
        await sim.until(lambda: sim.node("n2")._state == "leaving", 2, "it is told to leave", every=0.0001)
        sim.stall("n0", 0.2, thread="membership")
        await sim.until(lambda: any(m.leaving for m in sim.node("n2").members), 1, "it is leaving", every=0.001)
        await asyncio.gather(*(company.add("n0", f"key-{number}") for number in range(KEYS)))
        assert company.outcomes.failed == failed, company.outcomes.latest


async def unlocked_partition(sim: Simulation) -> None:
    """An actor begins while its node learns that it belongs to another one, and its thread gets no processor then."""
    async with _company(sim, 3) as company:
        sim.stall("n0", 3.0, thread="membership")
        company.come("n3")
        # The others have decided; their word waits for the membership's thread.
        await sim.until(lambda: len(sim.node("n1").members) == 4, 2.5, "a view of four")
        before, after = sim.node("n0"), sim.node("n1")
        key = next(
            f"new-{n}"
            for n in range(1000)
            if _owner_by(before, f"new-{n}") == before.id != _owner_by(after, f"new-{n}")
        )
        sim.world.preempted_for["n0/app"] = 1.5
        # Without a limit of its own, so that its turn begins at once, in the middle of the call.
        begun = asyncio.create_task(sim.ask("n0", lambda node: node.ref(Counter, key).add(1.0)))
        await sim.until(lambda: sim.process("n0").app.is_paused, 1, "the actor begins", every=0.0002)
        for loop in sim.process("n0").loops[1:]:
            loop.resume()
        await asyncio.sleep(1.6)
        await company.add("n1", key)
        await begun


async def gate_before_batching(sim: Simulation) -> None:
    """Turns have ended, and what they have said waits behind a neighbour that keeps the loop; then it is too late."""
    await _speak_late(sim, blocked=9.0, heals=False)


async def no_fence_acknowledgement(sim: Simulation) -> None:
    """The same, and by then the node has joined again, and has a lease as its next run."""
    await _speak_late(sim, blocked=14.0, heals=True)


async def _speak_late(sim: Simulation, *, blocked: float, heals: bool) -> None:
    async with _company(sim, 3) as company:
        owner = _owner(sim)
        caller = _other(sim, owner)
        mine = [f"key-{number}" for number in range(KEYS) if _owner(sim, f"key-{number}") == owner]
        loop = asyncio.get_running_loop()

        async def burst(node: Node) -> None:
            counters = [using(node.ref(Counter, key), timeout=LIMIT) for key in mine]
            calls = [asyncio.ensure_future(counter.add()) for counter in counters]
            calls.append(asyncio.ensure_future(counters[-1].block(blocked)))  # type: ignore[arg-type]
            await asyncio.gather(*calls, return_exceptions=True)

        late = asyncio.create_task(sim.ask(caller, burst))
        await sim.until(lambda: sim.process(owner).app.is_paused, 1, "the handler blocks", every=0.0002)
        sim.partition([owner], [name for name in sim.nodes if name != owner])
        begun = loop.time()
        await asyncio.sleep(EVICTED)
        await asyncio.gather(*(_answered(company, caller, key) for key in mine))
        if heals:
            sim.heal()
        await late
        await asyncio.sleep(max(0.0, begun + blocked + 1 - loop.time()))


async def listener_closed_before_the_turns_ended(sim: Simulation) -> None:
    """A node's membership fails, and its application still calls its actors, which the others have by then."""
    async with _company(sim, 3) as company:
        owner = _owner(sim)
        sim.stall(owner, EVICTED)  # so that it hears late of what happens to it
        late = asyncio.create_task(company.add(owner, KEY))
        await asyncio.sleep(0.01)
        sim.nodes[owner]._membership.give_up("the story has it fail")
        await _answered(company, _other(sim, owner))
        await late
        company.go(owner)


SCHEDULES: dict[str, Callable[[Simulation], Coroutine[Any, Any, None]]] = {
    "2 no lease check": no_lease_check,
    "6 no drain barrier": no_drain_barrier,
    "11 forward by a stale view": stale_forward,
    "13 unlocked partition": unlocked_partition,
    "14 gate before batching": gate_before_batching,
    "listener closed before the turns ended": listener_closed_before_the_turns_ended,
    "no fence acknowledgement": no_fence_acknowledgement,
}
