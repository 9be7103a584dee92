"""The actors that play in stories of real nodes, and who is told what they do."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ringcast import Actor
from ringcast.runtime.simulation.epochs import mark

__all__ = ["Counter", "Register", "Witness", "begin", "handled", "witnessed_by"]


class Witness(Protocol):
    """Who is told, at once and wherever it happens."""

    def began(self, name: str, key: object, epoch: int) -> None:
        """A turn of an activation begins."""
        ...

    def handled(self, number: int) -> None:
        """A told message is handled."""
        ...


_witness: list[Witness] = []


@contextmanager
def witnessed_by(witness: Witness) -> Iterator[None]:
    """Tell this one while a story is told."""
    _witness.append(witness)
    try:
        yield
    finally:
        _witness.remove(witness)


def begin(actor: Actor) -> str:
    """A turn begins; return the mark of its effects."""
    name, key, epoch = type(actor).__name__, actor.context.key, actor.context.epoch
    _witness[-1].began(name, key, epoch)
    return mark(name, key, epoch)


def handled(number: int) -> None:
    """A told message is handled."""
    _witness[-1].handled(number)


class Counter(Actor):
    """Counts, and says which activation it is."""

    def __init__(self) -> None:
        self.activation = uuid.uuid4().hex
        self.count = 0

    async def add(self, pause: float = 0.0) -> tuple[str, int, str]:
        effect = begin(self)
        self.count += 1
        count = self.count
        if pause:
            await asyncio.sleep(pause)
        return self.activation, count, effect

    async def note(self, number: int) -> None:
        begin(self)
        handled(number)

    async def block(self, seconds: float) -> str:
        """Keep the loop of this node to itself, as code does that knows nothing of asyncio."""
        effect = begin(self)
        time.sleep(seconds)  # noqa: ASYNC251
        return effect

    async def fail(self) -> None:
        begin(self)
        raise RuntimeError("this actor fails, as the story has it")


class Register(Actor):
    """Holds a value."""

    def __init__(self) -> None:
        self.activation = uuid.uuid4().hex
        self.value: int | None = None

    async def read(self) -> tuple[str, int | None, str]:
        effect = begin(self)
        return self.activation, self.value, effect

    async def write(self, value: int) -> tuple[str, None, str]:
        effect = begin(self)
        self.value = value
        return self.activation, None, effect

    async def swap(self, old: int | None, new: int) -> tuple[str, bool, str]:
        effect = begin(self)
        is_old = self.value == old
        await asyncio.sleep(0)
        if is_old:
            self.value = new
        return self.activation, is_old, effect
