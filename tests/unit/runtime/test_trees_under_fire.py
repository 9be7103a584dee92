"""Supervision while nodes are killed in the middle of it: each actor is there once, afterwards. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ringcast import Actor, CallError, ChildSpec, OneForAll, Supervisor, props, tell, using
from ringcast.actors.placement import Near
from ringcast.testing import Cluster, ClusterNode, cluster, simulated


class Anchor(Actor):
    async def ping(self) -> None:
        pass


class Worker(Actor):
    async def ping(self) -> str:
        return "pong"

    async def fail(self) -> None:
        raise LookupError("told to")


class Team(Supervisor, supervision=OneForAll(max_restarts=20)):
    """Three workers, each where it is put."""

    def __init__(self, places: list[Any]) -> None:
        self._places = places

    def children(self) -> Sequence[ChildSpec]:
        named = zip("abc", self._places, strict=True)
        return [ChildSpec(props(Worker), name=name, on=Near(place)) for name, place in named]


class Firm(Supervisor, supervision=OneForAll(max_restarts=20)):
    """A team between two workers."""

    def __init__(self, places: list[Any]) -> None:
        self._places = places

    def children(self) -> Sequence[ChildSpec]:
        return [
            ChildSpec(props(Worker), name="first"),
            ChildSpec(props(Team, self._places), name="team", on=Near(self._places[0])),
            ChildSpec(props(Worker), name="last"),
        ]


TEAM = ["/t", "/t/a", "/t/b", "/t/c"]
FIRM = ["/f", "/f/first", "/f/last", "/f/team", "/f/team/a", "/f/team/b", "/f/team/c"]


def anchor(c: Cluster, node: ClusterNode) -> Any:
    """Return an actor that belongs to a node."""
    return next(ref for ref in (c.ref(Anchor, key) for key in range(1000)) if c.owner(ref) is node)


def near(c: Cluster, *numbers: int) -> list[Any]:
    return [anchor(c, c.node(number)) for number in numbers]


def up(c: Cluster) -> list[str]:
    """Return the paths of the spawned actors that are up, one for each activation."""
    cells = [cell for node in c.running for cell in node.node._host.cells() if cell.actor is not None]
    return sorted(cell.key[1] for cell in cells if cell.life is not None and not cell.life.is_down)


async def stays(c: Cluster, *paths: str) -> None:
    """Wait until these are up, once each, and look whether that stays so."""
    try:
        await c.until(lambda: up(c) == sorted(paths), 40, f"{paths}")
    except AssertionError as error:
        raise AssertionError(f"up are {up(c)}, not {sorted(paths)}") from error
    await asyncio.sleep(20)
    assert up(c) == sorted(paths)


SECONDS = [0.0, 0.002, 0.12]


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("killed", [[1], [2], [2, 3]], ids=str)
@simulated
async def test_nodes_are_killed_while_all_siblings_are_restarted(killed: list[int], seconds: float) -> None:
    async with cluster(6) as c:
        team: Any = await c.node(0).spawn(props(Team, near(c, 2, 3, 4)), name="t", on=Near(anchor(c, c.node(1))))
        await stays(c, *TEAM)
        child: Any = await team.child("b")
        await tell(child.fail)
        await asyncio.sleep(seconds)
        for number in killed:
            await c.kill(number)
        await c.settled()
        await stays(c, *TEAM)
        for name in "abc":
            child = await team.child(name)
            assert await child.ping() == "pong"


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("order", [[1, 2], [2, 3]], ids=str)
@simulated
async def test_nested_supervisors_are_lost_one_after_the_other(order: list[int], seconds: float) -> None:
    async with cluster(6) as c:
        firm: Any = await c.node(0).spawn(props(Firm, near(c, 2, 3, 4)), name="f", on=Near(anchor(c, c.node(1))))
        await stays(c, *FIRM)
        for number in order:
            await c.kill(number)
            await asyncio.sleep(seconds)
        await c.settled()
        await stays(c, *FIRM)
        team: Any = await firm.child("team")
        await tell((await team.child("c")).fail)
        await asyncio.sleep(1)
        await stays(c, *FIRM)


@pytest.mark.parametrize("seconds", SECONDS)
@pytest.mark.parametrize("killed", [1, 5])
@simulated
async def test_a_child_is_added_while_the_node_of_its_supervisor_is_killed(killed: int, seconds: float) -> None:
    async with cluster(6) as c:
        team: Any = await c.node(0).spawn(props(Team, near(c, 2, 3, 4)), name="t", on=Near(anchor(c, c.node(1))))
        await stays(c, *TEAM)
        spec = ChildSpec(props(Worker), name="d", on=Near(anchor(c, c.node(5))))
        adding = asyncio.ensure_future(using(team, timeout=20.0).add_child(spec))
        await asyncio.sleep(seconds / 10)
        await c.kill(killed)
        await c.settled()
        added: Any
        try:
            added = await adding
        except CallError:
            added = await using(team, timeout=20.0).add_child(spec)
        assert await added.ping() == "pong"
        await stays(c, *TEAM, "/t/d")
        await c.kill(c.owner(team))
        await c.settled()
        await stays(c, *TEAM, "/t/d")


@pytest.mark.parametrize("pause", [0.3, 0.9])
@simulated
async def test_three_of_five_are_killed_within_two_seconds(pause: float) -> None:
    async with cluster(5) as c:
        for number in range(4):
            await c.node(0).spawn(
                props(Firm, near(c, 2, 3, 4)), name=f"f{number}", on=Near(anchor(c, c.node(1 + number)))
            )
        paths = [path.replace("/f", f"/f{number}", 1) for number in range(4) for path in FIRM]
        await stays(c, *paths)
        for number in (1, 2, 3):
            await c.kill(number)
            await asyncio.sleep(pause)
        await c.settled()
        await stays(c, *paths)
