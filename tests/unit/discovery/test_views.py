import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.effects import Effect, InstallView, Notify, Send, Warn
from ringcast.discovery.member import (
    KEY_BYTES,
    Event,
    Member,
    MemberJoined,
    MemberLeft,
    MemberLost,
    MemberSuspected,
    View,
    ViewChanged,
)
from ringcast.discovery.messages import Envelope, Exchange, Gossip, Join, Message, Ping, Refused, ViewNews
from ringcast.discovery.participant import Participant
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.views import Views

START = 100.0


def member(name: str, incarnation: int, leaving: bool = False) -> Member:
    return Member(name, f"{name}:1", {}, incarnation, leaving=leaving)


ME = member("me", 10)
OLD = member("old", 1)
YOUNG = member("young", 20)


def claim(who: Member, status: Status = Status.ALIVE) -> Claim:
    return Claim(who.id, who.address, who.incarnation, status=status)


class Bench:
    """One core, driven by hand: time moves from deadline to deadline."""

    def __init__(self, window: float = 0.0) -> None:
        self.now = START
        self.views = Views(ME, LOCAL, random.Random(1), START + window)

    def believe(self, *claims: Claim) -> list[Effect]:
        return self.views.believe((claim(self.views.me), *claims), self.now)

    def join(self, who: Member, lineage: str = "", number: int = 0) -> list[Effect]:
        return self.views.receive(Join(who, lineage, number), claim(who), self.now)

    def news(self, sender: Member, view: View) -> list[Effect]:
        return self.views.receive(ViewNews(view), claim(sender), self.now)

    def run(self, seconds: float) -> list[Effect]:
        effects: list[Effect] = []
        until = self.now + seconds
        while self.views.next_deadline() <= until:
            self.now = max(self.now, self.views.next_deadline())
            effects += self.views.tick(self.now)
        self.now = until
        return effects


def installed(effects: Iterable[Effect]) -> list[View]:
    return [effect.view for effect in effects if isinstance(effect, InstallView)]


def events(effects: Iterable[Effect]) -> list[Event]:
    return [effect.event for effect in effects if isinstance(effect, Notify)]


def sent(effects: Iterable[Effect], kind: type[Message]) -> list[Send]:
    return [effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


def leader() -> Bench:
    """Return the sequencer of a settled view of itself and a younger member."""
    bench = Bench()
    bench.run(0)
    bench.believe(claim(YOUNG))
    bench.join(YOUNG)
    [view] = installed(bench.run(1.0))
    bench.join(YOUNG, view.lineage, view.number)
    return bench


def follower() -> Bench:
    """Return a member of a settled view that an older member has issued."""
    bench = Bench(window=1.0)
    bench.believe(claim(OLD))
    bench.news(OLD, View("old@1", 5, (OLD, ME)))
    return bench


def test_alone_it_makes_its_view_when_the_window_is_over() -> None:
    bench = Bench(window=1.0)
    assert bench.run(0.999) == []
    effects = bench.run(0.001)
    view = View("me@10", 1, (ME,))
    assert effects == [InstallView(view), Notify(MemberJoined(ME)), Notify(ViewChanged(view))]
    assert bench.run(10.0) == []


def test_the_most_senior_makes_one_view_of_all_who_join_within_the_settling_time() -> None:
    bench = Bench()
    bench.run(0)
    third = member("third", 30)
    bench.believe(claim(YOUNG), claim(third))
    assert installed(bench.join(YOUNG)) == []
    bench.run(LOCAL.settle / 2)
    assert installed(bench.join(third)) == []
    effects = bench.run(LOCAL.settle)
    [view] = installed(effects)
    assert view == View("me@10", 2, (ME, YOUNG, third))
    assert events(effects) == [MemberJoined(YOUNG), MemberJoined(third), ViewChanged(view)]
    assert {tell.address for tell in sent(effects, ViewNews)} == {"young:1", "third:1"}


def test_changes_that_never_settle_are_put_off_for_a_while_only() -> None:
    bench = leader()
    views: list[View] = []
    for i in range(10):
        bench.join(replace(YOUNG, labels={"turn": str(i)}))
        views += installed(bench.run(LOCAL.settle * 0.8))
    assert len(views) == 1


def test_a_change_that_is_taken_back_makes_no_view() -> None:
    bench = leader()
    bench.join(replace(YOUNG, labels={"x": "1"}))
    bench.join(YOUNG, "me@10", 2)
    assert installed(bench.run(5.0)) == []


def test_a_view_is_repeated_until_it_is_reported() -> None:
    bench = Bench()
    bench.run(0)
    bench.believe(claim(YOUNG))
    bench.join(YOUNG)
    assert len(sent(bench.run(2.0), ViewNews)) > 5
    bench.join(YOUNG, "me@10", 2)
    assert sent(bench.run(2.0), ViewNews) == []
    # Whoever reports an older one gets it at once.
    assert sent(bench.join(YOUNG, "me@10", 1), ViewNews) == [Send("young:1", ViewNews(View("me@10", 2, (ME, YOUNG))))]


def test_a_stranger_is_waited_for_and_told_who_is_sequencer() -> None:
    bench = Bench()
    bench.run(0)
    stranger = member("stranger", 30)
    bench.believe(claim(YOUNG), claim(stranger))
    bench.join(YOUNG)
    effects = bench.run(5 * LOCAL.settle)
    assert installed(effects) == []
    assert {tell.address for tell in sent(effects, Gossip)} == {"stranger:1"}
    [view] = installed(bench.run(6 * LOCAL.settle))
    assert view.members == (ME, YOUNG)


def test_a_leave_shows_first_and_quickly() -> None:
    bench = leader()
    leaving = replace(YOUNG, leaving=True)
    bench.join(leaving)
    [view] = installed(bench.run(LOCAL.settle_departure))
    assert view.members == (ME, leaving)
    bench.believe(claim(YOUNG, Status.LEFT))
    effects = bench.run(LOCAL.settle_departure)
    assert installed(effects) == [View("me@10", 4, (ME,))]
    assert events(effects)[0] == MemberLeft(leaving)


def test_a_goodbye_without_notice_is_a_leave_and_a_death_is_a_loss() -> None:
    for status, event in ((Status.LEFT, MemberLeft(YOUNG)), (Status.DEAD, MemberLost(YOUNG))):
        bench = leader()
        bench.believe(claim(YOUNG, status))
        effects = bench.run(LOCAL.settle)
        assert [view.members for view in installed(effects)] == [(ME,)]
        assert events(effects)[0] == event


def test_a_death_settles_like_a_join() -> None:
    bench = leader()
    bench.believe(claim(YOUNG, Status.DEAD))
    assert installed(bench.run(LOCAL.settle * 0.9)) == []
    assert installed(bench.run(LOCAL.settle * 0.2)) != []


def test_a_new_run_of_a_member_is_a_loss_and_a_join() -> None:
    bench = leader()
    reborn = member("young", 40)
    bench.believe(claim(reborn))
    assert bench.views.receive(Join(YOUNG, "", 0), claim(YOUNG), bench.now) == []
    bench.join(reborn)
    effects = bench.run(LOCAL.settle)
    assert set(events(effects)[:2]) == {MemberLost(YOUNG), MemberJoined(reborn)}
    # What the old run still says is not taken for the new one's word.
    assert bench.join(YOUNG) == []


def test_a_join_in_anothers_name_is_ignored() -> None:
    bench = leader()
    assert bench.views.receive(Join(OLD, "", 0), claim(YOUNG), bench.now) == []


def test_numbers_grow_above_all_that_was_heard_of() -> None:
    bench = leader()
    bench.join(YOUNG, "other@7", 40)
    [view] = installed(bench.run(LOCAL.settle))
    assert view == View("me@10", 41, (ME, YOUNG))
    assert bench.views.views_issued == 3
    # An older view of another lineage is no reason for a new one.
    bench.join(YOUNG, "other@7", 40)
    assert installed(bench.run(1.0)) == []


def test_a_junior_joins_until_a_view_holds_exactly_its_record() -> None:
    bench = Bench(window=1.0)
    bench.believe(claim(OLD))
    joins = sent(bench.run(3.0), Join)
    assert len(joins) > 8
    assert set(joins) == {Send("old:1", Join(ME, "", 0))}
    bench.news(OLD, View("old@1", 5, (OLD, replace(ME, labels={"not": "mine"}))))
    assert len(sent(bench.run(3.0), Join)) > 8
    effects = bench.news(OLD, View("old@1", 6, (OLD, ME)))
    assert sent(effects, Join) == [Send("old:1", Join(ME, "old@1", 6))]
    assert installed(effects) == [View("old@1", 6, (OLD, ME))]
    assert len(sent(bench.run(3.0), Join)) <= 1


def test_only_newer_views_of_the_sequencer_that_hold_me_are_installed() -> None:
    bench = follower()
    held = bench.views.view
    assert installed(bench.news(YOUNG, View("young@20", 9, (ME, YOUNG)))) == []
    assert installed(bench.news(OLD, View("old@1", 9, (OLD,)))) == []
    assert bench.news(OLD, View("old@1", 4, (OLD, ME))) == []
    assert bench.views.view == held
    # The same again: its report was lost.
    again = bench.news(OLD, View("old@1", 5, (OLD, ME)))
    assert installed(again) == []
    assert len(sent(again, Join)) == 1


def test_a_junior_remembers_joins_that_came_to_it_too_early() -> None:
    bench = follower()
    bench.believe(claim(OLD), claim(YOUNG))
    assert bench.join(YOUNG) == []
    bench.believe(claim(OLD, Status.DEAD), claim(YOUNG))
    assert [view.members for view in installed(bench.run(LOCAL.settle))] == [(ME, YOUNG)]


def test_the_next_in_seniority_takes_over() -> None:
    bench = follower()
    assert bench.views.sequencer == claim(OLD)
    bench.believe(claim(OLD, Status.DEAD), claim(YOUNG))
    bench.join(YOUNG)
    effects = bench.run(1.0)
    [view] = installed(effects)
    assert view == View("me@10", 6, (ME, YOUNG))
    assert events(effects)[:2] == [MemberJoined(YOUNG), MemberLost(OLD)]


def test_a_changed_record_is_joined_anew_at_once() -> None:
    bench = follower()
    changed = replace(ME, hosts=frozenset({"shop:Cart"}))
    assert bench.views.change(changed, bench.now) == []
    assert sent(bench.run(0), Join) == [Send("old:1", Join(changed, "old@1", 5))]
    alone = Bench()
    alone.run(0)
    alone.views.change(changed, alone.now)
    assert [view.members for view in installed(alone.run(1.0))] == [(changed,)]


def participant(has_discovery: bool = False) -> Participant:
    core = Participant(ME, LOCAL, random.Random(1), START, has_discovery=has_discovery)
    core.tick(START)
    return core


def test_a_death_of_its_own_changes_its_record_and_tells_the_living() -> None:
    core = participant()
    core.receive(Envelope(claim(YOUNG), Gossip()), START, by_tcp=False)
    death = claim(ME, Status.DEAD)
    effects = core.receive(Envelope(claim(YOUNG), Gossip(), (death,)), START + 2, by_tcp=False)
    assert core.me.incarnation == core.sender.incarnation >= ME.incarnation + 2000
    assert core.me == replace(ME, incarnation=core.me.incarnation)
    assert Send("young:1", Gossip()) in effects


def test_the_dead_are_dialled_again_and_a_suspect_is_told_of() -> None:
    core = participant()
    core.receive(Envelope(claim(YOUNG), Join(YOUNG, "", 0)), START, by_tcp=True)
    stranger = member("stranger", 30)
    suspicions = tuple(replace(claim(who, Status.SUSPECT), accuser="old") for who in (YOUNG, stranger))
    core.receive(Envelope(claim(OLD), Gossip()), START, by_tcp=True)
    core.receive(Envelope(claim(OLD), ViewNews(View("old@1", 9, (OLD, ME, YOUNG)))), START, by_tcp=True)
    effects = core.receive(Envelope(claim(OLD), Gossip(), suspicions), START, by_tcp=True)
    assert events(effects) == [MemberSuspected(YOUNG)]
    assert core.stats()["members_suspect"] == 2
    core.receive(Envelope(claim(OLD), Gossip(), (claim(YOUNG, Status.DEAD),)), START, by_tcp=True)
    assert (core.stats()["members_dead"], core.stats()["contacts"]) == (1, 1)
    dials = sent(core.tick(START + LOCAL.redial), Exchange)
    assert "young:1" in {dial.address for dial in dials}


def test_a_suspect_before_there_is_a_view_is_not_told_of() -> None:
    core = participant(has_discovery=True)
    suspicion = replace(claim(YOUNG, Status.SUSPECT), accuser="old")
    assert events(core.receive(Envelope(claim(OLD), Gossip(), (suspicion,)), START, by_tcp=True)) == []
    assert core.view is None
    assert core.stats()["view_number"] == 0


def test_a_seed_that_is_this_node_is_found_out() -> None:
    core = participant()
    core.found("localhost:1", START)
    [dial] = sent(core.tick(START), Exchange)
    assert dial.address == "localhost:1"
    effects = core.receive(Envelope(core.sender, Exchange(True)), START, by_tcp=True)
    assert effects == [Send("me:1", Exchange(False))]
    assert core.receive(Envelope(core.sender, Exchange(False)), START, by_tcp=True, dialled="localhost:1") == []
    assert core.stats()["contacts"] == 0


def test_what_the_shell_notices_reaches_the_core() -> None:
    core = participant()
    core.receive(Envelope(claim(YOUNG), Gossip()), START, by_tcp=False)
    core.send_failed()
    assert core.stats()["health"] == 1
    core.disconnected(claim(YOUNG).identity, START)
    assert core.next_deadline() == START
    core.refused("young:1", START)
    core.refused("young:1", START)
    assert core.stats()["members_suspect"] == 1
    core.found("other:1", START)
    core.gone("other:1")
    assert core.stats()["contacts"] == 0
    core.change(replace(ME, incarnation=99, leaving=True), START)
    assert core.me == replace(ME, leaving=True)
    assert [effect for effect in core.leave() if isinstance(effect, Send)] != []


KEY, OTHER = b"k" * KEY_BYTES, b"o" * KEY_BYTES


def warned(effects: Iterable[Effect] | None) -> list[str]:
    assert effects is not None
    return [effect.member for effect in effects if isinstance(effect, Warn)]


def test_the_first_key_of_a_run_stays_and_another_is_refused_and_told_of_once() -> None:
    bench = leader()
    mine = replace(YOUNG, key=KEY)
    # YOUNG has joined without a key, and that is what is pinned.
    assert warned(bench.join(mine, "me@10", 99)) == ["young"]
    assert bench.join(mine, "me@10", 99) == []
    assert bench.views.keys_refused == 2
    bench.believe(claim(YOUNG))
    assert bench.join(mine) == []
    assert installed(bench.run(5.0)) == []
    # Not even the number that came with it was taken.
    bench.join(replace(YOUNG, labels={"a": "b"}))
    [view] = installed(bench.run(1.0))
    assert view.number < 99
    assert view.members[1].key == b""


def test_a_view_with_another_key_of_a_known_run_is_not_installed() -> None:
    bench = follower()
    bench.join(replace(YOUNG, key=KEY))
    assert warned(bench.news(OLD, View("old@1", 6, (OLD, ME, replace(YOUNG, key=OTHER))))) == ["young"]
    assert warned(bench.news(OLD, View("old@1", 7, (OLD, replace(ME, key=KEY))))) == ["me"]
    assert bench.views.keys_refused == 2
    view = View("old@1", 8, (OLD, ME, replace(YOUNG, key=KEY)))
    assert installed(bench.news(OLD, view)) == [view]


def test_a_new_run_may_have_a_new_key_and_the_dead_pin_nothing() -> None:
    bench = leader()
    assert bench.views.pinned_key("young") == b""
    assert bench.views.pinned_key("nobody") is None
    reborn = replace(YOUNG, incarnation=30, key=KEY)
    bench.believe(claim(reborn))
    assert bench.views.pinned_key("young") is None
    bench.join(reborn)
    assert bench.views.pinned_key("young") == KEY
    bench.believe(claim(reborn, Status.DEAD))
    assert bench.views.pinned_key("young") is None


def test_a_second_key_for_a_live_id_is_refused_whatever_it_says() -> None:
    core = participant()
    first = replace(YOUNG, key=KEY)
    joined = Envelope(claim(first), Join(first, "", 0))
    assert core.objection(joined, KEY) is None
    core.receive(joined, START, by_tcp=True)
    assert core.objection(joined, KEY) is None
    second = replace(YOUNG, incarnation=30, key=OTHER)
    assert warned(core.objection(Envelope(claim(second), Exchange(True)), OTHER)) == ["young"]
    assert core.objection(Envelope(claim(second), Join(second, "", 0)), OTHER) == []
    # A record must show the key that the connection has proved.
    stranger = member("stranger", 40)
    assert warned(core.objection(Envelope(claim(stranger), Join(stranger, "", 0)), OTHER)) == ["stranger"]
    assert core.stats()["keys_refused"] == 3
    # When the first is dead the second may come.
    core.receive(Envelope(claim(OLD), Gossip(), (claim(first, Status.DEAD),)), START, by_tcp=True)
    assert core.objection(Envelope(claim(second), Join(second, "", 0)), OTHER) is None


def test_nobody_else_speaks_for_this_node() -> None:
    core = participant()
    assert core.objection(Envelope(claim(ME), Exchange(True)), b"") is None
    assert warned(core.objection(Envelope(claim(ME), Exchange(True)), OTHER)) == ["me"]


def test_what_only_a_connection_can_vouch_for_is_not_taken_from_a_datagram() -> None:
    core = participant()
    view = View("old@1", 9, (OLD, ME))
    for message in (Join(OLD, "", 0), ViewNews(view), Exchange(True), Refused("shop", 1)):
        assert core.receive(Envelope(claim(OLD), message, (claim(YOUNG),)), START, by_tcp=False) == []
    assert core.stats()["members_alive"] == 1
    assert core.receive(Envelope(claim(OLD), Ping(7, "me")), START, by_tcp=False) != []
    assert core.stats()["members_alive"] == 2


def test_what_an_earlier_run_asks_for_is_ignored() -> None:
    core = participant()
    late = replace(YOUNG, incarnation=30)
    core.receive(Envelope(claim(late), Gossip()), START, by_tcp=True)
    assert core.receive(Envelope(claim(YOUNG), Join(YOUNG, "x", 99)), START, by_tcp=True) == []
    assert core.receive(Envelope(claim(YOUNG), ViewNews(View("x", 99, (YOUNG, ME)))), START, by_tcp=True) == []
    core.receive(Envelope(claim(late), Join(late, "", 0)), START, by_tcp=True)
    [view] = installed(core.tick(START + 1))
    assert view.number < 99


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_view_finds_its_members(name: str) -> None:
    view = View("x", 1, (member("a", 1), member("b", 2)))
    found = view.member(name)
    assert found is not None
    assert found.id == name
    assert view.member("c") is None
