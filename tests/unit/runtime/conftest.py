from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.unit.runtime.places import LOCAL, REMOTE, Place, a_place, gates

PATIENCE = 10
"""Whole seconds that a test may take."""


@pytest_asyncio.fixture(params=[LOCAL, REMOTE])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A caller, and where what it calls runs: here, or surely on another node."""
    async with a_place(request.param) as found:
        yield found


@pytest_asyncio.fixture
async def here() -> AsyncIterator[Place]:
    """One node."""
    async with a_place(LOCAL) as found:
        yield found


@pytest_asyncio.fixture
async def there() -> AsyncIterator[Place]:
    """Two nodes; all actors run on the other one."""
    async with a_place(REMOTE) as found:
        yield found


@pytest.fixture(autouse=True)
def _new_gates() -> None:  # pyright: ignore[reportUnusedFunction]
    gates.clear()


@pytest.fixture(autouse=True)
def _no_test_hangs() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    def give_up(*_: object) -> None:
        raise AssertionError(f"the test has not ended within {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
