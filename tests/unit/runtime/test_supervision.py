"""Supervision at work: strategies, escalation and supervisors on real nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from ringcast import (
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Actor,
    ActorStopped,
    Backoff,
    CallError,
    ChildSpec,
    ConfigError,
    Fatal,
    Labels,
    Local,
    Node,
    NodeConfig,
    OneForAll,
    OneForOne,
    Restart,
    RestForOne,
    Seeds,
    Supervisor,
    Unreachable,
    handler,
    props,
    submit,
    tell,
    using,
    watching,
)
from ringcast.actors.supervision import Strategy
from ringcast.runtime.control import _shown  # pyright: ignore[reportPrivateUsage]
from tests.unit.runtime.places import LOCAL, REMOTE, Place, a_place, eventually, gates, new_cluster, raised

FAST = Backoff(first=0.01, limit=0.02, jitter=0)
broken: set[str] = set()
"""Names of actors that cannot start."""
plan: list[ChildSpec] = []
"""What `App` declares."""


@pytest.fixture(autouse=True)
def _nothing_is_broken() -> None:  # pyright: ignore[reportUnusedFunction]
    broken.clear()
    plan.clear()


class Part(Actor):
    def __init__(self, name: str = "part") -> None:
        self.name = name
        self.value = 0

    async def on_start(self) -> None:
        gates.seen.append(f"start {self.name}")
        if self.name in broken:
            raise ConnectionError("the database is away")

    async def on_stop(self, reason: str) -> None:
        gates.seen.append(f"stop {self.name}: {reason}")

    async def set(self, value: int) -> None:
        self.value = value

    async def get(self) -> int:
        return self.value

    async def fail(self) -> None:
        gates.seen.append(f"fail {self.name}")
        raise LookupError("told to")

    async def die(self) -> None:
        raise Fatal("over")

    async def end(self) -> None:
        await self.context.stop(self.context.me)

    async def wait(self, gate: str) -> None:
        await gates.passing(gate)

    @handler(read_only=True)
    async def watch_gate(self, gate: str) -> AsyncIterator[int]:
        yield 1
        await gates.passing(gate)

    async def stop(self, ref: Any) -> None:
        await self.context.stop(ref)


class Boss(Part, supervision=OneForAll(max_restarts=2, within=60.0, backoff=FAST)):
    """An actor that is no supervisor by trade, and has children all the same."""

    async def hire(self, name: str, restart: Restart = PERMANENT) -> Any:
        return await self.context.spawn(props(Part, name), name=name, restart=restart)

    async def children_of(self) -> list[str]:
        return list(self.context.children)


class App(Supervisor, supervision=OneForOne(max_restarts=2, within=60.0, backoff=FAST)):
    async def on_start(self) -> None:
        gates.seen.append("start app")

    async def on_stop(self, reason: str) -> None:
        gates.seen.append(f"stop app: {reason}")

    async def fail(self) -> None:
        raise LookupError("told to")

    async def names(self) -> list[str]:
        return list(self.context.children)

    def children(self) -> Sequence[ChildSpec]:
        return plan


class All(App, supervision=OneForAll(max_restarts=2, within=60.0, backoff=FAST)):
    pass


class Rest(App, supervision=RestForOne(max_restarts=2, within=60.0, backoff=FAST)):
    pass


class Inner(Supervisor, supervision=OneForAll(max_restarts=1, within=60.0, backoff=FAST)):
    def children(self) -> Sequence[ChildSpec]:
        return [ChildSpec(props(Part, name), name=name) for name in ("x", "y")]


@pytest_asyncio.fixture(params=[LOCAL, REMOTE])
async def quick(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A place where the cluster's root starts again quickly."""
    async with a_place(request.param, root=OneForOne(backoff=FAST)) as found:
        yield found


def parts(*names: str, restart: Restart = PERMANENT) -> None:
    plan.extend(ChildSpec(props(Part, name), name=name, restart=restart) for name in names)


async def seen(*expected: str) -> None:
    """Wait until the actors have done all that was expected, and see that they did nothing else."""
    try:
        await eventually(lambda: len(gates.seen) >= len(expected))
    finally:
        assert gates.seen == list(expected)


async def started(place: Place, cls: type[App], *names: str) -> tuple[App, list[Part]]:
    """Start a supervisor with its children; return the refs, with what happened until then forgotten."""
    parts(*names)
    app = await place.node.supervise(cls, name="app")
    await seen("start app", *(f"start {name}" for name in names))
    children: list[Part] = [await app.child(name) for name in names]
    gates.seen.clear()
    return app, children


# ---- strategies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (App, ["fail b", "stop b: failed", "start b"]),
        (
            All,
            ["fail b", "stop b: failed", "stop c: restarting", "stop a: restarting", "start a", "start b", "start c"],
        ),
        (Rest, ["fail b", "stop b: failed", "stop c: restarting", "start b", "start c"]),
    ],
)
async def test_who_is_started_again(quick: Place, cls: type[App], expected: list[str]) -> None:
    _, (a, b, c) = await started(quick, cls, "a", "b", "c")
    for part in (a, b, c):
        await part.set(7)
    await tell(b.fail)
    await seen(*expected)
    fresh = [name for name in "abc" if f"start {name}" in expected]
    assert [await part.get() for part in (a, b, c)] == [0 if name in fresh else 7 for name in "abc"]


async def test_the_mailboxes_of_all_that_restart_are_kept(quick: Place) -> None:
    _, (a, b) = await started(quick, All, "a", "b")
    await tell(a.wait, "a")
    await gates.entered("a")
    later = [submit(a.get), submit(a.set, 3), submit(a.get)]
    await tell(b.fail)
    await tell(b.set, 4)
    await eventually(lambda: "stop b: failed" in gates.seen)
    assert not later[0].done()
    gates.let_go("a")
    assert [await task for task in later] == [0, None, 3]
    assert await b.get() == 4
    await seen("fail b", "stop b: failed", "stop a: restarting", "start a", "start b")


async def test_restarts_with_a_sibling_are_no_ends_for_watchers(quick: Place) -> None:
    _, (a, b) = await started(quick, All, "a", "b")
    async with watching(a) as one, watching(b) as other:
        await tell(b.fail)
        await seen("fail b", "stop b: failed", "stop a: restarting", "start a", "start b")
        await quick.node.stop(a)
        async with asyncio.timeout(5):
            assert await one == "stopped"
        assert not other.done()


async def test_temporary_and_transient_siblings(quick: Place) -> None:
    parts("a")
    parts("b", restart=TEMPORARY)
    parts("c", restart=TRANSIENT)
    app = await quick.node.supervise(All, name="app")
    await seen("start app", "start a", "start b", "start c")
    a, b, c = [await app.child(name) for name in "abc"]
    gates.seen.clear()
    async with watching(b) as ended:
        await tell(a.fail)
        await seen("fail a", "stop a: failed", "stop c: restarting", "stop b: stopped", "start a", "start c")
        async with asyncio.timeout(5):
            assert await ended == "stopped"
    assert isinstance(await raised(b.get()), ActorStopped)
    gates.seen.clear()
    await c.end()
    await seen("stop c: ended")
    assert isinstance(await raised(c.get()), ActorStopped)
    assert await app.names() == ["a"]


async def test_a_permanent_child_that_ends_itself_takes_its_siblings_along(quick: Place) -> None:
    _, (a, _) = await started(quick, All, "a", "b")
    await a.end()
    await seen("stop a: ended", "stop b: restarting", "start a", "start b")


async def test_a_sibling_that_does_not_stop_is_cancelled() -> None:
    async with a_place(LOCAL, drain_timeout=0.1) as here:
        _, (a, b) = await started(here, All, "a", "b")
        stuck = submit(a.wait, "never")
        await gates.entered("never")
        await tell(b.fail)
        error = await raised(stuck)
        assert isinstance(error, Unreachable)
        await seen("fail b", "stop b: failed", "stop a: restarting", "start a", "start b")


async def test_an_open_stream_does_not_hold_a_restart_up(quick: Place) -> None:
    _, (a, b) = await started(quick, All, "a", "b")
    stream = a.watch_gate("never")
    assert await anext(stream) == 1
    await tell(b.fail)
    await seen("fail b", "stop b: failed", "stop a: restarting", "start a", "start b")
    with pytest.raises(Unreachable):
        await anext(stream)


async def test_what_any_actor_spawns_it_supervises_by_its_own_strategy(quick: Place) -> None:
    boss = await quick.node.spawn(props(Boss, "boss"))
    a, b = await boss.hire("a"), await boss.hire("b")
    await b.get()
    assert await boss.children_of() == ["a", "b"]
    gates.seen.clear()
    await tell(a.fail)
    await seen("fail a", "stop a: failed", "stop b: restarting", "start a", "start b")


# ---- starting ------------------------------------------------------------------------------------


async def test_a_supervisor_is_started_once_for_the_cluster(quick: Place) -> None:
    parts("a")
    refs = await asyncio.gather(
        *(node.supervise(App, name="app") for node in (quick.node, quick.owner) for _ in range(3))
    )
    assert len(set(refs)) == 1
    await seen("start app", "start a")
    assert await (await refs[0].child("a")).get() == 0


async def test_one_that_cannot_start_is_retried_and_its_followers_wait(quick: Place) -> None:
    broken.add("b")
    parts("a", "b", "c")
    app = await quick.node.supervise(Rest, name="app")
    await eventually(lambda: gates.seen.count("start b") == 2)
    assert "start c" not in gates.seen
    broken.clear()
    await eventually(lambda: "start c" in gates.seen)
    assert [await (await app.child(name)).get() for name in "abc"] == [0, 0, 0]
    assert gates.seen.count("start a") == 1


async def test_a_tree_starts_in_order_and_stops_in_reverse(quick: Place) -> None:
    parts("a")
    plan.append(ChildSpec(props(Inner), name="inner"))
    parts("b")
    app = await quick.node.supervise(App, name="app")
    await seen("start app", "start a", "start x", "start y", "start b")
    gates.seen.clear()
    await quick.node.stop(app)
    await seen("stop b: stopped", "stop y: stopped", "stop x: stopped", "stop a: stopped", "stop app: stopped")


async def test_a_leaving_node_stops_its_trees_in_reverse() -> None:
    async with a_place(LOCAL) as here:
        await started(here, App, "a", "b")
        await here.node.leave()
        assert gates.seen == ["stop b: leaving", "stop a: leaving", "stop app: leaving"]


# ---- too many restarts ---------------------------------------------------------------------------


async def test_past_the_intensity_the_supervisor_fails_and_its_tree_starts_again(quick: Place) -> None:
    app, (a, b) = await started(quick, App, "a", "b")
    await b.set(5)
    async with watching(a) as ended, watching(b) as other, watching(app) as top:
        for _ in range(3):
            await tell(a.fail)
        again = ["fail a", "stop a: failed", "start a"] * 2 + ["fail a", "stop a: failed"]
        await seen(*again, "stop b: restarting", "stop app: failed", "start app", "start a", "start b")
        assert [await a.get(), await b.get()] == [0, 0]
        assert not ended.done()
        assert not other.done()
        assert not top.done()


async def test_escalation_goes_up_level_by_level_to_the_root(quick: Place) -> None:
    """Inner allows one restart, App two; the root starts App again."""
    plan.append(ChildSpec(props(Inner), name="inner"))
    app = await quick.node.supervise(App, name="app")
    await seen("start app", "start x", "start y")
    inner = await app.child("inner")
    x = await inner.child("x")
    for _ in range(6):
        await tell(x.fail)
    await eventually(lambda: gates.seen.count("start app") == 2 and gates.seen[-1] == "start y")
    assert gates.seen.count("stop app: failed") == 1
    assert gates.seen.count("fail x") == 6
    assert await x.get() == 0
    assert gates.seen.count("start x") == 1 + 3 * 1 + 3


async def test_the_root_retries_for_ever_and_shows_it() -> None:
    async with a_place(LOCAL, root=OneForOne(max_restarts=2, within=0.3, backoff=FAST)) as here:
        broken.add("p")
        part = await here.node.spawn(props(Part, "p"), name="p")
        await eventually(lambda: gates.seen.count("start p") > 6)
        (cell,) = here.node._host.cells()  # pyright: ignore[reportPrivateUsage]
        shown = _shown(cell)
        assert shown["state"] == "failing"
        assert shown["supervisor"] == "root"
        assert shown["restarts"] > 3
        broken.clear()
        await eventually(lambda: cell.actor is not None)
        assert await part.get() == 0
        assert _shown(cell)["state"] == "failing"
        await eventually(lambda: _shown(cell)["state"] == "active")


async def test_an_ordinary_parent_that_fails_for_its_children_ends_them(quick: Place) -> None:
    boss = await quick.node.spawn(props(Boss, "boss"))
    a = await boss.hire("a")
    for _ in range(3):
        await tell(a.fail)
    await eventually(lambda: gates.seen.count("start boss") == 2)
    assert isinstance(await raised(a.get()), ActorStopped)
    assert await boss.children_of() == []
    again = await boss.hire("a")
    assert again == a
    assert await a.get() == 0


async def test_a_keyed_parent_that_fails_for_its_children_is_dropped(quick: Place) -> None:
    keyed = quick.node.ref(Boss, "k")
    a = await keyed.hire("a")
    await keyed.set(9)
    for _ in range(3):
        await tell(a.fail)
    await eventually(lambda: "stop part: failed" in gates.seen)
    assert isinstance(await raised(a.get()), ActorStopped)
    assert await keyed.get() == 0


async def test_a_turn_of_the_supervisor_ends_before_it_fails(quick: Place) -> None:
    boss = await quick.node.spawn(props(Boss, "boss"))
    a = await boss.hire("a")
    running = submit(boss.wait, "boss")
    await gates.entered("boss")
    waiting = submit(boss.get)
    for _ in range(3):
        await tell(a.fail)
    await eventually(lambda: gates.seen.count("fail a") == 3)
    gates.let_go("boss")
    await running
    assert await waiting == 0, "it was kept, and is handled after the restart"
    assert gates.seen.count("start boss") == 2


# ---- children come and go ------------------------------------------------------------------------


async def test_children_are_added_and_removed_at_run_time(quick: Place) -> None:
    app, (a, b) = await started(quick, All, "a", "b")
    c = await app.add_child(ChildSpec(props(Part, "c"), name="c"))
    assert await app.add_child(ChildSpec(props(Part, "c"), name="c")) == c
    await c.set(1)
    assert await app.names() == ["a", "b", "c"]
    async with watching(b) as ended:
        assert await app.remove_child("b")
        async with asyncio.timeout(5):
            assert await ended == "stopped"
    assert not await app.remove_child("b")
    assert isinstance(await raised(app.child("b")), LookupError)
    gates.seen.clear()
    await tell(a.fail)
    await seen("fail a", "stop a: failed", "stop c: restarting", "start a", "start c")


async def test_a_restarted_supervisor_has_those_that_were_added_and_not_those_that_were_removed(quick: Place) -> None:
    app, (a, _) = await started(quick, App, "a", "b")
    c = await app.add_child(ChildSpec(props(Part, "c"), name="c"))
    await c.get()
    await app.remove_child("b")
    gates.seen.clear()
    await tell(app.fail)
    await seen("stop c: restarting", "stop a: restarting", "stop app: failed", "start app", "start a", "start c")
    assert await app.child("a") == a
    assert await app.names() == ["a", "c"]
    b = await app.add_child(ChildSpec(props(Part, "b"), name="b"))
    assert await b.get() == 0
    await tell(app.fail)
    await eventually(lambda: gates.seen.count("start app") == 2 and gates.seen[-1] == "start c")
    assert await app.names() == ["a", "b", "c"], "b is declared, and back in its place"


async def test_a_restarted_supervisor_takes_what_it_declares_now(quick: Place) -> None:
    app, (a, b) = await started(quick, App, "a", "b")
    plan[:] = [ChildSpec(props(Part, "z"), name="z"), ChildSpec(props(Part, "new a"), name="a")]
    async with watching(b) as ended:
        await tell(app.fail)
        async with asyncio.timeout(5):
            assert await ended == "failed"
    await eventually(lambda: gates.seen[-1] == "start new a")
    assert await app.child("a") == a
    assert isinstance(await raised(b.get()), ActorStopped)
    assert await app.names() == ["z", "a"]


async def test_a_supervisor_that_is_stopped_ends_what_it_has_kept(quick: Place) -> None:
    app, (a,) = await started(quick, App, "a")
    plan[:] = []
    broken.add("app")
    await quick.node.stop(app)
    assert isinstance(await raised(a.get()), ActorStopped)
    assert isinstance(await raised(app.names()), ActorStopped)


async def test_a_supervisor_of_its_own_that_is_temporary_ends_with_its_children(quick: Place) -> None:
    parts("a")
    app = await quick.node.spawn(props(App), name="app", restart=TEMPORARY)
    a = await app.child("a")
    await a.get()
    gates.seen.clear()
    async with watching(a) as child, watching(app) as ended:
        await tell(app.fail)
        async with asyncio.timeout(5):
            assert await ended == "failed"
            assert await child == "stopped"
    assert gates.seen == ["stop a: restarting", "stop app: failed"]
    assert isinstance(await raised(a.get()), ActorStopped)


async def test_a_child_may_stop_its_parent(quick: Place) -> None:
    app, (a, _) = await started(quick, App, "a", "b")
    await a.stop(app)
    await seen("stop b: stopped", "stop a: stopped", "stop app: stopped")


async def test_a_stop_wins_over_a_restart_that_waits() -> None:
    slow = OneForOne(backoff=Backoff(first=60.0, limit=60.0))
    async with a_place(LOCAL, root=slow) as here:
        part = await here.node.spawn(props(Part, "p"))
        await tell(part.fail)
        await seen("start p", "fail p", "stop p: failed")
        waiting = submit(part.get)
        await here.node.stop(part)
        assert isinstance(await raised(waiting), ActorStopped)


async def test_a_stop_wins_over_a_restart_with_a_sibling(quick: Place) -> None:
    app, (a, b) = await started(quick, All, "a", "b")
    running = submit(a.wait, "a")
    await gates.entered("a")
    await tell(b.fail)
    await eventually(lambda: "stop b: failed" in gates.seen)
    cells = [cell for cell in quick.owner._host.cells() if cell.me == a]  # pyright: ignore[reportPrivateUsage]
    assert [cell.retiring for cell in cells] == ["restarting"]
    stopping = asyncio.create_task(quick.node.stop(a))
    await eventually(lambda: [cell.retiring for cell in cells] == ["stopped"])
    gates.let_go("a")
    await running
    await stopping
    await seen("fail b", "stop b: failed", "stop a: stopped", "start b")
    assert await app.names() == ["b"]


async def test_a_name_is_free_again_once_its_bearer_has_gone(quick: Place) -> None:
    part = await quick.node.spawn(props(Part, "p"), name="p")
    running = submit(part.wait, "p")
    await gates.entered("p")
    stopping = asyncio.create_task(quick.node.stop(part))
    await quick.node.ref(Part, "other").get()
    again = asyncio.create_task(quick.node.spawn(props(Part, "q"), name="p"))
    await quick.node.ref(Part, "other").get()
    gates.let_go("p")
    await asyncio.gather(running, stopping)
    assert await (await again).get() == 0
    assert gates.seen[-1] == "start q"


# ---- families whose members live on several nodes --------------------------------------------------


@pytest_asyncio.fixture
async def two() -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes, labelled a and b."""
    cluster = new_cluster()
    config = NodeConfig(drain_timeout=0.5, root=OneForOne(backoff=FAST))
    async with (
        Node(cluster=cluster, discovery=[], config=config, labels={"at": "a"}) as a,
        Node(cluster=cluster, discovery=[Seeds([a.address])], config=config, labels={"at": "b"}) as b,
    ):
        await a.wait_for_members(2, 5)
        yield a, b


async def test_siblings_on_two_nodes_restart_in_order(two: tuple[Node, Node]) -> None:
    for name, at in zip("wxyz", "abab", strict=True):
        plan.append(ChildSpec(props(Part, name), name=name, on=Labels(at=at)))
    app = await two[0].supervise(All, name="app")
    await seen("start app", *(f"start {name}" for name in "wxyz"))
    w, x, y, z = [await app.child(name) for name in "wxyz"]
    assert (await two[0].locate(w)).id != (await two[0].locate(x)).id
    gates.seen.clear()
    await tell(y.fail)
    stops = [f"stop {name}: restarting" for name in "zxw"]
    starts = [f"start {name}" for name in "wxyz"]
    await seen("fail y", "stop y: failed", *stops, *starts)
    gates.seen.clear()
    await tell(y.fail)
    await eventually(lambda: gates.seen[-1:] == ["start z"])
    gates.seen.clear()
    await tell(y.fail)
    await seen("fail y", "stop y: failed", *stops, "stop app: failed", "start app", *starts)
    assert [await part.get() for part in (w, x, y, z)] == [0, 0, 0, 0]
    gates.seen.clear()
    await two[1].stop(app)
    await seen(*(f"stop {name}: stopped" for name in "zyxw"), "stop app: stopped")


async def test_nobody_waits_for_a_child_whose_node_has_left_and_that_fits_on_no_other(two: tuple[Node, Node]) -> None:
    for name, at in zip("xyz", "aba", strict=True):
        plan.append(ChildSpec(props(Part, name), name=name, on=Labels(at=at)))
    app = await two[0].spawn(props(All), name="app", on=Labels(at="a"))
    await seen("start app", *(f"start {name}" for name in "xyz"))
    x = await app.child("x")
    gates.seen.clear()
    await two[1].leave()
    await eventually(lambda: "stop y: leaving" in gates.seen)
    await two[0].ref(Part, "k").get()
    gates.seen.clear()
    await tell(x.fail)
    await seen("fail x", "stop x: failed", "stop z: restarting", "start x", "start z")
    assert await app.names() == ["x", "y", "z"]


# ---- lost parents --------------------------------------------------------------------------------


async def test_a_child_is_left_running_when_the_node_of_its_parent_is_lost() -> None:
    """The root stands in for the parent; a keyed parent that is activated anew adopts those with names."""
    cluster = new_cluster()
    config = NodeConfig(drain_timeout=0.5, root=OneForOne(backoff=FAST))
    async with Node(cluster=cluster, discovery=[], config=config, labels={"at": "b"}) as b:
        a = Node(cluster=cluster, discovery=[Seeds([b.address])], config=config)
        await a.start()
        await b.wait_for_members(2, 5)
        await a.wait_for_members(2, 5)
        key = 0
        while (await b.locate(b.ref(Placer, key))).id != a.id:
            key += 1
        parent = b.ref(Placer, key)
        child = await parent.hire("c")
        assert (await b.locate(child)).id == b.id
        await child.set(3)
        await crash(a)
        await eventually(lambda: len(b.members) == 1, 8)
        assert await child.get() == 3, "actors on survivors keep running"
        gates.seen.clear()
        await tell(child.fail)
        await seen("fail c", "stop c: failed", "start c")
        (cell,) = [cell for cell in b._host.cells() if cell.life is not None]  # pyright: ignore[reportPrivateUsage]
        assert _shown(cell)["supervisor"] == "root"
        assert await parent.hire("c") == child
        assert str(_shown(cell)["supervisor"]).endswith(f"Placer[{key}]")
        gates.seen.clear()
        await tell(child.fail)
        await seen("fail c", "stop c: failed", "start c")
        await b.stop(parent)
        assert isinstance(await raised(child.get()), ActorStopped)


class Placer(Actor, supervision=OneForOne(backoff=FAST)):
    async def hire(self, name: str) -> Any:
        return await self.context.spawn(props(Part, name), name=name, on=Labels(at="b"))


async def crash(node: Node) -> None:
    """End a node as a kill would, as far as one process can: its actors do not get to say goodbye."""
    await node._membership.stop()  # pyright: ignore[reportPrivateUsage]
    await node._peers.stop()  # pyright: ignore[reportPrivateUsage]
    await node._host.stop_background()  # pyright: ignore[reportPrivateUsage]
    node._watchdog.stop()  # pyright: ignore[reportPrivateUsage]
    node._forget_definitions()  # pyright: ignore[reportPrivateUsage]
    node._state = "stopped"  # pyright: ignore[reportPrivateUsage]


# ---- what people are told --------------------------------------------------------------------------


async def test_each_restart_is_logged() -> None:
    with capture_logs() as logs:
        async with a_place(LOCAL, root=OneForOne(backoff=FAST)) as here:
            _, (a, _) = await started(here, All, "a", "b")
            for _ in range(3):
                await tell(a.fail)
            await eventually(lambda: "start app" in gates.seen and gates.seen[-1] == "start b")
            node = here.node.id
    records = [record for record in logs if record["event"] == "actor starts again"]
    assert {record["node"] for record in records} == {node}
    first, second, *_, last = records
    assert first["actor"].endswith("Part(/app/a)")
    assert first["supervisor"].endswith("All(/app)")
    assert first["why"] == "LookupError: told to"
    assert first["restarts_in_window"] == 1
    assert second["actor"].endswith("Part(/app/b)")
    assert second["why"].startswith("together with <ref")
    assert last["actor"].endswith("All(/app)")
    assert last["supervisor"] == "root"
    assert "3 restarts within 60 s, and 2 are allowed" in last["why"]
    (fell,) = [record for record in logs if record["event"].startswith("too many restarts")]
    assert fell["log_level"] == "error"


def test_child_specs_are_checked_where_they_are_written() -> None:
    make: Any = ChildSpec
    for args, named, what in (
        ((Part,), {}, "props"),
        ((props(Part),), {"name": 3}, "name"),
        ((props(Part),), {"name": "x" * 201}, "name"),
        ((props(Part),), {"restart": "permanent"}, "PERMANENT"),
        ((props(Part),), {"on": "here"}, "placement"),
    ):
        with pytest.raises(TypeError, match=what):
            make(*args, **named)
    assert ChildSpec(props(Part)).name == "Part"


async def test_supervise_checks_what_it_is_given(here: Place) -> None:
    class Needy(Supervisor):
        def __init__(self, needed: int) -> None:
            self.needed = needed

        def children(self) -> Sequence[ChildSpec]:
            return ()

    node: Any = here.node
    for cls, what in ((Part, "Supervisor"), (3, "Supervisor"), (Needy, "needed"), (Supervisor, "children")):
        with pytest.raises(TypeError, match=what):
            await node.supervise(cls, name="x")
    with pytest.raises(TypeError, match="children"):
        props(Supervisor)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ([ChildSpec(props(Part)), ChildSpec(props(Part))], "two children named 'Part'"),
        ([props(Part)], "returns ChildSpec"),
    ],
)
async def test_wrong_children_fail_the_supervisor_with_words(quick: Place, wrong: Any, what: str) -> None:
    with capture_logs() as logs:
        plan[:] = wrong
        app = await quick.node.supervise(App, name="app")
        error = await raised(app.names())
        assert isinstance(error, ActorStopped)
        assert what in str(error)
        plan[:] = []
        await eventually(lambda: gates.seen.count("start app") > 1)
        assert await app.names() == []
    assert [record for record in logs if record["event"] == "actor could not be started"]


@pytest.mark.parametrize("strategy", [OneForAll(), RestForOne()])
def test_the_root_restarts_each_child_by_itself(strategy: Strategy) -> None:
    with pytest.raises(ConfigError, match="root"):
        NodeConfig(root=strategy)


async def test_local_children_take_what_cannot_travel(here: Place) -> None:
    gate = asyncio.Event()
    plan.append(ChildSpec(props(Keeper, gate), on=Local()))
    app = await here.node.supervise(App, name="app")
    keeper = await app.child("Keeper")
    assert not await keeper.is_open()
    gate.set()
    assert await keeper.is_open()


class Keeper(Actor):
    def __init__(self, gate: asyncio.Event) -> None:
        self._gate = gate

    async def is_open(self) -> bool:
        return self._gate.is_set()


@pytest.mark.parametrize("where", [LOCAL, REMOTE])
async def test_child_specs_travel_without_pickle(where: str) -> None:
    async with a_place(where, pickle=False) as place:
        app = await place.node.supervise(App, name="app")
        part = await app.add_child(ChildSpec(props(Part, "p"), restart=TRANSIENT))
        await part.set(2)
        assert await part.get() == 2
        nowhere = ChildSpec(props(Part, "p"), name="q", on=Labels(at="nowhere"))
        waits = await app.add_child(nowhere)
        assert await app.names() == ["Part", "q"]
        assert isinstance(await raised(using(waits, timeout=0.2).get()), CallError), "nobody offers the labels"
        assert await app.remove_child("q")
        async with asyncio.timeout(5):
            while await app.names() != ["Part"]:
                pass
