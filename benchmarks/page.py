"""The page of results: each command writes its own section of docs/bench.md, and leaves the others as they are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from .report import machine

__all__ = ["put"]


def put(page: Path, section: str, text: str, command: list[str]) -> None:
    """Replace a section, between its two marks, by `text`; on a page that has none, add it at the end."""
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    shown = re.sub(r"--page \S+", "--page docs/bench.md", shlex.join(command))  # of wherever it really is
    made = f"`python -m benchmarks {shown}` wrote this. {machine()}."
    body = f"{begin}\n{text.strip()}\n\n{made}\n{end}"
    old = page.read_text() if page.exists() else "# Benchmark results\n"
    marked = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if marked.search(old):
        page.write_text(marked.sub(lambda _: body, old, count=1))
    else:
        page.write_text(f"{old.rstrip()}\n\n{body}\n")
