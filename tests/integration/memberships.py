"""Memberships with real threads and sockets on the loopback, for tests, and raw dials at them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from ringcast.discovery.archive import Archive
from ringcast.discovery.gate import Gate
from ringcast.discovery.handoff import Open
from ringcast.discovery.member import Event, Member, MemberJoined, MemberLeft, MemberLost, View, ViewChanged
from ringcast.discovery.membership import Membership
from ringcast.discovery.preamble import preamble
from ringcast.discovery.profile import LOCAL, Profile
from ringcast.discovery.share import PARTITIONS
from ringcast.discovery.source import Source
from ringcast.security.channels import MEMBERSHIP
from ringcast.security.secret import Key, Secret, new_key
from ringcast.security.trust import Trust

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

LIMIT = 20.0
"""Seconds after which a test gives up; nothing waits for it to pass."""


SECRET = Secret((new_key(1),))
"""What all memberships have in common that are given no other."""


def trust_of(name: str, cluster: str = "test", *keys: Key, is_encrypted: bool = True) -> Trust:
    """Return the trust of a node that has these keys, or `SECRET`."""
    secret = Secret(keys) if keys else SECRET
    return Trust.found(secret.render().encode(), cluster, node_id=name, tls=None if is_encrypted else False)


CLASS = "shop:Cart"


def shares_of(view: View, node_id: str) -> dict[str, int]:
    """Deal the partitions of one class out in turn to those who do not leave."""
    names = [member.id for member in view.members if not member.leaving]
    if node_id not in names:
        return {CLASS: 0}
    return {CLASS: sum(1 << partition for partition in range(names.index(node_id), PARTITIONS, len(names)))}


class Recorder:
    """One membership and what it told, brought to the test's loop."""

    def __init__(
        self,
        name: str,
        discovery: Sequence[Source] = (),
        cluster: str = "test",
        listen: str = "127.0.0.1:0",
        advertise: str | None = None,
        on_view: Callable[[View], None] | None = None,
        trust: Trust | None = None,
        archive: Archive | None = None,
        expect: int | None = None,
        trusts_refusal: bool = True,
        profile: Profile = LOCAL,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self.views: list[View] = []
        self.events: list[Event] = []
        self.connections: list[tuple[socket.socket, bytes]] = []
        self.failures: list[BaseException] = []
        self.opened: list[Open] = []
        self.fences: list[tuple[str, Member]] = []
        self.leases: list[None] = []
        self.gate = Gate()
        self.threads: set[int] = set()
        self.membership = Membership(
            trust=trust or trust_of(name, cluster),
            listen=listen,
            advertise=advertise,
            labels={"name": name},
            hosts=frozenset({CLASS}),
            hosts_by_value=True,
            discovery=discovery,
            profile=profile,
            gate=self.gate,
            shares_of=shares_of,
            on_view=on_view or self._collect(self.views),
            on_event=self._collect(self.events),
            on_connection=lambda sock, channel: self._collect(self.connections)((sock, channel)),
            on_opened=self._on_opened,
            on_lease=lambda: self._collect(self.leases)(None),
            on_fence=self._on_fence,
            on_failure=self._collect(self.failures),
            archive=archive,
            expect=expect,
            trusts_refusal=trusts_refusal,
        )

    def _on_opened(self, opened: tuple[Open, ...]) -> None:
        for each in opened:
            self._collect(self.opened)(each)

    def _on_fence(self, why: str, me: Member) -> None:
        self._collect(self.fences)((why, me))
        self.gate.passed()  # nothing acts here

    def _collect(self, into: list[T]) -> Callable[[T], None]:
        def add(item: T) -> None:
            into.append(item)
            self._changed.set()

        def collect(item: T) -> None:
            self.threads.add(threading.get_ident())
            self._loop.call_soon_threadsafe(add, item)

        return collect

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT):
            while not holds():
                self._changed.clear()
                await self._changed.wait()

    async def until_members(self, names: Iterable[str]) -> None:
        """Wait for the view of exactly these; all its events have been told by then."""
        expected = sorted(names)

        def are_in_view() -> bool:
            views = [event.view for event in self.events if isinstance(event, ViewChanged)]
            return bool(views) and sorted(member.id for member in views[-1].members) == expected

        await self.until(are_in_view)

    async def until_open(self) -> None:
        """Wait until all that belongs here by the view is open here."""
        mine = shares_of(self.membership.view, self.membership.me.id)[CLASS]
        await self.until(lambda: CLASS in self.membership.shares and self.membership.shares[CLASS].open == mine)

    async def leave(self) -> None:
        """Leave as a node does: announced, released, and only then gone."""
        async with asyncio.timeout(LIMIT):
            await self.membership.announce_leaving()
            await self.membership.release()
            await self.membership.stop()

    def member_events(self, kind: type[MemberJoined | MemberLeft | MemberLost]) -> list[str]:
        changes = [event for event in self.events if not isinstance(event, ViewChanged)]
        return [event.member.id for event in changes if type(event) is kind]


@contextlib.asynccontextmanager
async def started(*recorders: Recorder) -> AsyncGenerator[None]:
    """Start all at once, and stop all at the end."""
    try:
        async with asyncio.timeout(LIMIT):
            await asyncio.gather(*(recorder.membership.start() for recorder in recorders))
        yield
    finally:
        for recorder in recorders:
            await recorder.membership.stop()
        for recorder in recorders:
            for sock, _ in recorder.connections:
                sock.close()


def free_addresses(count: int) -> list[str]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]


@contextlib.asynccontextmanager
async def raw_dial(
    recorder: Recorder, channel: bytes | None = MEMBERSHIP
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Dial a membership's port as anybody can, say what the connection is for, and close it at the end."""
    host, port = recorder.membership.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        if channel is not None:
            writer.write(preamble(channel))
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class Child:
    """A membership in a process of its own, and the first line that it printed."""

    def __init__(self, process: asyncio.subprocess.Process, said: str) -> None:
        self.process = process
        self.said = said

    @property
    def address(self) -> str:
        assert self.said.startswith("READY "), self.said
        return self.said.split()[1]

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@contextlib.asynccontextmanager
async def child(*options: str) -> AsyncIterator[Child]:
    """Run `membership_process` with these options until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.integration.membership_process", *options),
        cwd=ROOT,
        env={**os.environ, "SECRET": SECRET.render(), "RINGCAST_LOG": "critical"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            said = ""
            while not said.startswith(("READY", "REFUSED")):
                said = (await process.stdout.readline()).decode().strip()
        yield Child(process, said)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
