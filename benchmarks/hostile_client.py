"""A client with a credential that sends the worst it can think of: what its node and the others notice.

``python -m benchmarks.hostile_client`` prints the figures; `storm` returns them.

A node in a process of its own takes the client, and hosts the actors that it calls. A member beside it
asks one of its actors at a steady rate, without and with the attack. The client, in a third process,
sends frames of each of the `KINDS` in turn over `LINES` connections, `FRAMES_PER_SECOND` if the node
takes them so quickly. It dials anew whenever it is closed, and whenever a connection takes nothing for
`PATIENCE`; beside that it dials `KNOCKS_PER_SECOND` times and hangs up when it is let in. It never reads
an answer.

It goes on until so many frames are sent and the node has dealt with as many calls, for `LONGEST` seconds
at most, for a node may make it wait. What waits in a socket does not count as dealt with.

There are `ROUNDS` of it, each with a new client and a while without one before it, and the middle one of
the rounds counts: other programs of the machine are noticed, too.

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

from ringcast import Actor, Node, NodeConfig, Seeds, handler, run
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.runtime import wire
from ringcast.runtime.allowance import CLIENT_BATCH
from ringcast.runtime.callframe import KEY_MAX
from ringcast.runtime.clientlink import WEIGHED
from ringcast.runtime.extensions import Code
from ringcast.runtime.uplink import framed
from ringcast.runtime.weigh import EXTENSION_VALUES
from ringcast.security.channels import CLIENTS
from ringcast.security.credential import Credential, issue
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key

from .child import Child, ready

__all__ = ["ClientFigures", "storm"]

FRAMES = 1000
"""Frames that are sent, and calls that the node deals with, at least."""
FRAMES_PER_SECOND = 200
LINES = 4
"""Connections that the attacker holds at a time."""
PATIENCE = 2.0
"""Seconds that a line may take nothing."""
KNOCKS_PER_SECOND = 20
LONGEST = 60.0
"""Seconds that the attack takes at most, in all."""
ROUNDS = 3
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
        sent: How many frames were sent.
        calls: How many calls the node dealt with.
        closed: How often a connection of the client ended.
        refused: Calls that the node refused by a rule.
        grown_mib: How much more memory the node's process had at its peak than before.
        p99s: By round: seconds that a hundredth of the member's asks took, or longer, without the attack and
            with it.
    """

    sent: int
    calls: int
    closed: int
    refused: int
    grown_mib: float
    p99s: tuple[tuple[float, float], ...]

    @property
    def middle(self) -> tuple[float, float]:
        """The `p99s` of the round whose factor is the middle one."""
        return sorted(self.p99s, key=lambda p99s: p99s[1] / p99s[0])[len(self.p99s) // 2]

    @property
    def factor(self) -> float:
        """How much longer the slowest hundredth of asks takes under attack."""
        idle, attacked = self.middle
        return attacked / idle


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

    async def dealt_with(self) -> tuple[int, int, int]:
        """Return how many calls clients have made, how many a rule has refused, and how many clients are there."""
        [node] = nodes
        stats = node.stats()
        return int(stats["client_calls"]), int(stats["refused_calls"]), int(stats["clients"])


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
    keys = (_packb((n * modulus).to_bytes(10, "little")) for n in range(1, count + 1))
    pairs = [b"\xc7" + bytes([len(key), Code.BIG_INT]) + key + b"\xc0" for key in keys]
    return b"\xdf" + struct.pack("!I", len(pairs)) + b"".join(pairs)


def tower(levels: int) -> bytes:
    """Return extensions inside one another."""
    data = b"\xc0"
    for _ in range(levels):
        data = b"\xc9" + struct.pack("!I", len(data)) + bytes([Code.TUPLE]) + data
    return sealed(data)


EMPTY = sealed(b"\xc0")
LIMITS = NodeConfig()
_EXTENSIONS = LIMITS.client_max_values // EXTENSION_VALUES
_TUPLE = b"\xd4" + bytes([Code.TUPLE]) + b"\x90"
_COLLIDING = colliding(LIMITS.client_max_hashed)

KINDS: dict[str, Callable[[], bytes]] = {
    "a call of a new key": lambda: batch(call("take", EMPTY, next(_numbers))),
    "a call that never ends": lambda: batch(call("sit", EMPTY, next(_numbers))),
    "a told message": lambda: batch(call("take", EMPTY, number=0)),
    "a large message of empty dicts": lambda: large("take", array_of(b"\x80", SEALED_MAX)),
    "a large message of numbers": lambda: large("take", array_of(b"\xcf" + b"\xff" * 8, SEALED_MAX)),
    "as many dicts as are taken": lambda: large("take", array_of(b"\x80", LIMITS.client_max_values)),
    "as many extensions as are taken": lambda: large("take", array_of(_TUPLE, _EXTENSIONS * len(_TUPLE))),
    "as many extensions as nobody counts": lambda: batch(call("take", array_of(_TUPLE, WEIGHED - 8))),
    "as many small frames as are taken": lambda: batch(*([wire.CANCEL, 1, True] for _ in range(CLIENT_BATCH // 4))),
    "a large message that waits": lambda: large("sit", sealed(b"\xc6" + struct.pack("!I", 8 << 20) + bytes(8 << 20))),
    "a large message that stops": lambda: large("take", bytes(1 << 20), claimed=SEALED_MAX),
    "lists in lists": lambda: batch(call("take", nested(15_000))),
    "extensions in extensions": lambda: batch(call("take", tower(2_500))),
    "a list that claims 4 G elements": lambda: batch(call("take", sealed(b"\xdd\xff\xff\xff\xff"))),
    "keys of one hash": lambda: batch(call("take", sealed(colliding(4_000)))),
    "as many keys of one hash as are taken": lambda: batch(call("take", array_of(_COLLIDING, 3 * len(_COLLIDING)))),
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


async def attack(address: str, credential: Path) -> None:
    """Send frames for ever; print a line for each that was sent, and for each connection that has ended."""
    context = Credential.read(credential).dialling()
    loop = asyncio.get_running_loop()
    due: asyncio.Queue[bytes] = asyncio.Queue(LINES)

    async def dialled(sock: socket.socket) -> asyncio.StreamWriter:
        sock.setblocking(False)
        await loop.sock_connect(sock, split_address(address))
        await loop.sock_sendall(sock, preamble(CLIENTS))
        _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname="", limit=1 << 12)
        return writer

    async def line() -> None:
        with socket.socket() as sock:
            writer = await dialled(sock)
            hello = {"protocol": list(wire.PROTOCOL), "cluster": CLUSTER, "max_message": 1 << 30, "in_flight": 1 << 30}
            writer.write(framed(hello))
            try:
                while True:
                    data = await due.get()
                    if writer.transport.is_closing():
                        due.put_nowait(data)
                        return
                    writer.write(data)
                    async with asyncio.timeout(PATIENCE):
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

    async def knocks() -> None:
        while True:
            with contextlib.suppress(OSError), socket.socket() as sock:
                (await dialled(sock)).transport.abort()
            await asyncio.sleep(1 / KNOCKS_PER_SECOND)

    async def frames() -> None:
        for kind in itertools.cycle(KINDS.values()):
            await due.put(kind())
            await asyncio.sleep(1 / FRAMES_PER_SECOND)

    await asyncio.gather(*(lines() for _ in range(LINES)), knocks(), frames())


class _Attack:
    """The attacker's process; what it has done is in a file."""

    def __init__(self, address: str, credential: Path, report: Path) -> None:
        self._report = report
        with report.open("w") as file:
            command = ["nice", "-n", "19", sys.executable, "-m", MODULE, "attack", address, str(credential)]
            self._process = subprocess.Popen(command, stdout=file)

    @property
    def sent(self) -> int:
        """How many frames were sent."""
        return self._report.read_text().count("sent")

    @property
    def closed(self) -> int:
        """How many connections have ended."""
        return self._report.read_text().count("closed")

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


async def storm(*, frames: int = FRAMES, seconds: float = 5.0, longest: float = LONGEST) -> ClientFigures:
    """Measure; takes `seconds`, and for as long as the node needs for `frames` frames, `longest` seconds at most."""
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
            return await _measured(child, folder, frames, seconds, longest)


async def _measured(child: Child, folder: Path, frames: int, seconds: float, longest: float) -> ClientFigures:
    address, pid = child.address.split()
    async with Node(cluster=CLUSTER, discovery=[Seeds([address])], hosts=[], secret=folder / "secret") as node:
        inside, p99s, sent, closed = node.ref(Inside, "one"), list[tuple[float, float]](), 0, 0
        await asking(inside, 1.0)
        kib = _kib(int(pid), "VmRSS")
        _forget_peak(int(pid))
        for turn in range(1, ROUNDS + 1):
            while (await inside.dealt_with())[2]:
                await asking(inside, 0.5)  # what is left of the round before
            idle, attacked = await asking(inside, seconds), list[float]()
            attacker = _Attack(address, folder / "credential", folder / "report")
            try:
                until, due = time.monotonic() + longest / ROUNDS, frames * turn // ROUNDS
                while time.monotonic() < until and min(attacker.sent + sent, (await inside.dealt_with())[0]) < due:
                    took = await asking(inside, 0.5)
                    if attacker.sent:  # it takes its time to start
                        attacked += took
                sent, closed = sent + attacker.sent, closed + attacker.closed
            finally:
                attacker.end()
            p99s.append((_p99(idle), _p99(attacked)))
        grown = (_kib(int(pid), "VmHWM") - kib) / 1024
        calls, refused, _ = await inside.dealt_with()
        return ClientFigures(sent, calls, closed, refused, grown, tuple(p99s))


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # VmHWM begins anew


def main() -> None:
    figures = run(storm())
    for idle, attacked in figures.p99s:
        print(f"the member's p99 {idle * 1e3:.1f} -> {attacked * 1e3:.1f} ms, {attacked / idle:.2f} times")
    print(
        f"{figures.sent:,} frames sent, {figures.calls:,} calls dealt with, {figures.closed} connections ended, "
        f"{figures.refused:,} calls refused by a rule; {figures.grown_mib:.1f} MiB more at the peak (at most 128); "
        f"{figures.factor:.2f} times the member's p99 (at most 3)"
    )
    sys.exit(figures.grown_mib > 128 or figures.factor > 3)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["server", *_]:
            run(server())
        case ["attack", address, credential]:
            run(attack(address, Path(credential)))
        case _:
            main()
