"""A run of the node is over: its activations end, and nothing that they still say has effects."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from ringcast import MAYBE_EXECUTED, NOT_SENT, Actor, Local, Node, Unreachable, props, submit, tell
from ringcast.actors.verbs import watching
from tests.unit.runtime.leases import no_lease
from tests.unit.runtime.places import Place, eventually, gates, raised


class Guest(Actor):
    def __init__(self) -> None:
        self.notes: list[Any] = []

    async def note(self, what: Any) -> int:
        gates.seen.append(what)
        self.notes.append(what)
        return len(self.notes)

    async def cling(self, gate: str, other: Guest) -> str:
        """Go on when it is cancelled, and try everything that an activation can do."""
        try:
            await gates.passing(gate)
        except asyncio.CancelledError:
            gates.mark("cancelled")
        refused = [
            await raised(other.note("asked")),
            await raised(tell(other.note, "told")),
            await raised(self.context.spawn(props(Guest))),
            await raised(self.context.watch(other)),
        ]
        try:
            self.context.after(0, self.note, "timer")
        except Unreachable as error:
            refused.append(error)
        gates.seen.append(refused)
        return "an answer from the dead"

    async def block(self, gate: str) -> None:
        await gates.passing(gate)

    async def on_stop(self, reason: str) -> None:
        gates.seen.append(f"stopped: {reason}")


def fence(node: Node) -> None:
    """End the run as the membership does: shut the gate, close the partitions, tell the loop."""
    gate, me = node._gate, node._membership.me
    gate.shut()
    for share in node._membership.shares.values():
        share.open = share.opening = share.draining = 0
    node._fence(replace(me, incarnation=me.incarnation))


async def test_running_calls_are_answered_and_old_turns_have_no_effects(place: Place) -> None:
    guest, other = place.node.ref(Guest, "g"), place.node.ref(Guest, "other")
    assert await guest.note("before") == 1
    running = submit(guest.cling, "gate", other)
    await gates.entered("gate")
    queued = submit(guest.note, "queued")
    cell = next(cell for cell in place.owner._host.cells() if cell.current is not None)
    await eventually(lambda: bool(cell.queue))
    gates.seen.clear()
    fence(place.owner)
    error = await raised(running)
    assert isinstance(error, Unreachable)
    assert error.certainty is MAYBE_EXECUTED
    await eventually(lambda: bool(gates.seen) and isinstance(gates.seen[0], list))
    assert gates.has_entered("cancelled")
    refused = gates.seen.pop(0)
    assert len(refused) == 5
    assert all(isinstance(error, Unreachable) and error.certainty is NOT_SENT for error in refused), refused
    await eventually(lambda: gates.seen == ["stopped: lost"])
    assert not queued.done(), "it waits: nothing is open here any more"
    assert cell.actor is None
    place.owner._membership.reshare()  # as the next view does
    assert await queued == 1, "a new activation, whose memory is empty"


async def test_spawned_actors_are_lost(here: Place) -> None:
    guest = await here.node.spawn(props(Guest), on=Local())
    assert await guest.note(1) == 1
    async with watching(guest) as ended:
        fence(here.node)
        assert await ended == "lost"
    assert isinstance(await raised(guest.note(2)), Exception)


async def test_the_gate_stays_shut_until_all_is_stopped(here: Place) -> None:
    """A lease of the next run must not let out what a handler of the old one has said."""
    node = here.node
    gate = node._gate
    guest = node.ref(Guest, "g")
    running = submit(guest.block, "gate")
    await gates.entered("gate")
    gate.shut()
    await eventually(lambda: gate._granted > 0)  # the membership has renewed the lease meanwhile
    assert not gate.is_open
    gates.let_go("gate")
    await eventually(lambda: node._vigil.is_waiting)
    assert not running.done()
    node._fence(node._membership.me)
    error = await raised(running)
    assert isinstance(error, Unreachable)
    assert error.certainty is MAYBE_EXECUTED
    assert gate.is_open
    assert node._vigil.is_waiting is False


async def test_what_was_to_be_said_is_dropped_and_the_rest_is_not(there: Place) -> None:
    """Answers of turns that wait in a link go with the run; messages of others that wait in routes do not."""
    guest = there.node.ref(Guest, "g")
    running = submit(guest.block, "gate")
    await gates.entered("gate")
    with no_lease(there.owner):
        gates.let_go("gate")
        await eventually(lambda: there.owner._vigil.is_waiting)
        fence(there.owner)
        error = await raised(running)
        assert isinstance(error, Unreachable)
        assert error.certainty is MAYBE_EXECUTED
    assert there.owner.stats()["effects_suppressed"] == 1
