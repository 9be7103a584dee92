"""Our `dataclass` makes what the standard one makes."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

from ringcast.values import dataclass

Decorator = Callable[[type], Any]


def both(define: Callable[[Decorator], Any]) -> tuple[Any, Any]:
    """Return a class made by ours, and by the standard decorator."""
    ours: Any = dataclass(frozen=True, slots=True)
    theirs: Any = dataclasses.dataclass(frozen=True, slots=True)
    return define(ours), define(theirs)


def point(decorate: Decorator) -> Any:
    class Point:
        """A place."""

        x: int
        y: float = 0.5
        tags: list[str] = field(default_factory=list[str])

        @property
        def sum(self) -> float:
            return self.x + self.y

    return decorate(Point)


def one(decorate: Decorator) -> Any:
    class One:
        value: object

    return decorate(One)


def empty(decorate: Decorator) -> Any:
    class Empty:
        pass

    return decorate(Empty)


@dataclass(frozen=True, slots=True)
class Place:
    """For pickle, which looks classes up by name."""

    x: int
    y: tuple[int, ...] = ()


@pytest.mark.parametrize(
    ("define", "given"),
    [(point, (1,)), (point, (1, 2.5)), (point, (1, 2.5, ["a"])), (one, (None,)), (empty, ())],
)
def test_a_value_is_what_the_standard_one_makes_of_it(
    define: Callable[[Decorator], Any], given: tuple[Any, ...]
) -> None:
    ours, theirs = both(define)
    mine, other = ours(*given), theirs(*given)
    assert repr(mine) == repr(other)
    assert dataclasses.asdict(mine) == dataclasses.asdict(other)
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__slots__ == theirs.__slots__
    assert [(f.name, f.type) for f in dataclasses.fields(ours)] == [
        (f.name, f.type) for f in dataclasses.fields(theirs)
    ]
    assert mine == ours(*given)
    assert mine != other
    assert mine != given
    assert not hasattr(mine, "__dict__")


def test_equal_values_have_one_hash_and_what_cannot_be_hashed_says_so() -> None:
    ours, theirs = both(one)
    assert hash(ours("a")) == hash(ours("a"))
    assert ours("a") != ours("b")
    for cls in (ours, theirs):
        with pytest.raises(TypeError, match="unhashable"):
            hash(cls([]))
    no_number = float("nan")
    assert ours(no_number) == ours(no_number)  # as tuples are; the standard one of 3.13 compares field by field


def test_nothing_can_be_set_or_deleted() -> None:
    for cls in both(point):
        made = cls(1)
        with pytest.raises(FrozenInstanceError, match="cannot assign to field 'x'"):
            made.x = 2
        with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
            del made.x
        assert made.x == 1


def test_each_value_has_a_default_of_its_own() -> None:
    ours, _ = both(point)
    assert ours(1).tags is not ours(1).tags
    assert ours(1, tags=["a"]).tags == ["a"]


def test_wrong_arguments_are_named() -> None:
    ours, theirs = both(point)
    for cls in (ours, theirs):
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            cls()
        with pytest.raises(TypeError, match="unexpected keyword argument 'z'"):
            cls(1, z=2)


def test_it_is_copied_replaced_matched_and_pickled() -> None:
    place = Place(1, (2,))
    assert dataclasses.is_dataclass(Place)
    assert dataclasses.replace(place, x=3) == Place(3, (2,))
    assert copy.copy(place) == copy.deepcopy(place) == pickle.loads(pickle.dumps(place)) == place
    match place:
        case Place(x, y):
            assert (x, y) == (1, (2,))
        case _:
            pytest.fail("it matches by position")


def test_what_follows_the_constructor_is_called() -> None:
    seen: list[int] = []

    @dataclass(frozen=True, slots=True)
    class Checked:
        x: int

        def __post_init__(self) -> None:
            seen.append(self.x)

    Checked(4)
    assert seen == [4]


def test_a_value_in_itself_is_shown_once() -> None:
    ours, theirs = both(one)
    for cls in (ours, theirs):
        inner: list[object] = []
        made = cls(inner)
        inner.append(made)
        assert repr(made).endswith(".One(value=[...])")


@pytest.mark.parametrize(
    "options", [{"frozen": True}, {"slots": True}, {"frozen": True, "slots": True, "order": True}, {}]
)
def test_other_options_are_the_standard_ones(options: dict[str, bool]) -> None:
    class Point:
        x: int

    made: Any = dataclass(**options)(Point)
    assert made(1).x == 1
    assert ("__lt__" in vars(made)) is options.get("order", False)
    assert ("__dict__" in dir(made(1))) is not options.get("slots", False)
    if options.get("frozen"):
        with pytest.raises(FrozenInstanceError):
            made(1).x = 2
    else:
        made(1).x = 2


def with_base(decorate: Decorator) -> Any:
    class Wider(Place):
        z: int = 3

    return decorate(Wider)


def with_hash(decorate: Decorator) -> Any:
    class Hashed:
        x: list[int]

        def __hash__(self) -> int:
            return 7

    return decorate(Hashed)


def with_later(decorate: Decorator) -> Any:
    class Later:
        x: int
        y: int = field(init=False, default=5)

    return decorate(Later)


def with_hidden(decorate: Decorator) -> Any:
    class Hidden:
        x: int = field(repr=False)

    return decorate(Hidden)


def with_keyword(decorate: Decorator) -> Any:
    class Keyword:
        x: int
        _: dataclasses.KW_ONLY
        y: int = 1

    return decorate(Keyword)


@pytest.mark.parametrize("define", [with_base, with_hash, with_later, with_hidden, with_keyword])
def test_what_is_not_plain_is_made_by_the_standard_one(define: Callable[[Decorator], Any]) -> None:
    ours, theirs = both(define)
    assert repr(ours(1)) == repr(theirs(1))
    assert hash(ours(1)) == hash(theirs(1))
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
