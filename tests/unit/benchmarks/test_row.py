"""What a row of the benchmarks says about numbers that are known."""

import pytest

from benchmarks.row import WORKS, Row
from benchmarks.workloads import Measurement, payload

BY_NAME = {work.name: work for work in WORKS}


def rated(*rates: float) -> list[Measurement]:
    return [Measurement(count=1000, seconds=1000 / rate) for rate in rates]


def test_ratio_of_rates_is_that_of_the_medians() -> None:
    row = Row(BY_NAME["R2"], limit=rated(100, 200, 900), ours={"simple": rated(200), "general": rated(50, 110, 120)})
    assert row.ratio("simple") == pytest.approx(1.0)
    assert row.ratio("general") == pytest.approx(0.55)
    assert row.met() is False


def test_both_handlers_have_to_reach_their_targets() -> None:
    def judged(simple: float, general: float) -> bool | None:
        return Row(BY_NAME["R2"], limit=rated(100), ours={"simple": rated(simple), "general": rated(general)}).met()

    assert judged(100, 90) is True
    assert judged(99, 90) is False
    assert judged(100, 89) is False
    assert BY_NAME["R2"].aim == ">= 1 and 0.9"
    assert BY_NAME["R4"].aim == ">= 2"


def test_erlang_is_a_target_where_it_was_measured() -> None:
    def against(erlang: list[float]) -> Row:
        peers = {"erlang": erlang} if erlang else {}
        return Row(BY_NAME["R2"], limit=rated(100), ours={"simple": rated(120), "general": rated(100)}, peers=peers)

    assert against([]).met() is True
    assert against([40.0]).times_erlang() == pytest.approx(3.0)
    assert against([39.9]).met() is True
    assert against([41.0]).met() is False


def test_latency_is_met_from_above() -> None:
    def timed(p50_us: float) -> list[Measurement]:
        return [Measurement(1, 1.0, p50_us=p50_us)]

    row = Row(BY_NAME["R1s"], limit=timed(30), ours={"simple": timed(30), "general": timed(40)})
    assert row.met() is True
    assert Row(BY_NAME["R1s"], limit=timed(30), ours={"simple": timed(30), "general": timed(41)}).met() is False
    assert Row(BY_NAME["R1p"], limit=timed(30), ours={"simple": timed(30), "general": timed(61)}).met() is None


def test_actors_have_to_be_quick_and_small() -> None:
    def activated(rate: float, size: int) -> Row:
        runs = [Measurement(1000, 1000 / rate, bytes_per_actor=size)]
        return Row(BY_NAME["S1"], ours={"simple": runs, "general": runs})

    assert activated(130_000, 1000).met() is True
    assert activated(130_000, 1100).met() is False
    assert activated(110_000, 1000).met() is False


def test_small_asks_are_quick_beside_large_messages_that_move() -> None:
    def beside(p99_us: float, mb_s: float) -> Row:
        runs = [Measurement(1, 1.0, p99_us=p99_us, beside_mb_s=mb_s)]
        return Row(BY_NAME["M1"], limit=[Measurement(1, 1.0, p99_us=100)], ours={"simple": runs, "general": runs})

    assert beside(300, 200).ratio("general") == pytest.approx(3.0)
    assert beside(300, 200).met() is True
    assert beside(301, 200).met() is False
    assert beside(100, 0).met() is False


def test_only_the_mixed_row_is_held_against_itself() -> None:
    assert [work.name for work in WORKS if work.is_held_against_itself] == ["M1"]


def test_tls_is_held_against_what_is_in_clear() -> None:
    assert [work.name for work in WORKS if work.is_held_against_clear] == ["E1", "E1s", "E2", "E3", "E4"]
    row = Row(BY_NAME["E2"], limit=rated(100), ours={"simple": [], "general": rated(91)})
    assert row.met() is True
    assert Row(BY_NAME["E2"], limit=rated(100), ours={"simple": [], "general": rated(89)}).met() is False


def test_nothing_measured_is_nothing_met() -> None:
    row = Row(BY_NAME["L1"], limit=rated(10))
    assert row.ratio("general") is None
    assert row.met() is None
    assert row.as_json()["general"] == []


def test_payload_has_a_number_and_32_characters() -> None:
    assert payload(7) == {"id": 7, "name": "x" * 32}
