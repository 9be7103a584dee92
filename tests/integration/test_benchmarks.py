"""The benchmarks run: within a process, between two, and what they cannot do they say."""

import json
import platform
import subprocess
import sys
from importlib.metadata import version


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", *args], capture_output=True, text=True, timeout=60)


def test_every_kind_of_workload_is_measured() -> None:
    done = bench("L1", "R2", "S1", "M1", "--rounds", "1", "--scale", "0.005", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["work"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(rows) == ["L1", "R2", "S1", "M1"]
    for row in rows.values():
        assert len(row["simple"]) == len(row["general"]) == 1
        assert row["errors"] == []
    assert rows["R2"]["ratio_general"] > 0
    assert len(rows["M1"]["limit"]) == 2, "the idle connection of each handler's process"
    assert rows["M1"]["ratio_general"] > 0


def test_what_tls_costs_is_measured() -> None:
    done = bench("E2", "E4", "H1", "--rounds", "1", "--scale", "0.01", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["work"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(rows) == ["E2", "E4", "H1"]
    assert all(row["errors"] == [] for row in rows.values())
    assert len(rows["E2"]["limit"]) == len(rows["E2"]["general"]) == 1
    assert rows["E2"]["simple"] == []
    assert rows["E2"]["ratio_general"] > 0
    assert rows["H1"]["general"][0] > 0.1, "milliseconds: there is a handshake in each"


def test_large_messages_move_beside_small_ones() -> None:
    done = bench("M1", "--rounds", "1", "--scale", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["beside_mb_s"]["general"] > 0


def test_a_page_gets_the_table_and_what_it_was_measured_with() -> None:
    done = bench("L2", "--rounds", "1", "--scale", "0.005", "--markdown")
    assert done.returncode == 0, done.stderr
    head, _, row, _, machine = done.stdout.splitlines()
    assert head.startswith("| work | unit | limit |")
    assert row.startswith("| L2 | /s | ")
    assert f"{platform.python_implementation()} {platform.python_version()}" in machine
    assert f"uvloop {version('uvloop')}, msgpack {version('msgpack')}" in machine


def test_unknown_workload_is_refused_with_those_that_are() -> None:
    done = bench("L9")
    assert done.returncode == 2
    assert "no such workload: L9; there are L1 L2 L3 R1 R1s R1p R2 R3 R4 S1 M1 E1 E1s E2 E3 E4 H1" in done.stderr
