"""Peers that do not fit or do not speak: refused in words, and nothing else is lost."""

from __future__ import annotations

import contextlib
import os
import struct
from typing import Any

import msgpack
import pytest

from ringcast import NOT_SENT, Actor, HandshakeRefused, Node, NodeConfig, Seeds, Unreachable, submit, using
from ringcast.discovery.preamble import preamble
from ringcast.runtime.peers import Peers
from ringcast.runtime.wire import REQUEST, TELL
from ringcast.security.channels import LINKS
from tests.unit.runtime.dials import dial, dial_as, rest_of, trust_like
from tests.unit.runtime.places import REMOTE, Place, a_place, gates, new_cluster, raised

_msgpack: Any = msgpack  # it has no types


class Echo(Actor):
    async def say(self, what: Any) -> Any:
        return what

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate

    async def note(self, what: str) -> None:
        gates.seen.append(what)


def framed(value: object) -> bytes:
    body: bytes = _msgpack.packb(value)
    return struct.pack("!I", len(body)) + body


GARBAGE = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\0" * 64,
    os.urandom(4096),
    preamble(b"?") + b"hello",
    preamble(LINKS) + b"\xff" * 64,
    preamble(LINKS) + os.urandom(4096),
    preamble(LINKS) + struct.pack("!I", 1 << 30),
    preamble(LINKS) + framed({"node": "stranger"}),
]
"""From strangers: none of it is TLS."""

CERTIFIED_GARBAGE = [
    b"\xff" * 64,
    struct.pack("!I", 1 << 30),
    framed([1, 2, 3]),
    framed({}),
    framed({"node": 7}),
]
"""From whoever has the secret, and talks nonsense."""


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_on_the_port_is_closed_and_disturbs_nobody(there: Place, garbage: bytes) -> None:
    echo = there.node.ref(Echo, "e")
    running = submit(echo.wait, "gate")
    await gates.entered("gate")
    reader, writer = await dial(there.owner)
    writer.write(garbage)
    with contextlib.suppress(OSError):  # it may have been closed already
        writer.write_eof()
    await rest_of(reader)
    writer.close()
    gates.let_go("gate")
    assert await running == "gate"
    assert await echo.say(1) == 1


@pytest.mark.parametrize("garbage", CERTIFIED_GARBAGE, ids=range(len(CERTIFIED_GARBAGE)))
async def test_garbage_inside_of_tls_is_closed_and_disturbs_nobody(there: Place, garbage: bytes) -> None:
    echo = there.node.ref(Echo, "e")
    assert await echo.say(1) == 1
    reader, writer = await dial_as(trust_like(there.owner), there.owner, LINKS)
    writer.write(garbage)
    await rest_of(reader)
    writer.close()
    assert await echo.say(2) == 2


def hello_to(node: Node, changes: dict[str, Any]) -> dict[str, Any]:
    hello = node._peers._hello(node.id)  # pyright: ignore[reportPrivateUsage]
    return {**hello, "node": "stranger", "to_incarnation": 0, **changes}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"protocol": [8, 9]}, ["[8, 9]", "[1, 1]", "upgrade"]),
        ({"protocol": "new"}, ["versions new", "[1, 1]"]),
        ({"cluster": "another"}, ["'another'", "cluster"]),
        ({"to": "somebody"}, ["somebody", "address was reused"]),
        ({"node": "somebody"}, ["somebody", "certificate", "stranger"]),
    ],
    ids=str,
)
async def test_a_hello_that_does_not_fit_is_refused_with_both_sides_values(
    here: Place, changes: dict[str, Any], says: list[str]
) -> None:
    reader, writer = await dial_as(trust_like(here.node), here.node, LINKS)
    writer.write(framed(hello_to(here.node, changes)))
    answer = await rest_of(reader)
    writer.close()
    refused: str = _msgpack.unpackb(answer[4:])["refused"]
    assert [word for word in says if word not in refused] == []
    assert here.node.id in refused
    assert await here.node.ref(Echo, "e").say(1) == 1


async def test_a_peer_of_another_protocol_version_is_named_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    hello = Peers._hello  # pyright: ignore[reportPrivateUsage]

    async with a_place(REMOTE) as place:

        def newer(self: Peers, *to: Any) -> dict[str, Any]:
            return {**hello(self, *to), **({"protocol": [8, 9]} if self.node_id == place.owner.id else {})}

        monkeypatch.setattr(Peers, "_hello", newer)
        error = await raised(using(place.node.ref(Echo, "e"), timeout=0.5).say(1))
        assert isinstance(error, Unreachable)
        assert error.certainty is NOT_SENT
        assert error.node == place.owner.id
        assert "[8, 9]" in str(error)
        assert await place.owner.ref(Echo, "e").say(1) == 1


async def test_a_seed_of_another_cluster_refuses() -> None:
    async with Node(cluster=new_cluster(), discovery=[]) as node:
        other = Node(cluster=new_cluster(), discovery=[Seeds([node.address])])
        with pytest.raises(HandshakeRefused, match="cluster"):
            await other.start()
        assert node.ready


async def test_a_corrupt_frame_costs_the_connection_and_no_more(there: Place) -> None:
    echo = there.node.ref(Echo, "e")
    assert await echo.say(1) == 1
    connection = there.node._peers.link(there.owner.id).connection  # pyright: ignore[reportPrivateUsage]
    assert connection is not None
    connection.write([b"\xc1\xc1\xc1"])
    lost = await raised(using(echo, timeout=2).wait("never"))
    assert isinstance(lost, Unreachable)
    assert await using(echo, timeout=5).say(2) == 2
    gates.let_go("never")


NONSENSE = [
    [None, 1, None, None, 1, 2, 3],
    [None, None, None, None, 1],
    [True, 1, None, None, 1, 2, 3],
    [TELL, None, None, 1, 2],
    [REQUEST, 1, None, None, 1000, 1, 2],
    [REQUEST, 1, 1, "e", None, 1, 2],
    [99, 1, 2, 3],
    [],
]
"""Frames that are whole, and mean nothing."""


@pytest.mark.parametrize("nonsense", NONSENSE, ids=str)
async def test_frames_without_a_meaning_cost_the_connection_and_no_more(there: Place, nonsense: list[Any]) -> None:
    """What came before such a frame is handled, what comes after it in the batch is not."""
    echo = there.node.ref(Echo, "e")
    link = there.node._peers.link(there.owner.id)  # pyright: ignore[reportPrivateUsage]
    view = there.node._router.routes.view_number  # pyright: ignore[reportPrivateUsage]
    for count in range(3):
        gates.seen.clear()
        await echo.note("asked")  # its number is said on each connection
        theirs = there.owner._peers.link(there.node.id)  # pyright: ignore[reportPrivateUsage]
        noting = next(number for number, (_, found) in theirs.messages.items() if found.name == "note")
        before, after = (link.pack([TELL, noting, "e", view, what]) for what in ("before", "after"))
        connection = link.connection
        assert connection is not None
        connection.write([*[before] * count, link.pack(nonsense), after])
        await raised(using(echo, timeout=2).wait("never"))
        assert link.connection is not connection
        assert await using(echo, timeout=5).say(2) == 2
        assert gates.seen == ["asked", *["before"] * count]
    gates.let_go("never")
    assert there.owner.ready


async def test_what_is_too_large_is_refused_and_the_link_goes_on() -> None:
    async with a_place(REMOTE, max_message_bytes=1 << 20) as place:
        echo = place.node.ref(Echo, "e")
        running = submit(echo.wait, "gate")
        await gates.entered("gate")
        error = await raised(echo.say(b"x" * (2 << 20)))
        assert "max_message_bytes" in str(error)
        assert place.node.stats()["calls_pending"] == 1
        gates.let_go("gate")
        assert await running == "gate"


def test_a_limit_below_a_piece_is_refused() -> None:
    from ringcast import ConfigError

    with pytest.raises(ConfigError, match="max_message_bytes"):
        NodeConfig(max_message_bytes=1)
