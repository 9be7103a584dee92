"""Count every identifier of Python's standard library on several nodes, and kill one on the way.

    python examples/census.py [--nodes 3] [--kill 1] [--limit FILES] [--json]

Expect a progress bar, a node that is killed when 40 % is done, and a report that ends with
``exact match: yes``: the counts of the cluster against those of a single process. Takes well
under a minute.

`FileCounter` reads some modules and sends what it found to the shards, each of which keeps the
counts of its part of all identifiers. Shards are durable: a merge is saved before it is
answered, and the shards of a killed node go on elsewhere with what was saved. Each merge carries
an idempotency key: one that was saved and whose answer was lost with a node is asked again,
answered from the store, and not run again. This process calls and hosts nothing; the actors run
in child processes that find each other by zeroconf, and share one SQLite file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import statistics
import sys
import sysconfig
import tempfile
import threading
import time
import tokenize
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from dataclasses import asdict, dataclass, field
from keyword import iskeyword
from pathlib import Path
from typing import IO, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ringcast import Actor, CallError, DurableActor, Node, StoreError, handler, run, using

SHARDS = 32
BATCH = 16
"""Modules that are counted by one call: each merge saves its shard."""
IN_FLIGHT = 8
"""Batches that are being counted at any time."""
FIRST_KILL, LAST_KILL = 0.4, 0.8
"""Shares of the modules that are done when the first node is killed, and before which the last one is."""
PROBED_FILES = 20
"""Batches of a killed node that are probed for its pause, beside its shards."""
RETRY = 0.01
"""Seconds before a call that failed is tried again."""
LIMIT = 120.0
"""Seconds after which the census gives up; it takes about a fifth of that."""
SKIPPED = "."
"""Stands in the counts for a file that is not Python in a known encoding; no identifier is a dot."""


# ---- the actors, which run in the child processes


class FileCounter(Actor, idle_after=10.0):
    """Reads modules; its key is the number of their batch."""

    async def count(self, paths: list[str]) -> int:
        """Merge the modules' counts into the shards; return the process that did it."""
        found: list[dict[str, int]] = [{} for _ in range(SHARDS)]
        counts: Counter[str] = Counter()
        for path in paths:
            counts.update(identifiers([path]))
            await asyncio.sleep(0)  # a file takes some 10 ms, and others wait for this node
        for name, n in counts.items():
            found[shard_of(name)][name] = n
        key = f"batch {self.context.key}"
        shards = [using(self.context.ref(Shard, i), idempotency_key=key) for i in range(SHARDS)]
        await asyncio.gather(*[shard.merge(part) for shard, part in zip(shards, found, strict=True)])
        return os.getpid()

    @handler(read_only=True)
    async def process(self) -> int:
        return os.getpid()


@dataclass
class Tally:
    """What a shard keeps."""

    counts: dict[str, int] = field(default_factory=dict[str, int])
    merges: int = 0
    activations: int = 0


class Shard(DurableActor[Tally], name="census.Shard", idle_after=None):
    """Keeps the counts of the identifiers whose hash is its key."""

    async def on_start(self) -> None:
        self.state.activations += 1

    async def merge(self, counts: dict[str, int]) -> None:
        """Add a batch's counts. That it is done once, however often it is asked, is the runtime's work."""
        for name, n in counts.items():
            self.state.counts[name] = self.state.counts.get(name, 0) + n
        self.state.merges += 1

    @handler(read_only=True)
    async def process(self) -> int:
        return os.getpid()

    @handler(read_only=True)
    async def tally(self) -> Tally:
        return self.state


def shard_of(name: str) -> int:
    return zlib.crc32(name.encode()) % SHARDS  # `hash` differs from process to process


def identifiers(paths: Iterable[str]) -> Counter[str]:
    """Count the identifiers of files; one that cannot be decoded or tokenized counts as `SKIPPED`."""
    counts: Counter[str] = Counter()
    for path in paths:
        try:
            with tokenize.open(path) as file:
                tokens = list(tokenize.generate_tokens(file.readline))
            counts.update(t.string for t in tokens if t.type == tokenize.NAME and not iskeyword(t.string))
        except (SyntaxError, UnicodeDecodeError, tokenize.TokenError):
            counts[SKIPPED] += 1
    return counts


def standard_library(limit: int | None) -> list[str]:
    """Return the path of each module of the running interpreter's own library, its tests included."""
    root = Path(sysconfig.get_path("stdlib"))
    files = sorted(path.relative_to(root) for path in root.rglob("*.py"))
    own = [path for path in files if not {"site-packages", "dist-packages"} & set(path.parts)]
    return [str(root / path) for path in own[:limit]]


# ---- the child processes


async def serve(cluster: str, store: str) -> None:
    """Host the actors until the driver closes our stdin, or dies."""
    print("up", flush=True)
    async with Node(cluster=cluster, store=store) as node:
        print(node.id, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        print(node.stats()["state_replays"], flush=True)
        await asyncio.to_thread(sys.stdin.read)


def end_with_driver() -> None:
    os.read(0, 1)  # returns when the driver closes our stdin, or dies
    os._exit(1)


def count_alone(limit: int | None) -> None:
    """Count in a single process, with no ringcast."""
    json.dump(identifiers(standard_library(limit)), sys.stdout)


@dataclass
class Child:
    """A node process."""

    process: asyncio.subprocess.Process
    node: str = ""
    files: int = 0
    killed_after: float | None = None

    async def line(self) -> str:
        assert self.process.stdout
        line = (await self.process.stdout.readline()).decode().strip()
        if not line:
            raise RuntimeError("a node process ended before it was ready")
        return line

    async def replays(self) -> int:
        """Return how many calls the node has answered from the store; 0 of one that was killed."""
        if self.killed_after is not None:
            return 0
        assert self.process.stdin
        self.process.stdin.write(b"how many?\n")
        return int(await self.line())

    async def end(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


async def start(*arguments: str, log: IO[bytes]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = [sys.executable, __file__, *arguments]
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=log, start_new_session=True)


@contextlib.asynccontextmanager
async def node_processes(n: int, cluster: str, store: str, log: IO[bytes]) -> AsyncGenerator[list[Child]]:
    """Start the nodes; they have run their imports, and are joining, when the block begins."""
    children: list[Child] = []
    try:
        for _ in range(n):
            children.append(Child(await start("--node", cluster, "--store", store, log=log)))
        await asyncio.gather(*[child.line() for child in children])
        yield children
    finally:
        await asyncio.gather(*[child.end() for child in children])


# ---- the driver


@dataclass
class Report:
    """What the census found out; durations are seconds.

    `found_each_other_after` counts from when all processes had started and began to join, the
    pauses from the kill to the first answer of a key that the killed node owned, `seconds` all
    that lies between the first file and the last shard. `messages` are asks that were answered.
    Each activation of a shard claims its row; those after its first are restarts. `replays` are
    merges that had been saved and were asked again: answered from the store.
    """

    python: str = platform.python_version()
    nodes: int = 0
    found_each_other_after: float = 0.0
    files: int = 0
    files_skipped: int = 0
    identifiers: int = 0
    different: int = 0
    most_used: dict[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    messages: int = 0
    messages_per_second: int = 0
    calls_failed: int = 0
    work: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    keys_probed: int = 0
    pause_longest: float | None = None
    pause_median: float | None = None
    shards: int = SHARDS
    claims: int = 0
    restarts: int = 0
    merges: int = 0
    replays: int = 0
    view: int = 0
    exact_match: bool = False


class Census:
    """Drives one count from a node that hosts nothing."""

    def __init__(self, node: Node, children: list[Child], files: list[str], kill: int) -> None:
        self._node = node
        self._children = {child.process.pid: child for child in children}
        self._batches = [files[i : i + BATCH] for i in range(0, len(files), BATCH)]
        span = (LAST_KILL - FIRST_KILL) / max(kill, 1)
        self._kills = [int(len(files) * (FIRST_KILL + span * i)) for i in range(kill)]
        self._pauses: list[asyncio.Task[float]] = []
        self._done = 0
        self.report = Report(nodes=len(children), files=len(files))

    async def run(self, progress: Progress) -> Counter[str]:
        """Count everything; return the counts."""
        self._start = time.perf_counter()
        bar = progress.add_task("counting", total=self.report.files)
        waiting = iter(enumerate(self._batches))

        async def work() -> None:
            for number, paths in waiting:
                pid = await self._count(number, paths)
                self._children[pid].files += len(paths)
                self.report.messages += 1 + SHARDS
                self._done += len(paths)
                progress.update(bar, advance=len(paths))
                if self._kills and self._done >= self._kills[0]:
                    del self._kills[0]
                    await self._kill_one()

        async with asyncio.TaskGroup() as workers:
            for _ in range(IN_FLIGHT):
                workers.create_task(work())
        tallies = await asyncio.gather(*[self._node.ref(Shard, i).tally() for i in range(SHARDS)])
        self.report.messages += SHARDS
        counts: Counter[str] = Counter()
        for tally in tallies:
            counts.update(tally.counts)
        await self._summarize(counts, tallies)
        return counts

    async def _count(self, number: int, paths: list[str]) -> int:
        while True:
            try:
                return await self._node.ref(FileCounter, number).count(paths)
            except (CallError, StoreError):  # the node of the batch is gone, or one of the shards did not answer
                self.report.calls_failed += 1
                await asyncio.sleep(RETRY)

    # ---- the kill

    async def _kill_one(self) -> None:
        victim = random.choice([c for c in self._children.values() if c.killed_after is None])
        shards = [self._node.ref(Shard, i) for i in range(SHARDS)]
        counters = [self._node.ref(FileCounter, number) for number in range(len(self._batches))]
        hit = [ref for ref in shards if (await self._node.locate(ref)).id == victim.node]
        read = [ref for ref in counters if (await self._node.locate(ref)).id == victim.node]
        probed: list[Shard | FileCounter] = [*hit, *random.sample(read, min(PROBED_FILES, len(read)))]
        victim.process.kill()
        now = time.perf_counter()
        victim.killed_after = round(now - self._start, 3)
        self._pauses += [asyncio.create_task(self._pause(ref, now)) for ref in probed]

    async def _pause(self, ref: Shard | FileCounter, since: float) -> float:
        """Return how long after `since` the actor answers again."""
        while True:
            try:
                await ref.process()
                return time.perf_counter() - since
            except (CallError, StoreError):
                await asyncio.sleep(RETRY)

    async def _summarize(self, counts: Counter[str], tallies: list[Tally]) -> None:
        report, pauses = self.report, await asyncio.gather(*self._pauses)
        report.seconds = round(time.perf_counter() - self._start, 3)
        report.messages += len(pauses)
        report.messages_per_second = int(report.messages / report.seconds)
        report.files_skipped = counts[SKIPPED]
        report.identifiers, report.different = counts.total(), len(counts)
        report.most_used = dict(counts.most_common(5))
        report.work = [
            {"node": child.node, "pid": pid, "files": child.files, "killed_after": child.killed_after}
            for pid, child in self._children.items()
        ]
        report.claims, report.merges = sum(t.activations for t in tallies), sum(t.merges for t in tallies)
        report.restarts = report.claims - SHARDS
        report.replays = sum([await child.replays() for child in self._children.values()])
        report.view = self._node.view.number
        report.keys_probed = len(pauses)
        if pauses:
            report.pause_longest = round(max(pauses), 3)
            report.pause_median = round(statistics.median(pauses), 3)


async def census(nodes: int, kill: int, limit: int | None, console: Console, log: IO[bytes], folder: str) -> Report:
    cluster, store, files = f"census-{os.getpid()}", f"sqlite:///{folder}/state.db", standard_library(limit)
    alone = await start("--alone", *(["--limit", str(limit)] if limit else []), log=log)
    assert alone.stdout
    answer = asyncio.create_task(alone.stdout.read())
    progress = Progress(
        TextColumn("{task.description:>20}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    try:
        async with asyncio.timeout(LIMIT), node_processes(nodes, cluster, store, log) as children:
            ready = time.perf_counter()
            async with Node(cluster=cluster, hosts=[]) as node:
                await node.wait_for_members(nodes + 1, timeout=30)
                found = time.perf_counter() - ready
                for child in children:
                    child.node = await child.line()
                with progress:
                    driver = Census(node, children, files, kill)
                    counts = await driver.run(progress)
            expected = Counter[str](json.loads(await answer))
    finally:
        answer.cancel()
        with contextlib.suppress(ProcessLookupError):
            alone.kill()
        await alone.wait()
    driver.report.found_each_other_after = round(found, 3)
    driver.report.exact_match = counts == expected
    return driver.report


def show(report: Report, console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="bold")
    table.add_column()
    skipped = f", {report.files_skipped} of which are not valid Python" if report.files_skipped else ""
    found = f"{report.nodes} found each other in {report.found_each_other_after:.2f} s"
    table.add_row("nodes", f"{found}; view {report.view} at the end")
    table.add_row("files", f"{report.files:,} of Python {report.python}'s library{skipped}")
    table.add_row("identifiers", f"{report.identifiers:,}, {report.different:,} different")
    table.add_row("most used", ", ".join(f"{name} {n:,}" for name, n in report.most_used.items()))
    rate = f"{report.messages:,} in {report.seconds:.1f} s, {report.messages_per_second:,} a second"
    table.add_row("messages", f"{rate}, each with its answer")
    for child in report.work:
        killed = child["killed_after"]
        end = "" if killed is None else f", [red]killed after {killed:.1f} s[/red]"
        table.add_row("work", f"{child['files']:,} files on node {child['node']}{end}")
    if report.pause_longest is not None:
        pause = f"longest {report.pause_longest:.2f} s, median {report.pause_median:.2f} s"
        table.add_row("pause", f"{pause}, at {report.keys_probed} keys of what was killed")
    table.add_row("failed calls", f"{report.calls_failed:,}, each tried again" if report.calls_failed else "none")
    saved = f"{report.merges:,} merges saved by {report.shards} durable actors"
    again = f"{report.claims} claims, {report.restarts} restarts elsewhere, {report.replays:,} keys replayed"
    table.add_row("durable", f"{saved}; {again}")
    table.add_row("exact match", "[green]yes[/green]" if report.exact_match else "[red]no[/red]")
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description="Count every identifier of the standard library on several nodes.")
    parser.add_argument("--nodes", type=int, default=3, help="node processes")
    parser.add_argument("--kill", type=int, default=1, help="how many of them to kill; the last survives")
    parser.add_argument("--limit", type=int, help="count only so many files")
    parser.add_argument("--json", action="store_true", help="print the report as one object")
    parser.add_argument("--node", metavar="CLUSTER", help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("RINGCAST_LOG", "error")  # a lost node would be told of across the bar
    if given.node:
        run(serve(given.node, given.store))
        return 0
    if given.alone:
        threading.Thread(target=end_with_driver, daemon=True).start()
        count_alone(given.limit)
        return 0
    if not (given.nodes >= 1 and 0 <= given.kill < given.nodes and (given.limit is None or given.limit >= 1)):
        parser.error("it takes --nodes of at least 1, --kill of less than that, and --limit of at least 1")
    with tempfile.TemporaryFile() as log, tempfile.TemporaryDirectory() as folder:
        try:
            report = run(census(given.nodes, given.kill, given.limit, Console(stderr=given.json), log, folder))
        except KeyboardInterrupt:
            return 130
        except BaseException:
            log.seek(0)
            sys.stderr.write(log.read().decode(errors="replace"))
            raise
    if given.json:
        print(json.dumps(asdict(report), indent=2))
    else:
        show(report, Console())
    return 0 if report.exact_match else 1


if __name__ == "__main__":
    sys.exit(main())
