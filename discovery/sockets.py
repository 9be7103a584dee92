"""A node's sockets: TCP and UDP on one port, the address that others dial, and dialling them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from ipaddress import ip_address

from ringcast.errors import ConfigError
from ringcast.values import dataclass

from .address import ListenOn, is_wildcard, join_address, split_address

__all__ = ["Bound", "advertised_address", "bind", "connected", "fail_fast", "stay"]

_BACKLOG = 1024
"""A cluster that starts at once dials everyone at once; none of it may be dropped."""

_FREE_PORT_TRIES = 32

_UNACKNOWLEDGED_MS_MAX = 5000
"""The kernel drops a connection whose data stays unacknowledged: a half-open one must not swallow
frames for the quarter of an hour that TCP would try."""

_IDLE_SECONDS = 30
"""After so long without a word the kernel asks whether the other end is there: a machine that lost its
power says no goodbye, and its connections must not stay for ever."""


_PATIENCE_MS = 24 * 3600 * 1000
"""A connection that is kept for what its end will prove stays for so long without a word."""

_QUESTION_SECONDS = 2
"""How often the kernel asks meanwhile: a machine that is back without the process answers with a reset."""


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
    with socket.socket(bound.udp.family, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect((outside, 9))
        return str(probe.getsockname()[0])
    # There is no way to elsewhere: a network of its own.
    for host in _interface_hosts(bound.udp.family):
        return host
    raise ConfigError(
        f"listening on {bound.host}, but this machine has no address beyond the loopback; "
        "give advertise='host' with the address by which other nodes reach this one"
    )


def _interface_hosts(family: socket.AddressFamily) -> list[str]:
    """Return this machine's addresses that others on its networks can dial."""
    import ifaddr  # comes with zeroconf; needed where there is no route to elsewhere only

    hosts = [
        ip_address(str(found.ip[0] if found.is_IPv6 else found.ip))
        for adapter in ifaddr.get_adapters()
        for found in adapter.ips
    ]
    wanted = 6 if family is socket.AF_INET6 else 4
    return [str(host) for host in hosts if host.version == wanted and not host.is_loopback and not host.is_link_local]


async def connected(address: str) -> socket.socket:
    """Return a non-blocking socket that is connected to the address: to the first of its host's that answers.

    Sets no limit of time; may be cancelled.

    Raises:
        ConnectionRefusedError: If nobody listens at any of them, which is evidence.
        OSError: If there is no connection for another reason, too.
        ValueError: If it is no address.
    """
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    trouble: OSError | None = None
    for family, kind, protocol, _, where in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            await loop.sock_connect(connection, where)
        except OSError as error:
            connection.close()
            if trouble is None or isinstance(trouble, ConnectionRefusedError):
                trouble = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise trouble or OSError(f"{host!r} has no address")


def fail_fast(connection: socket.socket) -> None:
    """See that small frames leave at once, and that a connection to nobody ends soon."""
    _set_limits(connection, _UNACKNOWLEDGED_MS_MAX, _IDLE_SECONDS, 1)


def stay(connection: socket.socket) -> None:
    """See that a connection outlasts silence, and that a reset is noticed as soon as one can come."""
    _set_limits(connection, _PATIENCE_MS, _QUESTION_SECONDS, _QUESTION_SECONDS)


def _set_limits(connection: socket.socket, unacknowledged_ms: int, idle: int, interval: int) -> None:
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; it also says when unanswered questions are enough
        options += [
            (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unacknowledged_ms),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval),
        ]
    for level, name, value in [*options, (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]:
        with contextlib.suppress(OSError):  # it may have been reset already, which shows soon enough
            connection.setsockopt(level, name, value)
