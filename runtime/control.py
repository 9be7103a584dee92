"""The control channel: what `ringcast status` and its like ask of a running node.

One request and one answer a connection, each a msgpack map behind four bytes of length. It is
open to this machine only, for a node listens on the loopback.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import msgpack

from ringcast.errors import RingcastError

from ..actors.ref import display
from .wire import HEAD

if TYPE_CHECKING:
    from .host import Host
    from .node import Node

CHANNEL = b"C"
MAX_REQUEST = 64 * 1024
LIMIT = 5.0
"""Seconds for one request."""


class Control:
    """Answers the command line's questions about one node."""

    def __init__(self, node: Node, host: Host) -> None:
        """Belong to one node."""
        self._node = node
        self._host = host

    async def serve(self, sock: socket.socket) -> None:
        """Answer one request on a connection whose preamble was read."""
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            async with asyncio.timeout(LIMIT):
                (size,) = HEAD.unpack(await reader.readexactly(4))
                if size > MAX_REQUEST:
                    return
                request = msgpack.unpackb(await reader.readexactly(size))
                try:
                    answer = await self._answer(request)
                except (RingcastError, KeyError, TypeError, ValueError) as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                body = msgpack.packb(answer, default=str)
                writer.write(HEAD.pack(len(body)) + body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ValueError, msgpack.UnpackException):
            return
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        node = self._node
        match request["what"]:
            case "status":
                view = node.view
                return {
                    "node": node.id,
                    "address": node.address,
                    "cluster": node._options.cluster,  # pyright: ignore[reportPrivateUsage]
                    "ready": node.ready,
                    "view": {"lineage": view.lineage, "number": view.number},
                    "members": [
                        {
                            "id": member.id,
                            "address": member.address,
                            "labels": dict(member.labels),
                            "hosts": sorted(member.hosts),
                            "leaving": member.leaving,
                        }
                        for member in view.members
                    ],
                    "stats": node.stats(),
                }
            case "actors":
                return {"node": node.id, "actors": self._actors(int(request.get("limit", 1000)))}
            case "locate":
                kind = self._host.kind(request["class"])
                key = request["key"]
                owner = self._host.members[self._host.owner(kind, key, None)]
                active = kind.cells.get(key) is not None if owner.id == node.id else None
                return {"actor": display(kind.name, key), "node": owner.id, "address": owner.address, "active": active}
            case other:
                raise ValueError(f"unknown request {other!r}")

    def _actors(self, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for cell in self._host.cells():
            if len(found) == limit:
                break
            life = cell.life
            found.append(
                {
                    "actor": cell.name,
                    "class": cell.kind.name,
                    "state": _state(cell.actor is not None, cell.retiring, life is not None and life.failing),
                    "mailbox": len(cell.mailbox or ()) + len(cell.parked or ()),
                    "running": cell.current[0].name if cell.current is not None else None,
                    "restart": None if life is None else life.restart.value,
                    "failures": cell.failures,
                }
            )
        return found


def _state(is_made: bool, retiring: str | None, failing: bool) -> str:
    if retiring is not None:
        return f"ending ({retiring})"
    if failing:
        return "failing"
    return "active" if is_made else "starting"
