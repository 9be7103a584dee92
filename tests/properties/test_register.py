"""The register under any order of things: spawns, ends, losses of two, joins and leaves, and bad networks."""

from __future__ import annotations

import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringcast.runtime.copies import COPIES
from ringcast.runtime.keeper import Claimed, Gone
from ringcast.runtime.rows import RowId
from tests.unit.runtime.keepers import World, a_row, view

FIVE = ("a", "b", "c", "d", "e")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32))
def test_nothing_is_lost_twice_alive_or_back_from_its_end(seed: int) -> None:
    tell_a_story(seed)


def tell_a_story(seed: int) -> None:
    """Run what a seed makes up, and check it. Whatever words are lost, at most two members are lost at a time."""
    rng = random.Random(seed)
    loss = rng.choice([0.0, 0.15, 0.3])
    world = World(FIVE, rng, loss)
    alive: set[RowId] = set()
    ended: set[RowId] = set()
    fresh = 0
    spare = iter("fghijklmnopq")
    for _ in range(rng.randint(2, 8)):
        step = rng.choice(["claim", "claim", "end", "lose", "join", "leave"])
        members = [member.id for member in world.view.members]
        if step == "claim":
            fresh += 1
            row = a_row(f"/{fresh}")
            if isinstance(world.claim(row), Claimed):
                alive.add(row.id)
        elif step == "end" and alive:
            row_id = min(alive)
            if world.host_of(row_id) is not None and isinstance(world.end(row_id), Gone):
                ended.add(row_id)
            alive.discard(row_id)
        elif step == "lose" and len(members) >= 4:
            world.calm()  # no loss is survived that comes before the copies of the last are made
            for _ in range(rng.randint(0, 3)):  # but what is on its way may be cut off anywhere
                fresh += 1
                world.ask(("t:A", f"/{fresh}"), "claim", a_row(f"/{fresh}"))
            world.settle(rng.randint(0, 3))
            world.lose(*rng.sample(members, 2))
        elif step == "join" and len(members) < 7:
            world.install(view(world.view.number + 1, *members, next(spare)))
            asked = [world.ask(row_id, "where", row_id) for row_id in sorted(alive)]
            world.settle(rng.randint(0, 10))
            assert not any(isinstance(world.answers.get(token), Gone) for token in asked), "it lives, and always has"
        elif step == "leave" and len(members) >= 4:
            world.install(view(world.view.number + 1, *members, leaving=rng.choice(members)))
            world.settle(rng.randint(0, 5))
            world.install(view(world.view.number + 1, *members))
        world.settle(rng.randint(0, 10))
    world.loss = 0.0
    world.calm()
    for row_id in sorted(alive):
        assert world.host_of(row_id) is not None, f"{row_id} is lost"
        assert len(world.copies_of(row_id)) == min(COPIES, len(world.keepers))
    for row_id in sorted(ended):
        assert world.host_of(row_id) is None, f"{row_id} is back"
        copies = [keeper.copies.row(row_id) for keeper in world.keepers.values()]
        assert all(copy is None or copy.ended is not None for copy in copies), "a word to forget it may be lost"
