"""The command line: `ringcast up` runs nodes; `status`, `members`, `actors`, `locate` look at them.

`ringcast secret` makes and changes what lets nodes be members; `doctor` says why they do not see each other;
`drain` and `dissolve` tell a node what to do.

Exit codes: 0 all is well, 1 something is wrong with the cluster or it cannot be reached, 2 the
command was not understood. With ``--json`` a listing is one JSON document on stdout; what there is
to say about failing goes to stderr.

References:
    docs/cli.md: every option, and the shapes of the JSON documents.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime

import click

import ringcast

from .cli_doctor import doctor
from .cli_secret import secret
from .cli_steer import dissolve, drain
from .cli_up import up
from .control import KEY_KINDS, MAX_LISTED
from .inquiry import Answer, NoAnswerError
from .looking import Look, looking, print_json, run
from .tables import say, show

SPREADING = 0.5
"""Seconds for a view to reach everyone before differing views are called a problem."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(ringcast.__version__, prog_name="ringcast")
def cli() -> None:
    """Actors for Python that find each other."""


cli.add_command(up)
cli.add_command(secret)
cli.add_command(doctor)
cli.add_command(drain)
cli.add_command(dissolve)


@cli.command()
@looking
def status(look: Look) -> None:
    """Say of every member whether it answers, and whether all agree on who is in the cluster."""

    async def ask() -> Answer:
        inquiry = look.inquiry()
        found = _status(await inquiry.everywhere("status"))
        if not found["agreed"]:
            await asyncio.sleep(SPREADING)
            found = _status(await inquiry.everywhere("status"))
        return found

    found = run(ask())
    if look.as_json:
        print_json(found)
    else:
        _show_status(found)
    if not found["healthy"]:
        sys.exit(1)


def _status(told: list[tuple[Answer, Answer | NoAnswerError]]) -> Answer:
    nodes: list[Answer] = []
    for member, answer in told:
        entry: Answer = {"id": member["id"], "address": member["address"], "leaving": member["leaving"]}
        if isinstance(answer, NoAnswerError):
            entry |= {"answers": False, "reason": str(answer)}
        else:
            shown = {name: answer[name] for name in ("cluster", "pid", "ready", "view", "secret", "versions", "stats")}
            entry |= {"answers": True, **shown, "members": len(answer["members"])}
        nodes.append(entry)
    answering = [entry for entry in nodes if entry["answers"]]
    agreed = len({(entry["view"]["lineage"], entry["view"]["number"]) for entry in answering}) <= 1
    return {
        "cluster": answering[0]["cluster"] if answering else None,
        "healthy": agreed and all(entry["answers"] and (entry["ready"] or entry["leaving"]) for entry in nodes),
        "agreed": agreed,
        "nodes": nodes,
    }


def _show_status(found: Answer) -> None:
    columns = ("node", "address", "answers", "view", "members", "actors", "calls", "links", "dead letters")
    rows: list[tuple[object, ...]] = []
    for entry in found["nodes"]:
        row: tuple[object, ...] = (entry["id"], entry["address"])
        if entry["answers"]:
            counts = (entry["stats"].get(name) for name in ("actors", "calls", "links_up", "dead_letters"))
            row += (_answers(entry), entry["view"]["number"], entry["members"], *counts)
        else:
            row += (False,)
        rows.append(row + (None,) * (len(columns) - len(row)))
    show(columns, rows)
    silent = [entry for entry in found["nodes"] if not entry["answers"]]
    views = sorted({f"{e['view']['lineage']}/{e['view']['number']}" for e in found["nodes"] if e["answers"]})
    for entry in silent:
        say(f"{entry['id']} ({entry['address']}): {entry['reason']}", bad=True)
    if not found["agreed"]:
        say(f"the members do not agree: they are in the views {', '.join(views)}", bad=True)
    elif views:
        count = len(found["nodes"])
        what = "1 member, in" if count == 1 else f"{count} members, agreed on"
        say(f"cluster {found['cluster']}: {what} view {views[0]}")


def _answers(entry: Answer) -> bool | str:
    return entry["ready"] or ("leaving" if entry["leaving"] else "not ready")


@cli.command()
@looking
def members(look: Look) -> None:
    """List the members, most senior first, as one node sees them."""
    seen = run(look.inquiry().first())
    if look.as_json:
        by = {"id": seen["id"], "address": seen["address"]}
        print_json({"cluster": seen["cluster"], "seen_by": by} | {k: seen[k] for k in ("view", "members")})
        return
    show(
        ("node", "address", "since", "state", "labels", "classes"),
        (
            (
                member["id"],
                member["address"],
                datetime.fromtimestamp(member["started_ms"] / 1000).strftime("%Y-%m-%d %H:%M:%S"),
                "leaving" if member["leaving"] else "up",
                ", ".join(f"{name}={value}" for name, value in sorted(member["labels"].items())),
                ", ".join(member["hosts"]),
            )
            for member in seen["members"]
        ),
    )
    say(f"cluster {seen['cluster']}, view {seen['view']['number']}, as seen by {seen['id']}")


@cli.command()
@looking
@click.option("--class", "wanted", metavar="CLASS", help="Only of this class: its name, or the last part.")
@click.option("--limit", type=click.IntRange(1, MAX_LISTED), default=1000, show_default=True, help="At most so many.")
def actors(look: Look, wanted: str | None, limit: int) -> None:
    """List the actors that are active now, on every member, and those that wait for one."""
    inquiry = look.inquiry()
    total, listed, silent = 0, list[Answer](), list[Answer]()
    for member, answer in run(inquiry.everywhere("actors", limit=limit, **{"class": wanted})):
        where = {"node": member["id"], "address": member["address"]}
        if isinstance(answer, NoAnswerError):
            silent.append(where | {"reason": str(answer)})
        else:
            total += answer["total"]
            nowhere = {"node": None, "address": None, "keeper": member["id"]}  # it keeps the row of one that waits
            listed += [actor | (nowhere if actor.get("waits_for") else where) for actor in answer["actors"]]
    listed = sorted(listed, key=lambda actor: (actor["class"], actor["actor"]))[:limit]
    if look.as_json:
        print_json({"total": total, "actors": listed, "silent": silent})
    else:
        show(
            ("actor", "class", "node", "state", "mailbox", "running", "supervisor", "restarts", "failures"),
            (
                (
                    actor["actor"],
                    actor["class"],
                    actor["node"] or "-",
                    actor["state"],
                    actor["mailbox"],
                    ", ".join(f"{turn['method']} {turn['seconds']:.1f} s" for turn in actor["running"]),
                    actor.get("supervisor") or "",
                    actor.get("restarts", 0),
                    actor["failures"],
                )
                for actor in listed
            ),
        )
        say(f"{len(listed)} of {total} actors" if len(listed) < total else f"{total} actors")
        for entry in silent:
            say(f"{entry['node']} ({entry['address']}): {entry['reason']}", bad=True)
    if silent:
        sys.exit(1)


@cli.command()
@looking
@click.argument("wanted", metavar="CLASS")
@click.argument("key")
@click.option("--int", "kind", flag_value="int", help="KEY is an int; write a negative one after `--`.")
@click.option("--bytes", "kind", flag_value="bytes", help="KEY is bytes, in hexadecimal.")
@click.option("--uuid", "kind", flag_value="uuid", help="KEY is a UUID.")
def locate(look: Look, wanted: str, key: str, kind: str | None) -> None:
    """Say where the ring places the actor of CLASS with KEY now, and whether it is active there."""
    kind = kind or "str"
    try:
        KEY_KINDS[kind](key)
    except ValueError as error:
        raise click.UsageError(f"KEY {key!r} cannot be read as {kind}: {error}") from None
    place = run(look.inquiry().locate(wanted, kind, key))
    if look.as_json:
        print_json({"node" if name == "id" else name: value for name, value in place.items()})
    else:
        state = {True: "active", False: "not active", None: "the node does not answer"}[place["active"]]
        say(f"{place['actor']}: node {place['id']} ({place['address']}), {state}", bad=place["active"] is None)
    if place["active"] is None:
        sys.exit(1)


def main() -> None:
    """Run the command line."""
    cli(prog_name="ringcast")
