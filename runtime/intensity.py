"""Restart intensity: how many restarts in how many seconds are too many."""

from __future__ import annotations

from collections import deque


class Intensity:
    """A sliding window over restarts.

    A restart counts for `within` seconds, the last instant included, as in Erlang's ``supervisor``.
    """

    __slots__ = ("_most", "_recent", "_within")

    def __init__(self, most: int, within: float) -> None:
        """Allow `most` restarts in any `within` seconds."""
        self._most = most
        self._within = within
        self._recent: deque[float] = deque()

    def note(self, now: float) -> bool:
        """Count a restart that is wanted at `now`; return whether it is one too many.

        Args:
            now: Monotonic seconds; not before any earlier call's.
        """
        recent = self._recent
        recent.append(now)
        while recent[0] < now - self._within:
            recent.popleft()
        return len(recent) > self._most

    @property
    def count(self) -> int:
        """The restarts in the window, as of the last one."""
        return len(self._recent)
