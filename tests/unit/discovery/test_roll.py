from dataclasses import replace

import pytest

from ringcast.discovery.agenda import can_ever_decide, draw_up
from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.member import Member, View
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.roll import Roll
from ringcast.discovery.viewlog import ViewLog

NOW = 100.0
A, B, C = (Member(name, f"{name}:1", {}, i, key=b"k") for i, name in enumerate("abc", 1))
D = Member("d", "d:1", {}, 9, key=b"k")


def claim(member: Member, status: Status = Status.ALIVE) -> Claim:
    return Claim(member.id, member.address, member.incarnation, status=status)


def roll(*members: Member) -> Roll:
    made = Roll(A, LOCAL, ViewLog([View("x", 3, members or (A, B, C))]), NOW)
    made.believe([claim(member) for member in (A, B, C, D)])
    return made


def test_without_news_everything_stays() -> None:
    assert roll().wish((), NOW) == (A, B, C)


def test_a_suspect_is_out_until_it_is_heard() -> None:
    made = roll()
    made.believe([claim(A), claim(B, Status.DEAD), claim(C)])
    assert made.wish((), NOW) == (A, C)
    assert made.heard(claim(B), NOW)
    assert made.wish((), NOW) == (A, B, C)
    assert made.next_deadline(NOW) == NOW + LOCAL.lease
    assert made.wish((), NOW + LOCAL.lease) == (A, C)


def test_a_member_of_whom_nothing_is_ever_heard_becomes_suspect() -> None:
    made = roll()
    made.believe([claim(A), claim(B)])
    assert made.wish((), NOW) == (A, B, C)
    assert made.next_deadline(NOW) == NOW + 2 * LOCAL.lease
    assert made.wish((), NOW + 2 * LOCAL.lease) == (A, B)
    assert made.next_deadline(NOW + 2 * LOCAL.lease) == float("inf")
    made.believe([claim(A), claim(B), claim(replace(C, incarnation=7))])
    assert made.wish((), NOW) == (A, B)


def test_the_dead_the_frozen_and_the_released_are_out() -> None:
    made = roll()
    made.released.add(B.identity)
    assert made.wish({C.identity}, NOW) == (A,)
    made.install(NOW)
    assert made.released == {B.identity}


def test_applicants_are_in_for_a_while() -> None:
    made = roll()
    assert made.apply(D, NOW)
    assert made.wish((), NOW) == (A, B, C, D)
    made.believe([claim(D, Status.DEAD)])
    assert D not in made.wish((), NOW)
    made.believe([claim(D)])
    assert made.wish((), NOW + 3.75 * LOCAL.retry) == (A, B, C)


def test_of_two_that_come_with_different_stores_one_is_let_in() -> None:
    made = roll()
    first, second = replace(D, store="one"), Member("e", "e:1", {}, 9, key=b"k", store="two")
    assert made.apply(first, NOW)
    assert made.apply(second, NOW)
    assert made.wish((), NOW) == (A, B, C, first)


def test_a_member_keeps_its_place_without_a_store_that_is_not_the_others() -> None:
    mine, late = replace(B, store="one"), replace(C, store="two", labels={"x": "1"}, leaving=True)
    made = roll(A, mine, C)
    assert View("x", 3, (A, mine, C)).store == "one"
    assert made.apply(late, NOW)
    assert made.wish((), NOW) == (A, mine, replace(late, store=""))
    assert made.wish({mine.identity}, NOW) == (A, late)  # nobody else has one any more


def test_no_run_is_admitted_twice_nor_an_older_one() -> None:
    log = ViewLog([View("x", 3, (A, B, D))])
    made = Roll(A, LOCAL, log, NOW)
    assert made.apply(replace(D, labels={"x": "1"}), NOW)
    assert made.apply(replace(C, incarnation=20), NOW)
    assert not made.apply(replace(C, incarnation=19), NOW)
    log.append(View("x", 4, (A, B)))
    made.install(NOW)
    # What it applied for as a member is forgotten with it.
    assert [member.identity for member in made.applicants(NOW)] == [("c", 20)]
    assert not made.apply(D, NOW)
    assert not made.apply(replace(D, incarnation=8), NOW)
    assert made.apply(replace(D, incarnation=10), NOW)


def test_a_record_changes_and_a_leave_is_not_taken_back() -> None:
    made = roll(A, replace(B, leaving=True))
    assert made.apply(replace(B, labels={"x": "1"}), NOW)
    assert made.wish((), NOW) == (A, replace(B, leaving=True, labels={"x": "1"}))
    assert not made.apply(replace(B, key=b"other"), NOW)


def test_a_newer_run_takes_the_place_of_the_older_one_if_the_key_is_the_same() -> None:
    newer = replace(B, incarnation=7)
    made = roll()
    made.apply(newer, NOW)
    assert made.wish((), NOW) == (A, C, newer)
    made = roll()
    stranger = replace(newer, key=b"other")
    made.apply(stranger, NOW)
    assert made.wish((), NOW) == (A, B, C)
    assert made.wish({B.identity}, NOW) == (A, C, stranger)


def test_somebody_must_stay_to_vote() -> None:
    made = roll(A, B)
    for member in (A, B):
        made.apply(replace(member, leaving=True), NOW)
    assert made.wish((), NOW) == (A, replace(B, leaving=True))
    # With no voter left there is nothing that could be decided.
    made = roll(A, replace(B, leaving=True))
    assert made.wish({A.identity}, NOW) == (A, replace(B, leaving=True))


def test_it_knows_where_everyone_is_heard() -> None:
    made = roll()
    moved = replace(B, address="b:2", incarnation=7)
    assert made.address_of(B) == "b:1"
    assert made.heard(claim(moved), NOW)
    assert not made.heard(claim(B), NOW)
    assert made.address_of(B) == "b:2"
    assert made.address_of_run(B.identity) == "b:2"
    assert made.address_of_run(("nobody", 1)) == ""
    made.me = replace(A, address="a:2")
    assert made.address_of(A) == "a:2"


def test_a_rank_is_the_place_among_those_who_can_answer() -> None:
    made = roll()
    made.believe([claim(A), claim(B, Status.DEAD), claim(C)])
    agenda = draw_up(made, (), (), NOW, is_pressing=False, me=C.identity)
    assert (agenda.rank, agenda.wish, agenda.is_void, agenda.is_departure) == (1, (A, C), False, False)
    assert draw_up(made, {A.identity}, (), NOW, is_pressing=False, me=C.identity).rank is None
    assert draw_up(made, (), (), NOW, is_pressing=False, me=None).is_void


def test_a_voter_that_came_back_with_its_record_can_answer() -> None:
    kept = replace(B, has_record=True)
    made = roll(A, kept, C)
    again = replace(kept, incarnation=7)
    made.believe([claim(A), claim(again), claim(C, Status.DEAD)])
    assert draw_up(made, (), (), NOW, is_pressing=False, me=A.identity).rank is None
    made.apply(again, NOW)
    assert draw_up(made, (), (), NOW, is_pressing=False, me=A.identity).rank == 0


def test_departures_are_of_the_proven_and_the_released() -> None:
    made = roll()
    agenda = draw_up(made, {B.identity}, (), NOW, is_pressing=False, me=A.identity)
    assert agenda.is_departure
    assert agenda.dead == (B.identity,)
    made.apply(D, NOW)
    assert not draw_up(made, {B.identity}, (), NOW, is_pressing=False, me=A.identity).is_departure


@pytest.mark.parametrize(
    ("proven", "left", "hope"),
    [
        ((), (), True),
        (("a",), (), True),
        (("a", "b"), (), False),
        (("a",), ("b",), False),
        (("a", "c"), (), True),
        (("c",), ("c", "b"), False),
    ],
)
def test_hope_lasts_while_a_quorum_may_come_together(
    proven: tuple[str, ...], left: tuple[str, ...], hope: bool
) -> None:
    members = (A, B, replace(C, has_record=True))
    dead = {member.identity for member in members if member.id in proven}
    assert can_ever_decide(View("x", 3, members), dead, left) is hope
