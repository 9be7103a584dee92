"""Spawned actors: how they begin, are found again, are started again, and end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from ringcast import (
    NOT_SENT,
    PERMANENT,
    TEMPORARY,
    TRANSIENT,
    Actor,
    ActorStopped,
    Backoff,
    CodecError,
    Fatal,
    Labels,
    LeastLoaded,
    Local,
    Near,
    Node,
    NodeConfig,
    OneForOne,
    Restart,
    Seeds,
    Unreachable,
    props,
    submit,
    tell,
    using,
    watching,
)
from tests.unit.runtime.places import LOCAL, REMOTE, Place, a_place, eventually, gates, new_cluster, raised

QUICK = OneForOne(backoff=Backoff(first=0.01, limit=0.02, jitter=0))


class Worker(Actor, supervision=QUICK):
    def __init__(self, name: str = "unnamed", *, size: int = 1) -> None:
        self.name = name
        self.size = size
        self.value = 0

    async def on_start(self) -> None:
        gates.seen.append(f"start {self.name}")

    async def on_stop(self, reason: str) -> None:
        gates.seen.append(f"stop {self.name}: {reason}")

    async def on_terminated(self, ref: Any, reason: str) -> None:
        gates.seen.append(("terminated", ref, reason))

    async def describe(self) -> tuple[str, int]:
        return self.name, self.size

    async def set(self, value: int) -> None:
        self.value = value

    async def get(self) -> int:
        return self.value

    async def epoch(self) -> int:
        return self.context.epoch

    async def key(self) -> Any:
        return self.context.key

    async def parent(self) -> Any:
        return self.context.parent

    async def me(self) -> Any:
        return self.context.me

    async def fail(self) -> None:
        raise LookupError("told to")

    async def die(self) -> None:
        raise Fatal("over")

    async def end(self) -> None:
        await self.context.stop(self.context.me)

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate

    async def child(self, name: str, named: bool = True) -> Any:
        return await self.context.spawn(props(Worker, name), name=name if named else None)

    async def stop_child(self, child: Any) -> None:
        await self.context.stop(child)

    async def watch(self, ref: Any) -> None:
        await self.context.watch(ref)


class Locked(Actor):
    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    async def free(self) -> bool:
        return not self._lock.locked()


class Gpu(Actor, placement=Labels(gpu="1")):
    async def here(self) -> str:
        return "here"


@pytest_asyncio.fixture(params=[LOCAL, REMOTE])
async def quick(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    """A place where the cluster's root starts again quickly."""
    async with a_place(request.param, root=QUICK) as found:
        yield found


# ---- beginning -----------------------------------------------------------------------------------


async def test_spawn_returns_a_typed_ref_of_a_living_actor(place: Place) -> None:
    worker = await place.node.spawn(props(Worker, "w", size=3))
    assert await worker.describe() == ("w", 3)
    assert await worker.me() == worker
    assert await worker.parent() is None
    assert (await place.node.locate(worker)).id == place.owner.id


async def test_props_are_checked(here: Place) -> None:
    make: Any = props
    for args, kwargs in (((Worker, 1, 2, 3), {}), ((Worker,), {"colour": "red"}), ((Locked,), {})):
        with pytest.raises(TypeError, match="props"):
            make(*args, **kwargs)
    with pytest.raises(TypeError, match="actor class"):
        make(int, 3)
    with pytest.raises(TypeError, match="takes no arguments"):
        make(Gpu, 3)


async def test_spawn_checks_what_it_is_given(here: Place) -> None:
    node: Any = here.node
    with pytest.raises(TypeError, match="props"):
        await node.spawn(Worker)
    with pytest.raises(TypeError, match="PERMANENT, TRANSIENT or TEMPORARY"):
        await node.spawn(props(Worker), restart="permanent")
    for name in ("", 3, "x" * 201):
        with pytest.raises(TypeError, match="name"):
            await node.spawn(props(Worker), name=name)


async def test_arguments_must_be_able_to_travel(place: Place) -> None:
    error = await raised(place.node.spawn(props(Locked, threading.Lock())))
    assert isinstance(error, CodecError)
    assert error.path is not None


async def test_local_actors_take_any_arguments(here: Place) -> None:
    lock = threading.Lock()
    locked = await here.node.spawn(props(Locked, lock), on=Local())
    assert await locked.free()
    with lock:
        assert not await locked.free()


async def test_arguments_are_isolated(place: Place) -> None:
    mine: list[Any] = [1]
    worker = await place.node.spawn(props(Worker, mine))  # type: ignore[arg-type]
    mine.append(2)
    found: Any = await worker.describe()
    assert found[0] == [1]


async def test_a_name_finds_the_living_actor(place: Place) -> None:
    first = await place.node.spawn(props(Worker, "first"), name="w")
    second = await place.node.spawn(props(Worker, "second"), name="w")
    assert first == second
    assert await second.describe() == ("first", 1)
    other = await place.owner.spawn(props(Worker, "third"), name="w")
    assert await other.describe() == ("first", 1)
    await place.node.stop(first)
    again = await place.node.spawn(props(Worker, "fourth"), name="w")
    assert await again.describe() == ("fourth", 1)


async def test_spawning_one_name_at_once_makes_one_actor(place: Place) -> None:
    refs = await asyncio.gather(*(place.node.spawn(props(Worker, str(n)), name="w") for n in range(10)))
    assert len(set(refs)) == 1
    assert len([entry for entry in gates.seen if str(entry).startswith("start")]) <= 1
    assert len({await ref.describe() for ref in refs}) == 1


async def test_names_of_different_parents_and_classes_are_different(place: Place) -> None:
    one, other = await place.node.spawn(props(Worker, "p")), await place.node.spawn(props(Worker, "q"))
    assert await one.child("c") != await other.child("c")
    assert await one.child("c") == await one.child("c")
    assert await one.child("c") != await place.node.spawn(props(Worker, "c"), name="c")


async def test_unnamed_actors_are_different(place: Place) -> None:
    assert await place.node.spawn(props(Worker)) != await place.node.spawn(props(Worker))


async def test_what_an_actor_knows_of_itself(place: Place) -> None:
    parent = await place.node.spawn(props(Worker), name="parent")
    child = await parent.child("child")
    assert await child.parent() == parent
    assert await parent.key() == "parent"
    assert await child.key() == "child"
    keyed = place.node.ref(Worker, "k")
    assert await (await keyed.child("of a keyed one")).parent() == keyed


# ---- where -----------------------------------------------------------------------------------------


async def test_placement() -> None:
    cluster = new_cluster()
    config = NodeConfig(drain_timeout=0.5)
    async with (
        Node(cluster=cluster, discovery=[], labels={"gpu": "1"}, config=config) as one,
        Node(cluster=cluster, discovery=[Seeds([one.address])], labels={"zone": "b"}, config=config) as two,
    ):
        await one.wait_for_members(2, 5)
        for node in (one, two):
            for number in range(5):
                by_label = await node.spawn(props(Worker), on=Labels(zone="b"))
                assert (await node.locate(by_label)).id == two.id
                by_class = await node.spawn(props(Gpu))
                assert (await node.locate(by_class)).id == one.id
                assert (await node.locate(node.ref(Gpu, number))).id == one.id
                assert await node.ref(Gpu, number).here() == "here"
                near = await node.spawn(props(Worker), on=Near(by_label))
                assert (await node.locate(near)).id == two.id
                here = await node.spawn(props(Worker), on=Local())
                assert (await node.locate(here)).id == node.id
        counts = {one.id: 0, two.id: 0}
        for _ in range(20):
            light = await one.spawn(props(Worker), on=LeastLoaded())
            counts[(await one.locate(light)).id] += 1
        assert min(counts.values()) > 0
        waits = await one.spawn(props(Worker), on=Labels(gpu="2"))
        asked = submit(waits.get)
        async with Node(cluster=one.cluster, discovery=[Seeds([one.address])], labels={"gpu": "2"}) as third:
            assert await asked == 0, "it starts when a node offers the labels"
            assert (await one.locate(waits)).id == third.id


# ---- starting again ----------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", [PERMANENT, TRANSIENT])
async def test_a_failure_starts_it_again_under_the_same_ref(quick: Place, restart: Restart) -> None:
    worker = await quick.node.spawn(props(Worker, "w", size=2), restart=restart)
    await worker.set(5)
    epoch = await worker.epoch()
    await tell(worker.fail)
    assert await worker.get() == 0
    assert await worker.epoch() > epoch
    assert await worker.describe() == ("w", 2)
    assert gates.seen == ["start w", "stop w: failed", "start w"]


async def test_it_is_started_again_without_waiting_for_a_message(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    await tell(worker.fail)
    await eventually(lambda: gates.seen == ["start w", "stop w: failed", "start w"])


async def test_the_mailbox_is_kept(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    await tell(worker.wait, "gate")
    await gates.entered("gate")
    await tell(worker.fail)
    setting, getting = submit(worker.set, 3), submit(worker.get)
    gates.let_go("gate")
    await setting
    assert await getting == 3


async def test_an_asked_failure_is_none_unless_it_is_fatal(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    assert isinstance(await raised(worker.fail()), LookupError)
    assert gates.seen == ["start w"]
    assert isinstance(await raised(worker.die()), Fatal)
    assert await worker.get() == 0
    assert gates.seen == ["start w", "stop w: failed", "start w"]


async def test_backoff_grows_between_failures() -> None:
    slow = OneForOne(backoff=Backoff(first=0.05, factor=3.0, limit=1.0, jitter=0))
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    async with a_place(LOCAL, root=slow) as here:
        worker = await here.node.spawn(props(Worker, "w"))
        for _ in range(2):
            begun = loop.time()
            await tell(worker.fail)
            await worker.get()
            waits.append(loop.time() - begun)
    assert 0.045 < waits[0] < 0.14
    assert 0.14 < waits[1] < 0.9


async def test_a_temporary_actor_ends_with_its_failure(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"), restart=TEMPORARY)
    await worker.set(1)
    async with watching(worker) as ended:
        await tell(worker.fail)
        async with asyncio.timeout(5):
            assert await ended == "failed"
    error = await raised(worker.get())
    assert isinstance(error, ActorStopped)
    assert error.certainty is NOT_SENT
    assert gates.seen == ["start w", "stop w: failed"]


@pytest.mark.parametrize(("restart", "again"), [(PERMANENT, True), (TRANSIENT, False), (TEMPORARY, False)])
async def test_an_actor_that_ends_itself(quick: Place, restart: Restart, again: bool) -> None:
    worker = await quick.node.spawn(props(Worker, "w"), restart=restart)
    await worker.set(1)
    await worker.end()
    if again:
        assert await worker.get() == 0
        assert gates.seen == ["start w", "stop w: ended", "start w"]
    else:
        assert isinstance(await raised(worker.get()), ActorStopped)
        assert gates.seen == ["start w", "stop w: ended"]


@pytest.mark.parametrize("restart", [PERMANENT, TRANSIENT, TEMPORARY])
async def test_a_stop_is_final(quick: Place, restart: Restart) -> None:
    worker = await quick.node.spawn(props(Worker, "w"), restart=restart)
    await worker.set(1)
    await quick.node.stop(worker)
    assert gates.seen == ["start w", "stop w: stopped"]
    error = await raised(worker.get())
    assert isinstance(error, ActorStopped)
    assert "spawn it again" in str(error)
    await quick.node.stop(worker)


async def test_a_stop_lets_the_running_message_end_and_refuses_the_rest(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    running = submit(worker.wait, "gate")
    await gates.entered("gate")
    waiting = submit(worker.get)
    await quick.node.ref(Worker, "other").get()
    stopping = asyncio.create_task(quick.node.stop(worker))
    await asyncio.sleep(0)  # it has sent its word: what is asked from here on comes after that
    await quick.node.ref(Worker, "other").get()
    assert not stopping.done()
    gates.let_go("gate")
    assert await running == "gate"
    assert isinstance(await raised(waiting), ActorStopped)
    await stopping


async def test_a_message_to_an_actor_that_has_ended_is_a_dead_letter(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    await quick.node.stop(worker)
    await tell(worker.set, 1)
    await eventually(lambda: quick.node.dead_letters.total == 1)
    (letter,) = quick.node.dead_letters
    assert "Worker" in letter.actor
    assert letter.method == "set"
    assert "has ended" in letter.reason


async def test_an_ask_of_an_actor_that_has_ended_leaves_nothing_pending(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    await quick.node.stop(worker)
    for ref in (worker, using(worker, timeout=5.0)):
        with pytest.raises(ActorStopped):
            await ref.get()
    assert quick.node.stats()["calls_pending"] == 0


# ---- children --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["spawned", "keyed"])
@pytest.mark.parametrize("how", ["stop", "fail"])
async def test_children_are_stopped_first_last_started_first(quick: Place, kind: str, how: str) -> None:
    node = quick.node
    parent = await node.spawn(props(Worker, "p")) if kind == "spawned" else node.ref(Worker, "p")
    children = [await parent.child(name, named) for name, named in (("a", True), ("b", False), ("c", True))]
    for child in children:
        await child.get()
    gates.seen.clear()
    if how == "stop":
        await node.stop(parent)
    else:
        await tell(parent.fail)
        await parent.get()
    name = "p" if kind == "spawned" else "unnamed"
    reason = "stopped" if how == "stop" else "failed"
    ends = [entry for entry in gates.seen if str(entry).startswith("stop ")]
    assert ends == ["stop c: stopped", "stop b: stopped", "stop a: stopped", f"stop {name}: {reason}"]
    for child in children:
        assert isinstance(await raised(child.get()), ActorStopped)


async def test_a_parent_stops_its_child_for_good(quick: Place) -> None:
    parent = await quick.node.spawn(props(Worker, "p"))
    child = await parent.child("c")
    await parent.stop_child(child)
    assert isinstance(await raised(child.get()), ActorStopped)
    assert await parent.get() == 0


# ---- watching ----------------------------------------------------------------------------------------


async def test_watching_gives_the_reason(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    async with watching(worker) as ended:
        await tell(worker.fail)
        await worker.get()
        assert not ended.done()  # a restart is no end
        await quick.node.stop(worker)
        async with asyncio.timeout(5):
            assert await ended == "stopped"


async def test_watching_what_is_gone_ends_at_once(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    await quick.node.stop(worker)
    async with asyncio.timeout(5), watching(worker) as ended:
        assert await ended
    watcher = quick.node.ref(Worker, "watcher")
    await watcher.watch(worker)
    await eventually(lambda: any(entry[0] == "terminated" for entry in gates.seen))


async def test_on_terminated_is_called_once(quick: Place) -> None:
    worker = await quick.node.spawn(props(Worker, "w"))
    watcher = await quick.node.spawn(props(Worker, "watcher"))
    await watcher.watch(worker)
    await tell(worker.fail)
    await worker.get()
    await quick.node.stop(worker)
    await eventually(lambda: ("terminated", worker, "stopped") in gates.seen)
    await watcher.get()
    assert len([entry for entry in gates.seen if entry[0] == "terminated"]) == 1


async def test_watching_a_keyed_actor_that_is_stopped(quick: Place) -> None:
    keyed = quick.node.ref(Worker, "k")
    await keyed.set(1)
    async with watching(keyed) as ended:
        await quick.node.stop(keyed)
        async with asyncio.timeout(5):
            assert await ended == "stopped"
    assert await keyed.get() == 0


async def test_a_spawned_actor_ends_with_its_node_unless_it_is_started_elsewhere(there: Place) -> None:
    worker = await there.node.spawn(props(Worker, "w"), restart=TEMPORARY)
    async with watching(worker) as ended:
        await there.owner.leave()
        async with asyncio.timeout(5):
            assert await ended
    error = await raised(worker.get())
    assert isinstance(error, Unreachable)
    assert error.certainty is NOT_SENT
