"""What type checkers see of refs and verbs: one program that must pass, one that must fail line by line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PASSES, FAILS = HERE / "passes.py", HERE / "fails.py"


def marked() -> set[int]:
    """Return the lines of `fails.py` that say that they are wrong."""
    lines = FAILS.read_text().splitlines()
    found = {number for number, line in enumerate(lines, 1) if "# error:" in line}
    assert len(found) > 15
    return found


def test_mypy() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    run = subprocess.run([*command, str(PASSES), str(FAILS)], cwd=ROOT, capture_output=True, text=True, check=False)
    errors: dict[str, set[int]] = {PASSES.name: set(), FAILS.name: set()}
    for line in run.stdout.splitlines():
        path, number, kind, *_ = line.split(":")
        if kind.strip() == "error":
            errors.setdefault(Path(path).name, set()).add(int(number))
    assert not errors[PASSES.name], run.stdout
    assert errors[FAILS.name] == marked(), run.stdout + run.stderr


def test_pyright() -> None:
    # With a configuration of its own, for the project's leaves `fails.py` out.
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(HERE)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors: dict[str, set[int]] = {PASSES.name: set(), FAILS.name: set()}
    for found in json.loads(run.stdout)["generalDiagnostics"]:
        if found["severity"] == "error":
            errors.setdefault(Path(found["file"]).name, set()).add(found["range"]["start"]["line"] + 1)
    assert not errors[PASSES.name], run.stdout
    assert errors[FAILS.name] == marked()
