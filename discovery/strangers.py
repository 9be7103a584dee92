"""What is said of whoever is no member of this cluster: to a person who named it, and in the log, once each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from ringcast.errors import ConfigError, HandshakeRefused

from ..security.trust import Trust
from .codec import PROTOCOL
from .link import Ending, Link
from .messages import Refused

__all__ = ["Strangers"]

_TOLD_MAX = 100
"""Strangers that are logged, once each: they must not fill the log."""


class Strangers:
    """Those whom one node has met and cannot join, or who cannot join it."""

    def __init__(
        self,
        trust: Trust,
        named: Collection[str],
        counts: Counter[str],
        log: Any,
        on_refusal: Callable[[HandshakeRefused | ConfigError], None],
    ) -> None:
        """Have met nobody.

        Args:
            trust: Who this node is, and whom it believes.
            named: The addresses that a person has named; it grows.
            counts: Where they are counted.
            log: Takes the warnings.
            on_refusal: Is told why somebody whom a person has named cannot be joined.
        """
        self._trust = trust
        self._named = named
        self._counts = counts
        self._log = log
        self._on_refusal = on_refusal
        self._told: set[str] = set()

    def ended(self, link: Link, ending: Ending) -> None:
        """A connection has ended before anything was understood."""
        address = link.dialled
        if link.objection is None:
            self._counts["handshakes_unfinished"] += 1
            if address in self._named and ending is not Ending.CLOSED_HERE:
                # It may be a node that is just ending, so it is no reason to give up.
                self._tell_once(str(address), "no node answers there", address=address, reason=ending.value)
            return
        self._counts["handshakes_refused"] += 1
        if address is None:
            self._tell_once(link.host, "a connection was refused", host=link.host, reason=str(link.objection))
            return
        self._refuse(
            address,
            f"this node {self._trust.node_id} and whoever is at {address} do not know each other: {link.objection}. "
            f"This node signs with key {self._trust.signing} of its secret and accepts "
            f"{', '.join(self._trust.accepted)}. Give both the same secret, or do not name that address",
        )

    def refused(self, link: Link, refusal: Refused) -> None:
        """Whoever is at the other end says that it is of another cluster or version."""
        if link.dialled is not None:
            self._refuse(
                link.dialled,
                f"the node at {link.dialled} is of cluster {refusal.cluster!r} (protocol {refusal.protocol}), "
                f"this node {self._trust.node_id} is of cluster {self._trust.cluster!r} (protocol {PROTOCOL}); "
                "give both the same cluster name and version, or do not name that address",
            )

    def excluded(self, why: str, member: str, address: str) -> None:
        """A member of this very cluster does not let this node in."""
        what = f"member {member} at {address} does not let this node {self._trust.node_id} join: {why}"
        self._tell_once(f"excluded by {address}", what)
        self._on_refusal(ConfigError(what))

    def impostor(self, sender: str, shown_by: str) -> None:
        """A member has spoken in the name of another one."""
        self._counts["impostors"] += 1
        if self._counts["impostors"] == 1:
            self._log.warning("a message was refused", sender=sender, shown_by=shown_by)

    def _refuse(self, address: str, reason: str) -> None:
        """Whoever is at the address cannot be joined; that a person named it is an error."""
        self._tell_once(address, "no member of this cluster", address=address, reason=reason)
        if address in self._named:
            self._on_refusal(HandshakeRefused(reason))

    def _tell_once(self, whom: str, what: str, **values: object) -> None:
        if whom not in self._told and len(self._told) < _TOLD_MAX:
            self._told.add(whom)
            self._log.warning(what, **values)
