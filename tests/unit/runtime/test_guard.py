"""Who may call: the authorize hook, limited nodes, and clients that are dismissed or go too far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import msgpack
import pytest
import pytest_asyncio

from ringcast import (
    ActorName,
    CallError,
    Client,
    CodecError,
    ConfigError,
    HandshakeRefused,
    Identity,
    MailboxFull,
    Node,
    NodeConfig,
    NotAllowed,
    Seeds,
    Unreachable,
    submit,
    tell,
    using,
)
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.runtime import wire
from ringcast.runtime.uplink import framed
from ringcast.security.channels import CLIENTS
from ringcast.security.credential import issue
from ringcast.security.secret import Secret, new_key
from tests.unit.runtime.outside import Cart, Closed, Outside, outside
from tests.unit.runtime.places import eventually, gates, raised

_msgpack = cast(Any, msgpack)  # it has no types

# ---- the hook --------------------------------------------------------------------------------------


@pytest.mark.parametrize("remote", [False, True])
async def test_the_hook_sees_callers_actors_and_methods_from_outside(remote: bool, tmp_path: Path) -> None:
    asked: list[tuple[str, str, ActorName, str]] = []

    def authorize(caller: Identity, actor: ActorName, method: str) -> bool | str:
        asked.append((caller.role, caller.name, actor, method))
        return True if method != "add" else "carts are full today"

    async with outside(tmp_path, remote=remote, authorize=authorize) as out, out.client() as client:
        assert await client.ref(Cart, "ann").lines() == []
        with pytest.raises(NotAllowed, match="authorize refused client web: carts are full today"):
            await client.ref(Cart, "ann").add("tea")
        await tell(client.ref(Cart, "ann").add, "tea")
        await eventually(lambda: client.dead_letters.total == 1)
        assert asked[0] == ("client", "web", ActorName(f"{Cart.__module__}:Cart", "ann"), "lines")
        assert str(asked[0][2]) == f"{Cart.__module__}:Cart['ann']"
        asked.clear()
        assert await out.gateway.ref(Cart, "ann").lines() == []  # not from outside of this node
        assert asked == []


async def test_the_hook_is_asked_about_other_nodes_too(tmp_path: Path) -> None:
    refused: list[str] = []

    def authorize(caller: Identity, actor: ActorName, method: str) -> bool | str:
        if caller.role == "node" and method == "wipe":
            refused.append(caller.name)
            return False
        return True

    async with outside(tmp_path, remote=True) as out:
        seeds, secret = [Seeds([out.gateway.address])], tmp_path / "secret"
        async with Node(cluster=out.cluster, secret=secret, discovery=seeds, authorize=authorize) as guarded:
            await out.gateway.wait_for_members(3, 10)
            cart = await _owned_by(guarded, out.gateway)
            assert await cart.add("tea") == 1
            assert await using(cart, timeout=5.0).add(large=bytes(100_000)) == 2
            with pytest.raises(NotAllowed, match=rf"authorize refused node {out.gateway.id}$"):
                await cart.wipe()
            before = out.gateway.dead_letters.total
            await tell(cart.wipe)
            await eventually(lambda: out.gateway.dead_letters.total == before + 1)
            assert refused == [out.gateway.id] * 2
            async with out.client() as client:  # on whose behalf the gateway asks
                assert await client.ref(Cart, cart._key).caller() is not None  # type: ignore[attr-defined]


async def _owned_by(node: Node, caller: Node) -> Cart:
    async with asyncio.timeout(5):
        while True:
            for key in range(1000):
                cart = caller.ref(Cart, key)
                if (await caller.locate(cart)).id == node.id:
                    return cart
            await asyncio.sleep(0)


@pytest.mark.parametrize("answer", [None, 1, "", RuntimeError("no database")])
async def test_what_is_no_clear_answer_refuses(answer: Any, tmp_path: Path) -> None:
    def authorize(caller: Identity, actor: ActorName, method: str) -> bool | str:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]

    async with outside(tmp_path, remote=False, authorize=authorize) as out, out.client() as client:
        with pytest.raises(NotAllowed, match="authorize refused client web") as caught:
            await client.ref(Cart, "ann").lines()
    assert "database" not in str(caught.value)


def test_a_hook_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigError, match="authorize"):
        Node(authorize="yes")  # type: ignore[arg-type]


# ---- limited nodes -----------------------------------------------------------------------------------


@asynccontextmanager
async def limited(out: Outside, folder: Path, *allow: str) -> AsyncIterator[Node]:
    """Yield a node that joined with a credential that allows so much."""
    credential = issue(out.secret, out.cluster, "node", "edge", now=time.time(), ttl=600.0, allow=list(allow))
    file = folder / "edge.credential"
    file.write_text(credential.render())
    file.chmod(0o600)
    options: dict[str, Any] = {"cluster": out.cluster, "secret": file, "discovery": [Seeds([out.gateway.address])]}
    async with Node(**options, hosts=[], config=NodeConfig(drain_timeout=0.5)) as node:
        await out.gateway.wait_for_members(2, 10)
        yield node


@pytest_asyncio.fixture
async def out(tmp_path: Path) -> AsyncIterator[Outside]:
    async with outside(tmp_path, remote=False) as found:
        yield found


async def test_a_limited_node_may_call_what_its_credential_allows(out: Outside, tmp_path: Path) -> None:
    async with limited(out, tmp_path, "Cart.add", "Cart.count_to") as edge:
        cart = edge.ref(Cart, "ann")
        assert await cart.add("tea") == 1
        assert await using(cart, timeout=5.0).add(bytes(100_000)) == 2
        assert [n async for n in cart.count_to(100)] == list(range(100))
        await tell(cart.add, "milk")
        for ask in (cart.lines(), using(cart, timeout=5.0).lines(), edge.ref(Closed, "ann").peek()):
            with pytest.raises(NotAllowed, match=r"credential of node edge allows Cart\.add, Cart\.count_to; not "):
                await ask
        await tell(cart.wipe)
        await eventually(lambda: edge.dead_letters.total == 1)
        assert await out.gateway.ref(Cart, "ann").lines() == ["tea", bytes(100_000), "milk"]


async def test_a_limited_node_may_not_spawn_stop_or_watch_elsewhere(out: Outside, tmp_path: Path) -> None:
    async with limited(out, tmp_path, "*") as edge:
        cart = edge.ref(Cart, "ann")
        assert await cart.add("tea") == 1
        with pytest.raises(NotAllowed, match="limited"):
            await edge.stop(cart)


async def test_a_limited_node_sends_and_gets_no_pickles(out: Outside, tmp_path: Path) -> None:
    async with limited(out, tmp_path, "Cart.*") as edge:
        with pytest.raises(CodecError, match="pickle"):
            await edge.ref(Cart, "ann").add(_OnlyPickled())
        await out.gateway.ref(Cart, "ann").add(_OnlyPickled())
        error = await raised(edge.ref(Cart, "ann").lines())
        assert isinstance(error, CallError)
        assert "pickle" in str(error)


class _OnlyPickled:
    """Nothing that the codec knows."""


async def test_a_limited_node_answers_no_calls_but_those_made_to_it(out: Outside, tmp_path: Path) -> None:
    async with limited(out, tmp_path, "Cart.*") as edge, out.client() as client:
        assert await edge.ref(Cart, "ann").add("tea") == 1
        link = edge._peers.links[out.gateway.id]
        waiting = submit(client.ref(Cart, "bob").wait, "gate")
        await gates.entered("gate")
        [number] = [number for number, call in out.gateway._router.calls.items() if call.route.key == "bob"]
        link.send_frame([wire.REPLY, number, b"\xa6forged"])
        link.send_frame([wire.MOVED, number, edge.id, 1])
        meta: list[Any] = [[], {}, [], None, out.gateway.id, 0, None]
        [sent] = link._defined  # the number of Cart.add
        link.send_frame([wire.REQUEST_X, number, sent, "eve", 5000, 0, meta])
        assert await edge.ref(Cart, "ann").lines() == ["tea"]  # all that was sent before has arrived
        assert not waiting.done()
        gates.let_go("gate")
        assert await waiting == "gate"
        assert await out.gateway.ref(Cart, "eve").lines() == []


# ---- credentials that end --------------------------------------------------------------------------


async def test_a_connection_ends_with_its_credential(out: Outside) -> None:
    async with out.client(credential=out.credential(ttl=3.0)) as client:  # certificates count whole seconds
        assert await client.ref(Cart, "ann").add("tea") == 1
        [link] = out.gateway._gateway.links
        assert link._end is not None
        assert 0.0 < link._end.when() - asyncio.get_running_loop().time() <= 3.0
        await eventually(lambda: client.node is None, 8.0)
        error = await raised(using(client.ref(Cart, "ann"), timeout=0.2).add("milk"))
        assert isinstance(error, Unreachable)
        assert "has expired" in str(error)


async def test_a_rotation_takes_clients_along_and_ends_those_of_a_dropped_key(out: Outside, tmp_path: Path) -> None:
    file, old, new = tmp_path / "secret", out.secret.signing, new_key(time.time() + 1)

    def hold(*keys: Any) -> Any:
        file.write_text(Secret(keys).render())
        return lambda: out.gateway._trust.accepted == tuple(key.id for key in keys)

    async with out.client() as stays, out.client(credential=out.credential("late")) as goes:
        await eventually(hold(old, new), 5.0)
        await eventually(hold(new, old), 5.0)
        renewed = issue(Secret((new, old)), out.cluster, "client", "web", now=time.time(), ttl=600.0)
        papers = stays._uplink.papers
        assert papers._nodes is not None
        assert papers._nodes.count(b"BEGIN CERTIFICATE") == 2
        async with out.client(credential=renewed) as fresh:
            await eventually(hold(new), 5.0)
            await eventually(lambda: goes.node is None, 5.0)
            error = await raised(using(goes.ref(Cart, "ann"), timeout=0.5).lines())
            assert isinstance(error, Unreachable)
            assert await fresh.ref(Cart, "ann").add("tea") == 1


async def test_a_node_that_leaves_sends_its_clients_elsewhere(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=False) as out:
        seeds = [Seeds([out.gateway.address])]
        leaving = Node(cluster=out.cluster, secret=tmp_path / "secret", discovery=seeds, hosts=[])
        await leaving.start()
        async with out.client(nodes=[leaving.address]) as client:
            client._uplink.addresses.append(out.gateway.address)
            cart = client.ref(Cart, "ann")
            waiting = submit(cart.wait, "gate")
            await gates.entered("gate")
            left = asyncio.create_task(leaving.leave())
            await eventually(lambda: client.node == out.gateway.id)
            assert await client.ref(Cart, "bob").add("tea") == 1
            assert not waiting.done()
            gates.let_go("gate")
            assert await waiting == "gate"
            await left


# ---- too much, and what no client sends --------------------------------------------------------------


async def test_calls_and_connections_of_one_name_are_bounded(tmp_path: Path) -> None:
    config = NodeConfig(client_calls=3, client_connections_each=2)
    async with outside(tmp_path, remote=False, config=config) as out, out.client() as one, out.client() as two:
        waiting = [submit(client.ref(Cart, n).wait, "gate") for n, client in enumerate((one, two, one))]
        await eventually(lambda: out.gateway.stats()["client_calls_pending"] == 3)
        with pytest.raises(MailboxFull, match="client_calls=3"):
            await two.ref(Cart, "ann").lines()
        async with out.client(credential=out.credential("other")) as other:
            assert await other.ref(Cart, "ann").lines() == []
        with pytest.raises(HandshakeRefused, match="client_connections_each=2"):
            await out.client().start()
        gates.let_go("gate")
        assert await asyncio.gather(*waiting) == ["gate"] * 3
        assert await two.ref(Cart, "ann").lines() == []


async def test_without_tls_there_are_no_clients(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(Secret((new_key(time.time()),)).render())
    secret.chmod(0o600)
    async with Node(cluster="plain", secret=secret, discovery=[], tls=False) as node:
        client = Client([node.address], secret=secret, cluster="plain", connect_timeout=0.5)
        with pytest.raises((Unreachable, HandshakeRefused)):
            await client.start()


@pytest.fixture(autouse=True)
async def closed() -> AsyncIterator[None]:
    """End the connections that a test has dialled by itself."""
    yield
    while Raw.opened:
        Raw.opened.pop().writer.transport.abort()
    await asyncio.sleep(0)


class Raw:
    """A connection as a client, of which every byte is chosen."""

    opened: ClassVar[list[Raw]] = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def dial(cls, out: Outside, **hello: Any) -> Raw:
        context = out.credential().dialling()
        reader, writer = await asyncio.open_connection(*split_address(out.gateway.address))
        writer.write(preamble(CLIENTS))
        await writer.start_tls(context, server_hostname="")
        said = {"protocol": list(wire.PROTOCOL), "cluster": out.cluster, "max_message": 1 << 20, "in_flight": 1 << 20}
        writer.write(framed(said | hello))
        raw = cls(reader, writer)
        cls.opened.append(raw)
        return raw

    async def said(self) -> list[Any]:
        """Return the frames of the next batch; the hello is one, in its way."""
        size: int = wire.HEAD.unpack(await self.reader.readexactly(4))[0]
        unpacker = _msgpack.Unpacker()
        unpacker.feed(await self.reader.readexactly(size))
        return list(unpacker)

    async def frames(self) -> list[list[Any]]:
        """Return those of the next batch; none if it is the hello."""
        return [frame for frame in await self.said() if isinstance(frame, list)]

    def say(self, *frames: Any) -> None:
        body = b"".join(_msgpack.packb(frame) for frame in frames)
        self.writer.write(wire.HEAD.pack(len(body)) + body)

    async def ended(self) -> None:
        """Wait until the node closes."""
        async with asyncio.timeout(5):
            try:
                await self.reader.read()
            except OSError:
                return


EMPTY = b"\x92\x90\x80"
CART = f"{Cart.__module__}:Cart"


STRANGE: list[Any] = [
    "text",
    7,
    [],
    [99],
    [wire.CALL],
    [wire.CALL, -1, CART, "add", "ann", None, 1000, EMPTY, None],
    [wire.CALL, 1, CART, "add", "ann", None, 0, EMPTY, None],
    [wire.CALL, 1, CART, "add", "ann", None, None, EMPTY, None],
    [wire.CALL, 1, "c" * 600, "add", "ann", None, 1000, EMPTY, None],
    [wire.CALL, 1, CART, "add", "k" * 2000, None, 1000, EMPTY, None],
    [wire.CALL, 1, CART, "add", 1.5, None, 1000, EMPTY, None],
    [wire.CALL, 1, CART, "add", "ann", "a node", 1000, EMPTY, None],
    [wire.CALL, 1, CART, "add", "ann", None, 1000, "text", None],
    [wire.CALL, 1, CART, "add", _msgpack.ExtType(65, b"\xc4\x01."), None, 1000, EMPTY, None],
    [wire.CALL, 1, CART, "add", _msgpack.ExtType(1, b"\x91\xc7\x02\x01\x91\xc0"), None, 1000, EMPTY, None],
    [wire.REQUEST, 1, 1, "ann", 1000, 0],
    [wire.REQUEST_X, 1, 1, "ann", 1000, 0, [[], {}, [], None, None, 0, None]],
    [wire.TELL, 1, "ann", 0],
    [wire.FOR_CLIENT, 1, CART, "wipe", "ann", 1000, 0, [EMPTY, b"", False, None, None, 0, None]],
    [wire.REPLY, 1, b"\xc0"],
    [wire.ERROR, 1, ["a", "b", "c", None]],
    [wire.ITEM, 1, b"\xc0"],
    [wire.END, 1],
    [wire.PULL, 1, -1],
    [wire.PULL, 1, 1 << 40],
    [wire.CANCEL, 1, 1, "ann", True],
    [wire.GRANT, CART, "ann", None, 1],
    [wire.DEFINE, 1, CART, "add", False, None],
    [wire.MOVED, 1, "node", 1],
    [wire.LOST, 1, "ann", "reason"],
    [wire.SYSTEM, 1, "stop", CART, "ann"],
    [wire.BULK, 1, [1 << 40]],
    [wire.BULK, 1, []],
    [wire.BULK, 1, [-1, 10]],
    [wire.ACK, -1],
    [wire.ACK, 1 << 40],
    [wire.AUTHORITIES, b""],
    {"a": 1},
]


@pytest.mark.parametrize("frame", STRANGE)
async def test_frames_that_no_client_sends_end_the_connection_and_nothing_else(frame: Any, out: Outside) -> None:
    await out.gateway.ref(Cart, "ann").add("tea")
    raw = await Raw.dial(out)
    await raw.said()
    raw.say(frame)
    await raw.ended()
    await eventually(lambda: not out.gateway._gateway.links)
    assert await out.gateway.ref(Cart, "ann").lines() == ["tea"]
    async with out.client() as client:
        assert await client.ref(Cart, "ann").lines() == ["tea"]


async def test_names_that_a_client_makes_up_are_not_remembered(out: Outside) -> None:
    kinds, routes = out.gateway._host.kinds, out.gateway._router.routes
    raw = await Raw.dial(out)
    await raw.said()
    raw.say(*([wire.CALL, n, f"no:C{n}", "m", n, None, 1000, EMPTY, None] for n in range(1, 500)))
    raw.say(*([wire.CALL, n, CART, f"no_{n}", n, None, 1000, EMPTY, None] for n in range(500, 1000)))
    ref = _msgpack.ExtType(64, _msgpack.packb(["no:Ref", "k", None]))
    raw.say([wire.CALL, 1000, CART, "add", "ann", None, 1000, _msgpack.packb([[ref], {}]), None])
    answered = set[int]()
    async with asyncio.timeout(5):
        while len(answered) < 1000:
            answered.update({frame[1] for frame in await raw.frames() if frame[0] == wire.ERROR})
    assert not any(name.startswith("no:") for name in kinds.by_name)
    assert len(routes) < 10
    assert await out.gateway.ref(Cart, "ann").lines() == []


async def test_arguments_that_are_none_are_refused_and_the_connection_goes_on(out: Outside) -> None:
    raw = await Raw.dial(out)
    await raw.said()
    wrong = [b"", b"\xc0", b"\x92\x80\x90", b"\x92\x90\x81\x01\x01", b"\x92\xdd\xff\xff\xff\xff\x80", b"\x91" * 5000]
    for number, sealed in enumerate(wrong, 1):
        raw.say([wire.CALL, number, CART, "add", "ann", None, 1000, sealed, None])
    raw.say([wire.CALL, 99, CART, "lines", "ann", None, 1000, EMPTY, None])
    answers = dict[int, int]()
    async with asyncio.timeout(5):
        while len(answers) < len(wrong) + 1:
            frames = await raw.frames()
            answers.update({frame[1]: frame[0] for frame in frames if frame[0] in (wire.ERROR, wire.REPLY)})
    assert answers.pop(99) == wire.REPLY
    assert set(answers.values()) == {wire.ERROR}


@pytest.mark.parametrize("hello", [{"protocol": [7, 9]}, {"protocol": "new"}])
async def test_another_version_is_refused_in_words(hello: dict[str, Any], out: Outside) -> None:
    raw = await Raw.dial(out, **hello)
    [answer] = await raw.said()
    assert "speaks protocol versions" in answer["refused"]
    await raw.ended()


async def test_too_many_values_are_refused_before_they_are_built(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=False) as out, out.client() as client:
        with pytest.raises(Exception, match="client_max_values=") as caught:
            await client.ref(Cart, "ann").add(list(range(200_000)))
        assert "client_max_values" in str(caught.value)
        assert await client.ref(Cart, "ann").add(bytes(2_000_000)) == 1
