"""The first eight bytes of every TCP connection to a node: who is to have it.

A node listens on one port. A connection begins with the magic ``RCST``, a version, a
channel and two zero bytes; the channel says which part of the node takes over from there.
Not a byte more is read before the connection is handed on, so the taker finds its stream
whole, and starts TLS on it. The eight bytes are in clear and prove nothing: a handshake that is
for another channel than they said fails (`security.channels`).
"""

from __future__ import annotations

__all__ = ["PREAMBLE_BYTES", "channel_of", "preamble"]

PREAMBLE_BYTES = 8
_MAGIC = b"RCST\x01"


def preamble(channel: bytes) -> bytes:
    """Return the eight bytes that open a connection for the one-byte `channel`."""
    assert len(channel) == 1, "a channel is one byte"
    return _MAGIC + channel + b"\0\0"


def channel_of(data: bytes) -> bytes | None:
    """Return the channel that eight bytes ask for, or None if they are no preamble."""
    channel = data[len(_MAGIC) : len(_MAGIC) + 1]
    return channel if channel and data == preamble(channel) else None
