"""Takes a node's lease away, and gives it back: the membership goes on, and its renewals are not heard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ringcast import Node
from ringcast.discovery.gate import NEVER, Gate


def _close(node: Node) -> None:
    gate = node._gate
    with gate._lock:
        gate._set(NEVER, 0.0)
        gate._granted = NEVER


@contextmanager
def no_lease(node: Node) -> Iterator[None]:
    """Leave the node without a lease, until the end of the block and the next renewal."""
    gate = node._gate
    grant = Gate.grant
    deaf = {id(gate)}

    def granted(self: Gate, until: float) -> bool:
        return False if id(self) in deaf else grant(self, until)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gate, "grant", granted)
        _close(node)
        yield
