"""The register of spawned actors on one node: what its `Keeper` decides is carried out, and others are asked.

The keepers' words to one member are gathered for a tick of the loop and sent together. A newcomer and all
others have something to say to each other in the moment in which it is let in; that they do not all dial
at once, the junior of two members does, one other after the next, and the senior waits for it.

A question about
an actor goes to the member that leads its row, and is asked again when the view changes, or the member
does not answer. A host starts what it is told to at a pace, so that an actor that comes back does not
wait behind ten thousand others that do.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from ringcast.errors import (
    MAYBE_EXECUTED,
    NOT_SENT,
    CallError,
    CallTimeout,
    CodecError,
    NotAllowed,
    RingcastError,
    Unreachable,
)

from ..actors.placement import Labels, LeastLoaded, Near, Placement
from ..actors.ref import SPAWNED, ActorRef, display
from ..discovery.member import Identity, View
from .groups import owners_of
from .keeper import (
    LEAVES,
    Answer,
    Begin,
    Claimed,
    Effect,
    Gone,
    Keeper,
    Located,
    Moved,
    Noted,
    Place,
    Reply,
    Send,
    Stopping,
    Unplaced,
)
from .ring import key_hash, partition_of
from .rows import Notes, Row, RowId, notes_from_wire, partition_of_path, row_from_wire
from .whereabouts import Whereabouts
from .words import Put, Rows, Word
from .words import from_wire as word_from_wire
from .words import to_wire as word_to_wire

if TYPE_CHECKING:
    from .host import Host
    from .lives import Lives
    from .system import System

PATIENCE = 10.0
"""Seconds that a question waits at a keeper before it is asked again."""

GRACE = 0.1
"""Seconds more that a spawn which is out of time waits to hear for whom."""

AGAIN = 0.02
"""Seconds until a question is asked again that came to a member which does not lead the row."""

RETRY = 0.5
"""Seconds until a member is told again that did not answer, or at the next view."""

DIALS_AFTER = 0.05
"""Seconds after which a newcomer speaks to members first: until then everyone is busy with the view."""
DIALS_EVERY = 0.02
"""Seconds between one such member and the next: with each it shakes hands, which is work for both."""
COURTESY = 0.25
"""Seconds that a member waits to be spoken to by a junior one, before it dials that one itself."""

STARTS = 200
"""Actors that a node starts again in `STARTS_EVERY` seconds, unless its loop lags."""
STARTS_EVERY = 0.1
LAG = 0.05
"""Seconds by which the loop may be late before fewer are started."""
STARTS_MIN = 50
"""Not fewer: a machine that is overloaded lags whatever is done, and what was lost is wanted."""


class HasEnded(Unreachable):
    """A spawned actor has no row any more: its keepers know it as ended."""


class Register:
    """One node's part in the register of spawned actors."""

    def __init__(self, host: Host, system: System) -> None:
        """Belong to one node; the node sets `lives`."""
        self.lives: Lives
        self.whereabouts = Whereabouts(host.node_id, host.kinds)
        self._host = host
        self._system = system
        self._keeper = Keeper(host.node_id)
        self._tokens = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Reply]] = {}
        self._words: dict[str, list[Word]] = {}
        self._will_flush = False
        self._silent_until: dict[str, float] = {}
        """When words may make this node dial a member that it has no connection to."""
        self._silence: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._starts = STARTS
        self._pace = asyncio.Lock()
        self._started: tuple[float, int] = (0.0, 0)
        self._fetching: set[str] = set()
        self.is_taking = True
        """Whether actors may be started here; not on a node that leaves."""
        system.verbs["register"] = self._on_words
        system.verbs["claim"] = self._on_claim
        system.verbs["where"] = self._on_where
        system.verbs["row_awaits"] = self._on_awaits
        system.verbs["row_ended"] = self._on_ended
        system.verbs["row_released"] = self._on_released
        system.verbs["row_noted"] = self._on_noted
        system.verbs["begin"] = self._on_begin
        system.verbs["blob"] = self._on_blob

    # ---- views -----------------------------------------------------------------------------------

    @property
    def me(self) -> Identity | None:
        """This run of this node, as the present view has it."""
        member = self._host.kinds.members.get(self._host.node_id)
        return None if member is None else member.identity

    def keepers(self, partition: int) -> tuple[str, ...]:
        """Return the ids of the members that keep a partition, its leader first; none without a view."""
        copies = self._keeper.copies
        return () if copies.view is None else copies.keepers(partition)

    def install(self, view: View) -> None:
        """Follow a view."""
        known = self._keeper.copies.view
        if self.me is None or (known is not None and known.lineage == view.lineage and known.number >= view.number):
            return
        self._take_turns(view, monotonic())
        self._carry_out(self._keeper.install(view, monotonic()))

    def _take_turns(self, view: View, now: float) -> None:
        """Say when each other member may be dialled for the sake of words: see above."""
        me = view.member(self._host.node_id)
        assert me is not None, "a register follows views that its node is in"
        others = [member for member in view.members if member.id != me.id]
        seniors = [member.id for member in others if member.seniority < me.seniority]
        until = {member.id: now + COURTESY for member in others}
        until |= {node: now + DIALS_AFTER + number * DIALS_EVERY for number, node in enumerate(seniors)}
        # Who was in the view before has had its time.
        self._silent_until = {node: self._silent_until.get(node, at) for node, at in until.items()}
        self._words = {node: said for node, said in self._words.items() if node in until}

    def linked(self, node: str) -> None:
        """There is a connection to a member: say what was kept for it."""
        if node in self._words:
            self._carry_out(())

    def fenced(self) -> None:
        """This run of the node is over: what it kept is the business of others now."""
        self._carry_out(self._keeper.clear())

    @property
    def is_clear(self) -> bool:
        """Whether nothing is left here that other keepers still need."""
        return self._keeper.copies.view is None or self._keeper.copies.is_clear

    def waiting(self) -> list[tuple[Row, str]]:
        """Return the rows that this node leads and whose actors run nowhere, with the reason."""
        return self._keeper.waiting()

    def stats(self) -> dict[str, int | float]:
        """Return counts, by name."""
        rows = sum(len(copy.rows) for copy in self._keeper.copies.copies.values())
        return {"register_rows": rows, "restarts_elsewhere": self._keeper.restarts}

    def stop(self) -> None:
        """Do nothing any more."""
        for timer in (self._timer, self._silence):
            if timer is not None:
                timer.cancel()

    # ---- carrying out ----------------------------------------------------------------------------

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to, word):
                    self._words.setdefault(to, []).append(word)
                case Answer(token, reply):
                    answer = self._answers.pop(token, None)
                    if answer is not None and not answer.done():
                        answer.set_result(reply)
                case Place(row, is_new):
                    self._host.background(self._place(row, is_new))
                case Begin():
                    self._host.background(self._begin(effect))
                case Stopping(row):
                    if row.host is not None:
                        self._system.post(row.host[0], "stop", row.id[0], (SPAWNED, row.id[1]))
        if not self._will_flush:
            self._will_flush = True
            self._host.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._host.ended is not None:
            return
        self._carry_out(self._keeper.flush())
        self._will_flush = False
        self._speak(monotonic())
        if self._timer is not None:
            self._timer.cancel()
        delay = max(self._keeper.next_deadline() - monotonic(), 0.01)
        self._timer = None if delay == float("inf") else self._host.loop.call_later(delay, self._tick)

    def _speak(self, now: float) -> None:
        words, self._words = self._words, {}
        for node, said in words.items():
            if now < self._silent_until.get(node, 0.0) and not self._system.peers.is_up(node):
                self._words[node] = said
            else:
                self._system.post(node, "register", self._host.node_id, [word_to_wire(word) for word in said])
        if self._silence is not None:
            self._silence.cancel()
        due = min((self._silent_until[node] for node in self._words), default=None)
        self._silence = None if due is None else self._host.loop.call_later(due - now, self._carry_out, ())

    def _tick(self) -> None:
        self._timer = None
        self._carry_out(self._keeper.tick(monotonic()))

    async def _on_words(self, sender: str, words: list[Any]) -> None:
        now = monotonic()
        for parts in words:
            word = word_from_wire(parts)
            if isinstance(word, Put | Rows):
                self._learn_classes(word.rows, sender)
            self._carry_out(self._keeper.receive(word, sender, now))

    # ---- classes that travel by value --------------------------------------------------------------

    def _learn_classes(self, rows: Iterable[Row], sender: str) -> None:
        """See that this node has the classes of rows that it keeps, also when their spawners are gone."""
        for row in rows:
            if "@" in row.id[0] and not self._host.kinds.named(row.id[0]).is_here and row.id[0] not in self._fetching:
                self._fetching.add(row.id[0])
                self._host.background(self._fetch_class(row.id[0], sender))

    async def _fetch_class(self, name: str, node: str) -> None:
        try:
            self._host.kinds.learn(name, await self._system.call(node, "blob", name))
        except RingcastError as error:
            self._host.log.debug("a class did not come", name=name, peer=node, error=str(error))
        finally:
            self._fetching.discard(name)

    async def _on_blob(self, name: str) -> bytes | None:
        return self._host.kinds.blob(name)

    # ---- asking ----------------------------------------------------------------------------------

    async def claim(self, wish: Row, *, is_held: bool) -> tuple[Row, bool]:
        """Have an actor made, or find the one of that name; return its row, and whether it is new.

        Raises:
            Unreachable: If it cannot be started anywhere.
            CallTimeout: If a member that keeps its row did not answer for as long as an ask may take. The actor may
                be there later: who spawns its name again finds it, and one without a name is ended.
        """
        what = display(wish.id[0], (SPAWNED, wish.id[1]))
        try:
            async with asyncio.timeout(self._system.timeout):
                reply = await self._ask(wish.id, "claim", self._host.node_id, wish.to_wire(), is_held)
        except TimeoutError:
            if not wish.is_named:
                self._host.background(self._end_unwanted(wish.id))
            nodes, part = await self._awaited(wish.id)
            retry = "that finds it if it is there by then" if wish.is_named else "this one is ended if it comes"
            raise CallTimeout(
                f"{what} was not started within {self._system.timeout:g} s: node {' and node '.join(nodes)} {part}, "
                f"and does not answer. Where code blocks that node's event loop, its log names the code. Spawn "
                f"{what} again: {retry}",
                certainty=MAYBE_EXECUTED,
                actor=what,
                node=nodes[0] if nodes else None,
            ) from None
        if reply[0] == "unplaced":
            raise Unreachable(f"{what} cannot be started: {reply[1]}", certainty=NOT_SENT, actor=what)
        row = row_from_wire(reply[1])
        if row.host is not None:
            self._learn(row.id, row.host)
        return row, reply[2]

    async def _awaited(self, row_id: RowId) -> tuple[list[str], str]:
        """Return for which nodes a row waits, and what their part in it is, as far as its leader says that at once."""
        leader = self.keepers(partition_of_path(row_id[1]))[:1]
        try:
            async with asyncio.timeout(GRACE):
                for node in leader:
                    nodes, part = await self._system.call(node, "row_awaits", [*row_id])
                    if nodes:
                        return nodes, part
        except (TimeoutError, CallError):
            pass
        return [*leader], "decides about it"

    async def _end_unwanted(self, row_id: RowId) -> None:
        """End an actor that nobody has a ref to: its spawner has given up."""
        ref = self._host.kinds.ref_by_name(row_id[0], (SPAWNED, row_id[1]), "")
        with contextlib.suppress(CallError):
            await self.lives.stop(ref)

    async def find(self, name: str, key: Any, *, or_end: bool = False) -> tuple[Identity | None, str | None]:
        """Return where a spawned actor is, as soon as it is somewhere; else None and why it has ended.

        With `or_end` an actor that waits for a host is ended for good.
        """
        row_id = name, str(key[1])
        reply = await self._ask(row_id, "where", [*row_id], or_end)
        if reply[0] == "gone":
            return None, reply[1]
        host = reply[1], reply[2]
        self._learn(row_id, host)
        return host, None

    async def ended(self, row_id: RowId, host: Identity, reason: str) -> None:
        """Say that an actor of this node has ended for good, until all its keepers know."""
        await self._ask(row_id, "row_ended", [*row_id], [*host], reason)

    async def released(self, row_id: RowId, host: Identity) -> None:
        """Have an actor started elsewhere that this node has stopped because it leaves; return when it is there."""
        reply = await self._ask(row_id, "row_released", [*row_id], [*host])
        if reply[0] == "located":
            self._learn(row_id, (reply[1], reply[2]))

    async def noted(self, row_id: RowId, host: Identity, notes: Notes) -> bool:
        """Note with its row what an actor of this node takes along; False if it is no more of this run of the node."""
        reply = await self._ask(row_id, "row_noted", [*row_id], [*host], notes.to_wire())
        return bool(reply[0] == "noted")

    def _learn(self, row_id: RowId, host: Identity) -> None:
        self.whereabouts.learn(row_id[0], (SPAWNED, row_id[1]), host)

    async def _ask(self, row_id: RowId, verb: str, *args: Any) -> list[Any]:
        """Ask the member that leads a row, until one answers."""
        partition = partition_of_path(row_id[1])
        while True:
            copies = self._keeper.copies
            if copies.view is None:  # between two runs of this node
                await self._host.wait_for_view(RETRY)
                continue
            leader = copies.keepers(partition)[0]
            try:
                reply = await self._system.call(leader, verb, *args)
            except NotAllowed as error:
                what = display(row_id[0], (SPAWNED, row_id[1]))
                why = f"it cannot be asked where {what} is: {error}"
                raise Unreachable(why, certainty=NOT_SENT, actor=what, node=leader) from None
            except CallError as error:
                self._host.log.debug("a keeper did not answer", peer=leader, verb=verb, error=str(error))
                await self._host.wait_for_view(RETRY)
                continue
            if reply is not None:
                return reply  # type: ignore[no-any-return]
            await self._host.wait_for_view(AGAIN)

    # ---- being asked -------------------------------------------------------------------------------

    async def _on_claim(self, asker: str, wish: list[Any], is_held: bool) -> list[Any] | None:
        row = row_from_wire(wish)
        if "@" in row.id[0] and not self._host.kinds.named(row.id[0]).is_here:
            await self._fetch_class(row.id[0], asker)
        token = next(self._tokens)
        return await self._answered(token, self._keeper.claim(token, row, monotonic(), is_held=is_held))

    async def _on_where(self, row_id: list[str], or_end: bool) -> list[Any] | None:
        token = next(self._tokens)
        found = self._keeper.where(token, (row_id[0], row_id[1]), monotonic(), or_end=or_end)
        return await self._answered(token, found)

    async def _on_awaits(self, row_id: list[str]) -> list[Any]:
        nodes, part = self._keeper.awaited((row_id[0], row_id[1]))
        return [[*nodes], part]

    async def _on_ended(self, row_id: list[str], host: list[Any], reason: str) -> list[Any] | None:
        token = next(self._tokens)
        who = row_id[0], row_id[1]
        return await self._answered(token, self._keeper.ended(token, who, (host[0], host[1]), reason, monotonic()))

    async def _on_released(self, row_id: list[str], host: list[Any]) -> list[Any] | None:
        token = next(self._tokens)
        who = row_id[0], row_id[1]
        return await self._answered(token, self._keeper.released(token, who, (host[0], host[1]), monotonic()))

    async def _on_noted(self, row_id: list[str], host: list[Any], notes: list[Any] | None) -> list[Any] | None:
        token = next(self._tokens)
        who, run = (row_id[0], row_id[1]), (host[0], host[1])
        noted = self._keeper.noted(token, who, run, notes_from_wire(notes), monotonic())
        return await self._answered(token, noted)

    async def _answered(self, token: int, effects: list[Effect]) -> list[Any] | None:
        """Return what the keeper answers to a question, as plain values; None if it is to be asked again."""
        answer: asyncio.Future[Reply] = self._host.loop.create_future()
        self._answers[token] = answer
        self._carry_out(effects)
        try:
            async with asyncio.timeout(PATIENCE):
                reply = await answer
        except TimeoutError:
            self._keeper.give_up(token)
            return None
        finally:
            self._answers.pop(token, None)
        match reply:
            case Claimed(row, is_new):
                return ["claimed", row.to_wire(), is_new]
            case Located(host):
                return ["located", *host]
            case Gone(reason):
                return ["gone", reason]
            case Unplaced(why):
                return ["unplaced", why]
            case Noted():
                return ["noted"]
            case Moved():
                return None

    # ---- choosing a host ---------------------------------------------------------------------------

    async def _place(self, row: Row, is_new: bool) -> None:
        try:
            host = await self._choose(row)
        except CallError as error:
            if is_new and error.node is None:
                self._carry_out(self._keeper.unplaceable(row.id, str(error), monotonic()))
            else:
                self._carry_out(self._keeper.placed(row.id, None, str(error), monotonic()))
            return
        member = self._host.kinds.members.get(host)
        identity = None if member is None else member.identity
        self._carry_out(self._keeper.placed(row.id, identity, f"node {host} has left", monotonic()))

    async def _choose(self, row: Row) -> str:
        """Return the id of the node where an actor is to run.

        Raises:
            CallError: If there is none now; its `node` says who might become one, if anybody.
        """
        kinds = self._host.kinds
        kind = kinds.named(row.id[0])
        key = SPAWNED, row.id[1]
        placement = placement_of(self._host.codec.unpack(row.spec)[1])
        ids = kinds.hosts(kind)
        if isinstance(placement, Near):
            try:
                return await self.locate(placement.ref)
            except CallError:
                pass  # it has ended, or nobody hosts it: the ring is as good
        elif isinstance(placement, LeastLoaded) and ids:
            loads = await asyncio.gather(*(self._system.call(node, "load") for node in ids), return_exceptions=True)
            known = [(load, node) for load, node in zip(loads, ids, strict=True) if isinstance(load, int)]
            if known:
                return min(known)[1]
        elif isinstance(placement, Labels):
            wanted = dict(placement.wanted)
            members = kinds.members
            fitting = [node for node in ids if wanted.items() <= dict(members[node].labels).items()]
            if not fitting:
                raise Unreachable(
                    f"no member that hosts {kind.name} carries the labels {wanted}: start a node with "
                    f"Node(labels={wanted})",
                    certainty=NOT_SENT,
                    actor=display(kind.name, key),
                    node="one with these labels",
                )
            ids = tuple(fitting)
        if not ids:
            return kinds.owner(kind, key, None)  # says that nobody hosts it
        return owners_of(ids)[partition_of(key_hash(kind.name, key))]

    async def locate(self, ref: ActorRef, *, afresh: bool = False) -> str:
        """Return the id of the member where an actor is, or would be activated; `afresh` by its keeper's word.

        Raises:
            HasEnded: If it is nowhere.
            CallError: If its keeper does not answer.
        """
        kinds = self._host.kinds
        name, key, hint = ref._type_name, ref._key, ref._node
        if hint is None:
            return kinds.owner(kinds.named(name), key, None)
        known = None if afresh else self.whereabouts.of(name, key, hint)
        if known is not None:
            return known
        host, _ = await self.find(name, key)
        if host is None:
            raise HasEnded(
                f"{display(name, key)} ran on node {hint}, and has ended; spawn it again",
                certainty=NOT_SENT,
                actor=display(name, key),
                node=hint,
            )
        return host[0]

    # ---- starting ----------------------------------------------------------------------------------

    async def _begin(self, order: Begin) -> None:
        rows = [row.to_wire() for row in order.rows]
        kin = [[*row_id, [child.to_wire() for child in children]] for row_id, children in order.kin.items()]
        held = [[*row_id] for row_id in sorted(order.held)]
        view = self._keeper.copies.view
        number = 0 if view is None else view.number
        try:
            outcomes = await self._system.call(
                order.host[0], "begin", self._host.node_id, number, rows, kin, held, order.is_restart
            )
        except CallError as error:
            self._host.log.debug("a node did not start what it should", peer=order.host[0], error=str(error))
            await self._host.wait_for_view(RETRY)
            self._keeper.unanswered(order.host)
            self._carry_out(())
            return
        done = {(name, path): why for name, path, why in outcomes}
        self._carry_out(self._keeper.begun(order.host, done, monotonic()))

    async def _on_begin(
        self, sender: str, view: int, rows: list[Any], kin: list[Any], held: list[Any], is_restart: bool
    ) -> list[list[Any]]:
        """Start actors, as the leader of their rows says; return for each what became of it."""
        known = self._keeper.copies.view
        if known is None or view < known.number:
            raise CallError(f"node {self._host.node_id} has another view", certainty=NOT_SENT)
        families = {(name, path): [row_from_wire(child) for child in children] for name, path, children in kin}
        down = {(name, path) for name, path in held}
        outcomes: list[list[Any]] = []
        for parts in rows:
            row = row_from_wire(parts)
            if is_restart:
                await self._take_time()
            if "@" in row.id[0] and not self._host.kinds.named(row.id[0]).is_here:
                await self._fetch_class(row.id[0], sender)
            cells = self._host.kinds.named(row.id[0]).cells
            why = None if self.is_taking or (SPAWNED, row.id[1]) in cells else LEAVES  # what is here says when it goes
            if why is None:
                try:
                    await self.lives.begin(row, families.get(row.id, []), is_held=row.id in down)
                except (RingcastError, CodecError) as error:
                    why = str(error)
            outcomes.append([*row.id, why])
        return outcomes

    async def _take_time(self) -> None:
        """Wait until one more may be started again."""
        async with self._pace:
            now = monotonic()
            since, count = self._started
            if now - since >= STARTS_EVERY:
                self._started = now, 1
                return
            if count < self._starts:
                self._started = since, count + 1
                return
            pause = since + STARTS_EVERY - now
            await asyncio.sleep(pause)
            late = monotonic() - now - pause
            self._starts = max(self._starts // 2, STARTS_MIN) if late > LAG else min(self._starts * 2, STARTS)
            self._started = monotonic(), 1


def placement_to_wire(placement: Placement) -> list[Any]:
    """Return a placement as plain values."""
    match placement:
        case Labels(wanted):
            return ["labels", [[*label] for label in wanted]]
        case Near(ref):
            return ["near", ref]
        case _:
            return [type(placement).__name__.lower()]


def placement_of(parts: list[Any]) -> Placement | None:
    """Return the placement that was packed; None for those that need no look: by the ring, or where it was."""
    match parts:
        case ["labels", wanted]:
            return Labels(**dict(wanted))
        case ["near", ref]:
            return Near(ref)
        case ["leastloaded"]:
            return LeastLoaded()
        case _:
            return None
