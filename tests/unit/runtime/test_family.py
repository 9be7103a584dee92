"""What a supervisor decides, a rule at a time. `tests/properties/test_family.py` mixes them."""

from __future__ import annotations

import random

import pytest

from ringcast import PERMANENT, TEMPORARY, TRANSIENT, Backoff, Fatal, OneForAll, OneForOne, Restart, RestForOne
from ringcast.actors.supervision import Strategy
from ringcast.runtime.blame import Blame, blame
from ringcast.runtime.directives import Closed, End, Escalate, Ready, Start, Stop
from ringcast.runtime.family import Family
from ringcast.runtime.intensity import Intensity

PLAIN = Backoff(first=1.0, factor=2.0, limit=8.0, jitter=0.0)


def family(strategy: Strategy, *children: str, restart: Restart = PERMANENT, is_root: bool = False) -> Family:
    """Return a family whose children are up since 0 s."""
    made = Family(strategy, random.Random(5), is_root=is_root)
    for child in children:
        made.add(child, restart)
        assert made.up(child, 0.0) == []
    return made


# ---- whose an error is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "is_asked", "has_run", "whose"),
    [
        (ValueError(), True, True, Blame.CALLER),
        (ValueError(), False, True, Blame.SUPERVISOR),
        (Fatal(), True, True, Blame.CALLER | Blame.SUPERVISOR),
        (Fatal(), False, True, Blame.SUPERVISOR),
        (KeyError(), True, True, Blame.CALLER | Blame.SUPERVISOR),
        (TypeError(), True, False, Blame.CALLER),
        (KeyError(), True, False, Blame.CALLER),
        (TypeError(), False, False, Blame.NOBODY),
    ],
)
def test_an_error_belongs_to_who_waits_for_it(error: Exception, is_asked: bool, has_run: bool, whose: Blame) -> None:
    assert blame(error, is_asked=is_asked, has_run=has_run, failures=(Fatal, KeyError)) == whose


# ---- starting ------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [OneForOne(), OneForAll(), RestForOne()])
def test_declared_children_start_one_after_the_other(strategy: Strategy) -> None:
    one = Family(strategy, random.Random(5))
    assert one.declare([("a", PERMANENT), ("b", TRANSIENT)]) == [Start("a", 0.0, None, 0)]
    assert one.up("b", 1.0) == []
    assert one.up("a", 1.0) == [Start("b", 0.0, None, 0)]
    assert one.up("b", 2.0) == [Ready()]
    assert one.up("b", 2.0) == []
    assert list(one) == ["a", "b"]


def test_a_supervisor_without_children_is_up_at_once() -> None:
    assert Family(OneForOne(), random.Random(5)).declare([]) == [Ready()]


def test_one_that_cannot_start_holds_up_its_siblings_only_if_they_restart_with_it() -> None:
    for strategy, others in ((OneForOne(backoff=PLAIN), True), (RestForOne(backoff=PLAIN), False)):
        one = Family(strategy, random.Random(5))
        one.declare([("a", PERMANENT), ("b", PERMANENT)])
        again = Start("a", 1.0, "a", 1)
        assert one.failed("a", 0.0) == ([again, Start("b", 0.0, None, 0)] if others else [again])


# ---- who is started again --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "has_failed", "again"),
    [
        (PERMANENT, True, True),
        (PERMANENT, False, True),
        (TRANSIENT, True, True),
        (TRANSIENT, False, False),
        (TEMPORARY, True, False),
        (TEMPORARY, False, False),
    ],
)
@pytest.mark.parametrize("strategy", [OneForOne(backoff=PLAIN), OneForAll(backoff=PLAIN), RestForOne(backoff=PLAIN)])
def test_restart_says_whether(strategy: Strategy, restart: Restart, has_failed: bool, again: bool) -> None:
    one = family(strategy, "a", restart=restart)
    directives = one.failed("a", 5.0) if has_failed else one.ended("a", 5.0)
    assert directives == ([Start("a", 1.0, "a", 1)] if again else [End("a")])
    assert ("a" in one) is again


def test_one_for_one_leaves_siblings_alone() -> None:
    assert family(OneForOne(backoff=PLAIN), "a", "b", "c").failed("b", 1.0) == [Start("b", 1.0, "b", 1)]


def test_one_for_all_stops_in_reverse_then_starts_in_order() -> None:
    one = family(OneForAll(backoff=PLAIN), "a", "b", "c")
    assert one.failed("b", 1.0) == [Stop("c", False)]
    assert one.stopping == "c"
    assert one.halted("c") == [Stop("a", False)]
    assert one.halted("a") == [Start("a", 1.0, "b", 1)]
    assert one.up("a", 3.0) == [Start("b", 0.0, "b", 1)]
    assert one.up("b", 3.0) == [Start("c", 0.0, "b", 1)]
    assert one.up("c", 3.0) == []


def test_rest_for_one_takes_along_what_started_later() -> None:
    one = family(RestForOne(backoff=PLAIN), "a", "b", "c", "d")
    assert one.failed("b", 1.0) == [Stop("d", False)]
    assert one.halted("d") == [Stop("c", False)]
    assert one.halted("c") == [Start("b", 1.0, "b", 1)]
    assert "a" in one


def test_a_temporary_sibling_that_is_taken_along_ends() -> None:
    one = family(OneForAll(backoff=PLAIN), "a")
    one.add("b", TEMPORARY, is_up=True)
    assert one.failed("a", 1.0) == [Stop("b", True)]
    assert one.gone("b") == [Start("a", 1.0, "a", 1)]


def test_an_earlier_sibling_that_fails_meanwhile_widens_the_plan() -> None:
    one = family(RestForOne(backoff=PLAIN), "a", "b", "c", "d")
    assert one.failed("c", 1.0) == [Stop("d", False)]
    assert one.failed("b", 1.5) == []  # it waits: d is on its way down already
    assert one.halted("d") == [Start("b", 1.0, "b", 2)]
    assert one.up("b", 3.0) == [Start("c", 0.0, "b", 2)]


def test_what_happens_to_one_that_is_to_stop_is_no_failure_of_its_own() -> None:
    one = family(OneForAll(max_restarts=1, backoff=PLAIN), "a", "b", "c")
    assert one.failed("a", 1.0) == [Stop("c", False)]
    assert one.failed("b", 1.0) == []
    assert one.failed("c", 1.0) == []
    assert one.halted("c") == [Start("a", 1.0, "a", 1)]


def test_one_that_is_just_starting_is_taken_along_too() -> None:
    one = Family(RestForOne(backoff=PLAIN), random.Random(5))
    one.declare([("a", PERMANENT), ("b", PERMANENT)])
    assert one.up("a", 0.0) == [Start("b", 0.0, None, 0)]
    assert one.failed("a", 1.0) == [Stop("b", False)]
    assert one.halted("b") == [Start("a", 1.0, "a", 1)]


# ---- how often, and when -----------------------------------------------------------------------------


def test_the_window_slides() -> None:
    window = Intensity(2, 10.0)
    assert [window.note(at) for at in (0.0, 1.0)] == [False, False]
    assert window.note(10.0)  # the one at 0 s still counts at its last instant
    assert window.count == 3
    assert window.note(11.0)
    assert not window.note(21.0)
    assert window.count == 2


def test_too_many_restarts_fail_the_supervisor() -> None:
    one = family(OneForOne(max_restarts=2, within=10.0, backoff=PLAIN), "a", "b")
    one.failed("a", 1.0)
    one.up("a", 2.0)
    one.failed("b", 3.0)
    one.up("b", 4.0)
    assert one.failed("a", 5.0) == [Escalate("a", 3)]
    assert one.failed("b", 6.0) == []  # it is as good as gone
    assert one.gone("b") == []
    assert one.close(is_final=True) == [Stop("a", True)]
    assert one.gone("a") == [Closed()]


def test_none_at_all_may_be_allowed() -> None:
    assert family(OneForOne(max_restarts=0), "a").failed("a", 1.0) == [Escalate("a", 1)]


def test_the_delay_grows_until_the_child_has_been_up_for_the_window() -> None:
    one = family(OneForOne(max_restarts=100, within=10.0, backoff=PLAIN), "a")
    delays: list[float] = []
    for at in (1.0, 2.0, 3.0, 4.0, 5.0, 14.5, 24.5):
        (start,) = one.failed("a", at)
        assert isinstance(start, Start)
        delays.append(start.delay)
        one.up("a", at)
    assert delays == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 1.0]


def test_jitter_spreads_the_delays_within_its_share() -> None:
    spread = Backoff(first=1.0, factor=1.0, limit=8.0, jitter=0.2)
    one = family(OneForOne(max_restarts=1000, within=10.0, backoff=spread), "a")
    delays: set[float] = set()
    for at in range(100):
        (start,) = one.failed("a", float(at))
        assert isinstance(start, Start)
        delays.add(start.delay)
        one.up("a", float(at))
    assert len(delays) > 50
    assert 0.8 <= min(delays) < 0.85
    assert 1.15 < max(delays) <= 1.2


def test_the_root_counts_per_child_and_never_fails() -> None:
    root = family(OneForAll(max_restarts=1, within=10.0, backoff=PLAIN), "a", "b", is_root=True)
    assert root.failed("a", 1.0) == [Start("a", 1.0, "a", 1)]
    root.up("a", 2.0)
    assert root.failed("b", 2.0) == [Start("b", 1.0, "b", 1)]
    for at, restarts in ((3.0, 2), (11.0, 3), (19.0, 2), (40.0, 1)):  # it stays so until it has been up for long
        assert root.failed("a", at) == [Start("a", 8.0, "a", restarts, is_failing=True)]
        if at < 40.0:
            root.up("a", at + 8.0 if at < 19.0 else 39.0)
    root.up("a", 48.0)
    assert root.failed("a", 58.0) == [Start("a", 1.0, "a", 1)]


# ---- the supervisor's end and beginning ----------------------------------------------------------


def test_closing_for_good_ends_all_in_reverse_those_that_are_down_too() -> None:
    one = family(OneForOne(backoff=PLAIN), "a", "b")
    one.declare([("c", PERMANENT), ("d", PERMANENT)])
    assert one.close(is_final=True) == [Stop("d", True)]
    assert one.is_closing
    for child, after in (("d", "c"), ("c", "b"), ("b", "a")):
        assert one.gone(child) == [Stop(after, True)]
    assert one.gone("a") == [Closed()]
    assert len(one) == 0
    assert one.close(is_final=True) == [Closed()]


def test_closing_keeps_all_but_temporary_children() -> None:
    one = family(OneForAll(backoff=PLAIN), "a", "b")
    one.add("t", TEMPORARY, is_up=True)
    assert one.close(is_final=False) == [Stop("t", True)]
    assert one.failed("b", 1.0) == []  # it was to stop anyway
    assert one.gone("t") == [Stop("a", False)]
    assert one.halted("a") == [Closed()]
    assert list(one) == ["a", "b"]
    assert one.gone("b") == []
    one.reopen()
    assert not one.is_closing
    assert one.declare([("x", PERMANENT)]) == [Start("x", 0.0, None, 0)]
    assert list(one) == ["x", "a"], "what was added at run time comes after what is declared"


def test_what_is_declared_no_longer_ends() -> None:
    one = Family(OneForOne(), random.Random(5))
    one.declare([("a", PERMANENT), ("b", PERMANENT), ("c", PERMANENT)])
    for child in "abc":
        one.up(child, 0.0)
    for child in ("c", "b", "a"):
        one.close(is_final=False) if child == "c" else None
        one.halted(child)
    one.reopen()
    one.add("early", PERMANENT)  # the supervisor's own on_start has spawned it
    assert one.declare([("b", TRANSIENT)]) == [End("c"), End("a"), Start("b", 0.0, None, 0)]
    assert list(one) == ["early", "b"]
    assert one.up("b", 0.0) == [Ready()]
    assert one.ended("b", 1.0) == [End("b")], "the restart that is declared now counts"


def test_closing_for_good_after_closing() -> None:
    one = family(OneForOne(), "a")
    assert one.close(is_final=False) == [Stop("a", False)]
    assert one.close(is_final=True) == []
    assert one.halted("a") == [Stop("a", True)]
    assert one.gone("a") == [Closed()]


def test_what_comes_twice_or_from_strangers_changes_nothing() -> None:
    one = family(OneForAll(backoff=PLAIN), "a", "b")
    assert one.failed("x", 1.0) == one.ended("x", 1.0) == one.gone("x") == one.up("x", 1.0) == one.halted("x") == []
    one.add("a", TEMPORARY)
    assert one.failed("a", 1.0) == [Stop("b", False)]
    assert one.failed("a", 1.0) == []
    assert one.halted("a") == []
    assert one.halted("b") == [Start("a", 1.0, "a", 1)]
    assert one.halted("b") == []


def test_one_that_is_stopped_by_somebody_is_waited_for_no_longer() -> None:
    one = family(OneForAll(backoff=PLAIN), "a", "b", "c")
    assert one.failed("a", 1.0) == [Stop("c", False)]
    assert one.gone("b") == []
    assert one.gone("c") == [Start("a", 1.0, "a", 1)]
    one.declare([("d", PERMANENT), ("e", PERMANENT)])
    assert one.gone("e") == []
    assert one.gone("a") == [Start("d", 0.0, "a", 1)]
    assert one.up("d", 2.0) == [Ready()]


def test_a_newcomer_that_fails_does_not_call_off_stops_in_progress() -> None:
    one = family(RestForOne(backoff=PLAIN), "a", "b", "c")
    assert one.failed("a", 1.0) == [Stop("c", False)]
    one.add("d", PERMANENT, is_up=True)
    assert one.failed("d", 1.0) == []
    assert one.halted("c") == [Stop("b", False)]
    assert one.halted("b") == [Start("a", 1.0, "d", 2)]


def test_what_ends_for_good_is_not_kept_after_all() -> None:
    one = family(OneForOne(), "a", "b")
    assert one.close(is_final=True) == [Stop("b", True)]
    assert one.close(is_final=False) == []
    assert one.gone("b") == [Stop("a", True)]


# ---- children that are away --------------------------------------------------------------------------


def test_a_child_that_is_away_comes_up_by_itself_and_counts_nothing() -> None:
    one = family(OneForAll(max_restarts=0), "a", "b")
    assert one.moved("b") == []
    assert one.moved("stranger") == []
    assert one.up("b", 1.0) == []
    assert one.is_named("b")
    assert not one.is_named("stranger")


def test_nobody_waits_for_the_start_of_a_child_that_is_away() -> None:
    one = Family(OneForAll(), random.Random(0))
    assert one.declare([("a", PERMANENT), ("b", PERMANENT)]) == [Start("a", 0.0, None, 0)]
    assert one.moved("a") == [Start("b", 0.0, None, 0)]
    assert one.up("b", 1.0) == [Ready()]


def test_a_child_that_is_away_is_not_taken_along_and_not_waited_for() -> None:
    one = family(OneForAll(), "a", "b", "c")
    one.moved("b")
    assert one.failed("a", 1.0) == [Stop("c", False)]
    [start] = one.moved("c")
    assert isinstance(start, Start)
    assert start.child == "a"
    one.up("a", 2.0)
    assert one.close(is_final=True) == [Stop("c", True)]
    assert one.moved("c") == [], "its end is waited for, wherever it is"
    assert one.gone("c") == [Stop("b", True)]


def test_children_that_a_lost_supervisor_has_left_down_are_started_in_their_turn() -> None:
    one = Family(OneForOne(), random.Random(5))
    one.add("a", PERMANENT, is_up=True)
    one.add("b", PERMANENT, is_up=True)
    one.add("c", PERMANENT)
    assert one.is_started("b")
    assert not one.is_started("x")
    declared = [("a", PERMANENT), ("b", PERMANENT), ("c", PERMANENT)]
    assert one.declare(declared, ["b", "c", "x"]) == [Start("b", 0.0, None, 0)]
    assert not one.is_started("c")
    assert one.up("b", 0.0) == [Start("c", 0.0, None, 0)]
    assert one.up("c", 0.0) == [Ready()]
