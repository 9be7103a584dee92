"""Knocks: sealed datagrams that say nothing, by which it is found out whether datagrams pass.

`ringcast doctor` asks that from outside of the membership. It knocks at a node by datagram, asks over TCP
whether the knock was heard, and has the node knock back: so each direction is seen for itself. Who
knocks has the cluster's secret, for the seal was opened before; a knock never gets to the cores, is never
answered by datagram, and leaves nothing but its token, for a while.
"""

from __future__ import annotations

__all__ = ["TOKEN_BYTES", "Knocks", "knock", "knocker", "token_in"]

TOKEN_BYTES = 16
_MARK = b"\xc1knock"
"""What no message begins with: msgpack has no such byte."""

_KEPT = 64
"""Tokens that are remembered; the oldest is forgotten."""


def knock(token: bytes) -> bytes:
    """Return what is to be sealed; `token` are `TOKEN_BYTES` random bytes."""
    assert len(token) == TOKEN_BYTES, "others are no tokens"
    return _MARK + token


def token_in(data: bytes) -> bytes | None:
    """Return the token of a knock, or None if the opened datagram is something else."""
    is_knock = data.startswith(_MARK) and len(data) == len(_MARK) + TOKEN_BYTES
    return data[len(_MARK) :] if is_knock else None


def knocker(token: bytes) -> tuple[str, int]:
    """Return for whom a knock back is sealed: nobody else has that token, so nobody else can open it."""
    return token.hex(), 0


class Knocks:
    """The knocks that were heard lately; may be asked from any thread."""

    def __init__(self) -> None:
        """Begin with none."""
        self._tokens: dict[bytes, None] = {}

    def __contains__(self, token: object) -> bool:
        """Return whether that knock was heard."""
        return token in self._tokens

    def hear(self, token: bytes) -> None:
        """Remember it."""
        self._tokens[token] = None
        if len(self._tokens) > _KEPT:
            del self._tokens[next(iter(self._tokens))]
