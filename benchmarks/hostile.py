"""What strangers, eavesdroppers and hostile clients get, and what it costs: ``make hostile``.

Runs every attack that there is here, one after the other, and prints one table of figures with their
targets. ``python -m benchmarks.hostile NAME …`` runs some; ``--inputs 10000000`` feeds that many
damaged inputs. Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import hostile_bytes, hostile_client, hostile_gossip, hostile_membership, hostile_rotation, hostile_tls
from benchmarks.lan import measured as lan
from benchmarks.namespaces import why_not
from ringcast import run
from ringcast.security.channels import LINKS, MEMBERSHIP


@dataclass(frozen=True, slots=True)
class Line:
    """One figure; `met` is None where it could not be measured."""

    what: str
    figure: str
    target: str
    met: bool | None


async def tls(inputs: int) -> list[Line]:
    figures = await hostile_tls.matrix()
    lines: list[Line] = []
    for channel, name in ((LINKS, "links"), (MEMBERSHIP, "membership")):
        tried = [attempt for attempt in figures.attempts if attempt.channel == channel.decode()]
        refused = [attempt for attempt in tried if attempt.refused and attempt.seconds <= hostile_tls.LIMIT]
        slowest = max(attempt.seconds for attempt in tried)
        text = f"{len(refused)} of {len(tried)}, the last after {slowest:.2f} s"
        lines.append(Line(f"TLS matrix, {name}: refused", text, "9 of 9, 3.5 s", len(refused) == len(tried) == 9))
    decoded = f"{figures.decoded}, members untouched: {'yes' if figures.is_untouched else 'no'}"
    return [*lines, Line("TLS matrix: reached a decoder", decoded, "0", figures.is_met)]


async def data(inputs: int) -> list[Line]:
    figures = await hostile_bytes.before_authentication(inputs)
    what = f"{figures.inputs:,} damaged inputs before authentication"
    text = f"{figures.taken} taken, {len(figures.crashes)} crashes {' '.join(figures.crashes[:1])}".strip()
    return [
        Line(what, text, "0, 0", figures.taken == 0 and not figures.crashes),
        Line("  memory growth", f"{figures.grown_mib:.1f} MiB", "<= 64 MiB", figures.grown_mib <= 64),
        Line("  largest allocation", f"{figures.largest_kib:.1f} KiB", "<= 64 KiB", figures.largest_kib <= 64),
    ]


async def gossip(inputs: int) -> list[Line]:
    figures = await hostile_gossip.gossip(100_000)
    replayed = figures.replayed_accepted + figures.restarted_accepted
    return [
        Line(
            f"{figures.sent:,} damaged datagrams at a port: accepted",
            f"{figures.damaged_accepted}, {figures.grown_mib:.1f} MiB, {figures.lost} members lost",
            "0, <= 64 MiB, 0",
            figures.damaged_accepted == figures.lost == 0 and figures.grown_mib <= 64,
        ),
        Line(
            f"{figures.sent:,} captured datagrams again, and after a restart",
            f"{replayed} accepted (the first time: {figures.true_accepted:,})",
            "0",
            replayed == 0 and figures.true_accepted == figures.sent,
        ),
    ]


async def storm(inputs: int) -> list[Line]:
    figures = await hostile_membership.storms()
    idle, attacked = figures.idle.p99 * 1e3, figures.attacked.p99 * 1e3
    return [
        Line(
            f"{figures.half_open} half-open, {figures.handshakes} handshakes/s: p99 of asks",
            f"x {figures.factor:.2f} ({idle:.1f} -> {attacked:.1f} ms), {figures.changes} changes of the view",
            "<= 2 times, 0",
            figures.is_met,
        )
    ]


async def client(inputs: int) -> list[Line]:
    figures = await hostile_client.storm()
    return [
        Line(
            f"{figures.sent:,} worst-case frames of a client, {figures.calls:,} calls dealt with: memory",
            f"{figures.grown_mib:.1f} MiB",
            "<= 128 MiB",
            figures.grown_mib <= 128,
        ),
        Line("  others' p99", f"x {figures.factor:.2f}", "<= 3 times", figures.factor <= 3),
    ]


async def rotation(inputs: int) -> list[Line]:
    figures = await hostile_rotation.rotation()
    text = f"{figures.failed} of {figures.asks} asks failed, {figures.evicted} members evicted"
    return [Line("the secret rotated under 200 asks/s, five nodes", text, "0, 0", not figures.failed + figures.evicted)]


async def network(inputs: int) -> list[Line]:
    what = "a LAN of four namespaces finds itself"
    reason = why_not()
    if reason is not None:
        return [Line(what, reason, "<= 3 s", None)]
    figures = lan()
    decoded = f"{len(figures.decoded)} ({figures.strangers} datagrams and connections refused)"
    return [
        Line(what, f"{figures.seconds:.2f} s", "<= 3 s", figures.seconds <= 3),
        Line("  another secret, and none: reached a decoder", decoded, "0", not figures.decoded),
    ]


async def cost(inputs: int) -> list[Line]:
    """What it costs members: asks over TLS beside asks in clear, and a handshake, each in processes of its own."""
    command = [sys.executable, "-m", "benchmarks", "E2", "H1", "--rounds", "5", "--json"]
    done = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    told, _ = await done.communicate()
    rows = {row["work"]: row for row in map(json.loads, told.splitlines())}
    ratio, handshake = rows["E2"]["ratio_general"], statistics.median(rows["H1"]["general"])
    return [
        Line("asks over TLS beside asks in clear (R2)", f"x {ratio:.2f}", ">= 0.85", ratio >= 0.85),
        Line("connect, TLS, hello and a first ask", f"{handshake:.1f} ms", "<= 5 ms", handshake <= 5),
    ]


CHECKS: dict[str, Callable[[int], Coroutine[Any, Any, list[Line]]]] = {
    "network": network,
    "tls": tls,
    "data": data,
    "gossip": gossip,
    "storm": storm,
    "client": client,
    "rotation": rotation,
    "cost": cost,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make hostile", description=__doc__)
    parser.add_argument("checks", nargs="*", metavar="NAME", help=f"of {' '.join(CHECKS)}; default all")
    parser.add_argument("--inputs", type=int, default=100_000, help="damaged inputs for `data` [default 100000]")
    given = parser.parse_args()
    unknown = set(given.checks) - CHECKS.keys()
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    os.environ.setdefault("RINGCAST_LOG", "critical")
    console = Console(width=None if sys.stdout.isatty() else 150)
    table = Table("attack", "figure", "target", "met", title="what strangers get")
    missed = False
    for name in given.checks or CHECKS:
        began = time.monotonic()
        for line in run(CHECKS[name](given.inputs)):
            verdict = {True: "yes", False: "NO", None: "not here"}[line.met]
            table.add_row(line.what, line.figure, line.target, verdict)
            missed |= line.met is False
        console.print(f"{name}: {time.monotonic() - began:.0f} s", style="dim")
    console.print(table)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
