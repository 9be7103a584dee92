"""What a client with a good credential tries beyond it: its frames may harm itself, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ringcast import ActorName, ActorStopped, Client, Identity, Node, NotAllowed, Seeds, props
from ringcast.actors.naming import NAME_MAX
from ringcast.actors.ref import SPAWNED
from ringcast.runtime import wire
from tests.unit.runtime.outside import Cart, Outside, outside
from tests.unit.runtime.places import eventually, raised

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
        assert await at_the_gateway.add("tea") == 1, "its keeper knows better"
        here: Any = out.gateway._host.kinds.ref_by_name(CART, spawned._key, spawned._node)
        assert await here.add("tea") == 2
        made_up = named(client, (spawned._key[0], "/nobody"), spawned._node)
        assert isinstance(await raised(made_up.add("tea")), ActorStopped)


async def test_credit_for_a_spawned_actor_comes_back_to_a_client(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=True) as out, out.client() as client:
        spawned: Any = await out.owner.spawn(props(Cart), name="w")
        cart = named(client, spawned._key, spawned._node)
        for count in range(1, 300):
            assert await cart.add("tea") == count


async def test_a_name_that_is_too_long_ends_the_clients_connection_and_no_other(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=True) as out, out.client() as client:
        await client.ref(Cart, "ann").add("tea")
        before, (own,) = links(out), out.gateway._gateway.links
        client._uplink.gateway.send_frame([wire.CALL, 99, CART, "m" * (NAME_MAX + 1), "ann", None, 1000, b"", None])
        await eventually(lambda: own not in out.gateway._gateway.links)
        assert links(out) == before


def no_clients(caller: Identity, actor: ActorName, method: str) -> bool | str:
    return caller.role == "node" or "no clients here"


async def test_what_the_owner_refuses_takes_no_credit_from_the_gateway(tmp_path: Path) -> None:
    async with outside(tmp_path, remote=False) as out:
        options: dict[str, Any] = {"cluster": out.cluster, "secret": tmp_path / "secret"}
        async with Node(**options, discovery=[Seeds([out.gateway.address])], authorize=no_clients) as owner:
            kinds = out.gateway._host.kinds
            await eventually(lambda: len(kinds.hosts(kinds.named(CART))) == 2)
            key = next(key for key in range(1000) if kinds.owner(kinds.named(CART), key, None) == owner.id)
            async with out.client() as client:
                for _ in range(wire.WINDOW + 1):
                    error = await raised(client.ref(Cart, key).add("tea"))
                    assert isinstance(error, NotAllowed)
            assert await out.gateway.ref(Cart, key).lines() == []
