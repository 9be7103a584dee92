"""Takes a node's lease away, and gives it back: the membership goes on, and its renewals are not heard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
    driver = node._membership._driver
    assert driver is not None
    gate = driver._gate
    driver._gate = Gate()  # which opens and shuts, and lets nobody through
    _close(node)
    try:
        yield
    finally:
        driver._gate = gate
