"""What actors need and do not have for a while ends none of them: a database, a node with their labels."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ringcast import Actor, CallError, ChildSpec, Labels, OneForAll, Supervisor, props, tell, using
from ringcast.testing import cluster, simulated

AWAY = 30.0


class Database:
    """Is away, or is not."""

    is_away = False


class Client(Actor):
    """Needs the database to begin, and in each of its turns."""

    async def on_start(self) -> None:
        self._connect()

    async def read(self) -> str:
        return self._connect()

    async def write(self) -> None:
        self._connect()

    def _connect(self) -> str:
        if Database.is_away:
            raise ConnectionError("the database is away")
        return "row"


class Clients(Supervisor, supervision=OneForAll(max_restarts=2, within=10.0)):
    """Gives up soon."""

    def children(self) -> Sequence[ChildSpec]:
        return [ChildSpec(props(Client), name=name) for name in "ab"]


class Application(Supervisor, supervision=OneForAll(max_restarts=2, within=10.0)):
    """Gives up soon, too."""

    def children(self) -> Sequence[ChildSpec]:
        return [ChildSpec(props(Clients), name="clients"), ChildSpec(props(Client), name="c")]


@pytest.fixture(autouse=True)
def _database() -> Iterator[None]:
    Database.is_away = False
    yield
    Database.is_away = False


@simulated
async def test_a_database_that_is_away_for_half_a_minute_ends_no_permanent_actor() -> None:
    async with cluster(3) as c:
        await c.node(0).spawn(props(Application), name="app")
        alone = await c.node(0).spawn(props(Client), name="alone")
        paths = ["/app", "/app/clients", "/app/clients/a", "/app/clients/b", "/app/c", "/alone"]
        await c.until(lambda: up(c) == sorted(paths), 5, "all are up")
        Database.is_away = True
        until = asyncio.get_running_loop().time() + AWAY
        while asyncio.get_running_loop().time() < until:
            with contextlib.suppress(CallError):
                await tell(using(alone, timeout=1.0).write)
            for node in c.running:  # each that is up finds out
                for cell in list(node.node._host.cells()):
                    if cell.actor is not None and cell.kind.name.endswith(":Client"):
                        cell.fail(ConnectionError("the database is away"))
            await asyncio.sleep(0.5)
        Database.is_away = False
        await c.until(lambda: up(c) == sorted(paths), 2 * 36.0, "all are up again")
        assert await using(alone, timeout=5).read() == "row"


def up(c: Any) -> list[str]:
    """Return the paths of the spawned actors that are up on any node."""
    cells = [cell for node in c.running for cell in node.node._host.cells() if cell.life is not None]
    return sorted(cell.key[1] for cell in cells if cell.actor is not None and not cell.life.is_down)


@simulated
async def test_labels_that_nobody_offers_are_waited_for() -> None:
    async with cluster(3) as c:
        ref = await c.node(0).spawn(props(Client), name="gpu", on=Labels(gpu="1"))
        with pytest.raises(CallError):
            await using(ref, timeout=2.0).read()
        reasons = [why for node in c.running for _, why in node.node._host.lives.register.waiting()]
        assert len(reasons) == 1
        assert "carries the labels {'gpu': '1'}" in reasons[0]
        late = await c.sim.start("late", labels={"gpu": "1"})
        assert await using(ref, timeout=10.0).read() == "row"
        assert [cell.key[1] for cell in late._host.cells() if cell.life is not None] == ["/gpu"]
        await c.sim.stop("late")
