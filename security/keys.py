"""What is derived from one key of the cluster's secret: HKDF-SHA256, a label for each purpose.

Nothing that leaves a node tells anything about the key itself, and what serves one purpose tells
nothing about another's.

    authority for nodes     signs the certificates of members
    authority for clients   signs credentials of processes that are no members
    gossip key              seals datagrams; one for each cluster's name
    discovery tag           is announced; says "the same secret and cluster" to who knows both
    key id                  names the key where several are in use

References:
    RFC 5869 (HKDF).
"""

from __future__ import annotations

__all__ = ["authority_seed", "derived", "discovery_tag", "gossip_key", "key_id"]

_SALT = b"ringcast secret 1"


def derived(material: bytes, purpose: str, length: int = 32) -> bytes:
    """Return `length` bytes for a purpose; the same for the same key and purpose, everywhere."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), length, salt=_SALT, info=purpose.encode()).derive(material)


def key_id(material: bytes) -> str:
    """Return the eight hex digits that name a key."""
    return derived(material, "key id", 4).hex()


def authority_seed(material: bytes, role: str) -> bytes:
    """Return the private Ed25519 key of the authority for ``node`` or ``client`` certificates."""
    return derived(material, f"authority {role}")


def gossip_key(material: bytes, cluster: str) -> bytes:
    """Return the 32 bytes from which the keys of a cluster's datagrams are made."""
    return derived(material, f"gossip {cluster}")


def discovery_tag(material: bytes, cluster: str) -> bytes:
    """Return the 16 bytes that nodes of one secret and cluster announce."""
    return derived(material, f"discovery {cluster}", 16)
