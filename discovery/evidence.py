"""Proof that a run of a node can never act again, gathered from what connections do. A pure core.

A process that dies has its sockets closed by the kernel, and new connections to it are
refused: that is evidence, where silence is none. A run is *proven* dead when one of these
holds, and from then on until somebody says `Alive`:

* it spoke as a newer run of the same node under the same key: a node fences its old run
  before it does so;
* the connection that this node had dialled to it was ended by the peer, a fresh connection
  to the same address was refused (or answered by another run), nothing was heard from it
  since, and no voter objected within a moment.

A word that is heard after the connection ended may have been under way, or may show that the
refusal came from something in between. So the case starts over: the address has to refuse
again, after a lease's length of silence.

The other half of the bargain is the dying node's: it fences first, and closes its sockets
last. What fools this: a firewall that answers with resets for a live node, a port mapping
removed under a running container, an address that is not the node's own.

References:
    docs of the protocol: "Refused proof".
"""

from __future__ import annotations

from dataclasses import dataclass

from .effects import Check, Effect
from .member import Identity
from .profile import Profile

__all__ = ["Evidence"]

_TRIES = 3
_TRY_PAUSE = 0.2
"""Seconds between the first few fresh connections; then a lease's length."""

_OBJECTION_WINDOW = 0.05
"""Seconds, at least, in which voters may object."""

_REMEMBERED = 60.0
"""Seconds for which proof is kept of runs that are in no view here."""


@dataclass(slots=True)
class _Case:
    """A run whose connection was ended by the peer."""

    address: str
    since: float
    check_at: float
    not_before: float
    tries: int = 0
    proven_at: float | None = None


class Evidence:
    """What one node knows of the deaths of others."""

    def __init__(self, profile: Profile, *, trusts_refusal: bool) -> None:
        """Start knowing nothing; without `trusts_refusal` ended connections prove nothing."""
        self.proven: dict[Identity, float] = {}
        self._profile = profile
        self._trusts_refusal = trusts_refusal
        self._connected: dict[Identity, str] = {}
        self._ended: dict[Identity, str] = {}
        self._cases: dict[Identity, _Case] = {}
        self._kept: set[Identity] = set()

    def is_connected(self, who: Identity) -> bool:
        """Return whether a connection that was dialled to this run is open."""
        return who in self._connected

    # What connections do

    def connected(self, who: Identity, address: str) -> None:
        """A connection dialled to the run's own address is open."""
        self._connected[who] = address
        self._ended.pop(who, None)
        self._cases.pop(who, None)

    def ended(self, who: Identity, now: float, *, by_peer: bool) -> None:
        """That connection is over; `by_peer`: by its FIN or RST, and not by a time limit."""
        address = self._connected.pop(who, None)
        if address is not None and by_peer and self._trusts_refusal:
            self._ended[who] = address
            self._cases[who] = _Case(address, now, now, now)

    def refused(self, address: str, now: float) -> list[Identity]:
        """A fresh connection was refused; return the runs that voters are to be asked about."""
        accused: list[Identity] = []
        for who, case in sorted(self._cases.items()):
            if case.address == address and case.proven_at is None and now >= case.not_before:
                case.proven_at = now + max(_OBJECTION_WINDOW, self._profile.settle_departure)
                accused.append(who)
        return accused

    def answered(self, address: str, by: Identity, now: float) -> list[Identity]:
        """A fresh connection was answered by this run; another one's is as good as a refusal."""
        case = self._cases.get(by)
        if case is not None and case.address == address:
            self._postpone(case, now)
        # Only the other runs at that address are accused; the one that answered lives.
        return [who for who in self.refused(address, now) if who != by]

    def heard(self, who: Identity, now: float) -> None:
        """A message from this run has arrived, by whatever way."""
        case = self._cases.get(who)
        if case is not None:
            self._postpone(case, now)

    def replaced(self, who: Identity, now: float) -> None:
        """A newer run of that node has spoken, under the same key."""
        self._prove(who, now)

    def withdraw(self, who: Identity, now: float) -> None:
        """Somebody says that the run is alive."""
        if self.proven.pop(who, None) is not None and who in self._ended:
            # It may be an old word that was long under way: then the address refuses again.
            self._cases[who] = _Case(self._ended[who], now, now, now)
        self.heard(who, now)

    def believe(self, who: Identity, now: float) -> None:
        """A proposer has proof of the run's death, and nothing here speaks against it."""
        self._prove(who, now)

    # Time

    def tick(self, now: float) -> list[Effect]:
        """Ask for fresh connections, and conclude the cases to which nobody objected."""
        effects: list[Effect] = []
        for who, case in sorted(self._cases.items()):
            if who not in self._kept and now >= case.since + _REMEMBERED:
                del self._cases[who]
            elif case.proven_at is not None:
                if now >= case.proven_at:
                    self._prove(who, now)
            elif now >= case.check_at:
                case.tries += 1
                case.check_at = now + (_TRY_PAUSE if case.tries < _TRIES else self._profile.lease)
                effects.append(Check(case.address))
        return effects

    def next_deadline(self) -> float:
        """Return when `tick` must be called again at the latest."""
        due = (case.check_at if case.proven_at is None else case.proven_at for case in self._cases.values())
        return min(due, default=float("inf"))

    def forget(self, kept: set[Identity], now: float) -> None:
        """Drop old proof of runs that are not among `kept`, the members of the view."""
        self._kept = kept
        self.proven = {who: since for who, since in self.proven.items() if who in kept or now < since + _REMEMBERED}
        self._ended = {who: at for who, at in self._ended.items() if who in kept or who in self.proven}

    def _prove(self, who: Identity, now: float) -> None:
        self._cases.pop(who, None)
        address = self._connected.pop(who, None)
        if address is not None:
            self._ended[who] = address
        self.proven.setdefault(who, now)

    def _postpone(self, case: _Case, now: float) -> None:
        case.proven_at = None
        case.check_at = case.not_before = now + self._profile.lease
