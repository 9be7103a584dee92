"""A write, said again until its outcome is known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from time import monotonic

from ringcast.errors import MAYBE_EXECUTED, NOT_SENT, StaleActivation, StoreError, VersionConflict

from .port import Outcome, Store, Write, Written

__all__ = ["commit"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


async def commit(store: Store, write: Write, patience: float, first: Awaitable[Written] | None = None) -> None:
    """Write a row, and return when it is surely written.

    Nothing else may be written by the activation meanwhile.

    Args:
        store: Where.
        write: What; its `op_id` was never used before.
        patience: Seconds to say it again, while its outcome is unknown.
        first: What comes of its first try, if that has begun.

    Raises:
        StaleActivation: A newer activation has claimed the row; surely not written.
        VersionConflict: The outcome was unknown, and the row has changed meanwhile: it may have been written
            before that. Certainty MAYBE_EXECUTED.
        StoreError: Surely not written (NOT_SENT), or still unknown (MAYBE_EXECUTED).
    """
    written = await (store.write(write) if first is None else first)
    if written.outcome is Outcome.COMMITTED:
        return
    if written.outcome is Outcome.FENCED:
        raise StaleActivation(
            f"a newer activation has claimed {write.id}, so version {write.ver + 1} was not written by this one",
            certainty=NOT_SENT,
        )
    why = written.why
    end = monotonic() + patience
    pause = _FIRST_PAUSE
    while (left := end - monotonic()) > 0:
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE)
        try:
            written = await store.write(write)
        except StoreError as error:  # it was not written now; the first one may have been
            why = str(error)
            continue
        if written.outcome is Outcome.COMMITTED:
            return
        if written.outcome is Outcome.FENCED:
            raise VersionConflict(
                f"{write.id} was claimed by a newer activation while it was unknown whether version {write.ver + 1} "
                f"had been written ({why}): look at its state before you try again",
                certainty=MAYBE_EXECUTED,
            )
        why = written.why
    raise StoreError(
        f"{store.name} has not said for {patience:.1f} s whether version {write.ver + 1} of {write.id} was written, "
        f"and it may still be: {why}",
        certainty=MAYBE_EXECUTED,
    )
