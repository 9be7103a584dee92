"""The transport of a simulated TCP connection, as asyncio's own behaves on a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from .sockets import StreamSocket

if TYPE_CHECKING:
    from .loop import VirtualLoop

READ_BYTES = 256 * 1024
"""Bytes that are read at a time."""

HIGH_WATER = 64 * 1024
"""Bytes unsent above which the protocol is told to pause; it goes on at a quarter of that."""


class Transport(asyncio.Transport):
    """Between one socket and one protocol."""

    def __init__(self, loop: VirtualLoop, sock: StreamSocket, protocol: asyncio.BaseProtocol) -> None:
        """Take the socket; `begin` reads from it."""
        super().__init__()
        assert sock.end is not None
        self._loop = loop
        self._sock = sock
        self._end = sock.end
        self._protocol = cast(asyncio.Protocol, protocol)
        self._unsent = bytearray()
        self._is_closing = False
        self._is_lost = False
        self._is_finished = False
        self._has_ended = False
        self._is_reading_paused = False
        self._is_writing_paused = False
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._names = {"peername": sock.end.remote, "sockname": sock.local, "socket": sock}
        self._end.on_room = self._on_room

    def __repr__(self) -> str:
        """Show the two ends."""
        return f"<Transport {self._end.local} to {self._end.remote}>"

    def begin(self) -> None:
        """Read from now on."""
        if not self._is_closing and not self._is_reading_paused:
            self._sock.watch(self._loop, self._on_readable, ())

    # ---- reading -----------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self._is_lost or self._is_closing:
            return
        try:
            data = self._end.read(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        if data:
            self._protocol.data_received(data)
        elif not self._has_ended:
            self._has_ended = True
            self._sock.unwatch()
            if not self._protocol.eof_received():
                self.close()

    def pause_reading(self) -> None:
        """Read no more for now."""
        if not self._is_closing and not self._is_reading_paused:
            self._is_reading_paused = True
            self._sock.unwatch()

    def resume_reading(self) -> None:
        """Read again."""
        if not self._is_closing and self._is_reading_paused:
            self._is_reading_paused = False
            if not self._has_ended:
                self._sock.watch(self._loop, self._on_readable, ())

    def is_reading(self) -> bool:
        """Whether it reads."""
        return not self._is_closing and not self._is_reading_paused

    # ---- writing -----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send it, now or when there is room."""
        if self._is_finished:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data or self._is_lost or (self._is_closing and not self._unsent):
            return
        on_write = self._loop.world.on_write
        if on_write is not None:
            on_write(self._loop, bytes(data))
        sent = 0
        if not self._unsent:
            try:
                sent = self._end.write(bytes(data), self._loop.lead)
            except OSError as error:
                self._break(error)
                return
            if sent == len(data):
                return
        self._unsent += memoryview(data)[sent:]
        if not self._is_writing_paused and len(self._unsent) > self._high:
            self._is_writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Send all of it."""
        self.write(b"".join(list_of_data))

    def _on_room(self) -> None:
        if self._unsent or self._end.error is not None:
            self._loop.call_soon(self._send_rest)

    def _send_rest(self) -> None:
        if self._is_lost or not self._unsent:
            return
        try:
            sent = self._end.write(bytes(self._unsent), self._loop.lead)
        except OSError as error:
            self._break(error)
            return
        del self._unsent[:sent]
        if self._is_writing_paused and len(self._unsent) <= self._low:
            self._is_writing_paused = False
            self._protocol.resume_writing()
        if not self._unsent:
            if self._is_closing:
                self._lose(None)
            elif self._is_finished:
                self._end.finish(self._loop.lead)

    def can_write_eof(self) -> bool:
        """One direction can end before the other."""
        return True

    def write_eof(self) -> None:
        """Write nothing more."""
        if not self._is_closing and not self._is_finished:
            self._is_finished = True
            if not self._unsent:
                self._end.finish(self._loop.lead)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are unsent."""
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high limit."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is told to pause."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low

    # ---- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """Close, once everything was sent."""
        if not self._is_closing:
            self._is_closing = True
            self._sock.unwatch()
            if not self._unsent:
                self._lose(None)

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        self._sock.unwatch()
        self._unsent.clear()
        self._lose(None)

    def is_closing(self) -> bool:
        """Whether it closes or is closed."""
        return self._is_closing

    def _break(self, error: OSError) -> None:
        self._is_closing = True
        self._sock.unwatch()
        self._unsent.clear()
        self._lose(error)

    def _lose(self, error: OSError | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._loop.call_soon(self._lost, error)

    def _lost(self, error: OSError | None) -> None:
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()

    # ---- odds --------------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``peername``, ``sockname`` or ``socket``."""
        return self._names.get(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell another protocol from now on."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return who is told."""
        return self._protocol
