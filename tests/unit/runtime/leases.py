"""Takes a node's lease away, and gives it back: the membership goes on, and its renewals are not heard."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ringcast import Node
from ringcast.discovery.gate import NEVER


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
    heard = driver._on_lease
    driver._on_lease = lambda until: None  # type: ignore[method-assign]
    _close(node)
    try:
        yield
    finally:
        driver._on_lease = heard  # type: ignore[method-assign]
