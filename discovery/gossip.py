"""News that still has to be told, and which of it goes into the next datagram.

Claims ride on pings and acks, and on datagrams of their own each gossip interval. Each is
sent `retransmit_multiplier * ceil(log10(n + 1))` times; the least told goes first, so that
fresh news overtakes old. A newer claim about a node replaces the older one in the queue.

References:
    Das, Gupta, Motivala. "SWIM". DSN 2002, section 4.1.
"""

from __future__ import annotations

import math

from .claim import Claim

__all__ = ["GossipQueue", "retransmit_limit", "wire_bytes"]


def retransmit_limit(members: int, multiplier: int) -> int:
    """Return how often one piece of news leaves a member, in a cluster of `members`."""
    return multiplier * math.ceil(math.log10(members + 1))


def wire_bytes(claim: Claim) -> int:
    """Return an upper bound of the bytes that a claim takes in a datagram.

    Three strings with headers of at most 5 bytes, two integers of at most 9, the status
    and the array's header.
    """
    texts = len(claim.id.encode()) + len(claim.address.encode()) + len(claim.accuser.encode())
    return texts + 3 * 5 + 2 * 9 + 2


class GossipQueue:
    """The news of one member, by the node that each piece is about."""

    __slots__ = ("_order", "_waiting")

    def __init__(self) -> None:
        """Start with nothing to tell."""
        self._waiting: dict[str, tuple[int, int, Claim]] = {}
        self._order = 0

    def __len__(self) -> int:
        """Return how many pieces of news wait."""
        return len(self._waiting)

    def push(self, claim: Claim) -> None:
        """Tell this from now on, in the place of whatever was told about the same node."""
        self._order -= 1
        self._waiting[claim.id] = (0, self._order, claim)

    def drop(self, node_id: str) -> None:
        """Tell nothing more about the node."""
        self._waiting.pop(node_id, None)

    def take(self, budget_bytes: int, limit: int) -> tuple[Claim, ...]:
        """Return the claims for one datagram, and count them as told once more.

        Args:
            budget_bytes: How much room the datagram has for claims.
            limit: After how many tellings a claim is dropped; see `retransmit_limit`.
        """
        taken: list[Claim] = []
        # Least told first, then newest first: `_order` falls with each push.
        for told, order, claim in sorted(self._waiting.values(), key=lambda entry: entry[:2]):
            size = wire_bytes(claim)
            if size > budget_bytes:
                continue
            budget_bytes -= size
            taken.append(claim)
            if told + 1 >= limit:
                del self._waiting[claim.id]
            else:
                self._waiting[claim.id] = (told + 1, order, claim)
        return tuple(taken)
