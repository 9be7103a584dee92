"""What connections are for, and the name that each purpose has in the TLS handshake.

A node listens on one port. The first eight bytes of a connection, in clear, name a channel: they
decide which part of the node takes it. The TLS handshake then has to negotiate the name of that very
channel (ALPN), so that nobody can carry a conversation over from one to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["ALPN", "CLIENTS", "CONTROL", "LINKS", "MEMBERSHIP"]

MEMBERSHIP: Final = b"M"
"""Joins, views and whatever of the membership does not fit a datagram."""
LINKS: Final = b"A"
"""Messages between actors of two nodes."""
CONTROL: Final = b"C"
"""The command line's questions."""
CLIENTS: Final = b"L"
"""Calls from processes that are no members."""

ALPN: Final[Mapping[bytes, str]] = {
    MEMBERSHIP: "ringcast-membership/1",
    LINKS: "ringcast-link/1",
    CONTROL: "ringcast-control/1",
    CLIENTS: "ringcast-client/1",
}
