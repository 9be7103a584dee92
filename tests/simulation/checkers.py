"""What must hold in every story, whatever happens in it; apart from what makes things happen."""

from __future__ import annotations

from dataclasses import dataclass

from ringcast.discovery.member import Identity, View


class Violation(AssertionError):
    """An invariant of the protocol is broken."""


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that a node has, in true time."""

    who: Identity
    view: View
    until: float


class Checker:
    """Watches views and leases of a whole world.

    * One decided view per number and lineage.
    * While or after anybody has a lease under a view, nobody whom that view does not name has
      one under an older view of the same lineage. (Who is named hands over first.)
    * No run of a node that was left out of a view is in a later one of the lineage.
    * A node installs views of one lineage in order.
    """

    def __init__(self) -> None:
        self._views: dict[tuple[str, int], View] = {}
        self._acting: dict[str, dict[int, View]] = {}
        self._leases: dict[str, Held] = {}
        self._installed: dict[Identity, tuple[str, int]] = {}
        self._numbers: dict[str, set[int]] = {}
        self._spans: dict[str, dict[Identity, tuple[int, int]]] = {}
        self.views = 0

    def on_view(self, name: str, who: Identity, view: View) -> None:
        known = self._views.setdefault((view.lineage, view.number), view)
        if known != view:
            raise Violation(f"I1: two views {view.number} of one lineage: {_ids(known)} and {_ids(view)}")
        if who not in {member.identity for member in view.members}:
            raise Violation(f"{name} installs a view that does not hold it")
        lineage, number = self._installed.get(who, (view.lineage, 0))
        if lineage == view.lineage and number >= view.number:
            raise Violation(f"{name} goes back from view {number} to {view.number}")
        self._installed[who] = view.lineage, view.number
        self._check_returns(view)
        self._leases.pop(name, None)
        self.views = len(self._views)

    def _check_returns(self, view: View) -> None:
        """Nobody is in a view, out of the next, and in again as the same run."""
        named = set(_ids(view))
        spans = self._spans.setdefault(view.lineage, {})
        if view.number in self._numbers.setdefault(view.lineage, set()):
            return
        self._numbers[view.lineage].add(view.number)
        for who, (first, last) in spans.items():
            if who not in named and first < view.number < last:
                raise Violation(f"{who} is in views {first} and {last}, and not in {view.number}")
        for who in named:
            first, last = spans.get(who, (view.number, view.number))
            spans[who] = min(first, view.number), max(last, view.number)
            missed = [n for n in range(*spans[who]) if (view.lineage, n) in self._views]
            if any(who not in _ids(self._views[view.lineage, n]) for n in missed):
                raise Violation(f"{who} is in view {view.number} again, and was left out before")

    def on_lease(self, name: str, who: Identity, view: View | None, now: float, until: float) -> None:
        self._leases.pop(name, None)
        if view is None or until <= now:
            return
        held = self._leases[name] = Held(who, view, until)
        acting = self._acting.setdefault(view.lineage, {})
        acting.setdefault(view.number, view)
        for number in acting:
            if number > view.number:
                self._compare(held, acting[number], now)
        for other in self._leases.values():
            if other.view.lineage == view.lineage and other.view.number < view.number:
                self._compare(other, view, now)

    def on_stop(self, name: str) -> None:
        self._leases.pop(name, None)

    def _compare(self, older: Held, newer: View, now: float) -> None:
        if older.until > now and older.who not in {member.identity for member in newer.members}:
            raise Violation(
                f"I3: {older.who} holds a lease under view {older.view.number} for {older.until - now:.4f} s more, "
                f"and others act under view {newer.number} of {_ids(newer)}"
            )


def _ids(view: View) -> list[Identity]:
    return [member.identity for member in view.members]
