"""No message gets dearer unnoticed: instructions and calls, as benchmarks/counts.json keeps them."""

import os
import subprocess
import sys


def test_no_message_is_dearer_than_what_is_kept() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}  # it traces, too
    command = [sys.executable, "-m", "benchmarks", "counts", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**env, "RINGCAST_LOG": "critical"})
    assert done.returncode == 0, done.stderr
