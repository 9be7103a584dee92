"""Strangers that open connections and leave them half open, and strangers that begin handshakes: what members notice.

``python -m benchmarks.hostile_membership`` prints the figures; `storms` returns them.

One node asks an actor of another, in a process of its own, at a steady rate. In turns nothing else
happens, or a third process attacks the port of the node that is asked: it holds half-open connections
of every kind (nothing said, the channel named, half a hello, a hello and then silence) and dials anew
each that was closed, and it begins handshakes, one half of them with random bytes and the other half
with the hello of a real handshake, which costs the node an answer. The attacker has the lowest
priority, for it would bring a processor of its own.

Where network namespaces can be made (root, ``ip``) the three are hosts of a small LAN, and the attacker
has `ADDRESSES` addresses. Else all is on the loopback: there a node cannot tell the attacker from
its own machine's other nodes, and takes ten times as many connections of it.

What is watched: how long asks take, how late the loop of the asked node's membership is, and whether
that membership suspects anybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ringcast import Actor, Node, Seeds, run
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.security.channels import ALPN, LINKS, MEMBERSHIP
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key

from .child import ready
from .namespaces import Host, lan, why_not

__all__ = ["FACTOR_MAX", "Load", "StormFigures", "storms"]

FACTOR_MAX = 2.0
"""So many times longer the slowest hundredth of asks may take under attack."""

ADDRESSES = 8
"""Of the attacker, on a LAN."""

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
        addresses: How many the attacker has; 0 on the loopback.
    """

    idle: Load
    attacked: Load
    half_open: int
    handshakes: int
    strangers: int
    changes: int
    addresses: int

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


async def server(host: str) -> None:
    async with Node(cluster="storms", listen=f"{host}:0", discovery=[]) as node:
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


async def attack(address: str, half_open: int, handshakes: int, sources: Sequence[str]) -> None:
    """Go on until this process is ended."""
    where, rng, loop = split_address(address), random.Random(0), asyncio.get_running_loop()
    kinds = beginnings()
    hellos = {channel: hello(channel) for channel in (MEMBERSHIP, LINKS)}

    async def dial(said: bytes) -> socket.socket:
        connection = socket.socket()
        try:
            connection.setblocking(False)
            connection.bind((rng.choice(sources), 0))
            await loop.sock_connect(connection, where)
            await loop.sock_sendall(connection, said)
        except BaseException:
            connection.close()
            raise
        return connection

    async def hold(number: int) -> None:
        await asyncio.sleep(rng.random())
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
        await asyncio.sleep(1.5)
        print(flush=True)
        began = loop.time()
        for count in range(sys.maxsize if handshakes else 0):
            group.create_task(shake())
            await asyncio.sleep(max(0.0, began + count / handshakes - loop.time()))


@contextlib.asynccontextmanager
async def attacking(command: Sequence[str]) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        await process.stdout.readline()  # it holds what it wants to hold
        yield
    finally:
        process.kill()
        await process.communicate()


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


async def measured(address: str, host: str, seconds: float, rounds: int, attacker: Sequence[str]) -> dict[str, object]:
    """Ask in turns without and with the attack that the command `attacker` is."""
    asks: dict[bool, list[float]] = {False: [], True: []}
    lags: dict[bool, list[float]] = {False: [], True: []}
    async with Node(cluster="storms", listen=f"{host}:0", discovery=[Seeds([address])], hosts=[]) as node:
        asked = node.ref(Asked, "one")
        await asking(asked, 1.0, [])
        before = await asked.noticed()
        for _ in range(rounds):
            for attacked in (False, True):
                async with attacking(attacker) if attacked else contextlib.nullcontext():
                    await asyncio.sleep(1.0)  # what the attacker has left ends
                    await asked.lags()
                    await asking(asked, seconds, asks[attacked])
                    lags[attacked] += await asked.lags()
        strangers, changes = (now - then for now, then in zip(await asked.noticed(), before, strict=True))
    idle, under_attack = (load(asks[attacked], lags[attacked]) for attacked in (False, True))
    return {"idle": asdict(idle), "attacked": asdict(under_attack), "strangers": strangers, "changes": changes}


# ---- the three together ----------------------------------------------------------------------------


def role(host: Host | None, *words: str) -> list[str]:
    """Return the command that runs a part of this on one of the hosts, or here."""
    command = [sys.executable, "-m", MODULE, *words]
    return command if host is None else host.command(*command)


@contextlib.contextmanager
def hosts() -> Iterator[tuple[Host | None, Host | None, Host | None]]:
    """Give hosts to who is asked, who asks and who attacks, or none where that cannot be."""
    if why_not() is not None:
        yield None, None, None
        return
    with lan(3) as (asked, asking, attacker):
        for number in range(ADDRESSES):
            added = attacker.command("ip", "address", "add", f"10.77.0.{100 + number}/24", "dev", "eth0")
            subprocess.run(added, check=True)
        yield asked, asking, attacker


async def storms(*, seconds: float = 5.0, rounds: int = 3, half_open: int = 500, handshakes: int = 200) -> StormFigures:
    """Measure; takes a little more than twice `seconds` times `rounds`."""
    with tempfile.TemporaryDirectory() as folder, hosts() as (asked, asker, attacker):
        path = Path(folder) / "secret"
        write_private(path, Secret((new_key(time.time()),)).render())
        environment = {**os.environ, "RINGCAST_SECRET_FILE": str(path)}
        here, there = ("127.0.0.1" if host is None else host.address for host in (asked, asker))
        sources = ["127.0.0.1"] if attacker is None else [f"10.77.0.{100 + number}" for number in range(ADDRESSES)]
        server = await asyncio.create_subprocess_exec(
            *role(asked, "server", here), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        try:
            assert server.stdout is not None
            address = (await server.stdout.readline()).decode().strip()
            attack = role(attacker, "attack", address, str(half_open), str(handshakes), *sources)
            words = ("ask", address, there, str(seconds), str(rounds), "nice", "-n", "19", *attack)
            asking = await asyncio.create_subprocess_exec(*role(asker, *words), stdout=subprocess.PIPE, env=environment)
            found, _ = await asking.communicate()
        finally:
            assert server.stdin is not None
            server.stdin.close()
            await server.wait()
    figures = json.loads(found.splitlines()[-1])
    return StormFigures(
        Load(**figures["idle"]),
        Load(**figures["attacked"]),
        half_open,
        handshakes,
        figures["strangers"],
        figures["changes"],
        0 if attacker is None else ADDRESSES,
    )


def main() -> None:
    figures = run(storms())
    where = f"from {figures.addresses} addresses of a LAN" if figures.addresses else "on the loopback"
    table = Table(title=f"{figures.half_open} half-open connections, {figures.handshakes} handshakes a second, {where}")
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
        case ["server", host]:
            run(server(host))
        case ["attack", address, half_open, handshakes, *sources]:
            with contextlib.suppress(BaseExceptionGroup):
                run(attack(address, int(half_open), int(handshakes), sources))
        case ["ask", address, host, seconds, rounds, *attacker]:
            print(json.dumps(run(measured(address, host, float(seconds), int(rounds), attacker))))
        case _:
            main()
