"""Credentials: what `ringcast secret issue` hands to those who are not to have the secret.

One file of PEM blocks: a certificate, its key, and the authorities to believe. A client's opens
connections to members and nothing else. A limited node's also holds the keys that seal datagrams,
for it takes part in the membership; it cannot issue certificates, and may call what it allows.
"""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ringcast.errors import ConfigError, HandshakeRefused
from ringcast.values import dataclass

from .channels import ALPN, CLIENTS
from .contexts import client_side
from .identity import CLIENT, NAME_MAX, NODE, PATTERNS_MAX, Identity, Role, fingerprint, identity_of
from .keys import discovery_tag, gossip_key
from .leaf import Leaf
from .private import read_private
from .secret import Secret

__all__ = ["Credential", "is_credential", "issue"]

_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----\n(.*?)-----END \1-----\n?", re.DOTALL)
_GOSSIP = "RINGCAST GOSSIP KEY"


def is_credential(data: bytes) -> bool:
    """Return whether a file's bytes are a credential, and not a secret."""
    return b"-----BEGIN " in data


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate with its key, and whom its holder is to believe.

    Attributes:
        identity: Who it makes its holder.
        until: When it ends, in seconds since 1970.
        leaf: The certificate and its key.
        nodes: The authorities whose nodes are believed (PEM).
        clients: For a node: the authorities whose clients are believed.
        gossip_keys: For a node: what seals datagrams.
        tags: For a node: what is announced.
    """

    identity: Identity
    until: float
    leaf: Leaf
    nodes: bytes
    clients: bytes = b""
    gossip_keys: tuple[tuple[bytes, bytes], ...] = ()
    tags: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Credential:
        """Return the credential in a file.

        Raises:
            ConfigError: If it cannot be read, others may read it, or it is none.
        """
        return cls.parse(read_private(path, "the credential"), f"the credential {path}")

    @classmethod
    def parse(cls, data: bytes, what: str) -> Credential:
        """Return the credential in these bytes; `what` is what errors call it.

        Raises:
            ConfigError: If they are none.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

        blocks = [(match[1].decode(), match[0], match[2]) for match in _BLOCK.finditer(data)]
        certificates = [block for label, block, _ in blocks if label == "CERTIFICATE"]
        keys = [block for label, block, _ in blocks if label == "PRIVATE KEY"]
        try:
            if len(keys) != 1 or len(certificates) < 2:
                raise ValueError(f"{len(certificates)} certificates and {len(keys)} keys stand in it")
            leaf = x509.load_pem_x509_certificate(certificates[0])
            if fingerprint(load_pem_private_key(keys[0], None).public_key()) != fingerprint(leaf.public_key()):
                raise ValueError("the key is not the certificate's")
            identity = identity_of(leaf.public_bytes(Encoding.DER))
            by_role: dict[str, list[bytes]] = {NODE: [], CLIENT: []}
            for pem in certificates[1:]:
                subject = x509.load_pem_x509_certificate(pem).subject.rfc4514_string()
                by_role[CLIENT if " client authority " in subject else NODE].append(pem)
            sealing = tuple(_sealing(base64.b64decode(body)) for label, _, body in blocks if label == _GOSSIP)
        except (ValueError, TypeError, HandshakeRefused) as error:
            raise ConfigError(f"{what} is no credential ({error}); `ringcast secret issue` makes one") from error
        return cls(
            identity,
            leaf.not_valid_after_utc.timestamp(),
            Leaf(certificates[0], keys[0]),
            b"".join(by_role[NODE]),
            b"".join(by_role[CLIENT]),
            tuple((key_id, key) for key_id, key, _ in sealing),
            tuple(tag.hex() for _, _, tag in sealing),
        )

    def render(self) -> str:
        """Return the text of a file that holds this credential."""
        until = datetime.fromtimestamp(self.until, UTC).isoformat(timespec="seconds")
        allow = "everything" if self.identity.allow is None else ", ".join(self.identity.allow)
        sealing = b"".join(
            _block(_GOSSIP, key_id + key + bytes.fromhex(tag))
            for (key_id, key), tag in zip(self.gossip_keys, self.tags, strict=True)
        )
        blocks = self.leaf.certificate + self.leaf.key + self.nodes + self.clients + sealing
        return f"# ringcast credential of {self.identity}, until {until}; it may call {allow}\n{blocks.decode()}"

    def dialling(self) -> ssl.SSLContext:
        """Return the context with which a client dials nodes."""
        return client_side(self.leaf, self.nodes, ALPN[CLIENTS])

    def learned(self, nodes: bytes) -> Credential:
        """Return a credential that believes these authorities for nodes (PEM), as a trusted node has told."""
        from cryptography import x509

        x509.load_pem_x509_certificates(nodes)
        return replace(self, nodes=nodes)


def issue(
    secret: Secret,
    cluster: str,
    role: Role,
    name: str,
    *,
    now: float,
    ttl: float,
    allow: Sequence[str] | None = None,
    renewed: Credential | None = None,
) -> Credential:
    """Make a credential.

    Args:
        secret: The cluster's.
        cluster: Where it is valid.
        role: ``client`` or ``node``.
        name: Its holder's name; shown in logs and to `authorize`.
        now: Seconds since 1970.
        ttl: Seconds for which it is valid.
        allow: Patterns of ``Class.method`` that it may call; None for all that its role may.
        renewed: A credential whose key to keep, so that a node that runs with it can go on.

    Raises:
        ConfigError: If the name or a pattern is none.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from .authority import Authority, OwnKey

    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{NAME_MAX - 21}}}", name):
        raise ConfigError(f"name {name!r}: it takes letters, digits, - and _, at most {NAME_MAX - 20}")
    if allow is not None and (len(allow) > PATTERNS_MAX or not all(0 < len(pattern) <= 200 for pattern in allow)):
        raise ConfigError(f"allow={allow!r}: it takes at most {PATTERNS_MAX} patterns such as 'Cart.*'")
    own = OwnKey(None if renewed is None else renewed.leaf.key)
    leaf = Authority(secret.signing, role).issue(own, cluster, name, now=now, ttl=ttl, allow=allow)
    der = x509.load_pem_x509_certificate(leaf.certificate).public_bytes(Encoding.DER)
    credential = Credential(
        identity_of(der),
        now + ttl,
        leaf,
        b"".join(Authority(key, NODE).certificate() for key in secret.keys),
    )
    if role == CLIENT:
        return credential
    return replace(
        credential,
        clients=b"".join(Authority(key, CLIENT).certificate() for key in secret.keys),
        gossip_keys=tuple((bytes.fromhex(key.id), gossip_key(key.material, cluster)) for key in secret.keys),
        tags=tuple(discovery_tag(key.material, cluster).hex() for key in secret.keys),
    )


def _block(label: str, data: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.b64encode(data).decode()}\n-----END {label}-----\n".encode()


def _sealing(data: bytes) -> tuple[bytes, bytes, bytes]:
    if len(data) != 4 + 32 + 16:
        raise ValueError("a gossip key in it was cut off")
    return data[:4], data[4:36], data[36:]
