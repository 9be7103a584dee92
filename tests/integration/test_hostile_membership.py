"""The storms at a node's port, in short: they run, strangers are closed, and members notice none of it."""

from __future__ import annotations

from benchmarks.hostile_membership import ASKS_PER_SECOND, Load, StormFigures, storms


async def test_asks_go_on_and_nobody_is_suspected_while_strangers_storm_a_port() -> None:
    figures = await storms(seconds=1.0, rounds=1, half_open=100, handshakes=50)
    assert figures.idle.asks == figures.attacked.asks == ASKS_PER_SECOND
    assert figures.strangers > 20
    assert figures.changes == 0


def test_figures_are_met_by_a_factor_and_by_calm() -> None:
    idle, slow = Load(1, 0.001, 0.002, 0.0, 0.0), Load(1, 0.001, 0.005, 0.0, 0.0)
    assert StormFigures(idle, idle, 1, 1, 1, 0, 0).is_met
    assert not StormFigures(idle, slow, 1, 1, 1, 0, 0).is_met
    assert not StormFigures(idle, idle, 1, 1, 1, 1, 0).is_met
