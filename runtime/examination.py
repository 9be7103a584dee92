"""One address as it is seen from here: whether a node of this cluster is there, by TCP and by UDP.

Nothing is taken for granted: the port is dialled, then TLS and the question are tried; each way in which
that can fail has its own cause, and its own remedy. By UDP each direction is tried for itself, by knocks
(`knock`): a firewall often lets one pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import Callable

from ringcast.errors import HandshakeRefused
from ringcast.values import dataclass

from ..discovery.address import split_address
from ..discovery.knock import TOKEN_BYTES, knock, knocker, token_in
from ..discovery.preamble import preamble
from ..discovery.seal import START_RANDOM_BYTES, Seal, start_of
from ..security.channels import ALPN, CONTROL
from ..security.identity import Identity, identity_of
from ..security.streams import dialled
from ..security.trust import Trust, explained
from .inquiry import Answer, converse

__all__ = ["Datagrams", "Examined", "Unfit", "examine", "try_datagrams"]

KNOCKS = 3
"""Datagrams at a time, for one may be lost."""
ROUNDS = 3
_PATIENCE = 0.3
"""Seconds for datagrams to arrive."""
_SILENT_OPEN = "the port is open, and nothing is said there: the node hangs, or it is another program"


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why nobody of this cluster answers at an address, and what to do about it."""

    found: str
    todo: str


@dataclass(frozen=True, slots=True)
class Datagrams:
    """Whether datagrams arrive at a node (`there`), and those that it sends arrive here (`back`)."""

    there: bool
    back: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """What a node says of itself.

    Attributes:
        status: Its answer to ``status``.
        skew: Seconds by which its clock is ahead of this machine's; the time on the way is halved.
    """

    status: Answer
    skew: float


async def examine(trust: Trust, address: str, limit: float, clock: Callable[[], float] = time.time) -> Examined | Unfit:
    """Find out who is there.

    Args:
        trust: Who asks, and whom it believes.
        address: ``"host:port"``.
        limit: Seconds for each step.
        clock: Tells seconds since 1970.
    """
    unfit = await _unreachable(address, limit)
    if unfit is not None:
        return unfit
    before = clock()
    try:
        async with asyncio.timeout(limit):
            status = await converse(trust, address, {"what": "status"})
    except (OSError, HandshakeRefused, EOFError, ValueError, TimeoutError) as error:
        return await _refused(trust, address, limit, error)
    after = clock()
    if "error" in status:
        return Unfit(f"the node refuses: {status['error']}", "give the right --cluster, and the secret of its nodes")
    return Examined(status, status["time"] - (before + after) / 2)


async def _unreachable(address: str, limit: float) -> Unfit | None:
    try:
        async with asyncio.timeout(limit):
            _, writer = await asyncio.open_connection(*split_address(address))
    except ConnectionRefusedError:
        return Unfit(
            "the machine refuses connections to this port: no node listens there",
            "compare the port with what `ringcast up` says on that machine; a node that listens on 127.0.0.1 is not "
            "seen from others: give it --listen 0.0.0.0:PORT and --secret",
        )
    except TimeoutError:
        return Unfit(
            f"no answer to a TCP connection within {limit:g} s",
            "is the machine on, and the address right? A firewall that drops packets looks like this: open the port "
            "for TCP and UDP",
        )
    except socket.gaierror as error:
        return Unfit(f"the name cannot be resolved: {error.strerror}", "correct the name, or use an IP address")
    except OSError as error:
        return Unfit(f"cannot be reached: {error.strerror or error}", "is there a route from this machine to that one?")
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


async def _refused(trust: Trust, address: str, limit: float, error: Exception) -> Unfit:
    """Return what a conversation that failed means, once TCP is known to work."""
    clocks = "set the clocks of both machines (NTP)"
    match error:
        case HandshakeRefused():
            return Unfit(str(error), "nodes of different clusters do not see each other; --cluster names it")
        case ssl.SSLCertVerificationError() if error.verify_code in (9, 10):
            return Unfit(explained(error), f"{clocks}; a credential that has ended is issued anew")
        case ssl.SSLCertVerificationError():
            return Unfit(f"{explained(error)}{await _said_of_itself(trust, address, limit)}", _other_secret(trust))
        case ssl.SSLError() if "EXPIRED" in str(error):
            return Unfit(explained(error), f"{clocks}; a credential that has ended is issued anew")
        case ssl.SSLError() if "BAD_CERTIFICATE" in str(error):
            return Unfit(
                f"{explained(error)}: this machine's clock may be ahead of its by more than an hour",
                f"{clocks}; what the node's log says is the whole reason",
            )
        case ssl.SSLError() if "UNKNOWN_CA" in str(error):
            return Unfit(
                f"it does not accept the key {trust.signing} with which this side signs",
                "copy the secret's file of this machine to that one, or the other way; `ringcast secret show` on both "
                "tells which has which keys",
            )
        case TimeoutError():
            return Unfit(_SILENT_OPEN, "look at what runs there; `ringcast up` says which port is the node's")
        case _:
            what = explained(error) if isinstance(error, OSError) else "it answers what no ringcast node does"
            return Unfit(
                f"TCP works, but it is no node that speaks TLS: {what}",
                "look at what runs there; if it is a node with tls=False, ask with --no-tls",
            )


def _other_secret(trust: Trust) -> str:
    return (
        f"give both the same secret: copy the file to the other machine. Here {', '.join(trust.accepted)} "
        "is accepted; `ringcast secret show` tells it there"
    )


async def _said_of_itself(trust: Trust, address: str, limit: float) -> str:
    """Return who the other end says it is, though nothing of that is verified; for people to compare."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([ALPN[CONTROL]])
    try:
        async with asyncio.timeout(limit):
            _, writer = await dialled(*split_address(address), context, preamble(CONTROL))
        der = writer.get_extra_info("ssl_object").getpeercert(True)
        writer.close()
        who = identity_of(der or b"")
    except (OSError, TimeoutError, HandshakeRefused):
        return ""
    return f"; it says that it is {who}{_signed(who)}"


def _signed(who: Identity) -> str:
    return "" if who.signed_by is None else f", signed by key {who.signed_by}"


async def try_datagrams(trust: Trust, address: str, status: Answer, limit: float) -> Datagrams:
    """Knock at a node, and have it knock back.

    Args:
        trust: Has the keys of datagrams.
        address: Where the node was reached.
        status: What it has answered.
        limit: Seconds for each question over TCP.

    Raises:
        OSError: If there is no socket to send from, or the node is gone meanwhile.
        ValueError: If it has no record of itself, or does not know the question.
        TimeoutError: If it does not answer any more.
    """
    host, port = split_address(address)
    loop = asyncio.get_running_loop()
    family, *_, where = (await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM))[0]
    me = next((member for member in status["members"] if member["id"] == status["id"]), None)
    if me is None:
        raise ValueError("it is no member of its own view")
    token = os.urandom(TOKEN_BYTES)
    seal = Seal(trust.gossip_keys, start_of(time.time_ns() // 1_000_000, os.urandom(START_RANDOM_BYTES)))
    there = back = False
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("", 0))
        hearing = asyncio.create_task(_heard(sock, seal, token))
        try:
            for _ in range(ROUNDS):
                for _ in range(KNOCKS):
                    with contextlib.suppress(OSError):  # what is refused here does not arrive there
                        sock.sendto(seal.seal(knock(token), status["id"], me["incarnation"]), where)
                await asyncio.sleep(_PATIENCE / ROUNDS)
                async with asyncio.timeout(limit):
                    request = {"what": "knock", "token": token, "port": sock.getsockname()[1], "times": KNOCKS}
                    answer = await converse(trust, address, request, status["id"])
                if "error" in answer:
                    raise ValueError(str(answer["error"]))
                there = there or bool(answer["heard"])
                back = bool((await asyncio.wait({hearing}, timeout=_PATIENCE))[0])
                if there and back:
                    break
        finally:
            hearing.cancel()
            await asyncio.wait({hearing})
    return Datagrams(there, back)


async def _heard(sock: socket.socket, seal: Seal, token: bytes) -> None:
    """Return when the node's knock has come."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(OSError):  # what the network says of an earlier datagram
            opened = seal.open(await loop.sock_recv(sock, 2048), *knocker(token))
            if isinstance(opened, bytes) and token_in(opened) == token:
                return
