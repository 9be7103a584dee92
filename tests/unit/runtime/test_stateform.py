"""States of other forms: what loads, what is changed, and what is said when neither is possible."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pydantic
import pytest

from ringcast.errors import NOT_SENT, StoreError
from ringcast.runtime.stateform import StateForm


@dataclass
class One:
    total: int = 0


@dataclass(slots=True)
class Two:
    total: int
    names: list[str] = field(default_factory=list[str])


class OneModel(pydantic.BaseModel):
    total: int = 0


class TwoModel(pydantic.BaseModel):
    total: int
    names: list[str] = []


class OneStruct(msgspec.Struct):
    total: int = 0


class TwoStruct(msgspec.Struct):
    total: int
    names: list[str] = []


PAIRS: list[tuple[Any, Any]] = [(One, Two), (OneModel, TwoModel), (OneStruct, TwoStruct)]


class Actor:
    """Changes states as a test says."""

    def __init__(self, change: Any = None) -> None:
        self.change = change
        self.seen: Any = None

    def migrate(self, old: Any, schema: int) -> Any:
        self.seen = old, schema
        return old if self.change is None else self.change(old)


def five(old: Any) -> Any:
    return 5


def with_an_odd_field(old: Any) -> Any:
    return {**old, "odd": 1}


def never(old: Any) -> Any:
    raise ZeroDivisionError


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_a_field_that_was_added_has_its_default(one: Any, two: Any) -> None:
    content = StateForm(one, 1).content(one(total=5))
    assert StateForm(two, 1).state(content, 1, Actor()) == two(total=5)


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_a_field_that_is_gone_is_named(one: Any, two: Any) -> None:
    content = StateForm(two, 1).content(two(total=5))
    with pytest.raises(
        StoreError, match=f"does not load as {one.__name__} of schema 1: it has a field 'names'"
    ) as caught:
        StateForm(one, 1).state(content, 1, Actor())
    assert caught.value.certainty is NOT_SENT


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_a_field_that_is_missing_is_named(one: Any, two: Any) -> None:
    content = StateForm(one, 1).content(one(total=5))
    fields = content.get("__dict__", content)
    del fields["total"]
    with pytest.raises(StoreError, match="total"):
        StateForm(two, 1).state(content, 1, Actor())


@pytest.mark.parametrize(("one", "two"), PAIRS)
@pytest.mark.parametrize("is_whole", [True, False])
def test_migrate_changes_fields(one: Any, two: Any, is_whole: bool) -> None:
    content = StateForm(two, 1).content(two(total=5, names=["a"]))

    def change(old: Any) -> Any:
        return one(total=old["total"]) if is_whole else {"total": old["total"]}

    actor = Actor(change)
    assert StateForm(one, 3).state(content, 1, actor) == one(total=5)
    assert actor.seen == ({"total": 5, "names": ["a"]}, 1)


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_migrate_that_returns_nonsense_is_named(one: Any, two: Any) -> None:
    content = StateForm(one, 1).content(one(total=5))
    for change in (five, with_an_odd_field, never):
        with pytest.raises(StoreError, match=r"of schema 2: .*(migrate returned 5|odd|ZeroDivisionError)"):
            StateForm(two, 2).state(content, 1, Actor(change))


def test_what_newer_code_has_written_is_not_touched() -> None:
    with pytest.raises(StoreError, match=r"schema 3 is stored.*schema 2: it was written by newer code"):
        StateForm(One, 2).state({"total": 1}, 3, Actor())


def test_plain_values_are_as_they_are() -> None:
    form = StateForm(dict[str, int], 2)
    assert form.content({"a": 1}) == {"a": 1}
    assert form.state({"a": 1}, 2, Actor()) == {"a": 1}
    assert form.state({"a": 1}, 1, Actor(with_an_odd_field)) == {"a": 1, "odd": 1}


def test_a_record_that_is_none_is_refused() -> None:
    with pytest.raises(StoreError, match="no record"):
        StateForm(One, 1).state([1], 1, Actor())


def test_what_is_no_field_is_not_lost_silently() -> None:
    state: Any = One()
    state.odd = 1
    with pytest.raises(TypeError, match="One has no field 'odd'"):
        StateForm(One, 1).content(state)


def test_extra_fields_of_a_model_that_allows_them_are_kept() -> None:
    class Open(pydantic.BaseModel, extra="allow"):
        total: int = 0

    form = StateForm(Open, 1)
    state = Open(total=1, odd=2)  # type: ignore[call-arg]
    assert form.state(form.content(state), 1, Actor()) == state
