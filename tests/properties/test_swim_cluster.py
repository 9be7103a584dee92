"""Whole clusters of protocol cores in virtual time, over a network that loses, delays and splits."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringcast.discovery.applicant import Founding
from ringcast.discovery.codec import Codec
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
    SendUdp,
    Warn,
)
from ringcast.discovery.handoff import Open
from ringcast.discovery.member import (
    KEY_BYTES,
    Event,
    Identity,
    Member,
    MemberJoined,
    MemberLeft,
    MemberLost,
    MemberSuspected,
    View,
)
from ringcast.discovery.messages import Envelope, Exchange
from ringcast.discovery.participant import Participant
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.quorum import is_quorum
from ringcast.discovery.seal import START_RANDOM_BYTES, Seal, Unopened, start_of
from ringcast.discovery.share import PARTITIONS, Share, bits_of

MemberEvent = MemberJoined | MemberLeft | MemberLost | MemberSuspected

STARTED_MS = 1_700_000_000_000

GOSSIP_KEYS = [(b"test", bytes(range(32)))]

CLASS = "Actor"

TURNS_MAX = 3
"""So many activations begin where partitions open; they end when their partition is given away."""

FSYNC = 0.002

TICKS_AT_ONCE_MAX = 5
"""What one tick begins may be due in the next."""


def shares_of(view: View, node_id: str) -> dict[str, int]:
    """Deal the partitions out in turn to those who do not leave."""
    names = [member.id for member in view.members if not member.leaving]
    if node_id not in names:
        return {CLASS: 0}
    return {CLASS: sum(1 << partition for partition in range(names.index(node_id), PARTITIONS, len(names)))}


@dataclass
class Disk:
    """What a machine finds again: its key, and its record as a voter."""

    key: bytes
    record: Record | None = None


@dataclass
class Host:
    """A node's place in the network: its core, and all that it told its application.

    Attributes:
        run: As whom it takes part, by what it was told to do so far.
        dialled: By name: which run answers at the connection to it that this host holds, and in which process.
        lease_until: Until when this node may act.
        writes: Records on their way to the disk, with what waits for them.
    """

    name: str
    participant: Participant
    run: Identity
    disk: Disk
    has_disk: bool
    seal: Seal
    views: list[View] = field(default_factory=list[View])
    events: list[Event] = field(default_factory=list[Event])
    warnings: list[Warn] = field(default_factory=list[Warn])
    fences: list[str] = field(default_factory=list[str])
    is_down: bool = False
    is_paused: bool = False
    is_leaving: bool = False
    has_departed: bool = False
    wakes_at: float = float("inf")
    ticks_at_once: int = 0
    lease_until: float = float("-inf")
    dialled: dict[str, tuple[Identity, Host]] = field(default_factory=dict[str, "tuple[Identity, Host]"])
    writes: deque[Persist] = field(default_factory=deque[Persist])
    turns: list[int] = field(default_factory=list[int])

    def saw(self, kind: type[MemberEvent]) -> list[str]:
        changes = [event for event in self.events if isinstance(event, MemberEvent)]
        return [event.member.id for event in changes if type(event) is kind]

    @property
    def share(self) -> Share:
        return self.participant.shares.get(CLASS, Share())


class Network:
    """Hosts, and the messages between them, driven from one seed.

    Datagrams are sealed as they really are: whoever is not the run of the node that one is for loses it,
    and a duplicate is refused. What comes by TCP shows the sender's key. Of connections only the ends are
    modelled: each host has one to everybody who has answered it, and is told when a process at one is gone.

    Checks as it goes:

    * what is sent can be decoded to the same, and datagrams keep their budget;
    * equal `(lineage, number)` means equal members, and a run installs the views of a lineage one by one;
    * no two hosts of one lineage hold one partition, each under a lease, at the same time.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.hosts: dict[str, Host] = {}
        self.udp_loss = 0.0
        self.udp_duplicates = 0.0
        self.delay = 0.002
        self.cut: Callable[[str, str], bool] = lambda one, other: False
        self.refuses = True
        self.unopened: Counter[Unopened] = Counter()
        self.opened = 0
        self._codec = Codec("test")
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._members_of: dict[tuple[str, int], tuple[Member, ...]] = {}
        self._installed: dict[Identity, View] = {}

    def start(
        self,
        name: str,
        seeds: Iterable[str] = (),
        clock_ms: int | None = None,
        has_discovery: bool = True,
        has_disk: bool = False,
    ) -> Host:
        """Start a host, or again one that has a disk."""
        rng = random.Random(self.rng.random())
        former = self.hosts.get(name)
        has_disk = has_disk or former is not None
        assert former is None or (former.is_down and former.has_disk), "a node without a disk never comes back"
        disk = former.disk if former is not None else Disk(rng.randbytes(KEY_BYTES))
        incarnation = STARTED_MS + int(self.now * 1000) if clock_ms is None else clock_ms
        if has_disk:
            found = disk.record or Record(incarnation)
            incarnation = max(incarnation, found.incarnation + 1)
            disk.record = replace(found, incarnation=incarnation)
        me = Member(name, address_of(name), incarnation=incarnation, key=disk.key, has_record=has_disk)
        participant = Participant(
            me,
            LOCAL,
            rng,
            self.now,
            shares_of=shares_of,
            founding=Founding(has_discovery=has_discovery),
            record=disk.record,
        )
        seal = Seal(GOSSIP_KEYS, start_of(incarnation, rng.randbytes(START_RANDOM_BYTES)))
        host = self.hosts[name] = Host(name, participant, me.identity, disk, has_disk, seal)
        for seed in seeds:
            host.participant.found(address_of(seed), self.now)
        self._keep_in_touch(host)
        self._wake(host)
        return host

    def kill(self, name: str) -> None:
        """The process is gone: its connections break, and new ones are refused."""
        host = self.hosts[name]
        host.is_down = True
        host.lease_until = float("-inf")
        for other in self.up():
            if self.refuses and not self.cut(name, other.name):
                self._later(partial(self._lose, other, host))

    def leave(self, name: str) -> None:
        """Hand over, be let go, say goodbye, and end."""
        host = self.hosts[name]
        if not host.is_leaving:
            host.is_leaving = True
            me = replace(host.participant.me, leaving=True)
            self._do(host, lambda: self.perform(host, host.participant.change(me, self.now)))

    def pause(self, name: str, seconds: float) -> None:
        """The process is stopped: messages wait for it in its sockets."""
        host = self.hosts[name]
        host.is_paused = True

        def resume() -> None:
            host.is_paused = False
            self._on_time(host)

        self._at(self.now + seconds, resume)

    def dissolve_the_hopeless(self) -> None:
        """Do what an operator does where all that could prove a death has died, too."""
        councils = {host.name: host.participant._agreement.council for host in self.up()}
        for host in self.up():
            council = councils[host.name]
            if council is None:
                continue
            # Also of a voter that was restarted: it has a view to vote on, and none in force.
            answering = [
                other.participant.me.identity
                for other in self.up()
                if (theirs := councils[other.name]) is not None and theirs.view == council.view
            ]
            if not is_quorum(council.view, answering, host.participant._agreement.evidence.proven):
                self.perform(host, host.participant.dissolve("an operator says so", self.now))
                self._wake(host)

    def run(self, seconds: float, until: Callable[[], bool] | None = None) -> float:
        """Let time pass; return how much did before `until` held, at most `seconds`."""
        began, end = self.now, self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            if until is not None and until():
                return self.now - began
            self.now, _, happen = heapq.heappop(self._queue)
            happen()
        self.now = end
        return seconds

    def up(self) -> list[Host]:
        return [host for host in self.hosts.values() if not host.is_down]

    def serving(self) -> list[str]:
        """Return whose lease runs."""
        return sorted(host.name for host in self.up() if host.lease_until > self.now)

    def is_one(self) -> bool:
        """Whether all hosts that are up follow one view of exactly themselves."""
        views = [host.participant.view for host in self.up()]
        first = views[0]
        runs = sorted(host.participant.me.identity for host in self.up())
        return (
            first is not None
            and all(view == first for view in views)
            and sorted(member.identity for member in first.members) == runs
        )

    def is_whole(self) -> bool:
        """Whether they are one, and every partition is open under somebody's lease."""
        if not self.is_one() or len(self.serving()) < len(self.up()):
            return False
        is_open = 0
        for host in self.up():
            is_open |= host.share.open
        return is_open == (1 << PARTITIONS) - 1

    # Effects

    def perform(self, host: Host, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendUdp(address, recipient, message, claims):
                    plain = self._packed(Envelope(host.participant.sender, message, claims))
                    data = host.seal.seal(plain, *recipient)
                    assert len(data) <= LOCAL.datagram_bytes
                    copies = 2 if self.rng.random() < self.udp_duplicates else 1
                    for _ in range(copies):
                        if self.rng.random() >= self.udp_loss:
                            self._carry(host, address, data, by_tcp=False)
                case Send(address, message, claims):
                    data = self._packed(Envelope(host.participant.sender, message, claims))
                    self._carry(host, address, data, by_tcp=True)
                case Check(address):
                    self._dial(host, address)
                case InstallView(view):
                    self._check_view(host, view)
                    host.views.append(view)
                    self._at(self.now, partial(self._keep_in_touch, host, is_repeated=False))
                    self._end_turns(host)
                case Open(_, partitions):
                    self.opened += partitions.bit_count()
                    for partition in self.rng.sample(list(bits_of(partitions)), min(TURNS_MAX, partitions.bit_count())):
                        if not host.share.enter(partition):
                            continue  # what the core has done since has closed it again
                        host.turns.append(partition)
                case LeaseUntil(until):
                    host.lease_until = until
                case SelfFence(why, me):
                    assert host.lease_until == float("-inf")
                    assert host.share.open == host.share.opening == host.share.draining == 0
                    assert me.incarnation > host.run[1]
                    host.run = me.identity
                    host.fences.append(why)
                    for partition in host.turns:
                        host.share.leave(partition)
                    host.turns.clear()
                case Persist():
                    assert host.has_disk
                    host.writes.append(effect)
                    self._later(partial(self._synced, host), FSYNC * self.rng.uniform(0.2, 2.0))
                case Depart():
                    host.has_departed = True
                    self.perform(host, host.participant.leave(self.now))
                    self.kill(host.name)
                    return
                case Notify(event):
                    host.events.append(event)
                case Warn():
                    host.warnings.append(effect)
                case _:
                    pytest.fail(f"{effect} is not for the shell")
        self._check_owners(host)

    def _packed(self, envelope: Envelope) -> bytes:
        data = self._codec.encode(envelope)
        assert self._codec.decode(data) == envelope
        return data

    def _check_view(self, host: Host, view: View) -> None:
        before = self._installed.get(host.run)
        if before is not None and before.lineage == view.lineage:
            assert view.number == before.number + 1
        self._installed[host.run] = view
        assert host.run in {member.identity for member in view.members}
        assert view.members == tuple(sorted(view.members, key=lambda member: member.seniority))
        known = self._members_of.setdefault((view.lineage, view.number), view.members)
        assert known == view.members

    def _check_owners(self, host: Host) -> None:
        """What this host holds nobody else of its lineage may hold under a lease, in whatever view."""
        view = host.participant.view
        if view is None or host.lease_until <= self.now:
            return
        mine = host.share.open | host.share.draining
        for other in self.up():
            theirs = other.participant.view
            if other is host or theirs is None or theirs.lineage != view.lineage or other.lease_until <= self.now:
                continue
            both = mine & (other.share.open | other.share.draining)
            assert not both, f"{host.name} and {other.name} both hold {sorted(bits_of(both))[:5]} at {self.now}"

    def _end_turns(self, host: Host) -> None:
        """What runs in partitions that are given away ends in its own time."""
        for partition in [p for p in host.turns if host.share.draining >> p & 1]:
            host.turns.remove(partition)
            self._later(partial(self._end_turn, host, partition, host.participant.me), self.rng.uniform(0.0, 0.5))
        if host.is_leaving and not host.has_departed and not host.turns and not host.share.draining:
            member = host.views[-1].member(host.name)
            if member is None or member.leaving:
                self._later(partial(self._release, host))

    def _end_turn(self, host: Host, partition: int, run: Member) -> None:
        def end() -> None:
            if host.share.leave(partition):
                self.perform(host, host.participant.emptied(self.now))
            self._end_turns(host)

        self._do(host, end)

    def _release(self, host: Host) -> None:
        self._do(host, lambda: self.perform(host, host.participant.release(self.now)))

    def _synced(self, host: Host) -> None:
        def synced() -> None:
            write = host.writes.popleft()
            host.disk.record = write.record
            self.perform(host, host.participant.persisted(write.then, self.now))

        self._do(host, synced)

    # Messages and connections

    def _carry(self, host: Host, address: str, data: bytes, by_tcp: bool) -> None:
        target = self.hosts.get(address.split(":")[0].removeprefix("host-"))
        if target is not None and self.cut(host.name, target.name):
            return
        if target is None or target.is_down:
            if by_tcp and self.refuses:
                self._later(partial(self._refused, host, address, target))
            return
        self._later(lambda: self._arrive(host, target, address, data, by_tcp))

    def _arrive(self, host: Host, target: Host, address: str, data: bytes, by_tcp: bool) -> None:
        if target.is_down or self.cut(host.name, target.name):
            return
        if target.is_paused:
            self._later(lambda: self._arrive(host, target, address, data, by_tcp), 0.05)
            return
        if not by_tcp:
            opened = target.seal.open(data, *target.participant.sender.identity)
            if isinstance(opened, Unopened):
                self.unopened[opened] += 1
                return
            data = opened
        envelope = self._codec.decode(data)
        assert isinstance(envelope, Envelope)
        objection = target.participant.objection(envelope, host.disk.key) if by_tcp else None
        if objection is not None:
            self.perform(target, objection)
            return
        if by_tcp:
            self._answered(target, host, envelope.sender.identity)
        dialled = address_of(host.name) if by_tcp else None
        effects = target.participant.receive(envelope, self.now, by_tcp=by_tcp, dialled=dialled)
        self.perform(target, effects)
        self._wake(target)

    def _answered(self, host: Host, peer: Host, who: Identity) -> None:
        """Somebody speaks over the connection that this host has dialled to it."""
        held = host.dialled.get(peer.name)
        if held is not None and held[0] == who:
            return
        if held is not None:
            self.perform(host, host.participant.ended(held[0], self.now, by_peer=False))
        if not peer.is_down:
            host.dialled[peer.name] = who, peer
            self.perform(host, host.participant.connected(who, address_of(peer.name), self.now))

    def _dial(self, host: Host, address: str) -> None:
        self._carry(host, address, self._packed(Envelope(host.participant.sender, Exchange(True))), by_tcp=True)

    def _keep_in_touch(self, host: Host, is_repeated: bool = True) -> None:
        if host.is_down:
            return
        if is_repeated:
            self._later(partial(self._keep_in_touch, host), LOCAL.lease)
        for member in host.participant.watched:
            if not host.is_paused and member.id not in host.dialled:
                self._dial(host, member.address)

    def _refused(self, host: Host, address: str, target: Host | None) -> None:
        if target is not None:
            self._lose(host, target)
        self._do(host, lambda: self.perform(host, host.participant.refused(address, self.now)))

    def _lose(self, host: Host, peer: Host) -> None:
        """The kernel of a peer says that its process is gone."""
        held = host.dialled.get(peer.name)
        if held is None or held[1] is not peer:
            return

        def lose() -> None:
            if host.dialled.pop(peer.name, None) is not None:
                self.perform(host, host.participant.ended(held[0], self.now, by_peer=True))
                self.perform(host, host.participant.disconnected(held[0], self.now))

        self._do(host, lose)

    # Time

    def _do(self, host: Host, happen: Callable[[], None]) -> None:
        """Let something happen to the process now, or when it goes on."""
        if host.is_paused:
            self._later(partial(self._do, host, happen), 0.05)
        elif not host.is_down:
            happen()
            self._wake(host)

    def _later(self, happen: Callable[[], None], seconds: float | None = None) -> None:
        delay = self.rng.uniform(0.1, 2.0) * self.delay if seconds is None else seconds
        self._at(self.now + delay, happen)

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), happen))

    def _wake(self, host: Host) -> None:
        when = max(host.participant.next_deadline(self.now), self.now)
        if when < host.wakes_at:
            host.wakes_at = when
            self._at(when, lambda: self._on_time(host, when))

    def _on_time(self, host: Host, when: float | None = None) -> None:
        if host.is_down or host.is_paused or (when is not None and when != host.wakes_at):
            return
        self.perform(host, host.participant.tick(self.now))
        host.wakes_at = float("inf")
        if host.is_down:
            return
        if host.participant.next_deadline(self.now) > self.now:
            host.ticks_at_once = 0
        else:
            host.ticks_at_once += 1
            assert host.ticks_at_once < TICKS_AT_ONCE_MAX, "a core that is due for ever would spin"
        self._wake(host)


def address_of(name: str) -> str:
    return f"host-{name}:7400"


def is_cut(mask: int, is_one_way: bool, one: str, other: str) -> bool:
    """Whether the sides that the bits of `mask` make keep `one` from reaching `other`."""
    sides = mask >> (int(one) % 5) & 1, mask >> (int(other) % 5) & 1
    return sides[0] > sides[1] or (sides[0] < sides[1] and not is_one_way)


def cluster(seed: int, size: int, has_disk: bool = False) -> Network:
    """Return a network with one settled cluster of hosts 0, 1, …"""
    network = Network(seed)
    names = [str(i) for i in range(size)]
    for name in names:
        network.start(name, names, clock_ms=STARTED_MS + int(name), has_disk=has_disk)
    assert network.run(10.0, network.is_whole) < 10.0
    network.run(1.0)
    return network


seeds = st.integers(0, 2**32 - 1)
bounded = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@bounded
@given(seed=seeds, size=st.integers(1, 7), loss=st.floats(0, 0.2), duplicates=st.floats(0, 0.5), data=st.data())
def test_nodes_that_start_at_once_become_one_cluster(
    seed: int, size: int, loss: float, duplicates: float, data: st.DataObject
) -> None:
    network = Network(seed)
    network.udp_loss, network.udp_duplicates = loss, duplicates
    names = [str(i) for i in range(size)]
    starts = data.draw(st.lists(st.floats(0, 0.5), min_size=size, max_size=size))
    for name, pause in sorted(zip(names, starts, strict=True), key=lambda pair: pair[1]):
        network.run(1000 + pause - network.now)
        network.start(name, names)
    assert network.run(8.0, network.is_one) < 8.0


@bounded
@given(seed=seeds, size=st.integers(2, 6))
def test_nobody_is_suspected_while_nothing_is_lost(seed: int, size: int) -> None:
    network = cluster(seed, size)
    network.run(20.0)
    for host in network.up():
        assert host.saw(MemberSuspected) == []
        assert sorted(host.saw(MemberJoined)) == [str(i) for i in range(size)]
    assert network.is_whole()


@bounded
@given(seed=seeds, size=st.integers(2, 6), data=st.data())
def test_a_killed_process_is_lost_within_two_seconds(seed: int, size: int, data: st.DataObject) -> None:
    network = cluster(seed, size)
    victim = data.draw(st.sampled_from(sorted(network.hosts)))
    network.kill(victim)
    assert network.run(2.0, network.is_whole) < 2.0
    for host in network.up():
        assert host.saw(MemberLost) == [victim]
        assert host.saw(MemberLeft) == []


@bounded
@given(seed=seeds, size=st.integers(3, 6), data=st.data())
def test_a_silent_machine_is_lost_within_five_seconds(seed: int, size: int, data: st.DataObject) -> None:
    network = cluster(seed, size)
    victim = data.draw(st.sampled_from(sorted(network.hosts)))
    network.refuses = False
    network.kill(victim)
    assert network.run(5.0, network.is_whole) < 5.0
    assert all(host.saw(MemberLost) == [victim] for host in network.up())


@bounded
@given(seed=seeds)
def test_of_two_the_one_left_by_a_silent_machine_waits_until_its_address_refuses(seed: int) -> None:
    network = cluster(seed, 2)
    network.refuses = False
    network.kill("1")
    [left] = network.up()
    view = left.participant.view
    network.run(15.0)
    assert network.serving() == []
    assert left.participant.view == view
    assert left.fences == []
    network.refuses = True  # the machine is there again, without its process
    assert network.run(LOCAL.redial, network.is_whole) < LOCAL.redial
    assert left.saw(MemberLost) == ["1"]


@bounded
@given(seed=seeds, size=st.integers(2, 5), has_disk=st.booleans(), data=st.data())
def test_a_leave_hands_over_and_is_not_a_loss(seed: int, size: int, has_disk: bool, data: st.DataObject) -> None:
    network = cluster(seed, size, has_disk=has_disk)
    leaver = data.draw(st.sampled_from(sorted(network.hosts)))
    network.leave(leaver)
    host = network.hosts[leaver]
    assert network.run(3.0, lambda: host.is_down and network.is_whole()) < 3.0
    assert host.has_departed
    assert host.share.open == host.share.draining == 0
    for host in network.up():
        assert host.saw(MemberLeft) == [leaver]
        assert host.saw(MemberLost) == host.saw(MemberSuspected) == []


@bounded
@given(seed=seeds, size=st.integers(2, 5), data=st.data())
def test_who_comes_back_with_its_record_is_a_member_within_three_seconds(
    seed: int, size: int, data: st.DataObject
) -> None:
    network = cluster(seed, size, has_disk=True)
    name = data.draw(st.sampled_from(sorted(network.hosts)))
    before = network.hosts[name].participant.me.incarnation
    network.kill(name)
    network.run(data.draw(st.floats(0, 1.0)))
    host = network.start(name, sorted(network.hosts))
    assert network.run(3.0, network.is_whole) < 3.0
    assert host.participant.me.incarnation > before


@bounded
@given(seed=seeds, size=st.integers(1, 5))
def test_all_that_had_records_come_back_to_their_lineage(seed: int, size: int) -> None:
    network = cluster(seed, size, has_disk=True)
    names = sorted(network.hosts)
    view = network.hosts["0"].participant.view
    assert view is not None
    for name in names:
        network.kill(name)
    network.run(5.0)
    for name in names:
        network.start(name, names)
    assert network.run(15.0, network.is_whole) < 15.0
    after = network.hosts["0"].participant.view
    assert after is not None
    assert after.lineage == view.lineage
    assert after.number > view.number


@settings(bounded, max_examples=8)
@given(seed=seeds, size=st.integers(3, 5))
def test_lossy_datagrams_kill_nobody(seed: int, size: int) -> None:
    network = cluster(seed, size)
    network.udp_loss = 0.2
    network.run(60.0)
    assert all(host.saw(MemberLost) == [] for host in network.up())
    assert network.is_one()


@settings(bounded, max_examples=8)
@given(seed=seeds, size=st.integers(2, 4))
def test_blocked_datagrams_make_one_warning_per_peer_and_no_flapping(seed: int, size: int) -> None:
    network = cluster(seed, size)
    network.udp_loss = 1.0
    network.run(60.0)
    for host in network.up():
        assert host.saw(MemberLost) == host.saw(MemberSuspected) == []
        others = sorted(name for name in network.hosts if name != host.name)
        assert sorted(warning.member for warning in host.warnings) == others


@bounded
@given(seed=seeds, size=st.integers(3, 6), cut=st.integers(1, 5), data=st.data())
def test_the_smaller_side_of_a_partition_stops_and_comes_back_anew(
    seed: int, size: int, cut: int, data: st.DataObject
) -> None:
    network = cluster(seed, size)
    minority = set(data.draw(st.permutations(sorted(network.hosts)))[: min(cut, (size - 1) // 2)])
    before = {name: host.participant.me.incarnation for name, host in network.hosts.items()}
    views = {name: network.hosts[name].participant.view for name in minority}
    network.cut = lambda one, other: (one in minority) != (other in minority)
    network.run(LOCAL.lease)
    assert minority.isdisjoint(network.serving())
    network.run(15.0)
    assert network.serving() == sorted(network.hosts.keys() - minority)
    for name, host in network.hosts.items():
        view = host.participant.view
        assert view is not None
        if name in minority:
            assert view == views[name]
        else:
            assert minority.isdisjoint(member.id for member in view.members)
    network.cut = lambda one, other: False
    assert network.run(60.0, network.is_whole) < 60.0
    network.run(1.0)
    for name, host in network.hosts.items():
        assert (host.participant.me.incarnation > before[name]) == (name in minority)
        assert len(host.fences) == (name in minority)


@bounded
@given(seed=seeds, size=st.sampled_from([2, 4, 6]))
def test_two_halves_of_one_size_both_stop_and_go_on_in_the_same_view(seed: int, size: int) -> None:
    network = cluster(seed, size)
    view = network.hosts["0"].participant.view
    network.cut = lambda one, other: (int(one) % 2) != (int(other) % 2)
    network.run(10.0)
    assert network.serving() == []
    network.cut = lambda one, other: False
    assert network.run(60.0, network.is_whole) < 60.0
    assert {host.participant.view for host in network.up()} == {view}
    assert all(host.fences == [] for host in network.up())


@bounded
@given(seed=seeds, sizes=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_clusters_that_meet_later_become_one_and_the_larger_does_not_move(seed: int, sizes: tuple[int, int]) -> None:
    network = Network(seed)
    halves = [[f"{side}{i}" for i in range(size)] for side, size in zip("ab", sizes, strict=True)]
    for half in halves:
        for name in half:
            network.start(name, half)
    network.run(3.0)
    assert not network.is_one()
    network.hosts["a0"].participant.found(address_of("b0"), network.now)
    network._on_time(network.hosts["a0"])
    assert network.run(5.0, network.is_whole) < 5.0
    if sizes[0] != sizes[1]:
        larger, smaller = sorted(halves, key=len, reverse=True)
        assert all(network.hosts[name].fences == [] for name in larger)
        assert all(network.hosts[name].saw(MemberLost) == [] for name in larger)
        assert all(network.hosts[name].fences for name in smaller)


@bounded
@given(seed=seeds, size=st.integers(1, 5))
def test_a_newcomer_with_a_slow_clock_is_one_more_member_and_takes_nothing_over(seed: int, size: int) -> None:
    network = cluster(seed, size)
    late = network.start("late", ["0"], clock_ms=1)
    assert network.run(5.0, network.is_whole) < 5.0
    view = late.participant.view
    assert view is not None
    assert view.members[0].id == "late"  # in order of seniority, which decides nothing but who speaks first
    assert all(host.saw(MemberLost) == [] and host.fences == [] for host in network.up())
    assert all(host.views[0].lineage == view.lineage for host in network.up())


@bounded
@given(seed=seeds, size=st.integers(3, 5), seconds=st.floats(3.0, 9.0), data=st.data())
def test_a_process_that_was_stopped_comes_back_as_a_new_incarnation(
    seed: int, size: int, seconds: float, data: st.DataObject
) -> None:
    network = cluster(seed, size)
    sleeper = data.draw(st.sampled_from(sorted(network.hosts)))
    before = {name: host.participant.me.incarnation for name, host in network.hosts.items()}
    network.pause(sleeper, seconds)
    network.run(seconds)
    others = [host for host in network.up() if host.name != sleeper]
    assert all(host.saw(MemberLost) == [sleeper] for host in others)
    assert network.run(8.0, network.is_whole) < 8.0
    for name, host in network.hosts.items():
        assert (host.participant.me.incarnation > before[name]) == (name == sleeper)


@bounded
@given(seed=seeds, seconds=st.floats(3.0, 9.0))
def test_of_two_the_stopped_one_goes_on_as_if_nothing_had_been(seed: int, seconds: float) -> None:
    network = cluster(seed, 2)
    view = network.hosts["0"].participant.view
    network.pause("1", seconds)
    network.run(seconds)
    assert network.serving() == []
    assert network.run(8.0, network.is_whole) < 8.0
    assert {host.participant.view for host in network.up()} == {view}


@bounded
@given(seed=seeds, data=st.data())
def test_a_short_stop_kills_nobody(seed: int, data: st.DataObject) -> None:
    network = cluster(seed, 4)
    network.pause(data.draw(st.sampled_from(sorted(network.hosts))), 0.5)
    network.run(10.0)
    assert all(host.saw(MemberLost) == [] for host in network.up())


faults = st.lists(
    st.one_of(
        st.tuples(st.just("kill"), st.integers(0, 5), st.floats(0, 2)),
        st.tuples(st.just("leave"), st.integers(0, 5), st.floats(0, 2)),
        st.tuples(st.just("restart"), st.integers(0, 5), st.floats(0, 2)),
        st.tuples(st.just("start"), st.integers(0, 0), st.floats(0, 2)),
        st.tuples(st.just("pause"), st.integers(0, 5), st.floats(0, 4)),
        st.tuples(st.just("cut"), st.integers(0, 31), st.floats(0, 4)),
        st.tuples(st.just("one-way"), st.integers(0, 31), st.floats(0, 3)),
        st.tuples(st.just("heal"), st.integers(0, 0), st.floats(0, 2)),
        st.tuples(st.just("lose"), st.integers(0, 5), st.floats(0, 2)),
    ),
    max_size=8,
)


@settings(bounded, max_examples=30)
@given(seed=seeds, size=st.integers(1, 5), has_disk=st.booleans(), schedule=faults)
def test_whatever_happens_it_ends_in_one_cluster(
    seed: int, size: int, has_disk: bool, schedule: list[tuple[str, int, float]]
) -> None:
    network = cluster(seed, size, has_disk=has_disk)
    next_name = itertools.count(size)
    for fault, choice, seconds in schedule:
        names = [host.name for host in network.up()]
        chosen = names[choice % len(names)]
        match fault:
            case "kill" if len(names) > 1:
                network.kill(chosen)
            case "leave" if len([host for host in network.up() if not host.is_leaving]) > 1:
                network.leave(chosen)
            case "restart" if has_disk and chosen in network.hosts and network.hosts[chosen].has_disk:
                network.kill(chosen)
                network.run(seconds / 4)
                network.start(chosen, names)
            case "start":
                network.start(str(next(next_name)), names)
            case "pause":
                network.pause(chosen, seconds)
            case "cut":
                network.cut = partial(is_cut, choice, False)
            case "one-way":
                network.cut = partial(is_cut, choice, True)
            case "heal":
                network.cut = lambda one, other: False
            case "lose":
                network.udp_loss = choice / 10
            case _:
                pass
        network.run(seconds)
    network.cut = lambda one, other: False
    network.udp_loss = 0.0
    # Old members are dialled again within the re-dial interval, in its longest jitter.
    limit = 3 * LOCAL.redial
    if network.run(limit, network.is_whole) == limit:
        network.dissolve_the_hopeless()
        assert network.run(limit, network.is_whole) < limit
    # What was suspected before the heal may still run its course.
    network.run(10.0)
    assert network.run(limit, network.is_whole) < limit
    network.run(2.0)
    assert network.is_whole()
