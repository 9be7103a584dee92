"""The steps of a message, and which of them a line of the runtime belongs to.

A stack is looked at from the inside out, and the first frame that a rule knows decides. Rules name a file, functions
and what a statement says, not line numbers: the hot path writes several steps out in one function, and it changes.
"""

from __future__ import annotations

import ast
import linecache
import re
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from types import CodeType
from typing import TypeAlias

__all__ = ["LOOP", "STEPS", "Place", "step_of"]

Place: TypeAlias = tuple[CodeType, int]
"""A frame: its code, and the line that it is at."""

LOOP = "loop"
STEPS = {
    "driver": "the benchmark's own code",
    "ref": "the ref's method, and what the verb looks at first",
    "route": "key to owner to link",
    "envelope": "number, limit, the call's future, the envelope",
    "pack": "arguments to bytes",
    "write": "gathering frames, and the write to the socket",
    "read": "from the socket to whole batches",
    "unpack": "bytes to values",
    "mailbox": "to the cell, and into and out of its mailbox; credit",
    "turn": "the handler, and what begins and ends its turn",
    "reply": "from the handler's value to the caller's future",
    LOOP: "the event loop, tasks that are woken, and all that no rule knows",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What the statements of some functions of a file are; `says` is looked for in the statement's first line."""

    file: str
    function: str
    says: str
    step: str


def _rule(file: str, step: str, function: str = "", says: str = "") -> Rule:
    return Rule(file, function, says, step)


_ASKING = r"^_?(ask|tell)$"
RULES = (
    _rule("benchmarks/counters.py", "turn"),
    _rule("benchmarks/workloads.py", "driver"),
    _rule("benchmarks/ours.py", "driver"),
    _rule("actors/ref.py", "ref"),
    _rule("actors/verbs.py", "ref"),
    _rule("runtime/router.py", "pack", _ASKING, r"\bpack\b|ttl = |_parcel|PLAIN|^frame = None|head = |meta = "),
    _rule("runtime/router.py", "write", _ASKING, r"link\.send|routes\.send|credit|is_full|drained"),
    _rule(
        "runtime/router.py", "mailbox", _ASKING, r"run_now|move_now|activate|accept_local|cells\.get|cell\.task|deliver"
    ),
    _rule("runtime/router.py", "reply", _ASKING, r"NOT_NOW|SUSPENDED|until_monotonic|_answer|isolate"),
    _rule("runtime/router.py", "reply", r"^(_answer|_answered_late|localize)$"),
    _rule("runtime/router.py", "route", _ASKING, r"route\b.*=|route\.version|link = "),
    _rule("runtime/router.py", "route", r"^(aim|_aim.*)$"),
    _rule("runtime/router.py", "envelope", _ASKING, r"call|number|now|deadline|envelope|limits|limit|cell"),
    _rule("runtime/router.py", "ref"),
    _rule("runtime/limits.py", "envelope"),
    _rule("runtime/calls.py", "reply", r"^(reply|fail|refuse|item|end)$"),
    _rule("runtime/calls.py", "envelope"),
    _rule("runtime/routes.py", "write", r"^(send|granted)$"),
    _rule("runtime/routes.py", "route"),
    _rule("runtime/kinds.py", "route"),
    _rule("runtime/ring.py", "route"),
    _rule("runtime/outlet.py", "reply", r"^(reply|fail|_send_answer)$"),
    _rule("runtime/outlet.py", "write"),
    _rule("runtime/link.py", "reply", r"^receive$", r"call|set_result|REPLY"),
    _rule("runtime/link.py", "unpack", r"^receive$", r"^for frame|codec\."),
    _rule("runtime/link.py", "unpack", r"^(_measured|receive_bulk)$"),
    _rule("runtime/link.py", "mailbox"),
    _rule("runtime/arrivals.py", "mailbox"),
    _rule("runtime/inflight.py", "mailbox"),
    _rule("runtime/connection.py", "write", r"^(write|_has_room|send_parts|go_on|_pump|_begin)$"),
    _rule("runtime/connection.py", "unpack", r"^(_batch|_take_in)$", r"feed|unpack|look_through"),
    _rule("runtime/connection.py", "read"),
    _rule("security/tunnel.py", "write", r"write|send|flush"),
    _rule("security/tunnel.py", "read"),
    _rule("discovery/packed.py", "unpack"),
    _rule("runtime/cell.py", "turn", "", r"message\.function|runner|swap|moved|set_turn|context|coroutine|running"),
    _rule("runtime/cell.py", "turn", r"^(_turn|_over|_make)$"),
    _rule("runtime/cell.py", "mailbox"),
    _rule("runtime/mailbox.py", "mailbox"),
    _rule("runtime/runner.py", "turn"),
    _rule("runtime/host.py", "mailbox"),
    _rule("runtime/tenancy.py", "mailbox"),
)
"""In order: the first that fits. The codec has none: what it does belongs to who called it."""


def step_of(stack: tuple[Place, ...]) -> str:
    """Return the step that a stack is in; its innermost frame comes first."""
    for code, line in stack:
        step = _step(code, line)
        if step is not None:
            return step
    return LOOP


@cache
def _step(code: CodeType, line: int) -> str | None:
    path = PurePath(code.co_filename).as_posix()
    for rule in RULES:
        if rule.file not in path[-60:] or not re.search(rule.function, code.co_name):
            continue
        if not rule.says or re.search(rule.says, _statement(code.co_filename, line)):
            return rule.step
    return None


def _statement(path: str, line: int) -> str:
    """Return the text of the statement that a line belongs to; of one that holds others, its head only."""
    lines = linecache.getlines(path)
    first, last = _extents(path).get(line, (line, line))
    return " ".join(text.strip() for text in lines[first - 1 : last])


@cache
def _extents(path: str) -> dict[int, tuple[int, int]]:
    """Return, by line, where the statement begins and ends."""
    extents: dict[int, tuple[int, int]] = {}
    for node in ast.walk(ast.parse("".join(linecache.getlines(path)))):  # outer ones first
        if isinstance(node, ast.stmt):
            body: list[ast.stmt] = getattr(node, "body", [])
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            extents.update(dict.fromkeys(range(node.lineno, last + 1), (node.lineno, last)))
    return extents
