"""Listings for people: tables on a terminal, the same in full width where the output goes elsewhere.

What nodes say of themselves is shown as text: it holds no markup, and no control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNBOUNDED = 1000
"""Columns where no terminal sets a bound: cells are never cut."""


def show(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; a bool cell reads yes or no, None is blank, and numbers stand to the right."""
    cells = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(columns):
        numeric = bool(cells) and all(type(row[number]) in (int, type(None)) for row in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*map(_text, row))
    _console().print(table)


def say(line: str, *, bad: bool = False) -> None:
    """Print one line; a bad one is red on a terminal."""
    _console().print(Text(_printable(line), style="red" if bad else ""), soft_wrap=True)


def _text(value: object) -> Text:
    match value:
        case None:
            return Text("")
        case bool():
            return Text("yes" if value else "no", style="" if value else "red")
        case _:
            return Text(_printable(str(value)))


def _printable(text: str) -> str:
    """Return the text with escapes instead of what a terminal would act on."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def _console() -> Console:
    console = Console(markup=False, highlight=False, emoji=False)
    return console if console.is_terminal else Console(width=_UNBOUNDED, markup=False, highlight=False)
