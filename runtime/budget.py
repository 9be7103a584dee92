"""What clients of one name have under way at one node: one budget, over however many connections.

It is added up as it changes. There may be a thousand connections, and to ask each of them at each call
would cost more than the call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .inflight import Account, InFlight
from .pace import Ration

if TYPE_CHECKING:
    from .clientlink import ClientLink


class Budget:
    """What all connections with credentials of one name have under way: a client may open several."""

    def __init__(self, share: float) -> None:
        """Start with nothing; `share` is that of the loop's time which long steps may take."""
        self.links: set[ClientLink] = set()
        self.calls = 0
        self.bytes = 0
        """Arguments of calls, and large messages that are coming: what the links' accounts add up to."""
        self.ration = Ration(share)

    def is_unused(self, now: float) -> bool:
        """Return whether it is as good as a new one."""
        return not self.links and not self.calls and self.ration.is_full(now)


class Part(Account):
    """What counts of one connection, as a part of its budget."""

    def __init__(self, budget: Budget, total: InFlight, limit: int, hold: Callable[[bool], None]) -> None:
        """Start with nothing; see `Account`."""
        self._budget = budget
        super().__init__(total, limit, hold)

    def add(self, weight: int) -> None:
        """A call is under way."""
        self._budget.bytes += weight
        super().add(weight)

    def remove(self, weight: int) -> None:
        """It is over."""
        self._budget.bytes -= weight
        super().remove(weight)

    def announce(self, size: int) -> None:
        """A large message is coming."""
        self._budget.bytes += min(size, self.most)
        super().announce(size)

    def arrived(self, size: int) -> None:
        """It is whole."""
        self._budget.bytes -= min(size, self.most)
        super().arrived(size)

    def reset(self) -> None:
        """The connection has ended, or is a new one; what is under way still counts."""
        self._budget.bytes -= self.coming
        super().reset()
