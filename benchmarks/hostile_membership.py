"""Strangers that open connections and leave them half open, and strangers that begin handshakes: what members notice.

``python -m benchmarks.hostile_membership`` prints the figures; `storms` returns them.

One node asks an actor of another, in a process of its own, at a steady rate. In turns nothing else
happens, or a third process attacks the port of the node that is asked: it holds half-open connections
of every kind (nothing said, the channel named, half a hello, a hello and then silence) and dials anew
each that was closed, and it begins handshakes, one half of them with random bytes and the other half
with the hello of a real handshake, which costs the node an answer. The attacker has the lowest
priority, for it would bring a processor of its own.

What is watched: how long asks take, how late the loop of the asked node's membership is, and whether
that membership suspects anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ringcast import Actor, Node, Seeds, run
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.security.channels import ALPN, LINKS, MEMBERSHIP
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key

from .child import Child, ready

__all__ = ["FACTOR_MAX", "Load", "StormFigures", "storms"]

FACTOR_MAX = 2.0
"""So many times longer the slowest hundredth of asks may take under attack."""

ASKS_PER_SECOND = 200
LAG_INTERVAL = 0.005
MODULE = "benchmarks.hostile_membership"


@dataclass(frozen=True, slots=True)
class Load:
    """What a time of one kind was like; seconds.

    Attributes:
        asks: How many asks were answered.
        p50: Half of them took no longer.
        p99: 99 of a hundred took no longer.
        lag_p99: How late the asked node's membership loop was, 99 times of a hundred.
        lag_max: How late it was once.
    """

    asks: int
    p50: float
    p99: float
    lag_p99: float
    lag_max: float


@dataclass(frozen=True, slots=True)
class StormFigures:
    """What members notice of an attack.

    Attributes:
        idle: Without one.
        attacked: With it.
        half_open: Connections that the attacker holds, or dials again.
        handshakes: That it begins in a second.
        strangers: Connections that the node has closed because of what they said, or did not.
        changes: How often the asked node's view has changed meanwhile, or a member became suspect.
    """

    idle: Load
    attacked: Load
    half_open: int
    handshakes: int
    strangers: int
    changes: int

    @property
    def factor(self) -> float:
        """How much longer the slowest hundredth of asks takes under attack."""
        return self.attacked.p99 / self.idle.p99

    @property
    def is_met(self) -> bool:
        """Whether members notice as little as they may."""
        return self.factor <= FACTOR_MAX and self.changes == 0


class Asked(Actor):
    """Answers, and tells how late its node's membership has been."""

    async def echo(self, number: int) -> int:
        return number

    async def lags(self) -> list[float]:
        """Return the delays since the last call."""
        taken, late[:] = list(late), []
        return taken

    async def noticed(self) -> tuple[int, int]:
        """Return how many strangers were closed, and how often the membership changed its mind."""
        [node] = nodes
        stats = node.stats()
        strangers = ("strangers", "handshakes_refused", "handshakes_unfinished", "links_crowded_out", "links_broken")
        seen = sum(stats.get(f"membership_{name}", 0) for name in strangers)
        changed = stats.get("membership_views_installed", 0) + stats.get("membership_members_suspect", 0)
        return int(seen), int(changed)


late: list[float] = []
nodes: list[Node] = []


# ---- the node that is asked ----------------------------------------------------------------------


async def server() -> None:
    async with Node(cluster="storms", discovery=[]) as node:
        nodes.append(node)
        thread = node._membership._thread
        assert thread is not None
        membership = thread.loop

        def watch(due: float) -> None:
            now = time.monotonic()
            late.append(now - due)
            membership.call_later(LAG_INTERVAL, watch, now + LAG_INTERVAL)

        membership.call_soon_threadsafe(watch, time.monotonic())
        ready(node.address)
        await asyncio.Event().wait()


# ---- the attacker --------------------------------------------------------------------------------


def hello(channel: bytes) -> bytes:
    """Return what a real handshake for the channel begins with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN[channel]])
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def beginnings() -> list[bytes]:
    """Return how half-open connections begin, one of each kind."""
    kinds = [b"", preamble(MEMBERSHIP)[:5]]
    for channel in (MEMBERSHIP, LINKS):
        whole = hello(channel)
        kinds += [preamble(channel) + said for said in (b"", whole[: len(whole) // 2], whole)]
    return kinds


async def attack(address: str, half_open: int, handshakes: int) -> None:
    """Go on until this process is ended."""
    where, rng, loop = split_address(address), random.Random(0), asyncio.get_running_loop()
    kinds = beginnings()
    hellos = {channel: hello(channel) for channel in (MEMBERSHIP, LINKS)}

    async def dial(said: bytes) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        await loop.sock_connect(connection, where)
        await loop.sock_sendall(connection, said)
        return connection

    async def hold(number: int) -> None:
        while True:
            with contextlib.suppress(OSError), await dial(kinds[number % len(kinds)]) as connection:
                while await loop.sock_recv(connection, 4096):
                    pass
            await asyncio.sleep(rng.uniform(0.5, 1.5))

    async def shake() -> None:
        channel = rng.choice((MEMBERSHIP, LINKS))
        said = hellos[channel] if rng.random() < 0.5 else b"\x16\x03\x01\x01\x00" + rng.randbytes(256)
        with contextlib.suppress(OSError, TimeoutError), await dial(preamble(channel) + said) as connection:
            async with asyncio.timeout(1):
                await loop.sock_recv(connection, 4096)

    async with asyncio.TaskGroup() as group:
        for number in range(half_open):
            group.create_task(hold(number))
        began = loop.time()
        for count in range(sys.maxsize if handshakes else 0):
            group.create_task(shake())
            await asyncio.sleep(max(0.0, began + count / handshakes - loop.time()))


@contextlib.contextmanager
def attacking(address: str, half_open: int, handshakes: int) -> Iterator[None]:
    command = [sys.executable, "-m", MODULE, "attack", address, str(half_open), str(handshakes)]
    process = subprocess.Popen(["nice", "-n", "19", *command])
    try:
        yield
    finally:
        process.kill()
        process.wait()


# ---- the node that asks --------------------------------------------------------------------------


async def asking(asked: Asked, seconds: float, into: list[float]) -> None:
    """Ask at a steady rate, whatever becomes of the asks before."""
    loop = asyncio.get_running_loop()

    async def one(number: int) -> None:
        began = time.perf_counter()
        await asked.echo(number)
        into.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        began = loop.time()
        for number in range(int(seconds * ASKS_PER_SECOND)):
            await asyncio.sleep(max(0.0, began + number / ASKS_PER_SECOND - loop.time()))
            group.create_task(one(number))


def load(asks: list[float], lags: list[float]) -> Load:
    percentiles = statistics.quantiles(asks, n=100)
    return Load(len(asks), percentiles[49], percentiles[98], statistics.quantiles(lags, n=100)[98], max(lags))


async def storms(*, seconds: float = 5.0, rounds: int = 3, half_open: int = 500, handshakes: int = 200) -> StormFigures:
    """Measure; takes a little more than twice `seconds` times `rounds`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "secret"
        write_private(path, Secret((new_key(time.time()),)).render())
        with _started_with(path) as child:
            async with Node(cluster="storms", discovery=[Seeds([child.address])], hosts=[], secret=path) as node:
                return await _measured(node, child.address, seconds, rounds, half_open, handshakes)


def _started_with(secret: Path) -> Child:
    before = os.environ.get("RINGCAST_SECRET_FILE")
    os.environ["RINGCAST_SECRET_FILE"] = str(secret)
    try:
        return Child(MODULE)
    finally:
        del os.environ["RINGCAST_SECRET_FILE"]
        if before is not None:
            os.environ["RINGCAST_SECRET_FILE"] = before


async def _measured(
    node: Node, address: str, seconds: float, rounds: int, half_open: int, handshakes: int
) -> StormFigures:
    asked = node.ref(Asked, "one")
    asks: dict[bool, list[float]] = {False: [], True: []}
    lags: dict[bool, list[float]] = {False: [], True: []}
    await asking(asked, 1.0, [])
    strangers, changes = await asked.noticed()
    for _ in range(rounds):
        for attacked in (False, True):
            with attacking(address, half_open, handshakes) if attacked else contextlib.nullcontext():
                await asyncio.sleep(2.0 if attacked else 1.0)  # until the attacker, or what it left, is up or gone
                await asked.lags()
                await asking(asked, seconds, asks[attacked])
                lags[attacked] += await asked.lags()
    strangers_then, changes_then = await asked.noticed()
    return StormFigures(
        load(asks[False], lags[False]),
        load(asks[True], lags[True]),
        half_open,
        handshakes,
        strangers_then - strangers,
        changes_then - changes,
    )


def main() -> None:
    figures = run(storms())
    table = Table(title=f"{figures.half_open} half-open connections, {figures.handshakes} handshakes a second")
    for column in ("", "asks", "p50 ms", "p99 ms", "membership's lag p99 ms", "at most ms"):
        table.add_column(column)
    for name, each in (("idle", figures.idle), ("attacked", figures.attacked)):
        times = (each.p50, each.p99, each.lag_p99, each.lag_max)
        table.add_row(name, str(each.asks), *(f"{value * 1e3:.2f}" for value in times))
    console = Console()
    console.print(table)
    console.print(
        f"p99 {figures.factor:.2f} times as long (at most {FACTOR_MAX}); strangers closed: {figures.strangers}; "
        f"views and suspicions: {figures.changes}"
    )
    sys.exit(not figures.is_met)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", *_]:
            run(server())
        case ["attack", address, half_open, handshakes]:
            with contextlib.suppress(BaseExceptionGroup):
                run(attack(address, int(half_open), int(handshakes)))
        case _:
            main()
