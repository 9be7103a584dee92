"""Coverage-guided fuzzing of every decoder: ``python -m tests.fuzz.run --seconds 60 [TARGET …]``.

Each target runs in a process of its own, from its files in corpus/ on, for its share of the seconds.
What it finds is written to found/ (one file for each crash, hang or use of too much memory); when the
fault is mended the file goes into the target's corpus, where each run of the tests replays it. What
else it has learned stays in found/corpus/, and is where the next run begins.

Needs atheris, which the extra `dev` installs where there are wheels of it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FOUND = HERE / "found"
MEMORY_MB = 768
"""Of the whole process, the interpreter and what atheris needs in it."""
LONGEST = 1 << 16
HANG = 10
"""Seconds after which an input counts as a hang."""


def main() -> int:
    """Fuzz the targets one after the other; return 1 if one has found something."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together (default 60)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    options = parser.parse_args()
    if options.one is not None:
        fuzz(options.one, options.seconds)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: it has wheels for CPython on Linux, on x86-64 only", file=sys.stderr)
        return 2
    from tests.fuzz.targets import TARGETS

    names = options.targets or list(TARGETS)
    share = max(options.seconds // len(names), 1)
    failed: list[str] = []
    for name in names:
        print(f"---- {name}, for {share} s", flush=True)
        command = [sys.executable, "-m", "tests.fuzz.run", "--one", name, "--seconds", str(share)]
        if subprocess.run(command, cwd=HERE.parent.parent).returncode:
            failed.append(name)
    print(f"found something: {', '.join(failed)}: see {FOUND}" if failed else "found nothing")
    return 1 if failed else 0


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target; does not return."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["ringcast", "msgpack", "tests.fuzz"]):
        from tests.fuzz.targets import TARGETS

    learned, known = FOUND / "corpus" / name, HERE / "corpus" / name
    learned.mkdir(parents=True, exist_ok=True)
    atheris.Setup(
        [
            name,
            str(learned),
            str(known),
            f"-max_total_time={seconds}",
            f"-max_len={LONGEST}",
            f"-rss_limit_mb={MEMORY_MB}",
            f"-timeout={HANG}",
            f"-artifact_prefix={FOUND}/{name}-",
            "-print_final_stats=0",
            "-verbosity=0",
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
