"""Where an actor may run: the values of ``placement=`` (a class) and ``on=`` (a spawn)."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from ringcast.values import dataclass


@dataclass(frozen=True, slots=True)
class Ring:
    """Where the consistent-hash ring says; the default."""


@dataclass(frozen=True, slots=True)
class Local:
    """On the node that spawns, and it ends with that node."""


@dataclass(frozen=True, slots=True)
class LeastLoaded:
    """On the member with the fewest live actors when it starts."""


@dataclass(frozen=True, slots=True)
class Near:
    """On the node where another actor is when it starts."""

    ref: Any


@dataclass(frozen=True, slots=True, init=False)
class Labels:
    """By the ring, among the members that carry all these labels: ``Labels(gpu="1")``."""

    wanted: tuple[tuple[str, str], ...] = field(default=())

    def __init__(self, **labels: str) -> None:
        """Name the labels that a member must carry, with their values."""
        if not labels or not all(isinstance(value, str) for value in labels.values()):
            raise TypeError('Labels takes at least one name="value", such as Labels(gpu="1")')
        object.__setattr__(self, "wanted", tuple(sorted(labels.items())))


Placement = Ring | Local | LeastLoaded | Near | Labels
