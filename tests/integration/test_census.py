"""The demo counts exactly, whatever it kills."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def census(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end."""
    command = [sys.executable, str(EXAMPLES / "census.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=150)


def report(*arguments: str) -> dict[str, Any]:
    done = census("--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_one_node_is_killed_and_the_counts_are_exact() -> None:
    found = report("--limit", "200", "--kill", "1")
    assert found["exact_match"] is True
    assert found["nodes"] == 3
    assert found["files"] == 200
    killed = [node for node in found["work"] if node["killed_after"] is not None]
    assert len(found["work"]) == 3
    assert len(killed) == 1
    assert 0 < found["pause_median"] <= found["pause_longest"]
    assert found["keys_probed"] > 0
    batches = -(-200 // 16)
    assert found["merges"] == batches * found["shards"]  # each once, though some were asked twice
    assert found["restarts"] > 0
    assert found["claims"] == found["shards"] + found["restarts"]
    assert found["replays"] <= found["merges"]
    assert found["view"] > 1
    assert sum(node["files"] for node in found["work"]) == 200


def test_nobody_killed_nothing_claimed_twice() -> None:
    found = report("--limit", "50", "--kill", "0", "--nodes", "2")
    assert found["exact_match"] is True
    assert found["restarts"] == found["replays"] == found["calls_failed"] == 0
    assert found["pause_longest"] is None
    assert found["messages"] == 4 * 33 + 32  # a count and 32 merges a batch, and what each shard holds


def test_the_report_for_people() -> None:
    done = census("--limit", "30", "--nodes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict([*line.strip().split("  ", 1), ""][:2] for line in done.stdout.splitlines())
    assert lines["exact match"].strip() == "yes"
    assert lines["nodes"].strip().startswith("2 found each other in ")
    assert {"files", "identifiers", "messages", "work", "pause", "durable"} <= lines.keys()


@pytest.mark.parametrize("wrong", [("--nodes", "0"), ("--kill", "3"), ("--kill", "-1"), ("--limit", "0")])
def test_what_it_cannot_do_it_refuses(wrong: tuple[str, str]) -> None:
    done = census(*wrong)
    assert done.returncode == 2
    assert "it takes --nodes" in done.stderr


def test_a_difference_is_a_no_and_an_exit_of_1() -> None:
    """Run the demo with a single-process count that finds one identifier more."""
    wrong = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import census

single = census.start
async def start(*arguments, log):
    if arguments[0] != "--alone":
        return await single(*arguments, log=log)
    pipe = census.asyncio.subprocess.PIPE
    lie = "import census; census.count_alone(4)"
    return await census.asyncio.create_subprocess_exec(
        sys.executable, "-c", lie, stdout=pipe, cwd={str(EXAMPLES)!r}
    )

census.start = start
sys.argv[1:] = ["--limit", "5", "--nodes", "1", "--kill", "0"]
sys.exit(census.main())
"""
    done = subprocess.run([sys.executable, "-c", wrong], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert done.stdout.split()[-3:] == ["exact", "match", "no"]


def test_what_does_not_tokenize_counts_the_same_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)  # pyright: ignore[reportUnknownMemberType]
    demo = importlib.import_module("census")
    good, bad, odd = tmp_path / "good.py", tmp_path / "bad.py", tmp_path / "odd.py"
    good.write_text("def f(x):\n    return x + größe  # not\n")
    bad.write_text("x = '''\n")
    odd.write_bytes(b"# coding: nothing\nx = 1\n")
    assert demo.identifiers([str(good)]) == Counter({"x": 2, "f": 1, "größe": 1})
    assert demo.identifiers([str(bad), str(odd)]) == Counter({demo.SKIPPED: 2})
    assert demo.shard_of("größe") == 9  # in every process
