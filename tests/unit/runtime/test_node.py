"""A node: its options, how it begins and ends, and what it says of the cluster."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest

from ringcast import (
    MAYBE_EXECUTED,
    NOT_SENT,
    Actor,
    ConfigError,
    Member,
    MemberJoined,
    MemberLeft,
    Node,
    NodeConfig,
    NodeStopped,
    Seeds,
    Unreachable,
    ViewChanged,
    submit,
    tell,
    using,
)
from ringcast.discovery.profile import LAN, LOCAL, WAN, Profile
from tests.unit.runtime.places import REMOTE, Place, a_place, eventually, gates, new_cluster, raised


class Guest(Actor):
    async def hello(self) -> str:
        return "hello"

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate

    async def on_stop(self, reason: str) -> None:
        gates.seen.append(f"stop: {reason}")

    async def start_task(self) -> None:
        self._task = asyncio.create_task(asyncio.sleep(1000))


# ---- options -------------------------------------------------------------------------------------


async def start_and_leave(options: dict[str, Any]) -> None:
    async with Node(**options):
        pass


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"listen": "nowhere"}, "listen"),
        ({"listen": "127.0.0.1:http"}, "listen"),
        ({"listen": "127.0.0.1:99999"}, "listen"),
        ({"listen": "127.0.0.1:20-10"}, "listen"),
        ({"listen": 7400}, "listen"),
        ({"listen": "0.0.0.0:0"}, "secret"),
        ({"cluster": ""}, "cluster"),
        ({"cluster": 3}, "cluster"),
        ({"discovery": "zeroconf"}, "discovery"),
        ({"discovery": [3]}, "discovery"),
        ({"hosts": "app"}, "hosts"),
        ({"hosts": [3]}, "hosts"),
        ({"labels": {"gpu": 1}}, "labels"),
        ({"config": {"ask_timeout": 3}}, "config"),
        ({"port": 7400}, "'port'"),
    ],
    ids=str,
)
async def test_wrong_options_are_config_errors(options: dict[str, Any], says: str) -> None:
    values: dict[str, Any] = {"discovery": [], **options}
    with pytest.raises(ConfigError, match=says):
        await start_and_leave(values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ask_timeout": 0},
        {"ask_timeout": "30"},
        {"drain_timeout": -1},
        {"stuck_after": True},
        {"max_message_bytes": 10},
        {"dead_letters": -1},
        {"profile": "moon"},
        {"trust_refused": "yes"},
    ],
    ids=str,
)
def test_wrong_numbers_are_config_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        NodeConfig(**wrong)


@pytest.mark.parametrize(
    ("name", "numbers"), [(None, LOCAL), ("local", LOCAL), ("lan", LAN), ("wan", WAN)], ids=lambda value: str(value)[:7]
)
def test_the_numbers_of_the_membership_are_chosen_by_name(name: str | None, numbers: Profile) -> None:
    node = Node(cluster=new_cluster(), discovery=[], config=NodeConfig(profile=name))
    assert node._membership._profile is numbers
    assert NodeConfig().membership_profile(is_local=False) is LAN


async def test_a_port_in_use_is_a_config_error() -> None:
    async with Node(cluster=new_cluster(), discovery=[]) as node:
        with pytest.raises(ConfigError, match=node.address.rpartition(":")[2]):
            async with Node(cluster=new_cluster(), discovery=[], listen=node.address):
                pass


async def test_a_range_of_ports_takes_a_free_one() -> None:
    async with Node(cluster=new_cluster(), discovery=[]) as node:
        port = int(node.address.rpartition(":")[2])
        async with Node(cluster=new_cluster(), discovery=[], listen=f"127.0.0.1:{port}-{port + 20}") as other:
            assert port < int(other.address.rpartition(":")[2]) <= port + 20


# ---- hosting -------------------------------------------------------------------------------------


async def test_nobody_hosts_the_class() -> None:
    async with Node(cluster=new_cluster(), discovery=[], hosts=[]) as node:
        guest = node.ref(Guest, "g")
        for call in (guest.hello(), tell(guest.hello), node.locate(guest)):
            error = await raised(call)
            assert isinstance(error, Unreachable)
            assert error.certainty is NOT_SENT
            assert "Guest" in str(error)


async def test_hosts_narrows_to_modules() -> None:
    async with Node(cluster=new_cluster(), discovery=[], hosts=[sys.modules[__name__]]) as node:
        assert await node.ref(Guest, "g").hello() == "hello"
    async with Node(cluster=new_cluster(), discovery=[], hosts=["some.other"]) as node:
        assert isinstance(await raised(node.ref(Guest, "g").hello()), Unreachable)


async def test_classes_that_are_made_later_are_hosted_too(there: Place) -> None:
    namespace: dict[str, Any] = {"__name__": __name__, "Actor": Actor}
    exec("class Late(Actor):\n    async def hello(self): return 'late'", namespace)
    vars(sys.modules[__name__])["Late"] = namespace["Late"]
    try:
        late = there.node.ref(namespace["Late"], "l")
        await eventually(lambda: is_hosted(there, late))
        assert await late.hello() == "late"
    finally:
        del vars(sys.modules[__name__])["Late"]


def is_hosted(place: Place, ref: Any) -> bool:
    host = place.node._host  # pyright: ignore[reportPrivateUsage]
    return place.owner.id in host.kinds.hosts(host.kinds.named(ref._type_name))


async def test_a_class_of_a_function_travels_by_value(there: Place) -> None:
    class Local(Actor):
        async def double(self, n: int) -> int:
            return n * 2

    assert await there.node.ref(Local, "l").double(4) == 8
    assert (await there.node.locate(there.node.ref(Local, "l"))).id == there.owner.id


async def test_without_pickle_a_class_of_a_function_stays_here() -> None:
    class Local(Actor):
        async def double(self, n: int) -> int:
            return n * 2

    async with a_place(REMOTE, pickle=False) as place:
        assert (await place.node.locate(place.node.ref(Local, "l"))).id == place.node.id


# ---- beginning and end -----------------------------------------------------------------------------


async def test_a_node_starts_once() -> None:
    node = Node(cluster=new_cluster(), discovery=[])
    assert not node.ready
    with pytest.raises(NodeStopped):
        _ = node.view
    async with node:
        assert node.ready
        assert isinstance(await raised(node.start()), NodeStopped)
    assert not node.ready
    assert isinstance(await raised(node.start()), NodeStopped)
    await node.leave()


async def test_nothing_is_left_running() -> None:
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    async with a_place(REMOTE) as place:
        for number in range(20):
            await place.node.ref(Guest, number).hello()
        await place.node.ref(Guest, 0).start_task()
        await tell(place.node.ref(Guest, 1).wait, "never")
        await gates.entered("never")
    await eventually(lambda: set(threading.enumerate()) <= threads)
    await eventually(lambda: asyncio.all_tasks() <= tasks)
    gc.collect()


async def test_lifespan() -> None:
    node = Node(cluster=new_cluster(), discovery=[])
    async with node.lifespan(object()):
        assert node.ready
        assert await node.ref(Guest, "g").hello() == "hello"
    assert not node.ready


async def test_leaving_lets_running_calls_end() -> None:
    async with a_place(REMOTE, drain_timeout=10.0) as place:
        guest = place.node.ref(Guest, "g")
        running = submit(guest.wait, "gate")
        await gates.entered("gate")
        leaving = asyncio.create_task(place.owner.leave())
        await eventually(lambda: len(place.node.members) == 1 or not place.owner.ready)
        gates.let_go("gate")
        assert await running == "gate"
        await leaving
        assert gates.seen in (["stop: leaving"], ["stop: moved"])


async def test_what_still_runs_after_the_drain_is_cancelled() -> None:
    async with a_place(REMOTE, drain_timeout=0.2) as place:
        running = submit(place.node.ref(Guest, "g").wait, "never")
        mine = submit(place.owner.ref(Guest, "h").wait, "mine")
        await gates.entered("never")
        await gates.entered("mine")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await place.owner.leave()
        assert loop.time() - begun < 1.0
        for task in (running, mine):
            error = await raised(task)
            assert isinstance(error, Unreachable), repr(error)
            assert error.certainty is MAYBE_EXECUTED
        assert len(gates.seen) == 2
        assert set(gates.seen) <= {"stop: leaving", "stop: moved"}


async def test_leaving_hands_over_and_queued_calls_go_to_the_new_owner() -> None:
    cluster, config = new_cluster(), NodeConfig(drain_timeout=5.0)
    async with Node(cluster=cluster, discovery=[], config=config) as stays:
        seeds = [Seeds([stays.address])]
        caller = Node(cluster=cluster, discovery=seeds, hosts=[], config=config)
        leaves = Node(cluster=cluster, discovery=seeds, config=config)
        async with caller, leaves:
            await caller.wait_for_members(3, 5)
            key = next(
                iter([key for key in range(100) if (await caller.locate(caller.ref(Guest, key))).id == leaves.id])
            )
            guest = caller.ref(Guest, key)
            running = submit(guest.wait, "gate")
            await gates.entered("gate")
            queued = [submit(guest.hello) for _ in range(5)]
            await caller.ref(Guest, key + 1000).hello()
            leaving = asyncio.create_task(leaves.leave())
            hosts = caller._host.kinds  # pyright: ignore[reportPrivateUsage]
            kind = hosts.named(f"{__name__}:Guest")
            await eventually(lambda: hosts.hosts(kind) == (stays.id,))
            new = submit(using(guest, timeout=5).hello)
            await caller.ref(Guest, "an actor of another partition").hello()
            assert not new.done(), "the actor is not begun at its new owner before its turn at the old one has ended"
            gates.let_go("gate")
            assert await running == "gate"
            assert await new == "hello"
            assert await asyncio.gather(*queued) == ["hello"] * 5
            await leaving
            assert (await caller.locate(guest)).id == stays.id


# ---- the cluster -----------------------------------------------------------------------------------


async def test_members_view_and_locate(there: Place) -> None:
    node, owner = there.node, there.owner
    await owner.wait_for_members(2, 5)
    assert {member.id for member in node.members} == {node.id, owner.id}
    assert all(isinstance(member, Member) for member in node.members)
    await eventually(lambda: node.view.number == owner.view.number)
    assert node.view.lineage == owner.view.lineage
    assert node.view.members == owner.view.members
    located = await node.locate(node.ref(Guest, "g"))
    assert (located.id, located.address) == (owner.id, owner.address)


async def test_wait_for_members_says_what_it_sees(here: Place) -> None:
    await here.node.wait_for_members(1, 0.1)
    with pytest.raises(TimeoutError, match=rf"1 of 3 members after 0.05 s.*{here.node.id}"):
        await here.node.wait_for_members(3, 0.05)


async def test_events_from_the_call_on(here: Place) -> None:
    events = here.node.events()
    kinds: list[Any] = []
    seeds = [Seeds([here.node.address])]
    cluster = here.node._options.cluster  # pyright: ignore[reportPrivateUsage]
    async with Node(cluster=cluster, discovery=seeds, hosts=[], labels={"zone": "b"}) as other:
        await here.node.wait_for_members(2, 5)
    await eventually(lambda: len(here.node.members) == 1)
    await here.node.leave()
    async with asyncio.timeout(5):
        async for event in events:
            kinds.append(event)
    joined = [event for event in kinds if isinstance(event, MemberJoined)]
    left = [event for event in kinds if isinstance(event, MemberLeft)]
    views = [event.view.number for event in kinds if isinstance(event, ViewChanged)]
    assert [event.member.id for event in joined] == [other.id]
    assert joined[0].member.labels == {"zone": "b"}
    assert [event.member.id for event in left] == [other.id]
    assert views == sorted(set(views))
    assert len(views) >= 2


async def test_clusters_of_other_names_are_not_seen() -> None:
    one, other = new_cluster(), new_cluster()
    async with Node(cluster=one) as a, Node(cluster=other) as b, Node(cluster=one) as c:
        await a.wait_for_members(2, 10)
        assert {member.id for member in a.members} == {a.id, c.id}
        assert [member.id for member in b.members] == [b.id]


async def test_stats_are_numbers(place: Place) -> None:
    await place.node.ref(Guest, "g").hello()
    stats = place.owner.stats()
    assert all(isinstance(value, (int, float)) for value in stats.values())
    assert stats["actors"] == 1
    assert stats["activations"] == 1
