"""What one node would have decided, and whether it is its turn to say so. Pure functions.

From who is wished for, who is proven dead and what this voter owes follows an *agenda*. The
voters that can answer are counted first: a node that cannot have a quorum keeps silent, and
does not disturb those that can when it is back among them.

References:
    docs of the protocol: "Who proposes", "Quorum lost for good".
"""

from __future__ import annotations

from collections.abc import Collection

from ringcast.values import dataclass

from .member import Identity, Member, View
from .quorum import is_quorum, voters_of
from .roll import Roll

__all__ = ["Agenda", "can_ever_decide", "draw_up"]


@dataclass(frozen=True, slots=True)
class Agenda:
    """What a node would have decided, and whether it is its turn.

    Attributes:
        view: The view in force.
        wish: The members that the next one should have, in order of seniority.
        is_pressing: Whether there has to be a next one, even if nothing else is wished for.
        is_departure: Whether the change needs hardly any time to settle.
        dead: The voters that are proven dead, in order.
        rank: This node's place among the live voters; None if it must not propose now.
    """

    view: View
    wish: tuple[Member, ...]
    is_pressing: bool
    is_departure: bool
    dead: tuple[Identity, ...]
    rank: int | None

    @property
    def is_void(self) -> bool:
        """Whether nothing is to be decided, or not by this node."""
        return self.rank is None or (self.wish == self.view.members and not self.is_pressing)


def draw_up(
    roll: Roll,
    proven: Collection[Identity],
    frozen: Collection[Identity],
    now: float,
    *,
    is_pressing: bool,
    me: Identity | None,
) -> Agenda:
    """Return the agenda of a voter.

    Args:
        roll: What it knows of members and applicants.
        proven: The runs that it holds for dead.
        frozen: The members that it renews no more.
        now: Seconds.
        is_pressing: Whether there has to be a next view.
        me: The voter's own run, which may be later than the one in the view; None if it does
            not propose.
    """
    view = roll.view
    wish = roll.wish({*proven, *frozen}, now)
    known = {member.identity for member in view.members}
    wished = {member.identity for member in wish}
    return Agenda(
        view,
        wish,
        is_pressing,
        is_departure=known - wished <= {*proven, *roll.released} and wished <= known,
        dead=tuple(sorted(voter.identity for voter in voters_of(view) if voter.identity in proven)),
        rank=None if me is None else _rank(roll, proven, now, me),
    )


def _rank(roll: Roll, proven: Collection[Identity], now: float, me: Identity) -> int | None:
    """Return the place of `me` among the voters that can answer, if they are a quorum."""
    back = {member.id: member for member in roll.applicants(now)}
    answering: list[Identity] = []
    for voter in voters_of(roll.view):
        again = back.get(voter.id)
        if voter.id == me[0]:
            answering.append(me)
        elif voter.identity not in proven and not roll.is_suspect(voter, now):
            answering.append(voter.identity)
        elif voter.has_record and again is not None and again.incarnation > voter.incarnation:
            answering.append(again.identity)
    return answering.index(me) if is_quorum(roll.view, answering, proven) else None


def can_ever_decide(view: View, proven: Collection[Identity], left: Collection[str]) -> bool:
    """Return whether some quorum of the view's voters may still come together.

    Args:
        view: The view in force.
        proven: The runs that are proven dead; those with a record may come back and vote.
        left: The ids of voters that said that they have left the lineage.
    """
    possible: list[Identity] = []
    for voter in voters_of(view):
        if voter.id in left:
            continue
        if voter.identity not in proven:
            possible.append(voter.identity)
        elif voter.has_record:
            possible.append((voter.id, voter.incarnation + 1))
    return is_quorum(view, possible, proven)
