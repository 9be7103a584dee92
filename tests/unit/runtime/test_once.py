"""Idempotency keys."""

from __future__ import annotations

import asyncio

import pytest

from ringcast import Actor, CallError, submit, using
from ringcast.runtime import once
from tests.unit.runtime.places import Place, eventually, gates, raised


class Till(Actor):
    def __init__(self) -> None:
        self._total = 0
        self._list: list[int] = []

    async def add(self, n: int) -> int:
        self._total += n
        return self._total

    async def sub(self, n: int) -> int:
        self._total -= n
        return self._total

    async def append(self, n: int) -> list[int]:
        self._list.append(n)
        return self._list

    async def slow(self, gate: str) -> int:
        await gates.passing(gate)
        self._total += 1
        return self._total

    async def fails_first(self) -> int:
        self._total += 1
        if self._total == 1:
            raise LookupError
        return self._total

    async def total(self) -> int:
        return self._total


async def test_a_retry_gets_the_first_reply(place: Place) -> None:
    till = using(place.node.ref(Till, "t"), idempotency_key="a")
    assert [await till.add(2) for _ in range(3)] == [2, 2, 2]
    assert await using(till, idempotency_key="b").add(2) == 4
    assert await place.node.ref(Till, "t").total() == 4


async def test_there_is_an_end_to_what_an_activation_remembers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "REMEMBERED_MAX", 3)
    till = place.node.ref(Till, "t")
    running = submit(using(till, idempotency_key="first").slow, "gate")
    await gates.entered("gate")
    others = [submit(using(till, idempotency_key=f"later {n}").add, 1) for n in range(5)]
    await eventually(lambda: len(remembered_by(place)) == 6)  # none of them is done
    gates.let_go("gate")
    assert [await running, *[await other for other in others]] == [1, 2, 3, 4, 5, 6]
    for n in range(3):
        await using(till, idempotency_key=f"last {n}").add(1)
    assert [key for _, key in remembered_by(place)] == ["last 0", "last 1", "last 2"]
    assert await using(till, idempotency_key="later 4").add(1) == 10, "it was forgotten"


def remembered_by(place: Place) -> dict[tuple[str, str], once.Remembered]:
    (cell,) = place.owner._host.kinds.named(f"{__name__}:Till").cells.values()
    return cell.remembered or {}


async def test_the_scope_is_the_actor_and_the_method(place: Place) -> None:
    till = using(place.node.ref(Till, "t"), idempotency_key="a")
    assert await till.add(5) == 5
    assert await till.sub(1) == 4
    assert await using(place.node.ref(Till, "other"), idempotency_key="a").add(5) == 5


async def test_a_remembered_reply_does_not_change(place: Place) -> None:
    till = using(place.node.ref(Till, "t"), idempotency_key="a")
    first = await till.append(1)
    await place.node.ref(Till, "t").append(2)
    first.append(9)
    assert await till.append(1) == [1]


async def test_a_duplicate_waits_for_the_first(place: Place) -> None:
    till = using(place.node.ref(Till, "t"), idempotency_key="a")
    tasks = [submit(till.slow, "gate") for _ in range(3)]
    await gates.entered("gate")
    gates.let_go("gate")
    assert await asyncio.gather(*tasks) == [1, 1, 1]


async def test_other_arguments_are_an_error(place: Place) -> None:
    till = using(place.node.ref(Till, "t"), idempotency_key="a")
    assert await till.add(2) == 2
    error = await raised(till.add(3))
    assert isinstance(error, CallError)
    assert "other arguments" in str(error)
    assert await till.total() == 2


async def test_exceptions_are_not_remembered(place: Place) -> None:
    till = using(place.node.ref(Till, "t"), idempotency_key="a")
    assert isinstance(await raised(till.fails_first()), LookupError)
    assert [await till.fails_first(), await till.fails_first()] == [2, 2]


async def test_keys_are_forgotten_with_the_activation(place: Place) -> None:
    till = using(place.node.ref(Till, "t"), idempotency_key="a")
    assert await till.add(2) == 2
    await till.append(1)
    await place.node.stop(till)
    assert await till.add(2) == 2
    assert await till.total() == 2


async def test_a_cancelled_first_call_does_not_take_the_duplicate_along(place: Place) -> None:
    till = using(place.node.ref(Till, "t"), idempotency_key="a")
    first, second = submit(till.slow, "gate"), submit(till.slow, "gate")
    await gates.entered("gate")
    first.cancel()
    await raised(first)
    gates.let_go("gate")
    assert await second == 1
