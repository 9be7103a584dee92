from __future__ import annotations

import random
import re
from pathlib import Path

from ringcast.discovery.handoff import (
    ON_EMPTY,
    ON_VIEW,
    Drained,
    DrainedSeen,
    Handoff,
    HandoffEffect,
    Open,
    Tell,
)
from ringcast.discovery.member import Member, View
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.share import PARTITIONS, Place, bits_of

NOW = 100.0
ME, B, C = (Member(name, f"{name}:1", {}, i) for i, name in enumerate("mbc", 1))


def shares_of(view: View, node_id: str) -> dict[str, int]:
    """Of four partitions, the i-th belongs to the i-th member, counted around."""
    mine = [i for i in range(4) if view.members[i % len(view.members)].id == node_id]
    return {"Cart": sum(1 << i for i in mine)}


def view(number: int, *members: Member, lineage: str = "x") -> View:
    return View(lineage, number, members)


def handoff() -> Handoff:
    return Handoff(shares_of, LOCAL, random.Random(1))


def places(core: Handoff) -> list[Place]:
    return [core.shares["Cart"].place(p) for p in range(4)]


def opened(effects: list[HandoffEffect]) -> list[int]:
    return [p for effect in effects if isinstance(effect, Open) for p in bits_of(effect.partitions)]


def drained(core: Handoff, sender: Member, number: int, held: int = 0, seq: int = 1) -> list[HandoffEffect]:
    return core.receive(Drained("x", number, seq, held), sender.identity)


def settled() -> Handoff:
    """Return one of two members, whose partitions 0 and 2 are open, and an activation runs in each."""
    core = handoff()
    core.install(view(1, ME, B), ME.identity, NOW)
    assert opened(drained(core, B, 1)) == [0, 2]
    assert all(core.shares["Cart"].enter(p) for p in (0, 2))
    return core


def test_alone_everything_opens_at_once() -> None:
    core = handoff()
    assert opened(core.install(view(1, ME), ME.identity, NOW)) == [0, 1, 2, 3]
    assert core.held == 0
    assert core.next_deadline() == float("inf")


def test_nothing_opens_before_every_other_member_has_said_that_nothing_of_it_is_left_there() -> None:
    core = handoff()
    assert core.install(view(2, ME, B, C), ME.identity, NOW) == [
        Tell(B, Drained("x", 2, 1, 0)),
        Tell(C, Drained("x", 2, 1, 0)),
    ]
    assert places(core) == [Place.OPENING, Place.REMOTE, Place.REMOTE, Place.OPENING]
    assert drained(core, B, 2) == [Tell(B, DrainedSeen(B.identity, 1))]
    # Of an older view: it may hold anything by now.
    assert opened(drained(core, C, 1)) == []
    assert opened(drained(core, C, 2, held=0b1000, seq=2)) == [0]
    # An older word that comes later counts for nothing.
    assert opened(drained(core, C, 2, held=0, seq=1)) == []
    assert opened(drained(core, C, 3, held=0, seq=3)) == [3]


def test_no_word_of_the_dead_is_needed() -> None:
    core = handoff()
    core.install(view(2, ME, B, C), ME.identity, NOW)
    drained(core, B, 2)
    assert core.excuse([C.identity]) == [Open("Cart", 0b1001)]
    assert core.excuse([C.identity]) == []
    assert handoff().excuse([C.identity]) == []


def test_what_stays_goes_on_and_what_is_lost_drains() -> None:
    core = settled()
    effects = core.install(view(2, ME, B, C), ME.identity, NOW)
    assert Tell(C, Drained("x", 2, 2, 0b100)) in effects
    assert places(core) == [Place.OPEN, Place.REMOTE, Place.DRAINING, Place.OPENING]
    assert core.emptied(NOW) == []
    assert core.shares["Cart"].leave(2)
    assert Tell(C, Drained("x", 2, 3, 0)) in core.emptied(NOW)
    assert places(core)[2] is Place.REMOTE


def test_what_is_lost_and_empty_is_gone_at_once() -> None:
    core = settled()
    core.shares["Cart"].leave(2)
    assert Tell(C, Drained("x", 2, 2, 0)) in core.install(view(2, ME, B, C), ME.identity, NOW)
    assert places(core)[2] is Place.REMOTE


def test_what_comes_back_while_it_drains_opens_anew() -> None:
    core = settled()
    core.install(view(2, ME, B, C), ME.identity, NOW)
    core.install(view(3, ME, B), ME.identity, NOW)
    assert places(core)[2] is Place.DRAINING
    drained(core, B, 3, seq=2)
    core.shares["Cart"].leave(2)
    assert opened(core.emptied(NOW)) == [2]


def test_what_has_not_opened_yet_is_given_up_again() -> None:
    core = settled()
    core.install(view(2, ME, B, C), ME.identity, NOW)
    core.install(view(3, ME, B), ME.identity, NOW)
    assert places(core)[3] is Place.REMOTE


def test_a_class_that_is_hosted_later_opens_later() -> None:
    hosted = ["Cart"]

    def shares(view: View, node_id: str) -> dict[str, int]:
        return dict.fromkeys(hosted, 0b11)

    core = Handoff(shares, LOCAL, random.Random(1))
    core.install(view(1, ME, B), ME.identity, NOW)
    drained(core, B, 1)
    hosted.append("Order")
    assert core.install(view(1, ME, B), ME.identity, NOW)[-1] == Open("Order", 0b11)
    hosted.remove("Cart")
    core.install(view(2, ME, B), ME.identity, NOW)
    assert core.shares["Cart"].open == 0
    assert core.shares["Order"].open == 0b11


def test_a_slow_turn_of_one_class_keeps_the_slice_of_another_closed() -> None:
    core = handoff()
    core.install(view(2, ME, B), ME.identity, NOW)
    assert opened(drained(core, B, 2, held=0b1)) == [2]


def test_a_word_is_repeated_until_it_is_seen() -> None:
    core = handoff()
    core.install(view(2, ME, B, C), ME.identity, NOW)
    due = core.next_deadline()
    assert NOW + 0.75 * LOCAL.retry <= due <= NOW + 1.5 * LOCAL.retry
    assert core.tick(NOW) == []
    assert core.receive(DrainedSeen(ME.identity, 1), B.identity) == []
    # This one was for an earlier run at the same address.
    core.receive(DrainedSeen(("m", 0), 5), C.identity)
    assert core.tick(due) == [Tell(C, Drained("x", 2, 1, 0))]
    core.receive(DrainedSeen(ME.identity, 1), C.identity)
    core.receive(DrainedSeen(ME.identity, 0), C.identity)
    assert core.tick(core.next_deadline()) == []
    assert core.next_deadline() == float("inf")


def test_a_word_that_is_ahead_is_kept_for_the_view_that_names_its_sender() -> None:
    core = settled()
    assert drained(core, C, 2) == []
    effects = core.install(view(2, ME, B, C), ME.identity, NOW)
    assert opened(effects) == []
    assert opened(drained(core, B, 2, seq=2)) == [3]


def test_words_of_other_lineages_and_before_the_first_view_count_for_nothing() -> None:
    assert drained(handoff(), B, 1) == []
    core = settled()
    assert core.receive(Drained("other", 9, 9, 0), B.identity) == []


def test_a_word_to_a_newcomer_that_comes_before_its_first_view_is_kept() -> None:
    core = handoff()
    assert drained(core, B, 2) == []
    core.receive(Drained("other", 9, 9, 0), C.identity)
    assert opened(core.install(view(2, ME, B), ME.identity, NOW)) == [0, 2]
    core = handoff()
    core.receive(Drained("other", 9, 9, 0), C.identity)
    assert opened(core.install(view(2, ME, C), ME.identity, NOW)) == []


def test_a_new_run_and_a_new_lineage_begin_with_nothing() -> None:
    again = Member("m", "m:1", {}, 9)
    core = settled()
    core.install(view(2, again, B), again.identity, NOW)
    assert places(core) == [Place.OPENING, Place.REMOTE, Place.OPENING, Place.REMOTE]
    core = settled()
    core.install(view(2, ME, B, lineage="y"), ME.identity, NOW)
    assert core.held == 0
    core.fence()
    assert core.emptied(NOW) == []


def test_every_state_has_its_rule() -> None:
    assert ON_VIEW.keys() == {(place, is_mine) for place in Place for is_mine in (True, False)}


def test_the_page_shows_the_same_table() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "agreement.md").read_text()
    rows = re.findall(r"^\| ([A-Z]+) \| ([A-Z]+) \| ([A-Z]+) \|$", page, re.MULTILINE)
    assert {(Place[row[0]], True): Place[row[1]] for row in rows} | {
        (Place[row[0]], False): Place[row[2]] for row in rows
    } == ON_VIEW


def test_the_sets_of_bits_follow_the_table() -> None:
    for (before, is_mine), after in ON_VIEW.items():
        core = Handoff(lambda view, node_id: {"Cart": int(is_mine)}, LOCAL, random.Random(1))  # noqa: B023
        core.install(view(1, ME, B), ME.identity, NOW)
        share = core.shares["Cart"]
        share.open, share.draining = int(before is Place.OPEN), int(before is Place.DRAINING)
        share.opening = int(before is Place.OPENING)
        share.running[0] = 1  # so that what drains is not empty at once
        core.install(view(2, ME, B), ME.identity, NOW)
        assert share.place(0) is after
        if after is Place.DRAINING:
            share.leave(0)
            core.emptied(NOW)
            assert share.place(0) is ON_EMPTY[is_mine]
        assert share.open | share.opening | share.draining < 1 << PARTITIONS
