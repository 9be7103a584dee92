"""Who is at the other end of a connection: what its certificate says.

A certificate names its holder with a URI: ``ringcast://shop/node/3f2a…`` is the node 3f2a… of the
cluster shop, ``ringcast://shop/client/web`` a client. A name speaks for itself and for whatever
follows it after a dot, so that a certificate from an authority of your own, made once for a
machine, serves each process there: ``web-1`` speaks for ``web-1.3f2a``. The name ``*`` speaks for any.
There is one way to write an identity, and others are refused: what an authority has read is what nodes read.

A certificate may be limited: an extension lists what its holder may call, as patterns of
``Class.method``. Others may do everything that their role may.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, cast
from urllib.parse import quote, unquote

from ringcast.errors import HandshakeRefused
from ringcast.values import dataclass

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

__all__ = ["ALLOWED", "CLIENT", "NODE", "Identity", "Role", "fingerprint", "identity_of", "identity_uri", "signer_name"]

Role = Literal["node", "client"]
NODE: Role = "node"
CLIENT: Role = "client"

ALLOWED = "2.25.298331046870194421"
"""The extension (its object identifier) that lists what the holder may call: a JSON list of patterns."""

NAME_MAX = 100
PATTERNS_MAX = 100

LIMITED_MAX = 64
"""Nodes of one limited credential that another keeps a connection with, on each channel: it speaks for any number."""

_SIGNER = re.compile(r"ringcast (node|client) authority ([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who has proved to hold a certificate.

    Attributes:
        role: ``node`` or ``client``.
        cluster: The cluster's name.
        name: The holder's name.
        key: 32 bytes that the membership pins for a member: SHA-256 of the public key; with an authority
            of your own, which may renew keys as it likes, SHA-256 of the URI.
        allow: Patterns of ``Class.method`` that it may call; None: all that its role may.
        signed_by: The id of the secret's key whose authority signed; None for an authority of your own.
        until: When the certificate ends, in seconds since 1970, as far as that is known.
    """

    role: Role
    cluster: str
    name: str
    key: bytes
    allow: tuple[str, ...] | None = None
    signed_by: str | None = None
    until: float = field(default=float("inf"), compare=False, repr=False)

    def __str__(self) -> str:
        """Return what errors call it."""
        return f"{self.role} {self.name} of cluster {self.cluster!r}"

    def speaks_for(self, node_id: str) -> bool:
        """Return whether a node of this id may present this certificate."""
        return self.role == NODE and (self.name in ("*", node_id) or node_id.startswith(f"{self.name}."))

    def may(self, class_name: str, method: str) -> bool:
        """Return whether the certificate allows a call; `class_name` as on the wire, ``shop.carts:Cart``."""
        if self.allow is None:
            return True
        full = f"{class_name}.{method}"
        short = f"{class_name.rpartition(':')[2].partition('@')[0]}.{method}"
        return any(fnmatchcase(short, pattern) or fnmatchcase(full, pattern) for pattern in self.allow)


def identity_uri(cluster: str, role: Role, name: str) -> str:
    """Return the URI that names the holder of a certificate."""
    return f"ringcast://{quote(cluster, safe='')}/{role}/{quote(name, safe='*')}"


def signer_name(role: Role, key_id: str) -> str:
    """Return the name of the authority that a key of the secret makes."""
    return f"ringcast {role} authority {key_id}"


def fingerprint(key: PublicKeyTypes) -> bytes:
    """Return SHA-256 of a public key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def identity_of(der: bytes) -> Identity:
    """Return the identity in a certificate whose signature was verified.

    Raises:
        HandshakeRefused: If it names nobody of any cluster, or several.
    """
    from cryptography import x509

    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        ours = [uri for uri in names.get_values_for_type(x509.UniformResourceIdentifier) if uri.startswith("ringcast:")]
        key, until = certificate.public_key(), certificate.not_valid_after_utc.timestamp()
        allow = _allowed(certificate)
        signer = [str(part.value) for part in certificate.issuer.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    except Exception as error:  # the parser's errors are of many kinds, and all mean the same
        raise HandshakeRefused(f"its certificate cannot be read: {error}") from error
    if len(ours) != 1:
        raise HandshakeRefused(
            f"its certificate has {len(ours)} names of the form ringcast://CLUSTER/node/NAME; it needs one"
        )
    role, cluster, name = _parts(ours[0])
    match = _SIGNER.fullmatch(signer[0]) if len(signer) == 1 else None
    if match is None:
        return Identity(role, cluster, name, hashlib.sha256(ours[0].encode()).digest(), allow, until=until)
    return Identity(role, cluster, name, fingerprint(key), allow, match[2], until)


def _parts(uri: str) -> tuple[Role, str, str]:
    match = re.fullmatch(r"ringcast://([^/]+)/(node|client)/([^/]+)", uri)
    if match is None:
        raise HandshakeRefused(f"its certificate names {uri[:200]!r}, not ringcast://CLUSTER/node/NAME")
    role: Role = NODE if match[2] == NODE else CLIENT
    cluster, name = unquote(match[1]), unquote(match[3])
    if len(name) > NAME_MAX or not (cluster + name).isprintable():
        raise HandshakeRefused(f"its certificate names {uri[:200]!r}: a name has {NAME_MAX} characters to read at most")
    if identity_uri(cluster, role, name) != uri:
        raise HandshakeRefused(
            f"its certificate names {uri[:200]!r}, which is written {identity_uri(cluster, role, name)[:200]!r}"
        )
    return role, cluster, name


def _allowed(certificate: x509.Certificate) -> tuple[str, ...] | None:
    from cryptography import x509

    try:
        extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(ALLOWED)).value
    except x509.ExtensionNotFound:
        return None
    assert isinstance(extension, x509.UnrecognizedExtension)
    patterns: object = json.loads(extension.value)
    if not isinstance(patterns, list):
        raise ValueError("what it allows is no list")
    found = tuple(pattern for pattern in cast("list[object]", patterns) if isinstance(pattern, str))
    if len(found) != len(cast("list[object]", patterns)) or len(found) > PATTERNS_MAX:
        raise ValueError("what it allows are no patterns, or too many")
    return found
