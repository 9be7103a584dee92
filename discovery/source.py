"""Where addresses of other nodes come from: the port, and the simplest of its kinds.

A source shows addresses and is not to be trusted with more; who answers there is found out by dialling.
Sources of one node run on its membership loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ringcast.errors import ConfigError
from ringcast.values import dataclass

from .address import split_address

__all__ = ["Announcement", "Seeds", "Source"]


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a node shows of itself.

    Attributes:
        tags: What tells nodes of one secret and cluster from others. The first is shown, each is looked for.
        node_id: The node's id; for logs, not to be shown.
        address: Where others dial it.
        is_loopback: Whether it listens on this machine only, and must not be shown beyond.
        listens_on: The IP address of the interface where it listens; None for all of them.
    """

    tags: tuple[str, ...]
    node_id: str
    address: str
    is_loopback: bool
    listens_on: str | None = None


class Source(Protocol):
    """Shows a node to others, and others to it, between `start` and `stop`.

    `is_explicit` says whether a person named the addresses: another cluster's node there is
    then a mistake to report, and not just a neighbour.
    """

    @property
    def is_explicit(self) -> bool:
        """Whether a person named the addresses."""
        ...

    async def start(
        self, announcement: Announcement, found: Callable[[str], None], gone: Callable[[str], None]
    ) -> None:
        """Begin, without waiting for anyone to be found.

        Args:
            announcement: What to show of this node.
            found: Is called with each address, on this loop, as often as it is seen.
            gone: Is called with an address that is withdrawn.
        """
        ...

    async def announce(self, announcement: Announcement) -> None:
        """Show this from now on, and look for its tags: the cluster's secret has changed."""
        ...

    async def stop(self) -> None:
        """Withdraw, and end everything that was begun. May be called without `start`."""
        ...


class Seeds:
    """Fixed addresses, such as `Seeds(["10.0.0.5:7400", "node2:7400"])`.

    They may name the node itself, so that all nodes can be given the same list. One that
    does not answer is dialled again for ever.
    """

    is_explicit = True

    def __init__(self, addresses: Sequence[str]) -> None:
        """Take addresses ``"host:port"``.

        Raises:
            ConfigError: If it is not a list of such addresses.
        """
        takes = "Seeds takes a list of 'host:port', such as Seeds(['10.0.0.5:7400'])"
        if isinstance(addresses, str):
            raise ConfigError(f"{takes}, not the text {addresses!r}")
        for address in addresses:
            try:
                _, port = split_address(address)
            except (ValueError, AttributeError) as error:
                raise ConfigError(f"{takes}: {error}") from error
            if port == 0:
                raise ConfigError(f"{takes}: {address!r} has no port to dial")
        self._addresses = tuple(addresses)

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"Seeds({list(self._addresses)!r})"

    async def start(
        self, announcement: Announcement, found: Callable[[str], None], gone: Callable[[str], None]
    ) -> None:
        """Show every address once; who shows them dials them for ever."""
        for address in self._addresses:
            found(address)

    async def announce(self, announcement: Announcement) -> None:
        """Addresses have no tags."""

    async def stop(self) -> None:
        """Nothing was begun."""
