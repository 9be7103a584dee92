"""Which of a sender's datagrams were here before: a replay window. A pure value.

Datagrams are numbered; the network may reorder and repeat them. The window remembers the highest
number that was accepted and, as the bits of one integer, which of the numbers before it were too. A
number is new if it is above the highest, or within the window and unmarked. What is older than the
window is taken for a repetition, because nobody can know better.

References:
    RFC 4303 (IPsec ESP), section 3.4.3.
"""

from __future__ import annotations

__all__ = ["WINDOW_SIZE", "Window"]

WINDOW_SIZE = 1024
"""How far behind the newest a datagram may arrive. Count of the sender's datagrams, to whomever."""

_MASK = (1 << WINDOW_SIZE) - 1


class Window:
    """The numbers of one sender that were accepted here."""

    __slots__ = ("_highest", "_marks")

    def __init__(self) -> None:
        """Start with none: whatever comes first is new."""
        self._highest = -1
        self._marks = 0

    def is_new(self, number: int) -> bool:
        """Return whether the number, at least 0, may be accepted; changes nothing."""
        behind = self._highest - number
        return behind < 0 or (behind < WINDOW_SIZE and not self._marks >> behind & 1)

    def mark(self, number: int) -> None:
        """Remember a number that `is_new` has allowed, and that was proved to be the sender's."""
        ahead = number - self._highest
        if ahead <= 0:
            self._marks |= 1 << -ahead
            return
        # A leap of 2^60 must not shift by as much: that integer would not fit into the memory.
        self._marks = (self._marks << ahead & _MASK if ahead < WINDOW_SIZE else 0) | 1
        self._highest = number
