"""The port to a store: rows that are claimed, then written by compare-and-set.

An actor's state is one row. Its `ver` only grows, and is the fence:

* An activation *claims* its row before anything else, which raises `ver`. From then on no write of an
  older activation commits, even if nothing has been written since: each write names the version that it
  replaces.
* A claim is refused if a newer view of the same lineage has claimed the row. Claims of different lineages
  (two halves that did not know of each other) follow one another; each fences the one before.
* Deletion writes no payload. The row stays, for its `ver` must not go back.

A write may have an unknown outcome: the connection ended, and nobody knows on which side of the commit. Each
write therefore carries an `op_id` of its own, which it leaves in the row. The same write, said again, commits
if the first one has not, and otherwise finds its own `op_id` there; `commit` does that. So a store must
never say `FENCED` of a write that may still arrive, and never repeat one by itself.

Replies to remember (idempotency keys) are written in the transaction of the write that they belong to. `due`
is when the row's earliest reminder is due: what is due can be asked for, across all rows.

Times are Unix seconds, by the clocks of the nodes. All methods belong to the loop that `open` was called on,
and are safe to call concurrently.

References:
    Gray, Cheriton. "Leases: an efficient fault-tolerant mechanism". SOSP 1989; the fence of a version is
    what makes a lease that was held too long harmless.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol, TypeVar

from ringcast.errors import StoreError
from ringcast.values import dataclass

__all__ = ["Claim", "Claimed", "Outcome", "PromptStore", "Reply", "Store", "Told", "Write", "Written"]

T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Claim:
    """An activation's claim to a row.

    Attributes:
        id: The row; at most 1,500 characters, none of them NUL.
        lineage: The chain of views that the owner believes in.
        view: The number of the owner's view; at most 63 bits.
        owner: The owner's node id, for people.
    """

    id: str
    lineage: str
    view: int
    owner: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim found.

    Attributes:
        ver: The row's version by now: the first write names it. It fences all that were before.
        schema: The version of the payload's form, as it was written; 0 if nothing was.
        payload: The state; None if none was written, or it was deleted.
    """

    ver: int
    schema: int
    payload: bytes | None


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply to remember with a write.

    Attributes:
        key: What it is found by, beside the row's id; at most 1,000 characters, none of them NUL.
        reply: What was answered.
        expires: Unix seconds after which it need not be remembered.
    """

    key: str
    reply: bytes
    expires: float


class Write(NamedTuple):
    """One write of one row, all of it or nothing. A tuple, for one is made per save.

    Attributes:
        id: The row.
        ver: The version that it replaces; it becomes one more.
        op_id: 16 random bytes that no other write has; see the module.
        schema: The version of the payload's form.
        payload: The new state; None deletes it.
        due: When the earliest reminder is due, Unix seconds; None for no reminder.
        replies: Replies to remember; they take the place of older ones of the same keys.
        keep: Forget all of the row's replies but so many of the newest, which is at least what it brings; None
            forgets none.
    """

    id: str
    ver: int
    op_id: bytes
    schema: int
    payload: bytes | None
    due: float | None = None
    replies: tuple[Reply, ...] = ()
    keep: int | None = None


class Outcome(enum.Enum):
    """What became of a write."""

    COMMITTED = "committed"
    """It is in the store, and outlasts what the store outlasts."""
    FENCED = "fenced"
    """The row has another version. Said of the first try, the write is surely not in the store."""
    UNKNOWN = "unknown"
    """It may be in the store, or may still arrive there: say it again, the same."""


@dataclass(frozen=True, slots=True)
class Written:
    """A write's outcome, and for an unknown one what happened, for people."""

    outcome: Outcome
    why: str = ""


COMMITTED = Written(Outcome.COMMITTED)
FENCED = Written(Outcome.FENCED)


class Told(Protocol[T_contra]):
    """Is told what became of something."""

    def __call__(self, result: T_contra | None, error: StoreError | None, /) -> None:
        """It was done, with a result; or it was refused."""
        ...


class Store(Protocol):
    """Where rows are kept. What it cannot do, it refuses with `StoreError`, certainty NOT_SENT."""

    name: str
    """What people call it: its address without a password."""

    async def open(self) -> str:
        """Make ready, any number of times; return the store's id, random and the same for ever.

        Raises:
            StoreError: If it cannot be reached or used; a later try may succeed.
        """
        ...

    async def claim(self, claim: Claim) -> Claimed | None:
        """Claim a row, which is made if it is not there; None if a newer view of the lineage has it.

        A claim whose outcome is unknown is an error too: it is claimed again.

        Raises:
            StoreError: If the store is away.
        """
        ...

    async def write(self, write: Write) -> Written:
        """Write a row if it still has the version that the write names, or has this very write already.

        Raises:
            StoreError: If it was surely not written, and will not be: certainty NOT_SENT.
        """
        ...

    async def reply(self, id: str, key: str, now: float) -> bytes | None:
        """Return a remembered reply that has not expired.

        Raises:
            StoreError: If the store is away.
        """
        ...

    async def due(self, before: float, after: tuple[float, str] | None, limit: int) -> list[tuple[float, str]]:
        """Return (due, id) of rows whose earliest reminder is due before a time, in order.

        Args:
            before: Unix seconds.
            after: The last one of the page before; None for the first page.
            limit: Rows in a page, at most.

        Raises:
            StoreError: If the store is away.
        """
        ...

    async def prune(self, now: float) -> int:
        """Forget replies that have expired; return how many, or 0 where the store does it by itself.

        Raises:
            StoreError: If the store is away.
        """
        ...

    async def close(self) -> None:
        """Let go of what is open, after what is under way; any number of times."""
        ...


class PromptStore(Store, Protocol):
    """A store that needs no task for a write."""

    def begin(self, write: Write, told: Told[Written], /) -> None:
        """Begin a write, and tell what `Store.write` would return or raise: later in a tick of its own, or at once."""
        ...
