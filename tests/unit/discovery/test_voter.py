from ringcast.discovery.agreement_messages import Accept, Accepted, Ballot, Denial, Nack, Prepare, Promised, Vote
from ringcast.discovery.effects import Record
from ringcast.discovery.lease import promise_seconds
from ringcast.discovery.member import Identity, Member, View
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.voter import Voter

NOW = 100.0
P = promise_seconds(LOCAL)
A, B, C = (Member(name, f"{name}:1", {}, i) for i, name in enumerate("abc"))
VIEW = View("x", 3, (A, B, C))
WITHOUT_C = View("x", 4, (A, B))
SAME = View("x", 4, (A, B, C))


def ballot(counter: int) -> Ballot:
    return Ballot(counter, "a", 0)


def accept(counter: int, view: View = SAME, dead: tuple[Identity, ...] = ()) -> Accept:
    return Accept("x", 4, ballot(counter), view, dead)


def settled() -> Voter:
    """Return a voter whose promises of the beginning are over at `NOW`."""
    return Voter(LOCAL, VIEW, NOW - P)


def test_it_promises_the_highest_ballot_and_refuses_lower_ones() -> None:
    voter = settled()
    assert voter.prepare(Prepare("x", 4, ballot(2), ())) == Promised("x", 4, ballot(2), None)
    assert voter.prepare(Prepare("x", 4, ballot(2), ())) == Promised("x", 4, ballot(2), None)
    assert voter.prepare(Prepare("x", 4, ballot(1), ())) == Nack("x", 4, ballot(1), ballot(2), ())
    assert voter.accept(accept(1), "a:1", (), NOW) == Nack("x", 4, ballot(1), ballot(2), ())
    assert voter.frozen == frozenset()


def test_it_tells_what_it_has_accepted() -> None:
    voter = settled()
    assert voter.accept(accept(2), "a:1", (), NOW) == Accepted("x", 4, ballot(2))
    vote = Vote(ballot(2), SAME)
    assert voter.prepare(Prepare("x", 4, ballot(3), ())) == Promised("x", 4, ballot(3), vote)
    assert voter.record(7) == Record(7, VIEW, ballot(3), vote)


def test_a_promise_holds_an_acceptance_until_it_is_over() -> None:
    voter = settled()
    assert voter.renew(C.identity, (), NOW) is None
    assert voter.accept(accept(1, WITHOUT_C), "a:1", (), NOW) is None
    assert voter.next_deadline(()) == NOW + P
    assert voter.due((), NOW + P - 0.01) is None
    held = voter.due((), NOW + P)
    assert held is not None
    assert held.address == "a:1"
    assert voter.due((), NOW + P) is None
    assert voter.accept(held.message, held.address, (), NOW + P) == Accepted("x", 4, ballot(1))
    assert voter.next_deadline(()) == float("inf")


def test_proof_and_release_void_a_promise() -> None:
    for excused, dead in (((C.identity,), ()), ((), (C.identity,))):
        voter = settled()
        voter.renew(C.identity, (), NOW)
        assert voter.accept(accept(1, WITHOUT_C, dead), "a:1", excused, NOW) == Accepted("x", 4, ballot(1))


def test_it_renews_nobody_whom_it_was_asked_to_leave_out() -> None:
    voter = settled()
    voter.renew(C.identity, (), NOW)
    voter.accept(accept(1, WITHOUT_C), "a:1", (), NOW)
    assert voter.frozen == {C.identity}
    assert voter.renew(C.identity, (), NOW) is Denial.FROZEN
    assert voter.renew(A.identity, (), NOW) is None
    voter.install(WITHOUT_C, NOW)
    assert voter.frozen == frozenset()


def test_it_renews_nobody_once_it_has_accepted_anything() -> None:
    voter = settled()
    voter.accept(accept(1), "a:1", (), NOW)
    assert voter.is_sealed
    assert voter.renew(A.identity, (), NOW) is Denial.SEALED


def test_it_does_not_renew_the_dead() -> None:
    assert settled().renew(A.identity, {A.identity}, NOW) is Denial.PROVEN


def test_a_new_view_carries_promises_to_all_its_members() -> None:
    voter = settled()
    voter.accept(accept(1), "a:1", (), NOW)
    voter.install(SAME, NOW)
    assert (voter.promised, voter.vote) == (None, None)
    next_view = View("x", 5, (A, B))
    message = Accept("x", 5, ballot(1), next_view, ())
    assert voter.accept(message, "a:1", (), NOW + P - 0.01) is None
    assert voter.accept(message, "a:1", (), NOW + P) == Accepted("x", 5, ballot(1))


def test_after_a_restart_it_is_silent_for_a_promise() -> None:
    voter = Voter(LOCAL, VIEW, NOW)
    voter.restore(Record(7, VIEW, ballot(5), None), NOW)
    assert voter.prepare(Prepare("x", 4, ballot(4), ())) == Nack("x", 4, ballot(4), ballot(5), ())
    assert voter.accept(accept(6), "a:1", (), NOW + P - 0.01) is None
    assert voter.accept(accept(6), "a:1", (), NOW + P) == Accepted("x", 4, ballot(6))
