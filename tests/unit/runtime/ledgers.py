"""Durable actors for tests, and nodes for them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pydantic

from ringcast import (
    Actor,
    At,
    Backoff,
    DurableActor,
    Every,
    Node,
    NodeConfig,
    OneForOne,
    Seeds,
    handler,
    props,
    tell,
)
from ringcast.runtime.stores import Store
from tests.unit.runtime.places import LOCAL, Place, gates, new_cluster


@dataclass
class Ledger:
    """A state."""

    total: int = 0
    entries: list[int] = field(default_factory=list[int])


class Witness(Actor, name="test.Witness"):
    """Writes down what it is told."""

    async def note(self, what: str) -> None:
        gates.seen.append(what)


class Book(DurableActor[Ledger], name="test.Book"):
    """Does whatever a test needs of a durable actor."""

    def __init__(self) -> None:
        self.other = 0

    async def add(self, n: int) -> int:
        self.state.total += n
        self.state.entries.append(n)
        self.other += 1
        return self.state.total

    async def add_and_raise(self, n: int) -> None:
        await self.add(n)
        raise LookupError("no")

    async def add_and_tell(self, n: int, what: str, fails: bool = False) -> int:
        witness = self.context.ref(Witness, "w")
        await tell(witness.note, f"{what} 1")
        await self.add(n)
        await tell(witness.note, f"{what} 2")
        if fails:
            raise LookupError("no")
        return self.state.total

    async def add_save_and_raise(self, n: int, what: str) -> None:
        witness = self.context.ref(Witness, "w")
        await self.add(n)
        await tell(witness.note, f"{what} saved")
        await self.context.save()
        await self.add(1000)
        await tell(witness.note, f"{what} not saved")
        raise LookupError("no")

    async def later(self, seconds: float, what: str, fails: bool = False) -> None:
        self.state.total += 1
        self.context.after(seconds, self.ring, what)
        gone = self.context.after(seconds, self.ring, "cancelled")
        gone.cancel()
        if fails:
            raise LookupError("no")

    async def ring(self, what: str) -> None:
        gates.seen.append(what)

    async def bear(self, name: str, fails: bool = False) -> Any:
        self.state.total += 1
        child = await self.context.spawn(props(Child, [name]), name=name)
        await tell(child.hello, name)
        if fails:
            raise LookupError("no")
        return child

    async def nothing(self) -> int:
        return self.state.total

    async def replace(self, state: Any) -> None:
        self.state = state

    async def clear(self, n: int = 0, fails: bool = False) -> Ledger:
        await self.context.delete_state()
        if n:
            await self.add(n)
        if fails:
            raise LookupError("no")
        return self.state

    @handler(read_only=True)
    async def read(self) -> Ledger:
        return self.state

    @handler(read_only=True)
    async def read_and_save(self) -> None:
        await self.context.save()

    @handler(cancellable=True)
    async def add_slowly(self, n: int, gate: str) -> int:
        await self.add(n)
        await gates.passing(gate)
        return self.state.total

    async def unstorable(self) -> object:
        self.state.total += 1
        return object()

    async def grow(self, size: int) -> None:
        self.state.entries = [0] * size

    async def epoch(self) -> int:
        return self.context.epoch


class Child(Actor, name="test.BookChild"):
    """Spawned by a book."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    async def hello(self, name: str) -> None:
        gates.seen.append(f"{self.names[0]} {name}")


class Model(pydantic.BaseModel):
    """A state."""

    total: int = 0
    names: dict[str, list[int]] = {}


class Struct(msgspec.Struct):
    """A state."""

    total: int = 0
    names: dict[str, list[int]] = msgspec.field(default_factory=dict[str, list[int]])


class OfModel(DurableActor[Model], name="test.OfModel"):
    async def add(self, n: int) -> int:
        self.state.total += n
        self.state.names.setdefault("a", []).append(n)
        return self.state.total

    @handler(read_only=True)
    async def read(self) -> Any:
        return self.state


class OfStruct(DurableActor[Struct], name="test.OfStruct"):
    async def add(self, n: int) -> int:
        self.state.total += n
        self.state.names.setdefault("a", []).append(n)
        return self.state.total

    @handler(read_only=True)
    async def read(self) -> Any:
        return self.state


class OfDict(DurableActor[dict[str, Any]], name="test.OfDict"):
    async def add(self, n: int) -> int:
        self.state["total"] = self.state.get("total", 0) + n
        return int(self.state["total"])

    @handler(read_only=True)
    async def read(self) -> Any:
        return self.state


class OfInt(DurableActor[int], name="test.OfInt"):
    async def add(self, n: int) -> int:
        self.state += n
        return self.state

    @handler(read_only=True)
    async def read(self) -> Any:
        return self.state


class Clock(DurableActor[list[str]], name="test.Clock", supervision=OneForOne(backoff=Backoff(first=0.01))):
    """Is reminded."""

    async def at(self, name: str, when: float, what: str) -> None:
        await self.context.remind(name, At(when), self.ring, what)

    async def every(self, name: str, seconds: float, what: str, misfire: Any = "once") -> None:
        await self.context.remind(name, Every(seconds, misfire), self.ring, what)

    async def failing(self, name: str, when: float) -> None:
        await self.context.remind(name, At(when), self.fail_once)

    async def badly(self) -> None:
        await self.context.remind("x", At(0.0), self.ring, "never")
        raise LookupError("no")

    async def forget(self, name: str) -> bool:
        return await self.context.forget(name)

    async def ring(self, what: str) -> None:
        self.state.append(what)
        gates.seen.append(what)

    async def fail_once(self) -> None:
        self.state.append("tried")
        gates.seen.append("tried")
        if gates.seen.count("tried") == 1:
            raise LookupError("the first time")

    async def wrong(self, which: int) -> None:
        context: Any = self.context
        match which:
            case 0:
                await context.remind("", At(1), self.ring, "x")
            case 1:
                await context.remind("x", 5.0, self.ring, "x")
            case 2:
                await context.remind("x", At(1), print)
            case 3:
                await context.remind("x", At(1), self.read)
            case _:
                await context.remind("x", At(1), self.ring, what="x")

    @handler(read_only=True)
    async def read_and_remind(self) -> None:
        await self.context.remind("x", At(1), self.ring, "x")

    @handler(read_only=True)
    async def read(self) -> list[str]:
        return self.state


@asynccontextmanager
async def books(where: str, store: Store | str, **config: Any) -> AsyncIterator[Place]:
    """Start the node, or the nodes, of a place, with a store."""
    cluster = new_cluster()
    config.setdefault("drain_timeout", 0.5)
    config.setdefault("store_timeout", 0.2)
    settings = NodeConfig(**config)
    async with Node(cluster=cluster, discovery=[], store=store, config=settings) as owner:
        if where == LOCAL:
            yield Place(owner, owner)
            return
        seeds = Seeds([owner.address])
        async with Node(cluster=cluster, discovery=[seeds], hosts=[], store=store, config=settings) as caller:
            yield Place(caller, owner)


class Strict(msgspec.Struct):
    """A state that lets itself be spoilt, and cannot be made again then."""

    total: int = 0

    def __post_init__(self) -> None:
        if self.total < 0:
            raise ValueError("negative")


class OfStrict(DurableActor[Strict], name="test.OfStrict"):
    async def set(self, n: int) -> int:
        self.state.total = n
        return n

    async def fail(self) -> None:
        raise LookupError("no")

    @handler(read_only=True)
    async def read(self) -> int:
        return self.state.total
