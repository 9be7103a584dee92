"""What the simulated membership costs does not depend on how its nodes came together."""

from __future__ import annotations

import pytest

from benchmarks import scale_members
from benchmarks.scale_members import simulated

NODES = 9


def test_nodes_that_are_put_into_a_view_cost_what_those_do_that_were_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    let_in = simulated(NODES)
    monkeypatch.setattr(scale_members, "PLACED_FROM", 1)
    placed = simulated(NODES)
    assert placed.messages == pytest.approx(let_in.messages, rel=0.05)
    assert placed.most == pytest.approx(let_in.most, rel=0.1)
    assert placed.bytes == pytest.approx(let_in.bytes, rel=0.1)
    assert 0 < placed.known_s < 0.5
    assert 0 < let_in.known_s < 0.5
