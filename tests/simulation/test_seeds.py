"""Clusters of protocol cores in virtual time, one seed after the other: ``make simulate SEEDS=1000``.

The property tests search for the smallest story that breaks the protocol; here longer stories
are drawn, one from each seed, and a seed that fails is told with the command that replays it.
"""

import os
import random
from typing import Any

import pytest

from tests.properties import test_swim_cluster

FIRST = int(os.environ.get("SEED", "0"))
COUNT = int(os.environ.get("SEEDS", "5"))
FAULTS = {
    "kill": 2.0,
    "leave": 2.0,
    "restart": 2.0,
    "start": 2.0,
    "pause": 4.0,
    "cut": 4.0,
    "one-way": 3.0,
    "heal": 2.0,
    "lose": 2.0,
}
"""What may happen, and for how many seconds at most it goes on before the next thing does."""

story: Any = test_swim_cluster.test_whatever_happens_it_ends_in_one_cluster


def schedule_of(rng: random.Random) -> list[tuple[str, int, float]]:
    """Return up to twenty faults: what, to whom, and the seconds until the next."""
    kinds = [rng.choice(sorted(FAULTS)) for _ in range(rng.randrange(21))]
    choices = {"cut": 32, "one-way": 32}
    return [(kind, rng.randrange(choices.get(kind, 6)), rng.uniform(0, FAULTS[kind])) for kind in kinds]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_whatever_happens_it_ends_in_one_cluster(seed: int) -> None:
    rng = random.Random(seed)
    size, has_disk, schedule = rng.randint(1, 5), rng.random() < 0.5, schedule_of(rng)
    try:
        story.hypothesis.inner_test(seed, size, has_disk, schedule)
    except Exception as error:
        error.add_note(f"{size} nodes, {'with' if has_disk else 'without'} disks, then {schedule}")
        error.add_note(f"replay it with: make simulate SEED={seed} SEEDS=1")
        raise
