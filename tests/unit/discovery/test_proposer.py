from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ringcast.discovery.agenda import Agenda
from ringcast.discovery.agreement_messages import (
    Accept,
    Accepted,
    AgreementMessage,
    Ballot,
    Nack,
    Prepare,
    Promised,
    Vote,
)
from ringcast.discovery.effects import Effect, Send
from ringcast.discovery.member import Member, View
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.proposer import Proposer

NOW = 100.0
A, B, C, D = (Member(name, f"{name}:1", {}, i) for i, name in enumerate("abcd"))
VIEW = View("x", 3, (A, B, C))
AGENDA = Agenda(VIEW, (A, B), is_pressing=False, is_departure=False, dead=(), rank=0)
FIRST = Ballot(1, "a", 0)


class Bench:
    def __init__(self) -> None:
        self.proposer = Proposer(LOCAL, random.Random(1), lambda member: member.address)
        self.now = NOW

    def consider(self, agenda: Agenda = AGENDA) -> list[AgreementMessage]:
        return said(self.proposer.consider(agenda, A.identity, self.now))

    def wait(self, agenda: Agenda = AGENDA) -> list[AgreementMessage]:
        """Go to the next deadline and return what is said there."""
        self.now = self.proposer.next_deadline()
        return self.consider(agenda)

    def begun(self, agenda: Agenda = AGENDA) -> Bench:
        assert self.consider(agenda) == []
        assert [type(word) for word in self.wait(agenda)] == [Prepare] * 3
        return self

    def promised(self, member: Member, vote: Vote | None = None, agenda: Agenda = AGENDA) -> list[AgreementMessage]:
        message = Promised("x", 4, FIRST, vote)
        return said(self.proposer.on_promised(message, member.identity, agenda, self.now))

    def accepted(self, member: Member) -> View | None:
        return self.proposer.on_accepted(Accepted("x", 4, FIRST), member.identity, VIEW)


def said(effects: list[Effect]) -> list[AgreementMessage]:
    return [effect.message for effect in effects if isinstance(effect, Send)]  # type: ignore[misc]


def test_a_wish_settles_before_a_ballot_begins() -> None:
    bench = Bench()
    bench.consider()
    assert bench.proposer.next_deadline() == NOW + LOCAL.settle
    bench.now += LOCAL.settle / 2
    bench.consider(replace(AGENDA, wish=(A,)))
    assert bench.proposer.next_deadline() == pytest.approx(NOW + 1.5 * LOCAL.settle)
    assert bench.consider(replace(AGENDA, wish=VIEW.members)) == []
    assert bench.proposer.next_deadline() == float("inf")


def test_wishes_that_never_settle_are_put_off_for_a_while_only() -> None:
    bench = Bench()
    for i in range(8):
        bench.consider(replace(AGENDA, wish=(A,) if i % 2 else (A, B)))
        bench.now += LOCAL.settle * 0.8
    assert bench.proposer.ballots == 1


def test_departures_settle_quickly_and_juniors_wait_longer() -> None:
    quick, junior = Bench(), Bench()
    quick.consider(replace(AGENDA, is_departure=True))
    assert quick.proposer.next_deadline() == NOW + LOCAL.settle_departure
    junior.consider(replace(AGENDA, rank=1))
    assert junior.proposer.next_deadline() >= NOW + LOCAL.settle + 0.75 * LOCAL.retry


def test_a_quorum_of_promises_leads_to_the_wish_and_a_quorum_of_votes_to_a_decision() -> None:
    bench = Bench().begun()
    assert bench.promised(A) == []
    asked = bench.promised(B)
    wished = View("x", 4, (A, B))
    assert asked == [Accept("x", 4, FIRST, wished, ())] * 3
    assert bench.promised(C) == []
    assert bench.accepted(A) is None
    assert bench.accepted(C) == wished


def test_the_vote_of_the_highest_ballot_is_taken_over() -> None:
    bench = Bench().begun()
    older, newer = View("x", 4, (A,)), View("x", 4, (B,))
    bench.promised(A, Vote(Ballot(0, "b", 0), older))
    [question, *_] = bench.promised(B, Vote(Ballot(0, "c", 0), newer))
    assert isinstance(question, Accept)
    assert question.view == newer


def test_what_nobody_wishes_any_more_is_given_up_after_the_promises() -> None:
    bench = Bench().begun()
    bench.promised(A)
    assert bench.promised(B, agenda=replace(AGENDA, wish=VIEW.members)) == []
    assert bench.proposer.next_deadline() == float("inf")
    # But not if there has to be another view.
    bench = Bench().begun()
    pressing = replace(AGENDA, wish=VIEW.members, is_pressing=True)
    bench.promised(A)
    assert bench.promised(B, agenda=pressing) == [Accept("x", 4, FIRST, View("x", 4, VIEW.members), ())] * 3


def test_silent_voters_are_asked_again() -> None:
    bench = Bench().begun()
    bench.promised(B)
    assert bench.consider() == []
    again = bench.proposer.consider(AGENDA, A.identity, bench.proposer.next_deadline())
    assert [effect.address for effect in again if isinstance(effect, Send)] == ["a:1", "c:1"]
    bench.promised(A)
    bench.accepted(B)
    assert bench.wait() == [Accept("x", 4, FIRST, View("x", 4, (A, B)), ())] * 2


def test_after_a_refusal_comes_a_higher_ballot() -> None:
    bench = Bench().begun()
    nack = Nack("x", 4, FIRST, Ballot(7, "c", 0), ())
    bench.proposer.on_nack(nack, AGENDA, bench.now)
    bench.proposer.on_nack(nack, AGENDA, bench.now)
    bench.proposer.on_nack(replace(nack, ballot=Ballot(0, "a", 0), promised=None), AGENDA, bench.now)
    assert bench.wait() == [Prepare("x", 4, Ballot(8, "a", 0), ())] * 3
    assert bench.promised(A) == []
    assert bench.accepted(A) is None
    bench.proposer.reset()
    assert bench.accepted(A) is None


def test_proof_that_comes_later_is_of_no_use_to_a_ballot() -> None:
    four = View("x", 3, (A, B, C, D))
    agenda = Agenda(four, (A, B, C), is_pressing=False, is_departure=False, dead=(), rank=0)
    bench = Bench()
    bench.consider(agenda)
    bench.wait(agenda)
    bench.promised(A, agenda=agenda)
    proven = replace(agenda, dead=(D.identity,))
    assert bench.promised(B, agenda=proven) == []
    assert bench.consider(proven) == [Prepare("x", 4, Ballot(2, "a", 0), (D.identity,))] * 4


def test_it_leaves_time_to_another_proposer() -> None:
    bench = Bench()
    bench.proposer.give_way(AGENDA, NOW)
    assert bench.proposer.next_deadline() == float("inf")
    bench.consider()
    bench.proposer.give_way(AGENDA, NOW + LOCAL.settle)
    assert bench.proposer.next_deadline() >= NOW + LOCAL.settle + 0.75 * LOCAL.retry
    begun = Bench().begun()
    due = begun.proposer.next_deadline()
    begun.proposer.give_way(AGENDA, begun.now)
    assert begun.proposer.next_deadline() == due
