"""Whole clusters of protocol cores in virtual time, over a network that loses, delays and splits."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringcast.discovery.codec import Codec
from ringcast.discovery.effects import Effect, InstallView, Notify, Send, SendUdp, Warn
from ringcast.discovery.member import (
    KEY_BYTES,
    Event,
    Member,
    MemberJoined,
    MemberLeft,
    MemberLost,
    MemberSuspected,
    View,
    ViewChanged,
)
from ringcast.discovery.messages import Envelope
from ringcast.discovery.participant import Participant
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.seal import START_RANDOM_BYTES, Seal, Unopened, start_of

MemberEvent = MemberJoined | MemberLeft | MemberLost | MemberSuspected

STARTED_MS = 1_700_000_000_000

GOSSIP_KEYS = [(b"test", bytes(range(32)))]


@dataclass
class Host:
    """A node's place in the network: its core, and all that it told its application."""

    name: str
    participant: Participant
    key: bytes
    seal: Seal
    views: list[View] = field(default_factory=list[View])
    events: list[Event] = field(default_factory=list[Event])
    warnings: list[Warn] = field(default_factory=list[Warn])
    is_down: bool = False
    is_paused: bool = False
    wakes_at: float = float("inf")

    def saw(self, kind: type[MemberEvent]) -> list[str]:
        changes: list[MemberEvent] = [event for event in self.events if not isinstance(event, ViewChanged)]
        return [event.member.id for event in changes if type(event) is kind]


class Network:
    """Hosts, and the messages between them, driven from one seed.

    Datagrams are sealed as they really are: whoever is not the run of the node that one is for loses it,
    and a duplicate is refused. What comes by TCP shows the sender's key.

    Checks as it goes: what is sent can be decoded to the same, datagrams keep their budget,
    view numbers grow at each host, and equal `(lineage, number)` means equal members.
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
        self._codec = Codec("test")
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._members_of: dict[tuple[str, int], tuple[Member, ...]] = {}

    def start(
        self, name: str, seeds: Iterable[str] = (), clock_ms: int | None = None, has_discovery: bool = True
    ) -> Host:
        incarnation = STARTED_MS + int(self.now * 1000) if clock_ms is None else clock_ms
        rng = random.Random(self.rng.random())
        key, drawn = rng.randbytes(KEY_BYTES), rng.randbytes(START_RANDOM_BYTES)
        me = Member(name, address_of(name), incarnation=incarnation, key=key)
        participant = Participant(me, LOCAL, rng, self.now, has_discovery=has_discovery)
        host = Host(name, participant, key, Seal(GOSSIP_KEYS, start_of(incarnation, drawn)))
        self.hosts[name] = host
        for seed in seeds:
            host.participant.found(address_of(seed), self.now)
        self._wake(host)
        return host

    def kill(self, name: str) -> None:
        """The process is gone: its connections break, and new ones are refused."""
        self.hosts[name].is_down = True
        for other in self.hosts.values():
            if other.name != name and self.refuses and not self.cut(name, other.name):
                self._later(partial(self._disconnected, other, self.hosts[name].participant.sender.identity))

    def leave(self, name: str) -> None:
        host = self.hosts[name]
        self.perform(host, host.participant.leave())
        host.is_down = True

    def pause(self, name: str, seconds: float) -> None:
        """The process is stopped: messages wait for it in its sockets."""
        host = self.hosts[name]
        host.is_paused = True

        def resume() -> None:
            host.is_paused = False
            self._on_time(host)

        self._at(self.now + seconds, resume)

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

    def is_one(self) -> bool:
        """Whether all hosts that are up follow one view of exactly themselves."""
        views = [host.participant.view for host in self.up()]
        first = views[0]
        names = sorted(host.name for host in self.up())
        return (
            first is not None
            and all(view == first for view in views)
            and sorted(member.id for member in first.members) == names
        )

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
                case InstallView(view):
                    self._check_view(host, view)
                    host.views.append(view)
                case Notify(event):
                    host.events.append(event)
                case Warn():
                    host.warnings.append(effect)
                case _:
                    pytest.fail(f"{effect} is not for the shell")

    def _packed(self, envelope: Envelope) -> bytes:
        data = self._codec.encode(envelope)
        assert self._codec.decode(data) == envelope
        return data

    def _check_view(self, host: Host, view: View) -> None:
        assert not host.views or view.number > host.views[-1].number
        assert host.participant.me.identity in {member.identity for member in view.members}
        assert view.members == tuple(sorted(view.members, key=lambda member: member.seniority))
        known = self._members_of.setdefault((view.lineage, view.number), view.members)
        assert known == view.members

    def _carry(self, host: Host, address: str, data: bytes, by_tcp: bool) -> None:
        target = self.hosts.get(address.split(":")[0].removeprefix("host-"))
        if target is not None and self.cut(host.name, target.name):
            return
        if target is None or target.is_down:
            if by_tcp and self.refuses:
                self._later(lambda: self._refused(host, address))
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
        objection = target.participant.objection(envelope, host.key) if by_tcp else None
        if objection is not None:
            self.perform(target, objection)
            return
        dialled = address_of(host.name) if by_tcp else None
        effects = target.participant.receive(envelope, self.now, by_tcp=by_tcp, dialled=dialled)
        self.perform(target, effects)
        self._wake(target)

    def _refused(self, host: Host, address: str) -> None:
        if not host.is_down:
            self.perform(host, host.participant.refused(address, self.now))
            self._wake(host)

    def _disconnected(self, host: Host, identity: tuple[str, int]) -> None:
        if not host.is_down:
            self.perform(host, host.participant.disconnected(identity, self.now))
            self._wake(host)

    def _later(self, happen: Callable[[], None], seconds: float | None = None) -> None:
        delay = self.rng.uniform(0.1, 2.0) * self.delay if seconds is None else seconds
        self._at(self.now + delay, happen)

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), happen))

    def _wake(self, host: Host) -> None:
        when = max(host.participant.next_deadline(), self.now)
        if when < host.wakes_at:
            host.wakes_at = when
            self._at(when, lambda: self._on_time(host, when))

    def _on_time(self, host: Host, when: float | None = None) -> None:
        if host.is_down or host.is_paused or (when is not None and when != host.wakes_at):
            return
        self.perform(host, host.participant.tick(self.now))
        host.wakes_at = float("inf")
        deadline = host.participant.next_deadline()
        assert deadline > self.now, "a core that is due for ever would spin"
        self._wake(host)


def address_of(name: str) -> str:
    return f"host-{name}:7400"


def is_cut(mask: int, is_one_way: bool, one: str, other: str) -> bool:
    """Whether the sides that the bits of `mask` make keep `one` from reaching `other`."""
    sides = mask >> (int(one) % 5) & 1, mask >> (int(other) % 5) & 1
    return sides[0] > sides[1] or (sides[0] < sides[1] and not is_one_way)


def cluster(seed: int, size: int) -> Network:
    """Return a network with one settled cluster of hosts 0, 1, …"""
    network = Network(seed)
    names = [str(i) for i in range(size)]
    for name in names:
        network.start(name, names, clock_ms=STARTED_MS + int(name))
    assert network.run(10.0, network.is_one) < 10.0
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
        assert host.saw(MemberJoined) == [str(i) for i in range(size)]
    assert network.is_one()


@bounded
@given(seed=seeds, size=st.integers(2, 6), data=st.data())
def test_a_killed_process_is_lost_within_two_seconds(seed: int, size: int, data: st.DataObject) -> None:
    network = cluster(seed, size)
    victim = data.draw(st.sampled_from(sorted(network.hosts)))
    network.kill(victim)
    assert network.run(2.0, network.is_one) < 2.0
    for host in network.up():
        assert host.saw(MemberLost) == [victim]
        assert host.saw(MemberLeft) == []


@bounded
@given(seed=seeds, size=st.integers(2, 6), data=st.data())
def test_a_silent_machine_is_lost_within_five_seconds(seed: int, size: int, data: st.DataObject) -> None:
    network = cluster(seed, size)
    victim = data.draw(st.sampled_from(sorted(network.hosts)))
    network.refuses = False
    network.kill(victim)
    assert network.run(5.0, network.is_one) < 5.0
    assert all(host.saw(MemberLost) == [victim] for host in network.up())


@bounded
@given(seed=seeds, size=st.integers(2, 5), data=st.data())
def test_a_leave_is_not_a_loss(seed: int, size: int, data: st.DataObject) -> None:
    network = cluster(seed, size)
    leaver = data.draw(st.sampled_from(sorted(network.hosts)))
    network.leave(leaver)
    assert network.run(1.0, network.is_one) < 1.0
    for host in network.up():
        assert host.saw(MemberLeft) == [leaver]
        assert host.saw(MemberLost) == host.saw(MemberSuspected) == []


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
def test_the_smaller_side_of_a_healed_partition_comes_back_anew(
    seed: int, size: int, cut: int, data: st.DataObject
) -> None:
    network = cluster(seed, size)
    minority = set(data.draw(st.permutations(sorted(network.hosts)))[: min(cut, (size - 1) // 2)])
    before = {name: host.participant.me.incarnation for name, host in network.hosts.items()}
    network.cut = lambda one, other: (one in minority) != (other in minority)
    network.run(15.0)
    for host in network.up():
        view = host.participant.view
        assert view is not None
        assert {member.id in minority for member in view.members} == {host.name in minority}
    network.cut = lambda one, other: False
    assert network.run(60.0, network.is_one) < 60.0
    network.run(1.0)
    for name, host in network.hosts.items():
        assert (host.participant.me.incarnation > before[name]) == (name in minority)


@bounded
@given(seed=seeds, sizes=st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_clusters_that_meet_later_become_one(seed: int, sizes: tuple[int, int]) -> None:
    network = Network(seed)
    halves = [[f"{side}{i}" for i in range(size)] for side, size in zip("ab", sizes, strict=True)]
    for half in halves:
        for name in half:
            network.start(name, half)
    network.run(3.0)
    assert not network.is_one()
    network.hosts["a0"].participant.found(address_of("b0"), network.now)
    network._on_time(network.hosts["a0"])
    assert network.run(5.0, network.is_one) < 5.0
    assert all(host.saw(MemberLost) == [] for host in network.up())


@bounded
@given(seed=seeds, size=st.integers(1, 5))
def test_a_newcomer_with_a_slow_clock_takes_over_without_a_loss(seed: int, size: int) -> None:
    network = cluster(seed, size)
    network.start("late", ["0"], clock_ms=1)
    assert network.run(5.0, network.is_one) < 5.0
    view = network.hosts["late"].participant.view
    assert view is not None
    assert view.members[0].id == "late"
    assert all(host.saw(MemberLost) == [] for host in network.up())


@bounded
@given(seed=seeds, size=st.integers(2, 5), seconds=st.floats(3.0, 9.0), data=st.data())
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
    assert network.run(8.0, network.is_one) < 8.0
    for name, host in network.hosts.items():
        assert (host.participant.me.incarnation > before[name]) == (name == sleeper)


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
@given(seed=seeds, size=st.integers(1, 5), schedule=faults)
def test_whatever_happens_it_ends_in_one_cluster(seed: int, size: int, schedule: list[tuple[str, int, float]]) -> None:
    network = cluster(seed, size)
    next_name = itertools.count(size)
    for fault, choice, seconds in schedule:
        names = [host.name for host in network.up()]
        chosen = names[choice % len(names)]
        match fault:
            case "kill" if len(names) > 1:
                network.kill(chosen)
            case "leave" if len(names) > 1:
                network.leave(chosen)
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
    assert network.run(limit, network.is_one) < limit
    # What was suspected before the heal may still run its course.
    network.run(10.0)
    assert network.run(limit, network.is_one) < limit
    network.run(2.0)
    assert network.is_one()
