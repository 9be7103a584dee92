"""What CPython itself allows here: a bare protocol over loopback TCP, a bare deque in one process.

T1 to T4 move the frames of R1 to R4 (length-prefixed msgpack, gathered and written once per loop
tick) with nothing else around them; T5 those of T1 on many connections at once. P1 is a deque and
one coroutine that awaits a handler, P2 the same with a reply future and 1,000 in flight, P3 that
one at a time.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

import msgpack
import uvloop

from .child import Child, pin, ready
from .workloads import (
    BLOB,
    IN_FLIGHT,
    Measurement,
    clock,
    connections_of,
    count_of,
    payload,
    sequential,
    spread,
)

HEAD = struct.Struct("!I")
codec = cast("Any", msgpack)
pack: Callable[[object], bytes] = codec.Packer(autoreset=True).pack
unpack: Callable[[memoryview], list[Any]] = codec.unpackb
T = TypeVar("T")


class Framed(asyncio.Protocol):
    """Frames with a length before them; those of one tick leave in one write."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.paused: asyncio.Future[None] | None = None
        self._in: bytes | bytearray = bytearray()
        self._need = 4
        self._out: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self.paused = self.loop.create_future()

    def resume_writing(self) -> None:
        paused, self.paused = self.paused, None
        if paused is not None:
            paused.set_result(None)

    def frame(self, message: list[Any]) -> None:
        raise NotImplementedError

    def send(self, message: object) -> None:
        body = pack(message)
        out = self._out
        if not out:
            self.loop.call_soon(self._flush)
        out.append(HEAD.pack(len(body)))
        out.append(body)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if len(out) == 2 and len(out[1]) > 65536:
            self.transport.writelines(out)
        else:
            self.transport.write(b"".join(out))

    def data_received(self, data: bytes | bytearray) -> None:
        if self._in:
            self._in += data
            if len(self._in) < self._need:  # a large frame: wait for all of it before looking at it again
                return
            data, self._in = self._in, bytearray()
        at, end = 0, len(data)
        with memoryview(data) as view:
            while end - at >= 4:
                size: int = HEAD.unpack_from(data, at)[0]
                if end - at - 4 < size:
                    break
                self.frame(unpack(view[at + 4 : at + 4 + size]))
                at += 4 + size
        if at < end:
            self._need = 4 + HEAD.unpack_from(data, at)[0] if end - at >= 4 else 4
            self._in = bytearray(data[at:]) if at or isinstance(data, bytes) else data


class Echo(Framed):
    """The server's end: answers, or counts."""

    def __init__(self) -> None:
        super().__init__()
        self._seen = 0

    def frame(self, message: list[Any]) -> None:
        number, kind, body = message
        if kind == "ask":
            self.send([number, "reply", body])
        elif kind == "tell":
            self._seen += 1
        elif kind == "size":
            self.send([number, "reply", len(body)])
        else:
            self.send([number, "reply", self._seen])


class Caller(Framed):
    """The client's end: a future for each request."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last = 0

    def frame(self, message: list[Any]) -> None:
        future = self._waiting.pop(message[0])
        if not future.done():
            future.set_result(message[2])

    def ask(self, kind: str, body: object) -> asyncio.Future[Any]:
        self._last = number = self._last + 1
        future = self._waiting[number] = self.loop.create_future()
        self.send([number, kind, body])
        return future


async def server() -> None:
    listening = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0)
    ready(str(listening.sockets[0].getsockname()[1]))
    await listening.serve_forever()


async def tcp(work: str, count: int, port: int) -> Measurement:
    _, caller = await asyncio.get_running_loop().create_connection(Caller, "127.0.0.1", port)
    for i in range(2000):
        await caller.ask("ask", payload(i))
    match work:
        case "T1":
            result = await sequential(lambda i: caller.ask("ask", payload(i)), count)
        case "T2":
            numbers = iter(range(count))

            async def worker() -> None:
                for i in numbers:
                    await caller.ask("ask", payload(i))

            start = clock()
            await asyncio.gather(*[worker() for _ in range(IN_FLIGHT[work])])
            result = Measurement(count, clock() - start)
        case "T3":
            start = clock()
            for i in range(count):
                caller.send([i, "tell", payload(i)])
                if i % 256 == 255:
                    await asyncio.sleep(0)
                    if caller.paused is not None:
                        await caller.paused
            handled = await caller.ask("count", None)
            result = Measurement(count, clock() - start)
            assert handled == count
        case "T4":
            result = await sequential(lambda i: caller.ask("size", BLOB), count, warm=10)
        case _:
            raise ValueError(work)
    caller.transport.close()
    return result


async def crowd(count: int, connections: int, port: int) -> Measurement:
    """T5: many connections, each with one request at a time."""
    loop = asyncio.get_running_loop()
    callers = [(await loop.create_connection(Caller, "127.0.0.1", port))[1] for _ in range(connections)]

    def call(caller: Caller) -> Callable[[int], Awaitable[object]]:
        return lambda i: caller.ask("ask", payload(i))

    calls = list(map(call, callers))
    await spread(calls, len(calls))
    result = await spread(calls, count)
    for caller in callers:
        caller.transport.close()
    return result


class Box(Generic[T]):
    """The least an in-process mailbox can be: a deque, a future to wake up by, one coroutine."""

    def __init__(self, handler: Callable[[T], Awaitable[None]]) -> None:
        self._queue: deque[T] = deque()
        self._handler = handler
        self._wake: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._drain())

    def put(self, message: T) -> None:
        self._queue.append(message)
        wake = self._wake
        if wake is not None:
            self._wake = None
            wake.set_result(None)

    def close(self) -> None:
        self._task.cancel()

    async def _drain(self) -> None:
        queue, handler = self._queue, self._handler
        while True:
            while queue:
                await handler(queue.popleft())
            self._wake = self._loop.create_future()
            await self._wake


async def told(count: int) -> Measurement:
    """P1: one way, until all are handled."""
    seen, done = 0, asyncio.get_running_loop().create_future()

    async def handler(_: int) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            done.set_result(None)

    box = Box(handler)
    await asyncio.sleep(0)
    start = clock()
    put = box.put
    for i in range(count):
        put(i)
        if i % 256 == 255:
            await asyncio.sleep(0)
    await done
    result = Measurement(count, clock() - start)
    box.close()
    return result


async def asked(work: str, count: int) -> Measurement:
    """P2 and P3: with a reply. Written out, since a call more would count here."""
    new_future = asyncio.get_running_loop().create_future

    async def answer(message: tuple[int, asyncio.Future[int]]) -> None:
        message[1].set_result(message[0])

    box = Box(answer)
    numbers = iter(range(count))

    async def worker() -> None:
        for i in numbers:
            future = new_future()
            box.put((i, future))
            await future

    await asyncio.sleep(0)
    if work == "P2":
        start = clock()
        await asyncio.gather(*[worker() for _ in range(IN_FLIGHT[work])])
    else:
        samples: list[float] = []
        start = clock()
        for i in numbers:
            sent = clock()  # timed one by one, because L2 is
            future = new_future()
            box.put((i, future))
            await future
            samples.append(clock() - sent)
    result = Measurement(count, clock() - start)
    box.close()
    return result


def main(work: str, scale: str, pinning: str) -> None:
    count = count_of(work, float(scale))
    if work == "P1":
        uvloop.run(told(count)).print()
    elif work[0] == "P":
        uvloop.run(asked(work, count)).print()
    else:
        caller_cpu, server_cpu = map(int, pinning.split(",")) if pinning else (None, None)
        if caller_cpu is not None:
            pin(caller_cpu)
        with Child("benchmarks.limits", server_cpu) as child:
            port = int(child.address)
            work_done = crowd(count, connections_of(float(scale)), port) if work == "T5" else tcp(work, count, port)
            uvloop.run(work_done).print()


if __name__ == "__main__":
    if sys.argv[1] == "server":
        if sys.argv[2]:
            pin(int(sys.argv[2]))
        uvloop.run(server())
    else:
        main(*sys.argv[1:4])
