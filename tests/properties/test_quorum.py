"""What agreement rests on: any two decisions share a voter, or one of them is impossible."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ringcast.discovery.member import Identity, Member, View
from ringcast.discovery.quorum import is_full, is_small, lease_quorum, voters_of

sizes = st.integers(1, 9)


def view_of(size: int) -> View:
    return View("x", 1, tuple(Member(str(i), f"{i}:1", {}, i) for i in range(size)))


def drawn(data: st.DataObject, view: View) -> tuple[set[Identity], set[Identity]]:
    """Return who answers, some of them restarted, and who is proven dead."""
    runs = [voter.identity for voter in voters_of(view)]
    answers: set[Identity] = set()
    for node_id, incarnation in runs:
        answers |= data.draw(st.sampled_from([set(), {(node_id, incarnation)}, {(node_id, incarnation + 100)}]))
    return answers, data.draw(st.sets(st.sampled_from(runs)))


@given(size=sizes, data=st.data())
def test_two_quorums_share_a_voter_unless_each_holds_one_that_the_other_proved_dead(
    size: int, data: st.DataObject
) -> None:
    view = view_of(size)
    (one, one_dead), (other, other_dead) = drawn(data, view), drawn(data, view)
    shared = {node_id for node_id, _ in one} & {node_id for node_id, _ in other}
    if is_full(view, one) and (is_full(view, other) or is_small(view, other, other_dead)):
        assert shared
    if is_small(view, one, one_dead) and is_small(view, other, other_dead):
        counted = one - one_dead, other - other_dead
        assert shared or (counted[0] & other_dead and counted[1] & one_dead)


@given(size=sizes, data=st.data())
def test_a_lease_shares_a_voter_with_every_quorum(size: int, data: st.DataObject) -> None:
    view = view_of(size)
    answers, dead = drawn(data, view)
    granters = data.draw(st.sets(st.sampled_from([voter.id for voter in voters_of(view)])))
    decides = is_full(view, answers) or is_small(view, answers, dead)
    if decides and len(granters) >= lease_quorum(view):
        assert granters & {node_id for node_id, _ in answers}
