"""`Tunnel`: TLS between a socket's transport and a protocol, as links and others use it.

The event loops have TLS of their own, and three things are missing there. Who refuses a handshake
closes without saying why: the alert stays in a buffer. The other end of TLS 1.3 has then finished its
own handshake and sees a closed connection. Each loop does it in its own way, with its own limits. And
what is in clear before TLS takes a packet, and a moment, of its own.

Towards the socket a tunnel is a protocol, towards the program a transport. Its inside is told of the
connection once both ends are verified, and sees no byte before that. A handshake that fails ends
with the alert on its way: the writing side is closed, and what comes is thrown away until the other
end has closed too, `LINGER` seconds at most; to close at once would reset the connection, and the
alert with it.

Limits of time are the user's: the transport that the loop returned is there to be aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Iterable
from typing import Any, cast

__all__ = ["LINGER", "Tunnel"]

LINGER = 1.0
"""Seconds for which the other end may take in why its handshake was refused."""

_IN_CLEAR = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")
_TLS_ONLY = bytes.fromhex("15030300020228")
"""The alert ``handshake_failure``. OpenSSL has none for who does not speak TLS at all, and a node with
tls=False is to learn why it was refused."""

_RECORD = 16 * 1024
"""Bytes of the longest record."""


class Tunnel(asyncio.Protocol, asyncio.Transport):
    """One end of a TLS connection."""

    def __init__(
        self, context: ssl.SSLContext, inside: asyncio.Protocol, *, is_server: bool = False, prologue: bytes = b""
    ) -> None:
        """Wait for a transport.

        Args:
            context: Of `Trust.serving` or `Trust.dialling`.
            inside: Takes what comes; if the handshake fails it only gets `connection_lost`, with the error.
            is_server: Whether the other end has dialled.
            prologue: Is sent in clear, ahead of TLS.
        """
        super().__init__()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=is_server)
        self._seal, self._unseal = self._tls.write, self._tls.read
        self._inside = inside
        self._prologue = prologue
        self._raw: asyncio.Transport | None = None
        self._is_open = False
        self._is_closing = False
        self._has_ended = False
        self._linger: asyncio.TimerHandle | None = None

    # ---- towards the socket ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake."""
        self._raw = cast(asyncio.Transport, transport)
        if self._prologue:
            self._raw.write(self._prologue)
        self._is_opened()

    def data_received(self, data: bytes) -> None:
        """Take in what came: of the handshake, or for the inside."""
        self._incoming.write(data)
        if self._is_open or self._is_opened():
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the inside, once."""
        self._raw = None
        if self._linger is not None:
            self._linger.cancel()
        if exc is None and not self._is_open:
            exc = ConnectionAbortedError("the TLS handshake was broken off: is it another program, or with tls=False?")
        self._end(exc)

    def pause_writing(self) -> None:
        """Pass on that the socket takes no more for now."""
        if self._is_open:
            self._inside.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that it does again."""
        if self._is_open:
            self._inside.resume_writing()

    def _is_opened(self) -> bool:
        """Go on with the handshake; return whether it is done, and the inside wants to read."""
        if self._has_ended:
            self._incoming.read()
            return False
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as error:
            self._refuse(error)
            return False
        self._flush()
        self._is_open = True
        self._inside.connection_made(self)
        return not self.is_closing()

    def _read(self) -> None:
        """Pass on all that can be opened, at once."""
        incoming = self._incoming
        records: list[bytes] = []
        end: ssl.SSLError | None = None
        try:
            while incoming.pending:
                records.append(self._unseal(_RECORD))
        except ssl.SSLWantReadError:
            pass  # half a record
        except ssl.SSLError as error:
            end = error
        if self._outgoing.pending:
            self._flush()
        if records:
            self._inside.data_received(records[0] if len(records) == 1 else b"".join(records))
        if isinstance(end, ssl.SSLZeroReturnError):
            self.close()
        elif end is not None:
            self._refuse(end)

    def _refuse(self, error: ssl.SSLError) -> None:
        """Let the alert out, and end."""
        self._flush()
        raw = self._raw
        if raw is not None:
            if error.reason in _IN_CLEAR:
                raw.write(_TLS_ONLY)
            if raw.can_write_eof():
                with contextlib.suppress(OSError):  # the other end has gone already
                    raw.write_eof()
            self._linger = asyncio.get_running_loop().call_later(LINGER, raw.abort)
        self._end(error)

    def _flush(self) -> None:
        if self._raw is not None and self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _end(self, error: Exception | None) -> None:
        self._is_open, self._is_closing = False, True
        if not self._has_ended:
            self._has_ended = True
            self._inside.connection_lost(error)

    # ---- towards the program -----------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send it, in records of its own."""
        if self._raw is not None and not self._is_closing:
            self._seal_all(data)
            self._raw.write(self._outgoing.read())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview[Any]]) -> None:
        """Send all of it, with one write to the socket."""
        if self._raw is not None and not self._is_closing:
            for data in list_of_data:
                self._seal_all(data)
            self._raw.write(self._outgoing.read())

    def _seal_all(self, data: bytes | bytearray | memoryview[Any]) -> None:
        sent = self._seal(data)
        while sent < len(data):
            sent += self._seal(memoryview(data)[sent:])

    def close(self) -> None:
        """Say goodbye and close, once what was written has left."""
        if self._raw is None or self._is_closing:
            return
        self._is_closing = True
        if self._is_open:
            with contextlib.suppress(ssl.SSLError):  # it wants the other end's goodbye, which we do not wait for
                self._tls.unwrap()
            self._flush()
        self._raw.close()

    def abort(self) -> None:
        """Close at once."""
        self._is_closing = True
        if self._raw is not None:
            self._raw.abort()

    def is_closing(self) -> bool:
        """Return whether it is closed, or about to be."""
        return self._is_closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``ssl_object``, or what the socket's transport knows."""
        if name == "ssl_object":
            return self._tls
        return default if self._raw is None else self._raw.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Take in no more for now."""
        if self._raw is not None:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Take in more."""
        if self._raw is not None:
            self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the inside is told to pause; bytes as they are on the wire."""
        if self._raw is not None:
            self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the socket."""
        return 0 if self._raw is None else self._raw.get_write_buffer_size()
