"""A call to an actor that nobody hosts."""

import pytest

from ringcast import NOT_SENT, Actor, Node, Unreachable


class Nowhere(Actor, name="tests.Nowhere"):
    async def ping(self) -> None:
        """Never run."""


async def test_error_names_actor_and_method() -> None:
    async with Node(discovery=[], hosts=[]) as node:
        with pytest.raises(Unreachable) as caught:
            await node.ref(Nowhere, 1).ping()
    error = caught.value
    assert (error.actor, error.method, error.certainty) == ("tests.Nowhere[1]", "ping", NOT_SENT)
