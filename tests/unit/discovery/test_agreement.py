"""One node's agreement, with the other members played by hand."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import pytest

from ringcast.discovery.agreement import Agreement, new_lineage
from ringcast.discovery.agreement_messages import (
    Accept,
    Accepted,
    AgreementMessage,
    Alive,
    Apply,
    Ballot,
    Charter,
    Decided,
    Denial,
    Fetch,
    Hello,
    Meet,
    Nack,
    NotRenewed,
    Prepare,
    Promised,
    Proof,
    Release,
    Renew,
    Renewed,
    Spent,
    Unfit,
)
from ringcast.discovery.applicant import Founding
from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.council import Council
from ringcast.discovery.effects import (
    Check,
    Depart,
    Effect,
    Excluded,
    InstallView,
    LeaseUntil,
    Notify,
    Persist,
    Record,
    SelfFence,
    Send,
    Warn,
)
from ringcast.discovery.fields import TEXT_MAX
from ringcast.discovery.lease import promise_seconds
from ringcast.discovery.member import Member, MemberJoined, MemberLeft, MemberLost, View, ViewChanged
from ringcast.discovery.profile import LOCAL

NOW = 100.0
P = promise_seconds(LOCAL)
CHARTER = Charter(drift_ppm=5000)
ME, B, C, D = (Member(name, f"{name}:1", {}, i, key=b"k") for i, name in enumerate("mbcd", 1))
X = "018bcfe6f32f95eb46ba0d3f6571d961"
E = TypeVar("E", bound=Effect)


def claim(member: Member, status: Status = Status.ALIVE) -> Claim:
    return Claim(member.id, member.address, member.incarnation, status=status)


def of(kind: type[E], effects: Iterable[Effect]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


class Bench:
    """One core; its words to itself are local calls, those to others are kept."""

    def __init__(self, me: Member = ME, record: Record | None = None, founding: Founding | None = None) -> None:
        self.now = NOW
        self.core = Agreement(me, LOCAL, random.Random(1), NOW, founding=founding, record=record)

    @property
    def council(self) -> Council:
        assert self.core.council is not None
        return self.core.council

    def local(self, effects: Iterable[Effect]) -> list[Effect]:
        """Carry out what the node says to itself and writes down; return the rest."""
        queue, rest = list(effects), list[Effect]()
        while queue:
            effect = queue.pop(0)
            if isinstance(effect, Persist):
                rest.append(effect)
                queue = [*effect.then, *queue]
            elif isinstance(effect, Send) and effect.address == self.core.me.address:
                queue += self.core.receive(effect.message, claim(self.core.me), self.now)  # type: ignore[arg-type]
            else:
                rest.append(effect)
        return rest

    def hear(self, sender: Member, message: AgreementMessage) -> list[Effect]:
        return self.local(self.core.receive(message, claim(sender), self.now))

    def said(self, sender: Member, message: AgreementMessage) -> list[tuple[str, object]]:
        return [(effect.address, effect.message) for effect in of(Send, self.hear(sender, message))]

    def run(self, seconds: float) -> list[Effect]:
        effects: list[Effect] = []
        until = self.now + seconds
        while self.core.next_deadline(self.now) <= until:
            self.now = max(self.now, self.core.next_deadline(self.now)) + 1e-9
            effects += self.local(self.core.tick(self.now))
        self.now = until
        return effects

    def believe(self, *claims: Claim) -> list[Effect]:
        return self.local(self.core.believe((claim(self.core.me), *claims), self.now))

    def told(self, seconds: float) -> list[tuple[str, object]]:
        return [(effect.address, effect.message) for effect in of(Send, self.run(seconds))]


def member(*others: Member, me: Member = ME) -> Bench:
    """Return a node that a decided view has just let in, with these others; all seem alive."""
    bench = Bench(me)
    bench.believe(*map(claim, others))
    bench.hear(others[0], Meet(X, 5, 3, True, True, (others[0].address,)))
    bench.hear(others[0], Decided(X, (view(5, me, *others),)))
    assert bench.core.view == view(5, me, *others)
    return bench


def view(number: int, *members: Member) -> View:
    return View(X, number, tuple(sorted(members, key=lambda member: member.seniority)))


def alone(me: Member = ME) -> Bench:
    bench = Bench(me, founding=Founding(has_discovery=False))
    bench.run(0)
    return bench


# Birth


def test_lineages_born_earlier_are_lower() -> None:
    rng = random.Random(1)
    earlier, later = new_lineage(1_700_000_000_000, rng), new_lineage(1_700_000_000_001, rng)
    assert len(earlier) == 32
    assert earlier < later


def test_alone_it_founds_a_lineage_and_serves() -> None:
    bench = Bench(founding=Founding(has_discovery=False))
    assert bench.core.lineage is None
    effects = bench.run(0)
    assert bench.core.view is not None
    assert bench.core.view == View(bench.core.lineage or "", 1, (ME,), lease_ms=1000)
    assert of(Notify, effects) == [Notify(MemberJoined(ME)), Notify(ViewChanged(bench.core.view))]
    assert of(LeaseUntil, effects)[-1].until == NOW + 1e-9 + LOCAL.lease
    bench.run(10.0)
    assert bench.core.is_serving(bench.now)


def test_it_greets_applies_and_enters() -> None:
    bench = Bench()
    bench.believe(claim(B), claim(C, Status.DEAD))
    assert bench.told(0) == [("b:1", Hello(ME, "m", True))]
    bench.hear(B, Meet(X, 4, 1, True, True, ("b:1",)))
    assert bench.core.lineage == X
    assert bench.told(0) == [("b:1", Apply(X, 0, ME, CHARTER))]
    assert bench.hear(B, Decided(X, ())) == []
    assert bench.hear(B, Decided(X, (view(4, B),))) == []
    assert bench.hear(B, Decided(X, (view(4, replace(ME, incarnation=0), B),))) == []
    effects = bench.hear(B, Decided(X, (view(4, B), view(5, ME, B))))
    assert of(InstallView, effects) == [InstallView(view(5, ME, B))]
    [renew] = [effect for effect in of(Send, effects) if effect.address == "b:1"]
    assert renew.message == Renew(X, 5, 1, (view(5, ME, B),))


def test_what_it_is_changes_before_it_belongs_anywhere() -> None:
    bench = Bench()
    bench.believe(claim(B))
    bench.core.change(replace(ME, labels={"x": "1"}, incarnation=99), bench.now)
    assert bench.core.me == replace(ME, labels={"x": "1"})
    assert bench.told(0) == [("b:1", Hello(bench.core.me, "m", True))]


def test_whoever_does_not_fit_is_told_so_and_says_so() -> None:
    bench = alone()
    lineage = bench.core.lineage or ""
    [(address, answer)] = bench.said(B, Apply(lineage, 0, B, replace(CHARTER, config="other")))
    assert address == "b:1"
    assert isinstance(answer, Unfit)
    assert of(Excluded, Bench().hear(B, answer)) == [Excluded(answer.why, B.id, "b:1")]


def test_whoever_has_another_store_than_the_members_is_told_so() -> None:
    bench = alone(replace(ME, store="one"))
    lineage = bench.core.lineage or ""
    [(address, answer)] = bench.said(B, Apply(lineage, 0, replace(B, store="two"), CHARTER))
    assert address == "b:1"
    assert isinstance(answer, Unfit)
    assert len(answer.why) + 80 <= TEXT_MAX  # with real ids
    assert "its store is two, theirs is one: give all nodes the same Node(store=…)" in answer.why
    for fitting in (replace(C, store="one"), D):
        assert all(isinstance(said, Meet) for _, said in bench.said(fitting, Apply(lineage, 0, fitting, CHARTER)))


@pytest.mark.parametrize(
    ("charter", "says"),
    [
        (replace(CHARTER, config="other"), "elsewhere"),
        (replace(CHARTER, drift_ppm=1), "1 ppm"),
    ],
)
def test_it_is_said_what_does_not_fit(charter: Charter, says: str) -> None:
    assert says in charter.differs_from(CHARTER)


def test_a_newcomer_takes_over_the_lease_of_the_lineage() -> None:
    bench = Bench()
    bench.hear(B, Meet(X, 4, 1, True, True, ("b:1",)))
    effects = bench.hear(B, Decided(X, (View(X, 4, (B, ME), lease_ms=4000),)))
    [renew] = [effect.message for effect in of(Send, effects) if isinstance(effect.message, Renew)]
    assert LeaseUntil(bench.now + 4.0) in bench.hear(B, Renewed(X, 4, renew.round))


def test_a_run_that_was_let_in_and_out_again_goes_on_as_a_new_one() -> None:
    bench = Bench()
    bench.hear(B, Meet(X, 4, 1, True, True, ("b:1",)))
    assert bench.hear(B, Spent(X, ("m", 0))) == []
    [fence] = of(SelfFence, bench.hear(B, Spent(X, ME.identity)))
    assert fence.me.incarnation > ME.incarnation
    assert bench.core.lineage == X


def test_an_applicant_looks_anew_when_those_have_left_the_lineage_who_told_of_it() -> None:
    bench = Bench()
    bench.believe(claim(B))
    bench.hear(B, Meet(X, 4, 1, True, True, ("b:1",)))
    assert bench.hear(B, NotRenewed("another", 0, Denial.LEFT)) == []
    assert bench.core.lineage == X
    assert bench.hear(B, NotRenewed(X, 0, Denial.LEFT)) == []
    assert bench.core.lineage is None
    assert bench.told(0) == [("b:1", Hello(ME, "m", True))]


# Members


def test_a_majority_of_renewals_makes_a_lease() -> None:
    bench = member(B, C)
    effects = bench.hear(B, Renewed(X, 5, 1))
    assert of(LeaseUntil, effects) == [LeaseUntil(NOW + LOCAL.lease)]
    assert bench.hear(C, Renewed(X, 4, 1)) == []
    assert bench.hear(D, Renewed(X, 5, 1)) == []
    assert bench.core.is_serving(NOW)
    bench.now += LOCAL.lease
    assert not bench.core.is_serving(bench.now)


def test_it_renews_members_and_brings_others_up_to_date() -> None:
    bench = member(B, C)
    assert bench.said(B, Renew(X, 5, 9)) == [("b:1", Renewed(X, 5, 9))]
    assert bench.said(D, Renew(X, 5, 9)) == []
    assert bench.said(B, Renew(X, 4, 9)) == [("b:1", Decided(X, (view(5, ME, B, C),)))]
    assert bench.said(B, Renew(X, 6, 9)) == [("b:1", Fetch(X, 5))]
    six = view(6, ME, B, C, D)
    said = bench.said(B, Renew(X, 6, 9, (six,)))
    assert bench.core.view == six
    assert ("b:1", Renewed(X, 6, 9)) in said
    assert bench.said(B, Fetch(X, 5)) == [("b:1", Decided(X, (six,), True))]
    [fence] = of(SelfFence, bench.hear(B, Renew(X, 7, 9, (view(7, B, C, D),))))
    assert fence.why == "the others went on without this node"


def test_it_does_not_renew_whom_it_holds_for_dead_and_that_one_objects() -> None:
    bench = member(B, C)
    bench.core.evidence.replaced(B.identity, bench.now)
    assert ("b:1", NotRenewed(X, 5, Denial.PROVEN)) in bench.said(B, Renew(X, 5, 9))
    assert bench.said(B, NotRenewed(X, 5, Denial.PROVEN)) == [("b:1", Alive(X, ME.identity))]
    bench.hear(B, Alive(X, B.identity))
    assert bench.said(B, Renew(X, 5, 9)) == [("b:1", Renewed(X, 5, 9))]


def test_a_silent_member_is_left_out_after_its_lease() -> None:
    bench = member(B, C)
    bench.hear(C, Renew(X, 5, 1))
    bench.believe(claim(B), claim(C, Status.DEAD))
    effects = bench.run(LOCAL.lease + LOCAL.settle + 0.01)
    [ballot] = {e.message.ballot for e in of(Send, effects) if isinstance(e.message, Prepare)}
    promised = bench.hear(B, Promised(X, 6, ballot, None))
    asked = [effect.message for effect in of(Send, promised) if isinstance(effect.message, Accept)]
    six = view(6, ME, B)
    assert {question.view for question in asked} == {six}
    # It was renewed when it was last heard, and that promise is over by now.
    effects = bench.hear(B, Accepted(X, 6, ballot))
    assert of(InstallView, effects) == [InstallView(six)]
    assert {e.address for e in of(Send, effects) if isinstance(e.message, Decided)} == {"b:1", "c:1"}
    assert of(Notify, effects) == [Notify(MemberLost(C)), Notify(ViewChanged(six))]


def test_ballots_of_other_numbers_and_of_strangers_are_not_counted() -> None:
    bench = member(B, C)
    assert bench.said(B, Prepare(X, 9, Ballot(1, "b", 2), ())) == [("b:1", Fetch(X, 5))]
    assert bench.said(B, Prepare(X, 5, Ballot(1, "b", 2), ())) == [("b:1", Decided(X, (view(5, ME, B, C),)))]
    assert bench.said(D, Promised(X, 6, Ballot(1, "m", 1), None)) == []
    assert bench.said(B, Accepted(X, 9, Ballot(1, "m", 1))) == []


def test_a_member_that_is_no_voter_does_not_vote() -> None:
    seniors = [Member(f"s{i}", f"s{i}:1", {}, 0) for i in range(7)]
    bench = member(*seniors)
    assert bench.said(seniors[0], Prepare(X, 6, Ballot(1, "s0", 0), ())) == []
    assert bench.said(seniors[0], Renew(X, 5, 1)) == []


def test_votes_are_on_disk_before_they_are_cast() -> None:
    bench = member(B, C, me=replace(ME, has_record=True))
    ballot = Ballot(3, "b", 2)
    [persist] = bench.core.receive(Prepare(X, 6, ballot, ()), claim(B), bench.now)
    assert persist == Persist(Record(1, bench.core.view, ballot, None), (Send("b:1", Promised(X, 6, ballot, None)),))
    low = Prepare(X, 6, Ballot(2, "b", 2), ())
    assert bench.core.receive(low, claim(B), bench.now)[0] == Send("b:1", Nack(X, 6, low.ballot, ballot, ()))


def test_an_acceptance_that_comes_too_early_is_answered_when_the_promise_is_over() -> None:
    junior = replace(ME, incarnation=9)
    bench = member(B, C, me=junior)
    ballot = Ballot(3, "b", 2)
    assert bench.said(B, Accept(X, 6, ballot, view(6, junior, B), ())) == []
    assert bench.said(C, Renew(X, 5, 7)) == [("c:1", NotRenewed(X, 5, Denial.FROZEN))]
    answer = ("b:1", Accepted(X, 6, ballot))
    # The proposer repeats itself, so this voter leaves it the time.
    while bench.now < NOW + P - 0.1:
        assert answer not in bench.told(0.1)
        assert bench.said(B, Accept(X, 6, ballot, view(6, junior, B), ())) == []
    assert answer in bench.told(0.1)
    assert bench.said(C, Renew(X, 5, 8)) == [("c:1", NotRenewed(X, 5, Denial.SEALED))]


def test_applicants_are_answered_until_they_are_in() -> None:
    bench = member(B, C)
    [(address, answer)] = bench.said(D, Apply(X, 0, D, CHARTER))
    assert address == "d:1"
    assert isinstance(answer, Meet)
    assert bench.said(C, Apply(X, 0, D, CHARTER)) == []
    assert bench.said(B, Apply(X, 5, B, CHARTER)) == []
    assert bench.said(B, Apply(X, 0, B, CHARTER)) == [("b:1", Decided(X, (view(5, ME, B, C),)))]
    bench.hear(B, Decided(X, (view(6, ME, B),)))
    news = ("c:1", Decided(X, (view(5, ME, B, C), view(6, ME, B))))
    assert bench.said(C, Apply(X, 0, C, CHARTER))[:2] == [news, ("c:1", Spent(X, C.identity))]
    older = replace(B, incarnation=0)
    assert bench.said(older, Apply(X, 0, older, CHARTER)) == []


def test_a_newer_run_is_proof_that_the_older_one_is_over() -> None:
    for word in (Apply(X, 0, replace(B, incarnation=9), CHARTER), Hello(replace(B, incarnation=9), "", True)):
        bench = member(B, C)
        bench.hear(replace(B, incarnation=9), word)
        assert list(bench.core.evidence.proven) == [B.identity]
    stranger = replace(B, incarnation=9, key=b"other")
    bench = member(B, C)
    bench.hear(stranger, Apply(X, 0, stranger, CHARTER))
    bench.hear(stranger, Hello(stranger, "", True))
    assert bench.core.evidence.proven == {}
    assert bench.hear(C, Hello(stranger, "", True)) == []


def test_views_come_in_turn_or_not_at_all() -> None:
    bench = member(B, C)
    assert bench.said(B, Decided(X, (view(8, ME, B, C),))) == [("b:1", Fetch(X, 5))]
    [fence] = of(SelfFence, bench.hear(B, Decided(X, (view(8, ME, B, C),), True)))
    assert "no view as old" in fence.why
    assert bench.core.lineage == X
    bench = member(B, C)
    effects = bench.hear(B, Decided(X, (view(6, B, C), view(7, ME, B, C))))
    assert of(InstallView, effects) == []
    assert of(SelfFence, effects) != []


def test_a_fork_is_told_and_the_smaller_side_gives_way() -> None:
    bench = member(B, C)
    assert bench.hear(B, Decided(X, (view(5, ME, B, C),))) == []
    [warning] = of(Warn, bench.hear(B, Decided(X, (view(5, ME),))))
    assert "two views have the number 5" in warning.what
    assert bench.council.forks == 1
    effects = bench.hear(B, Decided(X, (view(5, ME, B, C, D),)))
    assert of(SelfFence, effects) != []


def test_its_record_is_applied_for_until_the_view_shows_it() -> None:
    bench = member(B, C)
    bench.core.change(replace(ME, labels={"x": "1"}), bench.now)
    mine = bench.core.me
    words = bench.told(LOCAL.retry)
    assert ("b:1", Apply(X, 5, mine, CHARTER)) in words
    assert ("c:1", Apply(X, 5, mine, CHARTER)) in words
    bench.hear(B, Decided(X, (view(6, mine, B, C),)))
    assert [word for _, word in bench.told(2.0) if isinstance(word, Apply)] == []


# Leaving


def test_it_releases_its_lease_and_goes_when_the_others_let_it() -> None:
    bench = member(B, C)
    leaving = replace(ME, leaving=True)
    bench.core.change(leaving, bench.now)
    bench.hear(B, Decided(X, (view(6, leaving, B, C),)))
    bench.hear(B, Renewed(X, 6, 2))
    words = [effect.message for effect in of(Send, bench.local(bench.core.release(bench.now)))]
    assert words == [Release(X, 6), Release(X, 6)]
    assert bench.hear(C, Renewed(X, 6, 2)) == []
    assert bench.hear(C, NotRenewed(X, 6, Denial.PROVEN)) == []
    assert bench.local(bench.core.release(bench.now)) != []
    effects = bench.hear(B, Decided(X, (view(7, B, C), view(8, B))))
    assert effects[-1] == Depart()
    assert bench.core.next_deadline(bench.now) == float("inf")
    assert bench.core.tick(bench.now) == []
    assert bench.core.receive(Renew(X, 8, 1), claim(B), bench.now) == []


def test_those_who_release_are_left_out_at_once() -> None:
    bench = member(B, C)
    bench.hear(C, Renew(X, 5, 1))
    assert bench.said(C, Release(X, 5)) == []
    assert bench.core.excused == {C.identity}
    assert bench.said(C, Renew(X, 5, 2)) == [("c:1", NotRenewed(X, 5, Denial.RELEASED))]
    assert any(isinstance(word, Prepare) for _, word in bench.told(2 * LOCAL.settle_departure))
    assert bench.said(D, Release(X, 4)) == [("d:1", Decided(X, (view(5, ME, B, C),)))]
    effects = bench.hear(B, Decided(X, (view(6, ME, B, replace(C, leaving=True)), view(7, ME, B))))
    assert Notify(MemberLeft(replace(C, leaving=True))) in effects


def test_it_does_not_wait_for_ever_to_be_let_go() -> None:
    bench = member(B, C)
    bench.local(bench.core.release(bench.now))
    bench.run(LOCAL.drain + 9.0)
    assert Depart() in bench.run(2.0)


def test_the_last_one_and_those_who_belong_nowhere_just_go() -> None:
    assert Depart() in alone().core.release(NOW)
    assert Depart() in Bench().core.release(NOW)
    bench = member(B, C)
    bench.local(bench.core.release(bench.now))
    assert Depart() in bench.hear(B, Decided(X, (view(9, ME, B),), True))


# Proof


def test_a_refused_connection_is_proof_when_nobody_objects() -> None:
    bench = member(B, C)
    bench.core.evidence.connected(C.identity, "c:1")
    bench.core.evidence.ended(C.identity, bench.now, by_peer=True)
    assert Check("c:1") in bench.run(0)
    accused = bench.core.refused("c:1", bench.now)
    assert accused == [Send("b:1", Proof(X, C.identity)), Send("c:1", Proof(X, C.identity))]
    words = [word for _, word in bench.told(0.2) if isinstance(word, Prepare)]
    assert {word.dead for word in words} == {(C.identity,)}
    assert Bench().core.refused("c:1", NOW) == []
    assert bench.core.answered("b:1", B.identity, bench.now) == []


def test_the_accused_objects_itself() -> None:
    bench = member(B, C)
    assert bench.said(B, Proof(X, ME.identity)) == [("b:1", Alive(X, ME.identity))]
    ballot = Ballot(1, "b", 2)
    for question in (Prepare(X, 6, ballot, (ME.identity,)), Accept(X, 6, ballot, view(6, B), (ME.identity,))):
        assert bench.said(B, question) == [("b:1", Nack(X, 6, ballot, None, (ME.identity,)))]
    assert bench.said(B, Proof(X, C.identity)) == []


def test_who_is_still_connected_is_asked_on_behalf_of_others() -> None:
    bench = member(B, C)
    bench.core.evidence.connected(C.identity, "c:1")
    assert bench.said(B, Proof(X, C.identity)) == [("c:1", Proof(X, C.identity))]
    assert bench.said(C, Alive(X, C.identity)) == [("b:1", Alive(X, C.identity))]
    assert bench.said(C, Alive(X, C.identity)) == []
    bench.said(B, Proof(X, C.identity))
    bench.run(1.5)
    assert bench.said(C, Alive(X, C.identity)) == []
    bench.said(B, Proof(X, C.identity))
    assert bench.said(B, Alive(X, D.identity)) == []


def test_a_ballot_waits_for_the_answer_of_its_dead() -> None:
    question = Prepare(X, 6, Ballot(1, "b", 2), (C.identity,))
    bench = member(B, C)
    bench.core.evidence.connected(C.identity, "c:1")
    assert bench.said(B, question) == [("c:1", Proof(X, C.identity))]
    assert bench.said(D, Alive(X, D.identity)) == []
    assert bench.said(C, Alive(X, C.identity)) == [("b:1", Nack(X, 6, question.ballot, None, (C.identity,)))]
    # No answer in time: it is dead, for all that is known here.
    bench = member(B, C)
    bench.core.evidence.connected(C.identity, "c:1")
    bench.hear(B, question)
    assert [word for _, word in bench.told(LOCAL.probe_timeout + 0.01) if isinstance(word, Promised)] != []
    assert list(bench.core.evidence.proven) == [C.identity]


def test_an_objection_withdraws_the_proof() -> None:
    bench = member(B, C)
    bench.core.evidence.replaced(C.identity, bench.now)
    [ballot] = {word.ballot for _, word in bench.told(LOCAL.settle_departure + 0.01) if isinstance(word, Prepare)}
    bench.hear(B, Nack(X, 6, ballot, None, (C.identity,)))
    assert bench.core.evidence.proven == {}


# Restarts


def test_a_restarted_voter_goes_back_to_its_lineage() -> None:
    again = replace(ME, has_record=True, incarnation=9)
    record = Record(1, view(5, ME, B, C), Ballot(4, "b", 2), None)
    bench = Bench(again, record)
    assert bench.core.lineage == X
    assert ("b:1", Apply(X, 5, again, CHARTER)) in bench.told(0)
    assert bench.said(B, Prepare(X, 6, Ballot(3, "b", 2), ())) == [
        ("b:1", Nack(X, 6, Ballot(3, "b", 2), Ballot(4, "b", 2), ()))
    ]
    assert bench.said(B, Renew(X, 5, 3)) == [("b:1", Renewed(X, 5, 3))]
    # It may skip views, for it held nothing under them; it votes as long as its id is named.
    bench.hear(B, Decided(X, (view(8, ME, C),)))
    assert (bench.council.view.number, bench.core.view) == (8, None)
    effects = bench.hear(B, Decided(X, (view(9, B, C, again),)))
    assert of(InstallView, effects) == [InstallView(view(9, B, C, again))]


def test_a_restarted_voter_that_was_replaced_applies_as_a_new_run() -> None:
    again = replace(ME, has_record=True, incarnation=9)
    bench = Bench(again, Record(1, view(5, ME, B, C)))
    effects = bench.hear(B, Decided(X, (view(6, B, C),)))
    [fence] = of(SelfFence, effects)
    [*_, persist] = of(Persist, effects)
    assert persist.record == Record(fence.me.incarnation)
    assert [send.message for send in persist.then] == [Apply(X, 0, fence.me, CHARTER)] * 2


def test_a_record_without_this_node_is_none() -> None:
    assert Bench(ME, Record(1, view(5, B, C))).core.council is None
    assert Bench(ME, Record(1)).core.council is None


# The end of a lineage


def test_without_hope_it_starts_over() -> None:
    bench = member(B, C)
    for other in (B, C):
        bench.core.evidence.replaced(other.identity, bench.now)
    bench.run(2 * P - 0.1)
    assert bench.core.lineage == X
    [fence] = of(SelfFence, bench.run(0.4))
    assert fence.why == "no quorum of the voters is left"
    assert bench.core.lineage is None


def test_voters_that_have_left_are_no_hope() -> None:
    bench = member(B, C)
    bench.hear(B, NotRenewed(X, 5, Denial.LEFT))
    for other in (B, C):
        bench.hear(replace(other, incarnation=50), NotRenewed(X, 5, Denial.LEFT))
    assert of(SelfFence, bench.run(2 * P + 0.5)) != []


def test_an_operator_may_give_a_lineage_up() -> None:
    bench = member(B, C)
    [fence] = of(SelfFence, bench.core.dissolve("told to", bench.now))
    assert fence.why == "told to"
    assert bench.core.dissolve("again", bench.now) == []
    bench = member(B, C)
    bench.local(bench.core.release(bench.now))
    assert Depart() in bench.core.dissolve("told to", bench.now)


def test_a_shell_may_end_a_run_that_comes_back() -> None:
    bench = member(B, C)
    [fence] = of(SelfFence, bench.core.start_over("SWIM buried it", bench.now))
    assert fence.me.incarnation > ME.incarnation
    assert bench.core.lineage == X
    [again] = of(SelfFence, bench.core.start_over("and once more", bench.now))
    assert again.me.incarnation > fence.me.incarnation
    assert bench.core.lineage == X
    seeking = Bench()
    assert of(SelfFence, seeking.core.start_over("early", NOW)) != []
    assert seeking.core.lineage is None


# Lineages that meet


def meet(lineage: str, size: int, *, is_serving: bool = True, is_reply: bool = False, number: int = 3) -> Meet:
    return Meet(lineage, number, size, is_serving, is_reply, ("d:1",))


def test_the_smaller_lineage_dissolves_into_one_that_serves() -> None:
    older, younger = "00" + X[2:], "f" + X[1:]
    for other, moves in (
        (meet(younger, 9), True),
        (meet(older, 3), True),
        (meet(younger, 3), False),
        (meet(older, 2), False),
        (meet(older, 9, is_serving=False), False),
    ):
        bench = member(B, C)
        effects = bench.hear(D, other)
        assert bool(of(SelfFence, effects)) is moves
        assert bench.core.lineage == (other.lineage if moves else X)
        if not moves:
            [answer] = [effect.message for effect in of(Send, effects)]
            assert isinstance(answer, Meet)
            assert answer.is_reply
            assert bench.hear(D, replace(other, is_reply=True)) == []


def test_one_that_has_not_served_for_long_moves_to_any_that_does() -> None:
    bench = member(B, C)
    bench.run(3 * LOCAL.lease)
    assert of(SelfFence, bench.hear(D, meet("f" + X[1:], 1))) != []


def test_one_that_has_released_its_lease_does_not_move_but_go() -> None:
    bench = member(B, C)
    bench.local(bench.core.release(bench.now))
    assert Depart() in bench.hear(D, meet("f" + X[1:], 9))


def test_of_the_same_lineage_the_one_behind_catches_up() -> None:
    bench = member(B, C)
    assert bench.said(D, meet(X, 3, number=5)) == []
    assert bench.said(D, meet(X, 3, number=9)) == [("d:1", Fetch(X, 5))]


def test_strangers_are_told_of_the_lineage() -> None:
    bench = member(B, C)
    bench.believe(claim(B), claim(C), claim(D), claim(Member("e", "e:1"), Status.DEAD))
    meets = {address for address, word in bench.told(1.0) if isinstance(word, Meet)}
    assert meets == {"d:1"}


def test_words_of_another_lineage_are_answered_by_meeting() -> None:
    bench = member(B, C)
    [left, answer] = bench.said(D, Renew("other", 4, 1))
    assert left == ("d:1", NotRenewed("other", 4, Denial.LEFT))
    assert isinstance(answer[1], Meet)
    [answer] = bench.said(D, Renewed("other", 4, 1))
    assert isinstance(answer[1], Meet)
    seeking = Bench()
    assert seeking.said(D, Apply("other", 4, D, CHARTER)) == [("d:1", NotRenewed("other", 4, Denial.LEFT))]
    assert seeking.said(D, Renewed("other", 4, 1)) == []


def test_a_word_of_an_older_run_counts_for_nothing() -> None:
    bench = member(B, C)
    bench.hear(replace(B, incarnation=9), Renew(X, 5, 1))
    assert bench.said(B, Renew(X, 5, 1)) == []
    assert bench.said(C, Spent(X, ME.identity)) == []


def test_greetings_between_seekers_are_not_answered() -> None:
    bench = Bench()
    assert bench.hear(B, Hello(B, "b", True)) == []
    assert alone().said(B, Hello(B, "b", True)) != []
