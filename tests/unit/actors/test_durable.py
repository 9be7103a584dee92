"""What a durable class says of its state is checked where it is written."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec
import pydantic
import pytest

from ringcast import At, DurableActor, Every, handler
from ringcast.actors.actor import imported_types

T = TypeVar("T")
K = TypeVar("K")


@dataclass
class Full:
    name: str
    total: int = 0


class FullModel(pydantic.BaseModel):
    name: str


class FullStruct(msgspec.Struct):
    name: str


@dataclass
class Empty:
    total: int = 0


class Keyed(DurableActor[T], Generic[K, T]):
    """Its second parameter is the state."""


class Of(Keyed[str, Empty]):
    """A subclass that says what the state is."""


class Below(Of):
    """A subclass that says nothing new."""


@pytest.mark.parametrize("cls", [Of, Below])
def test_the_state_is_found_through_generic_bases(cls: Any) -> None:
    assert cls.__state_type__ is Empty
    assert cls().initial_state() == Empty()


def test_the_base_itself_is_not_hosted() -> None:
    assert "ringcast.actors.durable:DurableActor" not in {actor.name for actor in imported_types()}


@pytest.mark.parametrize("state", [Full, FullModel, FullStruct, int | None, "Empty"])
def test_a_state_has_to_begin(state: Any) -> None:
    with pytest.raises(TypeError, match=r"Bad: .*(def initial_state|named by a string)"):

        class Bad(DurableActor[state]):  # pyright: ignore[reportUnusedClass]
            pass


def test_a_state_may_begin_as_the_actor_says() -> None:
    class Good(DurableActor[Full]):
        def initial_state(self) -> Full:
            return Full("new")

    assert Good().initial_state() == Full("new")


@pytest.mark.parametrize("state", [int, dict[str, int], list[int], str])
def test_plain_values_begin_empty(state: Any) -> None:
    class Good(DurableActor[state]):
        pass

    assert Good().initial_state() == (state.__origin__ if hasattr(state, "__origin__") else state)()


def test_a_class_without_a_state_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Bad: say what its state is, such as DurableActor\[Balance\]"):

        class Bad(DurableActor):  # type: ignore[type-arg]  # pyright: ignore
            pass


def test_a_turn_is_not_to_be_shared() -> None:
    with pytest.raises(TypeError, match=r"Bad\.enter is reentrant"):

        class Bad(DurableActor[int]):  # pyright: ignore[reportUnusedClass]
            @handler(reentrant=True)
            async def enter(self) -> None: ...


def test_a_stream_holds_no_transaction_open() -> None:
    with pytest.raises(TypeError, match=r"Bad\.items streams"):

        class Bad(DurableActor[int]):  # pyright: ignore[reportUnusedClass]
            async def items(self) -> AsyncIterator[int]:
                yield 1

    class Good(DurableActor[int]):
        @handler(read_only=True)
        async def items(self) -> AsyncIterator[int]:
            yield 1

    assert inspect.isasyncgenfunction(Good.items)


@pytest.mark.parametrize("schema", [0, -1, True, "2", 1 << 31])
def test_schema_is_a_number(schema: Any) -> None:
    with pytest.raises(TypeError, match="schema"):
        type("Bad", (Of,), {"schema": schema})


def test_state_is_no_message() -> None:
    with pytest.raises(TypeError, match=r"Bad\.state.*choose another"):

        class Bad(DurableActor[int]):  # pyright: ignore[reportUnusedClass]
            async def state(self) -> int:  # type: ignore[override]
                return 1


def test_migrate_is_a_plain_method() -> None:
    with pytest.raises(TypeError, match=r"Bad\.migrate is a plain method"):

        class Bad(DurableActor[int]):  # pyright: ignore[reportUnusedClass]
            async def migrate(self, old: Any, schema: int) -> Any:
                return old


@pytest.mark.parametrize("when", [datetime(2030, 1, 1), "soon", True, None, 1e13, float("nan")])
def test_at_takes_a_point_in_time(when: Any) -> None:
    with pytest.raises(TypeError, match="At"):
        At(when)


def test_at_is_unix_seconds() -> None:
    assert At(datetime(1970, 1, 2, tzinfo=UTC)).seconds == 86400.0
    assert At(5).seconds == 5.0


@pytest.mark.parametrize("arguments", [(0,), (-1,), ("1",), (True,), (float("nan"),), (1, "never")])
def test_every_takes_a_period(arguments: Any) -> None:
    with pytest.raises(TypeError, match="Every"):
        Every(*arguments)
