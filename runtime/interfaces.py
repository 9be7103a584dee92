"""This machine's network interfaces, and whether multicast DNS works on each: it is tried, not guessed.

Trying is what zeroconf does: join the group 224.0.0.251 on the interface, and send a question for our
service there. Whoever has joined hears it, the sender too; where it does not come back nothing that a
node announces would be heard either.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct

import ifaddr

from ringcast.values import dataclass

from ..discovery.multicast import SERVICE_TYPE

__all__ = ["ECHO", "Interface", "interfaces", "multicast_fails"]

GROUP = "224.0.0.251"
PORT = 5353
ECHO = 1.0
"""Seconds for an own question to come back."""
_TRIES = 3
_PTR, _IN = 12, 1


@dataclass(frozen=True, slots=True)
class Interface:
    """One IPv4 address of this machine.

    Attributes:
        name: The interface's name, such as ``eth0``.
        address: The address.
    """

    name: str
    address: str


def interfaces() -> list[Interface]:
    """Return the IPv4 addresses of this machine; zeroconf uses no others."""
    return [
        Interface(adapter.name, str(ip.ip)) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4
    ]


async def multicast_fails(address: str, limit: float = ECHO) -> str | None:
    """Return why multicast DNS does not work on the interface with this address, or None if it does.

    Args:
        address: An IPv4 address.
        limit: Seconds for the question to come back.
    """
    loop = asyncio.get_running_loop()
    question = _question(os.urandom(2))
    with contextlib.ExitStack() as closing:
        try:
            listener = closing.enter_context(_listener(address))
            sender = closing.enter_context(_sender(address))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit):
                    for _ in range(_TRIES):
                        sender.sendto(question, (GROUP, PORT))
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(limit / _TRIES):
                                while await loop.sock_recv(listener, 2048) != question:
                                    pass
                                return None
        except OSError as error:
            return error.strerror or str(error)
    return f"a question that was sent to {GROUP} there did not come back"


def _listener(address: str) -> socket.socket:
    """Return a socket that hears the group on that interface only, beside others of this machine."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("", PORT))
        group = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(address))
        listener.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    except OSError:
        listener.close()
        raise
    return listener


def _sender(address: str) -> socket.socket:
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sender.setblocking(False)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        sender.bind((address, 0))
    except OSError:
        sender.close()
        raise
    return sender


def _question(number: bytes) -> bytes:
    """Return the DNS question who announces our service, with a number to know it by."""
    name = b"".join(bytes([len(label)]) + label.encode() for label in SERVICE_TYPE.split("."))
    return number + struct.pack("!5H", 0, 1, 0, 0, 0) + name + struct.pack("!2H", _PTR, _IN)
