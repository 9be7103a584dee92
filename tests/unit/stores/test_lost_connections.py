"""Servers that go away: before a write, in the middle of one, for long; no write is lost or done twice."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from ringcast.errors import MAYBE_EXECUTED, NOT_SENT, StoreError, VersionConflict
from ringcast.runtime.stores import Claim, Outcome, Store, Write, Written, commit, store_at
from tests.servers import Server
from tests.unit.stores.conftest import empty
from tests.unit.stores.proxy import Cut, Proxy, proxy_before

Place = tuple[Store, Proxy, Server]


@pytest_asyncio.fixture(params=["postgresql", "redis"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A store behind a proxy."""
    server: Server = request.getfixturevalue(request.param)
    await empty(server.address)
    async with proxy_before(server.port) as proxy:
        store = store_at(server.address.replace(str(server.port), str(proxy.port)))
        await store.open()
        yield store, proxy, server
        await store.close()


async def claim(store: Store) -> int:
    found = await store.claim(Claim("a", "one", 1, "node"))
    assert found is not None
    return found.ver


def write(ver: int, payload: bytes) -> Write:
    return Write("a", ver, os.urandom(16), 1, payload)


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.ANSWER])
async def test_a_write_whose_connection_ends_is_unknown(place: Place, cut: Cut) -> None:
    store, proxy, _ = place
    ver = await claim(store)
    proxy.cut = cut
    written = await store.write(write(ver, b"x"))
    assert (written.outcome, proxy.cuts) == (Outcome.UNKNOWN, 1)
    assert written.why


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.ANSWER])
async def test_commit_finds_out_what_became_of_it(place: Place, cut: Cut) -> None:
    store, proxy, _ = place
    ver = await claim(store)
    for number in range(10):
        proxy.cut = cut
        await commit(store, write(ver + number, b"%d" % number), 5.0)
    assert proxy.cuts == 10
    found = await store.claim(Claim("a", "one", 1, "node"))
    assert found is not None
    assert (found.ver, found.payload) == (ver + 11, b"9"), "each was committed, and none of them twice"


@pytest.mark.parametrize("cut", [Cut.REQUEST, Cut.ANSWER])
async def test_commits_at_once_find_out_what_became_of_them(place: Place, cut: Cut) -> None:
    store, proxy, _ = place
    vers: dict[str, int] = {}
    for number in range(30):
        found = await store.claim(Claim(f"r{number}", "one", 1, "node"))
        assert found is not None
        vers[f"r{number}"] = found.ver
    for times in range(3):
        proxy.cut = cut
        writes = [Write(id, ver + times, os.urandom(16), 1, b"%d" % times) for id, ver in vers.items()]
        await asyncio.gather(*(commit(store, one, 5.0) for one in writes))
    assert proxy.cuts == 3
    for id, ver in vers.items():
        found = await store.claim(Claim(id, "one", 1, "node"))
        assert found is not None
        assert (found.ver, found.payload) == (ver + 4, b"2")


async def test_an_unknown_write_that_others_may_have_written_over_stays_unknown(place: Place) -> None:
    store, proxy, server = place
    ver = await claim(store)
    one = write(ver, b"x")
    proxy.cut = Cut.ANSWER
    assert (await store.write(one)).outcome is Outcome.UNKNOWN
    other = store_at(server.address)
    await other.open()
    await other.write(write(await claim(other), b"y"))
    await other.close()

    class Unknown:
        """The store, as it was when the first answer was lost."""

        name = store.name
        calls = 0

        async def write(self, write: Write) -> Written:
            self.calls += 1
            return await store.write(write) if self.calls > 1 else Written(Outcome.UNKNOWN, "cut")

    with pytest.raises(VersionConflict) as caught:
        await commit(Unknown(), one, 5.0)  # type: ignore[arg-type]
    assert caught.value.certainty is MAYBE_EXECUTED


async def test_a_server_that_is_away_refuses_and_is_found_again(place: Place) -> None:
    store, _, server = place
    ver = await claim(store)
    server.stop()
    try:
        with pytest.raises(StoreError) as caught:
            await commit(store, write(ver, b"x"), 0.1)
        assert caught.value.certainty in (NOT_SENT, MAYBE_EXECUTED)
        with pytest.raises(StoreError) as again:
            await store.claim(Claim("a", "one", 1, "node"))
        assert again.value.certainty is NOT_SENT
        with pytest.raises(StoreError):
            await store.due(1.0, None, 1)
    finally:
        server.start()
    while True:
        try:
            assert await claim(store) >= ver + 1
        except StoreError:  # it takes connections, and is not ready
            continue
        break
    await commit(store, write(await claim(store), b"y"), 5.0)


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
async def test_a_server_that_is_not_there_says_so_at_once(scheme: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        store = store_at(f"{scheme}://user:hidden@127.0.0.1:{port}/0")
        with pytest.raises(StoreError, match=rf"{scheme}://127.0.0.1:{port}/0") as caught:
            await store.open()
        assert caught.value.certainty is NOT_SENT
        assert "hidden" not in str(caught.value)
        with pytest.raises(StoreError, match="is not open"):
            await store.claim(Claim("a", "one", 1, "node"))
        await store.close()
