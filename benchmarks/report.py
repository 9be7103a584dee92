"""What is printed: the rows as a table for a terminal or for a page, and the machine they were measured on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Sequence
from importlib.metadata import version
from typing import TypeAlias

from rich.table import Table

from .row import BYTES_PER_ACTOR, HANDLERS, Row

Cell: TypeAlias = tuple[str, ...]
"""What a cell says, and what stands smaller below it."""

HEADS = ("work", "unit", "limit", "simple", "ratio", "general", "ratio", "target", "met")
TEXTS = ("work", "unit")
COLOURS = {"yes": "[green]yes", "no": "[red]no", "failed": "[red]failed"}


def title(rounds: int) -> str:
    return f"medians of {rounds} rounds; below, the least and the greatest" if rounds > 1 else "one round"


def shown(values: list[float], digits: int) -> Cell:
    """Return the median, and below it the least and the greatest."""
    if not values:
        return ("-",)
    low, middle, high = (f"{v:,.{digits}f}" for v in (min(values), statistics.median(values), max(values)))
    return (middle,) if len(values) == 1 else (middle, f"{low} to {high}")


def compared(row: Row, handler: str) -> Cell:
    """Return the ratio, and what else the runs of this handler told."""
    ratio, size, beside = row.ratio(handler), row.bytes_per_actor(handler), row.beside_mb_s(handler)
    told = (
        f"{ratio:.2f}" if ratio is not None else None,
        f"{size:,.0f} B" if size is not None else None,
        f"at {beside:,.0f} MB/s" if beside is not None else None,
    )
    return tuple(text for text in told if text) or ("-",)


def cells(row: Row) -> list[Cell]:
    digits = row.work.unit.digits
    aim: Cell = (row.work.aim,)
    if row.work.base == "S1":
        aim = (row.work.aim, f"<= {BYTES_PER_ACTOR:,} B")
    elif row.work.erlang is not None:
        ahead = row.times_erlang()
        aim = (row.work.aim, f">= {row.work.erlang:g} Erlang: {'absent' if ahead is None else f'{ahead:.2f}'}")
    verdict = "failed" if row.errors else {True: "yes", False: "no", None: ""}[row.met()]
    return [
        (row.work.name,),
        (row.work.unit.name,),
        shown(row.values(row.limit), digits),
        *[cell for name in HANDLERS for cell in (shown(row.values(row.ours[name]), digits), compared(row, name))],
        aim,
        (verdict,),
    ]


def table(rows: Sequence[Row], rounds: int) -> Table:
    made = Table(title=title(rounds), show_lines=True)
    for head in HEADS:
        made.add_column(head, justify="left" if head in TEXTS else "right", no_wrap=True)
    for row in rows:
        texts = ["\n".join([first, *(f"[dim]{text}[/dim]" for text in rest)]) for first, *rest in cells(row)]
        made.add_row(*texts[:-1], COLOURS.get(texts[-1], ""))
    return made


def markdown(rows: Sequence[Row], rounds: int) -> str:
    """Return the same table as a page has it, and the machine below."""
    lines = [HEADS, tuple("---" if head in TEXTS else "---:" for head in HEADS)]
    lines += [tuple("<br>".join(cell) for cell in cells(row)) for row in rows]
    piped = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{piped}\n\n{title(rounds).capitalize()}. {machine()}."


def beside_peers(rows: Sequence[Row], absent: dict[str, str]) -> str:
    """Return, for a page, what the peers reach in the same rounds: the median, and ringcast's simple handler in it."""
    names = list(dict.fromkeys(name for row in rows for name in row.peers))
    lines = [("work", "unit", "ringcast", *names), ("---", "---", *("---:" for _ in ("ringcast", *names)))]
    for row in rows:
        own = row.values(row.ours["simple"])
        if not row.peers or not own:
            continue
        digits, ours = row.work.unit.digits, statistics.median(own)
        texts = [f"{ours:,.{digits}f}"]
        for name in names:
            theirs = row.peers.get(name)
            if theirs:
                middle = statistics.median(theirs)
                times = middle / ours if row.work.unit.is_latency else ours / middle
                texts.append(f"{middle:,.{digits}f}<br>x {times:,.2f}")
            else:
                texts.append("-")
        lines.append((row.work.name, row.work.unit.name, *texts))
    piped = "\n".join(f"| {' | '.join(line)} |" for line in lines) if names else ""
    why = "\n".join(f"* {name}: not measured, {reason}" for name, reason in absent.items())
    return "\n\n".join(text for text in (piped, why) if text)


def machine() -> str:
    """Return what a number depends on, and nothing that names the machine."""
    parts = [
        f"{platform.python_implementation()} {platform.python_version()}",
        *(f"{name} {version(name)}" for name in ("uvloop", "msgpack")),
        f"{platform.system()} {platform.machine()}",
        f"{os.cpu_count()} cores",
    ]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return f"{', '.join(parts)}; load of the last minutes {load}"
