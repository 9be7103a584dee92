"""Damaged bytes at everything that a stranger's bytes reach before anyone is authenticated.

``python -m benchmarks.hostile_bytes 10000000`` feeds that many inputs, in this process and without
sockets, so that millions are possible: sealed datagrams, preambles, TLS handshakes on each channel,
and the frames of a handshake that goes on as if it had succeeded. Each is made from a valid one, or
from nothing. What must not happen: an error that nobody catches, an input that is taken, memory that
stays, or a large allocation for a length that was only claimed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.hostile_gossip import Memory, damage
from ringcast.discovery.claim import Claim
from ringcast.discovery.codec import Codec
from ringcast.discovery.frames import Frames, framed
from ringcast.discovery.link import FIRST_FRAME_BYTES_MAX
from ringcast.discovery.messages import Ack, Envelope
from ringcast.discovery.preamble import channel_of, preamble
from ringcast.discovery.seal import START_RANDOM_BYTES, Seal, Unopened, start_of
from ringcast.security.channels import ALPN, LINKS
from ringcast.security.secret import Secret, new_key
from ringcast.security.trust import Trust
from ringcast.security.tunnel import Tunnel

__all__ = ["Figures", "before_authentication"]

TRACED = 20_000
"""Inputs that are fed once more with every allocation traced, which takes ten times as long."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of damaged inputs.

    Attributes:
        inputs: How many were fed.
        taken: How many were believed.
        crashes: Errors that came out of a decoder, as text; empty is well.
        grown_mib: How much more memory this process had at its peak than before.
        largest_kib: The most that one input made a decoder allocate beyond the input's own size.
        seconds: How long it took.
    """

    inputs: int
    taken: int
    crashes: tuple[str, ...]
    grown_mib: float
    largest_kib: float
    seconds: float


class Wire(asyncio.Transport):
    """Stands for a socket that takes everything and has an end."""

    def __init__(self) -> None:
        super().__init__()
        self.is_gone = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        pass

    def write_eof(self) -> None:
        pass

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        self.is_gone = True

    def close(self) -> None:
        self.is_gone = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Inside(asyncio.Protocol):
    """What is behind TLS: nothing may reach it."""

    def __init__(self) -> None:
        self.was_reached = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.was_reached = True

    def data_received(self, data: bytes) -> None:
        self.was_reached = True


class Doors:
    """The decoders, each with something valid to start from. Each feeds one input, and says if it was taken."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        keys = new_key(time.time()), new_key(0)
        secret = Secret(keys).render().encode()
        self.trust = Trust.found(secret, "hostile", node_id="victim")
        now = time.time_ns() // 1_000_000
        sender = Seal(self.trust.gossip_keys, start_of(now, rng.randbytes(START_RANDOM_BYTES)))
        self.seal = Seal(self.trust.gossip_keys, start_of(now, rng.randbytes(START_RANDOM_BYTES)))
        words = Codec("hostile").encode(Envelope(Claim("peer", "127.0.0.1:7400", now), Ack(1)))
        self.datagrams = [sender.seal(words, "victim", 1) for _ in range(64)]
        self.hello = _first_flight(self.trust.dialling(LINKS))
        self.frame = framed(words)

    def datagram(self) -> bool:
        wrong = damage(self.rng, self.rng.choice(self.datagrams))
        return wrong not in self.datagrams and not isinstance(self.seal.open(wrong, "victim", 1), Unopened)

    def preamble(self) -> bool:
        right = preamble(self.rng.choice(list(ALPN)))
        wrong = damage(self.rng, right)[:8]
        return wrong[:5] != right[:5] and channel_of(wrong) is not None

    def handshake(self) -> bool:
        inside, wire = Inside(), Wire()
        context = self.trust.serving(self.rng.choice(list(ALPN)))
        assert context is not None
        tunnel = Tunnel(context, inside, is_server=True)
        tunnel.connection_made(wire)
        wrong = damage(self.rng, self.hello)
        cut = self.rng.randrange(len(wrong) + 1)
        tunnel.data_received(wrong[:cut])
        tunnel.data_received(wrong[cut:])
        tunnel.connection_lost(None)
        return inside.was_reached

    def frames(self) -> bool:
        """Feed what splits a link into frames; on the loopback without TLS a stranger gets this far."""
        frames = Frames(FIRST_FRAME_BYTES_MAX)
        data = self.frame if self.rng.random() < 0.5 else struct.pack(">I", self.rng.randrange(1 << 32)) + self.frame
        frames.add(damage(self.rng, data))
        try:
            while frames.take() is not None:
                pass
        except ValueError:
            pass
        return False


def _first_flight(context: ssl.SSLContext | None) -> bytes:
    assert context is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    end = context.wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        end.do_handshake()
    return outgoing.read()


async def before_authentication(count: int, seed: int = 0) -> Figures:
    """Feed `count` inputs made from `seed`; see the module."""
    rng = random.Random(seed)
    doors = Doors(rng)
    # Sealed datagrams are what a stranger can send most of; a handshake costs a hundred times as much.
    mixture: tuple[Callable[[], bool], ...] = (
        *[doors.datagram] * 12,
        *[doors.preamble] * 3,
        *[doors.frames] * 3,
        *[doors.handshake] * 2,
    )
    for door in mixture:  # what is made once is made now
        door()
    memory, began = Memory(), time.monotonic()
    crashes: dict[str, None] = {}
    taken = 0

    def feed(door: Callable[[], bool]) -> None:
        nonlocal taken
        try:
            taken += door()
        except Exception as error:
            crashes[f"{door.__name__}: {error!r}"] = None

    for number in range(count):
        feed(rng.choice(mixture))
        if number % 1000 == 0:
            await asyncio.sleep(0)  # the tunnels' timers
    grown = memory.grown_mib()
    largest = 0
    tracemalloc.start()
    for _ in range(min(count, TRACED)):
        door = rng.choice(mixture)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        feed(door)
        largest = max(largest, tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    return Figures(count, taken, tuple(crashes), grown, largest / 1024, time.monotonic() - began)


if __name__ == "__main__":
    print(asyncio.run(before_authentication(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)))
