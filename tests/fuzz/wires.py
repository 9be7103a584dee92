"""A connection's other end that is no socket, and what is said there before the bytes of a target."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgpack

from ringcast.runtime.wire import DEFINE, HEAD

_msgpack: Any = msgpack  # it has no types

ECHO = "tests.fuzz.targets:Echo"


class Wire(asyncio.Transport):
    """Takes everything and sends it nowhere."""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Forget it."""

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Forget them."""

    def close(self) -> None:
        """Do nothing: whoever uses it ends the connection."""

    def abort(self) -> None:
        """Do nothing."""

    def get_write_buffer_size(self) -> int:
        """Return that all has left."""
        return 0


def defined() -> bytes:
    """Return the batch that lets the message 1 be `Echo.say`."""
    frame: bytes = _msgpack.packb([DEFINE, 1, ECHO, "say", False, None])
    return HEAD.pack(len(frame)) + frame
