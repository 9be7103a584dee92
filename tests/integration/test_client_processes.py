"""A client of real processes: it goes on with another node when its own leaves, or is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from ringcast import MAYBE_EXECUTED, Client, HandshakeRefused, NotAllowed, Unreachable, submit, using
from ringcast.security.credential import issue
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key
from tests.integration.open_node import Open
from tests.unit.runtime.places import eventually

ROOT = Path(__file__).parents[2]
LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Process:
    """One node."""

    process: asyncio.subprocess.Process
    node_id: str
    address: str

    async def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        async with asyncio.timeout(LIMIT):
            await self.process.wait()


@dataclass(frozen=True, slots=True)
class Cluster:
    """Two nodes, and a credential."""

    nodes: dict[str, Process]
    credential: Path

    @property
    def addresses(self) -> list[str]:
        return [node.address for node in self.nodes.values()]

    def client(self) -> Client:
        return Client(self.addresses, credential=self.credential)

    def connected(self, client: Client) -> Process:
        """Return the process that the client is connected to."""
        assert client.node is not None
        return self.nodes[client.node]


@asynccontextmanager
async def started(secret: Path, cluster: str, *seeds: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.open_node",
        cluster,
        *seeds,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "RINGCAST_LOG": "error", "RINGCAST_SECRET_FILE": str(secret), "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            word, node_id, address = (await process.stdout.readline()).decode().split()
        assert word == "READY"
        yield Process(process, node_id, address)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest_asyncio.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    secret, name = Secret((new_key(time.time()),)), f"clients-{uuid.uuid4().hex[:8]}"
    write_private(tmp_path / "secret", secret.render())
    credential = issue(secret, name, "client", "web", now=time.time(), ttl=600.0, allow=["test.Open.*"])
    write_private(tmp_path / "credential", credential.render())
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(started(tmp_path / "secret", name))
        second = await stack.enter_async_context(started(tmp_path / "secret", name, first.address))
        yield Cluster({node.node_id: node for node in (first, second)}, tmp_path / "credential")


async def asks(client: Client, answered: list[int], stop: asyncio.Event) -> None:
    """Ask actors of both nodes one after the other; none may fail."""
    n = 0
    while not stop.is_set():
        answered.append(await using(client.ref(Open, n % 50), timeout=10.0).where())
        n += 1


async def test_a_client_calls_actors_wherever_they_are(cluster: Cluster) -> None:
    async with cluster.client() as client:
        pids = {await client.ref(Open, n).where() for n in range(50)}
        assert pids == {node.process.pid for node in cluster.nodes.values()}
        ticks = client.ref(Open, 1).ticks()
        assert [await anext(ticks) for _ in range(100)] == list(range(100))
        with pytest.raises(NotAllowed, match=r"Open\.shut is not exposed"):
            await client.ref(Open, 1).shut()


async def test_a_node_that_leaves_costs_its_clients_no_call(cluster: Cluster) -> None:
    async with cluster.client() as client:
        answered, stop = list[int](), asyncio.Event()
        asking = asyncio.create_task(asks(client, answered, stop))
        lingering = [submit(client.ref(Open, f"long {n}").linger, 0.5) for n in range(20)]
        await eventually(lambda: len(answered) > 50)
        first = cluster.connected(client)
        await first.end(signal.SIGTERM)
        count = len(answered)
        await eventually(lambda: len(answered) > count + 50)
        stop.set()
        await asking
        assert len(await asyncio.gather(*lingering)) == 20
        assert cluster.connected(client) is not first


async def test_a_node_that_is_killed_costs_only_what_may_have_run(cluster: Cluster) -> None:
    async with cluster.client() as client:
        first = cluster.connected(client)
        [other] = [node for node in cluster.nodes.values() if node is not first]
        owners = {await client.ref(Open, n).where(): n for n in range(50)}
        there = owners[other.process.pid]
        reads = submit(using(client.ref(Open, there), timeout=15.0).where, 1.0)
        runs = submit(using(client.ref(Open, there), timeout=15.0).linger, 1.0)
        await client.ref(Open, "behind these").where()
        await first.end(signal.SIGKILL)
        with pytest.raises(Unreachable) as caught:
            await runs
        assert caught.value.certainty is MAYBE_EXECUTED
        assert await reads == other.process.pid  # is asked again, by another node
        assert await using(client.ref(Open, there), timeout=15.0).add() == 1
        assert cluster.connected(client) is other


async def test_a_credential_of_another_secret_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    stranger = issue(Secret((new_key(time.time()),)), "clients", "client", "eve", now=time.time(), ttl=60.0)
    with pytest.raises(HandshakeRefused, match="another secret"):
        await Client(cluster.addresses, credential=stranger).start()
