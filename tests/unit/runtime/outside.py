"""Clients of clusters of one process, and actors that they call."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringcast import Actor, Client, Identity, Node, NodeConfig, Seeds, handler
from ringcast.runtime.guard import Authorize
from ringcast.security.credential import Credential, issue
from ringcast.security.secret import Secret, new_key
from tests.unit.runtime.places import gates, new_cluster


@dataclass
class Line:
    """A record, to see that they travel."""

    name: str
    count: int = 1


class Cart(Actor, expose=True):
    def __init__(self) -> None:
        self._lines: list[Any] = []

    async def add(self, *lines: Any, **named: Any) -> int:
        self._lines.extend([*lines, *named.items()])
        return len(self._lines)

    @handler(read_only=True)
    async def lines(self) -> list[Any]:
        return self._lines

    @handler(expose=False)
    async def wipe(self) -> None:
        self._lines = []

    async def caller(self) -> Identity | None:
        return self.context.caller

    async def caller_of(self, other: Cart) -> tuple[str, Identity | None]:
        return str(self.context.caller), await other.caller()

    async def me(self) -> Cart:
        found: Cart = self.context.me
        return found

    async def fail(self) -> None:
        raise KeyError("no such line")

    async def fail_of(self, other: Cart) -> None:
        await other.fail()

    async def error_of(self, other: Cart) -> list[BaseException]:
        try:
            await other.fail()
        except KeyError as error:
            return [error]
        return []

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate

    @handler(cancellable=True)
    async def wait_or_not(self, gate: str) -> None:
        gates.mark(gate)
        try:
            await asyncio.Event().wait()
        finally:
            gates.mark(f"{gate} ended")

    @handler(read_only=True)
    async def count_to(self, upto: int) -> AsyncIterator[int]:
        for n in range(upto):
            yield n

    @handler(read_only=True)
    async def endless(self, gate: str) -> AsyncIterator[int]:
        try:
            n = 0
            while True:
                yield n
                n += 1
        finally:
            gates.mark(f"{gate} ended")


class Closed(Actor):
    async def peek(self) -> int:
        return 1

    @handler(expose=True)
    async def look(self) -> int:
        return 2


@dataclass
class Outside:
    """A cluster with a secret of its own, as clients see it."""

    cluster: str
    secret: Secret
    gateway: Node
    owner: Node

    def credential(self, name: str = "web", *, ttl: float = 600.0, allow: list[str] | None = None) -> Credential:
        """Issue a credential for a client."""
        return issue(self.secret, self.cluster, "client", name, now=time.time(), ttl=ttl, allow=allow)

    def client(self, **options: Any) -> Client:
        """Return a client of the gateway, unless options say otherwise."""
        defaults: dict[str, Any] = {"nodes": [self.gateway.address], "credential": self.credential()}
        return Client(**(defaults | options))


@asynccontextmanager
async def outside(
    folder: Path,
    *,
    remote: bool,
    authorize: Authorize | None = None,
    config: NodeConfig | None = None,
) -> AsyncIterator[Outside]:
    """Yield a cluster; `remote` has all actors run on another node than the one that takes clients."""
    cluster, secret = new_cluster(), Secret((new_key(time.time()),))
    file = folder / "secret"
    file.write_text(secret.render())
    file.chmod(0o600)
    config = dataclasses.replace(config or NodeConfig(), drain_timeout=0.5)
    options: dict[str, Any] = {"cluster": cluster, "secret": file, "config": config}
    async with Node(**options, discovery=[], hosts=[] if remote else None, authorize=authorize) as gateway:
        if not remote:
            yield Outside(cluster, secret, gateway, gateway)
            return
        async with Node(**options, discovery=[Seeds([gateway.address])]) as owner:
            await gateway.wait_for_members(2, 10)
            yield Outside(cluster, secret, gateway, owner)
