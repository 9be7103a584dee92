"""The network between simulated machines: what arrives, when, and what does not.

Datagrams are lost, doubled, delayed and so overtake one another. What TCP loses it sends again, so there
loss is delay (`tcp`). A cut path takes nothing, in one direction or in both, and says nothing about it.

All draws come from the simulation's seed. Delays are seconds, chances are from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .world import World

if TYPE_CHECKING:
    from .machine import Machine

RESEND = 0.2
"""Seconds until TCP sends again what was not acknowledged; twice as long each time."""

RESEND_MAX = 120.0

SYN_TIMEOUT = 1.0
"""Seconds until a first packet of a connection is sent again; twice as long each time."""

SYN_TRIES = 7

UNKNOWN_PATH = 0.001


@dataclass(slots=True)
class Quality:
    """How packets fare on the way from one machine to another.

    Attributes:
        delay: Seconds that a packet takes at least.
        jitter: Seconds that it takes longer, on average; few take much longer.
        loss: The chance of each packet to be lost.
        duplicates: The chance of each datagram to arrive twice.
    """

    delay: float = 0.0001
    jitter: float = 0.0002
    loss: float = 0.0
    duplicates: float = 0.0


class Network:
    """Machines by their addresses, and the paths between them.

    Attributes:
        quality: Of every path that has none of its own.
        datagrams: How many were sent.
        segments: How many segments of TCP were sent.
    """

    def __init__(self, world: World) -> None:
        """Connect nobody yet."""
        self.world = world
        self.machines: dict[str, Machine] = {}
        self.quality = Quality()
        self.datagrams = 0
        self.segments = 0
        self._paths: dict[tuple[str, str], Quality] = {}
        self._cut: set[tuple[str, str]] = set()
        self._rng = world.random("network")
        self._draw = self._rng.random

    def join(self, machine: Machine) -> None:
        """Connect a machine."""
        self.machines[machine.ip] = machine

    # ---- faults ------------------------------------------------------------------------------------

    def cut(self, sources: Iterable[Machine], targets: Iterable[Machine]) -> None:
        """Take nothing from there to there any more; the other direction stays as it is."""
        targets = list(targets)
        self._cut.update((one.ip, other.ip) for one in sources for other in targets if one is not other)

    def heal(self) -> None:
        """Let everything through again, and let all paths be as good as `quality`."""
        self._cut.clear()
        self._paths.clear()

    def set_path(self, source: Machine, target: Machine, quality: Quality) -> None:
        """Let packets from there to there fare otherwise than others, until `heal`."""
        self._paths[source.ip, target.ip] = quality

    # ---- packets -----------------------------------------------------------------------------------

    def is_open(self, source: str, target: str) -> bool:
        """Whether packets from one IP address get to another: the path is not cut, and somebody is there."""
        if self._cut and (source, target) in self._cut:
            return False
        machine = self.machines.get(target)
        return machine is not None and machine.is_on

    def time_of(self, source: str, target: str, *, is_resent: bool) -> float | None:
        """Return how long a packet takes, in seconds.

        Args:
            source: From where, an IP address.
            target: To where.
            is_resent: Whether what is lost is sent again: then loss is delay.

        Returns:
            None if it is lost.
        """
        quality = self._paths.get((source, target), self.quality) if self._paths else self.quality
        draw = self._draw
        seconds = quality.delay
        if quality.jitter:
            chance = draw()
            seconds += quality.jitter * (chance / (1.02 - chance))
        if quality.loss:
            wait = RESEND
            while draw() < quality.loss:
                if not is_resent:
                    return None
                seconds += wait
                wait = min(wait * 2, RESEND_MAX)
        return seconds

    def send_datagram(self, data: bytes, source: tuple[str, int], target: tuple[str, int], lead: float) -> None:
        """Send one datagram on its way, `lead` seconds from now."""
        self.datagrams += 1
        if self._cut and (source[0], target[0]) in self._cut:
            return
        quality = self._paths.get((source[0], target[0]), self.quality) if self._paths else self.quality
        copies = 1
        if quality.duplicates and self._draw() < quality.duplicates:
            copies = 2
        for _ in range(copies):
            seconds = self.time_of(source[0], target[0], is_resent=False)
            if seconds is not None:
                self.world.later(lead + seconds, _Datagram(self, data, source, target))

    def receive_datagram(self, data: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        """A datagram has arrived, if nothing is in its way."""
        if self.is_open(source[0], target[0]):
            self.world.trace.arrived(self.world.now, target[0], data)
            self.machines[target[0]].receive_datagram(data, source, target[1])

    def after_a_packet(self, source: str, target: str, action: Callable[[], None]) -> None:
        """Do something when a packet that nobody sends again has made its way; never if it does not."""
        seconds = self.time_of(source, target, is_resent=False)
        if seconds is not None:
            self.world.later(seconds, lambda: action() if self.is_open(source, target) else None)


class _Datagram:
    """One datagram on its way."""

    __slots__ = ("_data", "_network", "_source", "_target")

    def __init__(self, network: Network, data: bytes, source: tuple[str, int], target: tuple[str, int]) -> None:
        self._network = network
        self._data = data
        self._source = source
        self._target = target

    def __call__(self) -> None:
        self._network.receive_datagram(self._data, self._source, self._target)
