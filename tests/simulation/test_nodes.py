"""Real nodes in virtual time, one seed after the other: ``make simulate SEEDS=1000``.

A seed that fails is told with the command that replays it; one that has found a mistake stays in `FOUND`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ringcast.discovery.profile import LOCAL
from ringcast.runtime.cell import Cell
from ringcast.runtime.node import Node
from ringcast.runtime.simulation import Simulation
from ringcast.runtime.simulation.checkers import OneViewPerNumber
from ringcast.runtime.tenancy import UNCOUNTED, Tenancy

from . import stories

FIRST = int(os.environ.get("SEED", "0"))
COUNT = int(os.environ.get("SEEDS", "5"))

Story = Callable[[Simulation], Coroutine[Any, Any, None]]

STORIES: dict[str, Story] = {
    "quiet": stories.quiet,
    "crashes": stories.crashes,
    "chaos": stories.chaos,
    "minute": stories.minute,
}

FOUND = [
    # A dial that was given up while its connection came up left a future whose error nobody took.
    ("crashes", 1275),
]


def tell(story: str, seed: int) -> Simulation:
    """Tell a story; return the simulation once it is over."""
    sim = Simulation(seed)
    try:
        sim.run(STORIES[story])
    except BaseException as error:
        error.add_note(f"replay it with: make simulate SEED={seed} SEEDS=1 ARGS='-k {story}'")
        raise
    return sim


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
@pytest.mark.parametrize("story", STORIES)
def test_nodes(story: str, seed: int) -> None:
    tell(story, seed)


@pytest.mark.parametrize(("story", "seed"), FOUND)
def test_what_was_found_once(story: str, seed: int) -> None:
    tell(story, seed)


def test_equal_seeds_are_equal_in_every_process() -> None:
    """In processes that have imported the same: messages are numbered as their classes are defined."""
    program = (
        "from tests.simulation.test_nodes import tell; print(*(tell('chaos', seed).digest() for seed in range(3)))"
    )
    root = Path(__file__).resolve().parents[2]
    told: list[list[str]] = []
    for hash_seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "SEEDS": "0"}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=root, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout.split())
    assert told[0] == told[1] == told[2]
    assert len(set(told[0])) == 3


def test_a_cluster_with_tls_and_the_local_profile() -> None:
    async def story(sim: Simulation) -> None:
        cluster = stories.Cluster(sim, is_single=True)
        await cluster.start("a", "b", "c")
        await cluster.settled(3)
        assert len({member.key for member in sim.node("a").members}) == 3
        sim.kill("b")
        await cluster.settled(2)
        await sim.stop("c")
        await cluster.settled(1)
        await cluster.finish()

    Simulation(1, tls=True, profile=LOCAL).run(story)


def test_single_activation_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """A join moves keys whose turns run; who does not wait for its partitions to open begins what runs elsewhere."""

    def enter(tenancy: Tenancy, cell: Cell) -> bool:
        cell.tenure = UNCOUNTED
        return True

    monkeypatch.setattr(Tenancy, "enter", enter)

    async def story(sim: Simulation) -> None:
        cluster = stories.Cluster(sim, is_single=True)
        await cluster.start("a")

        async def add(node: Node) -> None:
            await asyncio.gather(*[node.ref(stories.Counter, f"key-{n}").add(1.5) for n in range(stories.KEYS)])

        slow = asyncio.ensure_future(sim.ask("a", add))
        await cluster.start("b")
        await sim.ask("b", add)
        await slow
        await cluster.finish()

    with pytest.raises(AssertionError, match="SingleActivation"):
        Simulation(1).run(story)
    monkeypatch.undo()
    Simulation(1).run(story)


def test_one_view_per_number_objects() -> None:
    checker = OneViewPerNumber()

    async def story(sim: Simulation) -> None:
        await sim.start("a")
        await sim.start("b")
        await sim.until(lambda: sim.agree(2), 10, "one view of two")
        view = sim.node("a").view
        checker.viewed(sim.now, "c", 1, type(view)(view.lineage, view.number, view.members[:1]))

    with pytest.raises(AssertionError, match="OneViewPerNumber"):
        Simulation(1, observers=[checker]).run(story)
