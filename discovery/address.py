"""Addresses as text, ``"host:port"``, and the range of ports that a node may listen on.

An IPv6 host stands in brackets, as in ``"[::1]:7400"``.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from ringcast.errors import ConfigError
from ringcast.values import dataclass

__all__ = ["ADDRESS_BYTES_MAX", "ListenOn", "is_loopback", "is_wildcard", "join_address", "split_address"]

ADDRESS_BYTES_MAX = 100
"""Longer addresses do not travel: several must fit into a datagram."""

_HOST = re.compile(r"[\w.:%-]+")
"""What hosts are made of. A zero byte, above all, makes the resolver raise what nobody expects of it."""


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``"host:port"``.

    Raises:
        ValueError: If it is not of that form, or longer than `ADDRESS_BYTES_MAX`.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and _HOST.fullmatch(host) and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{text!r} is not of the form 'host:port'")
    if len(text.encode()) > ADDRESS_BYTES_MAX:
        raise ValueError(f"{text!r} is longer than {ADDRESS_BYTES_MAX} bytes")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Return ``"host:port"``, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether the host is of this machine only; names other than localhost are not."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_wildcard(host: str) -> bool:
    """Return whether the host stands for all interfaces, such as 0.0.0.0."""
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class ListenOn:
    """Where a node may listen: a host, and ports to try in order (0: whichever is free)."""

    host: str
    first_port: int
    last_port: int

    @classmethod
    def parse(cls, text: str) -> ListenOn:
        """Return what ``"host:port"`` or ``"host:first-last"`` says.

        Raises:
            ConfigError: If it says neither.
        """
        # A host may hold a dash too: only one after the last colon belongs to the ports.
        host_text, _, ports = text.rpartition(":")
        first, dash, last = ports.partition("-")
        try:
            host, first_port = split_address(f"{host_text}:{first}")
            last_port = split_address(f"{host_text}:{last}")[1] if dash else first_port
        except ValueError:
            first_port, last_port, host = 1, 0, ""
        if last_port < first_port or (dash and first_port == 0):
            raise ConfigError(
                f"listen={text!r}: takes 'host:port' (port 0: any free one) "
                "or 'host:first-last' (the first free one), such as '127.0.0.1:0' or '0.0.0.0:7400-7419'"
            )
        return cls(host, first_port, last_port)

    @property
    def ports(self) -> range:
        """The ports to try, in order."""
        return range(self.first_port, self.last_port + 1)
