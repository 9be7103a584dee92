"""The storm of a hostile client, small: what it costs is measured by ``make hostile``."""

from __future__ import annotations

import pytest

from benchmarks.hostile_client import KINDS, storm


async def test_a_clients_worst_frames_are_refused_and_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGCAST_LOG", "error")
    figures = await storm(frames=2 * len(KINDS), seconds=0.6, longest=60.0)
    assert figures.sent > len(KINDS)
    assert figures.calls >= 10
    assert figures.closed >= 10
    assert figures.grown_mib <= 128
    assert figures.factor > 0.0
