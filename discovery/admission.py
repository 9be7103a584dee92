"""Who may knock: how many new connections are taken, from whom, before anything is spent on them.

A connection that has proved nothing yet costs a socket, and soon a TLS handshake, which is 5 ms of work. So
new ones are rationed before a byte of them is read: by a rate for each address (`Rates`), and by how many
may be at their handshake at a time (`Pending`), in all and from one address. Where there are too many the
oldest gives way, for the honest are done within milliseconds, and those who stall are the oldest.

An attacker with many addresses must not shut the members out. Addresses of members of the present view
have half of the places to themselves, and the rate of this machine. All others share one ration more,
however many addresses they have: newcomers wait while there is a flood, and members do not notice it.
Addresses are remembered only while they are not back at their full ration, 4,096 at most; the strangers
beyond share one ration. Of an IPv6 address the first 64 bits count, which is the least that one host is
given.

Nodes of one machine cannot be told apart by their address; theirs is a higher rate, and no limit but the
overall one. They share it with whoever else runs programs there.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

from ringcast.values import dataclass

__all__ = ["HOSTS_MAX", "STRANGERS_AT_ONCE", "Admission", "Pending", "Rates", "origin_of"]

T = TypeVar("T", bound=Hashable)

HOSTS_MAX = 4096
"""Addresses whose ration is counted apart."""

STRANGERS_AT_ONCE = 200
"""New connections of strangers that are taken at once when there were none for a while: a cluster starts."""

_OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Admission:
    """The numbers.

    Attributes:
        timeout: Seconds that a handshake may take, and the preamble in it.
        pending: Connections at their handshake, in all.
        pending_each: The same for one address that is not this machine's.
        rate: New connections a second from one address, and twice as many at once.
        local_rate: The same for this machine's addresses and for those of members.
        strangers_rate: New connections a second from all other addresses together; `STRANGERS_AT_ONCE` at once.
    """

    timeout: float = 3.0
    pending: int = 64
    pending_each: int = 8
    rate: float = 50
    local_rate: float = 500
    strangers_rate: float = 20


def origin_of(host: str) -> str:
    """Return what a remote address counts as: itself, or its network if it is of IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _OTHERS
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)


class Rates:
    """A ration of new connections for each origin: it fills with time, and each connection takes one."""

    def __init__(self, limits: Admission) -> None:
        """Start with everybody's ration full."""
        self._limits = limits
        self._strangers, self._strangers_at = 0.0, float("-inf")
        self._used: dict[str, tuple[float, float]] = {}
        """By origin: how many were taken of its ration, and when that was counted."""

    def __len__(self) -> int:
        """Return how many origins are remembered."""
        return len(self._used)

    def takes(self, origin: str, *, is_near: bool, now: float) -> bool:
        """Return whether one more may come, and count it if so.

        Args:
            origin: Where it comes from, by `origin_of`.
            is_near: Whether that is this machine, or a member's.
            now: Seconds.
        """
        rate = self._limits.local_rate if is_near else self._limits.rate
        if origin not in self._used and len(self._used) >= HOSTS_MAX:
            self._forget(now)
            if len(self._used) >= HOSTS_MAX and not is_near:
                origin = _OTHERS
        used, at = self._used.get(origin, (0.0, now))
        used = max(used - (now - at) * rate, 0.0)
        is_taken = used + 1 <= 2 * rate and (is_near or self._takes_stranger(now))
        self._used[origin] = (used + is_taken, now)
        return is_taken

    def _takes_stranger(self, now: float) -> bool:
        """Return whether one more stranger may come, and count it if so: many addresses are no way around."""
        used = max(self._strangers - (now - self._strangers_at) * self._limits.strangers_rate, 0.0)
        is_taken = used + 1 <= STRANGERS_AT_ONCE
        self._strangers, self._strangers_at = used + is_taken, now
        return is_taken

    def _forget(self, now: float) -> None:
        """Forget those whose ration is full again, by the slower rate."""
        rate = min(self._limits.rate, self._limits.local_rate)
        for origin in [origin for origin, (used, at) in self._used.items() if used <= (now - at) * rate]:
            del self._used[origin]


class Pending(Generic[T]):
    """What is at its handshake, oldest first."""

    def __init__(self, limits: Admission) -> None:
        """Start with none."""
        self._limits = limits
        self._of: dict[T, tuple[str, bool]] = {}
        self._each: Counter[str] = Counter()
        self._far = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._of)

    def __contains__(self, one: T) -> bool:
        """Return whether this one is at it."""
        return one in self._of

    def all(self) -> tuple[T, ...]:
        """Return them, oldest first."""
        return tuple(self._of)

    def add(self, one: T, origin: str, *, is_near: bool) -> T | None:
        """Take one in; return the one that has to give way, if one has to. It is not among them any more."""
        crowded = self._crowded(origin, is_near)
        if crowded is not None:
            self.discard(crowded)
        self._of[one] = (origin, is_near)
        self._each[origin] += 1
        self._far += not is_near
        return crowded

    def discard(self, one: T) -> None:
        """One is done, or gone; any number of times."""
        found = self._of.pop(one, None)
        if found is not None:
            origin, is_near = found
            self._far -= not is_near
            self._each[origin] -= 1
            if not self._each[origin]:
                del self._each[origin]

    def _crowded(self, origin: str, is_near: bool) -> T | None:
        """Return the one that gives way to one more: the oldest of its address, of the strangers, of all."""
        if not is_near:
            if self._each[origin] >= self._limits.pending_each:
                return next(one for one, of in self._of.items() if of == (origin, False))
            if self._far >= max(self._limits.pending // 2, 1):
                return next(one for one, (_, near) in self._of.items() if not near)
        if len(self._of) < self._limits.pending:
            return None
        return next((one for one, (_, near) in self._of.items() if not near), next(iter(self._of)))
