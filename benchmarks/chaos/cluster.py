"""A cluster of node processes, on the loopback or on the hosts of a small LAN."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.namespaces import Host
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key

from .process import NodeProcess

__all__ = ["Cluster", "cluster"]

PORT = 7400
SETTLES = 40.0
"""Seconds after which processes that do not agree on a view are given up."""

_names = itertools.count(1)


class Cluster:
    """Node processes that are, or were, one cluster. Made by `cluster`.

    Attributes:
        processes: Those that run, in the order in which they have joined.
    """

    def __init__(self, folder: Path, hosts: Sequence[Host], config: Mapping[str, Any]) -> None:
        """Begin with no process.

        Args:
            folder: For the secret and the logs.
            hosts: Where nodes live, one on each; none is the loopback.
            config: Of the nodes.
        """
        self._folder = folder
        self._hosts = hosts
        self._free = list(hosts)
        self._config = {"profile": "lan", **config}
        self._name = f"chaos-{os.getpid()}-{next(_names)}"
        self._changed = asyncio.Event()
        self._secret = folder / "secret"
        write_private(self._secret, Secret((new_key(time.time()),)).render())
        self.processes: list[NodeProcess] = []
        self.everyone: list[NodeProcess] = []

    async def prepared(self, **more: Any) -> NodeProcess:
        """Start a process that has not joined yet."""
        given: dict[str, Any] = {"cluster": self._name, "secret": str(self._secret), "config": self._config, **more}
        host = None
        if self._hosts:
            host = self._free.pop(0)
            given["listen"] = f"{host.address}:{PORT}"
            given["seeds"] = [f"{host.address}:{PORT}" for host in self._hosts]
        process = await NodeProcess.begin(given, host, self._folder)
        process.on_view = self._changed.set
        self.everyone.append(process)
        return process

    async def join(self, *processes: NodeProcess) -> None:
        """Have prepared processes join, and wait until all agree."""
        self.processes += processes
        await asyncio.gather(*(process.join() for process in processes))
        await self.settled()

    async def add(self, **more: Any) -> NodeProcess:
        """Start a process and have it join."""
        process = await self.prepared(**more)
        await self.join(process)
        return process

    async def start(self, count: int) -> None:
        """Start so many at once."""
        await self.join(*[await started for started in asyncio.as_completed([self.prepared() for _ in range(count)])])

    def drop(self, process: NodeProcess) -> None:
        """Forget a process that is no member any more."""
        self.processes.remove(process)
        if process.host is not None:
            self._free.append(process.host)

    def agrees(self, processes: Iterable[NodeProcess]) -> bool:
        """Whether these, and nobody else, are in the view of each of them, and the views are the same one."""
        processes = list(processes)
        ids, views = {process.node_id for process in processes}, [process.view for process in processes]
        first = views[0]
        return (
            first is not None
            and first.is_settled
            and first.ids == ids
            and all(view is not None and first.same_as(view) for view in views)
        )

    async def settled(self, processes: Sequence[NodeProcess] | None = None, limit: float = SETTLES) -> float:
        """Wait until these, or all, are agreed on one view of just them.

        Returns:
            When the last of them had it.

        Raises:
            TimeoutError: If that takes longer; it says what each sees.
        """
        processes = self.processes if processes is None else processes
        try:
            async with asyncio.timeout(limit):
                while not self.agrees(processes):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            seen = {process.node_id: process.view for process in processes}
            raise TimeoutError(f"no view of all after {limit:.0f} s: {seen}") from None
        return max(process.seen[-1].at for process in processes)

    async def owners(self, keys: Sequence[int], asked: NodeProcess | None = None) -> dict[str, list[int]]:
        """Return the keys of each node, as one of them sees it."""
        found: dict[str, list[int]] = {process.node_id: [] for process in self.processes}
        process = asked if asked is not None else self.processes[0]
        for key, node_id in zip(keys, await process.do("locate", keys=list(keys)), strict=True):
            found[node_id].append(key)
        return found

    def others(self, *processes: NodeProcess) -> list[NodeProcess]:
        """Return the members but these."""
        return [process for process in self.processes if process not in processes]

    async def close(self) -> None:
        """End all processes."""
        await asyncio.gather(*(process.end() for process in self.everyone))


@asynccontextmanager
async def cluster(count: int, hosts: Sequence[Host] = (), **config: Any) -> AsyncIterator[Cluster]:
    """Start so many nodes; end them all, however the block ends.

    Args:
        count: How many.
        hosts: Where; none is the loopback.
        config: Fields of `NodeConfig`.
    """
    with tempfile.TemporaryDirectory(prefix="ringcast-chaos-") as folder:
        made = Cluster(Path(folder), hosts, config)
        try:
            await made.start(count)
            yield made
        finally:
            await made.close()


async def asked(
    processes: Sequence[NodeProcess], keys: Sequence[int], limit: float = 10.0, **more: Any
) -> list[list[Any]]:
    """Deal keys to processes, have them ask until each answers; what the answers were.

    Raises:
        TimeoutError: If a key does not answer within the limit.
    """
    dealt = [keys[number :: len(processes)] for number in range(len(processes))]
    told = await asyncio.gather(
        *(
            process.do("answers", patience=limit + 20, keys=list(share), limit=limit, **more)
            for process, share in zip(processes, dealt, strict=True)
        )
    )
    rows = [row for answers in told for row in answers]
    if len(rows) < len(keys):
        missing = set(keys) - {row[0] for row in rows}
        raise TimeoutError(
            f"{len(missing)} of {len(keys)} keys do not answer after {limit:.0f} s: {sorted(missing)[:5]}"
        )
    return rows


def shuffled(processes: Sequence[NodeProcess], seed: int) -> list[NodeProcess]:
    """Return them in an order that the seed gives."""
    return random.Random(seed).sample(processes, len(processes))
