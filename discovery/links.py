"""TCP connections between memberships: which there are, and dialling when there is none.

A link serves both directions; whoever has something to say to an address uses the link that is
there. Links are proven (`link`): over TLS both ends have shown a certificate of this cluster, and the
driver compares it with every sender.

What strangers can cost is bounded: of the connections that have proved nothing only so many are
kept, and the oldest gives way, for the honest prove it at once. Nobody waits behind a stranger.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from ringcast.errors import HandshakeRefused

from ..security.channels import MEMBERSHIP
from ..security.identity import LIMITED_MAX, Identity
from ..security.trust import Trust
from .claim import Claim
from .link import Ending, Link

__all__ = ["Links"]

PENDING_MAX = 64
"""Connections of others that have proved nothing yet. Each costs a handshake of about 2 ms, and that
many at once are what may stand between two probes."""

DIALS_MAX = 256
"""Dials under way: addresses come from the network, and each takes a file descriptor."""

LINKS_PER_PEER_MAX = 8
"""Two nodes that dial each other at once have two, and two that they watch each other by; and each may be
half-open, and have a successor."""


class Links:
    """All links of one node.

    Attributes:
        trust: Who this node is, and whom it believes.
        spawn: Starts tasks and owns them.
        on_frame: Takes a link and a frame's bytes, and returns whether the link may stay.
        broken: How often something came that is no frame.
        crowded_out: How many gave way because too many were pending.
    """

    def __init__(
        self,
        trust: Trust,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_frame: Callable[[Link, bytes], bool],
        on_refused: Callable[[str], None],
        on_lost: Callable[[Link, Ending], None],
        on_stranger: Callable[[Link, Ending], None],
    ) -> None:
        """Start with none.

        Args:
            trust: See above; so are `spawn` and `on_frame`.
            spawn: See above.
            on_frame: See above.
            on_refused: Is told the address when nobody listens where this node dialled.
            on_lost: Is told when a link ends that was understood once.
            on_stranger: Is told when one ends that never was, although there was a connection.
        """
        self.trust = trust
        self.spawn = spawn
        self.on_frame = on_frame
        self._on_refused = on_refused
        self._on_lost = on_lost
        self._on_stranger = on_stranger
        self._links: dict[Link, None] = {}
        self._dialling: dict[Link, None] = {}
        self._pending: dict[Link, None] = {}
        self._by_address: dict[str, Link] = {}
        self._watches: dict[str, Link] = {}
        self._no_dials = asyncio.Event()
        self._no_dials.set()
        self._no_links = asyncio.Event()
        self._no_links.set()
        self._is_closing = False
        # Also those that linger after their link has ended, so that the other end can hear why.
        self.raw: weakref.WeakKeyDictionary[asyncio.Transport, None] = weakref.WeakKeyDictionary()
        self.broken = 0
        self.crowded_out = 0

    def __len__(self) -> int:
        """Return how many addresses have a link."""
        return len(self._by_address)

    # ---- for the driver ----------------------------------------------------------------------------

    def send(self, address: str, data: bytes, answering: Link | None = None) -> None:
        """Send the bytes to the address, over the link that is answered if there is one."""
        link = answering if answering is not None else self._by_address.get(address)
        if link is None:
            if self._is_closing:
                return
            link = self._by_address[address] = Link(self, address)
            self._dial(link, address)
        link.write(data)

    def watch(self, address: str, data: bytes) -> None:
        """Connect afresh to the address and send these bytes, over a link that nothing else goes over."""
        if not self._is_closing:
            if (old := self._watches.pop(address, None)) is not None:
                old.close()
            link = self._watches[address] = Link(self, address, is_watch=True)
            self._dial(link, address)
            link.write(data)

    def _dial(self, link: Link, address: str) -> None:
        self._add(link, self._dialling, DIALS_MAX)
        self._no_dials.clear()
        link.dial(address)

    def watching(self, address: str) -> Link | None:
        """Return the link by which the address is watched, if it is there, or under way."""
        return self._watches.get(address)

    def adopt(self, connection: socket.socket) -> None:
        """Take over a connection that was dialled by another node."""
        if self._is_closing:
            connection.close()
            return
        link = Link(self, None)
        self._add(link, self._pending, PENDING_MAX)
        link.adopt(connection)

    def name(self, link: Link, sender: Claim) -> None:
        """What came over the link was said by this member: use the link to reach it."""
        is_first = link.speaker is None
        peer = link.understood(sender.identity, sender.address)
        if not link.is_watch:
            self._by_address.setdefault(peer, link)
        if is_first:
            self._pending.pop(link, None)
            same = [other for other in self._links if other.speaker is not None and other.speaker[0] == sender.id]
            if len(same) > LINKS_PER_PEER_MAX:
                same[0].close()
            if link.identity is not None and link.identity.allow is not None:
                key = link.identity.key
                shared = [other for other in self._links if other.identity is not None and other.identity.key == key]
                if len(shared) > LIMITED_MAX:
                    shared[0].close()

    def recheck(self) -> None:
        """Close the links to those who would not be believed any more."""
        for link in tuple(self._links):
            if link.identity is not None and not self.trust.accepts(link.identity):
                link.close()

    async def flush(self) -> None:
        """Dial no more, and wait until the dials under way have sent what waits for them."""
        self._is_closing = True
        await self._no_dials.wait()

    async def close(self) -> None:
        """End all, last words first; cut them off by cancelling this."""
        self._is_closing = True
        try:
            for link in tuple(self._links):
                link.close()
            await self._no_links.wait()
        finally:
            for link in tuple(self._links):
                link.cut()
            for transport in tuple(self.raw):
                transport.abort()
            await asyncio.sleep(0)  # a transport closes its socket one turn after it was told to

    # ---- for the links -----------------------------------------------------------------------------

    def admitted(self, connection: ssl.SSLObject) -> Identity:
        """Return who is at the other end of a connection whose handshake is done.

        Raises:
            HandshakeRefused: If it has no business here.
        """
        identity = self.trust.peer(connection, MEMBERSHIP)
        if not self.trust.accepts(identity):  # the handshake was begun before the change
            raise HandshakeRefused(f"{identity} has shown a certificate by a key of the secret that was dropped")
        return identity

    def proved(self, link: Link) -> None:
        """The other end of the link has proved who it is; what waited for that was sent."""
        self._dialling.pop(link, None)
        if not self._dialling:
            self._no_dials.set()

    def ended(self, link: Link, ending: Ending, error: Exception | None) -> None:
        """The link has ended: nothing more comes of it."""
        for kept in (self._links, self._pending, self._dialling):
            kept.pop(link, None)
        for address in (link.dialled, link.peer):
            if address is not None and self._by_address.get(address) is link:
                del self._by_address[address]
        if link.dialled is not None and self._watches.get(link.dialled) is link:
            del self._watches[link.dialled]
        if not self._dialling:
            self._no_dials.set()
        if not self._links:
            self._no_links.set()
        if self._is_closing:
            return
        if link.speaker is not None:
            self._on_lost(link, ending)
        elif link.dialled is not None and isinstance(error, ConnectionRefusedError):
            self._on_refused(link.dialled)
        elif link.is_connected:
            self._on_stranger(link, ending)

    def _add(self, link: Link, stage: dict[Link, None], most: int) -> None:
        if len(stage) >= most:
            self.crowded_out += 1
            oldest = next(iter(stage))
            del stage[oldest]
            oldest.cut()
        self._links[link] = stage[link] = None
        self._no_links.clear()
