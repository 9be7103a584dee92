"""Tunnel: what both ends see, on both event loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from ringcast.security.channels import LINKS
from ringcast.security.secret import Secret, new_key
from ringcast.security.trust import Trust, explained
from ringcast.security.tunnel import LINGER, Tunnel

SECRET, OTHER = (Secret((new_key(number),)).render().encode() for number in (1, 2))
PROLOGUE = b"in clear"
PATIENCE = 5.0


Scenario = Callable[[], Coroutine[Any, Any, None]]
SCENARIOS: list[Scenario] = []


def scenario(run: Scenario) -> Scenario:
    """Have it run on each event loop, by the test below."""
    SCENARIOS.append(run)
    return run


class End(asyncio.Protocol):
    """The inside of a tunnel: writes down what happens to it."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.pauses: list[bool] = []
        self.opened = asyncio.Event()
        self.arrived = asyncio.Event()
        self.resumed = asyncio.Event()
        self.ended: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.transport: Tunnel

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Tunnel)
        self.transport = transport
        self.opened.set()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(exc)

    def pause_writing(self) -> None:
        self.pauses.append(True)

    def resume_writing(self) -> None:
        self.pauses.append(False)
        self.resumed.set()

    async def has(self, count: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < count:
                self.arrived.clear()
                await self.arrived.wait()
        return bytes(self.received)


@dataclass
class Pair:
    """Who dialled and who was dialled, each with the transport of its socket."""

    dialler: End
    acceptor: End
    sockets: list[asyncio.Transport] = field(default_factory=list[asyncio.Transport])

    async def opened(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(self.dialler.opened.wait(), self.acceptor.opened.wait())

    async def ended(self) -> tuple[Exception | None, Exception | None]:
        async with asyncio.timeout(PATIENCE):
            return await self.dialler.ended, await self.acceptor.ended


@asynccontextmanager
async def connected(dialling: ssl.SSLContext, serving: ssl.SSLContext) -> AsyncIterator[Pair]:
    loop = asyncio.get_running_loop()
    pair = Pair(End(), End())
    one, other = socket.socketpair()
    one.setblocking(False)
    other.setblocking(False)
    dialler = Tunnel(dialling, pair.dialler, prologue=PROLOGUE)
    raw, _ = await loop.create_connection(lambda: dialler, sock=one)
    pair.sockets.append(raw)
    assert await loop.sock_recv(other, len(PROLOGUE)) == PROLOGUE
    acceptor = Tunnel(serving, pair.acceptor, is_server=True)
    raw, _ = await loop.connect_accepted_socket(lambda: acceptor, other)
    pair.sockets.append(raw)
    yield pair
    for raw in pair.sockets:
        raw.abort()
    await pair.ended()


def contexts(of_dialler: bytes = SECRET, of_acceptor: bytes = SECRET) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    dialling = Trust.found(of_dialler, "shop").dialling(LINKS)
    serving = Trust.found(of_acceptor, "shop").serving(LINKS)
    assert dialling is not None
    assert serving is not None
    return dialling, serving


def gullible(context: ssl.SSLContext) -> ssl.SSLContext:
    context.verify_mode = ssl.CERT_NONE
    return context


@scenario
async def both_ends_say_what_they_want_at_once() -> None:
    async with connected(*contexts()) as pair:
        await pair.opened()
        pair.dialler.transport.write(b"from the dialler")
        pair.acceptor.transport.writelines([b"from ", bytearray(b"the "), memoryview(b"acceptor")])
        assert await pair.acceptor.has(16) == b"from the dialler"
        assert await pair.dialler.has(17) == b"from the acceptor"
        tls = pair.dialler.transport.get_extra_info("ssl_object")
        assert isinstance(tls, ssl.SSLObject)
        assert tls.version() == "TLSv1.3"
        assert pair.dialler.transport.get_extra_info("nothing", 7) == 7


@scenario
async def what_is_larger_than_a_record_and_than_the_socket_takes_arrives_whole() -> None:
    async with connected(*contexts()) as pair:
        await pair.opened()
        pair.acceptor.transport.pause_reading()
        pair.dialler.transport.set_write_buffer_limits(100_000, 1000)
        message = bytes(range(256)) * 40_000
        pair.dialler.transport.write(message)
        assert pair.dialler.pauses == [True]
        assert pair.dialler.transport.get_write_buffer_size() > 100_000
        pair.acceptor.transport.resume_reading()
        assert await pair.acceptor.has(len(message)) == message
        async with asyncio.timeout(PATIENCE):
            await pair.dialler.resumed.wait()
        assert pair.dialler.pauses == [True, False]


@scenario
async def a_close_is_heard_once_what_was_written_has_come() -> None:
    async with connected(*contexts()) as pair:
        await pair.opened()
        pair.dialler.transport.write(b"last words")
        pair.dialler.transport.close()
        pair.dialler.transport.close()
        pair.dialler.transport.write(b"too late")
        assert pair.dialler.transport.is_closing()
        assert await pair.ended() == (None, None)
        assert pair.acceptor.received == b"last words"
        for end in (pair.dialler, pair.acceptor):  # all of it may still be called
            end.transport.write(b"x")
            end.transport.writelines([b"x"])
            end.transport.close()
            end.transport.abort()
            end.transport.pause_reading()
            end.transport.resume_reading()
            end.transport.set_write_buffer_limits(1)
            assert end.transport.is_closing()
            assert end.transport.get_write_buffer_size() == 0
            assert end.transport.get_extra_info("peername") is None


@scenario
async def an_abort_of_either_ends_both() -> None:
    for is_dialler in (True, False):
        async with connected(*contexts()) as pair:
            await pair.opened()
            (pair.dialler if is_dialler else pair.acceptor).transport.abort()
            await pair.ended()


@scenario
async def the_dialler_hears_why_it_was_refused() -> None:
    """Its own handshake is over by then: this is TLS 1.3."""
    dialling, serving = contexts(of_dialler=OTHER)
    async with connected(gullible(dialling), serving) as pair:
        seen, raised = await pair.ended()
        assert isinstance(raised, ssl.SSLCertVerificationError)
        assert "another secret" in explained(raised)
        assert isinstance(seen, ssl.SSLError)
        assert explained(seen) == "it refuses this side's certificate: it has another secret"
        assert not pair.acceptor.opened.is_set()


@scenario
async def the_acceptor_hears_why_it_was_refused() -> None:
    async with connected(*contexts(of_acceptor=OTHER)) as pair:
        raised, seen = await pair.ended()
        assert isinstance(raised, ssl.SSLCertVerificationError)
        assert isinstance(seen, ssl.SSLError)
        assert explained(seen) == "it refuses this side's certificate: it has another secret"
        assert not pair.dialler.opened.is_set()
        assert not pair.acceptor.opened.is_set()


async def refused_after(sent: bytes) -> None:
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    one.setblocking(False)
    end = End()
    tunnel = Tunnel(contexts()[1], end, is_server=True)
    raw, _ = await loop.connect_accepted_socket(lambda: tunnel, other)
    with one:
        await loop.sock_sendall(one, sent)
        async with asyncio.timeout(PATIENCE):
            assert isinstance(await end.ended, ssl.SSLError)
            while await loop.sock_recv(one, 1000):  # the alert, then the end
                pass
        assert not end.opened.is_set()
        raw.abort()


@scenario
async def what_is_no_tls_ends_it() -> None:
    for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"x" * 70_000):
        await refused_after(sent)


@scenario
async def who_does_not_close_after_a_refusal_is_closed_on() -> None:
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    one.setblocking(False)
    end = End()
    tunnel = Tunnel(contexts()[1], end, is_server=True)
    await loop.connect_accepted_socket(lambda: tunnel, other)
    with one:
        await loop.sock_sendall(one, b"nonsense" * 10)
        started = loop.time()
        with pytest.raises(OSError, match=r"(?i)pipe|reset"):  # noqa: PT012
            async with asyncio.timeout(PATIENCE):
                while True:
                    await loop.sock_sendall(one, b"more" * 1000)
                    await asyncio.sleep(0)
        assert LINGER / 2 < loop.time() - started < LINGER * 2


@scenario
async def a_connection_that_ends_in_the_handshake_says_what_it_may_be() -> None:
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    other.setblocking(False)
    end = End()
    tunnel = Tunnel(contexts()[0], end)
    await loop.create_connection(lambda: tunnel, sock=one)
    await loop.sock_recv(other, 10_000)
    other.close()
    async with asyncio.timeout(PATIENCE):
        error = await end.ended
    assert "tls=False" in str(error)


@scenario
async def a_changed_record_ends_the_connection_and_what_came_before_counts() -> None:
    async with connected(*contexts()) as pair:
        await pair.opened()
        pair.dialler.transport.write(b"good")
        pair.sockets[0].write(b"\x17\x03\x03\x00\x20" + bytes(32))
        seen, raised = await pair.ended()
        assert pair.acceptor.received == b"good"
        assert isinstance(raised, ssl.SSLError)
        assert isinstance(seen, ssl.SSLError)  # the alert


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("run", SCENARIOS, ids=lambda run: run.__name__)
def test_on_each_loop(run: Scenario, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
