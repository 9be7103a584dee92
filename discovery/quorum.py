"""Whose word counts, and how many words are enough. Pure functions of a view.

The voters of a view are its first seven members that are not leaving. A decision on the
next view needs one of two quorums, by the same rule for both phases:

* *full*: more than half of the voters, counted by node id. A voter that was restarted and
  kept its record is the same voter.
* *small*: exactly half of an even number of voters, if some voter was proven dead before the
  ballot began. Answers count only from the very runs that the view names, and not from the
  dead ones.

Two full quorums share a voter, and so do a full and a small one, by counting. Two small ones
that share none would each hold a voter that the other side proved dead before it answered:
each of the two would have answered after the other was dead, which cannot be. A restarted
run breaks that argument, and so does a proof that came after the answers; hence both
conditions.

A lease needs more than half of the voters always, so that it shares a voter with either
quorum.

References:
    Lamport. "Paxos Made Simple". 2001, section 2 (why any two quorums must meet).
    docs of the protocol: "Quorum".
"""

from __future__ import annotations

from collections.abc import Collection

from .member import Identity, Member, View

__all__ = ["VOTERS_MAX", "is_full", "is_quorum", "is_small", "lease_quorum", "voters_of"]

VOTERS_MAX = 7
"""More voters than this make decisions slower and hardly any safer."""


_asked: tuple[View | None, tuple[Member, ...]] = (None, ())
"""The view that was asked about last, and its voters: the same one again and again."""


def voters_of(view: View) -> tuple[Member, ...]:
    """Return the members whose word counts for the next view, most senior first."""
    global _asked
    known, voters = _asked
    if known is not view:
        voters = tuple([member for member in view.members if not member.leaving][:VOTERS_MAX])
        _asked = (view, voters)
    return voters


def lease_quorum(view: View) -> int:
    """Return how many voters must renew a lease under the view."""
    return len(voters_of(view)) // 2 + 1


def is_quorum(view: View, answers: Collection[Identity], dead: Collection[Identity]) -> bool:
    """Return whether these runs, by their answers, decide for the view's successor.

    Args:
        view: The view in force.
        answers: The runs that answered; others than voters may be among them and do not count.
        dead: The runs that were proven dead before the first of them was asked.
    """
    return is_full(view, answers) or is_small(view, answers, dead)


def is_full(view: View, answers: Collection[Identity]) -> bool:
    """Return whether more than half of the voters answered, restarted ones included."""
    runs = {voter.id: voter.incarnation for voter in voters_of(view)}
    ids = {node_id for node_id, incarnation in answers if incarnation >= runs.get(node_id, incarnation + 1)}
    return len(ids) >= lease_quorum(view)


def is_small(view: View, answers: Collection[Identity], dead: Collection[Identity]) -> bool:
    """Return whether half of the voters answered in person while another one is proven dead."""
    voters = {voter.identity for voter in voters_of(view)}
    if not voters or len(voters) % 2 or voters.isdisjoint(dead):
        return False
    return len(voters.intersection(answers).difference(dead)) >= len(voters) // 2
