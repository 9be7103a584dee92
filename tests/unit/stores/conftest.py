"""Every store, empty; the servers are started once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio

from ringcast.runtime.stores import Store, store_at
from tests.servers import Server, postgresql_server, redis_server

KINDS = ("memory", "sqlite", "postgresql", "redis")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server."""
    with postgresql_server() as server:
        yield server


@pytest.fixture(scope="session", name="redis")
def _redis() -> Iterator[Server]:
    """A Redis server."""
    with redis_server() as server:
        yield server


def address(kind: str, request: pytest.FixtureRequest, folder: Path) -> str:
    """Return the address of a store of a kind; its server is started if it was not."""
    if kind == "memory":
        return "memory:"
    if kind == "sqlite":
        return f"sqlite:///{folder / 'state.db'}"
    server: Server = request.getfixturevalue(kind)
    return server.address


@pytest_asyncio.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with nothing in it."""
    where = address(request.param, request, tmp_path)
    await empty(where)
    found = store_at(where)
    await found.open()
    yield found
    await found.close()


async def empty(where: str) -> None:
    """Remove what other tests have left in a server."""
    drivers: Any = asyncpg, redis.asyncio.Redis  # which have no types, or few
    if where.startswith("postgresql:"):
        connection = await drivers[0].connect(where)
        await connection.execute("DROP TABLE IF EXISTS ringcast_state, ringcast_reply, ringcast_store")
        await connection.close()
    elif where.startswith("redis:"):
        async with drivers[1].from_url(where) as client:
            await client.flushdb()
