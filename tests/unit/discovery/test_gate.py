"""The gate between two threads: leases open it, a fence shuts it until the loop has passed."""

from __future__ import annotations

import time

import pytest

from ringcast.discovery.gate import NEVER, Gate, boot_time


def test_it_is_open_as_long_as_the_lease_runs() -> None:
    gate = Gate()
    assert not gate.is_open
    assert gate.grant(boot_time() + 60)
    assert gate.is_open
    assert abs((gate.until_monotonic - time.monotonic()) - (gate.until - boot_time())) < 0.1
    assert not gate.grant(boot_time() + 70), "it was open already"
    assert not gate.grant(NEVER)
    assert not gate.is_open
    assert not gate.grant(boot_time() - 1), "a lease that is over opens nothing"
    assert gate.grant(boot_time() + 60)


def test_a_lease_of_the_next_run_waits_until_the_loop_has_passed() -> None:
    gate = Gate()
    gate.grant(boot_time() + 60)
    gate.shut()
    assert (gate.until, gate.until_monotonic) == (NEVER, NEVER)
    assert not gate.grant(boot_time() + 60)
    assert not gate.is_open
    gate.passed()
    assert gate.is_open


def test_as_often_as_it_was_shut_it_has_to_be_passed() -> None:
    gate = Gate()
    gate.shut()
    gate.shut()
    gate.grant(boot_time() + 60)
    gate.passed()
    assert not gate.is_open
    gate.passed()
    assert gate.is_open
    # What was granted before the last run was over is not its successor's.
    gate.shut()
    gate.passed()
    assert not gate.is_open


def test_where_the_system_does_not_count_sleep_the_monotonic_clock_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert abs(boot_time() - time.monotonic()) < 0.1
