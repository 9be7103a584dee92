"""What a keeper decides: members of a small world, whose words may be lost, repeated and late."""

from __future__ import annotations

import random

import pytest

from ringcast.actors.spawned import SPAWNED, is_spawned
from ringcast.actors.supervision import PERMANENT, TEMPORARY, TRANSIENT, Restart
from ringcast.discovery.member import Identity, View
from ringcast.runtime.copies import BATCH, COPIES, REPEAT, Copies, Send
from ringcast.runtime.keeper import (
    LEAVES,
    Answer,
    Begin,
    Claimed,
    Gone,
    Keeper,
    Located,
    Moved,
    Noted,
    Unplaced,
)
from ringcast.runtime.rows import Notes, Row, row_from_wire
from ringcast.runtime.words import Fetch, Kept, Put, Word
from tests.unit.runtime.keepers import World, a_row, view

FIVE = ("a", "b", "c", "d", "e")
A = a_row("/a")


def test_a_claim_is_answered_when_all_copies_are_there_and_the_actor_is() -> None:
    world = World(FIVE)
    reply = world.claim(A)
    assert isinstance(reply, Claimed)
    assert reply.is_new
    assert reply.row.host is not None
    assert world.begun == [(reply.row.host[0], A.id)]
    assert len(world.copies_of(A.id)) == COPIES
    assert world.where(A.id) == Located(reply.row.host)


def test_who_claims_a_name_that_lives_finds_it() -> None:
    world = World(FIVE)
    first, second = world.ask(A.id, "claim", A), world.ask(A.id, "claim", a_row("/a", claim="other"))
    world.settle()
    one, two = world.answers[first], world.answers[second]
    assert isinstance(one, Claimed)
    assert isinstance(two, Claimed)
    assert (one.is_new, two.is_new) == (True, False)
    again = world.claim(a_row("/a", claim="third"))
    assert isinstance(again, Claimed)
    assert not again.is_new
    assert len(world.begun) == 1


def test_an_ended_row_is_forgotten_by_all_and_its_name_is_free() -> None:
    world = World(FIVE)
    world.claim(A)
    token = world.ask(A.id, "ended", A.id, ("nobody", 1), "stopped")
    assert world.answers[token] == Gone(None), "a report of another host changes nothing"
    assert world.end(A.id) == Gone("stopped")
    assert world.copies_of(A.id) == []
    assert world.where(A.id) == Gone(None)
    assert isinstance(world.claim(A), Claimed)


def test_while_copies_learn_of_an_end_the_name_is_not_free() -> None:
    world = World(FIVE)
    world.claim(A)
    host = world.host_of(A.id)
    assert host is not None
    del world.running[host][A.id]
    ended = world.ask(A.id, "ended", A.id, (host, 1), "stopped")
    again = world.ask(A.id, "ended", A.id, (host, 1), "stopped")
    where = world.ask(A.id, "where", A.id)
    released = world.ask(A.id, "released", A.id, (host, 1))
    claim = world.ask(A.id, "claim", A)
    assert isinstance(world.answers[claim], Moved)
    assert world.answers[released] == Gone(None)
    world.settle()
    assert world.answers[ended] == world.answers[again] == world.answers[where] == Gone("stopped")


@pytest.mark.parametrize("restart", [PERMANENT, TRANSIENT])
def test_what_is_lost_with_its_host_is_started_elsewhere(restart: Restart) -> None:
    world = World(FIVE)
    world.claim(a_row("/a", restart))
    host = world.host_of(A.id)
    assert host is not None
    world.lose(host)
    assert world.host_of(A.id) not in (None, host)
    assert len(world.copies_of(A.id)) == COPIES
    assert sum(keeper.restarts for keeper in world.keepers.values()) == 1


def test_a_temporary_actor_is_lost_with_its_host() -> None:
    world = World(FIVE)
    world.claim(a_row("/a", TEMPORARY))
    world.lose(str(world.host_of(A.id)))
    assert world.host_of(A.id) is None
    assert world.where(A.id) == Gone(None)


def test_two_of_three_keepers_may_be_lost_at_once() -> None:
    world = World(FIVE)
    rows = [a_row(f"/{n}") for n in range(40)]
    for row in rows:
        world.claim(row)
    world.lose("a", "b")
    assert all(world.host_of(row.id) in ("c", "d", "e") for row in rows)
    assert all(world.copies_of(row.id) == ["c", "d", "e"] for row in rows)


def test_a_joiner_takes_its_share_of_the_rows_and_others_forget_them() -> None:
    world = World(("a", "b", "c", "d"))
    rows = [a_row(f"/{n}") for n in range(40)]
    for row in rows:
        world.claim(row)
    hosts = {row.id: world.host_of(row.id) for row in rows}
    world.install(view(2, "a", "b", "c", "d", "e"))
    world.settle()
    assert any("e" in world.copies_of(row.id) for row in rows)
    assert all(len(world.copies_of(row.id)) == COPIES for row in rows)
    assert {row.id: world.host_of(row.id) for row in rows} == hosts, "nothing moves because of a join"
    assert all(keeper.copies.is_clear for keeper in world.keepers.values())


def test_what_a_new_leader_asks_for_is_asked_for_again() -> None:
    world = World(FIVE[:4])
    rows = [a_row(f"/{n}") for n in range(40)]
    for row in rows:
        world.claim(row)
    world.install(view(2, *FIVE))
    lost: list[Word] = []
    for _ in range(10):
        for node in sorted(world.keepers):
            world.do(node, world.keepers[node].flush())
        lost += [word for _, _, word in world.wires if isinstance(word, Fetch)]
        world.wires = [wire for wire in world.wires if not isinstance(wire[2], Fetch)]
        world.deliver()
    assert lost
    world.settle()
    assert all(len(world.copies_of(row.id)) == COPIES for row in rows)
    assert all(isinstance(world.where(row.id), Located) for row in rows)


def test_a_node_that_leaves_gives_its_actors_and_its_rows_away() -> None:
    world = World(FIVE)
    world.claim(A)
    host = str(world.host_of(A.id))
    world.install(view(2, *FIVE, leaving=host))
    del world.running[host][A.id]
    released = world.ask(A.id, "released", A.id, (host, 1))
    again = world.ask(A.id, "released", A.id, (host, 1))
    world.settle()
    new = world.host_of(A.id)
    assert new not in (None, host)
    assert world.answers[released] == world.answers[again] == Located((str(new), 1))
    assert world.answers[world.ask(A.id, "released", A.id, (host, 1))] == Located((str(new), 1))
    assert world.keepers[host].copies.is_clear
    assert host not in world.copies_of(A.id)


def test_who_leaves_does_not_wait_for_what_fits_nowhere() -> None:
    world = World(FIVE)
    world.claim(A)
    host = str(world.host_of(A.id))
    del world.running[host][A.id]
    world.homeless.add(A.id)
    token = world.ask(A.id, "released", A.id, (host, 1))
    world.settle()
    assert world.answers[token] == Gone(None)


def test_what_fits_nowhere_waits_with_the_reason_and_starts_when_it_does() -> None:
    world = World(FIVE)
    world.homeless.add(A.id)
    reply = world.claim(A, is_held=True)
    assert isinstance(reply, Claimed)
    assert reply.row.host is None
    leader = world.keepers[world.leader(A.id)]
    assert [(row.id, why) for row, why in leader.waiting()] == [(A.id, "no labels")]
    found = world.claim(a_row("/a", claim="other"))
    assert isinstance(found, Claimed)
    assert not found.is_new
    token = world.ask(A.id, "where", A.id)
    world.homeless.clear()
    world.settle()
    assert isinstance(world.answers[token], Located)
    assert leader.waiting() == []


def test_what_waits_for_a_host_can_be_ended() -> None:
    world = World(FIVE)
    world.homeless.add(A.id)
    world.claim(A)
    assert world.where(A.id, or_end=True) == Gone("stopped")
    assert world.copies_of(A.id) == []


def test_what_runs_is_not_ended_by_a_question() -> None:
    world = World(FIVE)
    world.claim(A)
    assert isinstance(world.where(A.id, or_end=True), Located)


def test_what_cannot_run_is_refused_to_whoever_wants_it() -> None:
    world = World(FIVE)
    world.unplaceable.add(A.id)
    assert world.claim(A) == Unplaced("nobody")
    assert world.where(A.id) == Gone(None)
    world.unplaceable.clear()
    world.refused.add(A.id)
    assert world.claim(A) == Unplaced("not here")
    assert world.copies_of(A.id) == []


def test_what_its_new_host_refuses_is_placed_again() -> None:
    world = World(FIVE)
    world.claim(A)
    host = str(world.host_of(A.id))
    world.refused.add(A.id)
    world.lose(host)
    assert world.host_of(A.id) is None
    world.refused.clear()
    world.settle()
    assert world.host_of(A.id) is not None


def test_supervisors_come_before_their_children() -> None:
    world = World(FIVE)
    paths = ["/s", "/s/t", "/s/t/x", "/s/t/y"]
    for path in paths:
        world.claim(a_row(path))
    hosts = {str(world.host_of(a_row(path).id)) for path in paths}
    world.begun.clear()
    world.lose(*sorted(hosts)[:2])
    begun = [row_id[1] for _, row_id in world.begun]
    assert begun == sorted(begun, key=lambda path: path.count("/"))
    assert all(world.host_of(a_row(path).id) is not None for path in paths)


def test_a_child_waits_for_its_supervisor_unless_that_has_ended() -> None:
    world = World(("a",))
    world.claim(a_row("/s"))
    world.claim(a_row("/s/x"))
    world.install(view(2, "b"))
    assert world.host_of(("t:A", "/s")) is None, "the only copy is lost with its node"
    world = World(FIVE)
    world.claim(a_row("/s", TEMPORARY))
    world.claim(a_row("/s/x"))
    world.lose(*{str(world.host_of(("t:A", "/s"))), str(world.host_of(("t:A", "/s/x")))})
    assert world.host_of(("t:A", "/s")) is None
    assert world.host_of(("t:A", "/s/x")) is not None


def test_a_child_waits_as_long_as_its_supervisor_fits_nowhere() -> None:
    world = World(FIVE)
    world.claim(a_row("/s"))
    world.claim(a_row("/s/x"))
    world.homeless.add(("t:A", "/s"))
    world.lose(*{str(world.host_of(("t:A", "/s"))), str(world.host_of(("t:A", "/s/x")))})
    leader = world.keepers[world.leader(("t:A", "/s"))]
    lost = {row.id[1]: why for row, why in leader.waiting()}
    assert lost["/s"] == "no labels"
    assert world.where(("t:A", "/s"), or_end=True) == Gone("stopped")
    assert world.host_of(("t:A", "/s/x")) is not None


def test_children_without_a_name_go_with_the_activation_of_their_parent() -> None:
    for seed in range(8):
        world = World(FIVE, random.Random(seed))
        world.claim(a_row("/s"))
        world.claim(a_row("/s/x", is_named=False))
        world.claim(a_row("/s/x/y"))
        world.claim(a_row("/s/z"))
        parent = str(world.host_of(("t:A", "/s")))
        child = str(world.host_of(("t:A", "/s/x")))
        below = str(world.host_of(("t:A", "/s/x/y")))
        world.lose(parent)
        assert world.host_of(("t:A", "/s")) is not None
        assert ("t:A", "/s/z") in world.kin[("t:A", "/s")]
        if child != parent:
            assert world.stopped == [("t:A", "/s/x")]
        else:
            assert world.where(("t:A", "/s/x")) == Gone(None)
            if below != parent:
                assert world.stopped == [("t:A", "/s/x/y")]
            else:
                assert world.where(("t:A", "/s/x/y")) == Gone(None)


def test_an_actor_that_belongs_to_its_node_ends_with_it() -> None:
    world = World(FIVE)
    local = Row(("t:A", "/l"), b"", PERMANENT, None, True, True, "c", ("b", 1), (0, 0))
    reply = world.claim(local)
    assert isinstance(reply, Claimed)
    assert reply.row.host == ("b", 1)
    world.lose("b")
    assert world.where(local.id) == Gone(None)


def test_who_does_not_lead_says_so_and_early_questions_wait() -> None:
    keeper = Keeper("a")
    assert keeper.where(1, A.id, 0.0) == [Answer(1, Moved())]
    assert keeper.flush() == []
    assert keeper.tick(0.0) == []
    world = World(("a", "b"))
    other = "a" if world.leader(A.id) == "b" else "b"
    assert world.keepers[other].where(1, A.id, 0.0) == [Answer(1, Moved())]
    tokens = [world.ask(A.id, "where", A.id), world.ask(A.id, "ended", A.id, ("a", 1), "x")]
    tokens += [world.ask(A.id, "released", A.id, ("a", 1)), world.ask(A.id, "claim", A)]
    assert not any(token in world.answers for token in tokens), "the other member was not heard yet"
    world.install(view(2, "a", "b"))
    world.settle()
    assert all(token in world.answers for token in tokens)


def test_a_run_that_is_over_answers_nobody_and_forgets() -> None:
    world = World(FIVE)
    world.homeless.add(A.id)
    world.claim(A)
    leader = world.keepers[world.leader(A.id)]
    waiting = world.ask(A.id, "where", A.id)
    assert leader.clear() == [Answer(waiting, Moved())]
    assert leader.copies.view is None
    leader.install(view(3, *FIVE), 0.0)
    other = leader.install(View("m", 1, view(1, *FIVE).members), 0.0)
    assert other
    assert leader.copies.copies == {}


def test_who_gives_up_is_not_answered() -> None:
    world = World(FIVE)
    world.homeless.add(A.id)
    world.claim(A)
    token = world.ask(A.id, "where", A.id)
    world.keepers[world.leader(A.id)].give_up(token)
    world.homeless.clear()
    world.settle()
    assert token not in world.answers


def test_stale_words_about_orders_change_nothing() -> None:
    world = World(FIVE)
    world.claim(A)
    leader = world.keepers[world.leader(A.id)]
    host: Identity = (str(world.host_of(A.id)), 1)
    assert leader.placed(A.id, host, "", 0.0) == []
    assert leader.unplaceable(("t:A", "/none"), "", 0.0) == []
    assert leader.begun(host, {A.id: None}, 0.0) == []
    leader.unanswered(host)
    assert leader.next_deadline() < float("inf")


def test_rows_travel_as_plain_values() -> None:
    for row in (
        A,
        a_row("/a/b", is_named=False),
        Row(A.id, b"", TRANSIENT, None, True, True, "", ("n", 2), (1, 2), "x"),
        Row(A.id, b"", TRANSIENT, None, True, False, "", ("n", 2), (1, 2), notes=NOTES),
    ):
        assert row_from_wire(row.to_wire()) == row


def test_what_waits_or_is_given_away_is_looked_at_again_with_each_view() -> None:
    world = World(FIVE)
    world.homeless.add(A.id)
    world.claim(A)
    world.homeless.clear()
    world.install(view(2, *FIVE))
    world.settle()
    host = str(world.host_of(A.id))
    world.homeless.add(A.id)
    del world.running[host][A.id]
    world.ask(A.id, "released", A.id, (host, 1))
    world.homeless.clear()
    world.install(view(3, *FIVE))
    assert world.view.number == 3
    world.settle()
    assert world.host_of(A.id) is not None


def test_a_survivor_alone_takes_down_what_nobody_has_named() -> None:
    taken = 0
    for seed in range(60):
        world = World(("a", "b"), random.Random(seed))
        for row in (a_row("/s"), a_row("/s/x", is_named=False), a_row("/s/x/y", is_named=False)):
            world.claim(row)
        if {world.host_of(("t:A", path)) for path in ("/s", "/s/x", "/s/x/y")} == {"b"}:
            taken += 1
            world.lose("b")
            assert world.host_of(("t:A", "/s")) == "a"
            assert world.keepers["a"].copies.row(("t:A", "/s/x")) is None
    assert taken


def test_a_host_gets_one_batch_at_a_time() -> None:
    keeper = Keeper("a")
    keeper.install(view(1, "a"), 0.0)
    host: Identity = ("a", 1)
    for n in range(BATCH + 5):
        keeper.claim(n, a_row(f"/{n}"), 0.0)
        keeper.placed(("t:A", f"/{n}"), host, "", 0.0)
    [first] = keeper.flush()
    assert isinstance(first, Begin)
    assert len(first.rows) == BATCH
    assert keeper.flush() == []
    keeper.begun(host, dict.fromkeys(row.id for row in first.rows), 0.0)
    [second] = keeper.flush()
    assert isinstance(second, Begin)
    assert len(second.rows) == 5
    keeper.where(9999, second.rows[0].id, 0.0)
    keeper.ended(9998, second.rows[0].id, host, "stopped", 0.0)
    keeper.unanswered(host)
    [again] = keeper.flush()
    assert isinstance(again, Begin)
    assert len(again.rows) == 4
    keeper.unanswered(host)
    for row in again.rows:
        keeper.ended(1, row.id, host, "stopped", 0.0)
    assert keeper.flush() == [], "what has ended is not started"


def test_a_keeper_whose_copy_is_not_complete_takes_no_rows() -> None:
    copies = Copies("b")
    copies.install(view(1, "a", "b"), 0.0)
    row = next(row for row in (a_row(f"/{n}") for n in range(99)) if copies.keepers(row.partition)[0] == "a")
    assert copies.receive(Put(1, 1, (row,)), "a", 0.0) == []
    assert copies.row(row.id) is None


def test_who_has_just_answered_is_told_nothing_again() -> None:
    copies = Copies("a")
    copies.install(view(1, "a", "b"), 0.0)
    assert [effect for effect in copies.tick(REPEAT) if isinstance(effect, Send)], "nothing was heard of it"
    copies.receive(Kept(1, ()), "b", 1.5 * REPEAT)
    assert copies.tick(2 * REPEAT) == []
    assert copies.tick(3 * REPEAT) != []


def test_what_is_due_and_has_ended_meanwhile_is_not_placed() -> None:
    world = World(("a",))
    world.homeless.add(A.id)
    world.claim(A)
    keeper = world.keepers["a"]
    keeper.where(1, A.id, 0.0, or_end=True)
    assert keeper.tick(1e9) == []


def test_keys_that_name_no_spawned_actor() -> None:
    assert [is_spawned(key) for key in ("k", ("a", "b"), (SPAWNED, 1), (SPAWNED, "/a"))] == [False, False, False, True]


def test_what_has_ended_already_is_not_taken_down_again() -> None:
    world = World(FIVE)
    for row in (a_row("/s"), a_row("/s/x", is_named=False)):
        world.claim(row)
    leader = world.keepers[world.leader(A.id)]
    host = str(world.host_of(("t:A", "/s/x")))
    del world.running[host][("t:A", "/s/x")]
    world.ask(("t:A", "/s/x"), "ended", ("t:A", "/s/x"), (host, 1), "stopped")
    parent = str(world.host_of(("t:A", "/s")))
    world.lose(parent)
    assert world.where(("t:A", "/s/x")) == Gone(None)
    assert world.stopped == []
    assert leader is not None


NOTES = Notes(("x",), (("t:A", ("k", 1), None), ("t:A", (SPAWNED, "/b"), "b")))


def test_what_an_actor_notes_goes_with_its_row() -> None:
    world = World(FIVE)
    world.claim(A)
    host: Identity = (str(world.host_of(A.id)), 1)
    begun = len(world.begun)
    token = world.ask(A.id, "noted", A.id, host, NOTES)
    found = world.ask(A.id, "where", A.id), world.ask(A.id, "claim", A)
    assert isinstance(world.answers[found[0]], Located), "it runs, whatever is written"
    assert isinstance(world.answers[found[1]], Claimed)
    assert token not in world.answers, "not before all copies have it"
    world.settle()
    assert world.answers[token] == Noted()
    assert len(world.begun) == begun
    world.lose(host[0])
    there = str(world.host_of(A.id))
    assert world.running[there][A.id].notes == NOTES
    stale = world.ask(A.id, "noted", A.id, host, Notes())
    assert world.answers[stale] == Gone(None), "it runs elsewhere by now"
    assert world.leader(A.id) in world.copies_of(A.id)


def test_what_is_noted_on_the_way_is_answered_on_the_way() -> None:
    world = World(FIVE)
    world.claim(A)
    world.refused.add(A.id)
    world.lose(str(world.host_of(A.id)))
    leader = world.keepers[world.leader(A.id)]
    row = leader.copies.row(A.id)
    assert row is not None
    assert row.host is not None
    token = world.ask(A.id, "noted", A.id, row.host, NOTES)
    world.refused.clear()
    world.settle()
    assert world.answers[token] == Noted()
    assert world.host_of(A.id) is not None
    host = str(world.host_of(A.id))
    waiting = world.ask(A.id, "noted", A.id, (host, 1), Notes())
    world.end(A.id)
    assert world.answers[waiting] == Gone("stopped")


def test_what_a_new_leader_finds_half_noted_is_noted_again() -> None:
    world = World(FIVE)
    world.claim(A)
    host: Identity = (str(world.host_of(A.id)), 1)
    token = world.ask(A.id, "noted", A.id, host, NOTES)
    unasked = world.ask(("t:A", "/unknown"), "noted", ("t:A", "/unknown"), host, NOTES)
    other = next(node for node in FIVE if node not in (host[0], *world.copies_of(A.id)))
    world.install(view(2, *(node for node in FIVE if node != other)))
    world.settle()
    assert isinstance(world.answers[token], Moved)
    assert isinstance(world.answers[unasked], Gone | Moved)
    assert world.host_of(A.id) == host[0]
    again = world.ask(A.id, "noted", A.id, host, NOTES)
    world.settle()
    assert world.answers[again] == Noted()


def test_a_child_does_not_wait_for_what_its_supervisor_notes() -> None:
    world = World(FIVE)
    world.claim(A)
    host: Identity = (str(world.host_of(A.id)), 1)
    child = a_row(f"{A.id[1]}/c")
    world.claim(child)
    at = str(world.host_of(child.id))
    world.ask(A.id, "noted", A.id, host, NOTES)
    released = world.ask(child.id, "released", child.id, (at, 1))
    del world.running[at][child.id]
    world.settle()
    assert isinstance(world.answers[released], Located)


def test_a_host_that_begins_to_leave_makes_no_spawn_fail() -> None:
    world = World(FIVE)
    world.claim(a_row("/other"))
    world.homeless.add(A.id)
    token = world.ask(A.id, "claim", A)
    world.settle(3)
    leader = world.keepers[world.leader(A.id)]
    other: Identity = ("b", 1)
    again = world.ask(A.id, "claim", A)
    world.homeless.clear()
    world.do(world.leader(A.id), leader.placed(A.id, other, "", world.now))
    world.do(world.leader(A.id), leader.begun(other, {A.id: LEAVES}, world.now))
    world.settle()
    assert isinstance(world.answers[token], Claimed)
    assert isinstance(world.answers[again], Claimed)
    assert world.host_of(A.id) is not None


def test_it_is_said_for_whom_a_row_waits() -> None:
    world = World(FIVE)
    leader, *others = world.keepers["a"].copies.keepers(A.partition)
    keeper = Keeper(leader)
    assert keeper.awaited(A.id)[0] == ()
    keeper.install(world.view, 0.0)
    keeper.claim(1, A, 0.0)
    assert keeper.awaited(A.id) == (tuple(node for node in FIVE if node != leader), "keeps a copy of its row")
    world.ask(A.id, "claim", A)
    seen: list[tuple[tuple[str, ...], str]] = []
    for _ in range(10):
        world.deliver()
        seen.append(world.keepers[leader].awaited(A.id))
    assert (tuple(sorted(others)), "keeps a copy of its row") in seen
    assert seen[-1] == ((), "keeps a copy of its row")
    host = world.host_of(A.id)
    assert host is not None
    world.install(view(3, *FIVE))  # it may have missed one, and asks the host again
    for _ in range(10):
        for node in sorted(world.keepers):
            world.do(node, [effect for effect in world.keepers[node].flush() if not isinstance(effect, Begin)])
        world.deliver()
    assert world.keepers[leader].awaited(A.id) == ((host,), "is to start it")


def test_a_leader_that_fetches_a_row_waits_for_whom_it_asks() -> None:
    world = World(FIVE[:4])
    rows = [a_row(f"/{n}") for n in range(40)]
    for row in rows:
        world.claim(row)
    world.install(view(2, *FIVE))
    led = [row.id for row in rows if world.leader(row.id) == "e"]
    assert led
    seen: set[tuple[str, ...]] = set()
    for _ in range(10):
        world.deliver()
        world.wires = [wire for wire in world.wires if not isinstance(wire[2], Fetch)]
        seen |= {world.keepers["e"].awaited(row_id)[0] for row_id in led}
    assert any(len(nodes) == 1 for nodes in seen)
