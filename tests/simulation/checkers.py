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
    * No effect of an activation follows one of an activation that was opened in a later view.
    * A member installs every view of its lineage in turn, so that it cannot miss one that left
      it out.
    * The run that a node id stands for never goes back to an older one.
    """

    def __init__(self) -> None:
        self._views: dict[tuple[str, int], View] = {}
        self._acting: dict[str, dict[int, View]] = {}
        self._leases: dict[str, Held] = {}
        self._installed: dict[Identity, tuple[str, int]] = {}
        self._effects: dict[tuple[str, int], tuple[int, str]] = {}
        self.views = 0
        self.effects = 0

    def on_view(self, name: str, who: Identity, view: View) -> None:
        known = self._views.setdefault((view.lineage, view.number), view)
        if known != view:
            raise Violation(f"I1: two views {view.number} of one lineage: {_ids(known)} and {_ids(view)}")
        if who not in {member.identity for member in view.members}:
            raise Violation(f"{name} installs a view that does not hold it")
        lineage, number = self._installed.get(who, (view.lineage, 0))
        if lineage == view.lineage and number >= view.number:
            raise Violation(f"{name} goes back from view {number} to {view.number}")
        if number and lineage == view.lineage and number + 1 != view.number:
            raise Violation(f"{name} skips from view {number} to {view.number}")
        self._installed[who] = view.lineage, view.number
        self._check_runs(view)
        self._leases.pop(name, None)
        self.views = len(self._views)

    def _check_runs(self, view: View) -> None:
        """Among the views of a lineage the run that a node id stands for never goes back."""
        for number, step in ((view.number - 1, 1), (view.number + 1, -1)):
            other = self._views.get((view.lineage, number))
            for member in other.members if other is not None else ():
                held = view.member(member.id)
                if held is not None and (held.incarnation - member.incarnation) * step < 0:
                    raise Violation(f"{member.id} goes back to an older run in view {max(number, view.number)}")

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

    def on_effect(self, name: str, lineage: str, partition: int, opened_in: int) -> None:
        """An activation, opened in this view, has acted."""
        self.effects += 1
        last, by = self._effects.get((lineage, partition), (0, name))
        if opened_in < last or (opened_in == last and by != name):
            raise Violation(
                f"I3: {name} acts in partition {partition}, opened in view {opened_in}, "
                f"after {by} did, opened in view {last}"
            )
        self._effects[lineage, partition] = opened_in, name

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
