"""Whereabouts: where spawned actors are, as far as this node knows.

A ref carries the node where its actor was when the ref was made. That is a hint: what this node has
learned since comes first. What it knows of a run of a node is forgotten with that run; then the actor's
keeper is asked (see `register`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..discovery.member import Identity

if TYPE_CHECKING:
    from .kinds import Kinds

KNOWN_MAX = 100_000
"""Actors of other nodes whose places are remembered; the oldest give way, and are asked for again."""

OVER_MAX = 10_000
"""Actors that have ended here, and had no row, of which that is remembered; of others the keeper is asked."""


class Whereabouts:
    """Where the spawned actors are that this node has to do with."""

    def __init__(self, node_id: str, kinds: Kinds) -> None:
        """Know nothing."""
        self._me = node_id
        self._kinds = kinds
        self._places: dict[tuple[str, Any], Identity] = {}
        self._over: dict[tuple[str, Any], None] = {}

    def of(self, name: str, key: Any, hint: str) -> str | None:
        """Return the id of the member where an actor is, or probably is; None if it has to be asked for."""
        kind = self._kinds.by_name.get(name)
        if (kind is not None and key in kind.cells) or (name, key) in self._over:
            return self._me
        known = self._places.get((name, key))
        if known is not None:
            if self._is_member(known):
                return known[0]
            del self._places[name, key]
        return hint if hint != self._me and hint in self._kinds.members else None

    def is_over(self, name: str, key: Any) -> bool:
        """Whether an actor of this node has ended, and nobody can have its name again."""
        return (name, key) in self._over

    def end(self, name: str, key: Any) -> None:
        """Remember that an actor of this node has ended that had no row, and no name to be given again."""
        self._over[name, key] = None
        if len(self._over) > OVER_MAX:
            del self._over[next(iter(self._over))]

    def learn(self, name: str, key: Any, host: Identity) -> None:
        """Remember where an actor is."""
        if host[0] == self._me:
            self._places.pop((name, key), None)  # then it has a cell, or has gone since
            return
        self._places[name, key] = host
        if len(self._places) > KNOWN_MAX:
            del self._places[next(iter(self._places))]

    def view_changed(self) -> set[tuple[str, Any]]:
        """Forget those that were with a run of a node that is over; return which."""
        gone = {actor for actor, host in self._places.items() if not self._is_member(host)}
        for actor in gone:
            del self._places[actor]
        return gone

    def _is_member(self, host: Identity) -> bool:
        member = self._kinds.members.get(host[0])
        return member is not None and member.incarnation == host[1]
