"""What a supervisor has stopped for good stays so, also when it is lost with its node at once. In virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from ringcast import Actor, ChildSpec, Node, Supervisor, props
from ringcast.testing import Cluster, ClusterNode, cluster, simulated


class Leaf(Actor):
    async def ping(self) -> str:
        return "pong"


class Tree(Supervisor):
    def children(self) -> Sequence[ChildSpec]:
        return [ChildSpec(props(Leaf), name=name) for name in "abcdef"]

    async def names(self) -> list[str]:
        return sorted(self.context.children)

    async def ping_child(self, name: str) -> str:
        return str(await self.context.children[name].ping())


async def the_tree(c: Cluster) -> Any:
    """Start it, or find it where it is by now."""
    return await c.running[0].spawn(props(Tree), name="tree")


async def stop_child(node: Node, name: str) -> bool:
    tree = await node.supervise(Tree, name="tree")
    await node.stop(await tree.child(name))
    return True


def node_of(c: Cluster, ref: Any) -> ClusterNode:
    """Where a spawned actor runs."""
    kind, key = ref._type_name, ref._key
    return next(node for node in c.running if key in node.node._host.kinds.named(kind).cells)


async def lose(c: Cluster, ref: Any, how: str) -> None:
    await (c.kill(node_of(c, ref)) if how == "kill" else c.leave(node_of(c, ref)))
    await c.settled()


@pytest.mark.parametrize("how", ["kill", "leave"])
@simulated
async def test_children_that_were_removed_do_not_come_back_with_their_supervisor(how: str) -> None:
    async with cluster(5) as c:
        tree = await the_tree(c)
        await tree.add_child(ChildSpec(props(Leaf), name="g"))
        for name in "aceg":
            assert await tree.remove_child(name)
        await tree.add_child(ChildSpec(props(Leaf), name="c"))
        await lose(c, tree, how)
        again = await the_tree(c)
        assert await again.names() == ["b", "c", "d", "f"]
        assert await again.ping_child("f") == "pong"
        await lose(c, again, how)
        again = await the_tree(c)
        assert await again.names() == ["b", "c", "d", "f"]


@simulated
async def test_who_stops_a_child_from_outside_is_answered_when_that_is_noted() -> None:
    async with cluster(5) as c:
        tree = await the_tree(c)
        for name in "bdf":
            assert await c.running[0].run(partial(stop_child, name=name))
        await lose(c, tree, "kill")
        again = await the_tree(c)
        assert await again.names() == ["a", "c", "e"]


@simulated
async def test_names_that_are_not_declared_are_not_remembered() -> None:
    async with cluster(3) as c:
        tree = await the_tree(c)
        for number in range(20):
            await tree.add_child(ChildSpec(props(Leaf), name=f"extra-{number}"))
            assert await tree.remove_child(f"extra-{number}")
        cell = node_of(c, tree).node._host.kinds.named(tree._type_name).cells[tree._key]
        assert cell.life is not None
        assert cell.life.notes.removed == ()
        assert await tree.names() == list("abcdef")
