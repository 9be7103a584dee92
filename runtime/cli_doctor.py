"""`ringcast doctor`: says why nodes do not see each other, and what to do."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from .doctor import Finding, Level, findings
from .interfaces import Interface, interfaces
from .looking import Look, checked_address, looking_around, print_json
from .tables import say

_MARKS = {Level.OK: "ok      ", Level.WARNING: "warning ", Level.PROBLEM: "PROBLEM "}


@click.command()
@click.option(
    "--node",
    "nodes",
    metavar="HOST:PORT",
    multiple=True,
    callback=checked_address,
    help="Examine this node, too. May be repeated.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    help="How long to listen for announcements.",
)
@click.option("--interface", "only", metavar="ADDRESS", multiple=True, help="Try only this one. May be repeated.")
@looking_around
def doctor(look: Look, nodes: tuple[str, ...], seconds: float, only: tuple[str, ...]) -> None:
    """Say why nodes do not see each other, and what to do about it.

    Tries multicast on every interface, listens for announcements, and examines each node that is
    found or named, by TCP and by UDP. Exit code 1 if there is a problem.
    """
    environment = dict(os.environ)  # before a secret that stands in it is taken out
    found = asyncio.run(findings(look.trust(), nodes, _on(only), environment, seconds=seconds, limit=look.timeout))
    if look.as_json:
        counts = {level.value: sum(finding.level is level for finding in found) for level in Level}
        print_json({"counts": counts, "findings": [finding.shown() for finding in found]})
    else:
        _show(found)
    if any(finding.level is Level.PROBLEM for finding in found):
        sys.exit(1)


def _on(only: tuple[str, ...]) -> list[Interface]:
    known = interfaces()
    for address in only:
        if not any(interface.address == address for interface in known):
            there = ", ".join(f"{interface.address} ({interface.name})" for interface in known)
            raise click.BadParameter(f"{address!r} is no address of this machine; there are {there}")
    return [interface for interface in known if not only or interface.address in only]


def _show(found: list[Finding]) -> None:
    for finding in found:
        bad = finding.level is Level.PROBLEM
        say(f"{_MARKS[finding.level]}{finding.about}: {finding.found}", bad=bad)
        if finding.todo:
            say(f"        -> {finding.todo}")
    problems = sum(finding.level is Level.PROBLEM for finding in found)
    warnings = sum(finding.level is Level.WARNING for finding in found)
    say(f"{problems} problem(s), {warnings} warning(s)", bad=problems > 0)
