"""The control channel of a real node: whatever arrives there, the node goes on."""

import asyncio
import contextlib
import logging
import os
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from ringcast import Actor, Labels, Node, NodeConfig, props
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.runtime import control
from ringcast.runtime.control import MAX_REQUEST, framed, opened
from ringcast.runtime.examination import Datagrams, try_datagrams
from ringcast.runtime.inquiry import Inquiry, NoAnswerError
from ringcast.runtime.ring import Key
from ringcast.security.channels import ALPN, CONTROL, LINKS
from ringcast.security.credential import issue
from ringcast.security.identity import CLIENT, NODE
from ringcast.security.material import FromCredential, FromSecret
from ringcast.security.private import write_private
from ringcast.security.secret import Key as SecretKey
from ringcast.security.secret import Secret, new_key
from ringcast.security.streams import dialled
from ringcast.security.trust import Trust
from tests.unit.runtime.places import eventually


class Reception(Actor):
    """Has keys of every kind."""

    async def ring(self) -> str:
        return "here"


KEY = new_key(time.time())


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    secret = Secret((KEY,)).render().encode()
    async with Node(cluster=f"control-{uuid.uuid4().hex}", discovery=[], secret=secret) as node:
        yield node


def asker(
    node: Node, key: SecretKey = KEY, cluster: str | None = None, clock: Callable[[], float] = time.time
) -> Trust:
    """Return whoever has that key."""
    return Trust(FromSecret(Secret((key,)).render().encode(), None), cluster or node.cluster, clock=clock)


def inquiry(node: Node, trust: Trust | None = None) -> Inquiry:
    return Inquiry(trust or asker(node), node.address, 5.0)


async def sent(node: Node, data: bytes, trust: Trust | None = None) -> bytes:
    """Send bytes as one of the cluster; return what comes until the node closes."""
    context = (trust or asker(node)).dialling(CONTROL)
    async with asyncio.timeout(10):
        reader, writer = await dialled(*split_address(node.address), context, preamble(CONTROL))
        writer.write(data)
        try:
            return await reader.read()
        except ConnectionError:  # closed with our bytes unread
            return b""
        finally:
            writer.close()


async def sent_in_clear(node: Node, data: bytes) -> bytes:
    """Send bytes behind the preamble, and no more; return what comes until the node closes."""
    reader, writer = await asyncio.open_connection(*split_address(node.address))
    async with asyncio.timeout(10):
        writer.write(preamble(CONTROL) + data)
        writer.write_eof()
        try:
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


def garbled(body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + body


@pytest.mark.parametrize(
    "request_bytes",
    [
        garbled(b""),
        garbled(b"\xc1"),
        garbled(b"\x81\xa4what"),
        garbled(b"\x91" * 5000),
        garbled(b"\xdf\xff\xff\xff\xff"),
        garbled(b"\x81\x90\x01"),
        framed({}),
        framed({"what": ["status"]}),
        framed({"what": "explode"}),
        framed({"what": "knock", "token": b"short", "port": 7, "times": 1}),
        framed({"what": "knock", "token": bytes(16), "port": 7, "times": 1000}),
        framed({"what": "knock", "token": bytes(16), "port": 70_000, "times": 1}),
        framed({"what": "knock", "token": "x" * 16, "port": 7, "times": 1}),
        framed({"what": "actors", "limit": "many"}),
        framed({"what": "actors", "limit": float("inf")}),
        framed({"what": "locate"}),
        framed({"what": "locate", "class": "Reception", "kind": "list", "key": "1"}),
        framed({"what": "locate", "class": "Reception", "kind": "int", "key": "one"}),
        framed({"what": "locate", "class": ["Reception"], "kind": "str", "key": "one"}),
        framed({"what": "locate", "class": "Nobody's", "kind": "str", "key": "one"}),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_a_reason(node: Node, request_bytes: bytes) -> None:
    answer = await sent(node, request_bytes)
    assert set(opened(answer[4:])) == {"error"}
    assert (await status(node))["ready"]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"",
        b"\0\0",
        garbled(b"x" * 10)[:-1],
        (MAX_REQUEST + 1).to_bytes(4, "big"),
        b"\xff" * 4 + b"x" * 100_000,
    ],
)
async def test_what_is_cut_off_or_too_long_is_closed_without_a_word(
    node: Node, request_bytes: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "LIMIT", 0.2)
    assert await sent(node, request_bytes) == b""
    assert (await status(node))["ready"]


async def test_who_never_finishes_the_handshake_is_let_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node._control, "_config", NodeConfig(handshake_timeout=0.05))
    reader, writer = await asyncio.open_connection(*split_address(node.address))
    writer.write(preamble(CONTROL) + b"\x16\x03\x01")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    monkeypatch.undo()
    assert (await status(node))["ready"]


async def test_hostile_bytes_instead_of_tls_are_counted_and_fill_no_log(
    node: Node, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    capfd.readouterr()
    hello = ssl.MemoryBIO()
    context = asker(node).dialling(CONTROL)
    assert context is not None
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    real = hello.read()
    broken = [real[:50], real[:-1], real[:80] + b"\xff" * 300, real * 3]
    hostile = [b"", b"\0" * 100, b"\xff" * 100_000, b"GET /\r\n\r\n", *broken]
    for data in hostile:
        answer = await sent_in_clear(node, data)
        assert len(answer) < 4096  # an alert, or the node's own part of a handshake that goes no further
    assert node.stats()["control_refused"] == len(hostile)
    assert (await status(node))["ready"]
    assert unhandled == []
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("key", "cluster", "age", "said"),
    [
        (new_key(1), None, 0.0, "it has another secret, or none of this cluster"),
        (KEY, "elsewhere", 0.0, "and this is cluster 'elsewhere'"),
        (KEY, None, 7 * 86400.0, "it refuses this side's certificate, which has expired there"),
    ],
)
async def test_who_may_not_ask_is_told_why(
    node: Node, key: SecretKey, cluster: str | None, age: float, said: str
) -> None:
    with pytest.raises(NoAnswerError, match=said):
        await inquiry(node, asker(node, key, cluster, clock=lambda: time.time() - age)).first()


async def test_whoever_believes_anybody_gets_nothing_but_a_refusal(node: Node, tmp_path: Path) -> None:
    """Programs that do not check as we do: the node itself refuses them."""
    client = issue(Secret((KEY,)), node.cluster, CLIENT, "web", now=time.time(), ttl=60.0)
    of_client = client.dialling()
    of_client.set_alpn_protocols([ALPN[CONTROL]])
    dialling = {
        "UNKNOWN_CA": asker(node, new_key(1)).dialling(CONTROL),
        "UNKNOWN_CA ": of_client,
        "of cluster 'elsewhere', and this is cluster": asker(node, cluster="elsewhere").dialling(CONTROL),
        "the TLS handshake was about None": asker(node).dialling(LINKS),
    }
    for said, context in dialling.items():
        assert context is not None
        context.verify_mode = ssl.CERT_NONE
        async with asyncio.timeout(10):
            reader, writer = await dialled(*split_address(node.address), context, preamble(CONTROL))
            writer.write(framed({"what": "status"}))
            try:
                got = opened((await reader.read())[4:])
            except ssl.SSLError as error:
                got = {"error": str(error)}
            writer.close()
        assert set(got) == {"error"}
        assert said.strip() in got["error"]
    assert node.stats()["control_refused"] == len(dialling)


async def test_a_limited_node_may_ask_with_its_credential(node: Node, tmp_path: Path) -> None:
    made = issue(Secret((KEY,)), node.cluster, NODE, "worker", now=time.time(), ttl=60.0, allow=["Cart.*"])
    write_private(tmp_path / "worker.pem", made.render())
    trust = Trust(FromCredential(tmp_path / "worker.pem"), node.cluster)
    assert (await inquiry(node, trust).first())["id"] == node.id
    for asked in ({"what": "actors"}, {"what": "locate", "class": "Cart", "kind": "str", "key": "ann"}):
        assert "a limited node may not ask for actors" in opened((await sent(node, framed(asked), trust))[4:])["error"]


async def test_a_knock_is_answered_where_it_came_from(node: Node) -> None:
    found = await try_datagrams(asker(node), node.address, await status(node), 5.0)
    assert found == Datagrams(there=True, back=True)


async def test_who_never_finishes_a_request_is_let_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LIMIT", 0.05)
    assert await sent(node, b"\0") == b""
    monkeypatch.undo()
    assert (await status(node))["ready"]


async def test_an_answer_that_nobody_takes_is_not_kept(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 32 << 20
    monkeypatch.setattr(control, "LIMIT", 0.5)

    def answer(data: bytes, asker: str, *, is_limited: bool) -> bytes:
        return bytes(size)

    monkeypatch.setattr(node._control, "_answer", answer)
    reader, writer = await dialled(*split_address(node.address), asker(node).dialling(CONTROL), preamble(CONTROL))
    transport = cast("asyncio.Transport", writer.transport)
    transport.pause_reading()
    writer.write(framed({"what": "status"}))
    async with asyncio.timeout(10):
        await eventually(lambda: node._control._answering == 1)
        await eventually(lambda: node._control._answering == 0)
        transport.resume_reading()
        with contextlib.suppress(ConnectionError):
            assert len(await reader.read()) < size
    writer.close()


async def test_a_request_for_unknown_classes_leaves_no_trace(node: Node) -> None:
    look = inquiry(node)
    for number in range(20):
        with pytest.raises(NoAnswerError, match="no member hosts a class"):
            await look.locate(f"shop:Class{number}", "str", "ann")
    with pytest.raises(NoAnswerError, match=r"Class19'; hosted are: (?!.*Class1)"):
        await look.locate("shop:Class19", "str", "ann")


async def status(node: Node) -> dict[str, Any]:
    return await inquiry(node).first()


async def test_status_says_who_and_where(node: Node) -> None:
    told = await status(node)
    assert (told["id"], told["address"], told["cluster"]) == (node.id, node.address, node.cluster)
    assert told["pid"] == os.getpid()
    assert told["view"] == {"lineage": node.view.lineage, "number": node.view.number}
    assert told["secret"] == {"signs": KEY.id, "accepts": [KEY.id]}
    assert abs(told["time"] - time.time()) < 5
    assert set(told["versions"]) == {"ringcast", "protocol", "python"}


@pytest.mark.parametrize(
    ("kind", "text", "key"),
    [
        ("str", "7", "7"),
        ("int", "-7", -7),
        ("int", "123456789012345678901234567890", 123456789012345678901234567890),
        ("bytes", "00ff", b"\x00\xff"),
        ("uuid", "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678123456781234567812345678")),
    ],
)
async def test_locate_knows_keys_of_every_kind(node: Node, kind: str, text: str, key: Key) -> None:
    look = inquiry(node)
    before = await look.locate("Reception", kind, text)
    assert await node.ref(Reception, key).ring() == "here"
    after = await look.locate("Reception", kind, text)
    assert (before["active"], after["active"]) == (False, True)
    assert after["id"] == node.id
    assert after["actor"].endswith(f"Reception[{key!r}]")


async def test_actors_are_filtered_before_they_are_limited(node: Node) -> None:
    for key in range(5):
        await node.ref(Reception, key).ring()
    look = inquiry(node)
    few = await look.ask(node.address, "actors", **{"class": "Reception", "limit": 2})
    none = await look.ask(node.address, "actors", **{"class": "Chair", "limit": 2})
    assert (few["total"], len(few["actors"])) == (5, 2)
    assert none == {"total": 0, "actors": []}
    assert few["actors"][0]["state"] == "active"
    assert few["actors"][0]["running"] == []


async def test_an_actor_that_waits_for_labels_says_for_which(node: Node) -> None:
    ref = await node.spawn(props(Reception), on=Labels(gpu="1"))
    look = inquiry(node)
    (shown,) = (await look.ask(node.address, "actors", **{"class": "Reception"}))["actors"]
    assert "carries the labels {'gpu': '1'}" in shown["waits_for"]
    assert shown["state"] == f"waiting: {shown['waits_for']}"
    await node.stop(ref)
    assert (await look.ask(node.address, "actors", **{"class": "Reception"}))["actors"] == []
