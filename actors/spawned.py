"""The keys of spawned actors: a mark, and the path from the root through the supervisors."""

from __future__ import annotations

from typing import cast

SPAWNED = "\0spawned"
"""First part of the key of a spawned actor; user keys may not begin with it."""


def is_spawned(key: object) -> bool:
    """Whether a key is that of a spawned actor; keys come from clients, too, and may be made to look like one."""
    if not isinstance(key, tuple):
        return False
    parts = cast("tuple[object, ...]", key)
    return len(parts) == 2 and parts[0] == SPAWNED and isinstance(parts[1], str)
