"""What handlers raise: at the caller as itself, or as what is known of it; and what it does to the actor."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from ringcast import (
    NOT_SENT,
    Actor,
    ActorStopped,
    Backoff,
    CallError,
    Fatal,
    OneForOne,
    RemoteError,
    handler,
    submit,
    tell,
)
from tests.unit.runtime.errors_of_tests import Deadly, Plain, Rich
from tests.unit.runtime.places import LOCAL, REMOTE, Place, a_place, eventually, gates, raised

QUICK = OneForOne(backoff=Backoff(first=0.01, limit=0.01, jitter=0))


class Faulty(Actor, supervision=QUICK, restart_on=(ZeroDivisionError,)):
    def __init__(self) -> None:
        self.value = 0

    async def on_stop(self, reason: str) -> None:
        gates.seen.append(f"stopped: {reason}")

    async def set(self, value: int) -> int:
        self.value = value
        return self.context.epoch

    async def get(self) -> int:
        return self.value

    async def fail(self, kind: str) -> None:
        match kind:
            case "plain":
                raise Plain("as it is")
            case "rich":
                raise Rich(7, why="many fields")
            case "key":
                raise KeyError("missing")
            case "chained":
                try:
                    raise LookupError("first")
                except LookupError as first:
                    raise Plain("second") from first
            case "group":
                raise ExceptionGroup("two", [ValueError(1), KeyError("2")])
            case "local":

                class Nobody(Exception):
                    pass

                raise Nobody("knows me")
            case "field":
                error = Plain("with a field")
                error.lock = (i for i in "ab")  # type: ignore[attr-defined]
                raise error
            case "cancelled":
                raise asyncio.CancelledError("odd")
            case "foreign":
                task = asyncio.ensure_future(asyncio.sleep(60))
                asyncio.get_running_loop().call_soon(task.cancel)
                await task
            case "exit":
                raise GeneratorExit
            case "stop":
                raise StopIteration(3)
            case "timeout":
                raise TimeoutError("its own")
            case "call":
                raise CallError("an old one", certainty=NOT_SENT, actor="x", method="y")
            case "deadly":
                raise Deadly("over")
            case "listed":
                _ = 1 // 0
            case _:
                raise AssertionError(kind)

    @handler(read_only=True)
    async def fail_beside(self, kind: str) -> None:
        await self.fail(kind)

    async def relay(self, other: Any, kind: str) -> Any:
        return await other.fail(kind)

    async def catch(self, other: Any) -> str:
        try:
            await other.fail("plain")
        except Plain as error:
            return f"caught {error}"
        return "nothing"

    async def wait(self, gate: str) -> None:
        await gates.passing(gate)

    async def wait_and_fail(self, gate: str) -> None:
        await gates.passing(gate)
        raise Plain(gate)


class Unborn(Actor, supervision=QUICK):
    def __init__(self) -> None:
        gates.seen.append("tried")
        if len(gates.seen) < 3:
            raise Plain("not yet")

    async def hello(self) -> str:
        return "hello"


class Unstarted(Actor, supervision=QUICK):
    async def on_start(self) -> None:
        gates.seen.append("tried")
        if len(gates.seen) < 3:
            raise Plain("not yet")

    async def hello(self) -> str:
        return "hello"


# ---- how they travel -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cls", "text"),
    [
        ("plain", Plain, "as it is"),
        ("rich", Rich, "7: many fields"),
        ("key", KeyError, "'missing'"),
        ("chained", Plain, "second"),
        ("timeout", TimeoutError, "its own"),
        ("group", ExceptionGroup, "two (2 sub-exceptions)"),
    ],
)
@pytest.mark.parametrize("method", ["fail", "fail_beside"])
async def test_exceptions_come_back_as_themselves(
    place: Place, kind: str, cls: type[Exception], text: str, method: str
) -> None:
    faulty = place.node.ref(Faulty, "f")
    error = await raised(getattr(faulty, method)(kind))
    assert type(error) is cls, error
    assert str(error) == text
    remote: str = vars(error)["remote_traceback"]
    assert "in fail" in remote
    assert place.owner.id in remote
    assert any("in fail" in note for note in error.__notes__)
    if kind == "chained":
        assert "LookupError: first" in remote


async def test_fields_of_an_exception_travel(place: Place) -> None:
    error = await raised(place.node.ref(Faulty, "f").fail("rich"))
    assert isinstance(error, Rich)
    assert (error.code, error.why) == (7, "many fields")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("field", "Plain"), ("cancelled", "CancelledError"), ("foreign", "CancelledError")],
)
async def test_what_cannot_be_rebuilt_is_a_remote_error(place: Place, kind: str, name: str) -> None:
    faulty = place.node.ref(Faulty, "f")
    error = await raised(faulty.fail(kind))
    assert isinstance(error, RemoteError)
    assert error.type_name.rpartition(".")[2].rpartition(":")[2] == name
    assert "Traceback" in error.remote_traceback
    assert any(error.remote_traceback in note for note in error.__notes__)
    assert await faulty.get() == 0


async def test_stop_iteration_is_what_python_makes_of_it(place: Place) -> None:
    assert isinstance(await raised(place.node.ref(Faulty, "f").fail("stop")), RuntimeError)


async def test_a_class_that_only_pickle_can_carry_is_a_remote_error_without() -> None:
    for where in (LOCAL, REMOTE):
        async with a_place(where, pickle=False) as place:
            error = await raised(place.node.ref(Faulty, "f").fail("local"))
            assert isinstance(error, RemoteError)
            assert error.type_name.endswith("Nobody")
            assert error.message == "knows me"


async def test_a_class_that_is_not_imported_here_is_a_remote_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_place(REMOTE, pickle=False) as there:
        await without_its_module(there, monkeypatch)


async def without_its_module(there: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    task = submit(there.node.ref(Faulty, "f").wait_and_fail, "gate")
    await gates.entered("gate")
    gates.let_go("gate")
    frames = there.node._peers.link(there.owner.id)
    receive = type(frames).receive

    def without_the_module(link: Any, arrived: Any) -> None:
        module = sys.modules.pop(Plain.__module__)
        try:
            receive(link, arrived)
        finally:
            sys.modules[Plain.__module__] = module

    monkeypatch.setattr(type(frames), "receive", without_the_module)
    error = await raised(task)
    monkeypatch.undo()
    assert isinstance(error, RemoteError)
    assert error.type_name == f"{Plain.__module__}:Plain"
    assert error.message == "gate"


async def test_tracebacks_gather_over_hops(place: Place) -> None:
    one, other = place.node.ref(Faulty, "one"), place.node.ref(Faulty, "other")
    error = await raised(one.relay(other, "plain"))
    assert isinstance(error, Plain)
    notes = "".join(error.__notes__)
    assert "in relay" in notes
    assert "in fail" in notes
    assert await one.catch(other) == "caught as it is"


async def test_a_call_error_that_a_handler_raises_keeps_its_fields(place: Place) -> None:
    error = await raised(place.node.ref(Faulty, "f").fail("call"))
    assert isinstance(error, CallError)
    assert (error.certainty, error.actor, error.method) == (NOT_SENT, "x", "y")


# ---- what they do to the actor -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "local", "cancelled", "foreign", "timeout"])
async def test_errors_of_asks_leave_the_actor_as_it_is(place: Place, kind: str) -> None:
    faulty = place.node.ref(Faulty, "f")
    await faulty.set(7)
    await raised(faulty.fail(kind))
    assert await faulty.get() == 7
    assert gates.seen == []


@pytest.mark.parametrize("kind", ["deadly", "listed"])
@pytest.mark.parametrize("method", ["fail", "fail_beside"])
async def test_fatal_and_listed_errors_fail_the_actor(place: Place, kind: str, method: str) -> None:
    faulty = place.node.ref(Faulty, "f")
    epoch = await faulty.set(7)
    error = await raised(getattr(faulty, method)(kind))
    assert isinstance(error, (Fatal, ZeroDivisionError))
    assert await faulty.get() == 0
    assert gates.seen == ["stopped: failed"]
    assert await faulty.set(1) > epoch


@pytest.mark.parametrize("kind", ["plain", "deadly", "foreign"])
async def test_errors_of_told_messages_fail_the_actor(place: Place, kind: str) -> None:
    faulty = place.node.ref(Faulty, "f")
    epoch = await faulty.set(7)
    await tell(faulty.fail, kind)
    assert await faulty.get() == 0
    assert gates.seen == ["stopped: failed"]
    assert await faulty.set(1) > epoch


async def test_a_failed_reader_fails_the_actor_before_the_next_writer(place: Place) -> None:
    faulty = place.node.ref(Faulty, "f")
    await faulty.set(7)
    await tell(faulty.wait, "gate")
    await gates.entered("gate")
    await tell(faulty.fail_beside, "plain")
    setting, getting = submit(faulty.set, 5), submit(faulty.get)
    gates.let_go("gate")
    await setting
    assert await getting == 5
    assert gates.seen == ["stopped: failed"]


async def test_a_cancellation_is_an_error_of_the_call_without_isolation_too() -> None:
    async with a_place(LOCAL, copy_local=False) as place:
        for kind in ("cancelled", "foreign"):
            assert isinstance(await raised(place.node.ref(Faulty, "f").fail(kind)), RemoteError)


async def test_a_failure_keeps_the_mailbox_except_for_what_failed(place: Place) -> None:
    faulty = place.node.ref(Faulty, "f")
    await tell(faulty.wait, "gate")
    await gates.entered("gate")
    tasks = [submit(faulty.set, 1)]
    await tell(faulty.fail, "plain")
    tasks.append(submit(faulty.get))
    tasks.append(submit(faulty.set, 5))
    tasks.append(submit(faulty.get))
    gates.let_go("gate")
    answers = await asyncio.gather(*tasks)
    assert (answers[1], answers[3]) == (0, 5)


async def test_wrong_arguments_of_a_told_message_fail_nobody(place: Place) -> None:
    faulty = place.node.ref(Faulty, "f")
    await faulty.set(7)
    await tell(faulty.set)  # type: ignore[call-arg]
    assert await faulty.get() == 7
    assert place.owner.dead_letters.total == 1


@pytest.mark.parametrize("cls", [Unborn, Unstarted])
async def test_an_actor_that_cannot_start_says_why_and_is_tried_again(
    place: Place, cls: type[Unborn] | type[Unstarted]
) -> None:
    ref = place.node.ref(cls, "u")
    for _ in range(2):
        error = await raised(ref.hello())
        assert isinstance(error, ActorStopped)
        assert error.certainty is NOT_SENT
        assert "not yet" in str(error)
    assert await ref.hello() == "hello"
    assert gates.seen == ["tried"] * 3


class Backing(Actor, supervision=OneForOne(backoff=Backoff(first=0.2, factor=1.0, limit=0.2, jitter=0))):
    async def fail(self) -> None:
        raise Plain

    async def hello(self) -> None: ...


async def test_a_failed_keyed_actor_comes_back_after_its_backoff(place: Place) -> None:
    backing, other = place.node.ref(Backing, "b"), place.node.ref(Backing, "other")
    await backing.hello()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await tell(backing.fail)
    await other.hello()
    assert loop.time() - begun < 0.15
    await backing.hello()
    assert 0.19 < loop.time() - begun < 2.0
    await eventually(lambda: place.owner.stats()["actors"] == 2)
