"""Who has no business in a cluster, at the port of a real node: refused nine times of nine, and why.

``python -m benchmarks.hostile_tls`` prints the matrix; `matrix` returns it.

Eight kinds of strangers dial the channel of links and that of the membership. Each goes as far as it
can: it does not mind whom it talks to, finishes its own end of the handshake, says what would be right
for a member to say, and sends a request for an actor. The ninth waits until a node dials it, with a
client's credential. All are refused if none gets an answer but a refusal, no link comes up, the view
stays what it is, and nothing reaches the decoder of messages between actors. A peer that belongs there
tries first, in the same way, and is taken: without it the rest would prove nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Self, cast

import msgpack
from rich.console import Console
from rich.table import Table

from ringcast import Actor, CallError, HandshakeRefused, Node, Seeds, run, using
from ringcast.discovery.address import split_address
from ringcast.discovery.claim import Claim
from ringcast.discovery.codec import Codec as MembershipCodec
from ringcast.discovery.frames import HEAD_BYTES, framed
from ringcast.discovery.member import Member
from ringcast.discovery.messages import Envelope, Exchange, Refused
from ringcast.discovery.preamble import PREAMBLE_BYTES, channel_of, preamble
from ringcast.runtime import wire
from ringcast.runtime.codec import Codec
from ringcast.security import streams
from ringcast.security.authority import Authority, Leaf, OwnKey
from ringcast.security.channels import ALPN, LINKS, MEMBERSHIP
from ringcast.security.contexts import client_side, server_side
from ringcast.security.identity import CLIENT, NODE
from ringcast.security.secret import Secret, new_key
from ringcast.security.trust import Trust, explained

__all__ = ["LIMIT", "Attempt", "Figures", "matrix"]

LIMIT = 3.5
"""Seconds in which each has to be refused."""

CLUSTER = "hostile-tls"
HOUR = 3600.0

Shown = Callable[[bytes], ssl.SSLContext]
"""One end of TLS, for a channel."""


class Echo(Actor):
    """Somebody to talk to."""

    async def say(self, what: int) -> int:
        return what


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to get in.

    Attributes:
        name: Who tried.
        channel: On which channel, or at which of the node's own dials.
        refused: Whether it got nothing.
        seconds: From the first byte to the end of the connection.
        words: What it was told, or what the node says of it.
    """

    name: str
    channel: str
    refused: bool
    seconds: float
    words: str


@dataclass(frozen=True, slots=True)
class Figures:
    """The whole matrix.

    Attributes:
        attempts: All that was tried.
        accepted: Who belongs there, and was taken.
        decoded: What reached the decoders of messages between actors while strangers tried.
        is_untouched: Whether the node's view and its links are what they were.
    """

    attempts: tuple[Attempt, ...]
    accepted: tuple[Attempt, ...]
    decoded: int
    is_untouched: bool

    @property
    def is_met(self) -> bool:
        """Whether all were refused in time, and the one that belongs there was not."""
        return (
            all(attempt.refused and attempt.seconds <= LIMIT for attempt in self.attempts)
            and not any(attempt.refused for attempt in self.accepted)
            and self.decoded == 0
            and self.is_untouched
        )


@dataclass(frozen=True, slots=True)
class Stranger:
    """Who dials.

    Attributes:
        name: What is wrong with it.
        context: Its end of TLS, for a channel.
        says: The node that it says to be.
    """

    name: str
    context: Shown
    says: Member


# ---- who tries -----------------------------------------------------------------------------------


def gullible(context: ssl.SSLContext | None) -> ssl.SSLContext:
    """Let the context believe anybody: what is refused is then refused by the node."""
    assert context is not None
    context.verify_mode = ssl.CERT_NONE
    return context


def bare(channel: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols([ALPN[channel]])
    return gullible(context)


def of_tls_1_2(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def without_alpn(context: ssl.SSLContext) -> ssl.SSLContext:
    context.set_alpn_protocols([])
    return context


def strangers(secret: Secret, victim: Node, other: Node) -> tuple[Stranger, ...]:
    """Return one that belongs there, and eight that do not; two of them say to be the member `other`."""
    now = time.time()
    me = Member("stranger", "127.0.0.1:9", incarnation=int(now * 1000))
    member = next(member for member in victim.members if member.id == other.id)
    authority = Authority(secret.signing, NODE)
    expired = authority.issue(OwnKey(), CLUSTER, me.id, now=now - HOUR, ttl=HOUR / 2)

    def trusting(
        of: Secret = secret, cluster: str = CLUSTER, node_id: str = me.id
    ) -> Callable[[bytes], ssl.SSLContext]:
        trust = Trust.found(of.render().encode(), cluster, node_id=node_id)
        return lambda channel: gullible(trust.dialling(channel))

    def showing(leaf: Leaf) -> Shown:
        return lambda channel: gullible(client_side(leaf, authority.certificate(), ALPN[channel]))

    return (
        Stranger("a member", trusting(), me),
        Stranger("no certificate", bare, me),
        Stranger("another secret", trusting(Secret((new_key(now),))), me),
        Stranger("expired", showing(expired), me),
        Stranger("wrong name", trusting(), member),
        Stranger("wrong cluster", trusting(cluster="another"), me),
        Stranger("TLS 1.2", lambda channel: of_tls_1_2(trusting()(channel)), me),
        Stranger("no ALPN", lambda channel: without_alpn(trusting()(channel)), me),
        Stranger("pinned-key mismatch", trusting(node_id=member.id), member),
    )


# ---- how they try --------------------------------------------------------------------------------


def packed(value: object) -> bytes:
    return framed(cast("bytes", cast(Any, msgpack).packb(value)))


def words_of_a_node(stranger: Stranger, victim: Node) -> bytes:
    """Return a hello as the node expects it, and a request behind it."""
    hello = victim._peers._hello(victim.id)
    changes = {
        "node": stranger.says.id,
        "incarnation": stranger.says.incarnation,
        "to_incarnation": 0,
        "dials": 1 << 30,
    }
    request = [wire.REQUEST, 1, 1, "key", 1000, 0, "pay me"]
    return packed({**hello, **changes}) + packed(request)


def words_of_a_membership(stranger: Stranger) -> bytes:
    """Return an exchange that a member would answer."""
    sender = Claim(stranger.says.id, stranger.says.address, stranger.says.incarnation)
    return framed(MembershipCodec(CLUSTER).encode(Envelope(sender, Exchange(wants_reply=True), ())))


def answer_to_a_node(frame: bytes) -> tuple[bool, str]:
    """Return whether a frame of an answer is a refusal, and in which words."""
    answer = cast("dict[str, Any]", cast(Any, msgpack).unpackb(frame))
    return "refused" in answer, str(answer.get("refused", "it was taken for a member"))


def answer_to_a_membership(frame: bytes) -> tuple[bool, str]:
    envelope = MembershipCodec(CLUSTER).decode(frame)
    assert isinstance(envelope, Envelope)
    return isinstance(envelope.message, Refused), f"it was answered: {type(envelope.message).__name__}"


async def try_to_enter(stranger: Stranger, victim: Node, channel: bytes) -> Attempt:
    """Dial, shake hands, speak, and read until the node closes."""
    host, port = split_address(victim.address)
    said = words_of_a_node(stranger, victim) if channel == LINKS else words_of_a_membership(stranger)
    understood = answer_to_a_node if channel == LINKS else answer_to_a_membership
    started = time.perf_counter()
    writer: asyncio.StreamWriter | None = None
    refused, words = True, "it closed the connection"
    try:
        async with asyncio.timeout(2 * LIMIT):
            reader, writer = await streams.dialled(host, port, stranger.context(channel), preamble(channel))
            writer.write(said)
            size = int.from_bytes(await reader.readexactly(HEAD_BYTES), "big")
            refused, words = understood(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        pass
    except TimeoutError:
        refused, words = False, "it was left waiting"
    except OSError as error:
        words = explained(error)
    finally:
        if writer is not None:
            writer.transport.abort()
    return Attempt(stranger.name, channel.decode(), refused, time.perf_counter() - started, words)


class Impostor:
    """Waits to be dialled, and shows a client's credential as if it were a node's.

    Attributes:
        address: Where it listens.
        seconds: How long the last connection lasted.
        heard: Bytes that it was told, TLS done.
    """

    def __init__(self, secret: Secret) -> None:
        leaf = Authority(secret.signing, CLIENT).issue(OwnKey(), CLUSTER, "mallory", now=time.time(), ttl=HOUR)
        self._leaf, self._believed = leaf, Authority(secret.signing, NODE).certificate()
        self.heard = 0
        self.seconds = 0.0
        self.dialled = asyncio.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._serving = asyncio.ensure_future(self._serve())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._serving.cancel()
        self._listener.close()
        with contextlib.suppress(asyncio.CancelledError):
            await self._serving

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listener)
            connection.setblocking(False)
            started = time.perf_counter()
            channel = channel_of(await loop.sock_recv(connection, PREAMBLE_BYTES))
            assert channel is not None
            context = gullible(server_side(self._leaf, self._believed, ALPN[channel]))
            try:
                reader, writer = await streams.accepted(connection, context)
                self.heard += len(await reader.read())
                writer.close()
            except OSError:
                pass
            self.seconds = time.perf_counter() - started
            self.dialled.set()


async def dial_for_an_actor(secret: Secret, victim: Node, other: Node) -> Attempt:
    """Have the node dial an impostor where it expects the member `other`."""
    async with Impostor(secret) as impostor:
        members = victim._host.kinds.members
        member = members[other.id]
        members[other.id] = replace(member, address=impostor.address)
        link = victim._peers.link(other.id)
        if link.connection is not None:  # members have things to say to each other from the start
            link.down(link.connection, "it is to be dialled anew")
        refused, words = False, "the call was answered"
        try:
            await using(await an_actor_of(other, victim), timeout=1.0).say(1)
        except CallError as error:
            refused, words = impostor.heard == 0, str(error)
        members[other.id] = member
        async with asyncio.timeout(LIMIT):
            await impostor.dialled.wait()
        return Attempt("client as server", LINKS.decode(), refused, impostor.seconds, words)


async def dial_for_a_cluster(secret: Secret) -> Attempt:
    """Have a node dial an impostor that somebody has named as a seed."""
    async with Impostor(secret) as impostor:
        node = Node(cluster=CLUSTER, secret=secret.render().encode(), discovery=[Seeds([impostor.address])])
        refused, words = False, "it joined"
        try:
            await node.start()
        except HandshakeRefused as error:
            refused, words = impostor.heard == 0, str(error)
        await node.leave()
        return Attempt("client as server", MEMBERSHIP.decode(), refused, impostor.seconds, words)


async def an_actor_of(owner: Node, caller: Node) -> Echo:
    """Return one, as the caller sees it, that lives on the owner."""
    for number in range(1000):
        ref = caller.ref(Echo, number)
        if (await caller.locate(ref)).id == owner.id:
            return ref
    raise AssertionError("the node owns nothing")


# ---- what becomes of it ----------------------------------------------------------------------------


class Decoders:
    """Counts what reaches the decoders of messages between actors; they work as ever."""

    def __init__(self) -> None:
        self.calls = 0

    def __enter__(self) -> Self:
        self._kept = Codec.unpacker, Codec.unpack_parts
        for kept in self._kept:
            setattr(Codec, kept.__name__, self._counting(kept))
        return self

    def __exit__(self, *_: object) -> None:
        for kept in self._kept:
            setattr(Codec, kept.__name__, kept)

    def _counting(self, decoder: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return decoder(*args, **kwargs)

        return counted


@asynccontextmanager
async def two_nodes(secret: Secret) -> AsyncIterator[tuple[Node, Node]]:
    data = secret.render().encode()
    async with (
        Node(cluster=CLUSTER, secret=data, discovery=[]) as victim,
        Node(cluster=CLUSTER, secret=data, discovery=[Seeds([victim.address])]) as other,
    ):
        await victim.wait_for_members(2, 10)
        await _acquainted(victim)
        yield victim, other


async def _acquainted(node: Node) -> None:
    """Wait until a node and the other one are connected, and have said what members say to each other at first."""
    before = -1.0
    while not node.stats()["links_up"] or node.stats()["frames_received"] != before:
        before = node.stats()["frames_received"]
        await asyncio.sleep(0.1)


async def matrix() -> Figures:
    """Let all of them try, at a node of a cluster of two."""
    secret = Secret((new_key(time.time()),))
    async with two_nodes(secret) as (victim, other):
        member, *others = strangers(secret, victim, other)
        accepted = [await try_to_enter(member, victim, channel) for channel in (LINKS, MEMBERSHIP)]
        links, view = victim.stats()["links_up"], victim.view
        with Decoders() as decoders:
            tried = [await try_to_enter(one, victim, channel) for channel in (LINKS, MEMBERSHIP) for one in others]
            is_untouched = victim.stats()["links_up"] == links
            tried.append(await dial_for_an_actor(secret, victim, other))
        tried.append(await dial_for_a_cluster(secret))
        is_untouched = is_untouched and victim.view == view
        return Figures(tuple(tried), tuple(accepted), decoders.calls, is_untouched)


async def main() -> int:
    figures = await matrix()
    table = Table("who", "channel", "refused", "after", "in which words", show_lines=False)
    for attempt in (*figures.accepted, *sorted(figures.attempts, key=lambda attempt: attempt.channel)):
        refused = "refused" if attempt.refused else "taken"
        table.add_row(attempt.name, attempt.channel, refused, f"{attempt.seconds * 1000:.1f} ms", attempt.words)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for channel in (LINKS, MEMBERSHIP):
        ours = [attempt for attempt in figures.attempts if attempt.channel == channel.decode()]
        held = sum(attempt.refused and attempt.seconds <= LIMIT for attempt in ours)
        print(f"channel {channel.decode()}: refused {held} of {len(ours)}, each within {LIMIT} s")
    print(f"decoded of what they sent: {figures.decoded}; view and links untouched: {figures.is_untouched}")
    return 0 if figures.is_met else 1


if __name__ == "__main__":
    sys.exit(run(main()))
