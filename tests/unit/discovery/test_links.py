"""Links between memberships: real sockets and handshakes, in one loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from ringcast.discovery import link as link_module
from ringcast.discovery import links as links_module
from ringcast.discovery.claim import Claim
from ringcast.discovery.frames import framed
from ringcast.discovery.link import FIRST_FRAME_BYTES_MAX, Ending, Link
from ringcast.discovery.links import DIALS_MAX, LINKS_PER_PEER_MAX, PENDING_MAX, Links
from ringcast.discovery.port import Port
from ringcast.discovery.preamble import preamble
from ringcast.discovery.sockets import connected
from ringcast.security.channels import MEMBERSHIP
from ringcast.security.credential import issue
from ringcast.security.identity import NODE
from ringcast.security.material import FromCredential
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key
from ringcast.security.trust import Trust
from tests.integration.memberships import SECRET, trust_of

LIMIT = 10.0


class End:
    """The links of one node, a listening socket for them, and what they told."""

    def __init__(self, name: str, trust: Trust) -> None:
        self.name = name
        self.tasks: set[asyncio.Task[None]] = set()
        self.frames: list[bytes] = []
        self.by_link: list[Link] = []
        self.refused: list[str] = []
        self.lost: list[tuple[Link, Ending]] = []
        self.strangers: list[tuple[Link, Ending]] = []
        self.answers: Callable[[Link, bytes], bool] = self.understands
        self.links = Links(trust, self.spawn, self.on_frame, self.on_refused, self.on_lost, self.on_stranger)
        self._changed = asyncio.Event()
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(200)
        self.listener.setblocking(False)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.port = Port(self.listener, lambda connection, _: self.links.adopt(connection))
        self.port.open()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        self._changed.set()
        task.add_done_callback(self.tasks.discard)
        return task

    def claim(self) -> Claim:
        return Claim(self.name, self.address, 1)

    def understands(self, link: Link, data: bytes) -> bool:
        """Take the frame for a word of the node whose name and address stand in it."""
        name, address = data.decode().split()[:2]
        self.links.name(link, Claim(name, address, 1))
        return True

    def on_frame(self, link: Link, data: bytes) -> bool:
        self.frames.append(data)
        self.by_link.append(link)
        self._changed.set()
        return self.answers(link, data)

    def on_refused(self, address: str) -> None:
        self.refused.append(address)
        self._changed.set()

    def on_lost(self, link: Link, ending: Ending) -> None:
        self.lost.append((link, ending))
        self._changed.set()

    def on_stranger(self, link: Link, ending: Ending) -> None:
        self.strangers.append((link, ending))
        self._changed.set()

    def say(self, other: End, text: str = "") -> None:
        self.links.send(other.address, f"{self.name} {self.address} {text}".encode())

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    def deafen(self) -> None:
        """Take no more connections, though the kernel does."""
        if self.listener.fileno() != -1:
            self.port.close()

    async def end(self) -> None:
        self.deafen()
        async with asyncio.timeout(LIMIT):
            await self.links.close()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.listener.close()


@contextlib.asynccontextmanager
async def ends(*trusts: Trust) -> AsyncIterator[list[End]]:
    made = [End(trust.node_id, trust) for trust in trusts]
    try:
        yield made
    finally:
        for end in made:
            await end.end()


@contextlib.asynccontextmanager
async def raw(end: End) -> AsyncIterator[socket.socket]:
    """A connection to an end that has said what it is for, and nothing else."""
    with await connected(end.address) as connection:
        await asyncio.get_running_loop().sock_sendall(connection, preamble(MEMBERSHIP))
        yield connection


async def closed(connection: socket.socket) -> bytes:
    """Return what came until the other end closed."""
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(LIMIT):
        with contextlib.suppress(ConnectionError):
            while piece := await loop.sock_recv(connection, 1000):
                data += piece
    return data


@pytest.fixture(params=[True, False], ids=["tls", "plain"])
def is_encrypted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


async def test_frames_go_both_ways_over_one_link_and_each_end_is_known(is_encrypted: bool) -> None:
    trusts = [trust_of(name, is_encrypted=is_encrypted) for name in "ab"]
    async with ends(*trusts) as [a, b]:
        a.say(b, "one")
        a.say(b, "x" * 100_000)
        await b.until(lambda: len(b.frames) == 2)
        b.say(a, "back")
        await a.until(lambda: len(a.frames) == 1)
        assert (len(a.links), len(b.links)) == (1, 1)
        [of_a], [of_b] = set(a.by_link), set(b.by_link)
        assert of_b.speaker == ("a", 1)
        assert (of_a.dialled, of_b.dialled) == (b.address, None)
        if is_encrypted:
            assert of_b.identity is not None
            assert of_b.identity.speaks_for("a")
            assert of_b.identity.key == trusts[0].key
            assert of_a.identity is not None
            assert of_a.identity.speaks_for("b")
        else:
            assert of_a.identity is of_b.identity is None


async def test_nobody_there_is_a_refused_address_and_no_stranger() -> None:
    async with ends(trust_of("a"), trust_of("b")) as [a, b]:
        b.deafen()
        b.listener.close()
        a.say(b)
        await a.until(lambda: a.refused == [b.address])
        assert (len(a.links), a.strangers) == (0, [])


async def test_what_cannot_be_dialled_ends_quietly() -> None:
    async with ends(trust_of("a")) as [a]:
        a.links.send("nowhere.invalid:1", b"x")
        a.links.send("127.0.0.1", b"no port")
        async with asyncio.timeout(LIMIT):
            await a.links.flush()
        assert (len(a.links), a.strangers, a.refused) == (0, [], [])


# ---- how links end -------------------------------------------------------------------------------


async def test_each_end_is_told_how_a_link_ended(is_encrypted: bool) -> None:
    async with ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b]:
        a.say(b)
        await b.until(lambda: len(b.frames) == 1)
        b.by_link[0].close()
        await b.until(lambda: b.lost == [(b.by_link[0], Ending.CLOSED_HERE)])
        # That end was never heard of here: it is no evidence of anybody.
        await a.until(lambda: [ending for _, ending in a.strangers] == [Ending.FINISHED])
        a.say(b)
        await b.until(lambda: len(b.frames) == 2)
        b.say(a)
        await a.until(lambda: len(a.frames) == 1)
        b.by_link[1].close()
        await a.until(lambda: a.lost == [(a.by_link[0], Ending.FINISHED)])
        assert a.by_link[0].speaker == ("b", 1)


async def test_a_reset_is_told_from_a_goodbye(is_encrypted: bool) -> None:
    async with ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b]:
        a.say(b)
        await b.until(lambda: len(b.frames) == 1)
        transport = a.links._by_address[b.address]._raw
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        await b.until(lambda: b.lost == [(b.by_link[0], Ending.RESET)])


async def test_a_peer_that_takes_nothing_is_cut_off_at_a_bound(
    is_encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "UNSENT_BYTES_MAX", 1 << 20)
    async with ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b]:
        a.say(b)
        await b.until(lambda: len(b.frames) == 1)
        b.say(a)
        await a.until(lambda: len(a.frames) == 1)
        link = b.by_link[0]
        assert link._raw is not None
        link._raw.pause_reading()
        for _ in range(200):
            a.say(b, "x" * 100_000)
            await asyncio.sleep(0)
        await a.until(lambda: [ending for _, ending in a.lost] == [Ending.SILENT])
        link._raw.resume_reading()


# ---- nothing is left behind -----------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(14))
async def test_links_may_end_at_any_step_and_leave_nothing_open(is_encrypted: bool, steps: int) -> None:
    """A task that is cancelled before its first step runs nothing of itself, not even its `finally`.

    The sockets used to be such tasks' own: nobody closed them then.
    """
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        async with ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b]:
            a.links.adopt(ours)
            a.say(b)
            for _ in range(steps):
                await asyncio.sleep(0)
            for task in (*a.tasks, *b.tasks):
                task.cancel()
        assert ours.fileno() == -1
        assert not a.links._links
        assert not b.links._links
    gc.collect()  # whatever was left open would warn now, and warnings are errors


async def test_after_the_end_nothing_is_taken_and_nothing_dialled() -> None:
    async with ends(trust_of("a"), trust_of("b")) as [a, b]:
        await a.links.close()
        a.say(b)
        ours, theirs = socket.socketpair()
        with theirs:
            a.links.adopt(ours)
            assert ours.fileno() == -1
        assert (len(a.links), a.tasks) == (0, set())


async def test_last_words_leave_before_the_links_end(is_encrypted: bool) -> None:
    async with ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b]:
        a.say(b, "goodbye")
        async with asyncio.timeout(LIMIT):
            await a.links.flush()
            await a.links.close()
        await b.until(lambda: [frame.split()[2] for frame in b.frames] == [b"goodbye"])


async def test_who_takes_no_last_words_is_cut_off(is_encrypted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "CLOSE_LIMIT", 0.05)
    monkeypatch.setattr(link_module, "UNSENT_BYTES_MAX", 1 << 30)
    async with ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b]:
        a.say(b)
        await b.until(lambda: len(b.frames) == 1)
        link = b.by_link[0]
        assert link._raw is not None
        link._raw.pause_reading()
        for _ in range(200):
            a.say(b, "x" * 100_000)
        transport = a.links._by_address[b.address]._transport
        assert transport is not None
        assert transport.get_write_buffer_size() > 0
        async with asyncio.timeout(LIMIT):
            await a.links.close()
        link._raw.resume_reading()


# ---- limits ---------------------------------------------------------------------------------------


async def test_who_proves_nothing_in_time_is_closed(is_encrypted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "PROVING_LIMIT", 0.05)
    async with ends(trust_of("a", is_encrypted=is_encrypted)) as [a], raw(a) as connection:
        assert await closed(connection) == b""
        await a.until(lambda: [ending for _, ending in a.strangers] == [Ending.SILENT])


async def test_a_dial_that_is_not_answered_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "PROVING_LIMIT", 0.05)
    async with ends(trust_of("a"), trust_of("b")) as [a, b]:
        b.deafen()
        a.say(b)
        await a.until(lambda: [ending for _, ending in a.strangers] == [Ending.SILENT])
        assert len(a.links) == 0


async def test_half_a_frame_is_not_waited_for(is_encrypted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FRAME_LIMIT", 0.05)
    async with ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b]:
        a.say(b)
        await b.until(lambda: len(b.frames) == 1)
        transport = a.links._by_address[b.address]._transport
        assert transport is not None
        transport.write(framed(b"a a:1 more")[:6])
        await b.until(lambda: b.lost == [(b.by_link[0], Ending.SILENT)])


async def test_a_frame_has_its_time_from_its_first_byte_and_silence_has_none(
    is_encrypted: bool,
) -> None:
    async with ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b]:
        a.say(b)
        await b.until(lambda: len(b.frames) == 1)
        [link] = b.by_link
        assert link._timer is None
        data = framed(b"a a:1 more")
        link.data_received(data[:1])
        first = link._timer
        assert first is not None
        link.data_received(data[1:3])
        assert link._timer is first
        link.data_received(data[3:] + data[:3])
        assert link._timer is not None
        assert link._timer is not first
        link.data_received(data[3:])
        assert link._timer is None
        assert len(b.frames) == 3


async def test_a_claimed_length_without_proof_closes_the_link_and_costs_nothing() -> None:
    async with ends(trust_of("a", is_encrypted=False)) as [a], raw(a) as connection:
        connection.send((FIRST_FRAME_BYTES_MAX + 1).to_bytes(4, "big"))
        assert await closed(connection) == b""
        assert a.links.broken == 1


async def test_of_those_who_prove_nothing_the_oldest_gives_way(is_encrypted: bool) -> None:
    async with (
        ends(trust_of("a", is_encrypted=is_encrypted), trust_of("b", is_encrypted=is_encrypted)) as [a, b],
        contextlib.AsyncExitStack() as stack,
    ):
        strangers = [await stack.enter_async_context(raw(a)) for _ in range(PENDING_MAX + 5)]
        for stranger in strangers[:5]:
            assert await closed(stranger) == b""
        b.say(a)
        await a.until(lambda: len(a.frames) == 1)
        assert a.links.crowded_out == 6
        assert len(a.links._pending) == PENDING_MAX - 1
        assert len(a.links._links) == PENDING_MAX


async def test_dials_are_bounded_too() -> None:
    async with ends(trust_of("a")) as [a]:
        with contextlib.ExitStack() as stack:
            silent = stack.enter_context(socket.socket())
            silent.bind(("127.0.0.1", 0))
            silent.listen(1000)
            port = silent.getsockname()[1]
            for number in range(DIALS_MAX + 3):
                a.links.send(f"127.0.{number // 250}.{number % 250 + 1}:{port}", b"x")
            assert len(a.links._dialling) == DIALS_MAX
            assert a.links.crowded_out == 3


async def test_of_too_many_links_of_one_peer_the_oldest_is_closed(is_encrypted: bool) -> None:
    trusts = [
        trust_of(name, is_encrypted=is_encrypted) for name in ["a", *("b" for _ in range(LINKS_PER_PEER_MAX + 1))]
    ]
    async with ends(*trusts) as [a, *same]:
        for count, end in enumerate(same, 1):
            end.say(a)
            await a.until(lambda count=count: len(a.frames) == count)  # type: ignore[misc]
        await a.until(lambda: a.lost == [(a.by_link[0], Ending.CLOSED_HERE)])


async def test_nodes_of_one_limited_credential_have_so_many_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links_module, "LIMITED_MAX", 3)
    limited = issue(SECRET, "test", NODE, "edge", now=time.time(), ttl=600, allow=["Shop.*"])
    write_private(tmp_path / "credential", limited.render())
    trusts = [Trust(FromCredential(tmp_path / "credential"), "test", f"edge.{number}") for number in range(4)]
    async with ends(trust_of("a"), *trusts) as [a, *same]:
        for count, end in enumerate(same, 1):
            end.say(a)
            await a.until(lambda count=count: len(a.frames) == count)  # type: ignore[misc]
        await a.until(lambda: a.lost == [(a.by_link[0], Ending.CLOSED_HERE)])


# ---- strangers, in words --------------------------------------------------------------------------


def objections(end: End) -> list[str]:
    return [str(link.objection) for link, _ in end.strangers if link.objection is not None]


async def test_another_secret_is_named_by_both() -> None:
    async with ends(trust_of("a"), trust_of("b", "test", new_key(2))) as [a, b]:
        a.say(b)
        for end in (a, b):
            await end.until(lambda end=end: len(objections(end)) == 1)  # type: ignore[misc]
            assert "it has another secret" in objections(end)[0]
        assert b.frames == []


async def test_who_is_refused_by_the_other_end_alone_is_told_so_too() -> None:
    """TLS 1.3 lets the dialler finish before the other end has looked at its certificate."""
    old, new = new_key(1), new_key(2)
    async with ends(trust_of("a", "test", new, old), trust_of("b", "test", old)) as [a, b]:
        a.say(b)
        await a.until(lambda: objections(a) == ["it refuses this side's certificate: it has another secret"])
        await b.until(lambda: "it has another secret" in "".join(objections(b)))
        assert b.frames == []


async def test_another_cluster_of_the_same_secret_is_named_by_both() -> None:
    async with ends(trust_of("a", "shop"), trust_of("b", "bank")) as [a, b]:
        a.say(b)
        await a.until(lambda: "it is node b of cluster 'bank', and this is cluster 'shop'" in "".join(objections(a)))
        assert b.frames == []


@pytest.mark.parametrize("dialler_has_tls", [True, False])
async def test_tls_and_none_do_not_meet_and_both_say_why(dialler_has_tls: bool) -> None:
    trusts = [trust_of("a", is_encrypted=dialler_has_tls), trust_of("b", is_encrypted=not dialler_has_tls)]
    async with ends(*trusts) as [a, b]:
        a.say(b)
        await a.until(lambda: len(objections(a)) == 1)
        assert "tls=False" in objections(a)[0]
        assert b.frames == []


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_another_program_is_told_from_a_node(banner: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(banner)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server, ends(trust_of("a")) as [a]:
        a.links.send(f"127.0.0.1:{server.sockets[0].getsockname()[1]}", b"x")
        await a.until(lambda: len(objections(a)) == 1)
        assert "does not speak TLS: is it another program" in objections(a)[0]


# ---- rotation -------------------------------------------------------------------------------------


async def test_links_of_a_key_that_is_dropped_are_closed_and_others_stay(tmp_path: Path) -> None:
    old, new = new_key(1), new_key(2)
    path = tmp_path / "secret"
    write_private(path, Secret((new, old)).render())
    watching = Trust.found(path, "test", node_id="a")
    async with ends(watching, trust_of("b", "test", old, new), trust_of("c", "test", new, old)) as [a, b, c]:
        b.say(a)
        c.say(a)
        await a.until(lambda: len(a.frames) == 2)
        write_private(path, Secret((new,)).render())
        assert watching.refresh()
        a.links.recheck()
        await a.until(lambda: len(a.lost) == 1)
        [(link, ending)] = a.lost
        assert (link.speaker, ending) == (("b", 1), Ending.CLOSED_HERE)
        await b.until(lambda: len(b.strangers) == 1)
        b.say(a)
        await b.until(lambda: "it has another secret" in "".join(objections(b)))
        c.say(a, "again")
        await a.until(lambda: len(a.frames) == 3)


async def test_a_handshake_that_was_begun_before_its_key_was_dropped_comes_too_late(tmp_path: Path) -> None:
    old, new = new_key(1), new_key(2)
    path = tmp_path / "secret"
    write_private(path, Secret((new, old)).render())
    watching, late = Trust.found(path, "test", node_id="a"), trust_of("b", "test", old, new)
    async with ends(watching) as [a], raw(a) as connection:
        await a.until(lambda: len(a.tasks) == 1)
        [link] = a.links._links
        await a.tasks.copy().pop()  # it has chosen what to believe
        write_private(path, Secret((new,)).render())
        assert watching.refresh()
        a.links.recheck()
        context = late.dialling(MEMBERSHIP)
        reader, writer = await asyncio.open_connection(sock=connection, ssl=context, server_hostname="")
        await a.until(lambda: len(objections(a)) == 1)
        assert "key of the secret that was dropped" in objections(a)[0]
        assert link.identity is None
        assert await reader.read() == b""
        writer.transport.abort()


async def test_last_words_are_not_waited_for_beyond_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "UNSENT_BYTES_MAX", 1 << 30)
    async with ends(trust_of("a"), trust_of("b")) as [a, b]:
        a.say(b)
        await b.until(lambda: len(b.frames) == 1)
        link = b.by_link[0]
        assert link._raw is not None
        link._raw.pause_reading()
        for _ in range(200):
            a.say(b, "x" * 100_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await a.links.close()
        assert not a.links._links or all(held._ending is not None for held in a.links._links)
        link._raw.resume_reading()
