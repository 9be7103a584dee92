"""Trees: how soon the permanent actors of a killed node are live again, after the view without it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from benchmarks.tree import SURVIVORS, TARGETS, restarts

from .figures import Figure

__all__ = ["trees"]


async def trees(rounds: int) -> AsyncGenerator[Figure, None]:
    """Kill the node of so many actors, so often; a figure is the slowest round."""
    for count, target in TARGETS.items():
        found = [(await restarts(count))["view to all live"] for _ in range(rounds)]
        slowest = max(found)
        what = f"{count:,} permanent actors of a killed node live again on {SURVIVORS}, from the view"
        measured = f"{slowest:.2f} s" if rounds == 1 else f"{min(found):.2f} to {slowest:.2f} s in {rounds} rounds"
        yield Figure(what, measured, f"<= {target:g} s", slowest <= target)
