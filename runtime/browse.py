"""Who announces itself: nodes that do, heard by one that does not.

A node's own `Zeroconf` announces as well as browses; whoever only looks must not be dialled. What is
announced is anybody's word: who is there has still to prove who it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

from zeroconf import DNSQuestionType, IPVersion, ServiceStateChange
from zeroconf import Zeroconf as Multicast
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from ringcast.values import dataclass

from ..discovery.multicast import SERVICE_TYPE, address_in, tag_in

SEARCH = 2.5
"""Seconds to look for a node."""
SETTLE = 0.25
"""Seconds to look for more after the first: a cluster that fell apart has several views."""
_ASK_LIMIT_MS = 1000
_ASKING_MAX = 64
"""Announcements that are asked about: anyone on the machine can make any number."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What one announcement says: a tag, in hex, and where to dial."""

    tag: str
    address: str


@asynccontextmanager
async def announcements(
    interfaces: Sequence[str], tags: Collection[str] | None = None
) -> AsyncIterator[asyncio.Queue[Announced]]:
    """Listen for a while, into a queue.

    Args:
        interfaces: The IPv4 addresses of the interfaces to listen on.
        tags: The tags to look for; None for all.

    Raises:
        OSError: If there is no multicast on the interfaces.
    """
    found: asyncio.Queue[Announced] = asyncio.Queue()
    asking: set[asyncio.Task[None]] = set()

    async def ask(zeroconf: Multicast, name: str, tag: str) -> None:
        info = AsyncServiceInfo(SERVICE_TYPE, name)
        # Asked by multicast: the nodes of one machine share port 5353, so an answer to one of its
        # sockets alone may reach the wrong one.
        if await info.async_request(zeroconf, _ASK_LIMIT_MS, question_type=DNSQuestionType.QM):
            address = address_in(info)
            if address is not None:
                found.put_nowait(Announced(tag, address))

    def on_change(zeroconf: Multicast, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        tag = tag_in(name)
        is_news = state_change is ServiceStateChange.Added and tag is not None and (tags is None or tag in tags)
        if tag is not None and is_news and len(asking) < _ASKING_MAX:
            asking.add(asyncio.create_task(ask(zeroconf, name, tag)))

    multicast = AsyncZeroconf(interfaces=list(interfaces), ip_version=IPVersion.V4Only)
    browser = AsyncServiceBrowser(
        multicast.zeroconf, SERVICE_TYPE, handlers=[on_change], question_type=DNSQuestionType.QM
    )
    try:
        yield found
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await browser.async_cancel()
        await multicast.async_close()


async def heard(tags: Collection[str]) -> list[str]:
    """Return the addresses of nodes that announce themselves on this machine with one of the tags.

    Raises:
        OSError: If this machine has no multicast on its loopback.
    """
    addresses: list[str] = []
    async with announcements(["127.0.0.1"], tags) as found:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEARCH):
                addresses.append((await found.get()).address)
            async with asyncio.timeout(SETTLE):
                while True:
                    addresses.append((await found.get()).address)
    return addresses
