"""What has happened in a simulation, as one hash: equal runs have equal hashes.

Everything that is carried out leaves an entry: each callback with its instant, its loop and its name,
each packet that arrives with its instant, its ends and its bytes. With `is_kept` the entries stay, so
that two runs that should be equal and are not can be laid side by side.
"""

from __future__ import annotations

from asyncio import Handle
from functools import partial
from hashlib import blake2b
from typing import Any
from zlib import crc32

CHUNK = 2048
"""Entries that are hashed at a time."""

Entry = tuple[float, str, object]
"""When (seconds since the simulation began), where, and what: a callback's name or a packet's checksum."""


class Trace:
    """The entries of one simulation.

    Attributes:
        is_kept: Whether the entries stay, for `entries`.
        entries: What has happened, if they are kept, else what was not hashed yet.
        count: How many entries there were.
    """

    def __init__(self, is_kept: bool = False) -> None:
        """Begin with nothing."""
        self.is_kept = is_kept
        self.entries: list[Entry] = []
        self.count = 0
        self._hash = blake2b(digest_size=16)
        self._hashed = 0

    def called(self, now: float, where: str, handle: Handle) -> None:
        """Note a callback."""
        self.entries.append((now, where, name_of(handle._callback)))  # type: ignore[attr-defined]
        if len(self.entries) - self._hashed >= CHUNK:
            self._take_in()

    def arrived(self, now: float, where: str, data: bytes) -> None:
        """Note a packet that has arrived."""
        self.entries.append((now, where, crc32(data)))

    def digest(self) -> str:
        """Return the hash of everything until now."""
        self._take_in()
        return self._hash.hexdigest()

    def _take_in(self) -> None:
        fresh = self.entries[self._hashed :]
        self._hash.update(repr(fresh).encode())
        self.count += len(fresh)
        if self.is_kept:
            self._hashed = len(self.entries)
        else:
            self.entries.clear()


def name_of(callback: Any) -> str:
    """Return the same name for a callback in every process: no address of an object stands in it."""
    name = getattr(callback, "__qualname__", None)
    if name is not None:
        return str(name)
    if isinstance(callback, partial):
        return name_of(callback.func)
    return type(callback).__name__
