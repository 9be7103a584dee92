"""A client with a credential that sends the worst it can think of: what its node and the others notice.

``python -m benchmarks.hostile_client`` prints the figures; `storm` returns them.

A node in a process of its own takes the client, and hosts the actors that it calls. A member beside it
asks one of its actors at a steady rate, without and with the attack. The client, in a third process,
sends frames of each of the `KINDS` in turn over `LINES` connections, `FRAMES_PER_SECOND` if the node
takes them so quickly, and dials anew whenever it is closed. It never reads an answer.

What is watched: the greatest memory of the node's process over what it had before, and how long the
member's asks take.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgpack

from ringcast import Actor, Node, Seeds, handler, run
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.runtime import wire
from ringcast.runtime.callframe import KEY_MAX
from ringcast.runtime.extensions import Code
from ringcast.runtime.uplink import framed
from ringcast.security.channels import CLIENTS
from ringcast.security.credential import Credential, issue
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key

from .child import Child, ready

__all__ = ["ClientFigures", "storm"]

FRAMES = 1000
"""Frames that the attack consists of."""
FRAMES_PER_SECOND = 200
LINES = 4
"""Connections that the attacker holds at a time."""
ASKS_PER_SECOND = 200
MODULE = "benchmarks.hostile_client"
CLUSTER = "hostile-client"
SEALED_MAX = (16 << 20) - 512
"""A little less than the largest message that a node takes from a client."""

_packb = cast("Callable[[Any], bytes]", cast(Any, msgpack).packb)


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """What an authenticated client's worst frames cost.

    Attributes:
        frames: How many were sent.
        closed: How often the node closed the client's connection.
        refused: Calls that the node refused by a rule.
        grown_mib: How much more memory the node's process had at its peak than before.
        idle_p99: Seconds that a hundredth of the member's asks took, or longer, without the attack.
        attacked_p99: The same with it.
    """

    frames: int
    closed: int
    refused: int
    grown_mib: float
    idle_p99: float
    attacked_p99: float

    @property
    def factor(self) -> float:
        """How much longer the slowest hundredth of asks takes under attack."""
        return self.attacked_p99 / self.idle_p99


class Open(Actor, expose=True):
    """What the client may call."""

    async def take(self, value: object = None) -> None: ...

    async def sit(self, value: object = None) -> None:
        await asyncio.sleep(3600)

    @handler(read_only=True)
    async def much(self, count: int) -> bytes:
        return bytes(count)


class Inside(Actor):
    """What members ask."""

    async def echo(self, number: int) -> int:
        return number

    async def refused(self) -> int:
        [node] = nodes
        return int(node.stats()["refused_calls"])


nodes: list[Node] = []


# ---- the frames ----------------------------------------------------------------------------------

_numbers = itertools.count(1)
_OPEN = f"{MODULE}:Open"
_BYTES_APART = cast(Any, msgpack).ExtType(int(Code.BYTES_APART), b"\x00")


def batch(*frames: list[Any]) -> bytes:
    """Return frames as one batch."""
    body = b"".join(map(_packb, frames))
    return wire.HEAD.pack(len(body)) + body


def call(method: str, sealed: Any, key: Any = "k", *, number: int | None = None, name: str = _OPEN) -> list[Any]:
    """Return a call."""
    number = next(_numbers) if number is None else number
    return [wire.CALL, number, name, method, key, None, 60_000, sealed, None]


def large(method: str, sealed: bytes, *, key: Any = "k", claimed: int | None = None) -> bytes:
    """Return a call in pieces; with `claimed` it says that more comes, which does not."""
    head, number = _packb(call(method, _BYTES_APART, key)), next(_numbers) & 0xFFFF
    data = batch([wire.BULK, number, [len(head), claimed or len(sealed)]])
    rest = head + sealed
    for start in range(0, len(rest), wire.PIECE_BYTES):
        piece = rest[start : start + wire.PIECE_BYTES]
        data += wire.PIECE_HEAD.pack(wire.PIECE_BIT | (len(piece) + 4), number) + piece
    return data


def sealed(value: bytes) -> bytes:
    """Return arguments of one value that is packed already."""
    return b"\x92\x91" + value + b"\x80"


def nested(depth: int) -> bytes:
    return sealed(b"\x91" * depth + b"\xc0")


def array_of(element: bytes, size: int) -> bytes:
    count = size // len(element)
    return sealed(b"\xdd" + struct.pack("!I", count) + element * count)


def colliding(count: int) -> bytes:
    """Return a dict whose keys, integers, all have one hash."""
    modulus = (1 << 61) - 1
    keys = (n * modulus for n in range(1, count + 1) if n * modulus < 1 << 63)
    pairs = [_packb(key) + b"\xc0" for key in keys]
    return sealed(b"\xdf" + struct.pack("!I", len(pairs)) + b"".join(pairs))


def tower(levels: int) -> bytes:
    """Return extensions inside one another."""
    data = b"\xc0"
    for _ in range(levels):
        data = b"\xc9" + struct.pack("!I", len(data)) + bytes([Code.TUPLE]) + data
    return sealed(data)


EMPTY = sealed(b"\xc0")

KINDS: dict[str, Callable[[], bytes]] = {
    "a call of a new key": lambda: batch(call("take", EMPTY, next(_numbers))),
    "a call that never ends": lambda: batch(call("sit", EMPTY, next(_numbers))),
    "a told message": lambda: batch(call("take", EMPTY, number=0)),
    "a large message of empty dicts": lambda: large("take", array_of(b"\x80", SEALED_MAX)),
    "a large message of numbers": lambda: large("take", array_of(b"\xcf" + b"\xff" * 8, SEALED_MAX)),
    "as many dicts as are taken": lambda: large("take", array_of(b"\x81\xa0\xc0", 3 * 32_000)),
    "a large message that waits": lambda: large("sit", sealed(b"\xc6" + struct.pack("!I", 8 << 20) + bytes(8 << 20))),
    "a large message that stops": lambda: large("take", bytes(1 << 20), claimed=SEALED_MAX),
    "lists in lists": lambda: batch(call("take", nested(15_000))),
    "extensions in extensions": lambda: batch(call("take", tower(2_500))),
    "a list that claims 4 G elements": lambda: batch(call("take", sealed(b"\xdd\xff\xff\xff\xff"))),
    "keys of one hash": lambda: batch(call("take", colliding(4_000))),
    "a pickle": lambda: batch(call("take", sealed(b"\xc7\x03" + bytes([Code.PICKLE]) + b"\xc4\x01."))),
    "a large answer, not read": lambda: batch(call("much", sealed(_packb(8 << 20)))),
    "a class that nobody has": lambda: batch(call("m", EMPTY, name=f"m:C{next(_numbers)}")),
    "a method that nobody has": lambda: batch(call(f"m{next(_numbers)}", EMPTY)),
    "a ref to a class that nobody has": lambda: batch(call("take", _ref_to_nobody())),
    "a key that is too long": lambda: batch(call("take", EMPTY, "k" * (KEY_MAX + 1))),
    "a call whose number is taken": lambda: batch(call("sit", EMPTY, number=1), call("sit", EMPTY, number=1)),
    "a negative number": lambda: batch(call("take", EMPTY, number=-5)),
    "a definition": lambda: batch([wire.DEFINE, 1, "m:D", "m", False, b"\x80"]),
    "a verb of nodes": lambda: batch([wire.SYSTEM, 1, "stop", _OPEN, "k"]),
    "a request of nodes": lambda: batch([wire.REQUEST, 1, 1, "k", 1000, 0]),
    "an answer to nothing": lambda: batch([wire.REPLY, 1, b"\xc0"]),
    "a move": lambda: batch([wire.MOVED, 1, "node", 1]),
    "a grant": lambda: batch([wire.GRANT, _OPEN, "k", None, 1 << 30]),
    "a cancel of nothing": lambda: batch([wire.CANCEL, next(_numbers), True]),
    "a pull of very much": lambda: batch([wire.PULL, 1, 1 << 62]),
    "pieces taken that were not sent": lambda: batch([wire.ACK, 1 << 40]),
    "a piece of nothing": lambda: wire.PIECE_HEAD.pack(wire.PIECE_BIT | 104, 77) + bytes(100),
    "a large message of no size": lambda: batch([wire.BULK, next(_numbers), [0]]),
    "a batch that is too large": lambda: wire.HEAD.pack(wire.MAX_BATCH) + bytes(1000),
    "no frame": lambda: wire.HEAD.pack(5000) + os.urandom(5000),
}
"""By name: what makes a worst case, one frame (with what has to come before or after it)."""


def _ref_to_nobody() -> bytes:
    parts = _packb([f"nobody:R{next(_numbers)}", "k", None])
    return sealed(b"\xc7" + bytes([len(parts), Code.REF]) + parts)


# ---- the node ------------------------------------------------------------------------------------


async def server() -> None:
    async with Node(cluster=CLUSTER, discovery=[]) as node:
        nodes.append(node)
        ready(f"{node.address} {os.getpid()}")
        await asyncio.Event().wait()


# ---- the attacker --------------------------------------------------------------------------------


async def attack(address: str, credential: Path, frames: int) -> None:
    """Send frames; print a line for each that was sent, and for each time that the node closed the connection."""
    context = Credential.read(credential).dialling()
    loop, kinds = asyncio.get_running_loop(), itertools.cycle(KINDS.values())
    due: asyncio.Queue[bytes] = asyncio.Queue(LINES)

    async def line() -> None:
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, split_address(address))
            await loop.sock_sendall(sock, preamble(CLIENTS))
            _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname="", limit=1 << 12)
            hello = {"protocol": list(wire.PROTOCOL), "cluster": CLUSTER, "max_message": 1 << 30, "in_flight": 1 << 30}
            writer.write(framed(hello))
            try:
                while True:
                    data = await due.get()
                    if writer.transport.is_closing():
                        due.put_nowait(data)
                        return
                    writer.write(data)
                    async with asyncio.timeout(2.0):
                        await writer.drain()
                    print("sent", flush=True)
            finally:
                writer.transport.abort()

    async def lines() -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncio.QueueFull):
                await line()
            print("closed", flush=True)
            await asyncio.sleep(0.01)

    held = [asyncio.create_task(lines()) for _ in range(LINES)]
    began = loop.time()
    for count in range(frames):
        await due.put(next(kinds)())
        await asyncio.sleep(began + count / FRAMES_PER_SECOND - loop.time())
    while not due.empty():  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    print("over", flush=True)
    await asyncio.gather(*held)


class _Attack:
    """The attacker's process; what it has done is in a file."""

    def __init__(self, address: str, credential: Path, report: Path, frames: int) -> None:
        self._report = report
        with report.open("w") as file:
            attack = ["attack", address, str(credential), str(frames)]
            command = ["nice", "-n", "19", sys.executable, "-m", MODULE, *attack]
            self._process = subprocess.Popen(command, stdout=file)

    def done(self) -> tuple[int, int, bool]:
        """Return how many frames were sent, how often it was closed, and whether it is over."""
        words = self._report.read_text().split()
        return words.count("sent"), words.count("closed"), "over" in words

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


# ---- the member ----------------------------------------------------------------------------------


async def asking(inside: Inside, seconds: float) -> list[float]:
    """Ask at a steady rate, whatever becomes of the asks before; return how long each took."""
    loop, took = asyncio.get_running_loop(), list[float]()

    async def one(number: int) -> None:
        began = time.perf_counter()
        await inside.echo(number)
        took.append(time.perf_counter() - began)

    async with asyncio.TaskGroup() as group:
        began = loop.time()
        for number in range(int(seconds * ASKS_PER_SECOND)):
            await asyncio.sleep(max(0.0, began + number / ASKS_PER_SECOND - loop.time()))
            group.create_task(one(number))
    return took


def _p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


def _kib(pid: int, what: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1])
    raise RuntimeError(f"this system does not tell a process's {what}")


async def storm(*, frames: int = FRAMES, seconds: float = 5.0) -> ClientFigures:
    """Measure; takes `seconds`, and for as long as the node needs for `frames` frames."""
    with tempfile.TemporaryDirectory() as name:
        folder, secret = Path(name), Secret((new_key(time.time()),))
        write_private(folder / "secret", secret.render())
        credential = issue(secret, CLUSTER, "client", "worst", now=time.time(), ttl=3600.0)
        write_private(folder / "credential", credential.render())
        before = os.environ.get("RINGCAST_SECRET_FILE")
        os.environ["RINGCAST_SECRET_FILE"] = str(folder / "secret")
        try:
            child = Child(MODULE)
        finally:
            del os.environ["RINGCAST_SECRET_FILE"]
            if before is not None:
                os.environ["RINGCAST_SECRET_FILE"] = before
        with child:
            return await _measured(child, folder, frames, seconds)


async def _measured(child: Child, folder: Path, frames: int, seconds: float) -> ClientFigures:
    address, pid = child.address.split()
    async with Node(cluster=CLUSTER, discovery=[Seeds([address])], hosts=[], secret=folder / "secret") as node:
        inside = node.ref(Inside, "one")
        await asking(inside, 1.0)
        idle = await asking(inside, seconds)
        kib = _kib(int(pid), "VmRSS")
        _forget_peak(int(pid))
        attacker, attacked = _Attack(address, folder / "credential", folder / "report", frames), list[float]()
        try:
            while not attacker.done()[2]:
                attacked += await asking(inside, 0.5)
            sent, closed, _ = attacker.done()
        finally:
            attacker.end()
        grown = (_kib(int(pid), "VmHWM") - kib) / 1024
        return ClientFigures(sent, closed, await inside.refused(), grown, _p99(idle), _p99(attacked))


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew


def main() -> None:
    figures = run(storm())
    print(
        f"{figures.frames:,} frames, {figures.closed} times closed, {figures.refused:,} calls refused by a rule; "
        f"{figures.grown_mib:.1f} MiB more at the peak (at most 128); the member's p99 {figures.idle_p99 * 1e3:.1f} -> "
        f"{figures.attacked_p99 * 1e3:.1f} ms, {figures.factor:.2f} times (at most 3)"
    )
    sys.exit(figures.grown_mib > 128 or figures.factor > 3)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", *_]:
            run(server())
        case ["attack", address, credential, frames]:
            run(attack(address, Path(credential), int(frames)))
        case _:
            main()
