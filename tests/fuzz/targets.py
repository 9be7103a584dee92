"""What is fuzzed: one function for each decoder that a stranger, a client or a peer can reach.

Each takes any bytes. It raises what the decoder may not raise, and nothing else: a decoder's own errors
are the right answer to wrong bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable
from typing import Any

from msgpack import UnpackException  # pyright: ignore[reportMissingTypeStubs]

from ringcast import Actor, CodecError, HandshakeRefused, Node, NodeConfig
from ringcast.discovery.codec import Codec as MembershipCodec
from ringcast.discovery.frames import Frames
from ringcast.discovery.knock import token_in
from ringcast.discovery.member import Member, View
from ringcast.discovery.packed import look_through
from ringcast.discovery.preamble import PREAMBLE_BYTES, channel_of
from ringcast.discovery.seal import Seal
from ringcast.runtime import callframe, control
from ringcast.runtime.allowance import Bounds, client_bounds
from ringcast.runtime.behalf import Seals
from ringcast.runtime.codec import MEMBERS, Codec
from ringcast.runtime.connection import Connection, hello_of
from ringcast.runtime.weigh import weigh
from ringcast.runtime.wire import HEAD, PIECE_BIT, PIECE_HEAD
from ringcast.security.identity import identity_of
from tests.fuzz.wires import ECHO, Wire, defined

CLUSTER = "fuzz"
PEER = "peer"


class Echo(Actor, expose=True):
    """Sends back what it gets: what was decoded is packed again."""

    async def say(self, what: Any = None) -> Any:
        return what


def codec_of(bounds: Bounds) -> Codec:
    """Return a codec without a node: references stay what they were on the wire."""
    return Codec(
        allow_pickle=False,
        ref_type=Echo,
        ref_to_wire=lambda ref: [],
        ref_from_wire=lambda parts: tuple(parts),
        bounds=bounds,
    )


# ---- for strangers -----------------------------------------------------------------------------------


def preamble(data: bytes) -> None:
    """The first eight bytes of a connection."""
    channel = channel_of(data)
    assert channel is None or len(data) == PREAMBLE_BYTES


def datagram(data: bytes) -> None:
    """A datagram, before anybody is believed."""
    seal = _seal()
    before = len(seal)
    assert not isinstance(seal.open(data, "me", 1), bytes)
    assert len(seal) == before, "a stranger is remembered"


@functools.cache
def _seal() -> Seal:
    return Seal([(b"key1", b"k" * 32), (b"key2", b"l" * 32)], b"s" * 16)


def certificate(data: bytes) -> None:
    """A certificate, in the handshake."""
    with contextlib.suppress(HandshakeRefused):
        identity_of(data)


# ---- for whoever has the secret ------------------------------------------------------------------------


def membership(data: bytes) -> None:
    """A message of the membership; its decoder raises nothing."""
    MembershipCodec(CLUSTER).decode(data)
    token_in(data)


def membership_frames(data: bytes) -> None:
    """The frames of a membership's connection."""
    frames = Frames(1000)
    with contextlib.suppress(ValueError):
        for start in range(0, len(data), 7):
            frames.add(data[start : start + 7])
            while (frame := frames.take()) is not None:
                assert len(frame) <= 1000


def hello(data: bytes) -> None:
    """What a peer says first, and what a node makes of it."""
    node = _node().node
    try:
        said = hello_of(data)
        node._peers._check(said, None, None)
        node._peers._check_meant(said)
    except (ValueError, CodecError, HandshakeRefused):
        return


def request(data: bytes) -> None:
    """A request on the control channel; each is answered."""
    answer = _node().node._control._answer(data, "127.0.0.1")
    control.opened(answer[HEAD.size :])


def value(data: bytes) -> None:
    """A value, from a member."""
    _unpacked(_codec(False), data)


def client_value(data: bytes) -> None:
    """A value, from a client: what it takes is bounded by what it weighs."""
    _unpacked(_codec(True), data)
    with contextlib.suppress(ValueError):
        look_through(data)
        weigh(data, 1 << 20)


@functools.cache
def _codec(is_clients: bool) -> Codec:
    return codec_of(client_bounds(NodeConfig()) if is_clients else MEMBERS)


def _unpacked(codec: Codec, data: bytes) -> None:
    with contextlib.suppress(CodecError):
        codec.unpack(data)
    assert codec.failure is None
    assert codec.unpack(b"\x01") == 1, "a refusal has left something behind"


def frames(data: bytes) -> None:
    """A batch of frames, from a member whose link is up."""
    _node().hear(HEAD.pack(len(data)) + data)


def stream(data: bytes) -> None:
    """All that comes over a link: batches and pieces, as they are cut."""
    _node().hear(data)


def large_message(data: bytes) -> None:
    """A large message that is announced, and comes in pieces: its frame, and a buffer of the last bytes."""
    head, buffer = data[: len(data) // 2 + 1], data[len(data) // 2 + 1 :]
    announced = codec_of(MEMBERS).pack([16, 1, [len(head), len(buffer)]])
    pieces = b"".join(
        PIECE_HEAD.pack(PIECE_BIT | (len(part) + 4), 1) + part for part in (head[:5], head[5:], buffer) if part
    )
    _node().hear(HEAD.pack(len(announced)) + announced + pieces)


def client_call(data: bytes) -> None:
    """A client's frame, and the arguments in it."""
    try:
        unpacker = callframe.unpacker(1 << 20)
        unpacker.feed(data)
        for frame in unpacker:
            with contextlib.suppress(CodecError, TypeError):
                call = callframe.CallFrame.checked(frame[1:])
                str(call)
                _seals().arguments(call.sealed)
        callframe.frame_of(data, [b"apart"])
    except (
        ValueError,
        CodecError,
        TypeError,
        LookupError,
        UnpackException,
    ):  # what ends a connection
        return


def client_arguments(data: bytes) -> None:
    """What is sealed in a client's call, and how a gateway names its client."""
    with contextlib.suppress(CodecError):
        _seals().arguments(data)
    with contextlib.suppress(CodecError):
        _seals().caller(data)


@functools.cache
def _seals() -> Seals:
    return Seals(_codec(True), "me", CLUSTER, has_tracebacks=False)


# ---- a node without sockets ------------------------------------------------------------------------------


class Bench:
    """A node that runs, and whose one peer is whatever bytes are given."""

    def __init__(self) -> None:
        self.loop = loop = asyncio.new_event_loop()
        self.faults: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.faults.append(context))
        self.node = node = Node(cluster=CLUSTER, discovery=[], tls=False)
        node._loop = node._host.loop = node._host.runners.loop = loop
        node._router.loop = node._router.routes.loop = node._router.limits.loop = loop
        node._router.stopped = None
        members = (
            Member(node.id, "127.0.0.1:1", {}, 1, frozenset({ECHO}), False),
            Member(PEER, "127.0.0.1:2", {}, 2, frozenset(), False),
        )
        node._host.install(View("fuzz", 1, members))
        node._peers._stopped = True  # it dials nobody

    def hear(self, data: bytes) -> None:
        """Let the peer connect, say this, and hang up."""
        self.loop.run_until_complete(self._hear(data))
        if self.faults:
            fault, self.faults = self.faults[0], []
            raise fault.get("exception") or AssertionError(fault["message"])

    async def _hear(self, data: bytes) -> None:
        node = self.node
        link = node._peers.link(PEER)
        connection: Connection = node._peers._connection(_nothing, _nothing, node._peers._ended)
        connection.connection_made(Wire())
        link.up(connection, node._codec, 1 << 20)
        connection.data_received(defined())
        assert link.is_up, link.trouble
        for start in range(0, len(data), 1000):
            if link.is_up:
                connection.data_received(data[start : start + 1000])
        for _ in range(5):
            await asyncio.sleep(0)
        if link.is_up:
            connection.connection_lost(None)
        assert not link.is_up
        for cell in list(node._host.cells()):
            cell.retire("stopped")
        for kind in [kind for kind in node._host.kinds.by_name.values() if not kind.is_here]:
            del node._host.kinds.by_name[kind.name]


def _nothing(*_: Any) -> None:
    """Take no notice."""


@functools.cache
def _node() -> Bench:
    return Bench()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        preamble,
        datagram,
        certificate,
        membership,
        membership_frames,
        hello,
        request,
        value,
        client_value,
        frames,
        stream,
        large_message,
        client_call,
        client_arguments,
    )
}
"""By name: what is fuzzed."""
