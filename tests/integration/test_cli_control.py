"""The control channel of a real node: whatever arrives there, the node goes on."""

import asyncio
import os
import uuid
from collections.abc import AsyncIterator

import pytest

from ringcast import Actor, Node
from ringcast.discovery.address import split_address
from ringcast.discovery.preamble import preamble
from ringcast.runtime import control
from ringcast.runtime.control import CHANNEL, MAX_REQUEST, framed, opened
from ringcast.runtime.inquiry import Inquiry, NoAnswerError
from ringcast.runtime.ring import Key


class Reception(Actor):
    """Has keys of every kind."""

    async def ring(self) -> str:
        return "here"


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with Node(cluster=f"control-{uuid.uuid4().hex}", discovery=[]) as node:
        yield node


async def sent(node: Node, data: bytes) -> bytes:
    """Send bytes behind the preamble; return what comes until the node closes."""
    reader, writer = await asyncio.open_connection(*split_address(node.address))
    async with asyncio.timeout(10):
        writer.write(preamble(CHANNEL) + data)
        writer.write_eof()
        try:
            return await reader.read()
        except ConnectionError:  # closed with our bytes unread
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
async def test_what_is_cut_off_or_too_long_is_closed_without_a_word(node: Node, request_bytes: bytes) -> None:
    assert await sent(node, request_bytes) == b""
    assert (await status(node))["ready"]


async def test_who_never_finishes_a_request_is_let_go(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LIMIT", 0.05)
    reader, writer = await asyncio.open_connection(*split_address(node.address))
    writer.write(preamble(CHANNEL) + b"\0")
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    writer.close()
    monkeypatch.undo()
    assert (await status(node))["ready"]


async def test_a_request_for_unknown_classes_leaves_no_trace(node: Node) -> None:
    inquiry = Inquiry("", node.address, 5.0)
    for number in range(20):
        with pytest.raises(NoAnswerError, match="no member hosts a class"):
            await inquiry.locate(f"shop:Class{number}", "str", "ann")
    with pytest.raises(NoAnswerError, match=r"Class19'; hosted are: (?!.*Class1)"):
        await inquiry.locate("shop:Class19", "str", "ann")


async def status(node: Node) -> dict[str, object]:
    return await Inquiry("", node.address, 5.0).first()


async def test_status_says_who_and_where(node: Node) -> None:
    told = await status(node)
    assert (told["id"], told["address"], told["cluster"]) == (node.id, node.address, node.cluster)
    assert told["pid"] == os.getpid()
    assert told["view"] == {"lineage": node.view.lineage, "number": node.view.number}


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
    inquiry = Inquiry("", node.address, 5.0)
    before = await inquiry.locate("Reception", kind, text)
    assert await node.ref(Reception, key).ring() == "here"
    after = await inquiry.locate("Reception", kind, text)
    assert (before["active"], after["active"]) == (False, True)
    assert after["id"] == node.id
    assert after["actor"].endswith(f"Reception[{key!r}]")


async def test_actors_are_filtered_before_they_are_limited(node: Node) -> None:
    for key in range(5):
        await node.ref(Reception, key).ring()
    inquiry = Inquiry("", node.address, 5.0)
    few = await inquiry.ask(node.address, "actors", **{"class": "Reception", "limit": 2})
    none = await inquiry.ask(node.address, "actors", **{"class": "Chair", "limit": 2})
    assert (few["total"], len(few["actors"])) == (5, 2)
    assert none == {"total": 0, "actors": []}
    assert few["actors"][0]["state"] == "active"
    assert few["actors"][0]["running"] == []
