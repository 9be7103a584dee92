"""The secret is changed under load: three steps of its file, and nobody notices."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from benchmarks.hostile_rotation import ASKS_PER_SECOND, rotation
from ringcast import HandshakeRefused, Node, Seeds
from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key


async def test_a_rotation_fails_no_call_and_evicts_nobody() -> None:
    done = await rotation()
    assert (done.failed, done.evicted) == (0, 0)
    assert done.asks > ASKS_PER_SECOND


async def test_a_node_with_the_dropped_key_stays_out(tmp_path: Path) -> None:
    old, new = new_key(1), new_key(2)
    now, before = tmp_path / "now", tmp_path / "before"
    write_private(now, Secret((new,)).render())
    write_private(before, Secret((old,)).render())
    cluster = f"dropped-{os.getpid()}"
    async with Node(cluster=cluster, secret=now, discovery=[]) as node:
        other = Node(cluster=cluster, secret=before, discovery=[Seeds([node.address])])
        with pytest.raises(HandshakeRefused, match="secret"):
            async with asyncio.timeout(5), other:
                pass
        assert len(node.members) == 1
