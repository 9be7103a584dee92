"""The body and the keywords of an actor class are checked when the class is made."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from ringcast import Actor, Backoff, Fatal, Labels, OneForAll, OneForOne, RestForOne, Ring, handler
from ringcast.actors.actor import actor_type


def body(**attributes: Any) -> type[Actor]:
    return type("Made", (Actor,), attributes)


def one(self: Any) -> int:
    return 1


def as_it_is(function: Any) -> Any:
    return function


def test_a_public_plain_function_is_refused_and_says_what_to_do() -> None:
    def total(self: Any) -> int:
        return 1

    with pytest.raises(TypeError, match=r"Made\.total.*async def total.*_total.*staticmethod"):
        body(total=total)


def test_a_lambda_and_a_generator_are_plain_functions() -> None:
    def items(self: Any) -> Any:
        yield 1

    with pytest.raises(TypeError, match="items"):
        body(items=items)
    with pytest.raises(TypeError, match="double"):
        body(double=lambda: 2)


@pytest.mark.parametrize("kind", [property, functools.cached_property])
def test_a_public_property_is_refused(kind: Any) -> None:
    with pytest.raises(TypeError, match=r"Made\.total is a property.*async def total.*_total"):
        body(total=kind(one))


@pytest.mark.parametrize("wrap", [as_it_is, staticmethod, classmethod])
def test_private_static_and_class_methods_are_allowed_and_no_messages(wrap: Any) -> None:
    def function(*args: Any) -> int:
        return 1

    name = "_total" if wrap(function) is function else "total"
    made = body(**{name: wrap(function)})
    assert actor_type(made).messages == {}


@pytest.mark.parametrize("name", ["children", "initial_state", "migrate"])
def test_the_plain_functions_that_the_runtime_calls_are_allowed(name: str) -> None:
    def function(self: Any) -> int:
        return 1

    assert name not in actor_type(body(**{name: function})).messages


def test_private_properties_are_allowed() -> None:
    assert actor_type(body(_total=property(one))).messages == {}


def test_an_async_on_method_that_is_no_hook_is_refused() -> None:
    async def on_message(self: Any) -> None: ...

    with pytest.raises(TypeError, match=r"on_message is no hook.*on_start, on_stop, on_terminated"):
        body(on_message=on_message)


def test_an_async_generator_called_on_something_is_refused_too() -> None:
    async def on_items(self: Any) -> AsyncGenerator[int, None]:
        yield 1

    with pytest.raises(TypeError, match="on_items is no hook"):
        body(on_items=on_items)


def test_hooks_and_private_coroutines_are_no_messages() -> None:
    class Hooked(Actor):
        async def on_start(self) -> None: ...
        async def on_stop(self, reason: str) -> None: ...
        async def on_terminated(self, ref: Any, reason: str) -> None: ...
        async def _inner(self) -> None: ...
        async def only(self) -> None: ...

    assert set(actor_type(Hooked).messages) == {"only"}


def test_constants_and_nested_classes_are_left_alone() -> None:
    class Plain(Actor):
        limit = 3

        class Inner:
            def method(self) -> None: ...

        async def get(self) -> int:
            return self.limit

    assert set(actor_type(Plain).messages) == {"get"}


def test_messages_are_inherited_and_may_be_overridden_or_taken_away() -> None:
    class Base(Actor):
        async def a(self) -> int:
            return 1

        async def b(self) -> int:
            return 1

    class Derived(Base):
        b = None  # type: ignore[assignment]

        @handler(read_only=True)
        async def a(self) -> int:
            return 2

    messages = actor_type(Derived).messages
    assert set(messages) == {"a"}
    assert messages["a"].options.read_only
    assert not actor_type(Base).messages["a"].options.read_only


def test_a_mixin_that_is_no_actor_contributes_messages() -> None:
    class Mixin:
        async def ping(self) -> str:
            return "pong"

    class Mixed(Mixin, Actor):
        pass

    assert set(actor_type(Mixed).messages) == {"ping"}


@pytest.mark.parametrize("name", ["context"])
def test_the_name_of_the_door_is_taken(name: str) -> None:
    async def message(self: Any) -> None: ...

    with pytest.raises(TypeError, match="context"):
        body(**{name: message})


# ---- class keywords ----------------------------------------------------------------------------


def test_an_unknown_keyword_is_refused_and_says_which_there_are() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'mailbx'.*mailbox, idle_after, supervision"):

        class Wrong(Actor, mailbx=3):  # pyright: ignore[reportUnusedClass]
            pass


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("mailbox", 0),
        ("mailbox", -1),
        ("mailbox", 2.5),
        ("mailbox", True),
        ("mailbox", "many"),
        ("idle_after", 0),
        ("idle_after", -1.0),
        ("idle_after", "soon"),
        ("idle_after", True),
        ("supervision", "one_for_one"),
        ("supervision", OneForOne),
        ("placement", "ring"),
        ("placement", Ring),
        ("restart_on", ValueError),
        ("restart_on", (1,)),
        ("restart_on", [ValueError]),
        ("name", ""),
        ("name", "x" * 201),
        ("name", 3),
    ],
)
def test_the_value_of_a_keyword_is_checked(keyword: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"class Wrong: {keyword}="):
        type("Wrong", (Actor,), {}, **{keyword: value})


def test_keywords_are_kept_and_inherited_except_the_name() -> None:
    class Base(
        Actor,
        mailbox=7,
        idle_after=None,
        supervision=OneForAll(max_restarts=2),
        placement=Labels(gpu="1"),
        restart_on=(KeyError,),
        name="test.Base",
    ):
        async def m(self) -> None: ...

    class Derived(Base, mailbox=8):
        pass

    base, derived = Base.__class_options__, Derived.__class_options__
    assert (base.mailbox, base.idle_after, base.name) == (7, None, "test.Base")
    assert (derived.mailbox, derived.idle_after, derived.name) == (8, None, None)
    assert derived.supervision == OneForAll(max_restarts=2)
    assert derived.placement == Labels(gpu="1")
    assert actor_type(Derived).failures == (Fatal, KeyError)


def test_defaults_are_those_of_the_contract() -> None:
    options = body().__class_options__
    assert options.idle_after == 300.0
    strategy = options.supervision
    assert strategy == OneForOne(
        max_restarts=5, within=60.0, backoff=Backoff(first=0.1, factor=2.0, limit=30.0, jitter=0.2)
    )


@pytest.mark.parametrize("make", [OneForOne, OneForAll, RestForOne])
def test_strategies_refuse_numbers_without_sense(make: Any) -> None:
    for wrong in ({"max_restarts": -1}, {"within": 0}):
        with pytest.raises(TypeError, match=next(iter(wrong))):
            make(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"first": -1.0}, {"factor": 0.5}, {"limit": 0.01}, {"jitter": 1.5}, {"jitter": -0.1}]
)
def test_backoff_refuses_numbers_without_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(TypeError, match=next(iter(wrong))):
        Backoff(**wrong)


@pytest.mark.parametrize("labels", [{}, {"gpu": 1}])
def test_labels_take_strings(labels: Any) -> None:
    with pytest.raises(TypeError, match=r"gpu=\"1\""):
        Labels(**labels)


# ---- @handler ----------------------------------------------------------------------------------


def test_handler_returns_the_function_itself() -> None:
    async def function(self: Any) -> int:
        return 1

    assert handler(read_only=True)(function) is function
    assert handler(function) is function


@pytest.mark.parametrize("timeout", [0, -1.0, True])
def test_handler_refuses_a_timeout_that_is_none(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout"):
        handler(timeout=timeout)


def test_handler_goes_on_functions() -> None:
    with pytest.raises(TypeError, match="async def"):
        handler(read_only=True)(Actor)
    with pytest.raises(TypeError, match="async def"):
        handler()(3)  # type: ignore[type-var]


def test_handler_refuses_options_that_it_has_not() -> None:
    with pytest.raises(TypeError, match="idempotent"):
        handler(idempotent=True)  # type: ignore[call-overload]


def test_a_class_that_is_no_actor_has_no_type() -> None:
    for wrong in (int, Actor, 3):
        with pytest.raises(TypeError, match="actor class"):
            actor_type(wrong)  # type: ignore[arg-type]
