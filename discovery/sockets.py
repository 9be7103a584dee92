"""A node's two sockets: TCP and UDP on the same port, and the address that others dial."""

from __future__ import annotations

import contextlib
import errno
import socket
from dataclasses import dataclass

from ringcast.errors import ConfigError

from .address import ListenOn, is_wildcard, join_address, split_address

__all__ = ["Bound", "advertised_address", "bind"]

_BACKLOG = 1024
"""A cluster that starts at once dials everyone at once; none of it may be dropped."""

_FREE_PORT_TRIES = 32


@dataclass(frozen=True, slots=True)
class Bound:
    """A listening TCP socket and a UDP socket, both non-blocking, on one port.

    Attributes:
        tcp: Listens.
        udp: Is bound, not connected.
        host: The address of the interface, as an IP literal; may be a wildcard.
        port: The port of both.
    """

    tcp: socket.socket
    udp: socket.socket
    host: str
    port: int

    def close(self) -> None:
        """Close both."""
        self.tcp.close()
        self.udp.close()


def bind(listen: str) -> Bound:
    """Bind where `listen` says; may block on a name service.

    Raises:
        ConfigError: If `listen` cannot be read, its host is not of this machine, or every
            port that it names is in use.
    """
    where = ListenOn.parse(listen)
    try:
        found = socket.getaddrinfo(where.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"listen={listen!r}: the host cannot be resolved ({error})") from error
    family, host = found[0][0], str(found[0][4][0])
    # The kernel gives a port that TCP has free; UDP may have it in use, so ask again.
    ports = [0] * _FREE_PORT_TRIES if where.first_port == 0 else where.ports
    reason = ""
    for port in ports:
        try:
            return _bind_both(family, host, port)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ConfigError(f"listen={listen!r}: cannot listen there ({error})") from error
            reason = str(error.strerror)
    raise ConfigError(
        f"listen={listen!r}: every port it names is in use or not allowed ({reason}); "
        "takes 'host:0' for any free port or 'host:first-last' for the first free one"
    )


def _bind_both(family: socket.AddressFamily, host: str, port: int) -> Bound:
    with contextlib.ExitStack() as undo:
        tcp = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
        # Only lets a port be taken whose old connections linger; it never shares a listener.
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.bind((host, port))
        port = int(tcp.getsockname()[1])
        udp = undo.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        udp.bind((host, port))
        tcp.listen(_BACKLOG)
        tcp.setblocking(False)
        udp.setblocking(False)
        undo.pop_all()
        return Bound(tcp, udp, host, port)


def advertised_address(bound: Bound, advertise: str | None) -> str:
    """Return the address that others are to dial.

    Args:
        bound: Where this node listens.
        advertise: What the user says, ``"host"`` or ``"host:port"``; None to find out.

    Raises:
        ConfigError: If it is a wildcard, cannot be read, or cannot be found out.
    """
    if advertise is None:
        host = _outgoing_host(bound) if is_wildcard(bound.host) else bound.host
        return join_address(host, bound.port)
    takes = "takes the 'host' or 'host:port' by which other nodes reach this one"
    text = advertise if ":" in advertise else f"{advertise}:{bound.port}"
    try:
        host, port = split_address(text)
    except ValueError as error:
        raise ConfigError(f"advertise={advertise!r}: {error}; {takes}") from error
    if is_wildcard(host):
        raise ConfigError(f"advertise={advertise!r} is no address that can be dialled; {takes}")
    return join_address(host, port or bound.port)


def _outgoing_host(bound: Bound) -> str:
    """Return this machine's address on the way to elsewhere; connecting UDP sends nothing."""
    outside = "2001:db8::1" if bound.udp.family is socket.AF_INET6 else "192.0.2.1"
    with socket.socket(bound.udp.family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((outside, 9))
        except OSError as error:
            raise ConfigError(
                f"listening on {bound.host}, but no address of this machine can be found out ({error}); "
                "give advertise='host' with the address by which other nodes reach this one"
            ) from error
        return str(probe.getsockname()[0])
