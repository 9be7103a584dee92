from __future__ import annotations

import random
import re
from pathlib import Path

from ringcast.discovery.member import Member, View
from ringcast.discovery.profile import LOCAL
from ringcast.runtime.handoff import (
    ON_VIEW,
    Close,
    Drain,
    Drained,
    DrainedSeen,
    Handoff,
    HandoffEffect,
    Open,
    Place,
    Tell,
)

NOW = 100.0
ME, B, C = (Member(name, f"{name}:1", {}, i) for i, name in enumerate("mbc", 1))


def owners_of(view: View) -> list[str]:
    """Partition i belongs to the i-th member, counted around."""
    return [view.members[i % len(view.members)].id for i in range(4)]


def view(number: int, *members: Member, lineage: str = "x") -> View:
    return View(lineage, number, members)


def handoff() -> Handoff:
    return Handoff(owners_of, 4, LOCAL, random.Random(1))


def opened(effects: list[HandoffEffect]) -> list[int]:
    return [effect.partition for effect in effects if isinstance(effect, Open)]


def drained(core: Handoff, sender: Member, number: int, held: int = 0, seq: int = 1) -> list[HandoffEffect]:
    return core.receive(Drained("x", number, seq, held), sender.identity, NOW)


def settled() -> Handoff:
    """Return one of two members, whose partitions 0 and 2 are open."""
    core = handoff()
    core.install(view(1, ME, B), ME.identity, NOW)
    assert opened(drained(core, B, 1)) == [0, 2]
    return core


def test_alone_everything_opens_at_once() -> None:
    core = handoff()
    assert opened(core.install(view(1, ME), ME.identity, NOW)) == [0, 1, 2, 3]
    assert core.held == 0b1111
    assert core.next_deadline() == float("inf")


def test_nothing_opens_before_every_other_member_has_said_that_it_holds_nothing_of_it() -> None:
    core = handoff()
    assert core.install(view(2, ME, B, C), ME.identity, NOW) == [
        Tell(B, Drained("x", 2, 1, 0)),
        Tell(C, Drained("x", 2, 1, 0)),
    ]
    assert core.places == [Place.OPENING, Place.REMOTE, Place.REMOTE, Place.OPENING]
    assert drained(core, B, 2) == [Tell(B, DrainedSeen(B.identity, 1))]
    # Of an older view: it may hold anything by now.
    assert opened(drained(core, C, 1)) == []
    assert opened(drained(core, C, 2, held=0b1000, seq=2)) == [0]
    # An older word that comes later counts for nothing.
    assert opened(drained(core, C, 2, held=0, seq=1)) == []
    assert opened(drained(core, C, 3, held=0, seq=3)) == [3]
    assert core.opened_in == [2, 0, 0, 2]


def test_no_word_of_the_dead_is_needed() -> None:
    core = handoff()
    core.install(view(2, ME, B, C), ME.identity, NOW)
    drained(core, B, 2)
    assert core.excuse([C.identity]) == [Open(0), Open(3)]
    assert handoff().excuse([C.identity]) == []


def test_what_stays_goes_on_and_what_is_lost_drains() -> None:
    core = settled()
    effects = core.install(view(2, ME, B, C), ME.identity, NOW)
    assert Drain(2) in effects
    assert Tell(C, Drained("x", 2, 2, 0b101)) in effects
    assert core.places == [Place.OPEN, Place.REMOTE, Place.DRAINING, Place.OPENING]
    effects = core.emptied(2, NOW)
    assert Tell(C, Drained("x", 2, 3, 0b001)) in effects
    assert core.places[2] is Place.REMOTE


def test_what_comes_back_while_it_drains_opens_anew() -> None:
    core = settled()
    core.install(view(2, ME, B, C), ME.identity, NOW)
    core.install(view(3, ME, B), ME.identity, NOW)
    assert core.places[2] is Place.DRAINING
    drained(core, B, 3, seq=2)
    assert opened(core.emptied(2, NOW)) == [2]
    assert core.opened_in == [1, 0, 3, 0]


def test_what_has_not_opened_yet_is_closed_again() -> None:
    core = settled()
    core.install(view(2, ME, B, C), ME.identity, NOW)
    assert Close(3) in core.install(view(3, ME, B), ME.identity, NOW)


def test_a_word_is_repeated_until_it_is_seen() -> None:
    core = handoff()
    core.install(view(2, ME, B, C), ME.identity, NOW)
    due = core.next_deadline()
    assert NOW + 0.75 * LOCAL.retry <= due <= NOW + 1.5 * LOCAL.retry
    assert core.tick(NOW) == []
    assert core.receive(DrainedSeen(ME.identity, 1), B.identity, NOW) == []
    # This one was for an earlier run at the same address.
    core.receive(DrainedSeen(("m", 0), 5), C.identity, NOW)
    assert core.tick(due) == [Tell(C, Drained("x", 2, 1, 0))]
    core.receive(DrainedSeen(ME.identity, 1), C.identity, NOW)
    core.receive(DrainedSeen(ME.identity, 0), C.identity, NOW)
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
    assert core.receive(Drained("other", 9, 9, 0), B.identity, NOW) == []


def test_a_new_run_and_a_new_lineage_begin_with_nothing() -> None:
    again = Member("m", "m:1", {}, 9)
    core = settled()
    core.install(view(2, again, B), again.identity, NOW)
    assert core.places == [Place.OPENING, Place.REMOTE, Place.OPENING, Place.REMOTE]
    core = settled()
    core.install(view(2, ME, B, lineage="y"), ME.identity, NOW)
    assert core.held == 0


def test_a_view_of_too_few_members_gives_nothing_to_anybody() -> None:
    core = Handoff(owners_of, 4, LOCAL, random.Random(1), members_min=2)
    assert opened(core.install(view(1, ME), ME.identity, NOW)) == []
    core.install(view(2, ME, B), ME.identity, NOW)
    assert opened(drained(core, B, 2)) == [0, 2]
    effects = core.install(view(3, ME), ME.identity, NOW)
    assert [effect for effect in effects if isinstance(effect, Drain)] == [Drain(0), Drain(2)]


def test_every_state_has_its_rule() -> None:
    assert ON_VIEW.keys() == {(place, is_mine) for place in Place for is_mine in (True, False)}


def test_the_page_shows_the_same_table() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "agreement.md").read_text()
    rows = re.findall(r"^\| ([A-Z]+) \| ([A-Z]+) \| ([A-Z]+) \|$", page, re.MULTILINE)
    assert {(Place[row[0]], True): Place[row[1]] for row in rows} | {
        (Place[row[0]], False): Place[row[2]] for row in rows
    } == ON_VIEW
