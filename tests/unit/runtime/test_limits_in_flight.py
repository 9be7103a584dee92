"""What waits of peers' messages is counted and held back at its source; answers go on, and nothing deadlocks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ringcast import NOT_SENT, Actor, CallTimeout, MailboxFull, Node, NodeConfig, Seeds, handler, submit, tell, using
from ringcast.runtime import inflight
from ringcast.runtime.inflight import LIGHT, Account, InFlight
from ringcast.runtime.link import Link
from tests.unit.runtime.places import REMOTE, Place, a_place, eventually, gates, new_cluster, raised

LIMIT = 1 << 20
BODY = b"x" * 20_000


class Slow(Actor, mailbox=10_000):
    async def take(self, gate: str, body: Any) -> int:
        await gates.passing(gate)
        return len(body)

    @handler(read_only=True)
    async def look(self, gate: str, body: Any) -> int:
        return await self.take(gate, body)

    @handler(cancellable=True)
    async def cancellable(self, gate: str, body: Any) -> int:
        return await self.take(gate, body)

    async def fail(self, gate: str, body: Any) -> None:
        await self.take(gate, body)
        raise LookupError("as it should")

    async def note(self, body: Any) -> int:
        return len(body)

    async def back(self, other: Any, depth: int, body: Any) -> int:
        """Ask the other node's actor, which asks back."""
        return 1 + (await other.back(self.context.me, depth - 1, body) if depth else 0)


def account_of(place: Place) -> Account:
    """Return what the owner counts of the caller."""
    return link_of(place.owner, place.node).account


def link_of(node: Node, peer: Node) -> Link:
    return node._peers.link(peer.id)


# ---- the counting itself -----------------------------------------------------------------------------


class Asked(list[bool]):
    """What a peer was asked."""


async def test_an_account_holds_above_its_limit_and_releases_below_three_quarters() -> None:
    total, asked = InFlight(1000), Asked()
    account = Account(total, 100, asked.append)
    for _ in range(10):
        account.add(10)
    assert asked == []
    account.add(10)
    assert asked == [True]
    assert total.bytes == 110
    for _ in range(3):
        account.remove(10)
    assert asked == [True]
    account.remove(10)
    assert asked == [True, False]
    total.stop()


async def test_one_message_holds_nobody_back_however_large() -> None:
    account = Account(InFlight(1000), 100, (asked := Asked()).append)
    account.announce(10_000)
    account.add(20)
    account.arrived(10_000)
    large = account.chain((), 10_000)
    account.add(large.weight)
    assert asked == []
    account.announce(10_000)
    assert asked == [True]
    account.reset()


async def test_all_are_held_above_the_nodes_limit_and_released_together() -> None:
    total = InFlight(100)
    asked: list[Asked] = [Asked(), Asked(), Asked()]
    one, two, idle = (Account(total, 90, words.append) for words in asked)
    one.add(60)
    two.add(50)
    assert asked == [[True], [True], []]
    assert not idle.is_held
    two.remove(50)
    await eventually(lambda: asked == [[True, False], [True, False], []])
    total.stop()


async def test_who_does_not_hold_back_is_refused_until_what_waits_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "EN_ROUTE", 0)
    total = InFlight(10_000)
    account = Account(total, 100, Asked().append)
    account.add(101)
    while not account.is_refusing:
        account.add(10)
        assert account.bytes < 400
    account.remove(account.waiting)
    assert not account.is_refusing
    many = Account(total, 9_000, Asked().append)
    while not many.is_refusing:
        many.add(1000)
        assert total.bytes < 25_000
    total.stop()


# ---- between nodes -----------------------------------------------------------------------------------


async def test_messages_wait_at_their_sender_when_too_much_waits_here() -> None:
    async with a_place(REMOTE, link_in_flight_bytes=LIMIT) as place:
        slows = [place.node.ref(Slow, n) for n in range(10)]
        held = [submit(slow.take, f"gate {n}", BODY) for n, slow in enumerate(slows)]
        for n in range(10):
            await gates.entered(f"gate {n}")
        await asyncio.gather(*(tell(slow.note, BODY) for slow in slows for _ in range(6)))
        await eventually(lambda: link_of(place.node, place.owner).is_held)
        account = account_of(place)
        assert LIMIT < account.bytes < 2 * LIMIT
        taken = account.bytes
        telling = [asyncio.ensure_future(tell(slow.note, BODY)) for slow in slows for _ in range(50)]
        assert place.owner.stats()["peers_held"] >= 1
        waits = submit(place.node.ref(Slow, "idle").note, b"")
        await asyncio.wait([*telling, waits], timeout=0.2)
        assert not any(one.done() for one in [*telling, waits])
        assert account.bytes == taken
        gates.let_go(*(f"gate {n}" for n in range(10)))
        assert await asyncio.gather(*held) == [len(BODY)] * 10
        await asyncio.gather(*telling)
        assert await waits == 0
        for slow in slows:
            assert await slow.note(b"") == 0
        assert account.bytes == 0
        assert not account.is_held
        await eventually(lambda: not link_of(place.node, place.owner).is_held)


async def test_small_messages_count_too() -> None:
    async with a_place(REMOTE, link_in_flight_bytes=65536) as place:
        slow = place.node.ref(Slow, "s")
        first = submit(slow.take, "gate", b"")
        await gates.entered("gate")
        rest = [submit(slow.note, n) for n in "12345"]
        account = account_of(place)
        await eventually(lambda: account.bytes == 5 * LIGHT)
        gates.let_go("gate")
        assert await asyncio.gather(first, *rest) == [0, 1, 1, 1, 1, 1]
        assert account.bytes == 0


async def test_a_message_larger_than_the_limit_passes_alone_and_keeps_nobody_waiting() -> None:
    async with a_place(REMOTE, link_in_flight_bytes=65536) as place:
        slow = place.node.ref(Slow, "s")
        running = submit(slow.take, "gate", b"")
        await gates.entered("gate")
        large = submit(slow.note, b"x" * (2 << 20))
        await eventually(lambda: account_of(place).waiting == 65536 * 3 // 4)
        assert await using(place.node.ref(Slow, "other"), timeout=2).note(b"1") == 1
        gates.let_go("gate")
        assert await large == 2 << 20
        assert await running == 0
        assert account_of(place).bytes == 0


@pytest.mark.parametrize("size", [5_000, 200_000])
async def test_however_a_message_ends_it_counts_no_more(size: int) -> None:
    async with a_place(REMOTE, drain_timeout=0.2) as place:
        body, slow = b"x" * size, place.node.ref(Slow, "s")
        account = account_of(place)

        async def queued(*calls: Any) -> list[Any]:
            """Put calls behind a running turn."""
            first = submit(slow.take, "gate", b"")
            await gates.entered("gate")
            tasks = [submit(*call) for call in calls]
            await eventually(lambda: account.waiting >= size * len(calls))
            return [first, *tasks]

        # run, failed, beside the others, and cancelled while they waited
        tasks = await queued(
            (slow.note, body), (slow.fail, "gate", body), (slow.look, "gate", body), (slow.cancellable, "never", body)
        )
        tasks[-1].cancel()
        gates.let_go("gate")
        assert [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)] == [
            int,
            int,
            LookupError,
            int,
            asyncio.CancelledError,
        ]
        await eventually(lambda: account.bytes == 0)
        gates.clear()

        # out of time in the queue; told, and failed
        first = submit(slow.take, "gate", b"")
        await gates.entered("gate")
        assert isinstance(await raised(using(slow, timeout=0.1).note(body)), CallTimeout)
        await tell(slow.fail, "gate", body)
        gates.let_go("gate")
        await first
        await eventually(lambda: account.bytes == 0)
        gates.clear()

        # a running turn that is cancelled, and one beside; an activation that goes with what waits
        running = submit(slow.cancellable, "gate", body)
        await gates.entered("gate")
        running.cancel()
        await eventually(lambda: account.bytes == 0)
        gates.clear()
        tasks = await queued((slow.note, body), (slow.look, "gate", body))
        gates.let_go("gate")
        await asyncio.gather(*tasks)
        assert account.bytes == 0


async def test_a_large_message_counts_until_its_turn_is_over() -> None:
    async with a_place(REMOTE) as place:
        account = account_of(place)
        for method in ("take", "look"):
            slow = place.node.ref(Slow, method)
            blocking = submit(slow.take, "first", b"")
            await gates.entered("first")
            waiting = submit(getattr(slow, method), "gate", b"x" * 100_000)
            await eventually(lambda: account.bytes > 100_000)
            gates.let_go("first")
            await blocking
            await gates.entered("gate")
            assert account.bytes > 100_000
            gates.let_go("gate")
            assert await waiting == 100_000
            await eventually(lambda: account.bytes == 0)
            gates.clear()


async def test_who_does_not_hold_back_gets_an_error_and_its_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_place(REMOTE, link_in_flight_bytes=LIMIT) as place:

        def ignore(link: Link, holder: str, held: bool) -> None:
            """Go on, whoever asks."""

        monkeypatch.setattr(Link, "hold_back", ignore)
        slows = [place.node.ref(Slow, n) for n in range(12)]
        running = [submit(slow.take, f"gate {n}", b"") for n, slow in enumerate(slows)]
        for n in range(12):
            await gates.entered(f"gate {n}")
        calls = [submit(slow.note, BODY) for slow in slows for _ in range(100)]
        await eventually(lambda: account_of(place).is_refusing)
        assert account_of(place).bytes < 4 * LIMIT + inflight.EN_ROUTE
        refused = await raised(place.node.ref(Slow, "idle").note(b""))
        assert isinstance(refused, MailboxFull)
        assert refused.certainty is NOT_SENT
        assert "link_in_flight_bytes" in str(refused)
        await tell(place.node.ref(Slow, "idle").note, b"")
        await eventually(lambda: place.node.dead_letters.total == 1)
        gates.let_go(*(f"gate {n}" for n in range(12)))
        assert await asyncio.gather(*running) == [0] * 12
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(result) for result in results} == {int, MailboxFull}
        assert await place.node.ref(Slow, "idle").note(b"1") == 1
        assert account_of(place).bytes == 0


async def test_two_nodes_that_flood_each_other_do_not_wait_for_each_other() -> None:
    cluster, config = new_cluster(), NodeConfig(link_in_flight_bytes=65536, in_flight_bytes=100_000, ask_timeout=8)
    async with (
        Node(cluster=cluster, discovery=[], config=config) as one,
        Node(cluster=cluster, discovery=[Seeds([one.address])], config=config) as two,
    ):
        await one.wait_for_members(2)
        refs = [one.ref(Slow, n) for n in range(200)]
        owners = [(await one.locate(ref)).id for ref in refs]
        keys = {node.id: [n for n, owner in enumerate(owners) if owner == node.id][:10] for node in (one, two)}

        async def flood(node: Node, other: Node) -> int:
            """Tell and ask the other node's actors, which ask actors of this one, with 20 kB in each message."""
            theirs = [node.ref(Slow, n) for n in keys[other.id]]
            ours = [node.ref(Slow, n) for n in keys[node.id]]
            calls = [submit(ref.back, back, 1, BODY) for ref in theirs[:5] for back in ours[5:]]
            await asyncio.gather(*(tell(ref.note, BODY) for ref in theirs for _ in range(20)))
            return sum(await asyncio.gather(*calls))

        async with asyncio.timeout(9):
            assert list(await asyncio.gather(flood(one, two), flood(two, one))) == [50, 50]
        assert one.stats()["peers_held"] >= 1
        assert two.stats()["peers_held"] >= 1
        await eventually(lambda: one.stats()["in_flight_bytes"] == two.stats()["in_flight_bytes"] == 0)


async def test_what_a_turn_sends_is_not_held_back() -> None:
    cluster, config = new_cluster(), NodeConfig(link_in_flight_bytes=65536)
    async with (
        Node(cluster=cluster, discovery=[], config=config) as one,
        Node(cluster=cluster, discovery=[Seeds([one.address])], config=config) as two,
    ):
        await one.wait_for_members(2)
        refs = [one.ref(Slow, n) for n in range(100)]
        owners = [(await one.locate(ref)).id for ref in refs]
        here = refs[owners.index(one.id)]
        there = [ref for ref, owner in zip(refs, owners, strict=True) if owner == two.id][:8]
        blocked = [submit(ref.take, "gate", b"") for ref in there[1:]]
        await gates.entered("gate")
        await asyncio.gather(*(tell(ref.note, BODY) for ref in there[1:]))
        await eventually(lambda: link_of(one, two).is_held)
        fresh = submit(there[0].note, b"")
        for body in (b"", b"x" * 100_000):
            assert await using(here, timeout=2).back(there[0], 1, body) == 2
        assert not fresh.done()
        gates.let_go("gate")
        await asyncio.gather(*blocked)
        assert await fresh == 0
