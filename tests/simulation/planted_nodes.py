"""Mistakes in real nodes that the checkers must find: each takes one rule away, while a test lasts.

`planted` has those of the cores. These are of the shells, of the actors' loop and of what the two share. A mistake
that chance finds too rarely has a schedule in `node_schedules`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from ringcast.discovery.archive import Archive
from ringcast.discovery.driver import Driver
from ringcast.discovery.effects import Record
from ringcast.discovery.gate import NEVER, Gate, boot_time
from ringcast.discovery.handoff import Handoff
from ringcast.discovery.membership import Membership
from ringcast.runtime.arrivals import Arrivals
from ringcast.runtime.cell import Cell
from ringcast.runtime.copies import Copies, Copy, CopyEffect, Send
from ringcast.runtime.link import Link
from ringcast.runtime.ring import key_hash, partition_of
from ringcast.runtime.simulation.disk import VirtualFolder
from ringcast.runtime.tenancy import Tenancy
from ringcast.runtime.words import Digests, Same

Patch = pytest.MonkeyPatch


def no_lease_check(patch: Patch) -> None:
    """Turns begin without a lease; what they say is still held back."""
    set_: Any = Gate._set
    shut: Any = Gate.shut

    def set_and_forget(self: Gate, until: float, now: float) -> None:
        set_(self, until, now)
        self.until_monotonic = math.inf

    def shut_and_forget(self: Gate) -> None:
        shut(self)
        self.until_monotonic = math.inf

    patch.setattr(Gate, "_set", set_and_forget)
    patch.setattr(Gate, "shut", shut_and_forget)


def gate_before_batching(patch: Patch) -> None:
    """The gate is looked at when a turn ends, and not again when what it has said is written."""
    reply: Any = Link.reply

    def reply_if_open(self: Link, number: int, value: Any) -> None:
        if boot_time() < self.gate.until:
            reply(self, number, value)
        else:
            self.fail(number, self.vigil.suppressed())

    def flush(self: Link) -> None:
        out, self._out = self._out, []
        controls, self._controls = self._controls, 0
        if out and self.connection is not None:
            self.connection.write(out, len(out) > controls)

    patch.setattr(Link, "reply", reply_if_open)
    patch.setattr(Link, "flush", flush)


def no_drain_barrier(patch: Patch) -> None:
    """Partitions open without a word of those who had them."""

    def waiting(self: Handoff) -> int:
        return 0

    patch.setattr(Handoff, "_waiting", waiting)


def unlocked_partition(patch: Patch) -> None:
    """The loop looks whether a partition is open, and counts its activation in then."""

    def look_and_count(self: Tenancy, cell: Cell) -> bool:
        kind = cell.kind
        self._kinds.owners(kind)
        share = kind.share or self._share(kind)
        partition = partition_of(key_hash(kind.name, cell.key))
        if share is None or not share.open >> partition & 1:
            return False
        number = share.number
        share.running[partition] += 1
        cell.tenure, cell.epoch = partition, number << 32
        return True

    patch.setattr(Tenancy, "enter", look_and_count)


def stale_forward(patch: Patch) -> None:
    """A message is sent on by a view that is older than its sender's."""
    place: Any = Arrivals._place

    def place_at_once(
        self: Arrivals, link: Any, kind: Any, key: Any, envelope: Any, version: int, hops: int, once: Any
    ) -> None:
        place(self, link, kind, key, envelope, 0, hops, once)

    patch.setattr(Arrivals, "_place", place_at_once)


def forgotten_fsync(patch: Patch) -> None:
    """The voter's record is written, and not synced."""

    def forget(self: VirtualFolder, path: str = "") -> None:
        return

    patch.setattr(VirtualFolder, "sync", forget)
    patch.setattr(VirtualFolder, "sync_folder", forget)


def incarnation_reset(patch: Patch) -> None:
    """A node that starts again goes on under the incarnation that it had."""

    def begin(self: Archive, now_ms: int) -> Record:
        record: Record = replace(started(self, now_ms), incarnation=1_800_000_000_000)
        self.save(record)
        return record

    started: Any = Archive.begin
    patch.setattr(Archive, "begin", begin)


def listener_closed_before_the_turns_ended(patch: Patch) -> None:
    """A membership that ends closes its listener and its connections, and leaves the lease to run out."""
    close: Any = Driver.close
    fail: Any = Membership._fail

    async def close_first(self: Driver) -> None:
        self._gate = Gate()
        await close(self)

    def fail_first(self: Membership, error: BaseException) -> None:
        gate, self._gate = self._gate, Gate()
        try:
            fail(self, error)
        finally:
            self._gate = gate

    patch.setattr(Driver, "close", close_first)
    patch.setattr(Membership, "_fail", fail_first)


def no_fence_acknowledgement(patch: Patch) -> None:
    """The next run's lease opens the gate, whether or not the loop has ended what the last one had begun."""

    def shut(self: Gate) -> None:
        with self._lock:
            self.until = self.until_monotonic = self._granted = NEVER

    def passed(self: Gate) -> None:
        return

    patch.setattr(Gate, "shut", shut)
    patch.setattr(Gate, "passed", passed)


def copies_not_compared(patch: Patch) -> None:
    """A keeper takes its copy of the register for its leader's, and does not look whether it is."""

    def compare(self: Copies, word: Digests, sender: str) -> list[CopyEffect]:
        for partition in word.digests:
            self.copies.setdefault(partition, Copy()).complete_in = word.view
        return [Send(sender, Same(word.view, tuple(word.digests)))]

    patch.setattr(Copies, "_compare", compare)


PLANTED: dict[str, Callable[[Patch], None]] = {
    "2 no lease check": no_lease_check,
    "6 no drain barrier": no_drain_barrier,
    "8 forgotten fsync": forgotten_fsync,
    "9 incarnation reset": incarnation_reset,
    "11 forward by a stale view": stale_forward,
    "13 unlocked partition": unlocked_partition,
    "14 gate before batching": gate_before_batching,
    "copies not compared": copies_not_compared,
    "listener closed before the turns ended": listener_closed_before_the_turns_ended,
    "no fence acknowledgement": no_fence_acknowledgement,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Make the mistake while this lasts."""
    with pytest.MonkeyPatch.context() as patch:
        PLANTED[name](patch)
        yield
