"""The workloads on ringcast's public API: one node for L, S, N1 and W1, a hosting and a calling process for the rest.

R, N2, W2 and F1 are without TLS, as the limits are; E is R with TLS, which is what users get, and held against R.

M1's limit is ringcast, too, on the same connection while it is idle: so a run of M1 tells I1 first.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from ringcast import Client, Node, NodeConfig, Seeds, run, tell

from .child import Child, pin, ready
from .counters import HANDLERS, Front, Pausing, Simple, Source
from .workloads import (
    BATCH,
    BLOB,
    BULK,
    CONNECTIONS,
    IN_FLIGHT,
    Measurement,
    clock,
    connections_of,
    count_of,
    payload,
    pipelined,
    sequential,
    spread,
    timed,
)

CLUSTER = "benchmarks"
WITH_TLS = "EMHK"
"""The first letters of the works whose nodes speak TLS; clients always do."""
CONNECTING = 32
"""How many clients of K1 connect at a time."""


def resident_bytes() -> int:
    """Return this process's resident set; Linux says it in pages."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def server(*, is_encrypted: bool) -> None:
    config = NodeConfig(client_connections=CONNECTIONS, client_connections_each=CONNECTIONS)
    async with Node(cluster=CLUSTER, discovery=[], tls=is_encrypted, config=config) as node:
        ready(node.address)
        await asyncio.Event().wait()


async def told(ref: Simple, work: str, count: int) -> Measurement:
    """L1 and R3: one way, until all are handled."""
    before = await ref.count()
    start = clock()
    if work == "L1":
        for i in range(count):
            await tell(ref.inc, i)
    else:
        for i in range(count):
            await tell(ref.inc, payload(i))
    handled = await ref.count() - before  # one sender's messages are handled in order: this one comes last
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


def echoing(ref: Simple | Pausing) -> Callable[[int], Awaitable[object]]:
    return lambda i: ref.echo_id(payload(i))


async def nested(node: Node, work: str, cls: type[Simple], count: int) -> Measurement:
    """N1 and N2: each ask is answered by an actor that asks another of its node first."""
    behind = node.ref(cls, "behind")

    def through(ref: Front) -> Callable[[int], Awaitable[object]]:
        return lambda i: ref.echo_id(behind, payload(i))

    if work == "N1":
        return await sequential(through(node.ref(Front, 0)), count)
    calls = [through(node.ref(Front, i)) for i in range(IN_FLIGHT[work])]
    await spread(calls, len(calls))
    return await spread(calls, count)


async def pausing(node: Node, work: str, count: int) -> Measurement:
    """W1 and W2: handlers that suspend, each of its own actor, since an actor's turns follow one another."""
    calls = [echoing(node.ref(Pausing, i)) for i in range(IN_FLIGHT[work])]
    await spread(calls, len(calls))
    return await spread(calls, count)


async def streamed(ref: Source, count: int) -> Measurement:
    """F1: all items of one reply."""
    async for _ in ref.numbers(100):
        pass
    start, seen = clock(), 0
    async for _ in ref.numbers(count):
        seen += 1
    result = Measurement(count, clock() - start)
    assert seen == count, f"lost items: {seen} of {count} came"
    return result


async def crowd(cls: type[Simple], count: int, connections: int, address: str) -> Measurement:
    """K1: many clients of one node, each with one ask at a time."""
    clients = [Client([address], cluster=CLUSTER) for _ in range(connections)]
    async with AsyncExitStack() as stack:
        for first in range(0, connections, CONNECTING):
            some = clients[first : first + CONNECTING]
            await asyncio.gather(*map(stack.enter_async_context, some))
        calls = [echoing(client.ref(cls, number % 64)) for number, client in enumerate(clients)]
        await spread(calls, len(calls))
        return await spread(calls, count)


async def measured(node: Node, work: str, cls: type[Simple], count: int) -> Measurement:
    match work:
        case "N1" | "N2":
            return await nested(node, work, cls, count)
        case "W1" | "W2":
            return await pausing(node, work, count)
        case "F1":
            return await streamed(node.ref(Source, work), count)
        case _:
            pass
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
    if work[0] in "LS" or work in ("N1", "W1"):
        run(caller(work, handlers.split(","), count, None))
        return
    caller_cpu, server_cpu = map(int, pinning.split(",")) if pinning else (None, None)
    if caller_cpu is not None:
        pin(caller_cpu)
    is_encrypted = work[0] in WITH_TLS
    if work[0] == "E":
        work = f"R{work[1:]}"
    with Child("benchmarks.ours", server_cpu, "TLS" if is_encrypted else "clear") as child:
        if work == "K1":
            for handler in handlers.split(","):
                run(crowd(HANDLERS[handler], count, connections_of(float(scale)), child.address)).print()
            return
        run(caller(work, handlers.split(","), count, child.address, is_encrypted=is_encrypted))


if __name__ == "__main__":
    if sys.argv[1] == "server":
        if sys.argv[2]:
            pin(int(sys.argv[2]))
        run(server(is_encrypted=sys.argv[3] == "TLS"))
    else:
        main(*sys.argv[1:5])
