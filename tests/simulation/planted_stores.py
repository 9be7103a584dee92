"""Mistakes around the store that the checkers of durable state must find; see `planted_nodes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from ringcast.errors import StoreError
from ringcast.runtime import durability
from ringcast.runtime.simulation.rows import SimulatedStore
from ringcast.runtime.stores import Claim, Claimed, MemoryStore, Store, Write, Written

Patch = pytest.MonkeyPatch


def no_version_check(patch: Patch) -> None:
    """A write takes effect whatever version the row has: nothing is compared before it is set."""
    write: Any = MemoryStore.write

    async def overwrite(self: MemoryStore, it: Write) -> Written:
        row = self._rows.get(it.id)
        return await write(self, it if row is None else it._replace(ver=row.ver))  # type: ignore[no-any-return]

    patch.setattr(MemoryStore, "write", overwrite)


def claim_without_fence(patch: Patch) -> None:
    """A claim reads the row, and leaves its version as it is."""
    claim: Any = MemoryStore.claim

    async def read(self: MemoryStore, it: Claim) -> Claimed | None:
        found: Claimed | None = await claim(self, it)
        row = self._rows[it.id]
        if found is not None and row.op_id:
            row.ver -= 1
            return replace(found, ver=row.ver)
        return found

    patch.setattr(MemoryStore, "claim", read)


def acknowledged_before_commit(patch: Patch) -> None:
    """A write whose outcome is unknown counts as done."""

    async def commit(store: Store, write: Write, patience: float, first: Awaitable[Written] | None = None) -> None:
        await (store.write(write) if first is None else first)

    patch.setattr(durability, "commit", commit)


def refused_is_done(patch: Patch) -> None:
    """A store that is away is taken for one that has nothing to say."""
    commit: Any = vars(durability)["commit"]

    async def try_it(store: Store, write: Write, patience: float, first: Awaitable[Written] | None = None) -> None:
        try:
            await commit(store, write, patience, first)
        except StoreError as error:
            if type(error) is not StoreError:
                raise

    patch.setattr(durability, "commit", try_it)


def forgotten_keys(patch: Patch) -> None:
    """Replies are not written with the state, so that a call that is repeated runs again."""
    write: Any = SimulatedStore.write

    async def without(self: SimulatedStore, it: Write) -> Written:
        return await write(self, it._replace(replies=()))  # type: ignore[no-any-return]

    patch.setattr(SimulatedStore, "write", without)


def repeated_as_another(patch: Patch) -> None:
    """A write that is said again has another name, and so takes effect over the one that was its own."""
    write: Any = MemoryStore.write

    async def forget(self: MemoryStore, it: Write) -> Written:
        row = self._rows.get(it.id)
        if row is not None and row.op_id == it.op_id:
            it = it._replace(ver=row.ver)
        return await write(self, it)  # type: ignore[no-any-return]

    patch.setattr(MemoryStore, "write", forget)


PLANTED: dict[str, Callable[[Patch], None]] = {
    mistake.__name__: mistake
    for mistake in (
        no_version_check,
        claim_without_fence,
        acknowledged_before_commit,
        refused_is_done,
        forgotten_keys,
        repeated_as_another,
    )
}
"""By name."""
