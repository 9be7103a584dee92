"""The workloads on ringcast's public API: one node for L and S, a hosting and a calling one for R, M and H.

R is what users get, which is TLS. E is R again, held against C: the same without TLS.

M1's limit is ringcast, too, on the same connection while it is idle: so a run of M1 tells I1 first.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from dataclasses import replace
from pathlib import Path

from ringcast import Node, Seeds, run, tell

from .child import Child, pin, ready
from .counters import HANDLERS, Simple
from .workloads import BATCH, BLOB, BULK, IN_FLIGHT, Measurement, clock, count_of, payload, pipelined, sequential, timed

CLUSTER = "benchmarks"


def resident_bytes() -> int:
    """Return this process's resident set; Linux says it in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def server(*, is_encrypted: bool) -> None:
    async with Node(cluster=CLUSTER, discovery=[], tls=is_encrypted) as node:
        ready(node.address)
        await asyncio.Event().wait()


async def told(ref: Simple, work: str, count: int) -> Measurement:
    """L1 and R3: one way, until all are handled."""
    start = clock()
    if work == "L1":
        for i in range(count):
            await tell(ref.inc, i)
    else:
        for i in range(count):
            await tell(ref.inc, payload(i))
    handled = await ref.count()  # one sender's messages are handled in order: this one comes last
    result = Measurement(count, clock() - start)
    assert handled == count, f"lost messages: {handled} of {count} were handled"
    return result


async def activated(node: Node, cls: type[Simple], count: int) -> Measurement:
    """S1: the first ask of each of `count` actors, and what they leave resident."""
    for i in range(100):
        await node.ref(cls, f"warm-{i}").count()
    gc.collect()
    before, start = resident_bytes(), clock()
    for first in range(0, count, BATCH):
        await asyncio.gather(*[node.ref(cls, i).count() for i in range(first, min(first + BATCH, count))])
    seconds = clock() - start
    gc.collect()
    return Measurement(count, seconds, bytes_per_actor=(resident_bytes() - before) // count)


async def small_asks(ref: Simple, count: int) -> Measurement:
    """R1 and I1, and of M1 what is timed."""
    return await sequential(lambda i: ref.echo_id(payload(i)), count)


async def beside_bulk(ref: Simple, sink: Simple, count: int) -> Measurement:
    """M1: small asks while large ones to another actor of the same node follow one another."""
    handled, start, end = 0, 0.0, 0.0

    async def stream() -> None:
        nonlocal handled, start, end
        start = clock()
        while True:
            await sink.size(BULK)
            handled, end = handled + 1, clock()

    await sink.size(BULK)  # the first one makes both processes ask the kernel for memory
    async with asyncio.TaskGroup() as group:  # a stream that fails ends the run
        streaming = group.create_task(stream())
        result = await small_asks(ref, count)
        streaming.cancel()
    beside = handled * len(BULK) / 1e6 / (end - start) if handled else 0.0
    return replace(result, beside_mb_s=beside)


async def handshakes(node: Node, ref: Simple, count: int) -> Measurement:
    """H1: an ask that finds no connection: TCP, TLS, both hellos, and the ask. Nothing public cuts a connection."""
    owner = (await node.locate(ref)).id

    samples: list[float] = []
    for i in range(count):
        link = node._peers.link(owner)
        assert link.connection is not None
        link.connection.abort("cut by the benchmark")
        sent = clock()
        await ref.echo_id(payload(i))
        samples.append(clock() - sent)
    return timed(samples, sum(samples))


async def measured(node: Node, work: str, cls: type[Simple], count: int) -> Measurement:
    ref = node.ref(cls, work)
    await ref.count()
    match work:
        case "L1" | "R3":
            return await told(ref, work, count)
        case "L2":
            return await sequential(ref.echo, count)
        case "L3":
            return await pipelined(ref.echo, count, IN_FLIGHT[work])
        case "R1" | "I1":
            return await small_asks(ref, count)
        case "M1":
            return await beside_bulk(ref, node.ref(cls, "sink"), count)
        case "R2":
            return await pipelined(lambda i: ref.echo_id(payload(i)), count, IN_FLIGHT[work])
        case "R4":
            return await sequential(lambda i: ref.size(BLOB), count, warm=10)
        case "S1":
            return await activated(node, cls, count)
        case "H1":
            return await handshakes(node, ref, count)
        case _:
            raise ValueError(work)


async def caller(
    work: str, handlers: list[str], count: int, server_address: str | None, *, is_encrypted: bool = True
) -> None:
    """Measure from a node that hosts everything itself, or, given a server, nothing."""
    discovery = [Seeds([server_address])] if server_address else []
    hosts: list[str] | None = [] if server_address else None
    async with Node(cluster=CLUSTER, discovery=discovery, hosts=hosts, tls=is_encrypted) as node:
        for handler in handlers:
            if work == "M1":
                (await measured(node, "I1", HANDLERS[handler], count)).print()
            (await measured(node, work, HANDLERS[handler], count)).print()


def main(work: str, handlers: str, scale: str, pinning: str) -> None:
    count = count_of(work, float(scale))
    if work[0] in "LS":
        run(caller(work, handlers.split(","), count, None))
        return
    caller_cpu, server_cpu = map(int, pinning.split(",")) if pinning else (None, None)
    if caller_cpu is not None:
        pin(caller_cpu)
    is_encrypted = work[0] != "C"
    if work[0] in "CE":
        work = f"R{work[1:]}"
    with Child("benchmarks.ours", server_cpu, "TLS" if is_encrypted else "clear") as child:
        run(caller(work, handlers.split(","), count, child.address, is_encrypted=is_encrypted))


if __name__ == "__main__":
    if sys.argv[1] == "server":
        if sys.argv[2]:
            pin(int(sys.argv[2]))
        run(server(is_encrypted=sys.argv[3] == "TLS"))
    else:
        main(*sys.argv[1:5])
