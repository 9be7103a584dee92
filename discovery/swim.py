"""SWIM with Lifeguard: who seems to be alive. A pure core; it only ever suspects and tells.

Each member probes one other per probe interval, in an order that it shuffles each round: a
datagram first; when that stays unanswered for the probe timeout, a few helpers are asked to
ping in its place and the same ping goes over TCP in parallel. Who answers none of these is
*suspect*, which is gossiped, and is declared dead when the suspicion runs out unrefuted.
All four parts of Lifeguard are here: local health scales the probes (`health`), suspicion
shrinks with independent accusers (`suspicion`), a suspect is told at once that it is
suspected, and helpers answer with a nack, so that a prober can tell a dead target from its
own dead link.

What is decided here: what to believe, whom to probe, what to gossip. What is left to
others: who is a member (`agreement`), which addresses to dial (`contacts`), and all that
touches a socket or a clock (`driver`).

Invariants:
    * What is stored of a node never falls in the order of claims (`claim`).
    * A member that learns of its own suspicion or death refutes it. The dead are shown what is
      believed of them whenever they are heard, so that two sides of a partition that meet again
      revive each other.
    * Evidence from TCP (a refused connection) speeds up suspicion; it never kills.
    * A node that slept (its tick came late) takes the lost time out of every running
      count, for it could hear no answer meanwhile.

References:
    Das, Gupta, Motivala. "SWIM". DSN 2002.
    Dadgar, Phillips, Currey. "Lifeguard". 2017 (arXiv 1707.00788).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from .claim import Claim, Status
from .effects import Changed, Effect, Send, SendUdp, Warn
from .gossip import GossipQueue, retransmit_limit, wire_bytes
from .health import Health
from .messages import Ack, DatagramMessage, Envelope, Exchange, Gossip, Nack, Ping, PingRequest
from .profile import Profile
from .relay import Relays
from .seal import OVERHEAD_BYTES_MAX
from .suspicion import Suspicion

__all__ = ["Swim"]

_UDP_MISSES_MAX = 3
"""After so many probes that only TCP answered, the peer is probed by TCP from the start."""

_REFUSALS_MAX = 2
"""So many refused connections in a row are as good as a failed probe: nobody listens there."""

_FRAMING_BYTES = 48
"""Upper bound of a datagram's bytes that are neither claims nor message strings."""


@dataclass(slots=True)
class _Peer:
    """What is kept of one other node."""

    claim: Claim
    since: float
    suspicion: Suspicion | None = None
    udp_misses: int = 0
    refusals: int = 0
    ask_again_at: float | None = None
    warned: bool = False


@dataclass(slots=True)
class _Probe:
    """The one probe under way."""

    target: str
    seq: int
    asks_others_at: float
    ends_at: float
    by_udp: bool = False
    by_tcp: bool = False
    helpers: int = 0
    nacks: set[str] = field(default_factory=set[str])
    asked_others: bool = False

    @property
    def is_answered(self) -> bool:
        return self.by_udp or self.by_tcp


class Swim:
    """One member's part in failure detection and gossip."""

    def __init__(self, me: Claim, profile: Profile, rng: random.Random, now: float) -> None:
        """Start alone at `now`; others are learned from messages."""
        self.me = me
        self.health = Health(profile.health_limit)
        self._profile = profile
        self._rng = rng
        self._peers: dict[str, _Peer] = {}
        self._order: list[str] = []
        self._seq = rng.randrange(1 << 16)
        self._probe: _Probe | None = None
        self._next_probe_at = now + rng.uniform(0, profile.probe_interval)
        self._relays = Relays(profile)
        self._queue = GossipQueue()
        self._next_gossip_at = now + profile.gossip_interval
        self._next_exchange_at = now + rng.uniform(0.5, 1.0) * profile.full_exchange_interval
        self._has_left = False
        self.probes_failed = 0
        self.refutations = 0

    # What is believed

    def claims(self) -> tuple[Claim, ...]:
        """Return what is believed of every node that is remembered, this one first."""
        return self.me, *(self._peers[node_id].claim for node_id in sorted(self._peers))

    def alive(self) -> list[Claim]:
        """Return the other members that are not dead or gone, suspects included, by id."""
        return [claim for claim in self.claims()[1:] if not claim.status.is_final]

    def knows_later(self, claim: Claim) -> bool:
        """Return whether a later run of the claim's node is known; what the earlier one says is past."""
        peer = self._peers.get(claim.id)
        return peer is not None and peer.claim.incarnation > claim.incarnation

    # What happens

    def receive(self, envelope: Envelope, now: float, *, by_tcp: bool) -> list[Effect]:
        """React to one message; `by_tcp` says which way it came, and replies go the same way."""
        sender = envelope.sender
        if sender.id == self.me.id or self._has_left:
            return []
        effects = self._learn(sender, now)
        peer = self._peers[sender.id]
        if self.knows_later(sender):
            # From before it came back anew; what it believed then it has forgotten since.
            return effects
        peer.refusals = 0
        if peer.claim.status.is_final:
            return effects + self._hear_from_the_dead(envelope, now)
        effects += self._learn_all(envelope.claims, now)
        match envelope.message:
            case Ping(seq, target):
                if target == self.me.id:
                    effects.append(self._send(sender, Ack(seq), by_tcp, peer.claim))
            case PingRequest() as request:
                effects.append(self._relay(sender, request, now))
            case Ack(seq):
                effects += self._on_ack(seq, sender.id, by_tcp)
            case Nack(seq):
                if self._probe is not None and self._probe.seq == seq:
                    self._probe.nacks.add(sender.id)
            case Exchange(wants_reply):
                if wants_reply:
                    effects.append(Send(sender.address, Exchange(False), self.claims()))
            case _:
                pass
        return effects

    def refused(self, address: str, now: float) -> list[Effect]:
        """A TCP connection to the address was refused: nobody listens there.

        The first time it is tried once more; then whoever is known there becomes suspect.
        """
        effects: list[Effect] = []
        for peer in self._alive_at(address):
            if peer.claim.status is Status.SUSPECT:
                continue
            peer.refusals += 1
            if peer.refusals >= _REFUSALS_MAX:
                peer.ask_again_at = None
                effects += self._suspect(peer, now)
            else:
                peer.ask_again_at = now + self._profile.probe_timeout
        return effects

    def disconnected(self, identity: tuple[str, int], now: float) -> list[Effect]:
        """A TCP connection with this run of a node was lost: ask at once whether it is still there."""
        peer = self._peers.get(identity[0])
        if peer is not None and peer.claim.identity == identity and not peer.claim.status.is_final:
            peer.ask_again_at = now
        return []

    def send_failed(self) -> None:
        """This machine could not send a datagram: no fault of the one it was for."""
        self.health.worsen()

    def go_on_as(self, incarnation: int) -> None:
        """This node is another run of itself from now on."""
        self.me = replace(self.me, incarnation=incarnation, refutation=0)
        self.health.reset()
        self._queue.push(self.me)

    def leave(self) -> list[Effect]:
        """Say goodbye to everyone; from now on nothing is answered, probed or gossiped."""
        self._has_left = True
        goodbye = (replace(self.me, status=Status.LEFT),)
        effects: list[Effect] = []
        for claim in self.alive():
            effects.append(SendUdp(claim.address, claim.identity, Gossip(), goodbye))
            effects.append(Send(claim.address, Gossip(), goodbye))
        return effects

    # Time

    def tick(self, now: float) -> list[Effect]:
        """Do all that is due at `now`."""
        if self._has_left:
            return []
        self._forgive_own_sleep(now)
        effects: list[Effect] = []
        effects += self._advance_probe(now)
        # After the probe, which may have confirmed a suspicion and shortened it by that.
        effects += self._expire_suspicions(now)
        effects += [self._send(asker, Nack(seq), False) for asker, seq in self._relays.silent(now)]
        effects += self._ask_again(now)
        effects += self._gossip(now)
        effects += self._exchange(now)
        for node_id, peer in sorted(self._peers.items()):
            if peer.claim.status.is_final and now >= peer.since + self._profile.dead_remembered:
                del self._peers[node_id]
        return effects

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        if self._has_left:
            return float("inf")
        deadlines = [self._probe_deadline(), self._next_exchange_at, self._relays.next_deadline()]
        if self._queue:
            deadlines.append(self._next_gossip_at)
        members = 0
        for peer in self._peers.values():
            if peer.suspicion is not None:
                members = members or len(self.alive()) + 1
                deadlines.append(peer.suspicion.deadline(members, self._profile))
            if peer.ask_again_at is not None:
                deadlines.append(peer.ask_again_at)
        return min(deadlines)

    def _probe_deadline(self) -> float:
        if self._probe is None:
            return self._next_probe_at
        return self._probe.ends_at if self._probe.asked_others else self._probe.asks_others_at

    def _forgive_own_sleep(self, now: float) -> None:
        # The probes are the steadiest of all deadlines, and so the yardstick.
        late = now - self._probe_deadline()
        if late <= self._profile.probe_timeout:
            return
        self.health.worsen()
        for peer in self._peers.values():
            if peer.suspicion is not None:
                peer.suspicion.postpone(late)
        if self._probe is not None:
            self._probe.asks_others_at += late
            self._probe.ends_at += late

    # Beliefs

    def _learn_all(self, claims: tuple[Claim, ...], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for claim in claims:
            effects += self._learn(claim, now)
        return effects

    def _learn(self, claim: Claim, now: float) -> list[Effect]:
        if claim.id == self.me.id:
            return self._answer_for_myself(claim, now)
        peer = self._peers.get(claim.id)
        if peer is None:
            peer = self._peers[claim.id] = _Peer(claim, now)
            was = None
            # A random place, or every joiner would be probed first by everyone at once.
            self._order.insert(self._rng.randrange(len(self._order) + 1), claim.id)
        elif claim.supersedes(peer.claim):
            was = peer.claim.status
            if claim.incarnation > peer.claim.incarnation:
                self._peers[claim.id] = peer = _Peer(claim, now)
            peer.claim = claim
        else:
            is_same = claim.precedence == peer.claim.precedence
            if is_same and peer.suspicion is not None and peer.suspicion.confirm(claim.accuser):
                self._queue.push(claim)
            return []
        peer.since = now
        peer.suspicion = Suspicion(claim.accuser, now) if claim.status is Status.SUSPECT else None
        if claim.status.is_final:
            peer.ask_again_at = None
        self._queue.push(claim)
        return [Changed(claim, was)]

    def _answer_for_myself(self, claim: Claim, now: float) -> list[Effect]:
        if claim.incarnation > self.me.incarnation:
            # Only who goes on as a still later run will be heard.
            return [Changed(claim, None)]
        if not claim.supersedes(self.me) or claim.status in (Status.ALIVE, Status.LEFT):
            return []
        self.health.worsen()
        self.refutations += 1
        self.me = replace(self.me, refutation=claim.refutation + 1)
        self._queue.push(self.me)
        return []

    def _hear_from_the_dead(self, envelope: Envelope, now: float) -> list[Effect]:
        """React to a member that was declared dead and lives, which tells of a partition.

        It is shown all that is believed here, its own death with it, and refutes that. It may hold this
        member dead as well.
        """
        effects: list[Effect] = []
        for claim in envelope.claims:
            if claim.id == self.me.id:
                effects += self._learn(claim, now)
        if envelope.message != Exchange(False):
            effects.append(Send(envelope.sender.address, Exchange(False), self.claims()))
        return effects

    def _suspect(self, peer: _Peer, now: float) -> list[Effect]:
        claim = replace(peer.claim, status=Status.SUSPECT, accuser=self.me.id)
        effects = self._learn(claim, now)
        # Its refutation is the fastest way out of a mistake: it hears of it first, both ways.
        effects.append(SendUdp(claim.address, claim.identity, Gossip(), (peer.claim,)))
        effects.append(Send(claim.address, Gossip(), (peer.claim,)))
        return effects

    def _expire_suspicions(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        # Again after each round: with fewer members left the others' time may be over as well.
        while expired := self._expired(now):
            for peer in expired:
                effects += self._learn(replace(peer.claim, status=Status.DEAD), now)
        return effects

    def _expired(self, now: float) -> list[_Peer]:
        members = len(self.alive()) + 1
        return [
            peer
            for _, peer in sorted(self._peers.items())
            if peer.suspicion is not None and now >= peer.suspicion.deadline(members, self._profile)
        ]

    # Probes

    def _advance_probe(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        probe = self._probe
        if probe is not None and not probe.asked_others and now >= probe.asks_others_at:
            probe.asked_others = True
            if not probe.is_answered:
                effects += self._ask_others(probe)
        if probe is not None and now >= probe.ends_at:
            self._probe = None
            self._next_probe_at = now
            effects += self._conclude(probe, now)
        if self._probe is None and now >= self._next_probe_at:
            effects += self._start_probe(now)
        return effects

    def _start_probe(self, now: float) -> list[Effect]:
        self._next_probe_at = now + self._profile.probe_interval
        peer = self._next_target()
        if peer is None:
            return []
        scale = self.health.multiplier
        probe = self._probe = _Probe(
            target=peer.claim.id,
            seq=self._next_seq(),
            asks_others_at=now + scale * self._profile.probe_timeout,
            ends_at=now + scale * self._profile.probe_interval,
        )
        ping = Ping(probe.seq, peer.claim.id)
        effects: list[Effect] = [self._send(peer.claim, ping, False, peer.claim)]
        if peer.udp_misses >= _UDP_MISSES_MAX:
            effects.append(Send(peer.claim.address, ping))
        return effects

    def _next_target(self) -> _Peer | None:
        for _ in range(2):
            while self._order:
                peer = self._peers.get(self._order.pop())
                if peer is not None and not peer.claim.status.is_final:
                    return peer
            self._order = [claim.id for claim in self.alive()]
            self._rng.shuffle(self._order)
        return None

    def _ask_others(self, probe: _Probe) -> list[Effect]:
        target = self._peers.get(probe.target)
        if target is None or target.claim.status.is_final:
            return []
        others = [claim for claim in self.alive() if claim.id != probe.target]
        helpers = self._rng.sample(others, min(self._profile.indirect_checks, len(others)))
        probe.helpers = len(helpers)
        request = PingRequest(probe.seq, *target.claim.identity, target.claim.address)
        effects: list[Effect] = [self._send(helper, request, False, helper) for helper in helpers]
        effects.append(Send(target.claim.address, Ping(probe.seq, probe.target)))
        return effects

    def _conclude(self, probe: _Probe, now: float) -> list[Effect]:
        peer = self._peers.get(probe.target)
        if peer is None or peer.claim.status.is_final:
            return []
        if probe.by_udp:
            self.health.improve()
            peer.udp_misses = 0
            return []
        if probe.by_tcp:
            self.health.improve()
            peer.udp_misses += 1
            if peer.udp_misses < _UDP_MISSES_MAX or peer.warned:
                return []
            peer.warned = True
            what = "answers over TCP only: datagrams are lost; open UDP on the same port"
            return [Warn(what, peer.claim.id, peer.claim.address)]
        self.probes_failed += 1
        # Helpers that are silent too point at this node's own link, not at the target.
        self.health.worsen(probe.helpers - len(probe.nacks) if probe.helpers else 1)
        if peer.claim.status is Status.SUSPECT:
            return self._learn(replace(peer.claim, accuser=self.me.id), now)
        return self._suspect(peer, now)

    def _on_ack(self, seq: int, sender_id: str, by_tcp: bool) -> list[Effect]:
        probe = self._probe
        if probe is not None and probe.seq == seq:
            if by_tcp:
                probe.by_tcp = True
            else:
                probe.by_udp = True
            return []
        relayed = self._relays.answered(seq)
        if relayed is None:
            return []
        asker, asked_seq = relayed
        return [self._send(asker, Ack(asked_seq), False)]

    def _relay(self, asker: Claim, request: PingRequest, now: float) -> Effect:
        own_seq = self._next_seq()
        self._relays.add(own_seq, asker, request.seq, now)
        target = Claim(request.target, request.address, request.incarnation)
        return self._send(target, Ping(own_seq, target.id), False)

    def _ask_again(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for node_id, peer in sorted(self._peers.items()):
            if peer.ask_again_at is not None and now >= peer.ask_again_at:
                peer.ask_again_at = None
                effects.append(Send(peer.claim.address, Ping(self._next_seq(), node_id)))
        return effects

    # Gossip

    def _gossip(self, now: float) -> list[Effect]:
        if now < self._next_gossip_at:
            return []
        self._next_gossip_at = now + self._profile.gossip_interval
        others = self.alive()
        effects: list[Effect] = []
        for claim in self._rng.sample(others, min(self._profile.gossip_fanout, len(others))):
            if self._queue:
                effects.append(self._send(claim, Gossip(), False))
        return effects

    def _exchange(self, now: float) -> list[Effect]:
        if now < self._next_exchange_at:
            return []
        self._next_exchange_at = now + self._profile.full_exchange_interval
        others = self.alive()
        if not others:
            return []
        return [Send(self._rng.choice(others).address, Exchange(True), self.claims())]

    # Plumbing

    def _send(self, to: Claim, message: DatagramMessage, by_tcp: bool, about: Claim | None = None) -> Effect:
        """Say it, with what is believed of the one spoken to if that is bad, and with news."""
        first = () if about is None or about.status is Status.ALIVE else (about,)
        if by_tcp:
            return Send(to.address, message, first)
        room = self._profile.datagram_bytes - OVERHEAD_BYTES_MAX - _FRAMING_BYTES - wire_bytes(self.me)
        if isinstance(message, Ping | PingRequest):
            room -= len(message.target.encode())
        if isinstance(message, PingRequest):
            room -= len(message.address.encode())
        room -= sum(map(wire_bytes, first))
        limit = retransmit_limit(len(self.alive()) + 1, self._profile.retransmit_multiplier)
        return SendUdp(to.address, to.identity, message, first + self._queue.take(room, limit))

    def _alive_at(self, address: str) -> list[_Peer]:
        peers = [self._peers[claim.id] for claim in self.alive()]
        return [peer for peer in peers if peer.claim.address == address]

    def _next_seq(self) -> int:
        self._seq = (self._seq + 1) % (1 << 32)
        return self._seq
