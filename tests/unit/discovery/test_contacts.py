import random

from ringcast.discovery.contacts import Contacts
from ringcast.discovery.effects import Dial
from ringcast.discovery.profile import LOCAL


def contacts() -> Contacts:
    return Contacts("me:1", LOCAL, random.Random(1))


def dials(core: Contacts, until: float) -> list[float]:
    """Return when the core dials, driven by its deadlines."""
    times: list[float] = []
    while (now := core.next_deadline()) <= until:
        times += [now for _ in core.tick(now)]
    return times


def test_what_is_found_is_dialled_at_once_then_with_growing_pauses_for_ever() -> None:
    core = contacts()
    core.found("a:1", 10.0)
    assert core.tick(10.0) == [Dial("a:1")]
    assert core.tick(10.1) == []
    times = dials(core, 10_000.0)
    assert times[0] < 10.0 + 0.26
    assert all(times[i + 1] - times[i] <= 1.25 * LOCAL.redial for i in range(len(times) - 1))
    assert times[-1] > 9_900.0
    assert times[-1] - times[-2] >= 0.75 * LOCAL.redial


def test_own_address_is_never_dialled() -> None:
    core = contacts()
    core.found("me:1", 10.0)
    core.remember("me:1", 10.0)
    assert core.next_deadline() == float("inf")
    assert len(core) == 0


def test_a_seed_that_turns_out_to_be_this_node_is_dialled_no_more() -> None:
    core = contacts()
    core.found("localhost:1", 10.0)
    core.answered("localhost:1", by_itself=True)
    core.found("localhost:1", 11.0)
    assert len(core) == 0


def test_an_answer_ends_the_hurry() -> None:
    core = contacts()
    core.found("a:1", 10.0)
    core.tick(10.0)
    core.answered("a:1", by_itself=False)
    assert core.next_deadline() >= 10.0 + 0.7 * LOCAL.redial
    core.answered("unknown:1", by_itself=False)
    assert len(core) == 1


def test_found_again_changes_nothing() -> None:
    core = contacts()
    core.found("a:1", 10.0)
    core.tick(10.0)
    core.found("a:1", 10.0)
    assert core.tick(10.0) == []


def test_the_dead_are_dialled_for_a_day_unless_discovery_shows_them() -> None:
    core = contacts()
    core.remember("dead:1", 10.0)
    core.remember("shown:1", 10.0)
    core.found("shown:1", 10.0)
    core.remember("shown:1", 10.0)
    assert core.tick(10.0) == []
    assert dials(core, 100.0)[0] == 10.0 + LOCAL.redial
    core.tick(10.0 + LOCAL.dead_remembered)
    assert len(core) == 1


def test_what_is_withdrawn_is_dialled_no_more() -> None:
    core = contacts()
    core.found("a:1", 10.0)
    core.gone("a:1")
    core.gone("a:1")
    assert core.tick(10.0) == []


def test_where_a_member_was_lost_is_dialled_on_though_the_announcement_is_withdrawn() -> None:
    core = contacts()
    core.found("a:1", 10.0)
    core.remember("a:1", 20.0)
    core.gone("a:1")
    assert dials(core, 100.0)[-1] > 60.0
    core.tick(20.0 + LOCAL.dead_remembered)
    assert len(core) == 0
    # Shown again it is dialled for ever, and only then.
    core.found("a:1", 10.0)
    core.remember("a:1", 20.0)
    core.tick(20.0 + LOCAL.dead_remembered)
    assert len(core) == 1


def test_discovery_cannot_fill_the_memory() -> None:
    core = contacts()
    for i in range(10_010):
        core.found(f"a:{i}", 10.0)
    assert len(core) == 10_000
