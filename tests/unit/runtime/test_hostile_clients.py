"""What a client with a good credential tries beyond it: its frames may harm itself, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ringcast import ActorStopped, Client, NotAllowed, props
from ringcast.actors.ref import SPAWNED
from tests.unit.runtime.outside import Cart, Outside, outside
from tests.unit.runtime.places import raised

CART = "tests.unit.runtime.outside:Cart"


def named(client: Client, key: Any, node: str | None = None) -> Any:
    """Return a ref that no node has handed out."""
    return client._kinds.ref_by_name(CART, key, node)


def links(out: Outside) -> list[Any]:
    return [link.connection for node in (out.gateway, out.owner) for link in node._peers.links.values()]


@pytest.mark.parametrize("key", [(SPAWNED,), (SPAWNED, 1), (SPAWNED, SPAWNED, (SPAWNED,)), (SPAWNED, b"/w")])
async def test_a_key_that_looks_like_a_spawned_actors_is_a_key_like_others(tmp_path: Path, key: Any) -> None:
    async with outside(tmp_path, remote=True) as out, out.client() as client:
        await client.ref(Cart, "ann").add("tea")
        before = links(out)
        cart = named(client, key)
        assert await cart.add("tea") == 1
        assert isinstance(await raised(cart.wipe()), NotAllowed)
        assert links(out) == before, "the connection between the members must not suffer"


async def test_a_client_that_names_a_wrong_node_leads_nobody_elses_calls_there(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=True) as out, out.client() as client:
        spawned: Any = await out.owner.spawn(props(Cart), name="w")
        at_the_gateway = named(client, spawned._key, out.gateway.id)
        assert isinstance(await raised(at_the_gateway.add("tea")), ActorStopped)
        here: Any = out.gateway._host.kinds.ref_by_name(CART, spawned._key, spawned._node)
        assert await here.add("tea") == 1


async def test_credit_for_a_spawned_actor_comes_back_to_a_client(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=True) as out, out.client() as client:
        spawned: Any = await out.owner.spawn(props(Cart), name="w")
        cart = named(client, spawned._key, spawned._node)
        for count in range(1, 300):
            assert await cart.add("tea") == count
