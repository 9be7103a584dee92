"""What clients can do, through a node that owns the actors, and through one that does not."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from ringcast import (
    EXECUTED,
    MAYBE_EXECUTED,
    NOT_SENT,
    CallError,
    CallTimeout,
    Client,
    CodecError,
    ConfigError,
    HandshakeRefused,
    MailboxFull,
    Node,
    NodeConfig,
    NodeStopped,
    NotAllowed,
    Seeds,
    Unreachable,
    Zeroconf,
    broadcast,
    props,
    submit,
    tell,
    using,
    watching,
)
from ringcast.security.secret import Secret, new_key
from tests.unit.runtime.outside import Cart, Closed, Line, Outside, outside
from tests.unit.runtime.places import eventually, gates, raised


@pytest_asyncio.fixture(params=["the gateway owns", "another node owns"])
async def out(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Outside]:
    async with outside(tmp_path, remote=request.param == "another node owns") as found:
        yield found


@pytest_asyncio.fixture
async def client(out: Outside) -> AsyncIterator[Client]:
    async with out.client() as found:
        yield found


# ---- what works as from a node ---------------------------------------------------------------------


@pytest.mark.parametrize("key", ["ann", 7, b"\0", UUID(int=5), ("a", 1, (b"x", UUID(int=6)), 1 << 70)])
async def test_asks_are_answered_whatever_the_key(client: Client, key: Any) -> None:
    cart = client.ref(Cart, key)
    assert await cart.add("tea", milk=True) == 2
    assert await cart.lines() == ["tea", ("milk", True)]


async def test_records_bytes_and_large_messages_travel(client: Client) -> None:
    cart = client.ref(Cart, "ann")
    lines = [Line("tea", 2), b"\0" * 1000, bytes(300_000), {"a": (1, 2)}]
    assert await cart.add(*lines) == 4
    assert await cart.lines() == lines


async def test_tells_are_handled_in_order_with_asks(client: Client) -> None:
    cart = client.ref(Cart, "ann")
    for n in range(500):
        await tell(cart.add, n)
    assert await cart.lines() == list(range(500))


async def test_streams_are_read_under_flow_control_and_end_with_their_reader(client: Client) -> None:
    cart = client.ref(Cart, "ann")
    assert [n async for n in cart.count_to(200)] == list(range(200))
    endless = cart.endless("gate")
    assert [await anext(endless) for _ in range(100)] == list(range(100))
    await endless.aclose()  # type: ignore[attr-defined]
    await gates.entered("gate ended")


async def test_streams_end_with_the_client(out: Outside) -> None:
    async with out.client() as client:
        await anext(client.ref(Cart, "ann").endless("gate"))
    await gates.entered("gate ended")


async def test_submit_broadcast_and_a_class_by_name_work(client: Client) -> None:
    carts = [client.ref(Cart, n) for n in range(5)]
    assert await submit(carts[0].add, "tea") == 1
    assert await broadcast(carts, Cart.lines) == [["tea"], [], [], [], []]
    by_name = client.ref("tests.unit.runtime.outside:Cart", 0)
    assert await by_name.lines() == ["tea"]


async def test_refs_travel_both_ways(client: Client, out: Outside) -> None:
    ann, bob = client.ref(Cart, "ann"), client.ref(Cart, "bob")
    await ann.add(bob)
    mine = await ann.me()
    assert mine == ann == out.gateway.ref(Cart, "ann")
    [also_bob] = await mine.lines()
    assert await also_bob.add("tea") == 1
    spawned = await out.owner.spawn(props(Cart), name="by itself")
    await ann.add(spawned)
    assert await (await ann.lines())[1].add("milk") == 1


async def test_an_idempotency_key_is_the_clients_own(out: Outside) -> None:
    async with out.client() as web, out.client(credential=out.credential("other")) as other:
        for client, counted in ((web, 1), (other, 2), (web, 1)):
            assert await using(client.ref(Cart, "ann"), idempotency_key="once").add("tea") == counted


async def test_errors_come_as_themselves_and_do_not_fail_the_actor(client: Client) -> None:
    cart = client.ref(Cart, "ann")
    await cart.add("tea")
    error = await raised(cart.fail())
    assert isinstance(error, KeyError)
    assert error.args == ("no such line",)
    await tell(cart.fail)
    await eventually(lambda: client.dead_letters.total == 1)
    assert "no such line" in next(iter(client.dead_letters)).reason
    assert await cart.lines() == ["tea"]


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("remote", [True, False])
async def test_tracebacks_are_kept_from_clients_unless_they_are_to_have_them(
    tmp_path: Path, shown: bool, remote: bool
) -> None:
    config = NodeConfig(client_tracebacks=True) if shown else None
    async with outside(tmp_path, remote=remote, config=config) as out, out.client() as client:
        ann, bob = client.ref(Cart, "ann"), client.ref(Cart, "bob")
        direct, through = await raised(ann.fail()), await raised(ann.fail_of(bob))
        [kept] = await ann.error_of(bob)
    for error in (direct, through, kept):
        assert isinstance(error, KeyError)
        assert ("in fail" in "".join(traceback.format_exception(error))) is shown
        assert ("in fail" in str(vars(error))) is shown


async def test_limits_say_where_the_call_was(client: Client) -> None:
    cart = client.ref(Cart, "ann")
    running = submit(cart.wait, "gate")
    await gates.entered("gate")
    queued = await raised(using(cart, timeout=0.05).add("tea"))
    assert isinstance(queued, CallTimeout)
    assert queued.certainty is NOT_SENT
    assert queued.place is not None
    assert queued.place.startswith("queued behind wait")
    late = await raised(using(client.ref(Cart, "bob"), timeout=0.05).wait("other gate"))
    assert isinstance(late, CallTimeout)
    assert late.certainty is MAYBE_EXECUTED
    assert late.place is not None
    assert late.place.startswith("running")
    gates.let_go("gate", "other gate")
    assert await running == "gate"
    assert await cart.lines() == []


async def test_cancelling_cancels_the_handler(client: Client) -> None:
    task = asyncio.create_task(client.ref(Cart, "ann").wait_or_not("gate"))
    await gates.entered("gate")
    task.cancel()
    await gates.entered("gate ended")


async def test_a_full_mailbox_holds_the_client_back_and_not_its_other_calls(client: Client) -> None:
    cart = client.ref(Cart, "ann")
    await tell(cart.wait, "gate")
    await gates.entered("gate")

    async def flood() -> None:
        for n in range(5000):
            await tell(using(cart, timeout=0.3).add, n)

    assert isinstance(await raised(flood()), MailboxFull)
    assert await client.ref(Cart, "bob").add("tea") == 1
    gates.let_go("gate")


async def test_what_cannot_travel_is_said_before_it_is_sent(client: Client) -> None:
    with pytest.raises(CodecError, match=r"args\[1\]"):
        await client.ref(Cart, "ann").add(1, object())


async def test_a_reply_that_cannot_travel_was_executed(client: Client, out: Outside) -> None:
    await out.owner.ref(Cart, "ann").add(_Local())
    error = await raised(client.ref(Cart, "ann").lines())
    assert isinstance(error, CallError)
    assert error.certainty is EXECUTED


class _Local:
    """Is pickled between nodes, and not sent to clients."""


async def test_too_large_a_message_is_refused_at_the_client(tmp_path: Path) -> None:
    config = NodeConfig(client_max_message_bytes=200_000)
    async with outside(tmp_path, remote=False, config=config) as out, out.client() as client:
        cart = client.ref(Cart, "ann")
        with pytest.raises(CodecError, match="client_max_message_bytes"):
            await cart.add(bytes(300_000))
        await out.gateway.ref(Cart, "bob").add(bytes(300_000))
        error = await raised(client.ref(Cart, "bob").lines())
        assert isinstance(error, CallError)
        assert error.certainty is EXECUTED


# ---- who is calling --------------------------------------------------------------------------------


async def test_a_handler_knows_its_client_and_calls_on_its_own_authority(client: Client, out: Outside) -> None:
    caller = await client.ref(Cart, "ann").caller()
    assert caller is not None
    assert (caller.role, caller.name, caller.allow) == ("client", "web", None)
    assert await out.gateway.ref(Cart, "ann").caller() is None
    told, nested = await client.ref(Cart, "ann").caller_of(client.ref(Cart, "bob"))
    assert "client web" in told
    assert nested is None
    once = await using(client.ref(Cart, "ann"), idempotency_key="k").caller()
    assert once == caller


async def test_closed_handlers_say_what_would_open_them(client: Client) -> None:
    with pytest.raises(
        NotAllowed, match=r"Cart.wipe is not exposed to clients: @handler\(expose=True\) opens it"
    ) as caught:
        await client.ref(Cart, "ann").wipe()
    assert caught.value.certainty is NOT_SENT
    with pytest.raises(NotAllowed, match=r"Closed.peek"):
        await client.ref(Closed, "ann").peek()
    assert await client.ref(Closed, "ann").look() == 2
    await tell(client.ref(Closed, "ann").peek)
    await eventually(lambda: client.dead_letters.total == 1)


async def test_a_credential_allows_what_its_patterns_say(out: Outside) -> None:
    async with out.client(credential=out.credential(allow=["Cart.add", "Cart.l*"])) as client:
        assert await client.ref(Cart, "ann").add("tea") == 1
        assert await client.ref(Cart, "ann").lines() == ["tea"]
        with pytest.raises(NotAllowed, match=r"credential of client web allows Cart.add, Cart.l\*; not Cart.caller"):
            await client.ref(Cart, "ann").caller()
    async with out.client(credential=out.credential(allow=["*"])) as client:
        with pytest.raises(NotAllowed, match="not exposed"):
            await client.ref(Cart, "ann").wipe()


async def test_members_have_no_messages_for_clients(client: Client, out: Outside) -> None:
    with pytest.raises(Unreachable, match="no member of the cluster hosts") as caught:
        await client.ref("no.such:Class", "ann").look()
    assert caught.value.certainty is NOT_SENT
    with pytest.raises(NotAllowed, match="watched"):
        async with watching(client.ref(Cart, "ann")):
            pass


# ---- connecting ------------------------------------------------------------------------------------


async def test_a_client_with_the_secret_needs_no_credential(out: Outside, tmp_path: Path) -> None:
    async with Client(out.gateway.address, cluster=out.cluster, secret=tmp_path / "secret") as client:
        caller = await client.ref(Cart, "ann").caller()
    assert caller is not None
    assert caller.name == "local"


async def test_a_credentials_file_is_read_again(out: Outside, tmp_path: Path) -> None:
    file = tmp_path / "web.credential"
    _write(file, out.credential().render())
    async with Client([out.gateway.address], credential=file) as client:
        assert await client.ref(Cart, "ann").add("tea") == 1
        _write(file, out.credential("renamed").render())
        before = client.node
        [link] = out.gateway._gateway.links
        waiting = submit(client.ref(Cart, "ann").wait, "gate")
        await gates.entered("gate")
        link.dismiss("a test wants it")
        bob = client.ref(Cart, "bob")
        await eventually(lambda: {link.client.name for link in out.gateway._gateway.links} == {"web", "renamed"})
        caller = await bob.caller()
        assert caller is not None
        assert caller.name == "renamed"
        assert client.node == before
        gates.let_go("gate")
        assert await waiting == "gate"  # the old connection stays until its answers are there
        await eventually(lambda: {link.client.name for link in out.gateway._gateway.links} == {"renamed"})


def _write(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o600)


async def test_another_secret_another_cluster_and_an_expired_credential_are_said_in_words(out: Outside) -> None:
    stranger = dataclasses.replace(out, secret=Secret((new_key(time.time()),)))
    with pytest.raises(HandshakeRefused, match="another secret"):
        await stranger.client().start()
    elsewhere = dataclasses.replace(out, cluster="elsewhere")
    with pytest.raises(HandshakeRefused, match="elsewhere"):
        await elsewhere.client().start()
    with pytest.raises(HandshakeRefused, match="has expired, at 20"):
        await out.client(credential=out.credential(ttl=-5.0)).start()


async def test_a_node_is_no_client_and_a_client_no_node(out: Outside, tmp_path: Path) -> None:
    file = tmp_path / "web.credential"
    _write(file, out.credential().render())
    with pytest.raises(ConfigError, match="client's"):
        Node(cluster=out.cluster, secret=file)


async def test_nobody_there_is_said_for_each_address(tmp_path: Path) -> None:
    secret = Secret((new_key(time.time()),))
    _write(tmp_path / "secret", secret.render())
    client = Client(["127.0.0.1:1", Seeds(["127.0.0.1:2"])], secret=tmp_path / "secret", connect_timeout=0.3)
    with pytest.raises(Unreachable, match=r"(?s)127.0.0.1:1: .*127.0.0.1:2: |127.0.0.1:2: .*127.0.0.1:1: "):
        await client.start()
    with pytest.raises(ConfigError, match="starts once"):
        await client.start()


@pytest.mark.parametrize("wrong", [[], ["no address"], [Zeroconf()], [5], 5, b"x:1"])
def test_what_are_no_nodes_is_refused(wrong: Any, tmp_path: Path) -> None:
    _write(tmp_path / "secret", Secret((new_key(time.time()),)).render())
    with pytest.raises(ConfigError):
        Client(wrong, secret=tmp_path / "secret")


async def test_before_and_after_it_is_connected_a_client_says_so(out: Outside) -> None:
    client = out.client()
    assert "new" in repr(client)
    with pytest.raises(NodeStopped, match="async with client"):
        await client.ref(Cart, "ann").lines()
    async with client:
        assert client.node == out.gateway.id
        waiting = submit(client.ref(Cart, "ann").wait, "gate")
        await gates.entered("gate")
    assert isinstance(await raised(waiting), NodeStopped)
    with pytest.raises(NodeStopped, match="closed"):
        await client.ref(Cart, "ann").lines()
    gates.let_go("gate")
