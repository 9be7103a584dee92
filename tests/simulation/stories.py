"""Stories that are told of real nodes in a simulation; `faults` has what happens in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ringcast import NodeConfig
from ringcast.runtime.simulation import Quality, Simulation

from .company import Company
from .desk import Desk
from .faults import CROWDS, DURABLE_FAULTS, FAULTS, GOOD, UP_MAX, Fate
from .journals import Treasury
from .ledger import Counter
from .tree_stories import trees

SIZES = (1, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 7)
BAD_SECONDS = 42.0
"""When the faults of a minute end; the rest is to recover, to stay calm and to leave."""


async def minute(sim: Simulation) -> None:
    """1 to 7 nodes to which anything happens; then one cluster that serves, and leaves nothing behind."""
    await tell_of_faults(sim, BAD_SECONDS)


async def brief(sim: Simulation) -> None:
    """The same with fewer faults, which are easier to look at."""
    await tell_of_faults(sim, sim.rng.uniform(5, 15))


async def crowded(sim: Simulation) -> None:
    """The same where actors have more to do than they can: mailboxes are full, and readers of streams are slow."""
    hosts = [Counter.__module__, Desk.__module__]
    await tell_of_faults(sim, sim.rng.uniform(5, 20), CROWDS, hosts=hosts)


async def tell_of_faults(
    sim: Simulation, seconds: float, faults: list[Callable[[Fate], None]] = FAULTS, **others: Any
) -> None:
    rng = sim.rng
    size = rng.choice(SIZES)
    trusts = rng.random() < 0.85
    # Without proof of death only those with a record bring a lost quorum back.
    disks = rng.choice((0.0, 0.5, 1.0)) if trusts else 1.0
    options: dict[str, Any] = {"config": NodeConfig(trust_refused=trusts, drain_timeout=5.0), **others}
    if rng.random() < 0.2:
        options["expect"] = size
    with Company(sim, **options) as company:
        names = [f"n{number}" for number in range(size)]
        for name in names:
            company.options[name] = {"data_dir": "/var/node"} if rng.random() < disks else {}
        fate = Fate(sim, company, names, faults)
        try:
            for name in names:
                company.come(name)
                await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 1.5))))
            await asyncio.sleep(rng.uniform(0, 4))
            while sim.now < seconds:
                await fate.strike()
                await asyncio.sleep(rng.choice((rng.uniform(0, 0.2), rng.uniform(0, 1.5), rng.uniform(0, 6))))
            await fate.end()
            await company.settled(lasting=2.0)
        except AssertionError as error:
            error.add_note(f"{size} nodes, refusal {'trusted' if trusts else 'not trusted'}: {'; '.join(fate.told)}")
            raise
        await company.finish()


async def planned(sim: Simulation) -> None:
    """Nodes join and leave under load, and nothing else happens: every call is answered, no message is lost."""
    rng = sim.rng
    sim.network.quality = Quality(delay=rng.choice([0.0001, 0.002, 0.02]), jitter=rng.choice([0.0, 0.001, 0.005]))
    with Company(sim) as company:
        names = [f"n{number}" for number in range(rng.randint(1, 4))]
        for name in names:
            await company.start(name)
        await company.settled()
        failed, counted = dict(company.outcomes.failed), company.dead_letters
        most = rng.randint(3, UP_MAX)
        until = sim.now + 30
        while sim.now < until:
            if len(company.staying) > 1 and rng.random() < 0.5:
                company.go(rng.choice(company.staying))
            elif len(sim.nodes) < most:
                names.append(f"n{len(names)}")
                company.come(names[-1])
            await asyncio.sleep(rng.choice((rng.uniform(0, 1), rng.uniform(0, 6))))
        await asyncio.gather(*company.coming, *company.going)
        await company.settled(lasting=2.0)
        answered_all = company.outcomes.failed == failed
        assert answered_all, f"calls failed though nothing but joins and leaves happened: {company.outcomes.latest}"
        await company.finish()
        assert company.dead_letters == counted, "told messages died though nothing but joins and leaves happened"
        company.told.none_is_lost(0)


async def quiet(sim: Simulation) -> None:
    """Nothing happens but calls: none fails, nobody is suspected, no view changes."""
    with Company(sim) as company:
        names = [f"n{number}" for number in range(sim.rng.choice(SIZES))]
        for name in names:
            company.come(name)
        await asyncio.gather(*company.coming)
        await company.settled()
        failed = dict(company.outcomes.failed)
        await company.settled(lasting=sim.rng.uniform(5, 20))
        assert company.outcomes.failed == failed, f"calls failed in a settled cluster: {company.outcomes.latest}"
        lost = [entry for entry in sim.log if "lost" in entry.event or "suspect" in entry.event]
        assert not lost, lost
        await company.finish()
        assert company.outcomes.answered > 0


async def cold(sim: Simulation) -> None:
    """All nodes lose their power at once, twice, and come back with their records as the cluster that they were."""
    rng = sim.rng
    size = rng.randint(1, 7)
    with Company(sim, data_dir="/var/node") as company:
        names = [f"n{number}" for number in range(size)]
        for name in names:
            company.come(name)
        await asyncio.gather(*company.coming)
        await company.settled()
        lineage = sim.nodes[names[0]].view.lineage
        for _ in range(2):
            for name in names:
                rng.choice((sim.kill, sim.power_off))(name)
            await asyncio.sleep(rng.uniform(0, 3))
            for name in rng.sample(names, size):
                company.come(name)
                await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 1))))
            await company.settled(lasting=rng.uniform(0, 5))
            assert sim.nodes[names[0]].view.lineage == lineage, "another lineage was born though all had their records"
        await company.finish()
        assert company.operated == 0


async def crashes(sim: Simulation) -> None:
    """Up to three nodes crash and come back later; the network is as good as any. What answers, answers soon."""
    rng = sim.rng
    with Company(sim) as company:
        names = [f"n{number}" for number in range(rng.randint(2, 7))]
        for name in names:
            company.come(name)
        await asyncio.gather(*company.coming)
        await company.settled()
        for _ in range(rng.randint(1, 3)):
            name = rng.choice(names)
            if name in sim.nodes:
                rng.choice([sim.kill, sim.power_off])(name)
            await asyncio.sleep(rng.uniform(0, 8))
        for name in names:
            if name not in sim.nodes:
                company.come(name)
        await company.settled(lasting=2.0)
        await company.finish()


async def durable(sim: Simulation) -> None:
    """Durable actors on a store that is slow, fails and leaves outcomes open, while anything happens to their nodes."""
    rng = sim.rng
    size = rng.randint(1, 5)
    with Treasury(sim, expect=size, config=NodeConfig(drain_timeout=5.0, store_timeout=2.0)) as company:
        names = [f"n{number}" for number in range(size)]
        for name in names:
            company.options[name] = {"data_dir": "/var/node"}
            company.come(name)
        fate = Fate(sim, company, names, faults=DURABLE_FAULTS)
        await asyncio.sleep(rng.uniform(1, 3))
        end = sim.now + rng.uniform(8, 20)
        try:
            while sim.now < end:
                await fate.strike()
                await asyncio.sleep(rng.choice((rng.uniform(0, 0.5), rng.uniform(0, 2), rng.uniform(0, 4))))
            company.store.weather = GOOD
            await fate.end()
            await company.settled(lasting=1.0)
            await company.compare()
        except AssertionError as error:
            error.add_note("; ".join(fate.told))
            raise
        await company.finish()


STORIES = {
    "minute": minute,
    "brief": brief,
    "planned": planned,
    "quiet": quiet,
    "cold": cold,
    "crashes": crashes,
    "crowded": crowded,
    "trees": trees,
    "durable": durable,
}
"""By name."""

USUAL = ("minute",) * 7 + ("planned", "planned", "cold")
"""What a seed tells unless it is asked for something else."""


def story_of(seed: int) -> str:
    """Return the name of the story that a seed tells."""
    return USUAL[seed % len(USUAL)]
