"""The control channel: what `ringcast status` and its like ask of a running node.

One request and one answer a connection, each a msgpack map behind four bytes of length; the
connection opens with the preamble of channel ``C``, then TLS. Whoever has the cluster's secret, and so
could be a member, may ask; nobody else gets as far as a request. A limited node learns what members
learn from each other, and not which actors there are. Whatever a request holds, the node goes on: what
is too long is not read, and what cannot be answered is answered with ``{"error": text}``.

    {"what": "status"}                                        the node, its view, its counts, its keys' ids
    {"what": "actors", "class": name or None, "limit": n}     its activations
    {"what": "locate", "class": name, "kind": k, "key": text} where the ring places a keyed actor
    {"what": "leave", "node": id}                             hands its actors over and leaves
    {"what": "dissolve", "node": id}                          forgets its view, and starts over
    {"what": "knock", "token": t, "port": p, "times": n}      whether that knock was heard; knocks back (`knock`)

A class may be named in full, ``shop.carts:Cart``, or by its last part where only one fits.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import time
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import msgpack

import ringcast
from ringcast.errors import HandshakeRefused, NotAllowed, RingcastError

from ..actors.ref import SPAWNED, display
from ..discovery.address import join_address, split_address
from ..discovery.knock import TOKEN_BYTES
from ..discovery.packed import look_through
from ..security.channels import CONTROL
from ..security.streams import accepted
from .orders import supervisor_of
from .ring import Key
from .wire import HEAD, PROTOCOL

if TYPE_CHECKING:
    from ..discovery.membership import Membership
    from ..security.trust import Trust
    from .cell import Cell
    from .config import NodeConfig
    from .host import Host
    from .node import Node
    from .rows import Row

MAX_REQUEST: Final = 64 * 1024
MAX_DEPTH: Final = 16
"""Lists and dicts inside one another in a request or an answer."""
MAX_KNOCKS: Final = 10
LIMIT: Final = 5.0
"""Seconds for one request."""
MAX_LISTED: Final = 10_000
"""Actors in one answer: listing them stops the loop for some microseconds each."""

KEY_KINDS: Final[Mapping[str, Callable[[str], Key]]] = {
    "str": str,
    "int": int,
    "bytes": bytes.fromhex,
    "uuid": UUID,
}
"""How a key is read from text, by the kind that a request names. Each raises ValueError."""


def framed(message: dict[str, Any]) -> bytes:
    """Return a request or an answer as it stands on the wire, its length first."""
    body = cast("bytes", msgpack.packb(message, default=str))  # pyright: ignore[reportUnknownMemberType]
    return HEAD.pack(len(body)) + body


def opened(body: bytes) -> dict[str, Any]:
    """Return the request or the answer that stands behind its length.

    Raises:
        ValueError: If it is none; msgpack's own errors are of this kind.
    """
    look_through(body, depth=MAX_DEPTH)
    message = cast("object", msgpack.unpackb(body))  # pyright: ignore[reportUnknownMemberType]
    if not isinstance(message, dict):
        raise ValueError("it is no map")
    return cast("dict[str, Any]", message)


class Control:
    """Answers the command line's questions about one node."""

    def __init__(self, node: Node, host: Host, trust: Trust, membership: Membership, config: NodeConfig) -> None:
        """Belong to one node; `trust` says who may ask."""
        self._config = config
        self._shaking: dict[asyncio.Task[Any] | None, None] = {}
        self._answering = 0
        self._node = node
        self._host = host
        self._trust = trust
        self._membership = membership
        self.refused = 0
        self.was_told_to_leave = False

    async def serve(self, sock: socket.socket) -> None:
        """Answer one request on a connection whose preamble was read."""
        me = asyncio.current_task()
        if len(self._shaking) >= self._config.handshakes_pending:
            oldest = next(iter(self._shaking))
            del self._shaking[oldest]
            assert oldest is not None
            oldest.cancel()
        self._shaking[me] = None
        try:
            async with asyncio.timeout(self._config.handshake_timeout):
                reader, writer = await accepted(sock, self._trust.serving(CONTROL))
        except (OSError, TimeoutError):
            self.refused += 1  # and not logged: any stranger can do it, any number of times
            return
        finally:
            self._shaking.pop(me, None)
        self._answering += 1
        is_limited = False
        try:
            async with asyncio.timeout(LIMIT):
                if self._trust.is_encrypted:
                    is_limited = self._trust.peer(writer.get_extra_info("ssl_object"), CONTROL).allow is not None
                if self._answering > self._config.control_connections:
                    raise HandshakeRefused(
                        f"node {self._node.id} is asked {self._answering} things at a time, and "
                        f"NodeConfig(control_connections={self._config.control_connections}) allows no more: ask again"
                    )
                (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
                if size > MAX_REQUEST:
                    return
                asker = writer.get_extra_info("peername")[0]
                writer.write(self._answer(await reader.readexactly(size), asker, is_limited=is_limited))
                await writer.drain()
        except HandshakeRefused as error:
            self.refused += 1
            writer.write(framed({"error": str(error)}))
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            writer.transport.abort()  # else an answer that nobody takes would be kept for ever
        finally:
            self._answering -= 1
            writer.close()

    def _answer(self, data: bytes, asker: str, *, is_limited: bool = False) -> bytes:
        try:
            return framed(self._answered(data, asker, is_limited))
        except RingcastError as error:
            return framed({"error": str(error)})
        except Exception as error:  # whatever a request can provoke is its sender's to hear, not ours to fall over
            return framed({"error": f"the request is wrong: {error}"})

    def _answered(self, data: bytes, asker: str, is_limited: bool) -> dict[str, Any]:
        request = opened(data)
        match request.get("what"):
            case "actors" | "locate" | "leave" | "dissolve" if is_limited:
                raise NotAllowed("a limited node may not ask for actors, nor steer nodes; use the cluster's secret")
            case "leave" | "dissolve" if request.get("node") != self._node.id:
                raise ValueError(f"it is for node {request.get('node')!r:.100}, and this is {self._node.id}")
            case "leave":
                self.was_told_to_leave = True
                self._host.background(self._node.leave())
                return {}
            case "dissolve":
                self._membership.dissolve("an operator has given the lineage up")
                return {}
            case "status":
                return self._status()
            case "actors":
                return self._actors(request.get("class"), int(request.get("limit", MAX_LISTED)))
            case "locate":
                return self._locate(request["class"], KEY_KINDS[request["kind"]](request["key"]))
            case "knock":
                return self._knock(join_address(asker, int(request["port"])), request["token"], int(request["times"]))
            case other:
                raise ValueError(f"it asks for {other!r}; there are status, actors, locate, leave, dissolve and knock")

    def _status(self) -> dict[str, Any]:
        node = self._node
        view = node.view
        return {
            "id": node.id,
            "address": node.address,
            "cluster": node.cluster,
            "pid": os.getpid(),
            "ready": node.ready,
            "view": {"lineage": view.lineage, "number": view.number},
            "secret": {"signs": self._trust.signing, "accepts": list(self._trust.accepted)},
            "time": time.time(),
            "versions": {
                "ringcast": ringcast.__version__,
                "protocol": list(PROTOCOL),
                "python": platform.python_version(),
            },
            "members": [
                {
                    "id": member.id,
                    "incarnation": member.incarnation,
                    "address": member.address,
                    "labels": dict(member.labels),
                    "hosts": sorted(member.hosts),
                    "leaving": member.leaving,
                    "started_ms": member.started_ms,
                }
                for member in view.members
            ],
            "stats": node.stats(),
        }

    def _actors(self, wanted: str | None, limit: int) -> dict[str, Any]:
        limit = min(limit, MAX_LISTED)
        total, listed = 0, list[dict[str, Any]]()
        for kind in list(self._host.kinds.by_name.values()):
            if wanted is None or is_named(kind.name, wanted):
                total += len(kind.cells)
                cells = (cell for _, cell in zip(range(limit - len(listed)), kind.cells.values(), strict=False))
                listed.extend(_shown(cell) for cell in cells)
        for row, why in self._host.lives.register.waiting():
            if wanted is None or is_named(row.id[0], wanted):
                total += 1
                if len(listed) < limit:
                    listed.append(_waiting(row, why))
        return {"total": total, "actors": listed}

    def _knock(self, address: str, token: object, times: int) -> dict[str, Any]:
        if not isinstance(token, bytes) or len(token) != TOKEN_BYTES or not 0 < times <= MAX_KNOCKS:
            raise ValueError(f"a knock takes {TOKEN_BYTES} bytes, and up to {MAX_KNOCKS} of them are sent back")
        split_address(address)  # a port that is none must not get as far as the membership's thread
        self._membership.knock(address, token, times)
        return {"heard": self._membership.has_heard(token)}

    def _locate(self, wanted: str, key: Key) -> dict[str, Any]:
        host = self._host
        hosted = {name for member in host.kinds.members.values() for name in member.hosts}
        kind = host.kinds.named(_full_name(wanted, hosted | host.kinds.by_name.keys()))
        owner = host.kinds.members[host.kinds.owner(kind, key, None)]
        return {
            "class": kind.name,
            "actor": display(kind.name, key),
            "id": owner.id,
            "address": owner.address,
            "active": key in kind.cells if owner.id == self._node.id else None,
        }


def is_named(name: str, wanted: str) -> bool:
    """Return whether a class of that name is meant by `wanted`: the whole name, or its last part."""
    return wanted in (name, name.rpartition(":")[2], name.rpartition(".")[2])


def _full_name(wanted: str, names: Collection[str]) -> str:
    """Return the one known name that `wanted` means.

    Classes that nobody knows are refused, so that no request makes the node remember a name.
    """
    fitting = [wanted] if wanted in names else sorted(name for name in names if is_named(name, wanted))
    match fitting:
        case [name]:
            return name
        case []:
            known = ", ".join(sorted(names)) or "none"
            raise RingcastError(f"no member hosts a class {wanted!r}; hosted are: {known}")
        case _:
            raise RingcastError(f"{wanted!r} may be any of {', '.join(fitting)}; give the whole name")


def _shown(cell: Cell) -> dict[str, Any]:
    now = monotonic()
    running = [] if cell.current is None else [(cell.current, cell.since)]
    running += [(envelope, since) for envelope, _, since, _ in (cell.side or {}).values()]
    return {
        "actor": cell.name,
        "class": cell.kind.name,
        "state": _state(cell),
        "mailbox": len(cell.queue or ()) + len(cell.parked or ()),
        "running": [{"method": envelope[0].name, "seconds": round(now - since, 3)} for envelope, since in running],
        "supervisor": supervisor_of(cell),
        "restart": None if cell.life is None else cell.life.restart.value,
        "restarts": 0 if cell.life is None else cell.life.restarts,
        "failures": cell.failures,
    }


def _waiting(row: Row, why: str) -> dict[str, Any]:
    """Return what is shown of a spawned actor that runs nowhere, by the keeper of its row."""
    parent = row.parent
    return {
        "actor": display(row.id[0], (SPAWNED, row.id[1])),
        "class": row.id[0],
        "state": f"waiting: {why}",
        "waits_for": why,
        "mailbox": 0,
        "running": [],
        "supervisor": "root" if parent is None else display(*parent),
        "restart": row.restart.value,
        "restarts": 0,
        "failures": 0,
    }


def _state(cell: Cell) -> str:
    life = cell.life
    if cell.is_going:
        return "ending"
    if cell.host.lives.supervision.is_failing(cell, monotonic()):
        return "failing"
    if cell.actor is not None and cell.retiring is None:
        return "active"
    return "restarting" if cell.failures or (life is not None and life.restarts) else "starting"
