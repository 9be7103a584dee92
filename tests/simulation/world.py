"""A world in virtual time for the cores of agreement: machines, a network, disks and clocks.

Everything is drawn from one seed, so a story can be told again. Gossip is not simulated: what
SWIM would believe is derived from who can reach whom, late and sometimes wrongly, which costs
little and errs more often than SWIM does.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

from ringcast.discovery.agreement import Agreement
from ringcast.discovery.agreement_messages import AgreementMessage, Renew, Renewed
from ringcast.discovery.applicant import Founding
from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.effects import (
    Check,
    Depart,
    Effect,
    InstallView,
    LeaseUntil,
    Notify,
    Persist,
    Record,
    SelfFence,
    Send,
    Warn,
)
from ringcast.discovery.handoff import Drained, DrainedSeen, Handoff, HandoffEffect, Open, Tell
from ringcast.discovery.member import Identity, Member, View
from ringcast.discovery.profile import LOCAL, Profile
from ringcast.discovery.quorum import is_quorum
from ringcast.discovery.share import Place, Share, bits_of
from ringcast.runtime.ring import Ring
from tests.simulation.checkers import Checker

WALL_MS = 1_700_000_000_000
SENSE_INTERVAL = 0.25
PARTITIONS = 12
CLASS = "Actor"
TURN_INTERVAL = 0.1
UNTIL_STEP = 0.02


@lru_cache(maxsize=1024)
def _owners(node_ids: tuple[str, ...]) -> tuple[str, ...]:
    return Ring(node_ids, PARTITIONS, 16).owners if node_ids else ("",) * PARTITIONS


def shares_of(view: View, node_id: str) -> dict[str, int]:
    """Give each member its partitions of the one class that there is."""
    owners = _owners(tuple(member.id for member in view.members if not member.leaving))
    return {CLASS: sum(1 << partition for partition, owner in enumerate(owners) if owner == node_id)}


@dataclass(slots=True)
class Write:
    """A record on its way to the disk, and what waits for it."""

    record: Record
    then: tuple[Send, ...]


@dataclass(slots=True)
class Process:
    """One run of a node: what a crash takes with it."""

    core: Agreement
    handoff: Handoff
    run: int
    who: Identity
    view: View | None = None
    lease_until: float = float("-inf")
    connections: dict[str, tuple[Identity, int]] = field(default_factory=dict[str, "tuple[Identity, int]"])
    seen: dict[str, tuple[Claim, float, float]] = field(default_factory=dict[str, "tuple[Claim, float, float]"])
    claims: tuple[Claim, ...] = ()
    writes: deque[Write] = field(default_factory=deque[Write])
    wakes_at: float = float("inf")
    is_paused: bool = False
    inbox: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    is_leaving: bool = False
    has_released: bool = False
    turns: dict[int, tuple[str, int]] = field(default_factory=dict[int, "tuple[str, int]"])
    opened_in: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def share(self) -> Share:
        return self.handoff.shares.setdefault(CLASS, Share())


@dataclass(slots=True)
class Machine:
    """A place in the network, with a disk and a clock; at most one process runs on it."""

    name: str
    rate: float
    offset: float
    has_disk: bool
    disk: Record | None = None
    process: Process | None = None
    is_silent: bool = False
    has_left: bool = False

    @property
    def address(self) -> str:
        return f"host-{self.name}:1"

    @property
    def is_up(self) -> bool:
        return self.process is not None and not self.is_silent


class World:
    """Machines, and all that happens to them."""

    def __init__(self, seed: int, *, profile: Profile = LOCAL, trusts_refusal: bool = True) -> None:
        self.rng = random.Random(seed)
        self.now = 100.0
        self.profile = profile
        self.machines: dict[str, Machine] = {}
        self.blocked: set[tuple[str, str]] = set()
        self.rejected: set[tuple[str, str]] = set()
        self.loss = 0.0
        self.duplicates = 0.0
        self.delay = 0.001
        self.late = 0.0
        self.fsync = 0.002
        self.mistakes = 0.0
        self.patience = 2.5 * SENSE_INTERVAL, 5.0 * SENSE_INTERVAL
        self.founding = Founding()
        self.checker = Checker()
        self.drop: Callable[[str, str, object], bool] = lambda source, target, message: False
        self.messages = 0
        self.dissolved = 0
        self.zombies: set[int] = set()
        self.warnings: list[Warn] = []
        self._trusts_refusal = trusts_refusal
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._runs = itertools.count(1)
        self._trace = hashlib.blake2b(digest_size=16)

    # Machines and processes

    def add(self, name: str, *, has_disk: bool = False, drift: float = 0.0) -> Machine:
        machine = Machine(name, 1.0 + drift, self.rng.uniform(0, 1000), has_disk)
        self.machines[name] = machine
        return machine

    def start(self, name: str, founding: Founding | None = None) -> Process:
        machine = self.machines[name]
        assert machine.process is None
        run = next(self._runs)
        self.note("start", name)
        wall = WALL_MS + int(self.now * 1000)
        record = machine.disk
        incarnation = self._incarnation(wall, record)
        if machine.has_disk:
            record = replace(record, incarnation=incarnation) if record is not None else Record(incarnation)
            machine.disk = record
        node_id = name if machine.has_disk else f"{name}.{run}"
        me = Member(node_id, machine.address, {}, incarnation, has_record=machine.has_disk)
        core = Agreement(
            me,
            self.profile,
            random.Random(self.rng.random()),
            self.local(machine),
            founding=founding or self.founding,
            record=record,
            trusts_refusal=self._trusts_refusal,
        )
        handoff = Handoff(shares_of, self.profile, random.Random(self.rng.random()))
        process = machine.process = Process(core, handoff, run, me.identity)
        self._sense(machine, process)
        self._later(partial(self._act, machine, process), TURN_INTERVAL)
        self._wake(machine)
        return process

    def _incarnation(self, wall: int, record: Record | None) -> int:
        return max(wall, record.incarnation + 1) if record is not None else wall

    def kill(self, name: str) -> None:
        """The process is gone; the kernel closes its sockets and refuses new ones."""
        machine = self.machines[name]
        process = machine.process
        if process is None:
            return
        self.note("kill", name)
        self._stop(machine)
        for other in self.machines.values():
            held = other.process.connections.get(name) if other.process is not None else None
            if held is not None and held[1] == process.run and not machine.is_silent:
                self._later(partial(self._lose_connection, other, other.process, name), self._latency())

    def silence(self, name: str) -> None:
        """The machine is gone from the network, and its process with it."""
        self.note("silence", name)
        self.machines[name].is_silent = True
        self._stop(self.machines[name])

    def reboot(self, name: str) -> None:
        """A machine that was silent is back, without its process."""
        self.machines[name].is_silent = False

    def pause(self, name: str, seconds: float) -> None:
        """The process is stopped and goes on later; what arrives meanwhile waits for it."""
        process = self.machines[name].process
        if process is None or process.is_paused:
            return
        self.note("pause", name)
        process.is_paused = True
        self._later(partial(self.resume, name, process), seconds)

    def resume(self, name: str, process: Process) -> None:
        machine = self.machines[name]
        if machine.process is not process or not process.is_paused:
            return
        self.note("resume", name)
        process.is_paused = False
        waiting, process.inbox = process.inbox, []
        if self.rng.random() < 0.5:
            self._on_time(machine, process)
        for happen in waiting:
            happen()
        if machine.process is process:
            self._on_time(machine, process)

    def leave(self, name: str) -> None:
        machine = self.machines[name]
        process = machine.process
        if process is None or process.is_leaving:
            return
        self.note("leave", name)
        process.is_leaving = True

        def ask() -> None:
            self.perform(
                machine, process, process.core.change(replace(process.core.me, leaving=True), self.local(machine))
            )
            self._wake(machine)

        self._do(machine, process, ask)
        self._later(partial(self._release, machine, process), self.rng.uniform(2.0, 4.0))

    def cut(self, side: Iterable[str], *, is_one_way: bool = False) -> None:
        """Keep one side of the network from reaching the other, and back unless one-way."""
        inside = set(side)
        for one, other in itertools.permutations(sorted(self.machines), 2):
            if one in inside and other not in inside:
                self.blocked.add((one, other))
                if not is_one_way:
                    self.blocked.add((other, one))

    def reject(self, one: str, other: str) -> None:
        """A firewall between the two answers for the other with resets and refusals, though it lives."""
        self.blocked |= {(one, other), (other, one)}
        self.rejected |= {(one, other), (other, one)}
        for name, peer in ((one, other), (other, one)):
            machine = self.machines[name]
            held = machine.process.connections.pop(peer, None) if machine.process is not None else None
            if held is not None and machine.process is not None:
                machine.process.core.evidence.ended(held[0], self.local(machine), by_peer=True)
                self._wake(machine)

    def heal(self) -> None:
        """End every fault of the network and of the machines; who was stopped goes on."""
        self.note("heal", "")
        self.blocked.clear()
        self.rejected.clear()
        self.loss = self.duplicates = self.late = self.mistakes = 0.0
        self.delay, self.fsync = 0.001, 0.002
        for name, machine in self.machines.items():
            machine.is_silent = False
            if machine.process is not None and machine.process.is_paused:
                self.resume(name, machine.process)

    def _stop(self, machine: Machine) -> None:
        machine.process = None
        self.checker.on_stop(machine.name)

    # Time

    def local(self, machine: Machine) -> float:
        return machine.offset + self.now * machine.rate

    def true(self, machine: Machine, local: float) -> float:
        return (local - machine.offset) / machine.rate

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> float:
        """Let time pass; return how much did before `until` held, at most `seconds`."""
        began, end = self.now, self.now + seconds
        step = seconds if until is None else UNTIL_STEP
        while self.now < end:
            pause = min(end, self.now + step)
            while self._queue and self._queue[0][0] <= pause:
                self.now, _, happen = heapq.heappop(self._queue)
                happen()
            self.now = pause
            if until is not None and until():
                return self.now - began
        return seconds

    def _later(self, happen: Callable[[], None], seconds: float) -> None:
        heapq.heappush(self._queue, (self.now + seconds, next(self._order), happen))

    def _wake(self, machine: Machine) -> None:
        process = machine.process
        if process is None:
            return
        deadline = min(process.core.next_deadline(self.local(machine)), process.handoff.next_deadline())
        when = max(self.true(machine, deadline), self.now)
        if when < process.wakes_at:
            process.wakes_at = when
            self._later(partial(self._on_timer, machine, process, when), when - self.now + 1e-9)

    def _on_timer(self, machine: Machine, process: Process, when: float) -> None:
        if machine.process is process and not process.is_paused and process.wakes_at == when:
            self._on_time(machine, process)

    def _on_time(self, machine: Machine, process: Process) -> None:
        process.wakes_at = float("inf")
        self.perform(machine, process, process.core.tick(self.local(machine)))
        if machine.process is process:
            self.hand_over(machine, process, process.handoff.tick(self.local(machine)))
        self._wake(machine)

    def _do(self, machine: Machine, process: Process, happen: Callable[[], None]) -> None:
        """Let something happen to the process now, or when it goes on."""
        if machine.process is not process:
            return
        if process.is_paused:
            process.inbox.append(happen)
        else:
            happen()

    # Effects

    def perform(self, machine: Machine, process: Process, effects: Iterable[Effect]) -> None:
        queue = deque(effects)
        # No word of those who are out is waited for; known here before anything is opened.
        self.hand_over(machine, process, process.handoff.excuse(process.core.excused))
        while queue and machine.process is process:
            effect = queue.popleft()
            match effect:
                case Send(address, message) if address == machine.address:
                    queue.extend(self._hear(machine, process, message, self._claim(process)))
                case Send(address, message):
                    self._send(machine, process, address, message)
                case Persist(record, then):
                    self._persist(machine, process, Write(record, then))
                case InstallView(view):
                    process.view = view
                    self.note("view", machine.name, view.lineage, view.number)
                    self.checker.on_view(machine.name, process.who, view)
                    self.hand_over(machine, process, process.handoff.install(view, process.who, self.local(machine)))
                    member = view.member(process.who[0])
                    if member is not None and member.leaving and not process.has_released:
                        self._later(partial(self._release, machine, process), self.rng.uniform(0.0, 0.5))
                case LeaseUntil(until):
                    process.lease_until = until
                    assert process.view is not None or until == float("-inf")
                    ends = self.true(machine, until)
                    self.checker.on_lease(machine.name, process.who, process.view, self.now, ends)
                case SelfFence(why, me):
                    self.note("fence", machine.name, why)
                    process.lease_until = float("-inf")
                    process.view = None
                    process.handoff.fence()
                    for partition in process.turns:
                        process.share.leave(partition)
                    process.turns.clear()
                    process.who = me.identity
                case Check(address):
                    self._check(machine, process, address)
                case Depart():
                    self.note("depart", machine.name)
                    # Let go by the others, or not: then its record is kept, and may be needed.
                    kept = machine.disk.view if machine.disk is not None else None
                    machine.has_left = kept is None or kept.member(process.who[0]) is None
                    self.kill(machine.name)
                case Warn():
                    self.warnings.append(effect)
                case Notify():
                    pass
                case _:
                    raise AssertionError(f"{effect} is not for the shell")

    def hand_over(self, machine: Machine, process: Process, effects: Iterable[HandoffEffect]) -> None:
        for effect in effects:
            match effect:
                case Tell(member, message):
                    self._send(machine, process, member.address, message)
                case Open(_, partitions):
                    assert process.view is not None
                    for partition in bits_of(partitions):
                        self.note("open", machine.name, partition)
                        process.opened_in[partition] = process.view.number

    def _act(self, machine: Machine, process: Process) -> None:
        """Begin a turn somewhere, if this node may."""
        if machine.process is not process:
            return
        self._later(partial(self._act, machine, process), TURN_INTERVAL * self.rng.uniform(0.5, 1.5))
        ready = [p for p in bits_of(process.share.open) if p not in process.turns]
        if process.is_paused or not ready or not self._may_act(machine, process):
            return
        assert process.view is not None
        partition = self.rng.choice(ready)
        assert process.share.enter(partition)
        process.turns[partition] = process.view.lineage, process.opened_in[partition]
        self._later(partial(self._end_turn, machine, process, partition), self.rng.choice((0.0, 0.01, 0.3)))

    def _may_act(self, machine: Machine, process: Process) -> bool:
        return process.core.is_serving(self.local(machine))

    def _may_release(self, machine: Machine, process: Process) -> bool:
        return process.core.is_serving(self.local(machine))

    def _end_turn(self, machine: Machine, process: Process, partition: int) -> None:
        """Let a turn's effect out, through the gate that looks at the lease again."""
        if process.is_paused:
            process.inbox.append(partial(self._end_turn, machine, process, partition))
            return
        turn = process.turns.pop(partition, None)
        if turn is None or (machine.process is not process and process.run not in self.zombies):
            return
        if self._may_release(machine, process):
            self.checker.on_effect(machine.name, turn[0], partition, turn[1])
        if machine.process is process and process.share.leave(partition):
            self.hand_over(machine, process, process.handoff.emptied(self.local(machine)))
            self._wake(machine)

    def _release(self, machine: Machine, process: Process) -> None:
        if machine.process is not process or process.has_released:
            return

        def release() -> None:
            process.has_released = True
            self.perform(machine, process, process.core.release(self.local(machine)))
            self._wake(machine)

        self._do(machine, process, release)

    def _persist(self, machine: Machine, process: Process, write: Write) -> None:
        process.writes.append(write)
        self._later(partial(self._synced, machine, process), self.fsync * self.rng.uniform(0.2, 2.0))

    def _synced(self, machine: Machine, process: Process) -> None:
        if machine.process is not process:
            return
        if process.is_paused:
            process.inbox.append(partial(self._synced, machine, process))
            return
        write = process.writes.popleft()
        machine.disk = write.record
        self.perform(machine, process, write.then)
        self._wake(machine)

    # The network

    def reaches(self, one: str, other: str) -> bool:
        return (
            (one, other) not in self.blocked and not self.machines[one].is_silent and not self.machines[other].is_silent
        )

    def both_ways(self, one: str, other: str) -> bool:
        return self.reaches(one, other) and self.reaches(other, one)

    def _claim(self, process: Process) -> Claim:
        me = process.core.me
        return Claim(me.id, me.address, me.incarnation)

    def _latency(self) -> float:
        seconds = self.delay * self.rng.uniform(0.5, 2.0)
        if self.late and self.rng.random() < self.late:
            seconds += self.rng.uniform(0, 1.5)
        return seconds

    def _send(self, machine: Machine, process: Process, address: str, message: object) -> None:
        self.messages += 1
        name = address.split(":")[0].removeprefix("host-")
        copies = 2 if self.duplicates and self.rng.random() < self.duplicates else 1
        sender = self._claim(process)
        if name not in self.machines or not self.reaches(machine.name, name) or self.drop(machine.name, name, message):
            return
        for _ in range(copies):
            if not self.loss or self.rng.random() >= self.loss:
                self._later(partial(self._arrive, machine.name, name, message, sender), self._latency())

    def _arrive(self, source: str, name: str, message: object, sender: Claim) -> None:
        machine = self.machines[name]
        process = machine.process
        if process is None or not self.reaches(source, name):
            return
        if process.is_paused:
            process.inbox.append(partial(self._deliver, machine, process, message, sender))
        else:
            self._deliver(machine, process, message, sender)

    def _deliver(self, machine: Machine, process: Process, message: object, sender: Claim) -> None:
        if machine.process is not process:
            return
        if not isinstance(message, Renew | Renewed):
            self.note("receive", machine.name, sender.id, message)
        self.perform(machine, process, self._hear(machine, process, message, sender))
        self._wake(machine)

    def _hear(self, machine: Machine, process: Process, message: object, sender: Claim) -> list[Effect]:
        if isinstance(message, Drained | DrainedSeen):
            self.hand_over(machine, process, process.handoff.receive(message, sender.identity))
            return []
        assert isinstance(message, AgreementMessage)
        return process.core.receive(message, sender, self.local(machine))

    def _check(self, machine: Machine, process: Process, address: str) -> None:
        name = address.split(":")[0].removeprefix("host-")
        self._later(partial(self._checked, machine, process, name, address), 2 * self._latency())

    def _checked(self, machine: Machine, process: Process, name: str, address: str) -> None:
        is_rejected = (machine.name, name) in self.rejected
        if machine.process is not process or process.is_paused:
            return
        if not is_rejected and not self.both_ways(machine.name, name):
            return
        there = self.machines[name].process
        now = self.local(machine)
        if there is None or is_rejected:
            self.perform(machine, process, process.core.refused(address, now))
        elif not there.is_paused:
            self.perform(machine, process, process.core.answered(address, there.core.me.identity, now))
        self._wake(machine)

    # What SWIM would notice

    def _sense(self, machine: Machine, process: Process) -> None:
        if machine.process is not process:
            return
        self._later(partial(self._sense, machine, process), SENSE_INTERVAL * self.rng.uniform(0.8, 1.2))
        if process.is_paused:
            return
        for name, other in self.machines.items():
            if name != machine.name and self.both_ways(machine.name, name):
                self._sense_one(machine, process, other)
        claims = [self._claim(process), *(self._believed(process, name) for name in sorted(process.seen))]
        if tuple(claims) != process.claims:
            process.claims = tuple(claims)
            self.perform(machine, process, process.core.believe(process.claims, self.local(machine)))
        self._wake(machine)

    def _sense_one(self, machine: Machine, process: Process, other: Machine) -> None:
        held = process.connections.get(other.name)
        there = other.process
        if held is not None and (there is None or there.run != held[1]):
            self._lose_connection(machine, process, other.name)
            held = None
        if there is None or there.is_paused:
            return
        who = there.core.me.identity
        if held is None or held[0] != who:
            if held is not None:
                process.core.evidence.ended(held[0], self.local(machine), by_peer=False)
            process.connections[other.name] = who, there.run
            process.core.evidence.connected(who, other.address)
        patience = self.rng.uniform(*self.patience)
        ignored_until = self.now + self.rng.uniform(0.2, 2.0) if self.rng.random() < self.mistakes else 0.0
        _, _, ignored = process.seen.get(other.name, (None, 0.0, 0.0))
        process.seen[other.name] = (
            Claim(who[0], other.address, who[1]),
            self.now + patience,
            max(ignored, ignored_until),
        )

    def _believed(self, process: Process, name: str) -> Claim:
        claim, until, ignored = process.seen[name]
        is_dead = self.now >= until or self.now < ignored
        return replace(claim, status=Status.DEAD) if is_dead else claim

    def _lose_connection(self, machine: Machine, process: Process | None, name: str) -> None:
        if process is None or machine.process is not process or not self.both_ways(machine.name, name):
            return
        if process.is_paused:
            process.inbox.append(partial(self._lose_connection, machine, process, name))
            return
        held = process.connections.pop(name, None)
        if held is not None:
            process.core.evidence.ended(held[0], self.local(machine), by_peer=True)
            self._wake(machine)

    # What is told of it

    def note(self, what: str, name: str, *more: object) -> None:
        self._trace.update(f"{self.now:.6f} {what} {name} {more}\n".encode())

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    def up(self) -> list[Machine]:
        return [machine for machine in self.machines.values() if machine.is_up]

    def hopeless(self) -> list[Machine]:
        """Return those whose lineage has lost its quorum for good, as only an operator can know."""
        lost: list[Machine] = []
        councils = {m.name: m.process.core.council for m in self.up() if m.process is not None}
        for machine in self.up():
            council = councils[machine.name]
            if council is None or machine.process is None:
                continue
            view = council.view
            answering = [
                other.me.identity
                for other in councils.values()
                if other is not None and other.view.lineage == view.lineage
            ]
            ahead = any(
                other is not None and other.view.lineage == view.lineage and other.view.number > view.number
                for other in councils.values()
            )
            if not ahead and not is_quorum(view, answering, machine.process.core.evidence.proven):
                lost.append(machine)
        return lost

    def dissolve(self, machine: Machine) -> None:
        """An operator gives the lineage up."""
        process = machine.process
        assert process is not None
        self.note("dissolve", machine.name)
        self.dissolved += 1
        self.perform(machine, process, process.core.dissolve("an operator says so", self.local(machine)))
        self._wake(machine)

    def trouble(self) -> list[str]:
        """Return what keeps this from being one serving lineage of exactly those that are up."""
        found: list[str] = []
        running = [(machine, machine.process) for machine in self.machines.values() if machine.process is not None]
        members = sorted(process.core.me.identity for _, process in running)
        views = {process.view for _, process in running}
        if len(views) > 1:
            found.append("several views")
        unopened = set(range(PARTITIONS))
        for _, process in running:
            unopened -= {p for p in range(PARTITIONS) if process.share.place(p) is Place.OPEN}
        if unopened:
            found.append(f"partitions {sorted(unopened)} are open nowhere")
        for machine, process in running:
            council = process.core.council
            if council is None:
                found.append(f"{machine.name} belongs to no lineage")
            elif sorted(member.identity for member in council.view.members) != members:
                found.append(f"{machine.name} has view {council.view.number} of {[m.id for m in council.view.members]}")
            elif council.polls.is_pressing:
                found.append(f"{machine.name} is sealed or frozen")
            elif not council.is_serving(self.local(machine)):
                found.append(f"{machine.name} has no lease")
        return found
