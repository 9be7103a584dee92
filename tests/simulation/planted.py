"""Mistakes that the checkers must find: each takes one rule of the protocol away.

A checker that cannot fail is worth nothing. The names are those of the protocol's own list.
Bugs of stores, routes and threads are not here: they are no part of these cores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ringcast.discovery import quorum
from ringcast.discovery.agenda import Agenda
from ringcast.discovery.agreement_messages import Accept, Denial
from ringcast.discovery.effects import Effect, Record
from ringcast.discovery.handoff import Handoff
from ringcast.discovery.member import Identity, Member, View
from ringcast.discovery.polls import Polls
from ringcast.discovery.proposer import Proposer
from ringcast.discovery.roll import Application, Roll
from ringcast.discovery.voter import Voter
from tests.simulation.world import Machine, Process, World, Write

Patch = pytest.MonkeyPatch


def no_lease_check(patch: Patch) -> None:
    def may(self: World, machine: Machine, process: Process) -> bool:
        return process.view is not None

    patch.setattr(World, "_may_act", may)
    patch.setattr(World, "_may_release", may)


def no_promise(patch: Patch) -> None:
    def acceptable_at(self: Voter, message: Accept, excused: Collection[Identity]) -> float:
        return self._silent_until

    patch.setattr(Voter, "_acceptable_at", acceptable_at)


def no_seal_and_no_carry_over(patch: Patch) -> None:
    renew: Any = Voter.renew

    def renew_sealed(self: Voter, who: Identity, excused: Collection[Identity], now: float) -> Denial | None:
        vote, self.vote = self.vote, None
        denial: Denial | None = renew(self, who, excused, now)
        self.vote = vote
        return denial

    def carry_over(self: Voter, now: float) -> None:
        self._promises.clear()

    patch.setattr(Voter, "renew", renew_sealed)
    patch.setattr(Voter, "_carry_over", carry_over)


def no_freeze(patch: Patch) -> None:
    def freeze(self: Voter, left_out: Collection[Identity]) -> None:
        return

    patch.setattr(Voter, "_freeze", freeze)


def no_drain_barrier(patch: Patch) -> None:
    def waiting(self: Handoff) -> int:
        return 0

    patch.setattr(Handoff, "_waiting", waiting)


def forgotten_fsync(patch: Patch) -> None:
    persist: Any = World._persist

    def persist_later(self: World, machine: Machine, process: Process, write: Write) -> None:
        self.perform(machine, process, write.then)
        persist(self, machine, process, Write(write.record, ()))

    patch.setattr(World, "_persist", persist_later)


def incarnation_reset(patch: Patch) -> None:
    def incarnation(self: World, wall: int, record: Record | None) -> int:
        return wall if record is None else record.incarnation

    patch.setattr(World, "_incarnation", incarnation)


def double_join(patch: Patch) -> None:
    def apply_anyone(self: Roll, member: Member, now: float) -> bool:
        self._applications[member.id] = Application(member, now + 3.75 * self._profile.retry)
        return True

    def consider(self: Roll, members: dict[str, Member], applicant: Member, out: set[Identity]) -> None:
        members[applicant.id] = applicant

    patch.setattr(Roll, "apply", apply_anyone)
    patch.setattr(Roll, "_consider", consider)


def gate_before_batching(patch: Patch) -> None:
    def may(self: World, machine: Machine, process: Process) -> bool:
        return process.view is not None

    patch.setattr(World, "_may_release", may)


def half_without_proof(patch: Patch) -> None:
    def is_small(view: View, answers: Collection[Identity], dead: Collection[Identity]) -> bool:
        voters = {voter.identity for voter in quorum.voters_of(view)}
        return len(voters) % 2 == 0 and len(voters.intersection(answers)) >= max(1, len(voters) // 2)

    patch.setattr(quorum, "is_small", is_small)


def restarted_run_counted(patch: Patch) -> None:
    def is_small(view: View, answers: Collection[Identity], dead: Collection[Identity]) -> bool:
        voters = {voter.id for voter in quorum.voters_of(view)}
        named = {voter.identity for voter in quorum.voters_of(view)}
        if not voters or len(voters) % 2 or named.isdisjoint(dead):
            return False
        return len({node_id for node_id, _ in set(answers) - set(dead)} & voters) >= len(voters) // 2

    patch.setattr(quorum, "is_small", is_small)


def proof_after_the_votes(patch: Patch) -> None:
    def take_new_proof(self: Proposer, attempt: Any, agenda: Agenda) -> bool:
        attempt.dead = agenda.dead
        return False

    def ask_all(self: Proposer, attempt: Any, view: View) -> list[Effect]:
        votes, accepted = attempt.votes, attempt.accepted
        attempt.votes, attempt.accepted = {}, set()
        effects: list[Effect] = ask(self, attempt, view)
        attempt.votes, attempt.accepted = votes, accepted
        return effects

    ask: Any = Proposer._ask
    patch.setattr(Proposer, "_is_outdated", take_new_proof)
    patch.setattr(Proposer, "_ask", ask_all)


def listener_closed_before_the_turns_ended(patch: Patch) -> None:
    kill: Any = World.kill

    def kill_and_linger(self: World, name: str) -> None:
        process = self.machines[name].process
        if process is not None:
            self.zombies.add(process.run)
        kill(self, name)

    patch.setattr(World, "kill", kill_and_linger)


def orphan_not_finished(patch: Patch) -> None:
    def is_pressing(self: Polls) -> bool:
        return bool(self.voter.frozen)

    patch.setattr(Polls, "is_pressing", property(is_pressing))


PLANTED: dict[str, Callable[[Patch], None]] = {
    "2 no lease check": no_lease_check,
    "3 no promise": no_promise,
    "4 no seal and no carry-over": no_seal_and_no_carry_over,
    "5 no freeze": no_freeze,
    "6 no drain barrier": no_drain_barrier,
    "8 forgotten fsync": forgotten_fsync,
    "9 incarnation reset": incarnation_reset,
    "12 double join": double_join,
    "14 gate before batching": gate_before_batching,
    "half of the voters without proof": half_without_proof,
    "restarted run counted": restarted_run_counted,
    "proof after the votes": proof_after_the_votes,
    "listener closed before the turns ended": listener_closed_before_the_turns_ended,
    "orphan not finished": orphan_not_finished,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Make the mistake while this lasts."""
    with pytest.MonkeyPatch.context() as patch:
        PLANTED[name](patch)
        yield
