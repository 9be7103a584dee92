"""What whoever has taken over a limited node tries beyond what its credential allows."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest
import pytest_asyncio

from ringcast import Actor, Identity, Node, NodeConfig, Seeds, using
from ringcast.runtime import peers, wire
from ringcast.runtime.extensions import Code
from ringcast.security.channels import LINKS
from ringcast.security.credential import issue
from ringcast.security.identity import NODE
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key
from ringcast.security.trust import Trust
from tests.unit.runtime.dials import Streams, dial_as, rest_of
from tests.unit.runtime.places import eventually, new_cluster

_msgpack = cast("Any", msgpack)
SECRET = Secret((new_key(1_700_000_000),))
SHOP = "tests.unit.runtime.test_limited_nodes:Shop"


class Shop(Actor, expose=True):
    async def say(self, what: Any) -> Any:
        return what

    async def wait(self) -> str:
        await asyncio.Event().wait()
        return "never"

    async def caller(self) -> Identity | None:
        return self.context.caller

    async def secrets(self) -> str:
        return "none of its business"


@dataclass
class Edge:
    """A limited node's credential in the wrong hands, connected to `node` and known by the other one."""

    credential: Path
    trust: Trust
    node: Node
    other: Node
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    numbers: int = 0

    def say(self, *frames: object) -> None:
        data = b"".join(_msgpack.packb(frame) for frame in frames)
        self.writer.write(struct.pack("!I", len(data)) + data)

    async def answer(self, number: int) -> list[Any]:
        """Return what the node answers to a call."""
        async with asyncio.timeout(5):
            while True:
                (size,) = struct.unpack("!I", await self.reader.readexactly(4))
                unpacker = _msgpack.Unpacker(strict_map_key=False)
                unpacker.feed(await self.reader.readexactly(size))
                for frame in unpacker:
                    if frame[0] in (wire.REPLY, wire.ERROR) and frame[1] == number:
                        return list(frame)

    async def call(self, method: str, key: object, *args: object, meta: list[Any] | None = None) -> list[Any]:
        """Make a call as a node would, and return the answer."""
        self.numbers += 1
        self.say([wire.DEFINE, self.numbers, SHOP, method, False, None])
        rest: list[Any] = [list(args), {}, [], None, None, 0, None] if meta is None else meta
        self.say([wire.REQUEST_X, self.numbers, self.numbers, key, 4000, 1, rest])
        return await self.answer(self.numbers)

    @property
    def is_connected(self) -> bool:
        return self.node._peers.link(self.trust.node_id).is_up


def key_of(owner: Node) -> str:
    """Return a key that this node owns."""
    kinds = owner._host.kinds
    return next(key for key in map(str, range(1000)) if kinds.owner(kinds.named(SHOP), key, None) == owner.id)


def say_hello(trust: Trust, node: Node, writer: asyncio.StreamWriter) -> None:
    data = _msgpack.packb({**node._peers._hello(node.id), "node": trust.node_id, "to_incarnation": 0, "dials": 1})
    writer.write(struct.pack("!I", len(data)) + data)


async def greeted(trust: Trust, node: Node) -> Streams:
    """Connect as a peer, and exchange hellos."""
    reader, writer = await dial_as(trust, node, LINKS)
    say_hello(trust, node, writer)
    (size,) = struct.unpack("!I", await reader.readexactly(4))
    assert _msgpack.unpackb(await reader.readexactly(size))["node"] == node.id
    return reader, writer


@pytest_asyncio.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with an_edge(tmp_path) as found:
        yield found


@asynccontextmanager
async def an_edge(folder: Path, ttl: float = 600) -> AsyncIterator[Edge]:
    path, cluster = folder / "credential", new_cluster()
    allow = ["Shop.say", "Shop.caller"]
    write_private(path, issue(SECRET, cluster, NODE, "edge", now=time.time(), ttl=ttl, allow=allow).render())
    common: dict[str, Any] = {"cluster": cluster, "secret": SECRET.render().encode()}
    common |= {"config": NodeConfig(drain_timeout=0.2)}
    async with Node(**common, discovery=[]) as node, Node(**common, discovery=[Seeds([node.address])]) as other:
        await node.wait_for_members(2, 5)
        await other.wait_for_members(2, 5)
        assert await node.ref(Shop, key_of(other)).say(1) == 1
        trust = Trust.found(path, cluster)
        reader, writer = await greeted(trust, node)
        try:
            yield Edge(path, trust, node, other, reader, writer)
        finally:
            writer.transport.abort()


def between(edge: Edge) -> list[Any]:
    """Return the connection between the two nodes, as both see it."""
    return [edge.node._peers.link(edge.other.id).connection, edge.other._peers.link(edge.node.id).connection]


async def test_it_may_call_what_its_patterns_allow_and_nothing_else(edge: Edge) -> None:
    assert (await edge.call("say", key_of(edge.node), 5))[2] == 5
    for key in (key_of(edge.node), key_of(edge.other)):  # what would be sent on is judged before
        refused = await edge.call("secrets", key)
        assert refused[0] == wire.ERROR
        assert "allows Shop.say, Shop.caller; not Shop.secrets" in refused[2][1]


@pytest.mark.parametrize("verb", ["spawn", "stop", "watch", "unwatch", "ended"])
async def test_it_may_not_steer_actors(edge: Edge, verb: str) -> None:
    edge.say([wire.SYSTEM, 1, verb, SHOP, "k", edge.trust.node_id, 1])
    assert "is limited" in (await edge.answer(1))[2][1]


@pytest.mark.parametrize(
    "meta",
    [
        [[1], {}, [[1]], None, None, 0, None],
        [[1], {}, [[SHOP, "k", 1, 1, 1]], None, None, 0, None],
        [[1], {}, [], None, None, 0, ["once"]],
        [[1], [2], [], None, None, 0, "once"],
        [[1], {}, [], {"a": 1}, None, 0, "once"],
    ],
    ids=repr,
)
async def test_what_is_no_message_costs_the_connection_of_nobody_else(edge: Edge, meta: list[Any]) -> None:
    before = between(edge)
    for key in (key_of(edge.other), key_of(edge.node)):
        edge.say([wire.DEFINE, 1, SHOP, "say", False, None], [wire.REQUEST_X, 9, 1, key, 4000, 1, meta])
    await asyncio.wait({asyncio.ensure_future(rest_of(edge.reader))}, timeout=0.3)
    assert await edge.node.ref(Shop, key_of(edge.other)).say(1) == 1
    assert between(edge) == before


async def test_pickles_and_classes_by_value_are_not_taken(edge: Edge) -> None:
    refused = await edge.call(
        "say", key_of(edge.node), _msgpack.ExtType(int(Code.PICKLE), _msgpack.packb(b"cos\nsystem\n."))
    )
    assert "does not allow pickle" in refused[2][1]
    edge.say([wire.DEFINE, 99, "x:Evil@0123456789abcdef", "say", False, b"cos\nsystem\n."])
    await rest_of(edge.reader)
    assert not edge.is_connected


async def test_it_cannot_answer_for_others(edge: Edge) -> None:
    call: Any = asyncio.ensure_future(edge.node.ref(Shop, key_of(edge.other)).wait())
    await eventually(lambda: len(edge.node._router.calls) == 1)
    (number,) = edge.node._router.calls
    for frame in ([wire.REPLY, number, "forged"], [wire.ERROR, number, ["x", "y", "z", None]]):
        edge.say(frame)
    edge.say([wire.MOVED, number, edge.trust.node_id, 1], [wire.END, number], [wire.ITEM, number, 1])
    assert (await edge.call("say", key_of(edge.node), 1))[2] == 1
    assert not call.done()
    assert edge.node._router.calls[number].link is edge.node._peers.link(edge.other.id)
    call.cancel()


async def test_it_cannot_let_answers_go_elsewhere(edge: Edge) -> None:
    edge.say([wire.DEFINE, 1, SHOP, "say", False, None])
    meta: list[Any] = [[1], {}, [], None, edge.other.id, 0, None]
    edge.say([wire.REQUEST_X, 5, 1, "k", 4000, 1, meta])
    assert (await edge.call("say", key_of(edge.node), 1))[2] == 1


async def test_it_cannot_call_for_clients_who_could_be_anybody(edge: Edge) -> None:
    caller = _msgpack.packb(["alice", bytes(32), None, None])
    meta = [_msgpack.packb([[], {}]), caller, False, None, None, 0, None]
    edge.say([wire.FOR_CLIENT, 7, SHOP, "caller", key_of(edge.node), 4000, 1, meta])
    assert "may not call for clients" in (await edge.answer(7))[2][1]


async def test_it_gets_no_reply_that_an_idempotency_key_of_others_remembers(edge: Edge) -> None:
    key = key_of(edge.node)
    shop = edge.other.ref(Shop, key)
    assert await using(shop, idempotency_key="once").say("mine") == "mine"
    assert await using(shop, idempotency_key="once").say("mine") == "mine"
    turns = edge.node._host.kinds.named(SHOP).cells[key].number
    assert (await edge.call("say", key, "mine", meta=[["mine"], {}, [], None, None, 0, "once"]))[2] == "mine"
    assert edge.node._host.kinds.named(SHOP).cells[key].number == turns + 1, "the handler runs for it"


async def test_its_connection_ends_with_its_credential(tmp_path: Path) -> None:
    async with an_edge(tmp_path, ttl=2.0) as edge:
        assert (await edge.call("say", key_of(edge.node), 1))[2] == 1
        await rest_of(edge.reader)
        assert not edge.is_connected
        assert "has ended" in edge.node._peers.link(edge.trust.node_id).trouble


async def test_who_is_in_no_view_loses_its_connection_with_the_key(tmp_path: Path) -> None:
    new, file, cluster = new_key(1_800_000_000), tmp_path / "secret", new_cluster()
    write_private(file, Secret((*SECRET.keys, new)).render())
    async with Node(cluster=cluster, secret=file, discovery=[]) as node:
        reader, writer = await greeted(Trust.found(SECRET.render().encode(), cluster, node_id="ghost"), node)
        late = Trust.found(SECRET.render().encode(), cluster, node_id="late")
        late_reader, late_writer = await dial_as(late, node, LINKS)
        assert node._peers.link("ghost").is_up
        write_private(file, Secret((new,)).render())
        await rest_of(reader)
        assert "was dropped" in node._peers.link("ghost").trouble
        say_hello(late, node, late_writer)
        assert b"was dropped" in await rest_of(late_reader)
        for used in (writer, late_writer):
            used.transport.abort()


async def test_nothing_is_kept_of_nodes_that_were_never_members(edge: Edge) -> None:
    name = edge.trust.node_id.partition(".")[0]
    for number in range(3):
        trust = Trust.found(edge.credential, edge.trust.cluster, node_id=f"{name}.{number}")
        _, writer = await greeted(trust, edge.node)
        assert edge.node._peers.link(trust.node_id).is_up
        writer.transport.abort()
    await eventually(lambda: edge.node._peers.links.keys() == {edge.other.id, edge.trust.node_id})


async def test_a_credential_speaks_for_any_number_of_nodes_and_so_many_are_connected(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "LIMITED_MAX", 2)
    _, second = await greeted(Trust.found(edge.credential, edge.trust.cluster, node_id="edge.2"), edge.node)
    trust = Trust.found(edge.credential, edge.trust.cluster, node_id="edge.3")
    reader, third = await dial_as(trust, edge.node, LINKS)
    say_hello(trust, edge.node, third)
    assert b"are connected already" in await rest_of(reader)
    for writer in (second, third):
        writer.transport.abort()
