"""What the parts of one node's membership tell each other; the other members are played by hand."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import pytest

from ringcast.discovery.agreement_messages import Alive, Apply, Charter, Decided, Hello, Meet, Proof, Release, Renew
from ringcast.discovery.applicant import Founding
from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.effects import (
    Check,
    Depart,
    Effect,
    InstallView,
    LeaseUntil,
    Notify,
    Persist,
    Record,
    SelfFence,
    Send,
    SendUdp,
    Warn,
)
from ringcast.discovery.handoff import Drained, DrainedSeen, Open
from ringcast.discovery.member import Member, MemberLost, MemberSuspected, View
from ringcast.discovery.messages import Envelope, Exchange, Gossip, Message, Ping
from ringcast.discovery.participant import Participant
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.share import PARTITIONS

NOW = 100.0
KEYS = {name: name.encode() * 32 for name in "mbcd"}
ME, B, C, D = (Member(name, f"{name}:1", {}, i, key=KEYS[name]) for i, name in enumerate("mbcd", 1))
X = "018bcfe6f32f95eb46ba0d3f6571d961"
ALL = (1 << PARTITIONS) - 1
E = TypeVar("E", bound=Effect)


def claim(member: Member, status: Status = Status.ALIVE) -> Claim:
    return Claim(member.id, member.address, member.incarnation, status=status)


def of(kind: type[E], effects: Iterable[Effect]) -> list[E]:
    return [effect for effect in effects if isinstance(effect, kind)]


def words(effects: Iterable[Effect], kind: type[Message]) -> list[Send]:
    return [effect for effect in of(Send, effects) if isinstance(effect.message, kind)]


def view(number: int, *members: Member) -> View:
    return View(X, number, tuple(sorted(members, key=lambda member: member.seniority)))


class Bench:
    """One participant, and the classes that are known to it."""

    def __init__(self, me: Member = ME, record: Record | None = None, *, is_alone: bool = False) -> None:
        self.now = NOW
        self.names = ["Actor"]
        founding = Founding(has_discovery=not is_alone)
        self.core = Participant(
            me, LOCAL, random.Random(1), NOW, shares_of=self.shares_of, founding=founding, record=record
        )

    def shares_of(self, view: View, node_id: str) -> dict[str, int]:
        """Give all to the first in order of ids who does not leave."""
        first = min((member.id for member in view.members if not member.leaving), default="")
        return dict.fromkeys(self.names, ALL if first == node_id else 0)

    def hear(self, sender: Member, message: Message, *claims: Claim, by_tcp: bool = True) -> list[Effect]:
        dialled = sender.address if by_tcp else None
        return self.core.receive(Envelope(claim(sender), message, claims), self.now, by_tcp=by_tcp, dialled=dialled)

    def run(self, seconds: float) -> list[Effect]:
        effects: list[Effect] = []
        until = self.now + seconds
        while self.core.next_deadline(self.now) <= until:
            self.now = max(self.now, self.core.next_deadline(self.now)) + 1e-9
            effects += self.core.tick(self.now)
        self.now = until
        return effects


def member(*others: Member) -> Bench:
    """Return one whom the view 5 has let in with these others; it has heard of all."""
    bench = Bench()
    bench.hear(others[0], Gossip(), *map(claim, others))
    bench.hear(others[0], Meet(X, 5, 3, True, True, (others[0].address,)))
    effects = bench.hear(others[0], Decided(X, (view(5, ME, *others),)))
    assert [install.view for install in of(InstallView, effects)] == [view(5, ME, *others)]
    return bench


# ---- words and whose they are -----------------------------------------------------------------------


def test_what_only_a_connection_can_vouch_for_is_not_taken_from_a_datagram() -> None:
    bench = member(B)
    for message in (Decided(X, (view(6, B, C),)), Exchange(True), Drained(X, 5, 1, 0)):
        assert bench.hear(B, message, by_tcp=False) == []
    assert bench.core.view == view(5, ME, B)
    [ack] = of(SendUdp, bench.hear(B, Ping(1, "m"), by_tcp=False))
    assert ack.address == "b:1"


def test_a_seed_that_is_this_node_itself_is_told_so_and_never_dialled_again() -> None:
    bench = Bench()
    bench.core.found("me-too:9", NOW)
    [dial] = [effect for effect in bench.run(0) if effect == Send("me-too:9", Exchange(True), (claim(ME),))]
    assert dial
    assert bench.core.receive(Envelope(claim(ME), Exchange(True)), NOW, by_tcp=True) == [Send("m:1", Exchange(False))]
    answer = Envelope(claim(ME), Exchange(False))
    assert bench.core.receive(answer, NOW, by_tcp=True, dialled="me-too:9") == []
    assert bench.core.receive(Envelope(claim(ME), Ping(1, "m")), NOW, by_tcp=False) == []
    assert words(bench.run(3 * LOCAL.redial), Exchange) == []


def test_addresses_are_dialled_until_they_are_gone() -> None:
    bench = Bench(is_alone=True)
    bench.core.found("x:1", NOW)
    bench.core.found("y:1", NOW)
    assert bench.core.stats()["contacts"] == 2
    bench.core.gone("x:1")
    assert {send.address for send in words(bench.run(1.0), Exchange)} == {"y:1"}


def test_a_member_speaks_with_the_key_that_the_view_pins() -> None:
    bench = member(B)
    hello = Envelope(claim(B), Gossip())
    assert bench.core.objection(hello, KEYS["b"]) is None
    [warning] = bench.core.objection(hello, KEYS["c"]) or []
    assert isinstance(warning, Warn)
    assert (warning.member, warning.address) == ("b", "b:1")
    assert "second process" in warning.what
    assert bench.core.objection(hello, KEYS["c"]) == []  # refused again, and not said again
    assert bench.core.stats()["keys_refused"] == 2
    assert bench.core.objection(Envelope(claim(C), Gossip()), KEYS["c"]) is None  # of whom no view tells


def test_a_record_must_show_the_key_that_was_proved() -> None:
    bench = Bench()
    for message in (Hello(C, "c", True), Apply(X, 5, C, Charter())):
        assert bench.core.objection(Envelope(claim(C), message), KEYS["c"]) is None
        assert bench.core.objection(Envelope(claim(C), message), KEYS["d"]) is not None


def test_another_key_is_taken_for_a_later_run_only_when_the_one_before_is_not_there() -> None:
    bench = member(B)
    later = Envelope(replace(claim(B), incarnation=9), Gossip())
    bench.core.connected(B.identity, "b:1", NOW)
    assert bench.core.objection(later, KEYS["d"]) is not None
    bench.core.ended(B.identity, NOW, by_peer=True)
    assert bench.core.objection(later, KEYS["d"]) is None
    assert bench.core.objection(Envelope(claim(B), Gossip()), KEYS["d"]) is not None


# ---- what one part learns the others know ------------------------------------------------------------


def test_alone_it_founds_opens_all_and_has_a_lease() -> None:
    bench = Bench(is_alone=True)
    effects = bench.run(0)
    [install] = of(InstallView, effects)
    assert install.view.members == (ME,)
    assert of(Open, effects) == [Open("Actor", ALL)]
    assert of(LeaseUntil, effects)[-1].until == pytest.approx(NOW + LOCAL.lease)
    assert of(Send, effects) == []  # what it says to itself stays here
    assert bench.core.shares["Actor"].open == ALL
    assert bench.core.watched == []
    stats = bench.core.stats()
    assert (stats["view_number"], stats["members_alive"], stats["forks"]) == (1, 1, 0)


def test_without_a_view_there_is_nothing_to_share_watch_or_count() -> None:
    bench = Bench()
    assert bench.core.view is None
    assert bench.core.watched == []
    assert bench.core.reshare(NOW) == []
    assert bench.core.emptied(NOW) == []
    assert bench.core.stats()["view_number"] == bench.core.stats()["forks"] == 0
    assert bench.core.me == ME
    assert bench.core.sender == claim(ME)


def test_a_class_that_appears_is_shared_at_the_next_look() -> None:
    bench = Bench(is_alone=True)
    bench.run(0)
    bench.names.append("Later")
    assert bench.core.reshare(NOW) == [Open("Later", ALL)]
    assert bench.core.reshare(NOW) == []


def test_partitions_open_when_the_other_member_has_spoken() -> None:
    bench = member(B)
    assert bench.core.shares["Actor"].opening == 0
    left = replace(B, leaving=True)
    effects = bench.hear(B, Decided(X, (view(6, ME, left),)))
    assert bench.core.shares["Actor"].opening == ALL
    [drained] = words(effects, Drained)
    assert drained == Send("b:1", Drained(X, 6, 2, 0))
    effects = bench.hear(B, Drained(X, 6, 7, ALL - 1))
    assert effects == [Send("b:1", DrainedSeen(B.identity, 7)), Open("Actor", 1)]
    assert of(Open, bench.hear(B, Drained(X, 6, 8, 0))) == [Open("Actor", ALL - 1)]
    assert bench.hear(B, DrainedSeen(ME.identity, 2)) == []
    assert words(bench.run(5.0), Drained) == []


def test_what_drains_is_told_when_it_has_emptied() -> None:
    bench = member(B)
    bench.hear(B, Decided(X, (view(6, ME, replace(B, leaving=True)),)))
    bench.hear(B, Drained(X, 6, 1, 0))
    share = bench.core.shares["Actor"]
    assert share.enter(3)
    [word] = words(bench.hear(B, Decided(X, (view(7, ME, B),))), Drained)
    assert word.message == Drained(X, 7, 3, 1 << 3)
    assert share.leave(3)
    assert bench.core.emptied(bench.now) == [Send("b:1", Drained(X, 7, 4, 0))]
    assert bench.core.emptied(bench.now) == []


def test_what_a_node_says_of_itself_it_asks_the_voters_to_put_into_the_next_view() -> None:
    bench = member(B, C)
    effects = [*bench.core.change(replace(ME, labels={"gpu": "1"}), NOW), *bench.run(0.1)]
    applied = [send.message for send in words(effects, Apply)]
    assert applied
    assert all(isinstance(message, Apply) and message.member.labels == {"gpu": "1"} for message in applied)
    assert bench.core.me.labels == {"gpu": "1"}


def test_a_suspect_of_the_view_is_told_and_others_are_not() -> None:
    bench = member(B, C)
    effects = bench.hear(B, Gossip(), claim(C, Status.SUSPECT), claim(D, Status.SUSPECT))
    assert of(Notify, effects) == [Notify(MemberSuspected(C))]
    later = replace(claim(C, Status.SUSPECT), incarnation=9)
    assert of(Notify, bench.hear(B, Gossip(), later)) == []


def test_before_there_is_a_view_nobody_is_told_of_suspects() -> None:
    bench = Bench()
    assert of(Notify, bench.hear(B, Gossip(), claim(C, Status.SUSPECT))) == []


def test_where_somebody_died_or_was_left_out_is_dialled_again() -> None:
    bench = member(B, C)
    bench.hear(B, Gossip(), claim(D))
    bench.hear(B, Gossip(), claim(D, Status.DEAD))
    assert bench.core.stats()["contacts"] == 1
    effects = bench.hear(B, Decided(X, (view(6, ME, B),)))
    assert MemberLost(C) in [notify.event for notify in of(Notify, effects)]
    assert bench.core.stats()["contacts"] == 2
    dialled = {send.address for send in words(bench.run(2 * LOCAL.redial), Exchange)}
    assert {"c:1", "d:1"} <= dialled


def test_every_member_is_watched_by_every_voter() -> None:
    assert member(B, C).core.watched == [B, C]
    many = [Member(f"n{i}", f"n{i}:1", {}, -i, key=b"k") for i in range(1, 9)]
    assert member(*many).core.watched == []  # the first seven vote, and this node is the last


# ---- ends of connections, and of runs --------------------------------------------------------------------


def test_a_connection_that_ends_and_an_address_that_refuses_are_asked_about_and_prove_a_death() -> None:
    bench = member(B, C)
    assert bench.core.connected(B.identity, "b:1", NOW) == []
    assert bench.core.connected(ME.identity, "m:1", NOW) == []
    bench.core.ended(B.identity, NOW, by_peer=True)
    bench.core.disconnected(B.identity, NOW)
    effects = bench.run(0)
    assert of(Check, effects) == [Check("b:1")]
    assert [ping.address for ping in words(effects, Ping)] == ["b:1"]
    accused = words(bench.core.refused("b:1", bench.now), Proof)
    assert {send.address for send in accused} == {"b:1", "c:1"}
    bench.run(0.5)
    assert bench.core.stats()["proven_dead"] == 1


def test_who_answers_in_its_place_is_as_good_as_a_refusal_and_a_word_is_not() -> None:
    bench = member(B, C)
    bench.core.connected(B.identity, "b:1", NOW)
    bench.core.ended(B.identity, NOW, by_peer=True)
    assert words(bench.core.connected(("b", 9), "b:1", NOW), Proof) != []
    bench.hear(B, Alive(X, B.identity))
    bench.run(0.2)
    assert bench.core.stats()["proven_dead"] == 0


def test_of_a_later_run_of_itself_it_learns_that_its_own_is_over() -> None:
    bench = member(B)
    later = replace(claim(ME), incarnation=50)
    effects = bench.hear(B, Gossip(), later)
    [fence] = of(SelfFence, effects)
    assert "set back" in fence.why
    assert fence.me.incarnation > 50
    assert bench.core.me == fence.me
    assert bench.core.sender.incarnation == fence.me.incarnation
    assert bench.core.stats()["fences"] == 1
    assert bench.core.reshare(NOW) == []


def test_a_fence_empties_all_shares_before_anything_else_is_said() -> None:
    bench = Bench(is_alone=True)
    bench.run(0)
    effects = bench.core.dissolve("for the test", NOW)
    assert effects[:2] == [LeaseUntil(float("-inf")), SelfFence("for the test", bench.core.me)]
    assert bench.core.shares["Actor"].open == 0
    effects = bench.run(1.0)
    assert [install.view.members for install in of(InstallView, effects)] == [(bench.core.me,)]
    assert bench.core.shares["Actor"].open == ALL


def test_a_failure_to_send_is_its_own() -> None:
    bench = Bench()
    bench.core.send_failed()
    assert bench.core.stats()["health"] == 1


def test_a_record_is_written_before_what_rests_on_it_is_said() -> None:
    me = replace(ME, has_record=True)
    bench = Bench(me, Record(me.incarnation), is_alone=True)
    effects = bench.run(0)
    [*_, persist] = of(Persist, effects)
    assert persist.record.view is not None
    assert of(LeaseUntil, effects)[-1].until == pytest.approx(NOW + LOCAL.lease)
    assert bench.core.persisted([Send("b:1", Release(X, 1))], NOW) == [Send("b:1", Release(X, 1))]


def test_leaving_gives_the_lease_up_and_says_goodbye() -> None:
    bench = member(B)
    effects = bench.core.leave(NOW)
    assert LeaseUntil(float("-inf")) in effects
    assert [send.address for send in words(effects, Release)] == ["b:1"]
    [goodbye] = words(effects, Gossip)
    assert goodbye.claims == (claim(ME, Status.LEFT),)


def test_who_has_departed_departs_once() -> None:
    bench = Bench(is_alone=True)
    bench.run(0)
    assert of(Depart, bench.core.release(NOW)) == [Depart()]
    assert of(Depart, bench.core.leave(NOW)) == []
    assert bench.core.next_deadline(NOW) == float("inf")


def test_leases_are_asked_for_at_all_voters() -> None:
    bench = member(B, C)
    asked = {send.address for send in words(bench.run(LOCAL.renewal), Renew)}
    assert asked == {"b:1", "c:1"}
