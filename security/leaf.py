"""`Leaf`: a certificate and its key, for those who present it; `authority` issues it."""

from __future__ import annotations

from ringcast.values import dataclass


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate and its private key, both as PEM."""

    certificate: bytes
    key: bytes
