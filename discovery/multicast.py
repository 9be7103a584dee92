"""Nodes of one network segment find each other: multicast DNS service discovery.

Each node announces `_ringcast._tcp.local.` with the tag of its cluster, its id and its
address, and browses for the same, for ever, so that nodes that start apart still meet. On
the loopback nothing leaves the machine: only 127.0.0.1 is announced on and browsed.

References:
    RFC 6762 (multicast DNS), RFC 6763 (service discovery).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

import structlog

from ringcast.errors import ConfigError

from .address import split_address
from .codec import cluster_tag
from .source import Announcement

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange
    from zeroconf import Zeroconf as Multicast
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

__all__ = ["SERVICE_TYPE", "Zeroconf"]

SERVICE_TYPE = "_ringcast._tcp.local."
_ASK_LIMIT_MS = 3000


class Zeroconf:
    """Discovery by multicast, the default: `Zeroconf()`, or `Zeroconf(interfaces=["10.0.0.5"])`."""

    is_explicit = False

    def __init__(self, interfaces: Sequence[str] | None = None) -> None:
        """Take the IP addresses of the interfaces to use; None for all (or only the loopback).

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
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._shown: dict[str, str] = {}
        self._own: AsyncServiceInfo | None = None

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"Zeroconf(interfaces={self._interfaces!r})" if self._interfaces else "Zeroconf()"

    async def start(
        self, announcement: Announcement, found: Callable[[str], None], gone: Callable[[str], None]
    ) -> None:
        """Announce and browse; without multicast it logs what to do instead, and goes on."""
        # Imported here: nodes that do not use it need not pay for it.
        from zeroconf import DNSQuestionType, InterfaceChoice, IPVersion, ServiceStateChange
        from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

        if self._multicast is not None:
            raise ConfigError("a Zeroconf() serves one node; give each node its own")
        interfaces = ["127.0.0.1"] if announcement.is_loopback else self._interfaces
        try:
            self._multicast = AsyncZeroconf(
                interfaces=InterfaceChoice.All if interfaces is None else list(interfaces),
                ip_version=IPVersion.V4Only,
            )
        except OSError as error:
            structlog.get_logger("ringcast.discovery").warning(
                "no multicast here, so zeroconf finds nobody: "
                "name some nodes with discovery=[Seeds(['host:port'])], or use Dns",
                node=announcement.node_id,
                reason=str(error),
            )
            return

        host, port = split_address(announcement.address)
        tag = cluster_tag(announcement.cluster).hex().encode()
        self._own = AsyncServiceInfo(
            SERVICE_TYPE,
            # A label has at most 63 bytes; the id itself stands in the properties.
            f"{cluster_tag(announcement.node_id).hex()}-{tag.decode()}.{SERVICE_TYPE}",
            port=port,
            addresses=[_packed(host)],
            properties={b"cluster": tag, b"node": announcement.node_id, b"address": announcement.address},
            server=f"{cluster_tag(announcement.node_id).hex()}.local.",
        )
        own_name = self._own.name

        def on_change(zeroconf: Multicast, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            # The cluster's tag ends the name: others' announcements are not even asked about.
            if name == own_name or not name.endswith(f"-{tag.decode()}.{SERVICE_TYPE}"):
                return
            if state_change is ServiceStateChange.Removed:
                address = self._shown.pop(name, None)
                if address is not None:
                    gone(address)
            elif name not in self._asking:
                self._asking[name] = asyncio.create_task(self._ask(zeroconf, name, found))

        self._browser = AsyncServiceBrowser(
            self._multicast.zeroconf, SERVICE_TYPE, handlers=[on_change], question_type=DNSQuestionType.QM
        )
        # Names hold random ids: asking first whether they are taken would cost half a second.
        register = cast(
            "Callable[..., Awaitable[Awaitable[object]]]",
            self._multicast.async_register_service,  # pyright: ignore[reportUnknownMemberType]
        )
        announced = await register(self._own, cooperating_responders=True)
        self._asking[own_name] = asyncio.create_task(_finish(announced))

    async def stop(self) -> None:
        """Withdraw the announcement and browse no more."""
        if self._multicast is None:
            return
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)
        self._asking.clear()
        if self._browser is not None:
            await self._browser.async_cancel()
        await self._multicast.async_unregister_all_services()
        await self._multicast.async_close()
        self._multicast = self._browser = self._own = None

    async def _ask(self, zeroconf: Multicast, name: str, found: Callable[[str], None]) -> None:
        """Find out the address behind an announced name, and show it."""
        from zeroconf import DNSQuestionType
        from zeroconf.asyncio import AsyncServiceInfo

        try:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
            if not await info.async_request(zeroconf, _ASK_LIMIT_MS, question_type=DNSQuestionType.QM):
                return
            address = (info.decoded_properties.get("address") or "") if info.decoded_properties else ""
            split_address(address)
        except ValueError:
            return  # Announced by someone who does not play by our rules.
        finally:
            self._asking.pop(name, None)
        self._shown[name] = address
        found(address)


async def _finish(announced: Awaitable[object]) -> None:
    await announced


def _packed(host: str) -> bytes:
    """Return the host for the address record; a name is told in the properties only."""
    try:
        address = ip_address(host)
    except ValueError:
        address = ip_address("127.0.0.1")
    return address.packed
