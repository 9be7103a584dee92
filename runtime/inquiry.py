"""What the command line asks of a running cluster, from outside of it.

One node is enough to begin with: it is named, or found on this machine. It knows the members, and
each of these is asked for itself, all at once, with a limit: a member that hangs is told apart from
the others, and stops nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from typing import Any, cast

from ringcast.errors import HandshakeRefused

from ..discovery.address import split_address
from ..discovery.preamble import preamble
from ..security.channels import CONTROL
from ..security.streams import dialled
from ..security.trust import Trust, explained
from .browse import heard
from .control import framed, opened
from .wire import HEAD

MAX_ANSWER = 64 << 20

Answer = dict[str, Any]


class NoAnswerError(Exception):
    """A node, or the whole cluster, has no answer; the text says why, and what to do."""


async def ask(
    trust: Trust, address: str, limit: float, request: Mapping[str, Any], expected: str | None = None
) -> Answer:
    """Ask one node.

    Args:
        trust: Who asks, and whom it believes.
        address: ``"host:port"``.
        limit: Seconds for all of it.
        request: See `control`.
        expected: The id of the node that is to answer; None if any of the cluster may.

    Raises:
        NoAnswerError: If it is not there, hangs, is something else, or refuses the request.
    """
    try:
        async with asyncio.timeout(limit):
            answer = await converse(trust, address, request, expected)
    except TimeoutError:
        raise NoAnswerError(f"no answer within {limit:g} s: the node hangs, or is stopped") from None
    except asyncio.IncompleteReadError:
        raise NoAnswerError("closed the connection: it is no ringcast node, or is just leaving") from None
    except HandshakeRefused as error:
        raise NoAnswerError(str(error)) from None
    except (ssl.SSLError, ConnectionAbortedError) as error:
        raise NoAnswerError(explained(error)) from None
    except OSError as error:
        raise NoAnswerError(f"cannot be reached ({error.strerror or error})") from None
    except ValueError as error:
        raise NoAnswerError(f"answers what no ringcast node does ({error})") from None
    if "error" in answer:
        raise NoAnswerError(str(answer["error"]))
    return answer


async def converse(trust: Trust, address: str, request: Mapping[str, Any], expected: str | None = None) -> Answer:
    """Ask one node, without a limit of time; see `ask`.

    Raises:
        OSError: If it cannot be reached, or the handshake fails.
        HandshakeRefused: If it is not of this cluster, or not the one that is expected.
        EOFError: If it closes without an answer.
        ValueError: If it answers what no node does.
    """
    reader, writer = await dialled(*split_address(address), trust.dialling(CONTROL), preamble(CONTROL))
    try:
        if trust.is_encrypted:
            trust.peer(writer.get_extra_info("ssl_object"), CONTROL, expected)
        writer.write(framed(dict(request)))
        (size,) = HEAD.unpack(await reader.readexactly(HEAD.size))
        if size > MAX_ANSWER:
            raise ValueError(f"{size} bytes")
        return opened(await reader.readexactly(size))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class Inquiry:
    """One look at a cluster."""

    def __init__(self, trust: Trust, node: str | None, limit: float) -> None:
        """Look as `trust`, beginning at `node` or at whoever is found; `limit` is seconds for each answer."""
        self._trust = trust
        self._node = node
        self._limit = limit

    async def ask(self, address: str, what: str, **details: object) -> Answer:
        """Ask one node; see `ask`."""
        return await ask(self._trust, address, self._limit, {"what": what, **details})

    async def first(self) -> Answer:
        """Return the status of the first node that answers.

        Raises:
            NoAnswerError: If there is none.
        """
        return (await self._entries())[0]

    async def members(self) -> dict[str, Answer]:
        """Return what is known of every member, by id, of every view that is found.

        Raises:
            NoAnswerError: If there is no node to ask.
        """
        members: dict[str, Answer] = {}
        for status in await self._entries():
            for member in cast("list[Answer]", status["members"]):
                members.setdefault(member["id"], member)
        return members

    async def everywhere(self, what: str, **details: object) -> list[tuple[Answer, Answer | NoAnswerError]]:
        """Ask every member; return each with its answer, or why there is none.

        Raises:
            NoAnswerError: If there is no node to ask.
        """
        members = await self.members()
        request = {"what": what, **details}
        asked = (ask(self._trust, who["address"], self._limit, request, who["id"]) for who in members.values())
        answers = await asyncio.gather(*asked, return_exceptions=True)
        told: list[tuple[Answer, Answer | NoAnswerError]] = []
        for member, answer in zip(members.values(), answers, strict=True):
            if not isinstance(answer, dict | NoAnswerError):
                raise answer
            told.append((member, answer))
        return told

    async def locate(self, wanted: str, kind: str, key: str) -> Answer:
        """Return where a key belongs, and whether it is active there.

        The owner is asked for the latter. While a view spreads it may know of another owner: then
        that one is asked.

        Raises:
            NoAnswerError: If there is no node to ask, or it does not know the class.
        """
        request = {"class": wanted, "kind": kind, "key": key}
        place = await self.ask((await self.first())["address"], "locate", **request)
        with contextlib.suppress(NoAnswerError):
            for _ in range(3):
                if place["active"] is not None:
                    break
                place = await self.ask(place["address"], "locate", **request)
        return place

    async def _entries(self) -> list[Answer]:
        """Return the status of the named node, or of all that are found."""
        if self._node is None:
            return await self._found()
        try:
            return [await self.ask(self._node, "status")]
        except NoAnswerError as error:
            raise NoAnswerError(f"node {self._node}: {error}") from None

    async def _found(self) -> list[Answer]:
        try:
            addresses = await heard(self._trust.tags)
        except OSError as error:
            raise NoAnswerError(
                f"no multicast on this machine ({error}), so no node can be found: name one with --node host:port"
            ) from None
        asked = (self.ask(address, "status") for address in addresses)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        statuses = [answer for answer in answers if isinstance(answer, dict)]
        if not statuses:
            silent = "".join(f"; {at}: {why}" for at, why in zip(addresses, answers, strict=True))
            raise NoAnswerError(
                f"no node of cluster {self._trust.cluster!r} answers on this machine{silent}. Start one with "
                "`ringcast up`, give the cluster's name with --cluster and its secret with --secret, or name a node "
                "with --node host:port"
            )
        return statuses
