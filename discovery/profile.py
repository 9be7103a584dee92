"""The numbers of the membership protocol, in three sizes: LOCAL, LAN and WAN.

Every knob says which formula it enters, its unit, and what raising it costs. Seconds
unless the name says otherwise. The sizes keep the ratios that SWIM and Lifeguard rest on:
the probe's timeout stays well below its interval, and the shortest suspicion is several
intervals long, so that one lost datagram never kills a member.

References:
    Das, Gupta, Motivala. "SWIM". DSN 2002, sections 3 and 4.
    Dadgar, Phillips, Currey. "Lifeguard". 2017, section 5 (the figures).
"""

from __future__ import annotations

from dataclasses import replace

from ringcast.values import dataclass

__all__ = ["LAN", "LOCAL", "WAN", "Profile"]


@dataclass(frozen=True, slots=True)
class Profile:
    """One size of the protocol's parameters."""

    probe_interval: float
    """Each member probes one other per `probe_interval * health`. Seconds. Raising it
    slows detection in proportion; halving it doubles the idle traffic."""

    probe_timeout: float
    """A direct ping waits `probe_timeout * health` before helpers and TCP are asked.
    Seconds, below `probe_interval`. Raising it delays suspicion; too low a value sends
    needless indirect probes."""

    indirect_checks: int
    """How many helpers are asked to ping a silent member. Count. Each costs four
    datagrams per failed probe and makes a false suspicion less likely."""

    suspicion_multiplier: int
    """`min = multiplier * max(1, log10 n) * probe_interval` is the shortest suspicion, and
    `multiplier - 2` accusers beyond the first shrink it to that. Raising it gives a slow
    member more time to refute and delays every true loss."""

    suspicion_max_factor: int
    """`max = factor * min` is the suspicion of a single accuser. Raising it protects
    against one bad observer and delays losses that only one member noticed."""

    health_limit: int
    """The local health multiplier is at most this. Raising it lets a starved node wait
    longer before it accuses anyone; it is then slower to notice true losses."""

    gossip_interval: float
    """News is sent to `gossip_fanout` members per interval. Seconds. Raising it slows
    news; lowering it costs datagrams only while there is news."""

    gossip_fanout: int
    """Members told per gossip interval. Count. Cost: datagrams in proportion."""

    retransmit_multiplier: int
    """One piece of news leaves a member `multiplier * ceil(log10(n + 1))` times. Raising
    it makes news surer to arrive under loss, at the price of bandwidth."""

    full_exchange_interval: float
    """Each member swaps all it knows with a random other over TCP per interval. Seconds.
    Raising it lengthens the time that a missed piece of news can stay missing."""

    datagram_bytes: int
    """No datagram is larger, seal included. Bytes. Above the path's MTU datagrams are
    fragmented, and one lost fragment loses all."""

    metadata_bytes: int
    """How much a member may say of itself in gossip. Bytes. Labels and hosted classes
    travel over TCP instead, so only identity counts against it."""

    lease: float
    """L: how long a renewed lease lets a node serve. Seconds. Raising it lengthens the
    pause after a silent loss; lowering it makes short stalls fence healthy nodes."""

    renewal: float
    """Leases are renewed each interval. Seconds, a quarter of `lease`. Cost: one message
    to each voter per interval."""

    clock_drift: float
    """rho: how far two clocks' rates may differ. Fraction; promises last `L(1 + 4 rho)`."""

    settle: float
    """A change of who is there must be stable for this long before a view is made of it.
    Seconds. Raising it makes fewer views and delays each join and each loss."""

    settle_departure: float
    """The same when members only leave. Seconds. It only gathers simultaneous leaves."""

    retry: float
    """JOINs and views are repeated each `retry * uniform(0.75, 1.5)` until answered.
    Seconds. Lowering it repairs a lost message sooner, at the price of repetition."""

    discovery_window: float
    """A starting node looks for others this long before it forms a cluster of its own.
    Seconds. Raising it delays the first node of each cluster; too short a window makes
    two clusters that have to merge."""

    drain: float
    """A running turn may take this long when its actor moves to a joiner. Seconds."""

    dead_remembered: float
    """The dead are remembered this long, so that old news cannot revive them and their
    addresses are dialled again. Seconds. Cost: memory per dead member."""

    redial: float
    """Seeds and remembered members are dialled again each interval, for ever. Seconds.
    Lowering it heals splits sooner, at the price of one connection attempt each."""

    def with_lease(self, lease: float) -> Profile:
        """Return the same numbers for a lineage with another lease; 0 leaves them as they are. Seconds."""
        return self if lease in (0, self.lease) else replace(self, lease=lease, renewal=lease / 4)


LOCAL = Profile(
    probe_interval=0.25,
    probe_timeout=0.1,
    indirect_checks=1,
    suspicion_multiplier=3,
    suspicion_max_factor=2,
    health_limit=8,
    gossip_interval=0.05,
    gossip_fanout=3,
    retransmit_multiplier=2,
    full_exchange_interval=5.0,
    datagram_bytes=1200,
    metadata_bytes=256,
    lease=1.0,
    renewal=0.25,
    clock_drift=0.005,
    settle=0.1,
    settle_departure=0.02,
    retry=0.2,
    discovery_window=1.0,
    drain=2.0,
    dead_remembered=24 * 3600.0,
    redial=30.0,
)
"""For nodes of one machine, on the loopback."""

LAN = Profile(
    probe_interval=0.5,
    probe_timeout=0.25,
    indirect_checks=3,
    suspicion_multiplier=3,
    suspicion_max_factor=2,
    health_limit=8,
    gossip_interval=0.1,
    gossip_fanout=3,
    retransmit_multiplier=4,
    full_exchange_interval=15.0,
    datagram_bytes=1200,
    metadata_bytes=256,
    lease=2.0,
    renewal=0.5,
    clock_drift=0.005,
    settle=0.3,
    settle_departure=0.05,
    retry=0.3,
    discovery_window=2.0,
    drain=2.0,
    dead_remembered=24 * 3600.0,
    redial=30.0,
)
"""For one site; the default as soon as a node listens beyond the loopback."""

WAN = Profile(
    probe_interval=3.0,
    probe_timeout=1.5,
    indirect_checks=3,
    suspicion_multiplier=5,
    suspicion_max_factor=4,
    health_limit=8,
    gossip_interval=0.5,
    gossip_fanout=4,
    retransmit_multiplier=4,
    full_exchange_interval=60.0,
    datagram_bytes=1200,
    metadata_bytes=256,
    lease=8.0,
    renewal=2.0,
    clock_drift=0.005,
    settle=2.0,
    settle_departure=0.2,
    retry=3.0,
    discovery_window=6.0,
    drain=10.0,
    dead_remembered=24 * 3600.0,
    redial=30.0,
)
"""For members on several sites."""
