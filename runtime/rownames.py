"""Names of rows: an actor's class and key as the text that a store keeps, and back.

The text is JSON, so that people can read it and no two actors share one: ``["bank.Account","ann"]``. Parts of a key
that JSON has no type for are tagged. What would be too long for an index of a database is named by its digest,
and cannot be read back.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

__all__ = ["actor_of_row", "reply_key", "row_id"]

ROW_BYTES_MAX = 1500
"""Bytes of a row's name; PostgreSQL indexes at most 2,700 of a name and a reply's key together."""

REPLY_BYTES_MAX = 1000


def row_id(class_name: str, key: Any) -> str:
    """Return the name of an actor's row.

    Args:
        class_name: What the class calls its rows.
        key: A key that `check_key` lets pass, or a spawned actor's.
    """
    parts = [class_name, _plain(key)]
    text = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
    try:
        if len(text.encode()) <= ROW_BYTES_MAX:
            return text
    except UnicodeEncodeError:  # a lone surrogate, which no store takes
        text = json.dumps(parts, separators=(",", ":"))
        if len(text) <= ROW_BYTES_MAX:
            return text
    digest = hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
    return json.dumps([class_name, {"digest": digest}], separators=(",", ":"))


def actor_of_row(id: str) -> tuple[str, Any] | None:
    """Return the class's name and the key of a row; None if its name is only a digest, or none of ours."""
    try:
        class_name, key = json.loads(id)
        return str(class_name), _key(key)
    except (TypeError, ValueError):
        return None


def reply_key(method: str, key: str) -> str:
    """Return what a reply is remembered by: the method, and the caller's idempotency key."""
    text = f"{method} {json.dumps(key)}"  # a method's name holds no blank
    if len(text) <= REPLY_BYTES_MAX:
        return text
    return f"{method} {hashlib.blake2b(text.encode(), digest_size=32).hexdigest()}"


def _plain(key: Any) -> Any:
    if isinstance(key, tuple):
        return [_plain(part) for part in key]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(key, bytes):
        return {"bytes": key.hex()}
    if isinstance(key, UUID):
        return {"uuid": key.hex}
    return str(key) if isinstance(key, str) else int(key)


def _key(plain: Any) -> Any:
    match plain:
        case list():
            return tuple(_key(part) for part in plain)  # pyright: ignore[reportUnknownVariableType]
        case {"bytes": str(text)}:
            return bytes.fromhex(text)
        case {"uuid": str(text)}:
            return UUID(text)
        case str() | int():
            return plain
        case _:
            raise ValueError(f"{plain!r} is no part of a key")
