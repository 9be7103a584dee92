"""Durable actors in stories: what is acknowledged is there once, and what breaks that is found."""

from __future__ import annotations

import pytest

from ringcast.runtime.simulation import Simulation
from tests.simulation.journals import Treasury
from tests.simulation.planted_stores import PLANTED
from tests.simulation.stories import durable

FOUND_BY = {
    "no_version_check": 4,
    "claim_without_fence": 0,
    "acknowledged_before_commit": 4,
    "refused_is_done": 9,
    "forgotten_keys": 48,
    "repeated_as_another": 8,
}
"""By planted mistake: a seed whose story finds it."""


@pytest.mark.parametrize("seed", range(12))
def test_stories_of_durable_actors(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Treasury] = []
    finish = Treasury.finish

    async def and_look(self: Treasury) -> None:
        await finish(self)
        told.append(self)

    monkeypatch.setattr(Treasury, "finish", and_look)
    Simulation(seed).run(durable)
    [company] = told
    assert company.acknowledged.count > 0
    assert company.store.rows.claims > 0
    assert company.store.rows.writes >= company.acknowledged.count


@pytest.mark.parametrize("mistake", PLANTED)
def test_a_mistake_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTED[mistake](monkeypatch)
    with pytest.raises(AssertionError, match=r"Rows|Safes|Acknowledged"):
        Simulation(FOUND_BY[mistake]).run(durable)
