"""The benchmarks run: within a process, between two, and what they cannot do they say."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from benchmarks.steps import STEPS


def bench(*args: str, peers: str = "") -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "benchmarks", *args, "--peers", peers]
    return subprocess.run(whole, capture_output=True, text=True, timeout=60)


def command(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "benchmarks", *args], capture_output=True, text=True, timeout=90)


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
    assert (
        "no such workload: L9; there are L1 L2 L3 R1 R1s R1p R2 R3 R4 S1 N1 N2 W1 W2 F1 K1 M1 E1 E1s E2 E3 E4 H1"
        in done.stderr
    )


def test_asks_through_others_suspended_turns_streams_and_crowds_are_measured() -> None:
    done = bench("N1", "N2", "W1", "W2", "F1", "K1", "--rounds", "1", "--scale", "0.002", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["work"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert list(rows) == ["N1", "N2", "W1", "W2", "F1", "K1"]
    for row in rows.values():
        assert row["errors"] == []
        assert row["ratio_general"] > 0


def test_a_peer_that_is_not_here_is_named_with_the_reason(tmp_path: Path) -> None:
    env = {**os.environ, "PEERS_HOME": str(tmp_path), "RINGCAST_PEER_SCRIPTS": str(tmp_path)}
    args = ["-m", "benchmarks", "L2", "--rounds", "1", "--scale", "0.005", "--peers", "pykka", "--markdown"]
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert "* pykka: not measured, its script is not beside the checkout" in done.stdout


def test_a_peer_is_measured_by_its_script(tmp_path: Path) -> None:
    script = tmp_path / "run_all.py"
    script.write_text(
        """import json, os, sys
line = {"workload": sys.argv[1], "ops_s": 4321.0 * int(os.environ["PEERS_RUNS"])}
print(json.dumps(line if sys.argv[1] == "pykka:L2" else {"errors": [{"error": "exit 1", "tail": "no luck"}]}))
"""
    )
    python = tmp_path / "pykka" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    env = {**os.environ, "PEERS_HOME": str(tmp_path), "RINGCAST_PEER_SCRIPTS": str(tmp_path)}
    args = ["-m", "benchmarks", "L2", "L3", "--rounds", "2", "--scale", "0.005", "--peers", "pykka", "--markdown"]
    done = subprocess.run([sys.executable, *args], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert "| 4,321<br>x " in done.stdout
    assert "* pykka, L3: not measured, exit 1: no luck" in done.stdout


def test_unknown_peer_is_refused_with_those_that_are() -> None:
    done = bench("L2", peers="akka")
    assert done.returncode == 2
    assert "no such peer: akka; there are erlang casty" in done.stderr


def test_a_profile_divides_all_of_an_operation_among_its_steps() -> None:
    done = command("profile", "R2", "--scale", "0.5")
    assert done.returncode == 0, done.stderr
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "|" in line]
    columns = {line[0]: [float(cell) for cell in line[1:5]] for line in lines[2:]}
    for column in range(4):
        parts = sum(values[column] for name, values in columns.items() if name in STEPS)
        assert parts == pytest.approx(columns["**all**"][column], abs=0.1)
    assert columns["pack"][0] > 0
    assert columns["turn"][1] > 0


def test_start_up_is_measured_against_its_targets() -> None:
    done = command("startup", "--rounds", "1")
    assert done.returncode in (0, 1), done.stderr
    assert "| a second node, until both have it in their view |" in done.stdout
    assert "by package: ringcast" in done.stdout


def test_overload_accounts_for_every_message() -> None:
    done = command("overload", "slow receivers, told", "--seconds", "0.5")
    assert done.returncode in (0, 1), done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| slow receivers, told")]
    assert [row[1].split(" x ")[0] for row in rows] == ["0.5", "1", "2", "5"]
    assert [row[7] for row in rows] == ["0"] * 4, "silent"


def test_scale_draws_its_curves(tmp_path: Path) -> None:
    page = tmp_path / "bench.md"
    done = command("scale", "members", "--sizes", "2,3", "--page", str(page))
    assert done.returncode == 0, done.stderr
    assert "![members](pictures/members.svg)" in page.read_text()
    assert (tmp_path / "pictures" / "members-traffic.svg").read_text().startswith("<svg ")
    for part, sizes in (("join", "200"), ("actors", "200,400"), ("simulated", "3,4")):
        done = command("scale", part, "--sizes", sizes)
        assert done.returncode == 0, done.stderr
