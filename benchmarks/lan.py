"""Nodes on a LAN of network namespaces find each other by zeroconf; strangers reach no decoder.

Four hosts share a secret and nothing else. A fifth has another secret: it announces itself, then names
the four as seeds, then repeats every datagram that it can see. A sixth has none: it speaks to every
port as an unguarded node would, and with garbage.

    python -m benchmarks.lan          # root, `ip`

A host counts whose envelopes and whose frames its decoders were given: nobody's but the four's.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest import mock

from benchmarks.namespaces import Host, lan, why_not
from ringcast import ConfigError, HandshakeRefused, Node, Seeds, Zeroconf, run
from ringcast.discovery.claim import Claim
from ringcast.discovery.codec import Codec
from ringcast.discovery.messages import Envelope, Exchange
from ringcast.discovery.preamble import preamble
from ringcast.runtime.connection import Connection
from ringcast.security.channels import ALPN
from ringcast.security.secret import Secret, new_key

CLUSTER = "lan"
PORT = 7400
MEMBERS = 4
LIMIT = 30.0


@dataclass(frozen=True)
class Found:
    """What the LAN did.

    Attributes:
        seconds: From when the last of the four began to start its node until all had all four in their views.
        decoded: Whose envelopes and hellos the four's decoders were given, beyond the four's own.
        refused: What the fifth was told when it named the four as seeds.
        unguarded: What a node without a secret is told when it wants to listen on the LAN.
        strangers: Datagrams and connections of strangers that the four counted.
    """

    seconds: float
    decoded: list[str]
    refused: str
    unguarded: str
    strangers: int


# ---- on the hosts ----------------------------------------------------------------------------------


async def member(secret: str, until: str) -> None:
    """Be one of the four; print views, and at the end whose bytes were decoded."""
    decoded: set[str] = set()
    decode, hello = Codec.decode, Connection._batch

    def decoding(codec: Codec, data: bytes) -> Any:
        envelope = decode(codec, data)
        decoded.add(envelope.sender.id if isinstance(envelope, Envelope) else f"undecodable: {data[:40]!r}")
        return envelope

    def greeting(connection: Connection, data: bytes, view: memoryview, start: int, size: int) -> None:
        if connection.link is None:
            begins = data[start : start + 40]
            decoded.add(cast(str, getattr(connection.identity, "name", None) or f"nobody: {begins!r}"))
        hello(connection, data, view, start, size)

    mock.patch.object(Codec, "decode", decoding).start()
    mock.patch.object(Connection, "_batch", greeting).start()
    node = Node(cluster=CLUSTER, listen=f"0.0.0.0:{PORT}", secret=secret)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(json.dumps({"starting": time.time()}), flush=True)
    async with node:
        said: tuple[str, ...] = ()
        while not stop.is_set():
            ids = tuple(sorted(found.id for found in node.members))
            if ids != said:
                said = ids
                print(json.dumps({"at": time.time(), "id": node.id, "members": ids}), flush=True)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.02)
        print(json.dumps({"id": node.id, "decoded": sorted(decoded), "stats": node.stats()}), flush=True)


async def outsider(secret: str, until: str) -> None:
    """Have another secret: first be seen by multicast, then knock at the four's ports."""
    async with Node(cluster=CLUSTER, listen=f"0.0.0.0:{PORT}", secret=secret, discovery=[Zeroconf()]) as node:
        await asyncio.sleep(float(until))
        alone = len(node.members)
    seeds = [f"10.77.0.{number}:{PORT}" for number in range(1, MEMBERS + 1)]
    try:
        async with Node(cluster=CLUSTER, listen=f"0.0.0.0:{PORT}", secret=secret, discovery=[Seeds(seeds)]):
            answer = "joined"
    except HandshakeRefused as error:
        answer = str(error)
    print(json.dumps({"members": alone, "refused": answer}), flush=True)


async def stranger(secret: str, until: str) -> None:
    """Have no secret: try to be a node, then speak to the four in clear, well-formed and not."""
    try:
        Node(cluster=CLUSTER, listen=f"0.0.0.0:{PORT}", discovery=[])
        answer = "made"
    except ConfigError as error:
        answer = str(error)
    claim = Claim("stranger", f"10.77.0.{MEMBERS + 2}:{PORT}", time.time_ns() // 1_000_000)
    words = Codec(CLUSTER).encode(Envelope(claim, Exchange(True)))
    frame = len(words).to_bytes(4, "big") + words
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for number in range(1, MEMBERS + 1):
        for data in (words, b"", b"\0" * 1400, frame * 3):
            for _ in range(25):
                udp.sendto(data, (f"10.77.0.{number}", PORT))
        for channel in (*ALPN, b"?"):
            for data in (frame, b"\x16\x03\x01\xff\xff" + b"\0" * 500, b"", b"\xff" * 5000):
                with contextlib.suppress(OSError), socket.create_connection((f"10.77.0.{number}", PORT), 1) as tcp:
                    tcp.sendall(preamble(channel) + data)
                    tcp.settimeout(0.05)
                    tcp.recv(100)
    print(json.dumps({"refused": answer}), flush=True)


ROLES = {"member": member, "outsider": outsider, "stranger": stranger}


# ---- from outside ----------------------------------------------------------------------------------


class Process:
    """A role on a host; what it printed is kept."""

    def __init__(self, host: Host, role: str, secret: Path, until: float) -> None:
        """Start it."""
        words = (sys.executable, "-m", "benchmarks.lan", role, str(secret), str(until))
        self.lines: list[dict[str, Any]] = []
        self.process = subprocess.Popen(host.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.errors = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._complainer = threading.Thread(target=self._complain, daemon=True)
        self._reader.start()
        self._complainer.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                self.lines.append(json.loads(line))

    def _complain(self) -> None:
        assert self.process.stderr is not None
        self.errors = self.process.stderr.read()

    def members(self) -> list[str]:
        """Return whom it saw last."""
        return self.lines[-1].get("members", []) if self.lines else []

    def close(self) -> None:
        """Wait for its end, and let its pipes go."""
        self.process.wait(LIMIT)
        self._reader.join(LIMIT)
        self._complainer.join(LIMIT)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdout.close()
        self.process.stderr.close()

    def end(self) -> dict[str, Any]:
        """Wait for its end; return its last words."""
        self.close()
        if self.process.returncode or not self.lines:
            raise RuntimeError(f"a host ended with {self.process.returncode}: {self.errors[-2000:]}")
        return self.lines[-1]


@contextlib.contextmanager
def started(hosts: Sequence[Host], role: str, secret: Path, until: float = 0.0) -> Iterator[list[Process]]:
    """Run a role on hosts; end it when the block ends."""
    processes = [Process(host, role, secret, until) for host in hosts]
    try:
        yield processes
    finally:
        for process in processes:
            if process.process.poll() is None:
                process.process.kill()
            process.close()


def measured() -> Found:
    """Make the LAN, run everybody on it, and return what happened."""
    with tempfile.TemporaryDirectory() as folder, lan(MEMBERS + 2) as hosts:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        for path in (ours, theirs):
            path.touch(mode=0o600)
            path.write_text(Secret((new_key(time.time()),)).render())
        with started(hosts[:MEMBERS], "member", ours) as four:
            until = time.time() + LIMIT
            while not all(len(one.members()) == MEMBERS for one in four):
                if time.time() > until:
                    raise TimeoutError(f"they see {[one.members() for one in four]}: {[one.errors for one in four]}")
                time.sleep(0.02)
            seconds = max(one.lines[-1]["at"] for one in four) - max(one.lines[0]["starting"] for one in four)
            with started(hosts[4:5], "outsider", theirs, 3.0) as fifth, started(hosts[5:], "stranger", theirs) as sixth:
                refused, unguarded = fifth[0].end(), sixth[0].end()
            assert refused["members"] == 1, "the fifth found somebody"
            for one in four:
                one.process.terminate()
            last = [one.end() for one in four]
    known = {one["id"] for one in last}
    assert all(known & set(one["decoded"]) for one in last), "the decoders were not watched"
    return Found(
        seconds,
        sorted({name for one in last for name in one["decoded"]} - known),
        str(refused["refused"]),
        str(unguarded["refused"]),
        sum(int(one["stats"].get(f"membership_{name}", 0)) for one in last for name in ("unsealed", "strangers")),
    )


def main() -> None:
    """Run a role, or all of it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("role", nargs="?", choices=ROLES)
    options.add_argument("secret", nargs="?", default="")
    options.add_argument("until", nargs="?", default="0")
    given = options.parse_args()
    if given.role is not None:
        run(ROLES[given.role](given.secret, given.until))
    elif (reason := why_not()) is not None:
        sys.exit(reason)
    else:
        print(measured())


if __name__ == "__main__":
    main()
