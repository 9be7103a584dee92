"""What every store promises; each test runs against all of them."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from benchmarks.chaos.writes import stale_writes
from ringcast.errors import NOT_SENT, StaleActivation, StoreError
from ringcast.runtime.stores import Claim, Claimed, Outcome, Reply, Store, Write, commit

STALE = 10_000
"""Writes of stale activations, none of which may commit."""


async def claimed(store: Store, id: str = "a", lineage: str = "one", view: int = 1) -> Claimed:
    found = await store.claim(Claim(id, lineage, view, "node"))
    assert found is not None
    return found


def write(ver: int, payload: bytes | None = b"state", id: str = "a", **rest: object) -> Write:
    return Write(id, ver, os.urandom(16), 1, payload, **rest)  # type: ignore[arg-type]


async def test_a_row_that_was_never_written_is_empty(store: Store) -> None:
    assert await claimed(store) == Claimed(1, 0, None)


async def test_what_was_written_is_found_by_the_next_claim(store: Store) -> None:
    first = await claimed(store)
    payload = bytes(range(256)) * 40
    assert (await store.write(Write("a", first.ver, os.urandom(16), 7, payload))).outcome is Outcome.COMMITTED
    assert await claimed(store) == Claimed(first.ver + 2, 7, payload)


async def test_writes_follow_one_another(store: Store) -> None:
    first = await claimed(store)
    for number in range(5):
        assert (await store.write(write(first.ver + number, b"%d" % number))).outcome is Outcome.COMMITTED
    assert (await claimed(store)).payload == b"4"


async def test_a_claim_fences_whatever_was_before(store: Store) -> None:
    old = await claimed(store)
    new = await claimed(store)
    assert new.ver > old.ver
    assert (await store.write(write(old.ver, b"stale"))).outcome is Outcome.FENCED
    assert (await store.write(write(new.ver, b"new"))).outcome is Outcome.COMMITTED
    assert (await store.write(write(old.ver, b"stale"))).outcome is Outcome.FENCED
    assert (await claimed(store)).payload == b"new"


async def test_a_newer_view_of_the_lineage_keeps_older_ones_out(store: Store) -> None:
    newer = await claimed(store, view=2)
    assert await store.claim(Claim("a", "one", 1, "node")) is None
    assert (await store.write(write(newer.ver))).outcome is Outcome.COMMITTED, "a refused claim changes nothing"
    await claimed(store, view=2)
    await claimed(store, view=(1 << 62) + 1)


async def test_another_lineage_may_claim_whatever_its_view(store: Store) -> None:
    there = await claimed(store, lineage="one", view=9)
    here = await claimed(store, lineage="two", view=1)
    assert here.ver > there.ver
    assert (await store.write(write(there.ver))).outcome is Outcome.FENCED


async def test_the_same_write_said_again_is_committed_once(store: Store) -> None:
    first = await claimed(store)
    one = write(first.ver)
    assert (await store.write(one)).outcome is Outcome.COMMITTED
    assert (await store.write(one)).outcome is Outcome.COMMITTED
    assert (await claimed(store)).ver == first.ver + 2


async def test_the_same_write_is_known_after_it_was_fenced(store: Store) -> None:
    one = write((await claimed(store)).ver)
    await store.write(one)
    await claimed(store)
    assert (await store.write(one)).outcome is Outcome.COMMITTED


async def test_a_write_that_was_written_over_is_not_known_any_more(store: Store) -> None:
    one = write((await claimed(store)).ver)
    await store.write(one)
    await store.write(write(one.ver + 1))
    assert (await store.write(one)).outcome is Outcome.FENCED


async def test_nothing_is_written_to_a_row_that_was_not_claimed(store: Store) -> None:
    assert (await store.write(write(0))).outcome is Outcome.FENCED
    assert await claimed(store) == Claimed(1, 0, None)


async def test_deletion_keeps_the_version(store: Store) -> None:
    first = await claimed(store)
    await store.write(write(first.ver))
    await store.write(write(first.ver + 1, None))
    assert (await claimed(store)).payload is None
    assert (await store.write(write(first.ver))).outcome is Outcome.FENCED
    assert (await claimed(store)).ver == first.ver + 4


async def test_an_empty_state_is_not_a_deleted_one(store: Store) -> None:
    await store.write(write((await claimed(store)).ver, b""))
    assert (await claimed(store)).payload == b""


async def test_replies_are_remembered_with_the_write_and_not_without(store: Store) -> None:
    now = time.time()
    first = await claimed(store)
    reply = Reply('add "k"', b"\x00\xff", now + 60)
    assert (await store.write(write(first.ver - 1, replies=(reply,)))).outcome is Outcome.FENCED
    assert await store.reply("a", reply.key, now) is None
    assert (await store.write(write(first.ver, replies=(reply,)))).outcome is Outcome.COMMITTED
    assert await store.reply("a", reply.key, now) == b"\x00\xff"
    assert await store.reply("a", "other", now) is None
    assert await store.reply("b", reply.key, now) is None
    await store.write(write(first.ver + 1, None))
    assert await store.reply("a", reply.key, now) == b"\x00\xff", "a retry of what deleted the state finds its reply"


async def test_a_reply_takes_the_place_of_an_older_one(store: Store) -> None:
    now = time.time()
    first = await claimed(store)
    for number in range(2):
        await store.write(write(first.ver + number, replies=(Reply("k", b"%d" % number, now + 60),)))
    assert await store.reply("a", "k", now) == b"1"


async def test_replies_expire(store: Store) -> None:
    now = time.time()
    first = await claimed(store)
    await store.write(write(first.ver, replies=(Reply("old", b"1", now - 1), Reply("young", b"2", now + 60))))
    assert await store.reply("a", "old", now) is None
    await store.prune(now)
    assert await store.prune(now) == 0
    assert await store.reply("a", "young", now) == b"2"


@pytest.mark.parametrize("keep", [1, 2, 4])
async def test_only_so_many_replies_are_kept(store: Store, keep: int) -> None:
    now = time.time()
    ver = (await claimed(store)).ver
    for number in range(5):
        await store.write(write(ver, replies=(Reply(f"k{number}", b"x", now + 60),), keep=None if number < 4 else keep))
        ver += 1
    await store.write(write((await claimed(store, "b")).ver, id="b", replies=(Reply("k", b"x", now + 60),)))
    kept = [number for number in range(5) if await store.reply("a", f"k{number}", now) is not None]
    assert kept == list(range(5))[5 - keep :]
    assert await store.reply("b", "k", now) == b"x"


async def test_what_is_due_is_found_in_order_and_in_pages(store: Store) -> None:
    dues = {"d": 4.5, "a": 1.0, "c": 2.0, "b": 2.0, "later": 1e9, "never": None}
    for id, due in dues.items():
        await store.write(write((await claimed(store, id)).ver, id=id, due=due))
    expected = [(1.0, "a"), (2.0, "b"), (2.0, "c"), (4.5, "d")]
    assert await store.due(5.0, None, 10) == expected
    assert await store.due(4.5, None, 10) == expected[:3], "before, and not at"
    pages: list[tuple[float, str]] = []
    while page := await store.due(5.0, pages[-1] if pages else None, 1):
        pages += page
    assert pages == expected
    await store.write(write((await claimed(store, "a")).ver, id="a"))
    assert await store.due(5.0, None, 1) == [(2.0, "b")]


async def test_rows_have_any_name(store: Store) -> None:
    names = ['["bank.Account","ann"]', '["Ä ø 漢",{"b":"00ff"}]', "'; DROP TABLE ringcast_state; --", "x" * 1500, "a:b"]
    for number, name in enumerate(names):
        await store.write(write((await claimed(store, name)).ver, b"%d" % number, id=name))
    assert [(await claimed(store, name)).payload for name in names] == [b"%d" % n for n in range(len(names))]


async def test_of_many_writers_of_one_version_one_commits(store: Store) -> None:
    first = await claimed(store)
    outcomes = [one.outcome for one in await asyncio.gather(*(store.write(write(first.ver)) for _ in range(50)))]
    assert sorted(outcomes, key=lambda one: one.value) == [Outcome.COMMITTED] + [Outcome.FENCED] * 49


async def test_rows_are_written_at_the_same_time(store: Store) -> None:
    ids = [f"row {number}" for number in range(100)]
    claims = await asyncio.gather(*(claimed(store, id) for id in ids))
    done = await asyncio.gather(
        *(store.write(write(c.ver, id.encode(), id)) for id, c in zip(ids, claims, strict=True))
    )
    assert {one.outcome for one in done} == {Outcome.COMMITTED}
    again = await asyncio.gather(*(claimed(store, id) for id in ids))
    assert [one.payload for one in again] == [id.encode() for id in ids]


async def test_stale_writes_never_commit(store: Store) -> None:
    """A storm of 10,000 writes of activations that were fenced, between claims and writes of those that were not."""
    storm = await stale_writes(store, STALE)
    assert storm.stale == STALE
    assert (storm.committed, storm.refused) == (0, 0)


async def test_commit_says_so_when_the_write_is_fenced(store: Store) -> None:
    first = await claimed(store)
    await commit(store, write(first.ver), 1.0)
    with pytest.raises(StaleActivation, match="newer activation has claimed a") as caught:
        await commit(store, write(first.ver), 1.0)
    assert caught.value.certainty is NOT_SENT


async def test_the_id_stays_the_same(store: Store) -> None:
    assert await store.open() == await store.open()
    assert len(await store.open()) == 32


async def test_closing_twice_is_closing(store: Store) -> None:
    await store.close()
    await store.close()


async def test_writes_at_once_commit_each_by_its_own_version(store: Store) -> None:
    vers = {f"r{number}": (await claimed(store, f"r{number}")).ver for number in range(40)}
    expires = time.time() + 60
    writes = [
        write(ver + number % 2, id.encode(), id, replies=(Reply(f"{id}.key", id.encode(), expires),))
        for number, (id, ver) in enumerate(vers.items())
    ]
    said = [one for one in writes for _ in range(2)]  # some of it twice, at the same time
    outcomes = [written.outcome for written in await asyncio.gather(*map(store.write, said))]
    assert outcomes == [Outcome.COMMITTED if number // 2 % 2 == 0 else Outcome.FENCED for number in range(80)]
    found = await asyncio.gather(*(store.reply(id, f"{id}.key", time.time()) for id in vers))
    assert found == [id.encode() if number % 2 == 0 else None for number, id in enumerate(vers)]
    for number, (id, ver) in enumerate(vers.items()):
        expected = (ver + 2, id.encode()) if number % 2 == 0 else (ver + 1, None)
        after = await claimed(store, id)
        assert (after.ver, after.payload) == expected


async def test_of_writes_at_once_one_that_is_refused_harms_no_other(store: Store) -> None:
    vers = {f"r{number}": (await claimed(store, f"r{number}")).ver for number in range(20)}
    good = [store.write(write(ver, b"x", id)) for id, ver in vers.items()]
    bad = store.write(write(1, b"x", "nul\0"))  # which some stores take
    looks = [store.reply(id, "k" if id != "r3" else "\0", 0.0) for id in vers]
    found = await asyncio.gather(*good[:10], bad, *good[10:], return_exceptions=True)
    refused = found.pop(10)
    assert all(not isinstance(one, BaseException) and one.outcome is Outcome.COMMITTED for one in found)
    if isinstance(refused, StoreError):
        assert refused.certainty is NOT_SENT
    else:
        assert not isinstance(refused, BaseException)
        assert refused.outcome is Outcome.FENCED
    answers = await asyncio.gather(*looks, return_exceptions=True)
    assert [one for one in answers if one is not None and getattr(one, "certainty", None) is not NOT_SENT] == []
