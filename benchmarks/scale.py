"""What grows, and how: ``python -m benchmarks scale [PART ...]``.

* pairs: R2 between 1, 2 and 4 pairs of nodes at once, in all, against one pair.
* actors: asks to any of 1,000, 100,000 and 1,000,000 live actors of one node.
* members: what membership costs each of 3, 10 and 30 real nodes: traffic, until a failure is known, until a view is.
* simulated: the same of 3 to 500, cores in virtual time. It takes minutes, and the packages that tests need.
* join: from a join's view until the new node's partitions serve, with 100,000 actors alive at the old one.

Each part draws its curves into ``docs/pictures``, or where ``--pictures`` says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import page
from .report import machine
from .scale_members import Cost, real, simulated
from .svg import curves

__all__ = ["main"]

ROOT = Path(__file__).parents[1]
LIMIT_S = 600
SIZES: dict[str, tuple[int, ...]] = {
    "pairs": (1, 2, 4),
    "actors": (1_000, 10_000, 100_000, 1_000_000),
    "members": (3, 10, 30),
    "simulated": (3, 10, 30, 100, 500),
    "join": (1_000, 10_000, 100_000),
}
Points = dict[str, list[tuple[float, float]]]


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    made = [heads, ["---:" for _ in heads], *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in made)


def _node(*args: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.scale_node", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode:
        raise RuntimeError(f"{' '.join(args)}: {done.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def pairs(sizes: Sequence[int]) -> tuple[str, dict[str, str]]:
    rates: list[float] = []
    for count in sizes:
        command = [sys.executable, "-m", "benchmarks.ours", "R2", "general", "2", ""]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        outputs = [process.communicate(timeout=LIMIT_S)[0] for process in running]
        runs = [json.loads(output.splitlines()[-1]) for output in outputs]
        rates.append(sum(one["count"] / one["seconds"] for one in runs))
    lines = [
        (f"{n}", f"{rate:,.0f}", f"{rate / rates[0]:.2f}", f"{rate / n:,.0f}")
        for n, rate in zip(sizes, rates, strict=True)
    ]
    text = _table(("pairs of nodes", "asks /s in all", "of one pair", "for each pair"), lines)
    points = [(float(n), rate) for n, rate in zip(sizes, rates, strict=True)]
    return text, {"pairs": curves("R2 between pairs of nodes", "pairs", "asks a second, in all", {"R2": points})}


def actors(sizes: Sequence[int]) -> tuple[str, dict[str, str]]:
    found = [_node("live", str(count)) for count in sizes]
    lines = [
        (
            f"{count:,}",
            f"{one['p50_us']:.1f}",
            f"{one['p50_us'] / found[0]['p50_us']:.2f}",
            f"{one['p99_us']:.1f}",
            f"{one['bytes']:,.0f}",
            f"{one['activations']:,.0f}",
        )
        for count, one in zip(sizes, found, strict=True)
    ]
    heads = ("live actors", "ask, us p50", "of the first", "us p99", "bytes an actor", "activations /s")
    points: Points = {
        name: [(float(count), one[key]) for count, one in zip(sizes, found, strict=True)]
        for name, key in (("p50", "p50_us"), ("p99", "p99_us"))
    }
    return _table(heads, lines), {"actors": curves("Asks to any of the live actors", "live actors", "us", points)}


def _members(sizes: Sequence[int], measure: Callable[[int], Cost], name: str) -> tuple[str, dict[str, str]]:
    costs = [measure(count) for count in sizes]
    lines = [
        (
            f"{cost.nodes}",
            f"{cost.messages:,.0f}",
            f"{cost.most:,.0f}",
            f"{cost.bytes:,.0f}",
            f"{cost.known_s:.2f}",
            f"{cost.view_s:.2f}",
            "-" if cost.cpu is None else f"{cost.cpu:.1%}",
            "-" if cost.most_cpu is None else f"{cost.most_cpu:.1%}",
        )
        for cost in costs
    ]
    heads = (
        *("nodes", "messages /s each", "of the busiest", "bytes /s each", "a kill is known, s", "a view is, s"),
        *("of a core each", "of the busiest"),
    )
    points: Points = {
        "a kill": [(float(cost.nodes), cost.known_s) for cost in costs],
        "a join": [(float(cost.nodes), cost.view_s) for cost in costs],
    }
    sent: Points = {
        "mean": [(float(cost.nodes), cost.messages) for cost in costs],
        "busiest": [(float(cost.nodes), cost.most) for cost in costs],
    }
    return _table(heads, lines), {
        name: curves("Until all have the view", "nodes", "seconds", points),
        f"{name}-traffic": curves("What a node's membership sends", "nodes", "messages a second", sent),
    }


def members(sizes: Sequence[int]) -> tuple[str, dict[str, str]]:
    return _members(sizes, real, "members")


def in_simulation(sizes: Sequence[int]) -> tuple[str, dict[str, str]]:
    return _members(sizes, simulated, "simulated")


def join(sizes: Sequence[int]) -> tuple[str, dict[str, str]]:
    found = [_node("join", str(count)) for count in sizes]
    lines = [
        (f"{count:,}", f"{count - one['left']:,}", f"{one['moved']}", f"{one['half']:.2f}", f"{one['seconds']:.2f}")
        for count, one in zip(sizes, found, strict=True)
    ]
    heads = ("live actors", "moved", "partitions of the new node", "half of them serve, s", "all serve, s")
    points: Points = {
        name: [(float(count), one[key]) for count, one in zip(sizes, found, strict=True)]
        for name, key in (("half serve", "half"), ("all serve", "seconds"))
    }
    return _table(heads, lines), {"join": curves("A second node joins", "live actors", "seconds", points)}


PARTS: Mapping[str, Callable[[Sequence[int]], tuple[str, dict[str, str]]]] = {
    "pairs": pairs,
    "actors": actors,
    "members": members,
    "simulated": in_simulation,
    "join": join,
}


def main(args: list[str]) -> int:
    """Measure the parts that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {' '.join(PARTS)}; default all")
    parser.add_argument("--sizes", help="with commas, in place of a part's own; with one part")
    parser.add_argument("--page", type=Path, help="write the tables into this page")
    parser.add_argument("--pictures", type=Path, help="where the curves go (default: docs/pictures, with --page)")
    options = parser.parse_args(args)
    names = options.parts or list(PARTS)
    if strange := set(names) - set(PARTS):
        parser.error(f"no such part: {' '.join(sorted(strange))}; there are {' '.join(PARTS)}")
    if options.sizes and len(names) != 1:
        parser.error("--sizes goes with one part")
    folder = options.pictures or (options.page.parent / "pictures" if options.page else None)
    for name in names:
        sizes = tuple(map(int, options.sizes.split(","))) if options.sizes else SIZES[name]
        text, pictures = PARTS[name](sizes)
        text = f"### Scale: {name}\n\n{text}"
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for picture, svg in pictures.items():
                (folder / f"{picture}.svg").write_text(svg)
        if options.page:
            text += "".join(f"\n\n![{picture}](pictures/{picture}.svg)" for picture in pictures)
            page.put(options.page, f"scale {name}", text, ["scale", name, *_rest(args, name)])
        else:
            print(text, end="\n\n", flush=True)
    if not options.page:
        print(machine())
    return 0


def _rest(args: list[str], name: str) -> list[str]:
    """Return the command line without the parts, for the one that the page names."""
    return [arg for arg in args if arg not in PARTS or arg == name][1 if name in args else 0 :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
