"""Nodes of one network segment find each other: multicast DNS service discovery.

Each node announces `_ringcast._tcp.local.` with the cluster's discovery tag, its address and its port,
and browses for the same tag, for ever, so that nodes that start apart still meet. The tag is made from
the secret: it says "the same secret and cluster" to those who know both, and nothing to others. On the
loopback nothing leaves the machine: only 127.0.0.1 is announced on and browsed.

Anyone on the segment can announce anything, with a tag that was overheard, and withdraw what others
have announced. So nothing is believed: an address is a place to dial, where TLS then shows who is
there. What a flood of announcements can cost is bounded: `_SHOWN_MAX` addresses are remembered (the
oldest gives way), after `_BURST` of them a new one is shown each `_PAUSE` seconds only, and an address of
the loopback is taken by nodes that listen there, and no other.

References:
    RFC 6762 (multicast DNS), RFC 6763 (service discovery).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, cast

from ringcast.errors import ConfigError
from ringcast.logger import get_logger

from .address import join_address, split_address
from .source import Announcement

if TYPE_CHECKING:
    from zeroconf import ServiceInfo, ServiceStateChange
    from zeroconf import Zeroconf as Multicast
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

__all__ = ["SERVICE_TYPE", "Zeroconf", "address_in", "tag_in"]

SERVICE_TYPE = "_ringcast._tcp.local."
_ASK_LIMIT_MS = 3000

_SHOWN_MAX = 256
"""Announced addresses that are dialled again and again. One that answers is enough to join."""

_ASKING_MAX = 32
"""Announcements that came without their address, and are asked for it at a time."""

_PAUSE = 0.1
"""Seconds from one announced address to the next in the long run: each is dialled at once, and again."""

_BURST = 32
"""Announced addresses that are shown without a pause, after there were none for a while."""

_NAME = re.compile(rf"[0-9a-f]{{16}}-([0-9a-f]{{2,32}})\.{re.escape(SERVICE_TYPE)}")


def tag_in(name: str) -> str | None:
    """Return the discovery tag in the name of an announcement, or None if it is not one of ours."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def address_in(info: ServiceInfo) -> str | None:
    """Return the address that is announced, or None if there is none that can be dialled."""
    from zeroconf import IPVersion

    for host in info.ip_addresses_by_version(IPVersion.All)[:1]:
        if info.port and not (host.is_multicast or host.is_unspecified):
            return join_address(str(host), info.port)
    return None


class Zeroconf:
    """Discovery by multicast, the default: `Zeroconf()`, or `Zeroconf(interfaces=["10.0.0.5"])`."""

    is_explicit = False

    def __init__(self, interfaces: Sequence[str] | None = None) -> None:
        """Take the IP addresses of the interfaces to use; None for where the node listens.

        Raises:
            ConfigError: If it is not a list of IP addresses.
        """
        takes = "Zeroconf(interfaces=...) takes a list of this machine's IP addresses, such as ['10.0.0.5']"
        if isinstance(interfaces, str) or (interfaces is not None and not interfaces):
            raise ConfigError(f"{takes}, not {interfaces!r}")
        for interface in interfaces or ():
            try:
                ip_address(interface)
            except ValueError as error:
                raise ConfigError(f"{takes}: {error}") from error
        self._interfaces = interfaces
        self._multicast: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._own: AsyncServiceInfo | None = None
        self._tags: tuple[str, ...] = ()
        self._is_loopback = True
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, str] = {}
        self._shown: dict[str, str] = {}
        self._has_waiting = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changing = asyncio.Lock()

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"Zeroconf(interfaces={self._interfaces!r})" if self._interfaces else "Zeroconf()"

    async def start(
        self, announcement: Announcement, found: Callable[[str], None], gone: Callable[[str], None]
    ) -> None:
        """Announce and browse; without multicast it logs what to do instead, and goes on."""
        # Imported here: nodes that do not use it need not pay for it.
        from zeroconf import InterfaceChoice, IPVersion
        from zeroconf.asyncio import AsyncZeroconf

        if self._multicast is not None:
            raise ConfigError("a Zeroconf() serves one node; give each node its own")
        try:
            self._multicast = AsyncZeroconf(
                interfaces=self._where(announcement) or InterfaceChoice.All,
                ip_version=IPVersion.V4Only,
            )
        except OSError as error:
            get_logger("ringcast.discovery").warning(
                "no multicast here, so zeroconf finds nobody: "
                "name some nodes with discovery=[Seeds(['host:port'])], or use Dns",
                node=announcement.node_id,
                reason=str(error),
            )
            return
        self._found, self._gone = found, gone
        self._is_loopback = announcement.is_loopback
        self._start(self._show_in_turn())
        await self.announce(announcement)

    def _where(self, announcement: Announcement) -> list[str]:
        """Return the addresses of the interfaces to use; empty for all."""
        if announcement.is_loopback:
            return ["127.0.0.1"]
        if self._interfaces is not None:
            return list(self._interfaces)
        host = announcement.listens_on
        return [host] if host is not None and ip_address(host).version == 4 else []

    async def announce(self, announcement: Announcement) -> None:
        """Announce this instead of what was announced before, and browse anew for its tags."""
        if self._multicast is None:
            return
        async with self._changing:
            await self._announce(self._multicast, announcement)

    async def _announce(self, multicast: AsyncZeroconf, announcement: Announcement) -> None:
        from zeroconf import DNSQuestionType
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

        if self._browser is not None:
            await self._browser.async_cancel()
        if self._own is not None:
            withdraw = cast(
                "Callable[..., Awaitable[Awaitable[object]]]",
                multicast.async_unregister_service,  # pyright: ignore[reportUnknownMemberType]
            )
            await (await withdraw(self._own))
        self._tags = announcement.tags
        host, port = split_address(announcement.address)
        name = os.urandom(8).hex()  # tells nothing of the node, not even that it is the one of yesterday
        self._own = AsyncServiceInfo(
            SERVICE_TYPE,
            f"{name}-{self._tags[0]}.{SERVICE_TYPE}",
            port=port,
            addresses=[(await _literal(host)).packed],
            server=f"{name}.local.",
        )
        # A new browser shows what is known already too, to whoever has other tags now.
        self._browser = AsyncServiceBrowser(
            multicast.zeroconf, SERVICE_TYPE, handlers=[self._on_change], question_type=DNSQuestionType.QM
        )
        # Names are random: asking first whether they are taken would cost half a second.
        register = cast(
            "Callable[..., Awaitable[Awaitable[object]]]",
            multicast.async_register_service,  # pyright: ignore[reportUnknownMemberType]
        )
        self._start(_finish(await register(self._own, cooperating_responders=True)))

    async def stop(self) -> None:
        """Withdraw the announcement and browse no more."""
        if self._multicast is None:
            return
        async with self._changing:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._browser is not None:
                await self._browser.async_cancel()
            await self._multicast.async_unregister_all_services()
            await self._multicast.async_close()
            self._multicast = self._browser = self._own = None

    def _on_change(self, zeroconf: Multicast, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        from zeroconf import ServiceStateChange
        from zeroconf.asyncio import AsyncServiceInfo

        if self._own is None:
            return
        if state_change is ServiceStateChange.Removed:
            self._withdraw(name)
        # Others' announcements are not even asked about.
        elif tag_in(name) in self._tags and name != self._own.name and name not in self._asking:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
            if info.load_from_cache(zeroconf):
                self._hear(name, info)
                return
            if len(self._asking) >= _ASKING_MAX:
                # The oldest gives way: the honest are answered at once.
                self._asking.pop(next(iter(self._asking))).cancel()
            self._asking[name] = self._start(self._ask(zeroconf, name, info))

    async def _ask(self, zeroconf: Multicast, name: str, info: AsyncServiceInfo) -> None:
        """Find out the address behind an announced name."""
        from zeroconf import DNSQuestionType

        # By multicast: the nodes of one machine share a port, and a single answer may reach the wrong one.
        try:
            if await info.async_request(zeroconf, _ASK_LIMIT_MS, question_type=DNSQuestionType.QM):
                self._hear(name, info)
        finally:
            if self._asking.get(name) is asyncio.current_task():
                del self._asking[name]

    def _hear(self, name: str, info: ServiceInfo) -> None:
        address = address_in(info)
        # An announcement must not make nodes dial what listens on their own machine only.
        if address is None or ip_address(split_address(address)[0]).is_loopback is not self._is_loopback:
            return
        if len(self._waiting) >= _SHOWN_MAX:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[name] = address
        self._has_waiting.set()

    async def _show_in_turn(self) -> None:
        loop, due = asyncio.get_running_loop(), float("-inf")
        while True:
            while not self._waiting:
                self._has_waiting.clear()
                await self._has_waiting.wait()
            name = next(iter(self._waiting))
            address = self._waiting.pop(name)
            if self._shown.get(name) == address:
                continue
            self._withdraw(name)
            if len(self._shown) >= _SHOWN_MAX:
                self._withdraw(next(iter(self._shown)))
            self._shown[name] = address
            self._found(address)
            due = max(due, loop.time() - _BURST * _PAUSE) + _PAUSE
            await asyncio.sleep(max(0.0, due - loop.time()))

    def _withdraw(self, name: str) -> None:
        self._waiting.pop(name, None)
        address = self._shown.pop(name, None)
        if address is not None and address not in self._shown.values():
            self._gone(address)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # What strangers send must not end the node, whatever the library makes of it.
            get_logger("ringcast.discovery").warning("an announcement failed", reason=repr(error))


async def _finish(announced: Awaitable[object]) -> None:
    await announced


async def _literal(host: str) -> IPv4Address | IPv6Address:
    """Return the IP address of a host; names are not announced, for nobody should look up a stranger's."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, family=socket.AF_INET)
    except UnicodeError as error:
        raise OSError(f"{host!r} is no name that can be resolved") from error
    return ip_address(found[0][4][0])
