"""`Air`: discovery by multicast between simulated machines, as zeroconf does it on a real network.

Who announces is shown to whoever can hear it and shares a tag, and the other way round; after a heal
everybody is heard once more. Who is killed says no goodbye.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...discovery.source import Announcement
from .loop import VirtualLoop
from .machine import Machine
from .network import Network


@dataclass(eq=False)
class _Listener:
    machine: Machine
    loop: VirtualLoop
    announcement: Announcement
    found: Callable[[str], None]
    gone: Callable[[str], None]


class Ether:
    """What all who announce have in common."""

    def __init__(self, network: Network) -> None:
        """Carry announcements over a network."""
        self.network = network
        self.listeners: dict[_Listener, None] = {}

    def show_all(self) -> None:
        """Let everybody be heard once more."""
        for one in list(self.listeners):
            self.show(one)

    def show(self, speaker: _Listener) -> None:
        """Let one be heard by the others."""
        for other in list(self.listeners):
            if other is not speaker:
                self._tell(speaker, other)

    def _tell(self, speaker: _Listener, hearer: _Listener) -> None:
        if speaker.loop.is_dead or speaker.announcement.tags[0] not in hearer.announcement.tags:
            return
        address = speaker.announcement.address
        self.network.after_a_packet(
            speaker.machine.ip,
            hearer.machine.ip,
            lambda: None if hearer.loop.is_dead else hearer.loop.enqueue_call(hearer.found, address),
        )

    def add(self, listener: _Listener) -> None:
        """Somebody announces, and listens."""
        self.listeners[listener] = None
        self.show(listener)
        for other in list(self.listeners):
            if other is not listener:
                self._tell(other, listener)

    def remove(self, listener: _Listener) -> None:
        """Somebody takes its announcement back."""
        self.listeners.pop(listener, None)
        for other in list(self.listeners):
            self.network.after_a_packet(
                listener.machine.ip,
                other.machine.ip,
                lambda other=other: other.loop.enqueue_call(other.gone, listener.announcement.address),  # type: ignore[misc]
            )


class Air:
    """The `Source` of one simulated node."""

    is_explicit = False

    def __init__(self, ether: Ether) -> None:
        """Announce nothing yet."""
        self._ether = ether
        self._listener: _Listener | None = None

    def __repr__(self) -> str:
        """Show what it is."""
        return "Air()"

    async def start(
        self, announcement: Announcement, found: Callable[[str], None], gone: Callable[[str], None]
    ) -> None:
        """Announce, and show whom it hears."""
        loop = self._ether.network.world.current
        assert loop is not None, "sources run inside the simulation"
        self._listener = _Listener(loop.process.machine, loop, announcement, found, gone)
        self._ether.add(self._listener)

    async def announce(self, announcement: Announcement) -> None:
        """Announce this from now on."""
        if self._listener is not None:
            self._listener.announcement = announcement
            self._ether.show(self._listener)

    async def stop(self) -> None:
        """Take the announcement back."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            self._ether.remove(listener)
