"""Real nodes in virtual time, one seed after the other: ``make simulate SEEDS=1000``.

A seed that fails is told with the command that replays it; one that has found a mistake stays in `FOUND`.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ringcast import ConfigError
from ringcast.discovery.profile import LOCAL
from ringcast.runtime.simulation import Simulation
from ringcast.runtime.simulation.checkers import OneViewPerNumber

from .company import Company
from .node_schedules import SCHEDULES
from .planted_nodes import PLANTED, planted
from .run import tell
from .stories import STORIES, story_of

FIRST = int(os.environ.get("SEED", "0"))
COUNT = int(os.environ.get("SEEDS", "10"))
STORY = os.environ.get("STORY", "usual")

FOUND = [
    # SWIM's words to a node that was at this node's own address before it ended the membership.
    ("brief", 6),
    # A connection to a run of a node that is over, and that nobody has closed, took a call.
    ("brief", 45),
    # A link waited for TCP to try again, long after the network was whole.
    ("minute", 13),
    ("minute", 44),
    # An activation had the epoch of a view that its loop did not follow yet.
    ("minute", 40),
    # A node that was just let in knew no view, and refused what came by it.
    ("planned", 1028),
    # An answer to who had asked through another node was dropped, for there was no connection yet.
    ("planned", 1038),
    ("planned", 1078),
    # A dial that was given up while its connection came up left a future whose error nobody took.
    ("crashes", 1275),
    # The register of a node that had been told to leave while it joined went on asking others, without a time limit.
    ("minute", 70170),
    ("minute", 80470),
    # Children whose supervisor was lost before it had started them were never started.
    ("trees", 2),
    ("trees", 75),
    # A child that came up before its supervisor knew of it was taken for an orphan.
    ("trees", 1),
    # A child that was stopped before it was started came back with its supervisor.
    ("trees", 27),
    # A node that had just begun to leave made a spawn fail.
    ("trees", 74),
    # A node that leaves said so to a new leader, of an actor that it still had.
    ("trees", 1023),
]

BY_STORIES = {
    "8 forgotten fsync": "cold",
    "9 incarnation reset": "brief",
    "copies not compared": "trees",
}
"""Mistakes that stories find; the others have schedules."""

TRIES = 20
"""Seeds of which one must find a planted mistake. Which one it is changes with whatever the nodes draw."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_nodes(seed: int) -> None:
    tell(story_of(seed) if STORY == "usual" else STORY, seed)


@pytest.mark.parametrize("story", STORIES)
def test_each_story(story: str) -> None:
    tell(story, 1)


@pytest.mark.parametrize(("story", "seed"), FOUND)
def test_what_was_found_once(story: str, seed: int) -> None:
    tell(story, seed)


def is_found(told: Callable[[int], object]) -> bool:
    """Whether one of the first seeds ends in an objection."""
    for seed in range(TRIES):
        try:
            told(seed)
        except (AssertionError, ConfigError):  # a torn record is refused
            return True
    return False


def test_every_planted_mistake_is_looked_for() -> None:
    assert BY_STORIES.keys() | SCHEDULES.keys() == PLANTED.keys()


@pytest.mark.parametrize("name", BY_STORIES)
def test_a_planted_mistake_is_found_by_a_story(name: str) -> None:
    with planted(name):
        assert is_found(lambda seed: tell(BY_STORIES[name], seed))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_planted_mistake_is_found_by_its_schedule(name: str) -> None:
    with planted(name):
        assert is_found(lambda seed: Simulation(seed).run(SCHEDULES[name]))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_ends_well_without_the_mistake(name: str) -> None:
    Simulation(0).run(SCHEDULES[name])


def test_equal_seeds_are_equal_in_every_process() -> None:
    """In processes that have imported the same: messages are numbered as their classes are defined."""
    program = "from tests.simulation.run import tell; print(*(tell('brief', seed).digest() for seed in range(3)))"
    told: list[list[str]] = []
    for hash_seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        told.append(done.stdout.split())
    assert told[0] == told[1] == told[2]
    assert len(set(told[0])) == 3


def test_a_cluster_with_tls_and_the_local_profile() -> None:
    async def story(sim: Simulation) -> None:
        with Company(sim) as company:
            for name in ("a", "b", "c"):
                company.come(name)
            await asyncio.gather(*company.coming)
            await company.settled()
            assert len({member.key for member in sim.node("a").members}) == 3
            sim.kill("b")
            await company.settled()
            company.go("c")
            await asyncio.gather(*company.going)
            await company.settled()
            await company.finish()

    Simulation(1, tls=True, profile=LOCAL).run(story)


def test_one_view_per_number_objects() -> None:
    checker = OneViewPerNumber()

    async def story(sim: Simulation) -> None:
        await sim.start("a")
        await sim.start("b")
        await sim.until(lambda: sim.agree(2), 10, "one view of two")
        node = sim.node("a")
        view = node.view
        checker.viewed(sim.now, "c", 1, type(view)(view.lineage, view.number, view.members[:1]), node.id)
        await sim.stop("b")
        await sim.stop("a")

    with pytest.raises(AssertionError, match="OneViewPerNumber"):
        Simulation(1, observers=[checker]).run(story)
