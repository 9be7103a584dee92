"""What durable actors leave behind when they are idle."""

from __future__ import annotations

import pytest

from benchmarks.chaos.saves import left_by
from ringcast.runtime import routes


async def test_an_idle_actor_leaves_little_and_is_back_with_one_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "IDLE", 0.2)
    each, claims = await left_by(4000)
    assert each <= 300
    assert claims == 1
