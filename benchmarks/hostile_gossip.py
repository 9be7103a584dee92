"""What strangers can do to the membership's UDP port and to zeroconf: nothing, at a price that is measured.

``python -m benchmarks.hostile_gossip`` runs it all; each function returns figures.

`gossip` sends to two real nodes' ports: damaged datagrams; then true ones of a member, which are accepted,
once; then the same again as an eavesdropper would; and again after the receiver was restarted under the
same id, on the same port. `announcements` floods multicast DNS on the loopback, where one node browses, with
announcements that carry its true tag and with damaged ones. What the nodes had to do is told by their
counters, what it cost by the processor's time and the memory of this process, attacker included.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from ringcast.discovery.claim import Claim
from ringcast.discovery.codec import Codec
from ringcast.discovery.gate import Gate
from ringcast.discovery.member import Event, MemberLost, MemberSuspected
from ringcast.discovery.membership import Membership
from ringcast.discovery.messages import Ack, Envelope
from ringcast.discovery.multicast import SERVICE_TYPE, Zeroconf
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.seal import START_RANDOM_BYTES, Seal, start_of
from ringcast.discovery.source import Seeds, Source
from ringcast.security.trust import Trust

__all__ = ["AnnouncementFigures", "GossipFigures", "announcements", "gossip"]

REFUSALS = ("unsealed", "replayed", "foreign_key")
CLUSTER = "hostile"
MDNS = ("224.0.0.251", 5353)
LIMIT = 60.0
BATCH = 64
"""Datagrams on their way at a time: more would be lost in the socket's buffer, and prove nothing."""


@dataclass(frozen=True, slots=True)
class GossipFigures:
    """What became of the datagrams that were sent to a node.

    Attributes:
        sent: How many of each kind.
        damaged_accepted: Of those that were damaged.
        true_accepted: Of a member's, the first time: all of them, or the rest proves nothing.
        replayed_accepted: Of the same, the second time.
        restarted_accepted: Of the same, by the same node after a restart.
        lost: Members that were suspected or lost meanwhile.
        damaged_us: Processor time for a damaged datagram, sent and refused, in microseconds.
        true_us: The same for a true one, sent and accepted.
        grown_mib: How much more memory this process had at its peak than before the first.
    """

    sent: int
    damaged_accepted: int
    true_accepted: int
    replayed_accepted: int
    restarted_accepted: int
    lost: int
    damaged_us: float
    true_us: float
    grown_mib: float


@dataclass(frozen=True, slots=True)
class AnnouncementFigures:
    """What became of a flood of announcements.

    Attributes:
        sent: Announcements with the true tag and an address of their own.
        damaged: Packets that were damaged.
        seconds: For how long they were sent, and the node was watched afterwards.
        remembered: Addresses that the node dials because of them, at the end.
        dialled: Connections that it tried in this time.
        found_after: Seconds until the node had found another one, started afterwards.
        busy: Processor time of this process, attacker included, by the time that passed.
        grown_mib: How much more memory this process had at its peak than before.
    """

    sent: int
    damaged: int
    seconds: float
    remembered: int
    dialled: int
    found_after: float
    busy: float
    grown_mib: float


class Victim:
    """A node's membership, and what it told."""

    def __init__(
        self,
        name: str,
        secret: bytes,
        sources: Sequence[Source] = (),
        listen: str = "127.0.0.1:0",
        tls: bool = True,
    ) -> None:
        self.lost = 0
        self.failures: list[BaseException] = []
        self.membership = Membership(
            trust=Trust.found(secret, CLUSTER, tls=tls, node_id=name),
            listen=listen,
            advertise=None,
            labels={},
            hosts=frozenset(),
            hosts_by_value=False,
            discovery=sources,
            profile=LOCAL,
            gate=Gate(),
            shares_of=lambda view, node_id: {},
            on_view=lambda view: None,
            on_event=self._on_event,
            on_connection=lambda connection, channel: connection.close(),
            on_failure=self.failures.append,
        )

    def _on_event(self, event: Event) -> None:
        self.lost += isinstance(event, MemberLost | MemberSuspected)

    @property
    def received(self) -> int:
        driver = self.membership._driver
        assert driver is not None
        assert driver._datagrams is not None
        return driver._datagrams.received

    @property
    def refused(self) -> int:
        driver = self.membership._driver
        assert driver is not None
        return sum(driver._counts[why] for why in REFUSALS)

    async def take(self, datagrams: Sequence[bytes]) -> int:
        """Send all of them to the node, none too fast for it; return how many it did not refuse."""
        host, port = self.membership.address.split(":")
        refused = self.refused
        with socket.socket(type=socket.SOCK_DGRAM) as udp:
            udp.connect((host, int(port)))
            for first in range(0, len(datagrams), BATCH):
                batch = datagrams[first : first + BATCH]
                expected = self.received + len(batch)
                for datagram in batch:
                    udp.send(datagram)
                async with asyncio.timeout(LIMIT):
                    while self.received < expected:  # noqa: ASYNC110 - a counter of another thread
                        await asyncio.sleep(0.0002)
        return len(datagrams) - (self.refused - refused)

    async def until_refused(self, count: int) -> None:
        async with asyncio.timeout(LIMIT):
            while self.refused < count:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)

    async def until_members(self, count: int) -> None:
        async with asyncio.timeout(LIMIT):
            while len(self.membership.view.members) != count:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.01)


async def gossip(count: int, seed: int = 0) -> GossipFigures:
    """Send `count` datagrams of each kind; see the module."""
    rng = random.Random(seed)
    secret = os.urandom(32)
    receiver = Victim("receiver", secret)
    await receiver.membership.start()
    other = Victim("other", secret, [Seeds([receiver.membership.address])])
    await other.membership.start()
    try:
        await receiver.until_members(2)
        address, me = receiver.membership.address, receiver.membership.me.identity
        # A member that says nothing of importance, many times, as an eavesdropper would record it.
        keys = Trust.found(secret, CLUSTER).gossip_keys
        member = Seal(keys, start_of(time.time_ns() // 1_000_000, os.urandom(START_RANDOM_BYTES)))
        sender = other.membership.me
        said = Codec(CLUSTER).encode(Envelope(Claim(sender.id, sender.address, sender.incarnation), Ack(1 << 40)))
        true = [member.seal(said, *me) for _ in range(count)]
        damaged = [damage(rng, rng.choice(true)) for _ in range(count)]
        await receiver.take(damaged[:BATCH])
        memory = Memory()
        damaged_accepted, damaged_us = await timed(receiver, damaged)
        true_accepted, true_us = await timed(receiver, true)
        replayed_accepted = await receiver.take(true)
        grown = memory.grown_mib()
        lost = receiver.lost + other.lost
    finally:
        await other.membership.stop()
        await receiver.membership.stop()
    restarted = Victim("receiver", secret, listen=address)
    await restarted.membership.start()
    try:
        restarted_accepted = await restarted.take(true)
    finally:
        await restarted.membership.stop()
    failures = receiver.failures + other.failures + restarted.failures
    if failures:
        raise BaseExceptionGroup("a node has failed", failures)
    accepted = damaged_accepted, true_accepted, replayed_accepted, restarted_accepted
    return GossipFigures(count, *accepted, lost, damaged_us, true_us, grown)


async def timed(receiver: Victim, datagrams: Sequence[bytes]) -> tuple[int, float]:
    """Return how many are accepted, and the processor's microseconds for each."""
    began = time.process_time()
    accepted = await receiver.take(datagrams)
    return accepted, (time.process_time() - began) / len(datagrams) * 1e6


def damage(rng: random.Random, datagram: bytes) -> bytes:
    """Return a datagram with something wrong about it, anywhere."""
    wrong = bytearray(datagram)
    match rng.randrange(5):
        case 0:
            wrong[rng.randrange(len(wrong))] ^= 1 << rng.randrange(8)
        case 1:
            del wrong[rng.randrange(len(wrong)) :]
        case 2:
            wrong += rng.randbytes(rng.randrange(1, 1400))
        case 3:
            first = rng.randrange(len(wrong))
            wrong[first : first + 8] = bytes(byte ^ rng.randrange(1, 256) for byte in wrong[first : first + 8])
        case _:
            return rng.randbytes(rng.randrange(1400))
    return bytes(wrong)


async def announcements(count: int, damaged: int, watched: float, seed: int = 0) -> AnnouncementFigures:
    """Announce `count` addresses with the node's true tag, and send damaged packets; see the module.

    Args:
        count: How many are announced, as fast as they are taken.
        damaged: How many packets are damaged ones of the same kind.
        watched: Seconds to go on watching the node.
        seed: Of what is drawn.
    """
    rng = random.Random(seed)
    secret = os.urandom(32)
    [tag] = Trust.found(secret, CLUSTER).tags
    node = Victim("node", secret, [Zeroconf()])
    await node.membership.start()
    memory, began, worked = Memory(), time.monotonic(), time.process_time()
    try:
        with multicaster() as udp:
            for i in range(max(count, damaged)):
                packet = announcement(f"{rng.getrandbits(64):016x}-{tag}", f"127.{i % 250 + 1}.{i // 250 % 250}.1", 9)
                if i < count:
                    udp.sendto(packet, MDNS)
                if i < damaged:
                    udp.sendto(damage(rng, packet), MDNS)
                if i % BATCH == 0:
                    await asyncio.sleep(0.005)
        await asyncio.sleep(watched)
        stats, seconds = node.membership.stats(), time.monotonic() - began
        busy = (time.process_time() - worked) / seconds
        grown = memory.grown_mib()
        other = Victim("other", secret, [Zeroconf()])
        began = time.monotonic()
        await other.membership.start()
        try:
            await node.until_members(2)
            found_after = time.monotonic() - began
        finally:
            await other.membership.stop()
    finally:
        await node.membership.stop()
    if node.failures:
        raise node.failures[0]
    remembered, dialled = int(stats["contacts"]), int(stats.get("dials_refused", 0))
    return AnnouncementFigures(count, damaged, seconds, remembered, dialled, found_after, busy, grown)


def multicaster() -> socket.socket:
    """Return a socket that sends to `MDNS` on the loopback, from the port that announcements must come from."""
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "SO_REUSEPORT"):
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    udp.bind(("127.0.0.1", MDNS[1]))
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
    return udp


def announcement(
    label: str, host: str, port: int, *, text: bytes = b"\0", name: str | None = None, seconds: int = 4500
) -> bytes:
    """Return the packet that announces a node by multicast DNS, for so many seconds (0: no longer)."""
    name = f"{label}.{SERVICE_TYPE}" if name is None else name
    server = f"{label[:16]}.local."
    return packet(
        record(SERVICE_TYPE, 12, seconds, wire_name(name), is_shared=True),
        record(name, 33, seconds, struct.pack(">3H", 0, 0, port) + wire_name(server)),
        record(name, 16, seconds, text),
        record(server, 1, seconds, socket.inet_aton(host)),
    )


def packet(*records: bytes) -> bytes:
    """Return a multicast DNS response (RFC 1035, section 4.1)."""
    return struct.pack(">6H", 0, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def record(name: str, kind: int, seconds: int, data: bytes, *, is_shared: bool = False) -> bytes:
    """Return a resource record: of type `kind`, and of this sender alone unless `is_shared`."""
    return wire_name(name) + struct.pack(">2HIH", kind, 1 if is_shared else 0x8001, seconds, len(data)) + data


def wire_name(name: str) -> bytes:
    """Return a domain's name as it travels."""
    labels = [part.encode() for part in name.removesuffix(".").split(".")]
    return b"".join(bytes([len(part)]) + part for part in labels) + b"\0"


class Memory:
    """How much more memory this process takes at its peak than when this was made."""

    def __init__(self) -> None:
        gc.collect()
        with open("/proc/self/clear_refs", "w") as peaks:
            peaks.write("5")  # the peak begins anew here, see proc(5)
        self._before = _status("VmRSS")

    def grown_mib(self) -> float:
        return (_status("VmHWM") - self._before) / 1024


def _status(field: str) -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{field}:"))


def main() -> None:
    """Print the figures of the full size."""
    for figures in (asyncio.run(gossip(100_000)), asyncio.run(announcements(10_000, 10_000, watched=30.0))):
        for name, value in asdict(figures).items():
            print(f"{name:20} {value:.4g}" if isinstance(value, float) else f"{name:20} {value}")


if __name__ == "__main__":
    main()
