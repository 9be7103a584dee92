"""When commits may be made on the loop's thread."""

from __future__ import annotations

from ringcast.runtime.stores.haste import COMMITS, FEW, OTHERS, QUICK, SHARE, STALL, Haste


def hasty() -> Haste:
    """Return one whose file has been quick for long, with no processor time used."""
    haste = Haste()
    for _ in range(100):
        haste.took(QUICK / 4, 1, 0.0)
    assert haste.is_due(1, 0.0, 0.0)
    return haste


def test_a_file_has_to_show_that_it_is_quick() -> None:
    haste = Haste()
    assert not haste.is_due(1, 0.0, 0.0)
    haste.took(QUICK / 4, 1, 0.0)
    assert not haste.is_due(1, 0.0, 0.0)


def test_a_file_that_becomes_slow_goes_to_the_other_thread() -> None:
    haste = hasty()
    for _ in range(100):
        haste.took(QUICK * 1.1, 1, 0.0)
    assert not haste.is_due(1, 0.0, 0.0)


def test_many_saves_go_to_the_other_thread() -> None:
    haste = hasty()
    assert haste.is_due(FEW, 0.0, 0.0)
    assert not haste.is_due(FEW + 1, 0.0, 0.0)


def test_stalls_take_a_hundredth_of_the_time_at_most() -> None:
    haste = hasty()
    haste.took(0.2, 1, 10.0)
    for _ in range(100):
        haste.took(QUICK / 4, 1, 11.0)
    assert not haste.is_due(1, 10.0 + SHARE * 0.2 - 0.01, 0.0)
    assert haste.is_due(1, 10.0 + SHARE * 0.2, 0.0)


def test_a_shorter_stall_does_not_cut_a_longer_one_short() -> None:
    haste = hasty()
    haste.took(1.0, 1, 10.0)
    haste.took(STALL * 1.1, 1, 10.1)
    for _ in range(100):
        haste.took(QUICK / 4, 1, 11.0)
    assert not haste.is_due(1, 100.0, 0.0)
    assert haste.is_due(1, 10.0 + SHARE, 0.0)


def test_a_loop_with_other_work_is_not_kept() -> None:
    haste = hasty()
    assert haste.is_due(1, 0.0, OTHERS * 0.9)
    assert not haste.is_due(1, 0.0, OTHERS * 2)
    assert haste.is_due(4, 0.0, OTHERS * 5), "four saves have three times as long"


def test_of_a_busy_loop_commits_take_a_small_part() -> None:
    """The other thread would hardly get the interpreter's lock from a loop that never waits."""
    haste = hasty()
    for _ in range(100):
        haste.took(OTHERS * 2, 1, 0.0)
    assert not haste.is_due(1, 0.0, OTHERS * 2 / COMMITS * 0.9)
    haste.rest(0.0)
    assert haste.is_due(1, 0.0, OTHERS * 2 / COMMITS * 1.1)
    haste.rest(0.0)
    assert not haste.is_due(FEW + 1, 0.0, OTHERS * 2 / COMMITS * 1.1)


def test_the_processor_time_of_a_commit_is_not_others_work() -> None:
    haste = hasty()
    haste.rest(OTHERS * 5)
    assert haste.is_due(1, 0.0, OTHERS * 5.5)


def test_what_a_large_group_takes_says_nothing_of_a_few() -> None:
    haste = hasty()
    for _ in range(100):
        haste.took(QUICK * 3, FEW + 1, 0.0)
    assert haste.is_due(1, 0.0, 0.0)
    haste.took(STALL * 2, FEW + 1, 0.0)
    assert not haste.is_due(1, 0.1, 0.0), "a stall is one in any case"
