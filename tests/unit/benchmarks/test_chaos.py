"""What is read off the asks and effects of a cluster under faults, and that it can go wrong."""

from __future__ import annotations

import math

from benchmarks.chaos.figures import Ask, Move, Pauses, epochs_gone_back, quantile
from benchmarks.chaos.moves import Moved


def ask(key: int, sent: float, began: float, ended: float, epoch: int = 1) -> Ask:
    return Ask(key, f"{key}.{sent}", sent, ended, 1, epoch, began, ended, None)


def test_quantiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert quantile(values, 0.5) == 50
    assert quantile(values, 0.99) == 99
    assert quantile(values, 1) == 100
    assert quantile([3.0], 0.01) == 3.0
    assert math.isnan(quantile([], 0.5))


def test_an_actor_pauses_from_when_it_is_asked_or_has_ended_its_turn() -> None:
    asks = [
        ask(1, sent=5.0, began=5.25, ended=5.5, epoch=2),
        ask(1, sent=1.0, began=1.0, ended=2.0),
        ask(1, sent=1.5, began=2.0, ended=3.0),  # waits for the turn before it only
        ask(1, sent=3.5, began=3.75, ended=4.0),
        ask(2, sent=3.5, began=9.0, ended=9.0),  # the first turn that is known of a key is no pause
        Ask(2, "2.f", 9.0, 9.5, None, None, None, None, "Unreachable"),
    ]
    pauses = Pauses.of(asks)
    assert pauses.others == [Move(1, 2.0, 0.0), Move(1, 3.75, 0.25)]
    assert pauses.moves == [Move(1, 5.25, 0.25)]


def test_epochs_that_go_back_are_seen() -> None:
    effects = [(1.0, 7, 1, 10), (1.1, 8, 5, 10), (1.2, 7, 2, 11), (1.3, 7, 2, 11)]
    assert epochs_gone_back(effects) == []
    [wrong] = epochs_gone_back([*effects, (1.5, 7, 1, 10)])
    assert wrong == "key 7: epoch 1 of process 10 0.200 s after epoch 2 of process 11"


def test_calls_that_are_lost_or_handled_twice_are_counted() -> None:
    rows = [[1, "a", 1.0, 2.0, 1, 1, 1.0, 2.0, None], [1, "b", 1.0, 2.0, None, None, None, None, "Unreachable"]]
    moved = Moved()
    moved.add({"rows": rows, "told": ["c"], "refused": ["d"]}, ["", "", "a", "c"])
    assert (moved.lost, moved.twice, moved.refused, len(moved.failed)) == (0, 0, 1, 1), "what failed may be lost"
    moved.add({"rows": rows, "told": ["c"], "refused": []}, ["a", "a"])
    assert (moved.lost, moved.twice) == (1, 1)
