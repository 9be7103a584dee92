"""Figures: what was measured, what was to be, and how they are read off what the nodes say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .actors import Effect

__all__ = ["Ask", "Figure", "Move", "Pauses", "epochs_gone_back", "quantile", "seconds"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table; `is_met` is None where it could not be measured."""

    what: str
    measured: str
    target: str
    is_met: bool | None


@dataclass(frozen=True, slots=True)
class Ask:
    """An ask and what became of it; instants are those of the machine's monotonic clock.

    Attributes:
        key: Of the worker.
        call: Names it among all.
        sent: When it was sent.
        replied: When the reply, or the error, was there.
        pid: The process where its turn ran; None, as all below, if it failed.
        epoch: Of the activation.
        began: When its turn began.
        ended: When its turn ended.
        error: Why it failed.
    """

    key: int
    call: str
    sent: float
    replied: float
    pid: int | None
    epoch: int | None
    began: float | None
    ended: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Move:
    """How long an actor kept its asker waiting, and when the turn began that it was waiting for."""

    key: int
    at: float
    pause: float


@dataclass(slots=True)
class Pauses:
    """How long actors kept their askers waiting, other than by taking turns.

    An ask waits from when it was sent, or from when the turn before it had ended if that was later, until
    its own turn begins. The first ask at a new activation tells what the move has cost.
    """

    moves: list[Move] = field(default_factory=list[Move])
    others: list[Move] = field(default_factory=list[Move])

    @classmethod
    def of(cls, asks: Iterable[Ask]) -> Pauses:
        """Read them off the asks that were answered, of any keys and in any order."""
        found = cls()
        last: dict[int, tuple[float, int]] = {}
        for ask in sorted((ask for ask in asks if ask.began is not None), key=lambda ask: ask.began or 0.0):
            assert ask.began is not None, "the others were left out"
            assert ask.ended is not None
            assert ask.epoch is not None
            if ask.key in last:
                ended, epoch = last[ask.key]
                waited = Move(ask.key, ask.began, max(0.0, ask.began - max(ask.sent, ended)))
                (found.others if epoch == ask.epoch else found.moves).append(waited)
            last[ask.key] = ask.ended, ask.epoch
        return found


def epochs_gone_back(effects: Sequence[Effect]) -> list[str]:
    """Return each effect that arrived after one of a later epoch of the same key, in words."""
    latest: dict[int, Effect] = {}
    wrong: list[str] = []
    for effect in effects:
        at, key, epoch, pid = effect
        before = latest.get(key, effect)
        if epoch < before[2]:
            later = f"{at - before[0]:.3f} s after epoch {before[2]} of process {before[3]}"
            wrong.append(f"key {key}: epoch {epoch} of process {pid} {later}")
        else:
            latest[key] = effect
    return wrong


def quantile(values: Sequence[float], share: float) -> float:
    """Return the least value that so large a share does not exceed; nan of none."""
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)] if values else math.nan


def seconds(values: Sequence[float]) -> str:
    """Return quantiles for the table."""
    if not values:
        return "nothing was measured"
    p50, p99 = quantile(values, 0.5), quantile(values, 0.99)
    return f"p50 {p50:.2f} s, p99 {p99:.2f} s, slowest {max(values):.2f} s"


def asks_of(told: dict[str, Any]) -> list[Ask]:
    """Return the asks that a node process reports."""
    return [Ask(*row) for row in told["rows"]]
