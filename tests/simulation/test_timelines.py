"""How long things take with the LAN's numbers: the protocol's own timelines, in virtual time."""

from __future__ import annotations

import os

import pytest

from ringcast.discovery.claim import Claim
from ringcast.discovery.effects import Effect
from ringcast.discovery.member import Identity
from ringcast.discovery.polls import Polls
from ringcast.discovery.profile import LAN
from ringcast.discovery.share import bits_of
from tests.simulation.checkers import Violation
from tests.simulation.world import PARTITIONS, World

SEEDS = range(min(20, int(os.environ.get("SEEDS", "2"))))


def cluster(size: int, seed: int, *, has_disk: bool = False) -> World:
    """Return a settled cluster of machines 0, 1, …"""
    world = World(seed, profile=LAN)
    world.patience = 2.4, 3.7
    for i in range(size):
        world.add(str(i), has_disk=has_disk, drift=world.rng.uniform(-0.005, 0.005))
        world.start(str(i))
    settle(world, 15.0)
    world.run(2.0)
    return world


def settle(world: World, seconds: float) -> float:
    """Run until all is well, and return how long that took; fail if it takes longer."""
    took = world.run(seconds, lambda: not world.trouble())
    assert took < seconds, world.trouble()
    return took


def serves_all(world: World, *names: str) -> bool:
    """Whether these run every partition under leases."""
    covered: set[int] = set()
    for name in names:
        process = world.machines[name].process
        if process is not None and process.core.is_serving(world.local(world.machines[name])):
            covered |= set(bits_of(process.share.open))
    return len(covered) == PARTITIONS


def is_serving(world: World, name: str) -> bool:
    machine = world.machines[name]
    return machine.process is not None and machine.process.core.is_serving(world.local(machine))


def numbers(world: World) -> set[int]:
    views = [machine.process.view for machine in world.up() if machine.process is not None]
    return {view.number if view is not None else 0 for view in views}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_after_a_kill_the_others_serve_everything_at_once(size: int, seed: int) -> None:
    world = cluster(size, seed)
    victim = str(world.rng.randrange(size))
    others = [name for name in world.machines if name != victim]
    world.kill(victim)
    assert world.run(1.0, lambda: serves_all(world, *others)) < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_the_survivor_of_two_hardly_pauses(seed: int) -> None:
    world = cluster(2, seed)
    world.kill("1")
    paused = 0.0
    for _ in range(300):
        world.run(0.01)
        paused += 0.0 if is_serving(world, "0") else 0.01
    assert paused <= 0.05
    assert serves_all(world, "0")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [3, 5])
def test_after_a_silent_loss_the_others_serve_everything_soon(size: int, seed: int) -> None:
    world = cluster(size, seed)
    world.silence("0")
    others = [name for name in world.machines if name != "0"]
    assert world.run(6.0, lambda: serves_all(world, *others)) < 5.0


@pytest.mark.parametrize("seed", SEEDS)
def test_of_two_the_one_that_is_left_in_silence_stops_until_the_other_answers(seed: int) -> None:
    world = cluster(2, seed)
    world.silence("1")
    world.run(LAN.lease + 0.1)
    assert not is_serving(world, "0")
    world.run(20.0)
    assert not is_serving(world, "0")
    world.reboot("1")
    assert world.run(3.0, lambda: serves_all(world, "0")) < 3.0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_stop_changes_nothing_and_a_long_one_is_survived(seed: int) -> None:
    world = cluster(5, seed)
    before = numbers(world)
    world.pause("2", 0.5)
    world.run(5.0)
    assert numbers(world) == before
    world.pause("2", 5.0)
    assert world.run(5.0, lambda: serves_all(world, "0", "1", "3", "4")) < 4.5
    world.run(5.0, lambda: not world.trouble())
    assert settle(world, 3.0) < 3.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [3, 4, 5])
def test_a_firewall_that_refuses_for_a_live_member_is_found_out(size: int, seed: int) -> None:
    world = cluster(size, seed)
    before = numbers(world)
    world.reject("0", "2")
    world.run(1.5)
    for name in ("0", "2"):
        process = world.machines[name].process
        assert process is not None
        assert process.core.evidence.proven == {}
        assert is_serving(world, name)
    world.heal()
    world.run(5.0)
    assert numbers(world) == before


def test_without_objections_the_firewall_would_split_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    def say_nothing(self: Polls, who: Identity, sender: Claim, now: float) -> list[Effect]:
        return []

    monkeypatch.setattr(Polls, "on_accusation", say_nothing)
    world = cluster(3, 1)
    world.reject("0", "2")
    with pytest.raises(Violation):
        world.run(1.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_minority_stops_within_its_lease_and_joins_again_by_itself(seed: int) -> None:
    world = cluster(5, seed)
    world.cut(["3", "4"])
    world.run(LAN.lease + 0.1)
    assert not is_serving(world, "3")
    assert not is_serving(world, "4")
    assert world.run(6.0, lambda: serves_all(world, "0", "1", "2")) < 6.0
    world.run(20.0)
    world.heal()
    assert settle(world, 5.0) < 5.0


@pytest.mark.parametrize("seed", SEEDS)
def test_two_that_were_parted_go_on_in_the_same_view(seed: int) -> None:
    world = cluster(2, seed)
    before = numbers(world)
    world.cut(["1"])
    world.run(10.0)
    assert not is_serving(world, "0")
    assert not is_serving(world, "1")
    world.heal()
    assert settle(world, 3.0) < 3.0
    assert numbers(world) == before


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_all_that_are_started_again_with_their_records_go_on_with_their_lineage(size: int, seed: int) -> None:
    world = cluster(size, seed, has_disk=True)
    process = world.machines["0"].process
    assert process is not None
    lineage, before = process.core.lineage, max(numbers(world))
    for name in world.machines:
        world.kill(name)
    for name in world.machines:
        world.start(name)
    settle(world, 10.0)
    process = world.machines["0"].process
    assert process is not None
    assert process.core.lineage == lineage
    assert min(numbers(world)) > before


@pytest.mark.parametrize("seed", SEEDS)
def test_two_lineages_that_meet_are_one_soon(seed: int) -> None:
    world = World(seed, profile=LAN)
    world.patience = 2.4, 3.7
    for i in range(5):
        world.add(str(i))
    world.cut(["3", "4"])
    for i in range(5):
        world.start(str(i))
    world.run(15.0)
    assert serves_all(world, "0", "1", "2")
    assert serves_all(world, "3", "4")
    world.heal()
    assert settle(world, 10.0) < 10.0


@pytest.mark.parametrize("seed", SEEDS)
def test_it_grows_to_five_and_back_without_a_pause_of_everything(seed: int) -> None:
    world = cluster(1, seed)
    for i in range(1, 5):
        world.add(str(i))
        world.start(str(i))
        assert settle(world, 3.0) < 2.0
    for i in range(4):
        world.leave(str(i))
        assert world.run(6.0, lambda: not world.trouble() and len(world.up()) == 4 - i) < 3.0  # noqa: B023
    assert serves_all(world, "4")


@pytest.mark.parametrize("seed", SEEDS)
def test_an_idle_cluster_is_quiet(seed: int) -> None:
    world = cluster(5, seed)
    before, views = world.messages, world.checker.views
    world.run(60.0)
    # Each node asks four others twice a second, and answers them.
    assert (world.messages - before) / 60 / 5 == pytest.approx(16, rel=0.05)
    assert world.checker.views == views
