"""The cluster of cores that `scale` lets live in virtual time: it counts what is sent, and checks nothing.

It is the one that the properties of the membership are tested in, so it needs what tests need.
"""

from __future__ import annotations

from collections import Counter

from ringcast.discovery.codec import Codec, Rejected
from ringcast.discovery.gossip import GossipQueue
from ringcast.discovery.member import View
from ringcast.discovery.messages import Envelope, Exchange
from ringcast.discovery.profile import LOCAL
from tests.properties.test_swim_cluster import Host, Network

__all__ = ["Counted"]

LINEAGE = "5" * 32


class Remembering(Codec):
    """Packs once what goes to many, and unpacks it once: with hundreds of nodes, most of what is sent."""

    packed: tuple[Envelope | None, bytes] = (None, b"")
    unpacked: tuple[bytes, Envelope | Rejected | None] = (b"", None)

    def encode(self, envelope: Envelope) -> bytes:
        last, data = self.packed
        if last is None or any(
            getattr(last, part) is not getattr(envelope, part) for part in ("sender", "message", "claims")
        ):
            data = super().encode(envelope)
            self.packed = envelope, data
        return data

    def decode(self, data: bytes) -> Envelope | Rejected:
        last, envelope = self.unpacked
        if envelope is None or last != data:
            envelope = super().decode(data)
            self.unpacked = data, envelope
        return envelope


class Counted(Network):
    """Hosts in virtual time.

    Attributes:
        sent: Messages, by the name of their sender.
        size: Bytes, of all.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.sent: Counter[str] = Counter()
        self.size = 0
        self._codec = Remembering("test")
        self._is_placed = False

    def start(self, name: str, *args: object, **options: object) -> Host:
        host = super().start(name, *args, **options)  # type: ignore[arg-type]
        if self._is_placed:
            host.participant._handoff._tell = lambda now: []  # type: ignore[method-assign]
        return host

    def place(self, nodes: int) -> None:
        """Start so many that are members of one view already, and know one another."""
        self._is_placed = True
        hosts = [self.start(str(number), has_discovery=True) for number in range(nodes)]
        members = tuple(sorted((host.participant.me for host in hosts), key=lambda member: member.seniority))
        view = View(LINEAGE, 2, members, round(LOCAL.lease * 1000))
        claims = tuple(host.participant.sender for host in hosts)
        for host in hosts:
            one = host.participant
            news = Envelope(claims[0] if host is not hosts[0] else claims[1], Exchange(False), claims)
            self.perform(host, one.receive(news, self.now, by_tcp=True))
            one._swim._queue = GossipQueue()
            entered = one._agreement._enter((view,), self.now)
            self.perform(host, one._digest(one._agreement._conclude(entered, self.now), self.now))
            self._wake(host)
        for host in hosts:
            for other in hosts:
                if other is not host:
                    self._answered(host, other, other.participant.me.identity)

    def _carry(self, host: Host, address: str, data: bytes, by_tcp: bool) -> None:
        self.sent[host.name] += 1
        self.size += len(data)
        super()._carry(host, address, data, by_tcp)

    def _check_owners(self, host: Host) -> None:
        pass

    def _packed(self, envelope: Envelope) -> bytes:
        return self._codec.encode(envelope)
