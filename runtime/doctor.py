"""Why nodes do not see each other: what `ringcast doctor` finds, and what to do about each of it.

A finding is a value: its level, what it is about, what was found, what to do. What is tried is in
`interfaces`, `browse` and `examination`; what it means is said here, by functions of what was found.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
import platform
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

import ringcast
from ringcast.errors import ConfigError
from ringcast.values import dataclass

from ..discovery.address import is_loopback, is_wildcard, split_address
from ..security.trust import Trust
from .browse import Announced, announcements
from .examination import Datagrams, Examined, Unfit, examine, try_datagrams
from .inquiry import Answer
from .interfaces import Interface, interfaces, multicast_fails
from .wire import PROTOCOL

__all__ = ["Finding", "Level", "findings"]

SKEW_WARNS = 1.0
SKEW_FAILS = 3600.0
"""Seconds by which clocks may differ: certificates are dated back by an hour, and not more."""

KNOWN = frozenset(
    f"RINGCAST_{name}"
    for name in (
        "ADVERTISE",
        "BOOTSTRAP",
        "CLUSTER",
        "DATA_DIR",
        "DISCOVERY",
        "EXPECT",
        "HOSTS",
        "LABELS",
        "LISTEN",
        "LOG",
        "SECRET",
        "SECRET_FILE",
        "SPLIT_BRAIN",
        "STORE",
        "TLS_CA",
        "TLS_CERT",
        "TLS_KEY",
    )
)


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: How bad it is.
        about: What it is about, such as ``interface eth0 (10.0.0.5)``.
        found: What was found.
        todo: What to do about it; empty if nothing.
    """

    level: Level
    about: str
    found: str
    todo: str = ""

    def shown(self) -> dict[str, str]:
        """Return it for JSON."""
        return {name: str(value) for name, value in asdict(self).items()}


async def findings(
    trust: Trust,
    addresses: Sequence[str],
    on: Sequence[Interface],
    environment: Mapping[str, str],
    *,
    seconds: float,
    limit: float,
) -> list[Finding]:
    """Look at everything.

    Args:
        trust: Who looks, and whom it believes.
        addresses: Nodes to examine, beside those that announce themselves and the members that these know.
        on: The interfaces to try and to listen on.
        environment: The variables that are set.
        seconds: How long to listen for announcements.
        limit: Seconds for each step of an examination.
    """
    found = [*about_environment(environment), about_secret(trust)]
    failed = await asyncio.gather(*(multicast_fails(interface.address) for interface in on))
    found += about_interfaces(dict(zip(on, failed, strict=True)), interfaces())
    usable = [interface.address for interface, reason in zip(on, failed, strict=True) if reason is None]
    announced = await _listen(usable, seconds)
    found += about_announcements(announced, trust.tags, bool(usable))
    ours = [one.address for one in announced if one.tag in trust.tags]
    examined = await _examine(trust, list(dict.fromkeys((*addresses, *ours))), limit)
    for address, (what, datagrams) in examined.items():
        found += about_node(trust, address, what, datagrams)
    nodes = {address: what for address, (what, _) in examined.items() if isinstance(what, Examined)}
    found += about_views({address: what.status for address, what in nodes.items()})
    if not examined:
        found.append(
            Finding(
                Level.PROBLEM,
                "nodes",
                "there is none to examine: nobody announces itself with this secret and cluster",
                "start one with `ringcast up`, or name one: ringcast doctor --node HOST:PORT",
            )
        )
    return found


async def _listen(usable: Sequence[str], seconds: float) -> list[Announced]:
    heard: dict[Announced, None] = {}
    if not usable:
        return []
    with contextlib.suppress(TimeoutError, OSError):  # an interface went away: it was tried a moment ago
        async with announcements(usable) as found, asyncio.timeout(seconds):
            while True:
                heard[await found.get()] = None
    return list(heard)


async def _examine(
    trust: Trust, addresses: Sequence[str], limit: float
) -> dict[str, tuple[Examined | Unfit, Datagrams | str | None]]:
    """Examine the addresses, and then those of all members that were heard of there."""
    seen: dict[str, tuple[Examined | Unfit, Datagrams | str | None]] = {}
    while new := [address for address in addresses if address not in seen]:
        each = await asyncio.gather(*(_examine_one(trust, address, limit) for address in new))
        seen.update(zip(new, each, strict=True))
        known = [what.status for what, _ in each if isinstance(what, Examined)]
        ids = {what.status["id"] for what, _ in seen.values() if isinstance(what, Examined)}
        addresses = [member["address"] for status in known for member in status["members"] if member["id"] not in ids]
        addresses = list(dict.fromkeys(addresses))
    return seen


async def _examine_one(trust: Trust, address: str, limit: float) -> tuple[Examined | Unfit, Datagrams | str | None]:
    what = await examine(trust, address, limit)
    if isinstance(what, Unfit):
        return what, None
    try:
        return what, await try_datagrams(trust, address, what.status, limit)
    except (OSError, ValueError, EOFError, TimeoutError) as error:
        return what, str(error) or type(error).__name__


# ---- what it means ---------------------------------------------------------------------------------


def about_environment(environment: Mapping[str, str]) -> Iterator[Finding]:
    """Say which variables are set, for they are easily forgotten."""
    for name in sorted(name for name in environment if name.startswith("RINGCAST_")):
        about = f"variable {name}"
        if name not in KNOWN:
            yield Finding(Level.WARNING, about, "is set, and means nothing", f"there are {', '.join(sorted(KNOWN))}")
        elif name == "RINGCAST_SECRET":
            yield Finding(
                Level.WARNING,
                about,
                "holds the secret: other processes of this user, and crash reports, can show it",
                "prefer RINGCAST_SECRET_FILE and a private file",
            )
        else:
            yield Finding(Level.OK, about, f"is {environment[name]!r}")


def about_secret(trust: Trust) -> Finding:
    """Say which keys this side has."""
    about = f"this side, cluster {trust.cluster!r}"
    keys = f"it signs with key {trust.signing} and accepts {', '.join(trust.accepted)}"
    this = f"ringcast {ringcast.__version__}, protocol {_numbers(PROTOCOL)}, Python {platform.python_version()}"
    if trust.is_named:
        return Finding(Level.OK, about, f"{keys}; {this}")
    return Finding(
        Level.OK,
        about,
        f"{keys}, of the secret that was made for this user; {this}",
        "nodes listen beyond this machine with a secret that you give them: `ringcast secret new FILE`, copied to each",
    )


def about_interfaces(tried: Mapping[Interface, str | None], known: Collection[Interface]) -> Iterator[Finding]:
    """Say on which interfaces multicast works (None is success), and whether any known one leads elsewhere."""
    for interface, reason in tried.items():
        about = f"interface {interface.name} ({interface.address})"
        if reason is None:
            yield Finding(Level.OK, about, "multicast works: an own question came back")
        else:
            yield Finding(
                Level.WARNING,
                about,
                f"no multicast: {reason}",
                "zeroconf finds nobody over this interface; is it up, and does a firewall drop UDP port 5353? "
                "Otherwise name some nodes: --seed HOST:PORT, or --dns",
            )
    if all(is_loopback(interface.address) for interface in known):
        yield Finding(
            Level.WARNING,
            "interfaces",
            "there is none but the loopback: no other machine can be reached",
            "connect this machine, or this container, to a network",
        )


def about_announcements(announced: Collection[Announced], tags: Collection[str], can_hear: bool) -> Iterator[Finding]:
    """Say who announces itself, and whether that is for us."""
    if not can_hear:
        return
    ours = sorted(one.address for one in announced if one.tag in tags)
    others: dict[str, list[str]] = {}
    for one in announced:
        if one.tag not in tags:
            others.setdefault(one.tag, []).append(one.address)
    if ours:
        yield Finding(Level.OK, "announcements", f"with this secret and cluster: {', '.join(ours)}")
    else:
        yield Finding(
            Level.WARNING,
            "announcements",
            "no node announces itself with this secret and cluster",
            "on machines of one network segment each node must hear the others; else name some with --seed or --dns",
        )
    for tag, addresses in sorted(others.items()):
        yield Finding(
            Level.WARNING,
            f"announcements {tag[:8]}…",
            f"{', '.join(sorted(addresses))} announce themselves under another secret, or as another cluster; which of "
            "the two cannot be told from the tag",
            "if they belong here: compare their --cluster, and `ringcast secret show` on both machines; "
            f"`ringcast doctor --node {min(addresses)}` says more",
        )


def about_node(
    trust: Trust, address: str, what: Examined | Unfit, datagrams: Datagrams | str | None
) -> Iterator[Finding]:
    """Say what is wrong with one address, in the order in which it must be put right."""
    about = f"node {address}"
    if isinstance(what, Unfit):
        yield Finding(Level.PROBLEM, about, what.found, what.todo)
        return
    status = what.status
    about = f"node {status['id']} ({address})"
    leaving = any(member["id"] == status["id"] and member["leaving"] for member in status["members"])
    if status["ready"] or leaving:
        yield Finding(Level.OK, about, "TCP and TLS work: it has this secret and cluster")
    else:
        yield Finding(Level.WARNING, about, "answers, and is not ready: it joins, or leaves", "look again in a moment")
    yield from _about_datagrams(about, datagrams)
    yield from _about_clock(about, what.skew)
    yield from _about_keys(trust, about, status["secret"])
    yield from _about_versions(about, status["versions"])
    yield from _about_address(about, address, status)


def _about_datagrams(about: str, datagrams: Datagrams | str | None) -> Iterator[Finding]:
    if datagrams is None:
        return
    if isinstance(datagrams, str):
        yield Finding(Level.WARNING, about, f"UDP could not be tried: {datagrams}", "try again")
    elif datagrams.there and datagrams.back:
        yield Finding(Level.OK, about, "UDP works, there and back")
    else:
        what = "UDP does not arrive there" if not datagrams.there else "UDP from there does not arrive here"
        yield Finding(
            Level.PROBLEM,
            about,
            "TCP works and UDP does not, in either direction" if not (datagrams.there or datagrams.back) else what,
            "open UDP, too, on the port that is open for TCP, both ways: in firewalls, security groups, a container's "
            "ports",
        )


def _about_clock(about: str, skew: float) -> Iterator[Finding]:
    size = abs(skew)
    way = "ahead of" if skew > 0 else "behind"
    found = f"its clock is {size:.1f} s {way} this machine's"
    todo = "set the clocks of both machines (NTP)"
    if not math.isfinite(size) or size > SKEW_FAILS:
        yield Finding(Level.PROBLEM, about, f"{found}: certificates are refused for that", todo)
    elif size > SKEW_WARNS:
        yield Finding(Level.WARNING, about, f"{found}; over an hour certificates are refused", todo)
    else:
        yield Finding(Level.OK, about, "its clock agrees with this machine's")


def _about_keys(trust: Trust, about: str, secret: Mapping[str, object]) -> Iterator[Finding]:
    theirs, ours = list(_texts(secret["accepts"])), list(trust.accepted)
    if set(theirs) != set(ours) or secret["signs"] != trust.signing:
        yield Finding(
            Level.WARNING,
            about,
            f"it signs with key {secret['signs']} and accepts {', '.join(theirs)}; this side signs with "
            f"{trust.signing} and accepts {', '.join(ours)}",
            "a key is being changed: give both the same file before the next `ringcast secret rotate`",
        )


def _about_versions(about: str, versions: Mapping[str, object]) -> Iterator[Finding]:
    low, high = (int(number) for number in _texts(versions["protocol"]))
    if low > PROTOCOL[1] or high < PROTOCOL[0]:
        yield Finding(
            Level.PROBLEM,
            about,
            f"it speaks protocol {_numbers((low, high))}, and this side {_numbers(PROTOCOL)}",
            "install the same version of ringcast on both",
        )
    theirs, python = str(versions["ringcast"]), str(versions["python"])
    if theirs != ringcast.__version__:
        what = f"it runs ringcast {theirs}, and this side {ringcast.__version__}"
        yield Finding(Level.WARNING, about, what, "run the same version everywhere, once an upgrade is through")
    if python.split(".")[:2] != platform.python_version().split(".")[:2]:
        yield Finding(
            Level.WARNING,
            about,
            f"it runs Python {python}, and this side {platform.python_version()}",
            "what is pickled between the two may not be read: use one minor version",
        )


def _about_address(about: str, address: str, status: Answer) -> Iterator[Finding]:
    host, here = split_address(status["address"])[0], split_address(address)[0]
    if is_loopback(here) or is_wildcard(here) or status["address"] == address:
        return
    if is_loopback(host):
        yield Finding(
            Level.PROBLEM,
            about,
            f"it tells others to dial {status['address']}, which is each machine's own",
            "give it --advertise HOST:PORT, with the address by which others reach it",
        )
    else:
        yield Finding(
            Level.WARNING,
            about,
            f"it was reached at {address}, and tells others to dial {status['address']}",
            "if they cannot reach it there: --advertise HOST:PORT",
        )


def about_views(told: Mapping[str, Answer]) -> Iterator[Finding]:
    """Say whether those who answer agree on who is in the cluster."""
    views: dict[str, list[str]] = {}
    for status in {status["id"]: status for status in told.values()}.values():
        members = ", ".join(sorted(member["id"] for member in status["members"]))
        views.setdefault(f"{status['view']['lineage']}/{status['view']['number']} ({members})", []).append(status["id"])
    if len(views) == 1:
        yield Finding(Level.OK, "views", f"all that answer are in view {next(iter(views))}")
    elif views:
        each = "; ".join(f"{', '.join(sorted(ids))}: view {view}" for view, ids in sorted(views.items()))
        yield Finding(
            Level.PROBLEM,
            "views",
            f"the nodes do not agree on who is in the cluster: {each}",
            "look again in a moment; if it stays, the findings above say what keeps them apart",
        )


def _texts(values: object) -> Iterator[str]:
    if not isinstance(values, Iterable):
        raise ConfigError(f"a node has answered {values!r}, where a list belongs")
    for value in values:  # pyright: ignore[reportUnknownVariableType]
        yield str(value)  # pyright: ignore[reportUnknownArgumentType]


def _numbers(protocol: Sequence[int]) -> str:
    low, high = protocol
    return str(low) if low == high else f"{low} to {high}"
