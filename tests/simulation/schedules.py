"""Schedules by hand, each for a mistake that chance finds only once in thousands of stories.

Each ends well as the protocol is, and badly with its mistake planted.
"""

from __future__ import annotations

from collections.abc import Callable

from ringcast.discovery.agreement_messages import Accept, Accepted, Apply, Decided, Prepare, Renew
from ringcast.discovery.claim import Claim
from tests.simulation.core_stories import RECOVERY_SECONDS, Stuck
from tests.simulation.world import World


def settled(size: int, seed: int, *, has_disk: bool = False) -> World:
    """Return a world with one lineage of machines 0, 1, …, by seniority."""
    world = World(seed)
    for i in range(size):
        world.add(str(i), has_disk=has_disk)
    for name in list(world.machines):
        world.start(name)
        world.run(10.0, lambda: not world.trouble())
    world.run(1.0)
    assert world.trouble() == []
    return world


def block(world: World, *pairs: tuple[str, str]) -> None:
    for one, other in pairs:
        world.blocked |= {(one, other), (other, one)}


def unblock(world: World, *pairs: tuple[str, str]) -> None:
    for one, other in pairs:
        world.blocked -= {(one, other), (other, one)}


def recover(world: World) -> None:
    world.drop = lambda source, target, message: False
    world.heal()
    if world.run(RECOVERY_SECONDS, lambda: not world.trouble()) >= RECOVERY_SECONDS:
        raise Stuck("; ".join(world.trouble()))


def until(world: World, condition: Callable[[], bool], seconds: float = 10.0) -> None:
    assert world.run(seconds, condition) < seconds, "the schedule did not come to pass"


def numbers(world: World, *names: str) -> list[int]:
    """Return the numbers of the views that these have installed."""
    processes = [world.machines[name].process for name in names]
    return [process.view.number if process is not None and process.view is not None else 0 for process in processes]


def sealed(world: World, name: str) -> bool:
    process = world.machines[name].process
    return process is not None and process.core.council is not None and process.core.council.polls.voter.is_sealed


def excluded_while_leased() -> None:
    """One voter has lost sight of a member that another one renews; the member hears of no view."""
    world = settled(3, 1)
    block(world, ("0", "2"))
    world.drop = lambda source, target, message: target == "2" and isinstance(message, Decided)
    until(world, lambda: min(numbers(world, "0", "1")) >= 4)
    world.run(0.5)
    recover(world)


def leased_under_the_view_before() -> None:
    """A view is decided without the member that was renewed under the one before the last."""
    world = settled(3, 1)
    block(world, ("0", "2"))
    world.drop = lambda source, target, message: target == "2" and isinstance(message, Decided | Renew)
    world.run(0.5)
    world.add("3")
    world.start("3")
    until(world, lambda: numbers(world, "0", "1", "3") == [5, 5, 5])
    world.run(0.5)
    recover(world)


def application_of_an_older_run() -> None:
    """An application that was long under way comes after a newer run was let in."""
    world = settled(2, 1, has_disk=True)
    late: list[tuple[Apply, Claim]] = []

    def keep(source: str, target: str, message: object) -> bool:
        if source == "2" and isinstance(message, Apply) and not late:
            late.append((message, Claim(message.member.id, message.member.address, message.member.incarnation)))
        return False

    world.drop = keep
    world.add("2", has_disk=True)
    world.start("2")
    until(world, lambda: not world.trouble())
    world.kill("2")
    world.start("2")
    until(world, lambda: not world.trouble())
    # A voter that has not heard of the newer run yet, and then one whose ballots nobody disturbs.
    world.drop = lambda source, target, message: (source, target) == ("2", "3")
    world.add("3", has_disk=True)
    world.start("3")
    until(world, lambda: numbers(world, "0", "1", "3")[-1] > 0)
    world.drop = lambda source, target, message: (
        (source, target) == ("2", "3") or (source != "3" and isinstance(message, Prepare))
    )
    [(message, sender)] = late
    for _ in range(15):
        world._arrive("2", "3", message, sender)
        world.run(0.2)
    recover(world)


def a_voter_that_came_back() -> None:
    """Two halves of four voters each prove a death in the other; one was restarted in between."""
    world = settled(4, 1, has_disk=True)
    world.kill("3")
    world.run(0.04)
    block(world, ("0", "2"), ("1", "2"), ("0", "3"), ("1", "3"))
    until(world, lambda: numbers(world, "0", "1") == [5, 5])
    world.start("3")
    world.kill("0")
    # Machine 2 sees that the process of machine 0 is gone, and nothing else of that side.
    unblock(world, ("0", "2"))
    world.run(4.0)
    recover_all(world, "0")


def proof_that_came_late() -> None:
    """Half of four voters have accepted; the other half prove a death and decide; then one of them dies."""
    world = settled(4, 1)
    world.drop = lambda source, target, message: source == "0" and target in ("2", "3") and isinstance(message, Accept)
    world.add("j")
    world.start("j")
    until(world, lambda: sealed(world, "0") and sealed(world, "1"))
    block(world, ("0", "1"), ("0", "2"), ("0", "3"), ("0", "j"))
    world.kill("1")
    until(world, lambda: numbers(world, "2", "3") == [5, 5], 2.0)
    world.kill("3")
    unblock(world, ("0", "3"))
    world.run(2.0)
    recover(world)


def accepted_and_forgotten() -> None:
    """All voters have accepted a view that nobody wishes for any more, and the proposer was not told."""
    world = settled(2, 1)
    world.drop = lambda source, target, message: (source, target) == ("1", "0") and isinstance(message, Accepted)
    world.add("j")
    world.start("j")
    until(world, lambda: sealed(world, "1"))
    world.kill("j")
    world.run(1.0)
    recover(world)


def recover_all(world: World, *names: str) -> None:
    """Start these again, and recover."""
    for name in names:
        world.start(name)
    recover(world)


SCHEDULES: dict[str, Callable[[], None]] = {
    "3 no promise": excluded_while_leased,
    "4 no seal and no carry-over": leased_under_the_view_before,
    "12 double join": application_of_an_older_run,
    "restarted run counted": a_voter_that_came_back,
    "proof after the votes": proof_that_came_late,
    "orphan not finished": accepted_and_forgotten,
}
"""By the name of the mistake that the schedule is for."""
