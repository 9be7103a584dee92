"""An authority of one's own, as a company has it: made without ringcast."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ringcast.security.private import create_private


def certify(folder: Path, cluster: str, name: str) -> None:
    """Put the files ``ca``, ``cert`` and ``key`` of a node of that name into the folder."""
    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    company = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the company")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin, end = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=9)
    known = x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    authority = (
        x509.CertificateBuilder(company, company, root.public_key(), 1, begin, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_signs(True), critical=True)
        .add_extension(known, critical=False)
        .sign(root, SHA256())
    )
    uri = x509.UniformResourceIdentifier(f"ringcast://{cluster}/node/{name}")
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
    identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)
    certificate = (
        x509.CertificateBuilder(company, subject, own.public_key(), 2, begin, end)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(both, critical=False)
        .add_extension(identifier, critical=False)
        .sign(root, SHA256())
    )
    key = own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pems = {"ca": authority.public_bytes(Encoding.PEM), "cert": certificate.public_bytes(Encoding.PEM), "key": key}
    for file, pem in pems.items():
        create_private(folder / file, pem.decode())


def _signs(signs: bool) -> x509.KeyUsage:
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
