"""The workloads: what is sent, how much of it, how many at a time, and how it is timed.

L1 tell within a process until all are handled; L2 ask, one at a time; L3 ask, 1,000 in flight.
R1 ask from another process, one at a time; R2 the same with 256 in flight; R3 tell from another
process until all are handled; R4 ask that carries 1 MiB one way. S1 activation of 10,000 actors.
N1 is L2, and N2 R2, through an actor that asks another; W1 is L3, and W2 R2, with a handler that suspends once, over
as many actors as are in flight. F1 is a streamed reply, item by item. K1 is an ask at a time from each of 1,000
clients, connected to one node.
M1 is R1 while asks of 64 MiB stream to another actor over the same connection, and I1, its limit, while none do.
R, N2, W2 and F1 are without TLS, as are the limits. E1 to E4 are R1 to R4 with it, held against them. H1 is the
first ask of a new connection.
T1 to T4 and P1 to P3 are the limits of R1 to R4 and of L1, L3 and L2; T5 is that of K1, on 1,000 bare connections.

The drivers here serve both sides, so that what differs between them is only what they call.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

MIB = 1 << 20
BLOB = b"\xa5" * MIB
BULK = bytes(64 * MIB)
NAME = "x" * 32

COUNTS = {
    "L1": 200_000,
    "L2": 20_000,
    "L3": 100_000,
    "R1": 10_000,
    "R2": 100_000,
    "R3": 200_000,
    "R4": 200,
    "S1": 10_000,
    "I1": 10_000,
    "M1": 10_000,
    "H1": 300,
    "N1": 20_000,
    "N2": 50_000,
    "W1": 50_000,
    "W2": 50_000,
    "F1": 1_000_000,
    "K1": 50_000,
    "T1": 10_000,
    "T2": 100_000,
    "T3": 200_000,
    "T4": 200,
    "T5": 50_000,
    "P1": 1_000_000,
    "P2": 500_000,
    "P3": 100_000,
}
IN_FLIGHT = {"L3": 1000, "P2": 1000, "R2": 256, "T2": 256, "N2": 256, "W1": 1000, "W2": 256}
CONNECTIONS = 1000
"""Of K1 and T5; fewer in a run that is scaled down."""
BATCH = 250
"""How many actors S1 asks at once."""

Payload: TypeAlias = dict[str, int | str]

clock = time.perf_counter


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of one workload.

    Attributes:
        bytes_per_actor: What an activated actor leaves resident; S1 alone.
        beside_mb_s: What the large messages reached that streamed meanwhile; M1 alone.
    """

    count: int
    seconds: float
    p50_us: float | None = None
    p99_us: float | None = None
    bytes_per_actor: int | None = None
    beside_mb_s: float | None = None

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.count / self.seconds

    def print(self) -> None:
        """Hand the measurement to the parent process."""
        print(json.dumps(asdict(self)), flush=True)


def payload(i: int) -> Payload:
    return {"id": i, "name": NAME}


def count_of(work: str, scale: float) -> int:
    return max(int(COUNTS[f"R{work[1:]}" if work[0] == "E" else work] * scale), 20)


def connections_of(scale: float) -> int:
    return min(max(int(CONNECTIONS * scale * 10), 4), CONNECTIONS)


async def sequential(call: Callable[[int], Awaitable[object]], count: int, warm: int = 500) -> Measurement:
    """One request at a time, each of them timed."""
    for i in range(min(warm, count)):
        await call(i)
    samples: list[float] = []
    add = samples.append
    start = clock()
    for i in range(count):
        sent = clock()
        await call(i)
        add(clock() - sent)
    return timed(samples, clock() - start)


def timed(samples: list[float], seconds: float) -> Measurement:
    """Return what the durations of single operations tell, all of which took `seconds`."""
    samples.sort()
    count = len(samples)
    p50, p99 = samples[count // 2], samples[int(count * 0.99)]
    return Measurement(count, seconds, p50_us=p50 * 1e6, p99_us=p99 * 1e6)


async def pipelined(call: Callable[[int], Awaitable[object]], count: int, in_flight: int) -> Measurement:
    """`in_flight` coroutines, each with one request outstanding at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for i in numbers:
            await call(i)

    start = clock()
    await asyncio.gather(*[worker() for _ in range(in_flight)])
    return Measurement(count, clock() - start)


async def spread(calls: Sequence[Callable[[int], Awaitable[object]]], count: int) -> Measurement:
    """One request at a time for each of `calls`, all of them at once."""
    numbers = iter(range(count))

    async def worker(call: Callable[[int], Awaitable[object]]) -> None:
        for i in numbers:
            await call(i)

    start = clock()
    await asyncio.gather(*map(worker, calls))
    return Measurement(count, clock() - start)
