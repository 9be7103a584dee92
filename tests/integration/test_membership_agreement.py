"""What agreement asks of its shell, with real processes, sockets and files: evidence, keys, leases and records."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import structlog

from ringcast.discovery.archive import Archive
from ringcast.discovery.disk import Folder
from ringcast.discovery.driver import Driver
from ringcast.discovery.link import Link
from ringcast.discovery.member import MemberLeft, MemberLost, MemberSuspected, View
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.record import decode_record
from ringcast.discovery.source import Announcement, Seeds
from ringcast.errors import ConfigError
from tests.integration.memberships import Recorder, child, free_addresses, started, trust_of
from tests.unit.runtime.places import eventually


def driver_of(recorder: Recorder) -> Driver:
    driver = recorder.membership._driver
    assert driver is not None
    return driver


def dialled(one: Recorder, address: str, name: str) -> Link | None:
    """Return the link that `one` keeps to that address for what its end will prove, if the node has answered there."""
    link = driver_of(one)._links.watching(address)
    return link if link is not None and link.speaker is not None and link.speaker[0] == name else None


def is_watched(one: Recorder, other: Recorder) -> bool:
    return dialled(one, other.membership.address, other.membership.me.id) is not None


def recorded(folder: Path) -> list[View]:
    """Return the views that the voters with folders in this one have written down."""
    records = (decode_record((each / "voter").read_bytes()) for each in sorted(folder.iterdir()))
    return [record.view for record in records if record.view is not None]


# ---- evidence of death ------------------------------------------------------------------------------


async def test_each_voter_keeps_a_connection_of_its_own_to_each_member() -> None:
    addresses = free_addresses(3)
    nodes = [Recorder(name, [Seeds(addresses)], listen=at) for name, at in zip("abc", addresses, strict=True)]
    async with started(*nodes):
        for node in nodes:
            await node.until_members("abc")
        for node in nodes:
            for other in nodes:
                if other is not node:
                    await eventually(partial(is_watched, node, other))


class Later(Seeds):
    """Shows its addresses once the node takes part, not before, and takes its time to end."""

    async def start(
        self, announcement: Announcement, found: Callable[[str], None], gone: Callable[[str], None]
    ) -> None:
        for address in self._addresses:
            asyncio.get_running_loop().call_later(0.05, found, address)

    async def stop(self) -> None:
        await asyncio.sleep(LOCAL.lease)  # a timer that was left behind comes within


async def test_who_finds_addresses_as_it_runs_leaves_without_a_failure() -> None:
    one = Recorder("one", [Later(free_addresses(20))])
    async with started(one):
        await eventually(lambda: one.membership.stats().get("dials_refused", 0) >= 20)
        await one.leave()
    await asyncio.sleep(0)  # what its thread told last is here
    assert one.failures == []


async def test_of_two_the_survivor_goes_on_alone_at_once_when_the_other_is_killed() -> None:
    one = Recorder("one")
    async with started(one), child("--name", "two", "--seed", one.membership.address) as two:
        await one.until_members(["one", "two"])
        await eventually(lambda: dialled(one, two.address, "two") is not None)
        until = one.gate.until
        began = time.monotonic()
        await two.kill()
        await one.until_members(["one"])
        assert time.monotonic() - began < 1.5
        assert one.member_events(MemberLost) == ["two"]
        await one.until_open()
        assert one.gate.until >= until - LOCAL.lease
        await eventually(lambda: one.gate.is_open)
        assert one.fences == []


async def test_without_trust_in_refusals_the_survivor_of_two_stops_and_keeps_its_view() -> None:
    one = Recorder("one", trusts_refusal=False)
    async with started(one), child("--name", "two", "--seed", one.membership.address) as two:
        await one.until_members(["one", "two"])
        await eventually(lambda: dialled(one, two.address, "two") is not None)
        await eventually(lambda: one.gate.is_open)
        number = one.membership.view.number
        await two.kill()
        await eventually(lambda: not one.gate.is_open, seconds=LOCAL.lease * 5)
        await one.until(lambda: any(isinstance(event, MemberSuspected) for event in one.events))
        assert one.membership.view.number == number
        assert one.member_events(MemberLost) == []


async def test_a_connection_that_ends_is_looked_into_and_who_answers_stays() -> None:
    one = Recorder("one")
    async with started(one):
        two = Recorder("two", [Seeds([one.membership.address])])
        async with started(two):
            await one.until_members(["one", "two"])
            await eventually(lambda: dialled(one, two.membership.address, "two") is not None)
            first = dialled(one, two.membership.address, "two")
            assert first is not None
            links = driver_of(two)._links

            def cut() -> None:
                for link in tuple(links._links):
                    link.cut()

            two.membership._call(cut)
            await eventually(lambda: dialled(one, two.membership.address, "two") not in (None, first))
            # It goes on having its lease from the very member that looked dead for a moment.
            until = one.gate.until
            await eventually(lambda: one.gate.until > until)
            assert one.member_events(MemberLost) == two.member_events(MemberLost) == []
            assert one.membership.stats()["proven_dead"] == 0


async def test_another_key_under_the_id_of_a_live_member_is_refused_and_said_once() -> None:
    one = Recorder("one")
    async with started(one):
        two = Recorder("two", [Seeds([one.membership.address])])
        async with started(two):
            await one.until_members(["one", "two"])
            await eventually(lambda: dialled(one, two.membership.address, "two") is not None)
            before = one.membership.view
            with structlog.testing.capture_logs() as logs:
                second = Recorder("two", [Seeds([one.membership.address])])
                starting = asyncio.create_task(second.membership.start())
                await eventually(lambda: one.membership.stats()["keys_refused"] > 1)
            assert one.membership.view == before
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            told = [entry for entry in logs if "second process with its id" in entry["event"]]
            assert [entry["node"] for entry in told] == ["one"]
            assert one.membership.view == before


# ---- leases ---------------------------------------------------------------------------------------------


async def test_the_gate_is_open_while_it_is_a_member_and_shut_when_it_stops() -> None:
    one = Recorder("one")
    async with started(one):
        await eventually(lambda: one.gate.is_open)
        await one.until_open()
        await one.until(lambda: bool(one.leases))
        until = one.gate.until
        await eventually(lambda: one.gate.until > until)  # it is renewed
        assert one.gate.until - until < LOCAL.lease
    assert not one.gate.is_open


async def test_a_membership_that_fails_shuts_the_gate() -> None:
    one = Recorder("one")
    async with started(one):
        await eventually(lambda: one.gate.is_open)
        one.membership.give_up("for the test")
        await one.until(lambda: bool(one.failures))
        assert not one.gate.is_open


async def test_a_dissolved_lineage_is_left_as_a_new_run_after_a_fence() -> None:
    one = Recorder("one")
    async with started(one):
        await one.until(lambda: bool(one.leases))
        before = one.membership.view
        one.membership.dissolve("an operator says so")
        await one.until(lambda: one.views[-1].lineage != before.lineage)
        [(why, me)] = one.fences
        assert why == "an operator says so"
        assert me.incarnation > before.members[0].incarnation
        assert [member.identity for member in one.views[-1].members] == [me.identity]
        await eventually(lambda: one.gate.is_open)


async def test_who_leaves_hands_over_before_it_is_let_go() -> None:
    one = Recorder("one")
    async with started(one):
        two = Recorder("two", [Seeds([one.membership.address])])
        async with started(two):
            await one.until_members(["one", "two"])
            await two.until_open()
            await one.until_open()
            share = two.membership.shares["shop:Cart"]
            [first, *_] = [partition for partition in range(1024) if share.open >> partition & 1]
            assert share.enter(first)
            await two.membership.announce_leaving()
            await two.until(lambda: share.draining == 1 << first)
            # All but what still runs there is open here.
            await one.until(lambda: bin(one.membership.shares["shop:Cart"].open).count("1") == 1023)
            assert share.leave(first)
            two.membership.emptied()
            await one.until_open()
            await two.membership.release()
            assert not two.gate.is_open
            await two.membership.stop()
        await one.until_members(["one"])
        assert one.member_events(MemberLeft) == ["two"]


# ---- records ------------------------------------------------------------------------------------------------


async def test_a_killed_node_is_back_under_its_id_within_three_seconds(tmp_path: Path) -> None:
    one = Recorder("one")
    [listen] = free_addresses(1)
    async with started(one):
        options = ("--seed", one.membership.address, "--listen", listen, "--data-dir", str(tmp_path))
        async with child(*options) as first:
            await one.until(lambda: len(one.views[-1].members) == 2)
            name = Archive(Folder(tmp_path)).node_id
            before = one.views[-1].member(name)
            assert before is not None
            assert before.has_record
            await eventually(lambda: dialled(one, first.address, name) is not None)
            await first.kill()
        began = time.monotonic()

        def is_back() -> bool:
            member = one.views[-1].member(name)
            return member is not None and member.incarnation > before.incarnation

        async with child(*options) as second:
            await one.until(is_back)
            assert time.monotonic() - began < 3.0
            assert second.address == listen


async def test_a_second_process_with_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with child("--data-dir", str(tmp_path)) as first:
        assert first.address
        async with child("--data-dir", str(tmp_path)) as second:
            assert second.said.startswith("REFUSED")
            assert str(tmp_path) in second.said
            assert "in use by another process" in second.said
        threads = set(threading.enumerate())
        archive = Archive(Folder(tmp_path))
        with pytest.raises(ConfigError, match="in use by another process"):
            await Recorder("x", trust=trust_of(archive.node_id), archive=archive).membership.start()
        assert set(threading.enumerate()) <= threads
        await first.kill()
    # The lock has ended with its process.
    again = Recorder("x", trust=trust_of(archive.node_id), archive=archive)
    async with started(again):
        assert [member.id for member in again.membership.view.members] == [archive.node_id]


async def test_two_with_records_that_were_both_killed_go_on_in_their_lineage(tmp_path: Path) -> None:
    addresses = free_addresses(2)
    lineages: list[str] = []
    for _ in range(2):
        async with contextlib.AsyncExitStack() as stack:
            starting = [
                stack.enter_async_context(
                    child("--listen", own, "--seed", other, "--data-dir", str(tmp_path / own.split(":")[1]))
                )
                for own, other in (addresses, addresses[::-1])
            ]
            pair = await asyncio.gather(*starting)
            assert sorted(one.address for one in pair) == sorted(addresses)
            await eventually(lambda: [len(view.members) for view in recorded(tmp_path)] == [2, 2])
            lineages += {view.lineage for view in recorded(tmp_path)}
            await asyncio.gather(*(one.kill() for one in pair))
    assert len(lineages) == 2
    assert len(set(lineages)) == 1
