"""Stores by their addresses."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from urllib.parse import unquote, urlsplit

from ringcast.errors import ConfigError

from .memory import MemoryStore
from .port import Store

__all__ = ["TAKES", "store_at"]

TAKES = "memory:, sqlite:///path, postgresql://user@host/database or redis://host:6379/0"
"""What ``store=`` takes, for messages."""

_EXTRAS = {
    "postgresql": ("postgresql", "PostgreSQLStore"),
    "postgres": ("postgresql", "PostgreSQLStore"),
    "redis": ("redis", "RedisStore"),
    "rediss": ("redis", "RedisStore"),
}
"""By scheme: the module here, which is the name of the extra too, and the class."""


def store_at(address: str) -> Store:
    """Return the store of an address, not opened yet.

    Args:
        address: ``memory:`` (gone with the node), ``sqlite:///relative/path``, ``sqlite:////absolute/path``,
            ``postgresql://user:password@host:port/database``, ``redis://host:port/database``.

    Raises:
        ConfigError: If it is none of these, or its driver is not installed.
    """
    scheme, colon, rest = address.partition(":")
    if address == "memory:":
        return MemoryStore()
    if scheme == "sqlite" and rest.startswith("///") and len(rest) > 3:
        from .sqlite import SQLiteStore

        return SQLiteStore(Path(unquote(rest[3:])).expanduser())
    if colon and scheme in _EXTRAS and urlsplit(address).hostname:
        extra, cls = _EXTRAS[scheme]
        try:
            module = import_module(f".{extra}", __package__)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("ringcast"):
                raise
            raise ConfigError(
                f"a {scheme}:// store needs the package {error.name}, which is not installed: "
                f"pip install 'ringcast[{extra}]'"
            ) from error
        store: Store = getattr(module, cls)(address)
        return store
    shown = f"{scheme}:…" if "@" in address else address
    raise ConfigError(f"store={shown!r}: it takes {TAKES}")
