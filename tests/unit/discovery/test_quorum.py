from ringcast.discovery.member import Member, View
from ringcast.discovery.quorum import VOTERS_MAX, is_full, is_quorum, is_small, lease_quorum, voters_of


def view(size: int, leaving: tuple[int, ...] = ()) -> View:
    return View("x", 1, tuple(Member(str(i), f"{i}:1", {}, i, leaving=i in leaving) for i in range(size)))


def test_voters_are_the_first_seven_that_stay() -> None:
    assert [voter.id for voter in voters_of(view(9, leaving=(0, 3)))] == ["1", "2", "4", "5", "6", "7", "8"]
    assert len(voters_of(view(20))) == VOTERS_MAX


def test_more_than_half_by_id_is_full() -> None:
    assert not is_full(view(4), [("0", 0), ("1", 1)])
    assert is_full(view(4), [("0", 0), ("1", 1), ("3", 99)])
    # The same voter twice, a stranger, and a run older than the view's count for nothing.
    assert not is_full(view(3), [("2", 2), ("2", 5), ("9", 9), ("1", 0)])


def test_half_is_enough_only_with_proof_and_in_person() -> None:
    four, dead = view(4), [("3", 3)]
    assert is_small(four, [("0", 0), ("1", 1)], dead)
    assert is_quorum(four, [("0", 0), ("1", 1)], dead)
    assert not is_quorum(four, [("0", 0), ("1", 1)], [])
    assert not is_quorum(four, [("0", 0), ("1", 99)], dead)
    assert not is_quorum(four, [("0", 0), ("3", 3)], dead)
    assert not is_quorum(view(3), [("0", 0)], [("1", 1)])
    assert not is_small(view(2, leaving=(0, 1)), [], [("0", 0)])


def test_a_lease_takes_more_than_half() -> None:
    assert [lease_quorum(view(size)) for size in (1, 2, 3, 4, 7, 9)] == [1, 2, 2, 3, 4, 4]
