"""Which addresses to dial, and when. A pure core.

Discovery shows addresses; each is dialled at once, then with growing pauses until somebody
answers, and from then on at the re-dial interval, for ever: that is what brings two halves
together again after a partition, and two clusters that did not know of each other. Dead
members' addresses are kept and dialled in the same way for as long as the dead are
remembered.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .effects import Dial, Effect
from .profile import Profile

__all__ = ["Contacts"]

_GROWTH = 1.5
_ADDRESSES_MAX = 10_000
"""More addresses than this are not kept: discovery is open to anyone on the network."""


@dataclass(slots=True)
class _Contact:
    due: float
    pause: float
    until: float
    died_until: float | None = None


class Contacts:
    """The addresses that one member tries."""

    def __init__(self, own_address: str, profile: Profile, rng: random.Random) -> None:
        """Start with none; `own_address` is never dialled."""
        self._own = {own_address}
        self._profile = profile
        self._rng = rng
        self._contacts: dict[str, _Contact] = {}

    def __len__(self) -> int:
        """Return how many addresses are tried."""
        return len(self._contacts)

    def found(self, address: str, now: float) -> None:
        """Discovery shows the address: dial it at once, unless it is known already."""
        known = self._contacts.get(address)
        if known is not None:
            known.until = float("inf")
        elif address not in self._own and len(self._contacts) < _ADDRESSES_MAX:
            self._contacts[address] = _Contact(now, self._profile.retry, float("inf"))

    def gone(self, address: str) -> None:
        """Discovery shows the address no more; if a member was lost there, that is still remembered."""
        known = self._contacts.get(address)
        if known is not None and known.died_until is not None:
            known.until = known.died_until
        else:
            self._contacts.pop(address, None)

    def remember(self, address: str, now: float) -> None:
        """A member was lost there: go on dialling for as long as the dead are remembered."""
        until = now + self._profile.dead_remembered
        known = self._contacts.get(address)
        if known is not None:
            known.died_until = until
            known.until = max(known.until, until)
        elif address not in self._own:
            pause = self._profile.redial
            self._contacts[address] = _Contact(now + pause, pause, until, until)

    def answered(self, address: str, by_itself: bool) -> None:
        """Somebody answered there: no hurry any more, and none ever if it was this node itself."""
        contact = self._contacts.get(address)
        if by_itself:
            self._own.add(address)
            self._contacts.pop(address, None)
        elif contact is not None:
            contact.due += self._profile.redial - contact.pause
            contact.pause = self._profile.redial

    def tick(self, now: float) -> list[Effect]:
        """Dial what is due."""
        effects: list[Effect] = []
        for address, contact in sorted(self._contacts.items()):
            if now >= contact.until:
                del self._contacts[address]
            elif now >= contact.due:
                contact.due = now + contact.pause * self._rng.uniform(0.75, 1.25)
                contact.pause = min(contact.pause * _GROWTH, self._profile.redial)
                effects.append(Dial(address))
        return effects

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        return min((contact.due for contact in self._contacts.values()), default=float("inf"))
