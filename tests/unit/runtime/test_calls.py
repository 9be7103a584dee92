"""Asks: arguments and replies, refs on their way, what cannot travel, what a ref refuses."""

from __future__ import annotations

import asyncio
import copy
import pickle
import uuid
from typing import Any

import pytest

from ringcast import (
    EXECUTED,
    NOT_SENT,
    Actor,
    CallError,
    CodecError,
    Node,
    NodeStopped,
    NotAMessage,
    RingcastError,
    broadcast,
    is_ref,
    submit,
    tell,
    using,
)
from tests.unit.runtime.places import LOCAL, Place, a_place, eventually, gates, raised


class Keeper(Actor):
    def __init__(self) -> None:
        self._kept: Any = None

    async def keep(self, value: Any) -> None:
        self._kept = value

    async def kept(self) -> Any:
        return self._kept

    async def add(self, *values: int, times: int = 1) -> int:
        self._kept = (self._kept or 0) + sum(values) * times
        return int(self._kept)

    async def key(self) -> Any:
        return self.context.key

    async def me(self) -> Any:
        return self.context.me

    async def unsendable(self) -> Any:
        gates.mark("unsendable ran")
        return {"lock": (i for i in range(3))}

    async def give_me(self, other: Any) -> None:
        await other.keep(self)

    async def ask_other(self, other: Any) -> Any:
        return await other.kept()

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate

    async def note(self, value: Any) -> None:
        gates.seen.append(value)

    async def two(self, a: int, b: int) -> int:
        return a + b


class Needy(Actor):
    def __init__(self, size: int, *, name: str, color: str = "red") -> None:
        self._size = size

    async def size(self) -> int:
        return self._size


# ---- arguments and replies -------------------------------------------------------------------------


async def test_arguments_by_position_and_by_name(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    assert await keeper.add(1, 2) == 3
    assert await keeper.add(1, times=4) == 7


async def test_values_keep_their_types(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    for value in (
        None,
        True,
        1 << 90,
        1.5,
        "é",
        b"\0",
        (1, (2,)),
        {1: "a", ("t",): 2},
        {1, 2},
        [b"x", bytearray(b"y")],
    ):
        await keeper.keep(value)
        found = await keeper.kept()
        assert found == value
        assert type(found) is type(value)


async def test_arguments_are_isolated(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    mine = {"list": [1]}
    await keeper.keep(mine)
    mine["list"].append(2)
    assert await keeper.kept() == {"list": [1]}


async def test_arguments_by_name_are_isolated(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    mine = [1]
    await keeper.keep(value=mine)
    mine.append(2)
    assert await keeper.kept() == [1]


async def test_told_arguments_are_isolated_when_they_are_sent(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    mine, named = [1], [1]
    await tell(keeper.note, mine)
    await tell(keeper.note, value=named)
    mine.append(2)
    named.append(2)
    await keeper.kept()
    assert gates.seen == [[1], [1]]


async def test_replies_are_isolated(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    await keeper.keep([1])
    found = await keeper.kept()
    found.append(2)
    assert await keeper.kept() == [1]


async def test_isolation_can_be_given_up() -> None:
    async with a_place(LOCAL, copy_local=False) as place:
        keeper = place.node.ref(Keeper, "k")
        mine = [1]
        await keeper.keep(mine)
        assert await keeper.kept() is mine


async def test_what_cannot_travel_is_refused_before_anything_is_sent(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    value = {"file": (i for i in range(2))}
    for awaitable in (keeper.note(value), tell(keeper.note, value)):
        error = await raised(awaitable)
        assert isinstance(error, CodecError)
        assert error.path == "args[0]['file']"
        assert "args[0]['file']" in str(error)
    error = await raised(keeper.add(1, 2, value))  # type: ignore[arg-type]
    assert isinstance(error, CodecError)
    assert error.path == "args[2]['file']"
    error = await raised(keeper.note(value=value))
    assert isinstance(error, CodecError)
    assert error.path == "kwargs['value']['file']"
    await keeper.kept()
    assert gates.seen == []


async def test_a_refused_call_leaves_nothing_behind(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    with pytest.raises(CodecError):
        await keeper.note(i for i in range(2))
    assert place.node.stats()["calls_pending"] == 0


async def test_self_as_an_argument_says_what_to_pass(place: Place) -> None:
    error = await raised(place.node.ref(Keeper, "k").give_me(place.node.ref(Keeper, "other")))
    assert isinstance(error, CodecError)
    assert "self.context.me" in str(error)
    assert error.path == "args[0]"


async def test_a_reply_that_cannot_travel_was_executed(place: Place) -> None:
    error = await raised(place.node.ref(Keeper, "k").unsendable())
    assert isinstance(error, CallError)
    assert error.certainty is EXECUTED
    assert gates.has_entered("unsendable ran")
    assert error.method == "unsendable"
    assert error.actor is not None
    assert "Keeper['k']" in error.actor


async def test_wrong_arguments_are_a_type_error_at_the_caller(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    with pytest.raises(TypeError, match="two"):
        await keeper.two(1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="two"):
        await keeper.two(1, b=2, c=3)  # type: ignore[call-arg]
    assert await keeper.two(1, b=2) == 3


# ---- keys ------------------------------------------------------------------------------------------

KEYS: list[Any] = ["", "é", 0, -5, 1 << 80, b"", b"k", uuid.UUID(int=7), (), ("a", 1), (("x", b"y"), uuid.UUID(int=1))]


@pytest.mark.parametrize("key", KEYS, ids=repr)
async def test_keys_of_all_kinds(there: Place, key: Any) -> None:
    ref = there.node.ref(Keeper, key)
    assert await ref.key() == key
    assert type(await ref.key()) is type(key)
    assert await ref.me() == ref


async def test_keys_of_different_types_are_different_actors(place: Place) -> None:
    for number, key in enumerate(KEYS):
        await place.node.ref(Keeper, key).keep(number)
    for number, key in enumerate(KEYS):
        assert await place.node.ref(Keeper, key).kept() == number


@pytest.mark.parametrize("key", [None, 1.5, True, ["a"], ("a", None), object()], ids=repr)
async def test_other_keys_are_refused(here: Place, key: Any) -> None:
    with pytest.raises(TypeError, match="key"):
        here.node.ref(Keeper, key)


async def test_a_key_of_a_user_cannot_be_that_of_a_spawned_actor(here: Place) -> None:
    with pytest.raises(TypeError, match="key"):
        here.node.ref(Keeper, ("\0spawned", "/x"))


async def test_a_constructor_that_needs_arguments_is_refused_at_the_ref(here: Place) -> None:
    with pytest.raises(TypeError, match=r"Needy needs size, name.*spawn\(props"):
        here.node.ref(Needy, "k")


async def test_a_ref_takes_actor_classes_only(here: Place) -> None:
    for wrong in (int, "Keeper", Actor, None):
        with pytest.raises(TypeError, match="actor class"):
            here.node.ref(wrong, "k")  # type: ignore[arg-type]


# ---- refs -----------------------------------------------------------------------------------------


async def test_refs_are_equal_when_they_name_the_same_actor(here: Place) -> None:
    node = here.node
    ref = node.ref(Keeper, "k")
    assert ref == node.ref(Keeper, "k")
    assert ref == using(ref, timeout=1.0)
    assert hash(ref) == hash(node.ref(Keeper, "k"))
    assert ref != node.ref(Keeper, "l")
    assert ref != "k"  # type: ignore[comparison-overlap]
    assert len({ref, node.ref(Keeper, "k"), node.ref(Keeper, "l")}) == 2


async def test_refs_are_immutable(here: Place) -> None:
    ref: Any = here.node.ref(Keeper, "k")
    with pytest.raises(AttributeError):
        ref.color = "red"
    with pytest.raises(AttributeError):
        ref.add = 3
    assert copy.copy(ref) is ref
    assert copy.deepcopy([ref])[0] is ref


async def test_is_ref(here: Place) -> None:
    assert is_ref(here.node.ref(Keeper, "k"))
    assert is_ref(using(here.node.ref(Keeper, "k"), timeout=1))
    for other in (None, Keeper, "k", here.node):
        assert not is_ref(other)


async def test_refs_travel_in_messages_and_in_results(place: Place) -> None:
    one, other = place.node.ref(Keeper, "one"), place.node.ref(Keeper, "other")
    await other.keep(7)
    assert await one.ask_other(other) == 7
    await one.keep({"refs": [other, using(other, timeout=9)]})
    found = (await one.kept())["refs"]
    assert found == [other, other]
    assert await found[0].kept() == 7
    assert await (await other.me()).kept() == 7


async def test_a_ref_shows_what_it_names(here: Place) -> None:
    assert "Keeper['k']" in repr(here.node.ref(Keeper, "k"))


async def test_pickle_is_not_the_way_of_refs(here: Place) -> None:
    with pytest.raises(TypeError, match="travels in messages"):
        pickle.dumps(here.node.ref(Keeper, "k"))


async def test_what_is_no_message_is_refused_by_name(here: Place) -> None:
    ref: Any = here.node.ref(Keeper, "k")
    for name in ("_kept", "nothing", "context", "on_start", "on_stop"):
        with pytest.raises(NotAMessage, match=name):
            getattr(ref, name)
        assert not hasattr(ref, name)
    assert issubclass(NotAMessage, AttributeError)
    assert issubclass(NotAMessage, RingcastError)


# ---- coroutines -----------------------------------------------------------------------------------


async def test_a_call_is_a_real_coroutine_that_is_sent_when_first_awaited(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    call = keeper.note(1)
    assert asyncio.iscoroutine(call)
    await keeper.note(2)
    await call
    assert gates.seen == [2, 1]
    unsent = keeper.note(3)
    unsent.close()
    await keeper.kept()
    assert gates.seen == [2, 1]


async def test_coroutine_functions_take_a_call(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    assert await asyncio.create_task(keeper.add(1)) == 1
    assert list(await asyncio.gather(keeper.add(1), keeper.add(1))) == [2, 3]
    assert await asyncio.wait_for(keeper.add(1), 5) == 4
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keeper.add(1))
    assert task.result() == 5
    async with asyncio.timeout(5):
        assert await keeper.add(1) == 6


async def test_a_method_is_a_coroutine_function(here: Place) -> None:
    import inspect

    assert inspect.iscoroutinefunction(here.node.ref(Keeper, "k").add)


async def test_messages_of_one_sender_are_handled_in_order(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    tasks: list[asyncio.Task[Any]] = []
    for number in range(0, 300, 3):
        await tell(keeper.note, number)
        tasks.append(submit(keeper.note, number + 1))
        tasks.append(submit(keeper.note, value=number + 2))
    await asyncio.gather(*tasks)
    assert gates.seen == list(range(300))


async def test_a_large_message_is_not_overtaken_by_a_small_one(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    await keeper.kept()
    large = b"x" * (3 << 20)
    tasks = [submit(keeper.note, large), submit(keeper.note, 1), submit(keeper.note, [large]), submit(keeper.note, 2)]
    await tell(keeper.note, 3)
    await tell(keeper.note, large)
    await tell(keeper.note, 4)
    await asyncio.gather(*tasks)
    await eventually(lambda: len(gates.seen) == 7)
    assert [value if isinstance(value, int) else "large" for value in gates.seen] == [
        "large",
        1,
        "large",
        2,
        3,
        "large",
        4,
    ]


# ---- the verbs ---------------------------------------------------------------------------------------


async def test_submit_sends_at_once(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    task = submit(keeper.note, "first")
    assert isinstance(task, asyncio.Task)
    await keeper.note("second")
    await task
    assert gates.seen == ["first", "second"]


async def test_submit_takes_names_and_gives_errors(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    assert await submit(keeper.add, 2, times=2) == 4
    with pytest.raises(TypeError, match="two"):
        await submit(keeper.two, 1)  # type: ignore[call-arg]  # pyright: ignore


async def test_broadcast_answers_in_order_with_exceptions_in_place(place: Place) -> None:
    refs = [place.node.ref(Keeper, key) for key in range(5)]
    for number, ref in enumerate(refs):
        await ref.keep(number * 10)
    assert await broadcast(refs, Keeper.kept) == [0, 10, 20, 30, 40]
    assert await broadcast(refs, Keeper.add, 1, times=2) == [2, 12, 22, 32, 42]
    await refs[2].keep("text")
    answers: list[Any] = await broadcast(refs, Keeper.add, 1)
    assert [answers[i] for i in (0, 1, 3, 4)] == [3, 13, 33, 43]
    assert isinstance(answers[2], TypeError)
    assert await broadcast([], Keeper.kept) == []
    assert await broadcast((ref for ref in refs[:1]), Keeper.kept) == [3]


async def test_tell_returns_on_acceptance(place: Place) -> None:
    keeper = place.node.ref(Keeper, "k")
    await tell(keeper.wait, "gate")
    await gates.entered("gate")
    await tell(keeper.note, 1)
    assert gates.seen == []
    gates.let_go("gate")
    await keeper.kept()
    assert gates.seen == [1]


async def test_the_verbs_say_what_they_take(here: Place) -> None:
    keeper = here.node.ref(Keeper, "k")
    with pytest.raises(TypeError, match=r"uncalled: tell\(ref\.add, 1\)"):
        await tell(keeper.add(1))  # type: ignore[arg-type]
    for wrong in (Keeper.add, print, None, keeper):
        with pytest.raises(TypeError, match="tell takes a message of a ref"):
            await tell(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="submit takes a message of a ref"):
            submit(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"self\.context\.me"):
        await tell(Keeper().add, 1)
    with pytest.raises(TypeError, match="using takes a ref"):
        using(Keeper, timeout=1.0)
    with pytest.raises(TypeError, match=r"self\.context\.me"):
        using(Keeper(), timeout=1.0)
    with pytest.raises(TypeError, match=r"Cart\.total"):
        await broadcast([keeper], keeper.kept)
    with pytest.raises(TypeError, match="broadcast takes a ref"):
        await broadcast([keeper, 3], Keeper.kept)


@pytest.mark.parametrize("seconds", [0, -1, True, 0.0])
async def test_using_checks_the_limit(here: Place, seconds: Any) -> None:
    with pytest.raises(RingcastError, match="timeout"):
        using(here.node.ref(Keeper, "k"), timeout=seconds)


async def test_using_adds_up(here: Place) -> None:
    from ringcast.actors.ref import CallOptions

    ref: Any = using(using(here.node.ref(Keeper, "k"), timeout=3, idempotency_key="x"), detached=True)
    assert ref._options == CallOptions(3, True, "x")


# ---- nodes that do not run ---------------------------------------------------------------------------


async def test_a_node_that_was_not_started_sends_nothing() -> None:
    node = Node(discovery=[])
    ref = node.ref(Keeper, "k")
    for awaitable in (ref.kept(), tell(ref.kept)):
        error = await raised(awaitable)
        assert isinstance(error, NodeStopped)
        assert error.certainty is NOT_SENT
        assert "async with" in str(error)


async def test_a_node_that_has_left_sends_nothing(place: Place) -> None:
    ref = place.node.ref(Keeper, "k")
    await ref.kept()
    await place.node.leave()
    for awaitable in (ref.kept(), tell(ref.kept), place.node.locate(ref), place.node.stop(ref)):
        error = await raised(awaitable)
        assert isinstance(error, NodeStopped)
        assert error.certainty is NOT_SENT
