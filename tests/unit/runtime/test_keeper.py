"""What a keeper decides: members of a small world, whose words may be lost, repeated and late."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringcast.actors.ref import SPAWNED
from ringcast.actors.supervision import PERMANENT, TEMPORARY, TRANSIENT, Restart
from ringcast.discovery.member import Identity, Member, View
from ringcast.runtime.copies import COPIES, REPEAT, Send
from ringcast.runtime.keeper import (
    Answer,
    Begin,
    Claimed,
    Effect,
    Gone,
    Keeper,
    Located,
    Moved,
    Place,
    Reply,
    Stopping,
    Unplaced,
)
from ringcast.runtime.rows import Row, RowId, row_from_wire
from ringcast.runtime.words import Word, from_wire, to_wire


def a_row(path: str, restart: Restart = PERMANENT, *, is_named: bool = True, claim: str = "c") -> Row:
    above = path.rpartition("/")[0]
    parent = ("t:A", (SPAWNED, above)) if above else None
    return Row(("t:A", path), b"spec", restart, parent, is_named, False, claim, None, (0, 0))


def view(number: int, *ids: str, leaving: str = "") -> View:
    return View("l", number, tuple(Member(node, "", incarnation=1, leaving=node == leaving) for node in ids))


@dataclass
class World:
    """Keepers and hosts; time stands still unless `pass_time` is called."""

    ids: tuple[str, ...]
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    loss: float = 0.0
    now: float = 0.0
    view: View = field(init=False)
    keepers: dict[str, Keeper] = field(init=False)
    running: dict[str, dict[RowId, Row]] = field(init=False)
    answers: dict[int, Reply] = field(default_factory=dict[int, Reply])
    begun: list[tuple[str, RowId]] = field(default_factory=list[tuple[str, RowId]])
    stopped: list[RowId] = field(default_factory=list[RowId])
    unplaceable: set[RowId] = field(default_factory=set[RowId])
    homeless: set[RowId] = field(default_factory=set[RowId])
    refused: set[RowId] = field(default_factory=set[RowId])
    kin: dict[RowId, list[RowId]] = field(default_factory=dict[RowId, list[RowId]])
    token: int = 0
    wires: list[tuple[str, str, int, Word]] = field(default_factory=list[tuple[str, str, int, Word]])
    late: list[tuple[str, str, int, Word]] = field(default_factory=list[tuple[str, str, int, Word]])

    def __post_init__(self) -> None:
        self.keepers = {node: Keeper(node) for node in self.ids}
        self.running = {node: {} for node in self.ids}
        self.install(view(1, *self.ids))

    def install(self, new: View) -> None:
        self.view = new
        living = {member.id for member in new.members}
        for node in list(self.keepers):
            if node not in living:
                del self.keepers[node], self.running[node]
        for node in sorted(living):
            keeper = self.keepers.setdefault(node, Keeper(node))
            self.running.setdefault(node, {})
            self.do(node, keeper.install(new, self.now))

    def do(self, node: str, effects: list[Effect]) -> None:
        keeper = self.keepers[node]
        for effect in effects:
            match effect:
                case Send(to, word):
                    self.wires.append((node, to, self.view.number, word))
                case Answer(token, reply):
                    assert token not in self.answers or isinstance(self.answers[token], Moved)
                    self.answers[token] = reply
                case Place(row, is_new):
                    if row.id in self.unplaceable and is_new:
                        self.do(node, keeper.unplaceable(row.id, "nobody", self.now))
                    else:
                        fit = sorted(m.id for m in self.view.members if not m.leaving)
                        host = None if row.id in self.homeless else (self.rng.choice(fit), 1)
                        self.do(node, keeper.placed(row.id, host, "no labels", self.now))
                case Begin():
                    self.begin(node, effect)
                case Stopping(row):
                    self.stopped.append(row.id)

    def begin(self, node: str, order: Begin) -> None:
        keeper = self.keepers[node]
        host = order.host[0]
        if self.rng.random() < self.loss:
            keeper.unanswered(order.host)
            return
        outcomes: dict[RowId, str | None] = {}
        for row in order.rows:
            if row.id in self.refused:
                outcomes[row.id] = "not here"
                continue
            others = [other for other in self.running if other != host and row.id in self.running[other]]
            assert not others, f"{row.id} is to run on {host} and runs on {others}"
            if row.id not in self.running[host]:
                self.begun.append((host, row.id))
            self.running[host][row.id] = row
            self.kin[row.id] = [child.id for child in order.kin.get(row.id, ())]
            outcomes[row.id] = None
        self.do(node, keeper.begun(order.host, outcomes, self.now))

    def settle(self, rounds: int = 60) -> None:
        """Let words travel until nothing is on its way, repeating what is lost."""
        for _ in range(rounds):
            for node in sorted(self.keepers):
                self.do(node, self.keepers[node].flush())
            wires, self.wires = self.wires, []
            if self.loss:
                self.rng.shuffle(wires)
                wires += [wire for wire in self.late if self.rng.random() < 0.3]
                self.late = [*self.late, *wires][-40:]
            for sender, to, number, word in wires:
                if to in self.keepers and sender in self.keepers and self.rng.random() >= self.loss:
                    assert from_wire(to_wire(word)) == word
                    del number
                    self.do(to, self.keepers[to].receive(word, sender, self.now))
            if not self.wires:
                self.now += REPEAT
                for node in sorted(self.keepers):
                    self.do(node, self.keepers[node].tick(self.now))

    def leader(self, row_id: RowId) -> str:
        keeper = next(iter(self.keepers.values()))
        return keeper.copies.keepers(a_row(row_id[1]).partition)[0]

    def ask(self, row_id: RowId, verb: str, *args: object, **options: bool) -> int:
        self.token += 1
        node = self.leader(row_id)
        self.do(node, getattr(self.keepers[node], verb)(self.token, *args, self.now, **options))
        return self.token

    def claim(self, row: Row, **options: bool) -> Reply | None:
        token = self.ask(row.id, "claim", row, **options)
        self.settle()
        return self.answers.get(token)

    def where(self, row_id: RowId, **options: bool) -> Reply | None:
        token = self.ask(row_id, "where", row_id, **options)
        self.settle()
        return self.answers.get(token)

    def end(self, row_id: RowId, reason: str = "stopped") -> Reply | None:
        host = next(node for node in self.running if row_id in self.running[node])
        del self.running[host][row_id]
        token = self.ask(row_id, "ended", row_id, (host, 1), reason)
        self.settle()
        return self.answers.get(token)

    def copies_of(self, row_id: RowId) -> list[str]:
        return sorted(node for node, keeper in self.keepers.items() if keeper.copies.row(row_id) is not None)

    def host_of(self, row_id: RowId) -> str | None:
        return next((node for node in sorted(self.running) if row_id in self.running[node]), None)

    def lose(self, *nodes: str) -> None:
        left = [member.id for member in self.view.members if member.id not in nodes]
        self.install(view(self.view.number + 1, *left))
        self.settle()


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
    assert list(leader.copies.rows()) == []


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
    ):
        assert row_from_wire(row.to_wire()) == row


# ---- any order of things -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.15, 0.3]), st.data())
def test_nothing_is_lost_twice_alive_or_back_from_its_end(seed: int, loss: float, data: st.DataObject) -> None:
    """Whatever words are lost, late or repeated, and whichever two members are lost at a time."""
    world = World(FIVE, random.Random(seed), loss)
    alive: set[RowId] = set()
    ended: set[RowId] = set()
    fresh = 0
    spare = iter("fghijklmnopq")
    for _ in range(data.draw(st.integers(2, 6))):
        step = data.draw(st.sampled_from(["claim", "claim", "end", "lose", "join", "leave"]))
        members = [member.id for member in world.view.members]
        if step == "claim":
            fresh += 1
            row = a_row(f"/{fresh}")
            if isinstance(world.claim(row), Claimed):
                alive.add(row.id)
        elif step == "end" and alive:
            row_id = min(alive)
            if world.host_of(row_id) is not None and isinstance(world.end(row_id), Gone):
                ended.add(row_id)
            alive.discard(row_id)
        elif step == "lose" and len(members) >= 4:
            world.settle(200)  # no loss is survived that comes before the copies of the last are made
            world.lose(*data.draw(st.permutations(members))[: min(2, len(members) - 2)])
        elif step == "join" and len(members) < 7:
            world.install(view(world.view.number + 1, *members, next(spare)))
        elif step == "leave" and len(members) >= 4:
            world.install(view(world.view.number + 1, *members, leaving=data.draw(st.sampled_from(members))))
            world.install(view(world.view.number + 1, *members))
        world.settle(data.draw(st.integers(0, 30)))
    world.loss = 0.0
    world.settle(200)
    for row_id in alive:
        assert world.host_of(row_id) is not None, f"{row_id} is lost"
        assert len(world.copies_of(row_id)) == min(COPIES, len(world.keepers))
    for row_id in ended:
        assert world.host_of(row_id) is None
        assert world.copies_of(row_id) == []
