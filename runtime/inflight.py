"""What waits here of the messages that peers have sent: counted, and held back at its source.

An actor's mailbox bounds how many messages wait for it, not how large they are, nor for how many
actors. So each link has an `Account` of the bytes that came over it and still wait in mailboxes, and of
large messages that are still coming; a node adds them up (`InFlight`). Only what has to wait is counted:
a message whose turn begins at once costs nothing, nor do answers, which somebody here waits for.

Above a limit the peer is asked to hold its messages back (the frame HOLD), and to go on below three
quarters of it; meanwhile they wait in the peer's routes, as if the actors had no room. Reading goes on all
the while. To stop reading was tried on paper and rejected: it stops answers, too. Two nodes that stop
reading from one another while handlers on both wait for the other's answers wait until the calls' limits.
For the same reason a message that a running turn sends is not held back: else a full mailbox could keep
a handler from the very answer that would empty it. So a hold makes only those wait for whom no turn waits,
and adds no circle to those that full mailboxes can make by themselves.

A message counts three quarters of the limit at most: so one alone, however large, is taken in and keeps no
other waiting. A peer that does not hold back has its messages refused, once twice as much as the limit
has come since it was asked, and `EN_ROUTE` more. What the messages of one peer take is therefore less than
four times the limit and `EN_ROUTE`, and for messages that are larger than the limit, five of them.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Final

from ..actors.turn import ChainEntry

LIGHT: Final = 1024
"""Bytes that each message of a small batch counts: its objects take as much, whatever it holds."""

SMALL_BATCH: Final = 4096
"""Bytes up to which a batch is small. No message in it weighs more than four times what it counts."""

EN_ROUTE: Final = 16 << 20
"""Bytes that may be on their way when a peer is asked to hold back, in its buffers and the system's."""

_STEP: Final = 1 << 20
"""Bytes by which an account may grow before all accounts are added up again."""

_AGAIN: Final = 0.05
"""Seconds between two looks while peers are held."""


class Weighed(tuple[ChainEntry, ...]):
    """The chain of a peer's message, which knows what the message counts, and in whose account."""

    account: Account
    weight: int


class Account:
    """What waits of one peer's messages."""

    def __init__(self, total: InFlight, limit: int, hold: Callable[[bool], None]) -> None:
        """Start with nothing.

        Args:
            total: The node's.
            limit: Bytes above which `hold(True)` is called; `hold(False)` when they have become fewer.
            hold: Asks the peer.
        """
        self.waiting = 0
        """Bytes of messages in mailboxes."""
        self.coming = 0
        """Bytes that were announced of large messages."""
        self.limit = limit
        self.is_held = False
        self.is_refusing = False
        """Whether the peer's messages are not taken any more."""
        self.next_look = 0
        """Bytes of `waiting` that call for a look at the limits."""
        self._at_hold = 0
        self._total = total
        self._hold = hold
        self.light = self.chain((), LIGHT)
        total.accounts.add(self)
        self.reset()

    def chain(self, chain: tuple[ChainEntry, ...], weight: int) -> Weighed:
        """Return a message's chain that carries its weight."""
        weighed = Weighed(chain)
        weighed.account = self
        weighed.weight = min(weight, self.most)
        return weighed

    @property
    def most(self) -> int:
        """What one message counts at most."""
        return self.limit * 3 // 4

    @property
    def bytes(self) -> int:
        """All that counts."""
        return self.waiting + self.coming

    def add(self, weight: int) -> None:
        """A message has to wait."""
        self.waiting += weight
        if self.waiting > self.next_look:
            self.look()

    def remove(self, weight: int) -> None:
        """A message waits no more."""
        self.waiting -= weight
        if self.is_held and self.bytes * 4 <= self.limit * 3:
            self._total.look()

    def announce(self, size: int) -> None:
        """A large message is coming."""
        self.coming += min(size, self.most)
        self.look()

    def arrived(self, size: int) -> None:
        """It is whole."""
        self.coming -= min(size, self.most)

    def look(self) -> None:
        """Compare with the limits."""
        room = self.limit - self.coming
        step = self._step_from(self.waiting)
        self.next_look = min(step, room) if self.waiting < room else step
        self._total.look()
        if not self.is_held and self.bytes > self.limit:
            self.hold()
        self.judge()

    def judge(self) -> None:
        """See whether the peer's messages are still taken."""
        too_much = self.bytes > self._at_hold + 2 * self.limit + EN_ROUTE
        self.is_refusing = self.is_held and (too_much or self._total.is_flooded)

    def hold(self) -> None:
        """Ask the peer to hold back."""
        self.is_held = True
        self._at_hold = self.bytes
        self._total.watch()
        self._hold(True)

    def release(self) -> None:
        """Ask the peer to go on."""
        self.is_held = self.is_refusing = False
        self.next_look = self.waiting
        self._hold(False)

    def reset(self) -> None:
        """The connection has ended, or is a new one: what waits still counts, and nobody was asked yet."""
        self.coming = 0
        self.is_held = self.is_refusing = False
        # An idle peer's first message is no reason to add up all accounts: there may be a thousand such peers.
        self.next_look = self.waiting or self._step_from(0)

    def _step_from(self, waiting: int) -> int:
        return waiting + min(_STEP, max(self.limit // 4, 1))


class InFlight:
    """What waits of all peers' messages on one node."""

    def __init__(self, limit: int) -> None:
        """Start with nothing.

        Args:
            limit: Bytes above which all peers are held that have something waiting.
        """
        self.limit = limit
        self.accounts: weakref.WeakSet[Account] = weakref.WeakSet()
        self.held = 0
        """How many times a peer was asked to hold back."""
        self.is_flooded = False
        """Whether messages of all that are held are refused."""
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def bytes(self) -> int:
        """All that counts."""
        return sum(account.bytes for account in self.accounts)

    def look(self) -> None:
        """Compare with the limit, and let those go on that may."""
        total = self.bytes
        if total > self.limit or (self._is_over and total * 4 > self.limit * 3):
            self._is_over = True
            self.is_flooded = total > 2 * self.limit + EN_ROUTE
            for account in list(self.accounts):
                if account.bytes and not account.is_held:
                    account.hold()
                account.judge()
            return
        self._is_over = self.is_flooded = False
        for account in list(self.accounts):
            if account.is_held and account.bytes * 4 <= account.limit * 3:
                account.release()

    def watch(self) -> None:
        """Look again soon, while somebody is held: what others take away counts here, too."""
        self.held += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_AGAIN, self._again)

    def _again(self) -> None:
        self._timer = None
        self.look()
        if any(account.is_held for account in self.accounts):
            self._timer = asyncio.get_running_loop().call_later(_AGAIN, self._again)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
