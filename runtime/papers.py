"""What a client presents: a credential from a file, one that it was given, or one that it makes itself.

A file is read again when it has changed, so a credential that is issued anew in the same place is used
from the next connection on. Whoever has the cluster's secret needs no file: a client without a
credential looks for the secret where a node would, and issues itself a short-lived one. What nodes say
of the authorities to believe is kept for as long as the client lives.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from ringcast.errors import ConfigError, HandshakeRefused

from ..security.credential import Credential, is_credential, issue
from ..security.identity import CLIENT
from ..security.secret import Secret, Where, find_secret

__all__ = ["OWN_NAME", "Papers"]

OWN_NAME = "local"
"""The name of a client that issues itself a credential."""
OWN_TTL = 3600.0
"""Seconds for which such a credential is valid; a new one is made when half of that is over."""


class _Origin(Protocol):
    def credential(self, now: float) -> Credential:
        """Return the credential to present; the same object while it is the same. Raises ConfigError."""
        ...


class _Given:
    def __init__(self, credential: Credential) -> None:
        self._credential = credential

    def credential(self, now: float) -> Credential:
        return self._credential


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: object = None
        self._credential: Credential | None = None

    def credential(self, now: float) -> Credential:
        try:
            found = os.stat(self._path)
            seen: object = (found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            seen = None  # reading says what is wrong
        if self._credential is None or seen != self._seen:
            self._seen, self._credential = seen, Credential.read(self._path)
        return self._credential


class _Issued:
    def __init__(self, secret: Where | None, cluster: str) -> None:
        data, self._path, _ = find_secret(secret)
        if is_credential(data):
            raise ConfigError("secret=… is a credential: give it as Client(…, credential=…)")
        self._data = data
        self._cluster = cluster
        self._credential: Credential | None = None

    def credential(self, now: float) -> Credential:
        made = self._credential
        if made is None or made.until - now < OWN_TTL / 2:
            if self._path is not None:
                secret = Secret.read(self._path)
            else:
                secret = Secret.parse(self._data, "the secret that was given as bytes")
            made = self._credential = issue(secret, self._cluster, CLIENT, OWN_NAME, now=now, ttl=OWN_TTL)
        return made


class Papers:
    """The credential of one client, and whom it believes.

    Attributes:
        cluster: The name of the cluster for which the credential is.
    """

    def __init__(
        self,
        credential: str | os.PathLike[str] | Credential | None,
        secret: Where | None,
        cluster: str | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read what is given, or find the secret; `clock` tells seconds since 1970.

        Raises:
            ConfigError: If something is there that cannot be used.
        """
        self._clock = clock
        self._origin: _Origin
        match credential:
            case None:
                self._origin = _Issued(secret, cluster or os.environ.get("RINGCAST_CLUSTER", "default"))
            case Credential():
                self._origin = _Given(credential)
            case str() | os.PathLike():
                self._origin = _File(Path(credential).expanduser())
            case _:
                raise ConfigError(f"credential={credential!r}: it takes the path of a file, or a Credential")
        if credential is not None and secret is not None:
            raise ConfigError("give a client a credential or the cluster's secret, not both")
        self._nodes: bytes | None = None
        self._read: Credential | None = None
        self._context: ssl.SSLContext | None = None
        identity = self.credential().identity
        if identity.role != CLIENT:
            raise ConfigError(f"the credential is that of {identity}: `ringcast secret issue --role client` makes one")
        if cluster is not None and identity.cluster != cluster:
            raise ConfigError(f"the credential is for cluster {identity.cluster!r}, and cluster={cluster!r} was given")
        self.cluster = identity.cluster

    def credential(self) -> Credential:
        """Return the credential to present now.

        Raises:
            ConfigError: If its file cannot be used any more.
        """
        now = self._clock()
        found = self._origin.credential(now)
        if found is not self._read:  # a file that was written anew knows best whom to believe
            self._read, self._nodes, self._context = found, None, None
        return found if self._nodes is None else found.learned(self._nodes)

    def dialling(self) -> ssl.SSLContext:
        """Return the context with which to dial a node.

        Raises:
            ConfigError: If the credential's file cannot be used any more.
            HandshakeRefused: If the credential has expired; says when.
        """
        credential = self.credential()
        if credential.until <= self._clock():
            when = datetime.fromtimestamp(credential.until, UTC).isoformat(timespec="seconds")
            raise HandshakeRefused(
                f"the credential of {credential.identity} has expired, at {when}; `ringcast secret issue` makes a new "
                f"one"
            )
        if self._context is None:
            self._context = credential.dialling()
        return self._context

    def learn(self, nodes: bytes) -> None:
        """Believe these authorities for nodes (PEM) from now on, as a node that is believed has said.

        Raises:
            ValueError: If they are none.
        """
        self.credential().learned(nodes)
        if nodes != self._nodes:
            self._nodes, self._context = nodes, None
