"""What a process presents and believes, and the three places where that comes from.

    FromSecret        the cluster's secret: issues itself a certificate, and renews it
    FromCredential    a file of `ringcast secret issue --role node`: a limited node without the secret
    FromCertificates  an authority of your own; the secret is still what seals datagrams

Each makes one `Material`, a value; when a file changes or a certificate grows old another one is
made, and takes the first one's place as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ringcast.errors import ConfigError, HandshakeRefused
from ringcast.values import dataclass

from .credential import Credential
from .identity import CLIENT, NODE, Identity, fingerprint, identity_of
from .keys import discovery_tag, gossip_key
from .leaf import Leaf
from .private import read_private
from .secret import Key, Secret

if TYPE_CHECKING:
    from .authority import OwnKey

__all__ = ["LIFETIME", "Certificates", "FromCertificates", "FromCredential", "FromSecret", "Material", "Origin"]

LIFETIME = 24 * 3600.0
"""Seconds for which a node's own certificate is valid; it is renewed when half of that is over."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a process presents and believes.

    Attributes:
        leaf: Certificate and key for other nodes.
        for_clients: The same for clients: signed by the oldest key, which every valid credential knows.
        nodes: Certificates of the authorities whose nodes are believed (PEM).
        clients: The same for clients; empty if there are none.
        gossip_keys: Id (4 bytes) and key (32 bytes); the first seals, all open.
        tags: What is announced (the first) and looked for (all); hex.
        signing: The id of the secret's key that signs.
        accepted: The ids of all keys that are believed.
        renew_at: When to make another one, in seconds since 1970.
    """

    leaf: Leaf
    for_clients: Leaf
    nodes: bytes
    clients: bytes
    gossip_keys: tuple[tuple[bytes, bytes], ...]
    tags: tuple[str, ...]
    signing: str
    accepted: tuple[str, ...]
    renew_at: float


class Origin(Protocol):
    """Where material comes from."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files to watch."""
        ...

    def name(self) -> str:
        """Return the name in the certificate; empty if each process chooses one for itself."""
        ...

    def material(self, cluster: str, name: str, own: OwnKey, now: float) -> Material:
        """Make it; `now` is in seconds since 1970. Raises ConfigError."""
        ...


def sealing(keys: Sequence[Key], cluster: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the gossip keys that a secret's keys make, as `Material` has them."""
    return tuple((bytes.fromhex(key.id), gossip_key(key.material, cluster)) for key in keys)


def announcing(keys: Sequence[Key], cluster: str) -> tuple[str, ...]:
    """Return the discovery tags that a secret's keys make."""
    return tuple(discovery_tag(key.material, cluster).hex() for key in keys)


@dataclass(frozen=True, slots=True)
class FromSecret:
    """Material of who holds the secret; `path` is its file, if it has one."""

    data: bytes
    path: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """The secret's file."""
        return () if self.path is None else (self.path,)

    def secret(self) -> Secret:
        """Return the secret as it is now."""
        if self.path is None:
            return Secret.parse(self.data, "the secret that was given as bytes")
        return Secret.read(self.path)

    def name(self) -> str:
        """Return nothing: a process that issues its own certificate is named as it likes."""
        return ""

    def material(self, cluster: str, name: str, own: OwnKey, now: float) -> Material:
        """Issue a certificate, and believe all keys of the secret."""
        from .authority import Authority

        secret = self.secret()
        issued = {
            key.id: Authority(key, NODE).issue(own, cluster, name, now=now, ttl=LIFETIME)
            for key in {secret.signing, secret.oldest}
        }
        return Material(
            leaf=issued[secret.signing.id],
            for_clients=issued[secret.oldest.id],
            nodes=b"".join(Authority(key, NODE).certificate() for key in secret.keys),
            clients=b"".join(Authority(key, CLIENT).certificate() for key in secret.keys),
            gossip_keys=sealing(secret.keys, cluster),
            tags=announcing(secret.keys, cluster),
            signing=secret.signing.id,
            accepted=tuple(key.id for key in secret.keys),
            renew_at=now + LIFETIME / 2,
        )


@dataclass(frozen=True, slots=True)
class FromCredential:
    """Material of a node that was given a credential and not the secret."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The credential's file."""
        return (self.path,)

    def name(self) -> str:
        """Return the name that the credential was issued for."""
        return self._credential().identity.name

    def material(self, cluster: str, name: str, own: OwnKey, now: float) -> Material:
        """Present what the file holds."""
        credential = self._credential()
        if credential.identity.cluster != cluster:
            raise ConfigError(
                f"the credential {self.path} is for cluster {credential.identity.cluster!r}, and this node's is "
                f"{cluster!r}: give Node(cluster=…) the same name"
            )
        signing = credential.identity.signed_by or ""
        return Material(
            leaf=credential.leaf,
            for_clients=credential.leaf,
            nodes=credential.nodes,
            clients=credential.clients,
            gossip_keys=credential.gossip_keys,
            tags=credential.tags,
            signing=signing,
            accepted=tuple(key.hex() for key, _ in credential.gossip_keys),
            renew_at=float("inf"),
        )

    def _credential(self) -> Credential:
        credential = Credential.read(self.path)
        if credential.identity.role != NODE:
            raise ConfigError(
                f"the credential {self.path} is a client's, and a node cannot join with it: use ringcast.Client, or "
                "`ringcast secret issue --role node`"
            )
        return credential


class Certificates:
    """A certificate from an authority of your own: ``Node(tls=Certificates(ca=…, cert=…, key=…))``.

    The certificate needs one URI among its names, ``ringcast://CLUSTER/node/NAME``, and both purposes,
    client and server, if it names any. Processes that share it call themselves ``NAME.…``. The files
    are read again when they change. The cluster's secret is still needed: it seals the datagrams.
    """

    def __init__(self, *, ca: str | os.PathLike[str], cert: str | os.PathLike[str], key: str | os.PathLike[str]):
        """Take the paths of PEM files: authorities that are believed, the certificate (and chain), its key."""
        self.ca = Path(ca)
        self.cert = Path(cert)
        self.key = Path(key)

    def __repr__(self) -> str:
        """Return the call that makes it."""
        return f"Certificates(ca={str(self.ca)!r}, cert={str(self.cert)!r}, key={str(self.key)!r})"

    def read(self) -> tuple[bytes, Leaf, Identity]:
        """Return the authorities, the certificate with its key, and who it names.

        Raises:
            ConfigError: If a file cannot be read, the key is open to others, or they do not fit together.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

        try:
            authorities, chain = self.ca.read_bytes(), self.cert.read_bytes()
        except OSError as error:
            raise ConfigError(f"{self}: {error.filename} cannot be read: {error.strerror}") from error
        private = read_private(self.key, "the private key")
        try:
            x509.load_pem_x509_certificates(authorities)
            first = x509.load_pem_x509_certificates(chain)[0]
            fits = fingerprint(load_pem_private_key(private, None).public_key()) == fingerprint(first.public_key())
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self}: these are no PEM certificates and their key: {error}") from error
        if not fits:
            raise ConfigError(f"{self}: the key is not the certificate's")
        try:
            identity = identity_of(first.public_bytes(Encoding.DER))
        except HandshakeRefused as error:
            raise ConfigError(f"{self}: {error}") from error
        return authorities, Leaf(chain, private), identity


@dataclass(frozen=True, slots=True)
class FromCertificates:
    """Material of who has a certificate from an authority of its own."""

    certificates: Certificates
    secret: FromSecret

    @property
    def files(self) -> tuple[Path, ...]:
        """The certificates' files, and the secret's."""
        return (self.certificates.ca, self.certificates.cert, self.certificates.key, *self.secret.files)

    def name(self) -> str:
        """Return the name in the certificate."""
        return self.certificates.read()[2].name

    def material(self, cluster: str, name: str, own: OwnKey, now: float) -> Material:
        """Present the certificate; seal datagrams with the secret."""
        authorities, leaf, identity = self.certificates.read()
        if identity.cluster != cluster:
            raise ConfigError(
                f"{self.certificates}: the certificate is for cluster {identity.cluster!r}, and this node's is "
                f"{cluster!r}"
            )
        if not identity.speaks_for(name):
            raise ConfigError(f"{self.certificates}: the certificate is {identity}'s, and this node is {name}")
        keys = self.secret.secret().keys
        return Material(
            leaf=leaf,
            for_clients=leaf,
            nodes=authorities,
            clients=authorities,
            gossip_keys=sealing(keys, cluster),
            tags=announcing(keys, cluster),
            signing=keys[0].id,
            accepted=tuple(key.id for key in keys),
            renew_at=float("inf"),
        )
