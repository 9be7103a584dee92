from dataclasses import replace

import pytest

from ringcast.discovery.member import Member, View
from ringcast.discovery.viewlog import VIEWS_KEPT, ViewLog, digest_of

A, B = Member("a", "a:1", {}, 1), Member("b", "b:1", {}, 2)


def view(number: int, *members: Member) -> View:
    return View("x", number, members or (A,))


def test_it_keeps_the_last_views_and_gives_a_few_at_a_time() -> None:
    log = ViewLog([view(1)])
    for number in range(2, 200):
        log.append(view(number))
    assert log.last == view(199)
    assert [v.number for v in log.after(195)] == [196, 197, 198, 199]
    assert [v.number for v in log.recent()] == [196, 197, 198, 199]
    oldest = log.after(0)
    assert (oldest[0].number, len(oldest)) == (200 - VIEWS_KEPT, 16)
    with pytest.raises(AssertionError):
        log.append(view(199))


def test_it_finds_forks() -> None:
    log = ViewLog([view(1), view(2, A, B)])
    assert not log.forked(view(2, A, B))
    assert not log.forked(view(3))
    assert log.forked(view(2, A))


def test_it_knows_who_has_been_a_member() -> None:
    log = ViewLog([view(1, A, B), view(2, A)])
    assert log.has_had(B.identity)
    assert log.has_had(("b", 1))
    assert not log.has_had(("b", 3))
    assert not log.has_had(("c", 1))


def test_digests_differ_where_views_do() -> None:
    changed = [replace(A, labels={"x": "1"}), replace(A, leaving=True), replace(A, key=b"k"), replace(A, incarnation=2)]
    digests = {digest_of(view(1, member)) for member in (A, *changed)} | {digest_of(view(2))}
    assert len(digests) == 6
    assert digest_of(view(1, replace(A, labels={"x": "1", "y": "2"}))) == digest_of(
        view(1, replace(A, labels={"y": "2", "x": "1"}))
    )
