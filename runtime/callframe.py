"""The frames of a client, as hostile bytes: what they may hold, and the call that one stands for.

They are decoded by an unpacker of their own that builds short flat lists, text, numbers, bytes and the
few extensions of which keys are made, and nothing else. What the application sends is in them as sealed
bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgpack

from ringcast.errors import CodecError
from ringcast.values import dataclass

from ..actors.naming import NAME_MAX
from ..actors.ref import display, is_spawned
from .extensions import Code
from .ring import check_key

if TYPE_CHECKING:
    from .codec import FrameUnpacker

TEXT_MAX = 500
"""Characters of a node's id, or of an idempotency key."""
KEY_MAX = 1024
"""Bytes of an actor's key."""
KEY_DEPTH = 8
"""Tuples inside one another in a key."""
LIST_MAX = 64
"""Elements of a list, such as a tuple of a key, or the lengths of the parts of a large message."""
TTL_MAX_MS = 366 * 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class CallFrame:
    """One call of a client.

    Attributes:
        number: The client's number for it; 0 for a told message.
        class_name: The actor's class, by its name on the wire.
        method: The message.
        key: The actor's key.
        node: For a spawned actor, the node where it runs.
        ttl_ms: Its limit; None for a told message without one.
        sealed: The arguments.
        idempotency_key: See `using`.
    """

    number: int
    class_name: str
    method: str
    key: Any
    node: str | None
    ttl_ms: int | None
    sealed: bytes
    idempotency_key: str | None

    def __str__(self) -> str:
        """Return what errors call it."""
        return f"{display(self.class_name, self.key)}.{self.method}"

    @classmethod
    def checked(cls, parts: list[Any]) -> CallFrame:
        """Return the call that the parts of a CALL stand for.

        Raises:
            CodecError: If they are none.
            TypeError: If the key can be no key.
        """
        match parts:
            case [
                int() as number,
                str() as class_name,
                str() as method,
                key,
                None | str() as node,
                None | int() as ttl_ms,
                bytes() as sealed,
                None | str() as once,
            ] if (
                0 <= number < 1 << 63
                and max(len(class_name), len(method)) <= NAME_MAX  # else the owner cannot even speak of it
                and max(len(node or ""), len(once or "")) <= TEXT_MAX
                and (number == 0 if ttl_ms is None else 0 < ttl_ms <= TTL_MAX_MS)
                and is_spawned(key) == (node is not None)
            ):
                check_key(key)
                if _size_of(key) <= KEY_MAX:
                    return cls(number, class_name, method, key, node, ttl_ms, sealed, once)
            case _:
                pass
        raise CodecError(f"a call that is none: {parts!r:.100}")


def _size_of(key: object) -> int:
    match key:
        case str() | bytes():
            return len(key)
        case int():
            return key.bit_length() // 8
        case tuple():
            return sum(map(_size_of, cast("tuple[object, ...]", key)), 8)
        case _:
            return 16


def unpacker(max_bytes: int, buffers: Sequence[bytes] = ()) -> FrameUnpacker:
    """Return what decodes a client's frames; `buffers` came beside the frame."""
    return cast(
        "FrameUnpacker",
        cast(Any, msgpack).Unpacker(
            ext_hook=_reader(0, buffers),
            max_buffer_size=max_bytes,
            read_size=min(max_bytes, 1 << 14),
            max_array_len=LIST_MAX,
            max_map_len=0,
            max_ext_len=2 * KEY_MAX,
            max_str_len=4 * KEY_MAX,
        ),
    )


def frame_of(head: bytes, buffers: Sequence[bytes]) -> list[Any]:
    """Return the frame of a large message.

    Raises:
        ValueError: If it is none, or more than one.
    """
    found = unpacker(len(head) + 1, buffers)
    found.feed(head)
    frame: list[Any] = found.unpack()
    if found.tell() != len(head):
        raise ValueError("a large message is more than one frame")
    return frame


def _reader(depth: int, buffers: Sequence[bytes]) -> Callable[[int, bytes], object]:
    """Return what puts together the extensions that stand so deep in a key."""

    def read(code: int, data: bytes) -> object:
        if depth == KEY_DEPTH:
            raise CodecError("a key of tuples too deep inside one another")
        inner = _reader(depth + 1, ())
        parts: Any = cast(Any, msgpack).unpackb(data, ext_hook=inner, max_array_len=LIST_MAX, max_map_len=0)
        match code, parts:
            case Code.TUPLE, list():
                return tuple(cast("list[object]", parts))
            case Code.UUID, bytes():
                return uuid.UUID(bytes=parts)
            case Code.BIG_INT, bytes():
                return int.from_bytes(parts, "little", signed=True)
            case Code.BYTES_APART, int() if 0 <= parts < len(buffers):
                return buffers[parts]
            case _:
                raise CodecError(f"extension {code} has no place in a client's frame")

    return read
