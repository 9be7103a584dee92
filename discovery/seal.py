"""The one place where bytes of the membership protocol are sealed and opened.

Every datagram and every membership frame passes a `Seal` on its way out and in. A seal
must authenticate before anything is decoded, and must not inflate: what `open` returns is
never longer than what it was given.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["OVERHEAD_BYTES_MAX", "Plain", "Seal"]

OVERHEAD_BYTES_MAX = 64
"""How many bytes any seal may add to a datagram: a nonce, a tag and a key's number."""


class Seal(Protocol):
    """Turns bytes into sealed bytes and back."""

    def seal(self, data: bytes) -> bytes:
        """Return `data` sealed, at most `OVERHEAD_BYTES_MAX` longer."""
        ...

    def open(self, data: bytes) -> bytes | None:
        """Return what was sealed, or None when the seal is broken or another's."""
        ...


class Plain:
    """No seal: whoever reaches the port is believed. For the loopback."""

    def seal(self, data: bytes) -> bytes:
        """Return `data` as it is."""
        return data

    def open(self, data: bytes) -> bytes | None:
        """Return `data` as it is."""
        return data
