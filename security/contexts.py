"""TLS as every connection of a node uses it: version 1.3, both sides verified, one named channel.

Sessions are never resumed: each connection proves anew who is there. Hosts' names are not compared,
for a node is who its certificate's URI says, wherever it runs; `Trust.peer` compares that.
"""

from __future__ import annotations

import os
import ssl
import tempfile

from .leaf import Leaf

__all__ = ["client_side", "server_side"]


def server_side(leaf: Leaf, believed: bytes, alpn: str) -> ssl.SSLContext:
    """Return the context of who is dialled; `believed` are certificates of authorities (PEM)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _made(context, leaf, believed, alpn)


def client_side(leaf: Leaf, believed: bytes, alpn: str) -> ssl.SSLContext:
    """Return the context of who dials."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _made(context, leaf, believed, alpn)


def _made(context: ssl.SSLContext, leaf: Leaf, believed: bytes, alpn: str) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols([alpn])
    context.load_verify_locations(cadata=believed.decode("ascii"))
    _load(context, leaf.certificate + leaf.key)
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Load what the ssl module takes from files only, without leaving a key on a disk where that is possible."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create("ringcast", os.MFD_CLOEXEC)
        try:
            os.write(handle, pem)
            context.load_cert_chain(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)
        return
    with tempfile.NamedTemporaryFile(prefix="ringcast-") as file:  # mode 0600
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
