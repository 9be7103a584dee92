"""Messages that arrive where their actor is not: held for a view, sent on, or refused in words."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ringcast import MAYBE_EXECUTED, NOT_SENT, Actor, Node, Seeds, Unreachable, handler, submit
from ringcast.actors.actor import actor_type
from ringcast.actors.messages import Message
from ringcast.runtime import routes, wire
from ringcast.runtime.calls import Call, Parcel
from ringcast.runtime.kinds import Kind
from tests.unit.runtime.places import eventually, gates, new_cluster


class Page(Actor):
    def __init__(self) -> None:
        self._notes: list[str] = []

    async def note(self, what: str) -> int:
        self._notes.append(what)
        return len(self._notes)

    async def repeat(self, what: str) -> str:
        return what

    async def notes(self) -> list[str]:
        return self._notes

    async def hold(self, gate: str) -> None:
        await gates.passing(gate)

    @handler(read_only=True)
    async def holding(self, gate: str) -> str:
        gates.seen.append(gate)
        await gates.passing(gate)
        return gate


@asynccontextmanager
async def two_hosts() -> AsyncIterator[tuple[Node, Node]]:
    cluster = new_cluster()
    async with (
        Node(cluster=cluster, discovery=[]) as one,
        Node(cluster=cluster, discovery=[Seeds([one.address])]) as two,
    ):
        await asyncio.gather(one.wait_for_members(2, 10), two.wait_for_members(2, 10))
        yield one, two


async def owned_by(node: Node, caller: Node) -> tuple[int, Page]:
    for key in range(1000):
        ref = caller.ref(Page, key)
        if (await caller.locate(ref)).id == node.id:
            return key, ref
    raise AssertionError("the node owns nothing")


def known(node: Node) -> tuple[Kind, Message]:
    kind = node._host.kinds.of(actor_type(Page))
    return kind, kind.actor.messages["note"]


async def test_a_message_to_the_wrong_node_is_sent_on() -> None:
    async with two_hosts() as (one, two):
        key, ref = await owned_by(two, one)
        kind, message = known(one)
        frame: list[Any] = [wire.TELL, message.number, key, one.view.number, "astray"]
        one._arrivals.message(None, kind, message, frame)
        await eventually(lambda: one.stats()["forwarded"] == 1)
        async with asyncio.timeout(5):
            while not (notes := await ref.notes()):
                continue
        assert notes == ["astray"]


async def test_a_message_that_is_sent_on_for_ever_is_refused() -> None:
    async with two_hosts() as (one, two):
        key, ref = await owned_by(two, one)
        kind, message = known(one)
        meta: list[Any] = [["round and round"], {}, None, None, wire.MAX_HOPS]
        one._arrivals.message(None, kind, message, [wire.TELL_X, message.number, key, one.view.number, meta])
        letter = next(iter(one.dead_letters))
        assert letter.method == "note"
        assert f"sent on {wire.MAX_HOPS} times" in letter.reason
        assert await ref.notes() == []


async def test_a_message_waits_for_the_view_that_its_sender_has_seen() -> None:
    async with two_hosts() as (one, two):
        key, ref = await owned_by(two, one)
        kind, message = known(one)
        frame: list[Any] = [wire.TELL, message.number, key, one.view.number + 1, "early"]
        one._arrivals.message(None, kind, message, frame)
        assert one.stats()["forwarded"] == 0, "it is held"
        await two.leave()  # the view that makes this node the owner
        assert await ref.notes() == ["early"]


@pytest.mark.parametrize("size", [1, 200_000])
async def test_an_answer_waits_for_the_first_connection_to_who_asked(size: int) -> None:
    """A call that came by way of a third node may be answered before there is a connection to its caller."""
    async with two_hosts() as (one, two):
        key, _ = await owned_by(one, one)
        kind, message = known(one)
        link = one._peers.link(two.id)
        if link.connection is not None:
            link.down(link.connection, "it is to come anew")
        asked = Call(loop=asyncio.get_running_loop())
        asked.number, asked.message, asked.link, asked.parcel, asked.deadline = 999, message, None, b"", math.inf
        two._router.calls[999] = asked
        meta: list[Any] = [["x" * size], {}, [], None, two.id, 1, None]
        note = kind.actor.messages["repeat"]
        one._arrivals.message(None, kind, note, [wire.REQUEST_X, 999, note.number, key, 5000, one.view.number, meta])
        async with asyncio.timeout(5):
            assert await asked == "x" * size


async def test_what_a_leaving_node_could_not_send_on_is_told_to_who_asked() -> None:
    async with two_hosts() as (one, two):
        key, ref = await owned_by(two, one)
        _, message = known(two)
        asked = submit(ref.hold, "for ever")
        await gates.entered("for ever")
        (number,) = [number for number, call in one._router.calls.items() if call.message.name == "hold"]
        link = two._peers.link("a node that is no member")
        meta: list[Any] = [["second"], {}, [], None, one.id, 1, None]
        frame, buffers = link.pack_parts([wire.REQUEST_X, number, message.number, key, 5000, 1, meta])
        two._arrivals.undeliverable(Parcel(message, 0, frame, buffers, None), "it is gone")
        with pytest.raises(Unreachable, match="it is gone") as refused:
            await asked
        assert refused.value.certainty is NOT_SENT
        gates.let_go("for ever")

        told: list[Any] = [wire.TELL_X, message.number, key, 1, [["told"], {}, None, None, 1]]
        two._arrivals.undeliverable(Parcel(message, 0, *link.pack_parts(told), None), "it is gone")
        assert [(letter.method, letter.reason) for letter in two.dead_letters] == [("note", "it is gone")]


@pytest.mark.parametrize("method", ["hold", "holding"])
async def test_a_call_that_was_sent_on_to_a_node_that_is_gone_has_an_end(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sent it on had not heard that the node is gone: a call that may run twice runs again, another one fails."""
    monkeypatch.setattr(routes, "ADRIFT", 0.01)
    async with two_hosts() as (one, two):
        _, ref = await owned_by(two, one)
        asked = submit(getattr(ref, method), "adrift")
        await gates.entered("adrift")
        ((number, call),) = [found for found in one._router.calls.items() if found[1].message.name == method]
        sent = call.parcel
        one._router.routes.moved(number, "a node that was killed", one.view.number - 1)
        if method == "hold":
            with pytest.raises(Unreachable, match="the node is gone, to which another one had sent it on") as caught:
                await asked
            assert caught.value.certainty is MAYBE_EXECUTED
            gates.let_go("adrift")
        else:
            assert call.parcel is not sent, "it was sent again"
            gates.let_go("adrift")
            assert await asked == "adrift"


async def test_so_has_one_that_others_sent_to_a_member_to_which_there_was_no_connection() -> None:
    async with two_hosts() as (one, two):
        _, ref = await owned_by(two, one)
        asked = submit(ref.holding, "gone")
        await gates.entered("gone")
        (call,) = [call for call in one._router.calls.values() if call.message.name == "holding"]
        elsewhere = one._peers.link("a member that was killed")
        call.link = elsewhere
        one._peers._drop(elsewhere.peer)
        gates.let_go("gone")
        assert await asked == "gone"
        assert call.link is one._peers.link(two.id)
