"""The durable side of a node: its store, how states are stored, and which reminders are due.

The store is opened when the node starts, if one was named; the default one, a file, when the first durable
actor needs it, or has left reminders there. While it is open the node looks every `LOOK` seconds for rows with
reminders that are due soon. Whoever owns the actor by its view activates it then; two nodes that both believe
so are set right by the claim. An actor that is active fires its reminders itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import NOT_SENT, ConfigError, StoreError
from ringcast.logger import get_logger

from ..actors.actor import ActorType, imported_types
from ..actors.durable import DurableActor
from ..actors.ref import is_spawned
from .rownames import actor_of_row, row_id
from .stateform import StateForm
from .stores import Claim, Claimed, Store, Told, Write, Written, commit

if TYPE_CHECKING:
    from .codec import Codec
    from .host import Host
    from .kinds import Kind

__all__ = ["KEEP_ROUND", "Durability"]

KEEP_ROUND = 256
"""Remembered replies of one actor between two looks at whether there are too many."""

LOOK = 5.0
"""Seconds between two looks for reminders that are due soon."""

AHEAD = 12.0
"""Seconds that a look sees ahead; more than `LOOK`, so that none is late because a look was."""

PAGE = 500
"""Rows that one look asks for at a time."""

PRUNE = 3600.0
"""Seconds between two rounds of forgetting replies that have expired."""

_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0


class Durability:
    """A node's store, and what the node does with it."""

    def __init__(
        self,
        host: Host,
        codec: Codec,
        store: Store | Callable[[], Store],
        *,
        max_state_bytes: int,
        patience: float,
        start_patience: float,
    ) -> None:
        """Belong to one node.

        Args:
            host: Has the activations.
            codec: Packs states; it must not allow pickle.
            store: The store, or what makes the default one when it is needed.
            max_state_bytes: The largest state.
            patience: Seconds to find out what became of a write.
            start_patience: Seconds that a named store may take to be there when the node starts.
        """
        self.codec = codec
        self.max_state_bytes = max_state_bytes
        self.store_id: str | None = None
        """The id of the store, once it has been opened."""
        self.begin: Callable[[Write, Told[Written]], None] | None = None
        """Begins a write without a task, if the store can; see `PromptStore`. Its outcome is its caller's to tell."""
        self.on_opened: Callable[[str], None] = _ignore
        """Is told the store's id when it has been opened, and an empty one if it is not the cluster's."""
        self._host = host
        self._made: Store | None = None if callable(store) else store
        self._make = store if callable(store) else None
        self._is_named = not callable(store)
        self._patience = patience
        self._start_patience = start_patience
        self._opening = asyncio.Lock()
        self._is_other = False
        self._forms: dict[ActorType, tuple[str, StateForm]] = {}
        self._expected: dict[tuple[str, Any], asyncio.TimerHandle] = {}
        self._look_again = asyncio.Event()
        self._log = get_logger("ringcast").bind(node=host.node_id)
        self._counts = {"state_claims": 0, "state_saves": 0, "state_replays": 0, "state_fenced": 0}

    # ---- the store ---------------------------------------------------------------------------------

    async def start(self, hosted: frozenset[str]) -> None:
        """Open a store that was named; the default one only if durable actors are hosted: it may have reminders.

        Args:
            hosted: The names of the classes that this node hosts.

        Raises:
            StoreError: If a named store is not there within `start_patience` seconds.
        """
        if not self._is_named:
            if _has_durable(hosted):
                await self._open_quietly()
            return
        end = monotonic() + self._start_patience
        wait = _FIRST_WAIT
        while True:
            try:
                await self._opened()
                return
            except StoreError as error:
                if monotonic() + wait > end:
                    raise StoreError(
                        f"node {self._host.node_id} did not start, for its store is not there: {error.args[0]}; start "
                        f"it, or have the node wait with NodeConfig(store_start_timeout=…)",
                        certainty=NOT_SENT,
                    ) from error
                self._log.warning("the store is not there yet", error=str(error))
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)

    def look(self, hosted: frozenset[str]) -> None:
        """Open the default store in the background, if a durable class is hosted: its actors may have reminders."""
        if self.store_id is None and _has_durable(hosted):
            self._host.background(self._open_quietly())

    async def _open_quietly(self) -> None:
        try:
            await self._opened()
        except (StoreError, ConfigError) as error:
            self._log.warning("durable actors cannot run here", error=str(error))

    async def _opened(self) -> Store:
        async with self._opening:
            if self._made is None:
                assert self._make is not None
                self._made = self._make()
            if self.store_id is None:
                self.store_id = await self._made.open()
                self.begin = getattr(self._made, "begin", None)
                self._log.info("the store is open", store=self._made.name, id=self.store_id)
                self._check()
                self._host.background(self._watch_reminders(self._made))
            return self._made

    def _check(self) -> None:
        """Say which store this is, or that it is none for this cluster."""
        view = self._host.kinds.view
        theirs = view.store if view is not None else ""
        is_other = self.store_id is not None and theirs not in ("", self.store_id)
        if is_other and not self._is_other:
            self._log.error("durable actors cannot run here", error=self._otherwise(theirs))
        self._is_other = is_other
        if self.store_id is not None:
            self.on_opened("" if is_other else self.store_id)

    def _otherwise(self, theirs: str) -> str:
        from ..discovery.agreement_messages import other_store  # the membership has it by now

        name = self._made.name if self._made is not None else "none"
        return f"node {self._host.node_id} has {name}: {other_store(self.store_id or '', theirs)}"

    async def stop(self) -> None:
        """Close the store."""
        for handle in self._expected.values():
            handle.cancel()
        self._expected.clear()
        if self._made is not None:
            await self._made.close()

    async def claim(self, row: str, lineage: str, view: int) -> Claimed | None:
        """See `Store.claim`; besides, a `StoreError` if the members have another store."""
        store = self._made if self.store_id is not None and self._made is not None else await self._opened()
        if self._is_other and (of_cluster := self._host.kinds.view) is not None:
            raise StoreError(self._otherwise(of_cluster.store), certainty=NOT_SENT)
        claimed = await store.claim(Claim(row, lineage, view, self._host.node_id))
        self._counts["state_claims" if claimed is not None else "state_fenced"] += 1
        return claimed

    async def write(self, write: Write, first: Awaitable[Written] | None = None) -> None:
        """Write, and return when it is surely written; see `commit`."""
        assert self._made is not None, "who writes has claimed"
        try:
            await commit(self._made, write, self._patience, first)
        except StoreError:
            self._counts["state_fenced"] += 1
            raise
        self._counts["state_saves"] += 1

    def saved(self) -> None:
        """Count a write that `begin` has begun, and that was done."""
        self._counts["state_saves"] += 1

    async def reply(self, row: str, key: str) -> bytes | None:
        """See `Store.reply`."""
        assert self._made is not None, "who looks for a reply has claimed"
        found = await self._made.reply(row, key, time.time())
        self._counts["state_replays"] += found is not None
        return found

    def stats(self) -> dict[str, int | float]:
        """Return counts, by name."""
        return dict(self._counts)

    # ---- names and forms ---------------------------------------------------------------------------

    def row_of(self, actor: ActorType, key: Any) -> str:
        """Return the name of an actor's row."""
        return row_id(self._known(actor)[0], key)

    def is_readable(self, row: str) -> bool:
        """Whether a row's actor can be found by its name."""
        return actor_of_row(row) is not None

    def form_of(self, actor: ActorType) -> StateForm:
        """Return how a class's states are stored."""
        return self._known(actor)[1]

    def _known(self, actor: ActorType) -> tuple[str, StateForm]:
        known = self._forms.get(actor)
        if known is None:
            cls: Any = actor.cls
            if actor.options.name is None:
                self._log.warning(
                    "a durable class without name=: when it or its module is renamed, its rows are not found any more",
                    actor_class=f"{cls.__module__}:{cls.__qualname__}",
                )
            known = self._forms[actor] = _row_name(actor), StateForm(cls.__state_type__, cls.schema)
        return known

    # ---- reminders ---------------------------------------------------------------------------------

    def view_changed(self) -> None:
        """Look for reminders of actors that belong here now, and at which store the view names."""
        self._look_again.set()
        self._check()

    def expect(self, kind: Kind, key: Any, due: float) -> None:
        """Activate an actor at a time, if it is still here then; later ones are found by a look.

        Args:
            kind: Its class.
            key: Its key.
            due: Unix seconds.
        """
        wait = due - time.time()
        if wait > AHEAD or is_spawned(key):
            return
        name = kind.name, key
        if (before := self._expected.pop(name, None)) is not None:
            before.cancel()
        self._expected[name] = self._host.loop.call_later(max(wait, 0.0), self._wake, kind, key)

    def _wake(self, kind: Kind, key: Any) -> None:
        self._expected.pop((kind.name, key), None)
        host = self._host
        if not kind.is_here or host.router.stopped is not None or host.kinds.owner_or_none(kind, key) != host.node_id:
            return
        cell = kind.cells.get(key)
        if cell is None:
            cell = host.activate(kind, key)
        if cell.actor is None and cell.task is None:
            cell.start()

    async def _watch_reminders(self, store: Store) -> None:
        """Look for reminders that are due soon, for ever."""
        prune_at = monotonic() + PRUNE
        while True:
            self._look_again.clear()
            try:
                await self._look_for_due(store)
                if monotonic() > prune_at:
                    prune_at = monotonic() + PRUNE
                    await store.prune(time.time())
            except StoreError as error:
                self._log.warning("the store does not say which reminders are due", error=str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._look_again.wait()

    async def _look_for_due(self, store: Store) -> None:
        kinds = self._host.kinds
        last: tuple[float, str] | None = None
        before = time.time() + AHEAD
        while True:
            page = await store.due(before, last, PAGE)
            for due, row in page:
                last = due, row
                found = actor_of_row(row)
                actor = None if found is None else self._actor(found[0])
                if actor is None or found is None or is_spawned(found[1]):
                    continue
                kind = kinds.of(actor)
                if kinds.owner_or_none(kind, found[1]) == self._host.node_id:
                    self.expect(kind, found[1], due)
            if len(page) < PAGE:
                return

    def _actor(self, row_name: str) -> ActorType | None:
        """Return the durable class, of those that are here, which calls its rows so."""
        for actor in (*self._forms, *imported_types()):
            if actor.cls.__is_durable__ and _row_name(actor) == row_name:
                return actor
        return None


def _ignore(store_id: str) -> None:
    """Nobody wants to know."""


def _has_durable(hosted: frozenset[str]) -> bool:
    return any(actor.cls.__is_durable__ and actor.name in hosted for actor in imported_types())


def _row_name(actor: ActorType) -> str:
    """Return what a class calls its rows: of a class that travels by value, a name that an edit does not change."""
    assert issubclass(actor.cls, DurableActor)
    return actor.options.name or (actor.name.partition("@")[0] if actor.by_value else actor.name)
