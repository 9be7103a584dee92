"""A small world of keepers and hosts, whose words may be lost, repeated and late."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ringcast.actors.ref import SPAWNED
from ringcast.actors.supervision import PERMANENT, Restart
from ringcast.discovery.member import Member, View
from ringcast.runtime.copies import REPEAT, Send
from ringcast.runtime.keeper import (
    Answer,
    Begin,
    Effect,
    Keeper,
    Moved,
    Place,
    Reply,
    Stopping,
)
from ringcast.runtime.rows import Row, RowId
from ringcast.runtime.words import Word, from_wire, to_wire


def a_row(path: str, restart: Restart = PERMANENT, *, is_named: bool = True, claim: str = "c") -> Row:
    above = path.rpartition("/")[0]
    parent = ("t:A", (SPAWNED, above)) if above else None
    return Row(("t:A", path), b"spec", restart, parent, is_named, False, claim, None, (0, 0))


def view(number: int, *ids: str, leaving: str = "") -> View:
    hosts = frozenset({"t:A"})
    members = (Member(node, "", incarnation=1, hosts=hosts, leaving=node == leaving) for node in ids)
    return View("l", number, tuple(members))


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
    wires: list[tuple[str, str, Word]] = field(default_factory=list[tuple[str, str, Word]])
    late: list[tuple[str, str, Word]] = field(default_factory=list[tuple[str, str, Word]])

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
        order = sorted(living)
        if self.loss:
            self.rng.shuffle(order)
        for node in order:
            keeper = self.keepers.setdefault(node, Keeper(node))
            self.running.setdefault(node, {})
            self.do(node, keeper.install(new, self.now))
            if self.loss:
                self.deliver()  # some follow the view sooner than others

    def do(self, node: str, effects: list[Effect]) -> None:
        keeper = self.keepers[node]
        for effect in effects:
            match effect:
                case Send(to, word):
                    self.wires.append((node, to, word))
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
        there, here = self.keepers.get(host), keeper.copies.view
        assert here is not None
        is_behind = there is not None and there.copies.view is not None and there.copies.view.number > here.number
        if there is None or is_behind or self.rng.random() < self.loss:
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
            self.deliver()
            if not self.wires:
                self.now += REPEAT
                for node in sorted(self.keepers):
                    self.do(node, self.keepers[node].tick(self.now))
                    self.do(node, self.keepers[node].flush())

    def calm(self) -> None:
        """Let words travel until nobody has anything to say, for long enough that all was said again."""
        quiet = 0
        while quiet < 3:
            before = self.now
            self.settle(1)
            is_quiet = not self.wires and self.now > before
            quiet = quiet + 1 if is_quiet else 0

    def deliver(self) -> None:
        """Let the words that are said travel, or be lost, or come later and again."""
        for node in sorted(self.keepers):
            self.do(node, self.keepers[node].flush())
        wires, self.wires = self.wires, []
        if self.loss:
            self.rng.shuffle(wires)
            wires += [wire for wire in self.late if self.rng.random() < 0.3]
            self.late = [*self.late, *wires][-40:]
        for sender, to, word in wires:
            if to in self.keepers and sender in self.keepers and self.rng.random() >= self.loss:
                assert from_wire(to_wire(word)) == word
                self.do(to, self.keepers[to].receive(word, sender, self.now))

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
