"""`Trust`: what one node, or one command, presents to others, and whom it believes.

It is used from both threads of a node. What changes (a secret's file, a certificate that grows old)
is replaced as a whole by `refresh`; whoever reads gets the old or the new, never a mixture.

A connection is believed in three steps: TLS 1.3 has verified the certificate against the authorities;
`peer` has found the right channel, role and cluster in it; and whoever uses the connection compares
the identity with the node that was dialled, with the hello, and with the key that the membership has
pinned for that member.
"""

from __future__ import annotations

import os
import ssl
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ringcast.errors import ConfigError, HandshakeRefused
from ringcast.logger import get_logger

from .channels import ALPN, CLIENTS
from .contexts import client_side, server_side
from .credential import is_credential
from .identity import CLIENT, NODE, Identity, identity_of
from .material import Certificates, FromCertificates, FromCredential, FromSecret, Material, Origin
from .secret import Where, find_secret

__all__ = ["Trust", "admitted", "explained"]


class Trust:
    """What one process presents, and whom it believes.

    Attributes:
        node_id: The id of the node that this is for.
        cluster: The cluster's name.
        is_encrypted: Whether connections use TLS; False only with ``Node(tls=False)`` on the loopback.
        is_named: Whether somebody gave a secret; the one made for this user is for the loopback only.
    """

    def __init__(
        self,
        origin: Origin,
        cluster: str,
        node_id: str | None = None,
        *,
        is_encrypted: bool = True,
        is_named: bool = True,
        unique: str | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """Read and derive everything.

        Args:
            origin: What the certificate is made of.
            cluster: The cluster's name.
            node_id: The whole id of the node; by default it is made of the name in its credential, if there is
                one, and of `unique`.
            is_encrypted: Whether connections use TLS.
            is_named: Whether somebody gave a secret.
            unique: What no other node's id has, in hexadecimal; made up by default.
            clock: Tells seconds since 1970; `time.time` by default.

        Raises:
            ConfigError: If something is there that cannot be used.
        """
        self.cluster = cluster
        self.is_encrypted = is_encrypted
        self.is_named = is_named
        self._origin = origin
        self._clock = clock if clock is not None else time.time  # looked up here, so that it can be a simulated one
        from .authority import OwnKey

        self._own = OwnKey()
        name = origin.name()
        own = unique if unique is not None else uuid.uuid4().hex[:12]
        self.node_id = node_id or (own if name in ("", "*") else f"{name}.{own}")
        self._seen = _signature(origin.files)
        self._contexts: dict[tuple[bytes, bool], ssl.SSLContext] = {}
        self._material = origin.material(cluster, self.node_id, self._own, self._clock())
        self.key = _key_of(self._material)
        self._log = get_logger("ringcast").bind(node=self.node_id)

    @classmethod
    def found(
        cls,
        secret: Where | None,
        cluster: str,
        *,
        tls: Certificates | bool | None = None,
        node_id: str | None = None,
        unique: str | None = None,
    ) -> Trust:
        """Return the trust that a node's options and the environment describe.

        Args:
            secret: See `find_secret`; may be a credential for a node.
            cluster: The cluster's name.
            tls: `Certificates` of an authority of your own; False for connections without TLS.
            node_id: The node's id; made up by default.
            unique: What is kept of the id from one start to the next, where something is.

        Raises:
            ConfigError: If something is there that cannot be used.
        """
        if tls not in (None, True, False) and not isinstance(tls, Certificates):
            raise ConfigError(f"tls={tls!r}: it takes Certificates(ca=…, cert=…, key=…), or False on the loopback")
        data, path, is_named = find_secret(secret)
        origin: Origin
        if is_credential(data):
            if path is None:
                raise ConfigError("a credential is given as a file: Node(secret='path')")
            if isinstance(tls, Certificates):
                raise ConfigError(f"{path} is a credential, with a certificate of its own: tls=… would be another")
            origin = FromCredential(path)
        else:
            origin = FromSecret(data, path)
            if isinstance(tls, Certificates):
                origin = FromCertificates(tls, origin)
        return cls(origin, cluster, node_id, is_encrypted=tls is not False, is_named=is_named, unique=unique)

    def __repr__(self) -> str:
        """Show whom it is for, and no secrets."""
        return f"<Trust of node {self.node_id} of cluster {self.cluster!r}, key {self._material.signing}>"

    @property
    def gossip_keys(self) -> tuple[tuple[bytes, bytes], ...]:
        """Ids (4 bytes) and keys (32 bytes) of datagrams; the first seals, all open."""
        return self._material.gossip_keys

    @property
    def tags(self) -> tuple[str, ...]:
        """What is announced (the first) and looked for (all)."""
        return self._material.tags

    @property
    def signing(self) -> str:
        """The id of the secret's key with which this node signs."""
        return self._material.signing

    @property
    def accepted(self) -> tuple[str, ...]:
        """The ids of all keys of the secret that this node believes."""
        return self._material.accepted

    @property
    def node_authorities(self) -> bytes:
        """The authorities whose nodes are believed (PEM): what a client is told when they change."""
        return self._material.nodes

    def accepts(self, identity: Identity) -> bool:
        """Return whether an identity that was believed once is still signed by a key that is."""
        if isinstance(self._origin, FromCertificates):
            return True  # an authority of your own may be named as it likes, even as ours are
        return identity.signed_by is None or identity.signed_by in self._material.accepted

    def is_over(self, identity: Identity) -> bool:
        """Return whether the credential of a limited node has ended; others renew theirs, and stay connected."""
        return identity.allow is not None and self._clock() > identity.until

    # ---- TLS -----------------------------------------------------------------------------------

    def serving(self, channel: bytes) -> ssl.SSLContext | None:
        """Return the context for connections that others dialled; None without TLS."""
        return self._context(channel, serves=True) if self.is_encrypted else None

    def dialling(self, channel: bytes) -> ssl.SSLContext | None:
        """Return the context for connections that this node dials; None without TLS."""
        return self._context(channel, serves=False) if self.is_encrypted else None

    def _context(self, channel: bytes, *, serves: bool) -> ssl.SSLContext:
        contexts, material = self._contexts, self._material
        context = contexts.get((channel, serves))
        if context is None:
            leaf = material.for_clients if channel == CLIENTS else material.leaf
            believed = material.clients if channel == CLIENTS and serves else material.nodes
            context = (server_side if serves else client_side)(leaf, believed, ALPN[channel])
            contexts[channel, serves] = context
        return context

    def peer(self, connection: ssl.SSLObject | ssl.SSLSocket, channel: bytes, expected: str | None = None) -> Identity:
        """Return who is at the other end of a connection whose TLS handshake is done.

        Args:
            connection: What the transport has as ``ssl_object``.
            channel: What the connection is for.
            expected: The id of the node that was dialled; None where others dialled.

        Raises:
            HandshakeRefused: Naming both sides' values.
        """
        agreed = connection.selected_alpn_protocol()
        if agreed != ALPN[channel]:
            raise HandshakeRefused(f"the TLS handshake was about {agreed!r}, and this connection is {ALPN[channel]!r}")
        der = connection.getpeercert(True)
        if der is None:
            raise HandshakeRefused("it has shown no certificate")
        return admitted(der, channel, self.cluster, expected)

    # ---- change ----------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Read files that have changed, and renew a certificate that grows old.

        What is wrong with a file is logged, and what was there stays in force.

        Returns:
            Whether something is new.
        """
        now, seen = self._clock(), _signature(self._origin.files)
        if seen == self._seen and now < self._material.renew_at:
            return False
        self._seen = seen
        try:
            material = self._origin.material(self.cluster, self.node_id, self._own, now)
        except ConfigError as error:
            self._log.error("a file has changed and is wrong: what was in it stays in force", reason=str(error))
            return False
        if _key_of(material) != self.key:
            self._log.error(
                "the certificate now has another private key, and members know this node by the old one, which stays "
                "in use: restart the node, or renew the file with the same key (`ringcast secret issue --out FILE`)"
            )
            return False
        changed = material.accepted != self._material.accepted or material.signing != self._material.signing
        self._material, self._contexts = material, {}
        what = "the keys of the secret have changed" if changed else "certificate renewed"
        self._log.info(what, signs=self.signing, accepts=self.accepted)
        return True


def admitted(der: bytes, channel: bytes, cluster: str, expected: str | None = None) -> Identity:
    """Return the identity in a verified certificate, if it fits the channel and the cluster.

    Raises:
        HandshakeRefused: Naming both sides' values.
    """
    identity = identity_of(der)
    wanted = CLIENT if channel == CLIENTS and expected is None else NODE
    if identity.role != wanted:
        raise HandshakeRefused(f"it is {identity}, and only a {wanted} has business here")
    if identity.cluster != cluster:
        raise HandshakeRefused(
            f"it is {identity}, and this is cluster {cluster!r}: give both the same cluster name, or keep them apart"
        )
    if expected is not None and not identity.speaks_for(expected):
        raise HandshakeRefused(f"node {expected} was dialled, and {identity} answered: its address was reused")
    return identity


def explained(error: BaseException) -> str:
    """Return what an error of a TLS handshake, or right after it, means in words, and what to do."""
    text = str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        match error.verify_code:
            case 10:
                return "its certificate has expired: is a clock wrong, or a credential to be issued anew?"
            case 9:
                return "its certificate is not valid yet: a clock is wrong by more than an hour"
            case _:
                return f"it has another secret, or none of this cluster ({error.verify_message})"
    for mark, meaning in _MEANINGS.items():
        if mark in text:
            return meaning
    return text or type(error).__name__


_MEANINGS = {
    "UNKNOWN_CA": "it refuses this side's certificate: it has another secret",
    "CERTIFICATE_EXPIRED": "it refuses this side's certificate, which has expired there: compare the clocks",
    "BAD_CERTIFICATE": "it refuses this side's certificate",
    "CERTIFICATE_REQUIRED": "it wants a certificate, and this side has shown none",
    "UNSUPPORTED_CERTIFICATE": "it refuses this side's certificate, which is for another purpose",
    "NO_APPLICATION_PROTOCOL": "it does not speak this protocol",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: is it another program, or a node with tls=False?",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "PROTOCOL_VERSION": "it does not speak TLS 1.3",
}
"""What OpenSSL's names of alerts and errors mean here."""


def _key_of(material: Material) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    certificate = x509.load_pem_x509_certificate(material.leaf.certificate)
    return identity_of(certificate.public_bytes(Encoding.DER)).key


def _signature(files: tuple[Path, ...]) -> tuple[object, ...]:
    """Return what changes when a file does."""

    def one(path: Path) -> object:
        try:
            found = os.stat(path)
        except OSError as error:
            return error.errno
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode

    return tuple(one(path) for path in files)
