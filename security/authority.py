"""The authorities that sign certificates: made from the secret, so that every node is one.

No authority's key is ever stored or sent: whoever holds the secret computes it, and the
certificate of the authority, too, which is the same everywhere, bit by bit (Ed25519 signatures are
deterministic). There is one for members and another for clients: a client's credential is worth
nothing where a node is expected.

References:
    RFC 8410 (Ed25519 in X.509), RFC 5280 (the profile).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ringcast.errors import ConfigError

from .identity import ALLOWED, NODE, Role, identity_uri, signer_name
from .keys import authority_seed
from .leaf import Leaf
from .secret import Key

__all__ = ["Authority", "Leaf", "OwnKey"]

_SKEW = 3600.0
"""Seconds by which a certificate is dated back: the clocks of two machines differ."""

_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_UNTIL = datetime(2120, 1, 1, tzinfo=UTC)


class OwnKey:
    """The private key of who holds a certificate; that of a node is made at each start and kept in memory."""

    def __init__(self, pem: bytes | None = None) -> None:
        """Make one, or take the one that is given."""
        key = Ed25519PrivateKey.generate() if pem is None else load_pem_private_key(pem, None)
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError("the private key is not of the kind that ringcast issues (Ed25519)")
        self.private = key

    def pem(self) -> bytes:
        """Return it as text."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Authority:
    """Signs certificates of one role with what one key of the secret makes."""

    def __init__(self, key: Key, role: Role) -> None:
        """Compute it."""
        self.role: Role = role
        self.key_id = key.id
        self._private = Ed25519PrivateKey.from_private_bytes(authority_seed(key.material, role))
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, signer_name(role, key.id))])
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._private.public_key())

    def certificate(self) -> bytes:
        """Return the authority's own certificate (PEM), for those who are to believe it."""
        public = self._private.public_key()
        builder = (
            x509.CertificateBuilder(self._name, self._name, public, 1, _FROM, _UNTIL)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(self._identifier, critical=False)
        )
        return builder.sign(self._private, None).public_bytes(Encoding.PEM)

    def issue(
        self, own: OwnKey, cluster: str, name: str, *, now: float, ttl: float, allow: Sequence[str] | None = None
    ) -> Leaf:
        """Sign a certificate.

        Args:
            own: The holder's key.
            cluster: The cluster in which it is valid.
            name: The holder's name.
            now: Seconds since 1970.
            ttl: Seconds for which it is valid; may be negative in tests of what has expired.
            allow: Patterns of ``Class.method`` that the holder may call; None: all that its role may.
        """
        public = own.private.public_key()
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if self.role == NODE:
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        from_, until = datetime.fromtimestamp(now - _SKEW, UTC), datetime.fromtimestamp(now + ttl, UTC)
        from_ = min(from_, until - timedelta(seconds=1))
        uri = x509.UniformResourceIdentifier(identity_uri(cluster, self.role, name))
        shown = f"{self.role} {name}".encode()[:64].decode(errors="ignore")  # X.509 counts bytes
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, shown)])
        builder = (
            x509.CertificateBuilder(self._name, subject, public, x509.random_serial_number(), from_, until)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), False)
        )
        if allow is not None:
            patterns = json.dumps(list(allow)).encode()
            builder = builder.add_extension(
                x509.UnrecognizedExtension(x509.ObjectIdentifier(ALLOWED), patterns), critical=False
            )
        return Leaf(builder.sign(self._private, None).public_bytes(Encoding.PEM), own.pem())


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )
