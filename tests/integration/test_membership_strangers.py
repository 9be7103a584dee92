"""Strangers and false members at the port of a real membership: it survives them, and says what it refuses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import structlog

from ringcast.discovery.agreement_messages import Hello
from ringcast.discovery.claim import Claim
from ringcast.discovery.codec import Codec
from ringcast.discovery.frames import HEAD_BYTES, framed
from ringcast.discovery.member import Member
from ringcast.discovery.messages import Envelope, Exchange, Gossip, Message
from ringcast.discovery.preamble import preamble
from ringcast.discovery.sockets import connected
from ringcast.discovery.source import Announcement, Seeds
from ringcast.errors import HandshakeRefused
from ringcast.security.channels import LINKS, MEMBERSHIP
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key
from ringcast.security.trust import Trust
from tests.integration.memberships import Recorder, free_addresses, started, trust_of
from tests.unit.runtime.places import eventually

REFUSED_WITHIN = 3.5
"""Seconds after which a stranger must have been closed."""

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def alive(recorder: Recorder) -> None:
    """Wait until the membership has shown that it still does what it is there for."""
    recorder.membership.update(labels={"still": "here", "at": str(time.monotonic())})
    me = recorder.membership.me
    await recorder.until(lambda: any(member.labels == me.labels for member in recorder.views[-1].members))
    assert recorder.failures == []


async def counted(recorder: Recorder, name: str, least: int) -> None:
    """Wait until something was counted that often; the counts come at intervals."""
    await eventually(lambda: recorder.membership.stats().get(name, 0) >= least)


async def closed(connection: socket.socket) -> bytes:
    """Return what comes until the other end closes."""
    loop, data = asyncio.get_running_loop(), b""
    with contextlib.suppress(ConnectionError):
        while piece := await loop.sock_recv(connection, 1000):
            data += piece
    return data


@contextlib.asynccontextmanager
async def dialled(recorder: Recorder, channel: bytes = MEMBERSHIP) -> AsyncIterator[socket.socket]:
    with await connected(recorder.membership.address) as connection:
        await asyncio.get_running_loop().sock_sendall(connection, preamble(channel))
        yield connection


@contextlib.asynccontextmanager
async def shaken(recorder: Recorder, context: ssl.SSLContext | None) -> AsyncIterator[Stream]:
    """Dial, and finish this end of the handshake."""
    async with dialled(recorder) as connection:
        reader, writer = await asyncio.open_connection(sock=connection, ssl=context, server_hostname="")
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def client_hello() -> bytes:
    context = trust_of("x").dialling(MEMBERSHIP)
    assert context is not None
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def without_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["ringcast-membership/1"])
    return context


def of_tls_1_2() -> ssl.SSLContext:
    context = without_certificate()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def for_another_channel() -> ssl.SSLContext:
    context = trust_of("x").dialling(LINKS)
    assert context is not None
    return context


def without_alpn() -> ssl.SSLContext:
    context = trust_of("x").dialling(MEMBERSHIP)
    assert context is not None
    context.set_alpn_protocols([])
    return context


def of_another_cluster() -> ssl.SSLContext:
    context = trust_of("x", "bank").dialling(MEMBERSHIP)
    assert context is not None
    return context


def of_another_secret() -> ssl.SSLContext:
    context = trust_of("x", "test", new_key(3)).dialling(MEMBERSHIP)
    assert context is not None
    context.verify_mode = ssl.CERT_NONE
    return context


# ---- bytes that are no handshake ---------------------------------------------------------------------

HELLO = client_hello()
GARBAGE = {
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a frame": framed(b"x" * 40),
    "ones": b"\xff" * 500,
    "zeros": bytes(500),
    "an alert": bytes.fromhex("15030300020228"),
    "application data": b"\x17\x03\x03\x00\x10" + b"x" * 16,
    "a record too long": b"\x16\x03\x01\xff\xff" + b"x" * 300,
    "a hello cut and filled": HELLO[:60] + b"\0" * (len(HELLO) - 60),
    "a hello twice": HELLO + HELLO,
    "a hello and text": HELLO + b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_instead_of_a_hello_is_closed_and_the_membership_survives(sent: bytes) -> None:
    one = Recorder("one")
    async with started(one), dialled(one) as connection:
        await asyncio.get_running_loop().sock_sendall(connection, sent)
        async with asyncio.timeout(REFUSED_WITHIN):
            await closed(connection)
        await alive(one)


@pytest.mark.parametrize("count", [0, 1, 5, 100, len(HELLO)])
@pytest.mark.parametrize("ends_by", ["reset", "end", "silence"])
async def test_a_handshake_that_stops_is_given_up(count: int, ends_by: str) -> None:
    one = Recorder("one")
    async with started(one), dialled(one) as connection:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, HELLO[:count])
        if count == len(HELLO):
            await loop.sock_recv(connection, 1)
        if ends_by == "reset":
            reset(connection)
        else:
            if ends_by == "end":
                connection.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(REFUSED_WITHIN):
                await closed(connection)
        await alive(one)


async def test_every_bit_of_a_hello_may_be_wrong() -> None:
    one = Recorder("one")
    async with started(one):
        loop = asyncio.get_running_loop()
        for place in range(0, len(HELLO), 7):
            mutated = bytearray(HELLO)
            mutated[place] ^= 1 << place % 8
            async with dialled(one) as connection:
                await loop.sock_sendall(connection, mutated)
                connection.shutdown(socket.SHUT_WR)
                async with asyncio.timeout(REFUSED_WITHIN):
                    await closed(connection)
        await alive(one)


# ---- handshakes that are refused ------------------------------------------------------------------------

MATRIX: dict[str, Callable[[], ssl.SSLContext]] = {
    "TLS 1.2": of_tls_1_2,
    "no certificate": without_certificate,
    "another secret": of_another_secret,
}


@pytest.mark.parametrize("context", MATRIX.values(), ids=MATRIX.keys())
async def test_who_cannot_be_believed_is_refused_by_an_alert(context: Callable[[], ssl.SSLContext]) -> None:
    async def speak(to: Recorder) -> None:
        async with asyncio.timeout(REFUSED_WITHIN), shaken(to, context()) as (reader, writer):
            writer.write(framed(b"too early"))
            await reader.read(1)

    one = Recorder("one")
    async with started(one):
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await speak(one)
        await alive(one)
        assert one.membership.stats().get("malformed", 0) == 0


@pytest.mark.parametrize("context", [for_another_channel, without_alpn, of_another_cluster])
async def test_who_has_no_business_here_is_closed_without_a_word(context: Callable[[], ssl.SSLContext]) -> None:
    one = Recorder("one")
    async with started(one):
        async with shaken(one, context()) as (reader, writer):
            writer.write(framed(b"too early"))
            async with asyncio.timeout(REFUSED_WITHIN):
                assert await reader.read() == b""
        await alive(one)
        assert one.membership.stats().get("malformed", 0) == 0


# ---- from who has proved to be somebody ------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\1\0half"], ids=["nothing", "half a length", "half a frame"])
async def test_a_proven_peer_has_to_speak_in_time(sent: bytes) -> None:
    one = Recorder("one")
    async with started(one), shaken(one, trust_of("two").dialling(MEMBERSHIP)) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(REFUSED_WITHIN):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        await alive(one)


@pytest.mark.parametrize(
    "sent", [b"\xff" * 8, framed(b""), framed(b"\xc1"), framed(b"\x96" * 50_000)], ids=["claim", "empty", "odd", "deep"]
)
async def test_what_a_proven_peer_sends_is_still_judged(sent: bytes) -> None:
    one = Recorder("one")
    async with started(one), shaken(one, trust_of("two").dialling(MEMBERSHIP)) as (reader, writer):
        writer.write(sent)
        async with asyncio.timeout(REFUSED_WITHIN):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        await alive(one)


async def test_a_reset_after_the_handshake_and_broken_records_are_survived() -> None:
    one = Recorder("one")
    async with started(one):
        for _ in range(3):
            async with shaken(one, trust_of("two").dialling(MEMBERSHIP)) as (_, writer):
                connection = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with shaken(one, trust_of("two").dialling(MEMBERSHIP)) as (reader, writer):
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as raw:
                raw.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
            with contextlib.suppress(OSError):
                async with asyncio.timeout(REFUSED_WITHIN):
                    await reader.read()
        await alive(one)


def said(name: str, message: Message, incarnation: int = 1) -> bytes:
    return framed(Codec("test").encode(Envelope(Claim(name, "127.0.0.1:9", incarnation), message)))


def record(name: str, key: bytes, incarnation: int = 1) -> Member:
    return Member(
        name, "127.0.0.1:9", labels={}, incarnation=incarnation, hosts=frozenset(), hosts_by_value=False, key=key
    )


async def answered(reader: asyncio.StreamReader) -> None:
    """Wait for a frame."""
    async with asyncio.timeout(REFUSED_WITHIN):
        await reader.readexactly(int.from_bytes(await reader.readexactly(HEAD_BYTES), "big"))


async def hung_up(reader: asyncio.StreamReader) -> None:
    """Wait until the membership has closed, whatever it has still said."""
    async with asyncio.timeout(REFUSED_WITHIN):
        with contextlib.suppress(ConnectionError):
            await reader.read()


async def test_a_member_speaks_for_itself_and_for_nobody_else() -> None:
    one = Recorder("one")
    async with started(one):
        trust = trust_of("two")
        async with shaken(one, trust.dialling(MEMBERSHIP)) as (reader, writer):
            writer.write(said("two", Exchange(True)))
            await answered(reader)
            writer.write(said("one", Exchange(True)))
            await hung_up(reader)
        async with shaken(one, trust.dialling(MEMBERSHIP)) as (reader, writer):
            writer.write(said("three", Gossip()))
            await hung_up(reader)
        await counted(one, "impostors", 2)
        await alive(one)


async def test_one_certificate_for_many_nodes_still_speaks_for_one_at_a_time() -> None:
    one = Recorder("one")
    async with started(one), shaken(one, trust_of("web").dialling(MEMBERSHIP)) as (reader, writer):
        writer.write(said("web.1", Exchange(True)))
        await answered(reader)
        writer.write(said("web.2", Exchange(True)))
        await hung_up(reader)
        await alive(one)


async def test_a_record_with_another_key_than_the_one_that_was_proved_is_refused() -> None:
    one = Recorder("one")
    async with started(one):
        trust = trust_of("two")
        async with shaken(one, trust.dialling(MEMBERSHIP)) as (reader, writer):
            writer.write(said("two", Hello(record("two", bytes(32)), "two", True)))
            await hung_up(reader)
        await alive(one)
        assert one.membership.view.member("two") is None
        await counted(one, "keys_refused", 1)


# ---- refusals in words -----------------------------------------------------------------------------------


async def refusal(recorder: Recorder) -> str:
    with pytest.raises(HandshakeRefused) as refused:
        await recorder.membership.start()
    return str(refused.value)


async def test_a_seed_with_another_secret_is_refused_with_its_address_this_nodes_keys_and_advice() -> None:
    one = Recorder("one")
    async with started(one):
        trust = trust_of("two", "test", new_key(2))
        words = await refusal(Recorder("two", [Seeds([one.membership.address])], trust=trust))
        for part in (one.membership.address, "another secret", f"signs with key {trust.signing}", "Give both the same"):
            assert part in words
        await alive(one)


async def test_a_seed_that_refuses_this_node_alone_is_named_too() -> None:
    old, new = new_key(1), new_key(2)
    one = Recorder("one", trust=trust_of("one", "test", old))
    async with started(one):
        trust = trust_of("two", "test", new, old)
        words = await refusal(Recorder("two", [Seeds([one.membership.address])], trust=trust))
        for part in (one.membership.address, "it refuses this side's certificate", new.id, old.id):
            assert part in words
        await alive(one)


@pytest.mark.parametrize("seed_has_tls", [True, False])
async def test_a_seed_with_tls_and_a_node_without_say_so(seed_has_tls: bool) -> None:
    one = Recorder("one", trust=trust_of("one", is_encrypted=seed_has_tls))
    async with started(one):
        trust = trust_of("two", is_encrypted=not seed_has_tls)
        words = await refusal(Recorder("two", [Seeds([one.membership.address])], trust=trust))
        assert one.membership.address in words
        assert "tls=False" in words
        await alive(one)


async def test_without_tls_another_cluster_is_refused_with_both_names() -> None:
    one = Recorder("one", trust=trust_of("one", "shop", is_encrypted=False))
    async with started(one):
        trust = trust_of("two", "bank", is_encrypted=False)
        words = await refusal(Recorder("two", [Seeds([one.membership.address])], trust=trust))
        assert "'shop' (protocol 1)" in words
        assert "'bank' (protocol 1)" in words


async def test_a_seed_that_is_another_program_is_refused() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert "is it another program" in await refusal(Recorder("one", [Seeds([address])]))


async def test_a_seed_that_says_nothing_is_logged_and_tried_again() -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with structlog.testing.capture_logs() as logs:
            one = Recorder("one", [Seeds([address])])
            async with started(one):
                await alive(one)
        assert [entry["address"] for entry in logs if entry["event"] == "no node answers there"] == [address]


class Found:
    """A source that nobody named, as multicast is."""

    is_explicit = False

    def __init__(self, address: str) -> None:
        self._address = address

    async def start(
        self, announcement: Announcement, found: Callable[[str], None], gone: Callable[[str], None]
    ) -> None:
        found(self._address)

    async def announce(self, announcement: Announcement) -> None:
        pass

    async def stop(self) -> None:
        pass


async def test_a_stranger_that_was_only_found_is_ignored_and_logged_once_at_both_ends() -> None:
    one = Recorder("one")
    async with started(one):
        with structlog.testing.capture_logs() as logs:
            trust = trust_of("two", "test", new_key(2))
            two = Recorder("two", [Found(one.membership.address)], trust=trust)
            async with started(two):
                assert [member.id for member in two.membership.view.members] == ["two"]
                await counted(two, "handshakes_refused", 2)
                await alive(one)
    told = [(entry["event"], entry.get("node")) for entry in logs if entry["log_level"] == "warning"]
    assert sorted(told) == [("a connection was refused", "one"), ("no member of this cluster", "two")]


# ---- rotation --------------------------------------------------------------------------------------------


async def test_a_rotation_keeps_members_and_puts_out_who_has_only_the_dropped_key(tmp_path: Path) -> None:
    old, new = new_key(1), new_key(2)
    paths = {name: tmp_path / name for name in "abc"}
    [address] = free_addresses(1)

    def write(name: str, *keys: object) -> None:
        write_private(paths[name], Secret(keys).render())  # type: ignore[arg-type]

    for name in paths:
        write(name, old)
    trusts = {name: Trust.found(path, "test", node_id=name) for name, path in paths.items()}
    nodes = {
        name: Recorder(name, [Seeds([address])], trust=trusts[name], listen=address if name == "a" else "127.0.0.1:0")
        for name in paths
    }

    def refresh(*names: str) -> None:
        for name in names:
            assert trusts[name].refresh()
            nodes[name].membership.refresh()

    async with started(*nodes.values()):
        for node in nodes.values():
            await node.until_members("abc")
        incarnations = {member.id: member.incarnation for member in nodes["a"].membership.view.members}
        for keys in ((old, new), (new, old)):
            for name in paths:
                write(name, *keys)
                refresh(name)
        # c misses the last step: it goes on with the old key, as an intruder would who knows no other.
        write("c", old)
        refresh("c")
        for name in "ab":
            write(name, new)
            refresh(name)
        await nodes["a"].until_members("ab")
        await nodes["b"].until_members("ab")
        assert {member.id: member.incarnation for member in nodes["a"].membership.view.members} == {
            name: incarnations[name] for name in "ab"
        }
        for name in "ab":
            await alive(nodes[name])
