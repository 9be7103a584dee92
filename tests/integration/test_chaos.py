"""``make chaos`` prints its figures; test_faults and test_partitions do what the scenarios do."""

from __future__ import annotations

import subprocess
import sys


def chaos(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.chaos", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_scenario_ends_by_itself_and_prints_its_figures() -> None:
    done = chaos("i", "--rounds", "1", "--markdown")
    assert done.returncode in (0, 1), done.stderr
    assert "not finished" not in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 2


def test_what_there_is_not_is_refused() -> None:
    done = chaos("z")
    assert done.returncode == 2
    assert "there is no z" in done.stderr
