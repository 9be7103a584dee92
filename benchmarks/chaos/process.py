"""One node process, as its parent sees it."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.namespaces import Host

__all__ = ["NodeProcess", "Seen"]

ROOT = Path(__file__).parents[2]
LINE_BYTES = 1 << 28
PATIENCE = 60.0
"""Seconds for a command that says nothing else."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A view, as one process reported it.

    Attributes:
        at: When, on the machine's monotonic clock.
        lineage: Of the view.
        number: The same.
        members: Id, incarnation, and whether it is leaving.
    """

    at: float
    lineage: str
    number: int
    members: tuple[tuple[str, int, bool], ...]

    @property
    def ids(self) -> set[str]:
        return {node_id for node_id, _, _ in self.members}

    @property
    def is_settled(self) -> bool:
        """Whether nobody is on the way out."""
        return not any(leaving for _, _, leaving in self.members)

    def same_as(self, other: Seen) -> bool:
        return (self.lineage, self.number, self.members) == (other.lineage, other.number, other.members)


class NodeProcess:
    """A child with a node. Make it with `begin`.

    Attributes:
        node_id: Empty until it has joined.
        host: Its network namespace, or None.
        seen: The views that it has installed, in order.
        events: Other events, in order.
        joined_in: Its number in the order of joins.
    """

    def __init__(self, process: asyncio.subprocess.Process, host: Host | None, log: Path) -> None:
        """Take over a process; `begin` does."""
        self._process = process
        self._log = log
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._news = asyncio.Event()
        self._ready = asyncio.get_running_loop().create_future()
        self._left: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())
        self.host = host
        self.node_id = ""
        self.seen: list[Seen] = []
        self.events: list[dict[str, Any]] = []
        self.on_view: Callable[[], None] = lambda: None

    @classmethod
    async def begin(cls, given: Mapping[str, Any], host: Host | None, folder: Path) -> Self:
        """Start a process; return when it could join, and has not."""
        words = [sys.executable, "-m", "benchmarks.chaos.child", json.dumps(dict(given))]
        descriptor, name = tempfile.mkstemp(".log", dir=folder)
        with os.fdopen(descriptor, "wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(host.command(*words) if host is not None else words),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=LINE_BYTES,
                cwd=ROOT,
                env={**os.environ, "RINGCAST_LOG": "warning", "PYTHONPATH": str(ROOT)},
            )
        made = cls(process, host, Path(name))
        try:
            async with asyncio.timeout(PATIENCE):
                await made._ready
        except BaseException:
            await made.end()
            raise
        return made

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    @property
    def view(self) -> Seen | None:
        """The last view that it has reported."""
        return self.seen[-1] if self.seen else None

    def log(self) -> list[dict[str, Any]]:
        """Return what it has logged so far, warnings and worse."""
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    async def join(self) -> None:
        """Have the node join its cluster."""
        self.node_id = await self.do("join")

    async def do(self, what: str, patience: float = PATIENCE, **given: Any) -> Any:
        """Send a command, and return what it is answered.

        Raises:
            RuntimeError: If it is answered with an error, or the process ends.
            TimeoutError: If there is no answer in time.
        """
        number = next(self._numbers)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "do": what, **given}).encode() + b"\n")
        try:
            async with asyncio.timeout(patience):
                return await answer
        finally:
            del self._answers[number]

    def signal(self, number: int) -> float:
        """Send a signal; return the time right before it."""
        now = time.monotonic()
        self._process.send_signal(number)
        return now

    async def killed(self) -> float:
        """Kill it; return when that was."""
        at = self.signal(signal.SIGKILL)
        await self._process.wait()
        return at

    async def left(self) -> list[str]:
        """Tell it to leave, wait until it has, and return the calls that it has handled.

        Raises:
            RuntimeError: If it does not end as it should.
        """
        self.signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            handled = await self._left
            code = await self._process.wait()
        if code != 0:
            raise RuntimeError(f"node {self.node_id} left with exit code {code}: {self._last_words()}")
        return handled

    async def end(self) -> None:
        """End it, however it stands, and let its pipes go."""
        if self.is_running:
            self._process.kill()
        await self._process.wait()
        await self._reader
        self._process._transport.close()  # type: ignore[attr-defined]  # else its pipe outlives the loop

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._take(json.loads(line))
        gone = RuntimeError(f"the process of node {self.node_id or '(not joined)'} has ended: {self._last_words()}")
        for future in (*self._answers.values(), self._ready, self._left):
            if not future.done():
                future.set_exception(gone)
                future.exception()  # whoever waits hears of it; nobody has to

    def _take(self, said: dict[str, Any]) -> None:
        match said:
            case {"id": number, "result": result} if number in self._answers:
                self._answers[number].set_result(result)
            case {"id": number, "error": error} if number in self._answers:
                self._answers[number].set_exception(RuntimeError(f"node {self.node_id}: {error}"))
            case {"event": "ready"}:
                self._ready.set_result(None)
            case {"event": "left", "handled": handled}:
                self._left.set_result(handled)
            case {"event": "view", "at": at, "lineage": lineage, "number": number, "members": members}:
                self.seen.append(Seen(at, lineage, number, tuple((i, n, leaving) for i, n, leaving in members)))
                self.on_view()
            case {"event": _}:
                self.events.append(said)
            case _:
                pass  # the answer to a command that nobody waits for any more

    def _last_words(self) -> str:
        lines = self._log.read_text().splitlines()
        return lines[-1][-300:] if lines else "it wrote no log"
