"""`ringcast drain` and `ringcast dissolve`: what an operator tells a running node."""

from __future__ import annotations

import asyncio
import sys
from time import monotonic

import click

from .inquiry import Answer, Inquiry, NoAnswerError
from .looking import Look, looking, print_json, run
from .tables import say

POLL = 0.1
"""Seconds between two looks at whether a node has gone."""


@click.command()
@looking
@click.argument("wanted", metavar="NODE")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait until the node has gone; 0 returns at once.",
)
def drain(look: Look, wanted: str, wait: float) -> None:
    """Have a node hand its actors over and leave; NODE is its id, the beginning of it, or its address.

    A process of `ringcast up` ends with its node. With --workers, its supervisor starts another one.
    """

    async def tell() -> Answer:
        inquiry = look.inquiry()
        member = await chosen(inquiry, wanted)
        await inquiry.ask(member["address"], "leave", node=member["id"])
        return member | {"gone": await _gone(inquiry, member, wait)}

    found = run(tell())
    if look.as_json:
        print_json({"node": found["id"], "address": found["address"], "gone": found["gone"]})
    else:
        state = "has left" if found["gone"] else "is leaving; `ringcast members` shows when it has left"
        say(f"node {found['id']} ({found['address']}) {state}", bad=bool(wait) and not found["gone"])
    if wait and not found["gone"]:
        sys.exit(1)


async def _gone(inquiry: Inquiry, member: Answer, wait: float) -> bool:
    end = monotonic() + wait
    while monotonic() < end:
        try:
            status = await inquiry.ask(member["address"], "status")
        except NoAnswerError:
            return True
        if status["id"] != member["id"]:
            return True
        await asyncio.sleep(POLL)
    return False


@click.command()
@looking
@click.argument("wanted", metavar="NODE")
@click.option("--yes", is_flag=True, help="Do not ask.")
def dissolve(look: Look, wanted: str, yes: bool) -> None:
    """Have a node give up on a quorum that is lost for good, and start over; the only unsafe command.

    For a cluster that has lost so many members at once, silently, that no majority of its last view can
    ever answer again. The node forgets that view and founds or joins another cluster of the same name. If
    the missing members live after all, both sides act, until they meet.
    """
    inquiry = look.inquiry()
    member = run(chosen(inquiry, wanted))
    if not yes:
        click.confirm(
            f"Node {member['id']} ({member['address']}) will forget its view and act without the missing members. "
            f"Are they certainly gone?",
            abort=True,
            err=True,
        )
    run(inquiry.ask(member["address"], "dissolve", node=member["id"]))
    if look.as_json:
        print_json({"node": member["id"], "address": member["address"]})
    else:
        say(f"node {member['id']} ({member['address']}) starts over; `ringcast status` shows what comes of it")


async def chosen(inquiry: Inquiry, wanted: str) -> Answer:
    """Return the one member that is meant.

    Raises:
        NoAnswerError: If there is none, or several.
    """
    members = await inquiry.members()
    fitting = [one for one in members.values() if one["address"] == wanted or one["id"].startswith(wanted)]
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(f"{one['id']} ({one['address']})" for one in fitting or members.values())
    raise NoAnswerError(f"{'no' if not fitting else 'more than one'} member is meant by {wanted!r}; there are {known}")
