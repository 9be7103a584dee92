"""Stories of trees: spawned actors whose nodes are killed, cut off, joined by others, and leave."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from ringcast import ChildSpec, NodeConfig, RingcastError, props, tell, using
from ringcast.runtime.node import Node
from ringcast.runtime.simulation import ProcessGone, Simulation

from .company import LIMIT, Company
from .forest import LEAF, Forest, Leaf, Tree, ids_of_tree
from .ledger import Counter

BACK = 20.0
"""Seconds after the nodes serve in which all spawned actors are there again."""


class Wood:
    """Trees, and what people do to them, from whatever node.

    Attributes:
        sim: What it is told in.
        company: Who takes part.
        forest: What must hold.
        told: What has happened, for people.
    """

    def __init__(self, sim: Simulation, company: Company) -> None:
        """Begin without a tree."""
        self.sim = sim
        self.company = company
        self.forest = Forest(sim)
        self.told: list[str] = []
        self._number = 0
        self._besides: list[asyncio.Task[None]] = []
        self._lineage = ""
        sim.observers.append(self.forest)

    def beside(self, work: Any) -> None:
        """Have something go on beside what else happens."""
        self._besides.append(asyncio.create_task(work))

    async def _do(self, work: Callable[[Node], Awaitable[Any]]) -> bool:
        """Do something at some node; return whether that has succeeded."""
        names = self.company.staying
        if not names:
            return False
        with contextlib.suppress(RingcastError, ProcessGone):
            async with asyncio.timeout(60):
                await self.sim.ask(self.sim.rng.choice(names), work)  # type: ignore[arg-type]
            return True
        return False

    async def plant(self) -> None:
        """Start a tree, or an actor without one; it is promised once that has returned."""
        self._number += 1
        name = f"t{self._number}"
        if self.sim.rng.random() < 0.6:
            if await self._do(lambda node: node.supervise(Tree, name=name)):
                self.forest.promised |= ids_of_tree(name)
        elif await self._do(lambda node: node.spawn(props(Leaf), name=name)):
            self.forest.promised[LEAF, f"/{name}"] = None

    async def graft(self) -> None:
        """Add a child to a tree at run time."""
        trees = [row_id for row_id in self.forest.promised if row_id[0].endswith(":Tree")]
        if not trees:
            return
        path = self.sim.rng.choice(trees)[1]
        self._number += 1
        name = f"x{self._number}"

        async def add(node: Node) -> None:
            tree = await node.supervise(Tree, name=path[1:])
            await using(tree, timeout=LIMIT).add_child(ChildSpec(props(Leaf), name=name))

        if await self._do(add):
            self.forest.promised[LEAF, f"{path}/{name}"] = None

    async def cut(self) -> None:
        """Remove a child, declared or added; what becomes of it is open until that has returned."""
        leaves = [row_id for row_id in self.forest.promised if row_id[0] == LEAF and row_id[1].count("/") == 2]
        if not leaves:
            return
        row_id = self.sim.rng.choice(leaves)
        _, path, name = row_id[1].split("/")
        del self.forest.promised[row_id]

        async def remove(node: Node) -> None:
            tree = await node.supervise(Tree, name=path)
            if await using(tree, timeout=LIMIT).remove_child(name):
                self.forest.removed[row_id] = None

        await self._do(remove)

    async def fail(self) -> None:
        """Have a leaf fail; it starts again where it is."""
        leaves = [row_id for row_id in self.forest.promised if row_id[0] == LEAF and row_id[1].count("/") == 1]
        if leaves:
            name = self.sim.rng.choice(leaves)[1][1:]

            async def fail(node: Node) -> None:
                await tell((await node.spawn(props(Leaf), name=name)).fail)

            await self._do(fail)

    async def settled(self) -> None:
        """Wait until the nodes serve, and everything promised runs once, with all copies of its row."""
        await asyncio.gather(*self._besides, *self.company.going)
        self._besides.clear()
        await self.company.settled()
        lineage = next(iter(self.sim.nodes.values())).view.lineage
        if lineage != self._lineage:
            self._lineage = lineage
            self.forest.forget()
        begun = self.sim.now
        while trouble := self.forest.missing() or self.forest.look_at_rows():
            assert self.sim.now - begun < BACK, f"not within {BACK} s: {trouble}"
            await asyncio.sleep(0.1)
        await asyncio.sleep(2.0)
        assert not self.forest.missing(), f"it did not last: {self.forest.missing()}"


async def trees(sim: Simulation) -> None:
    """Any two of four to six nodes are lost at a time, some are cut off, join or leave: no permanent actor is lost."""
    rng = sim.rng
    hosts = [Counter.__module__, Leaf.__module__]
    with Company(sim, hosts=hosts, config=NodeConfig(drain_timeout=5.0)) as company:
        wood = Wood(sim, company)
        names = [f"n{number}" for number in range(rng.randint(4, 6))]
        for name in names:
            company.come(name)
        await asyncio.gather(*company.coming)
        await wood.settled()
        try:
            for _ in range(rng.randint(2, 3)):
                for _ in range(rng.randint(2, 5)):
                    await rng.choice((wood.plant, wood.plant, wood.graft, wood.cut, wood.fail))()
                for _ in range(rng.randint(0, 3)):  # under way while it happens
                    wood.beside(rng.choice((wood.plant, wood.graft, wood.cut))())
                    await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 0.01))))
                await _strike(wood, names)
                await wood.settled()
        except AssertionError as error:
            error.add_note("; ".join(wood.told))
            raise
        await company.finish()


async def _strike(wood: Wood, names: list[str]) -> None:
    """Let something happen to some nodes, and see that there are four at least again."""
    sim, company, rng = wood.sim, wood.company, wood.sim.rng
    staying = company.staying
    what = rng.choice(("kill", "kill two", "kill two", "partition", "leave", "join"))
    chosen = rng.sample(staying, 2 if what == "kill two" else 1)
    wood.told.append(f"{sim.now:.3f} {what} {chosen}")
    if what.startswith("kill"):
        for name in chosen:
            sim.kill(name)
    elif what == "partition":
        sim.partition(chosen, [name for name in staying if name not in chosen])
        await asyncio.sleep(rng.uniform(1, 15))
        sim.heal()
    elif what == "leave":
        company.go(chosen[0])
    else:
        names.append(f"n{len(names)}")
        company.come(names[-1])
    await asyncio.sleep(rng.choice((0.0, rng.uniform(0, 3))))
    await wood.settled()
    for name in names:
        if name not in sim.nodes and len(sim.nodes) < 4:
            company.come(name)
            await asyncio.gather(*company.coming)
