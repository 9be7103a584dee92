"""The views of one lineage that a node has installed or was shown, in order. A pure core.

Views of one lineage form a chain, numbered without gaps. A member applies each in turn, so
that it notices if it was left out of one in between: such a run may have been replaced
meanwhile, and must not go on as if nothing had happened. The last 128 are kept, for those
that lag behind, and to know which runs have been members before: they are never admitted
again.

Two different views with one number are a *fork*: an invariant that all else rests on was
broken, by a voter's record that was rolled back or cloned, or by a false proof of death.
It is found here by comparison.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from .member import Identity, View

__all__ = ["VIEWS_KEPT", "ViewLog", "digest_of"]

VIEWS_KEPT = 128
_SENT_MAX = 16
"""More views than this do not travel in one message."""


def digest_of(view: View) -> bytes:
    """Return 16 bytes that differ for views that differ."""
    fields = [
        (
            *(member.id, member.address, member.incarnation, member.key),
            *(sorted(member.labels.items()), sorted(member.hosts), member.hosts_by_value),
            *(member.leaving, member.has_record, member.store),
        )
        for member in view.members
    ]
    return blake2b(repr((view.lineage, view.number, view.lease_ms, fields)).encode(), digest_size=16).digest()


class ViewLog:
    """What is kept of one lineage's past."""

    def __init__(self, views: Iterable[View]) -> None:
        """Start with these, at least one, in order of their numbers."""
        self._views = {view.number: view for view in views}
        self.last = self._views[max(self._views)]

    def append(self, view: View) -> None:
        """Keep a view that is newer than all others."""
        assert view.number > self.last.number, "numbers only grow at each node"
        self._views[view.number] = self.last = view
        self._views.pop(view.number - VIEWS_KEPT, None)

    def after(self, number: int) -> tuple[View, ...]:
        """Return the views after this number, oldest first, as many as fit into a message."""
        later = [view for known, view in sorted(self._views.items()) if known > number]
        return tuple(later[:_SENT_MAX])

    def recent(self, count: int = 4) -> tuple[View, ...]:
        """Return the last few, oldest first: what a newcomer is given."""
        return tuple(view for _, view in sorted(self._views.items())[-count:])

    def forked(self, view: View) -> bool:
        """Return whether another view is known under this one's number."""
        known = self._views.get(view.number)
        return known is not None and known != view

    def has_had(self, identity: Identity) -> bool:
        """Return whether this run, or a later one of the node, has been a member before."""
        node_id, incarnation = identity
        held = (view.member(node_id) for view in self._views.values())
        return any(member is not None and member.incarnation >= incarnation for member in held)
