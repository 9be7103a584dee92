"""Which handlers only move values, and so need nothing around their turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import pytest

from ringcast import Actor
from ringcast.actors.actor import actor_type
from ringcast.actors.moves import only_moves


class Shelf(Actor):
    limit = 3
    _price = cached_property(lambda self: 1)

    def __init__(self) -> None:
        self._books = 0

    @property
    def _count(self) -> int:
        return self._books

    async def _other(self) -> int:
        return self._books

    async def books(self) -> int:
        """Return them."""
        return self._books

    async def limited(self) -> int:
        return self.limit

    async def echo(self, what: object) -> object:
        return what

    async def nothing(self) -> None:
        pass

    async def put(self, books: int, *_: int, why: str = "new") -> None:
        self._books = books

    async def swap(self, books: int) -> int:
        before = self._books
        self._books = books
        return before

    async def add(self, books: int) -> None:
        self._books += books

    async def item(self, books: dict[str, int]) -> int:
        return books["n"]

    async def counted(self) -> int:
        return self._count

    async def priced(self) -> int:
        return self._price

    async def of_another(self, shelf: Any) -> object:
        return shelf.books

    async def caller(self) -> object:
        return self.context.caller

    async def is_empty(self) -> bool:
        return not self._books

    async def asks(self) -> int:
        return await self._other()

    async def calls(self) -> int:
        return len([])

    async def not_itself(self, other: Any) -> int:
        self = other
        return self._books

    async def lasting(self) -> Callable[[], int]:
        return lambda: self._books

    async def raises(self) -> None:
        raise ValueError


MOVE = {"books", "limited", "echo", "nothing", "put", "swap"}


@pytest.mark.parametrize("name", sorted(actor_type(Shelf).messages))
def test_a_handler_that_could_run_other_code_is_not_taken_for_one_that_moves_values(name: str) -> None:
    assert actor_type(Shelf).messages[name].only_moves is (name in MOVE)


def test_a_class_that_says_how_its_attributes_are_found_or_kept_has_none() -> None:
    class Finding(Shelf):
        def __getattr__(self, name: str) -> int:
            return 1

    class Watching(Shelf):
        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__(name)

    class Keeping(Shelf):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)

    for cls in (Finding, Watching, Keeping):
        assert not any(message.only_moves for message in actor_type(cls).messages.values())


def test_a_subclass_that_makes_a_property_of_an_attribute_is_looked_at_by_itself() -> None:
    class Guarded(Shelf):
        @property
        def _books(self) -> int:
            return 1

        @_books.setter
        def _books(self, books: int) -> None: ...

    messages = actor_type(Guarded).messages
    assert {name for name in MOVE if messages[name].only_moves} == {"limited", "echo", "nothing"}


def test_slots_are_plain_attributes() -> None:
    class Slotted(Actor):
        __slots__ = ("_books",)

        _books: int

        async def books(self) -> int:
            return self._books

    assert actor_type(Slotted).messages["books"].only_moves


def test_what_is_no_coroutine_function_of_python_is_not() -> None:
    def plain(self: object) -> int:
        return 1

    class Callable_:
        def __call__(self, actor: object) -> int:
            return 1

    async def without_self() -> int:
        return 1

    for one in (plain, Callable_(), without_self, None):
        assert not only_moves(one, Shelf)
