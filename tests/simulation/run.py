"""Blocks of seeds, one after the other, that can be interrupted and resumed.

    python -m tests.simulation.run --first 1000 --count 1000 --log build/seeds.txt
    python -m tests.simulation.run --first 0 --count 20 --story planned
    python -m tests.simulation.run --first 0 --count 3000 --cores

Each seed leaves a line in the log, so what is there already is not told again. The exit code says whether all went
well. See docs/simulation.md for the ranges that were run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import traceback
from pathlib import Path

from ringcast.runtime.simulation import Simulation

from . import core_stories
from .stories import STORIES, story_of


def tell(story: str, seed: int) -> Simulation:
    """Tell a story of real nodes; return the simulation once it is over."""
    sim = Simulation(seed)
    try:
        sim.run(STORIES[story])
    except BaseException as error:
        error.add_note(f"replay it with: make simulate SEED={seed} SEEDS=1 STORY={story}")
        raise
    return sim


def _told(log: Path | None, what: str) -> set[int]:
    """Return the seeds of which the log says that they were told."""
    if log is None or not log.exists():
        return set()
    lines = (line.split() for line in log.read_text().splitlines())
    return {int(parts[1]) for parts in lines if len(parts) > 2 and parts[0] == what and parts[2] == "well"}


def _share(arguments: list[str], first: int, count: int, jobs: int) -> int:
    """Have several processes tell every so-many-th seed; return how many failed."""
    command = [sys.executable, "-m", "tests.simulation.run", *arguments, "--jobs", "1", "--step", str(jobs)]
    parts = [
        subprocess.Popen([*command, "--first", str(first + job), "--count", str(max(count - job, 0))])
        for job in range(jobs)
    ]
    return min(sum(part.wait() for part in parts), 100)


def main(arguments: list[str] | None = None) -> int:
    """Tell the stories that the arguments name; return how many failed, 100 at most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--count", type=int, default=100, help="how many seeds")
    parser.add_argument(
        "--story", choices=["usual", *STORIES], default="usual", help="what is told; usual: by the seed"
    )
    parser.add_argument("--cores", action="store_true", help="stories of the cores alone (core_stories)")
    parser.add_argument("--log", type=Path, help="a file to which each seed adds a line")
    parser.add_argument("--step", type=int, default=1, help="take each so-many-th seed, for several processes")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds")
    options = parser.parse_args(arguments)
    if options.jobs > 1:
        return _share(sys.argv[1:] if arguments is None else arguments, options.first, options.count, options.jobs)
    what = "cores" if options.cores else options.story
    known = _told(options.log, what)
    failed: list[int] = []
    virtual, begun = 0.0, time.process_time()
    for seed in range(options.first, options.first + options.count, options.step):
        if seed in known:
            continue
        try:
            if options.cores:
                core_stories.tell(seed)
            else:
                virtual += tell(story_of(seed) if what == "usual" else what, seed).now
            outcome = "well"
        except Exception as error:
            failed.append(seed)
            traceback.print_exc()
            outcome = f"{type(error).__name__} {str(error)[:200]!r}"
        if options.log is not None:
            with options.log.open("a") as log:
                log.write(f"{what} {seed} {outcome}\n")
    taken = time.process_time() - begun
    print(f"{what} {options.first}-{options.first + options.count - 1}: failed {failed}", end="")
    print(f"; {virtual:.0f} virtual seconds in {taken:.1f} s, {1000 * taken / max(virtual, 1):.1f} ms each")
    return min(len(failed), 100)


if __name__ == "__main__":
    sys.exit(main())
