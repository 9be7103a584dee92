"""Dead letters: told messages that nobody handled."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator

from ringcast.logger import get_logger
from ringcast.values import dataclass


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was not handled.

    Attributes:
        actor: The actor's name for people.
        method: The message.
        reason: Why it was not handled.
        at: Wall-clock seconds since the epoch.
    """

    actor: str
    method: str
    reason: str
    at: float


class DeadLetters:
    """Counted, logged, and the most recent kept: ``node.dead_letters``."""

    def __init__(self, keep: int, node_id: str) -> None:
        """Keep the `keep` most recent."""
        self.total = 0
        self._recent: deque[DeadLetter] = deque(maxlen=keep)
        self._log = get_logger("ringcast").bind(node=node_id)

    def add(self, actor: str, method: str, reason: str) -> None:
        """Note one."""
        self.total += 1
        self._recent.append(DeadLetter(actor, method, reason, time.time()))
        if self.total <= 10 or self.total % 1000 == 0:  # a flood must not drown the log
            self._log.warning("dead letter", actor=actor, method=method, reason=reason, total=self.total)

    def __iter__(self) -> Iterator[DeadLetter]:
        """Iterate over the most recent, oldest first."""
        return iter(tuple(self._recent))

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._recent)
