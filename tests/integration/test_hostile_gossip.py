"""Strangers at the UDP port and in multicast DNS, in small numbers; `benchmarks.hostile_gossip` sends more."""

from __future__ import annotations

import os

from benchmarks.hostile_gossip import Victim, announcements, gossip
from ringcast.discovery.source import Seeds


async def test_damaged_and_repeated_datagrams_are_refused_also_after_a_restart() -> None:
    figures = await gossip(2_000)
    assert figures.true_accepted == figures.sent == 2_000
    assert (figures.damaged_accepted, figures.replayed_accepted, figures.restarted_accepted) == (0, 0, 0)
    assert figures.lost == 0
    assert figures.grown_mib < 16


async def test_a_flood_of_announcements_neither_fills_a_node_nor_hides_the_others() -> None:
    figures = await announcements(400, 400, watched=0.0)
    # What is shown without a pause, and what the pace has let through in the time that it took.
    assert figures.remembered <= 32 + figures.seconds / 0.1 + 1
    assert figures.found_after < 20
    assert figures.grown_mib < 32


async def test_datagrams_under_another_secret_are_counted_and_cost_nobody_the_membership() -> None:
    one = Victim("one", os.urandom(32), tls=False)
    await one.membership.start()
    two = Victim("two", os.urandom(32), [Seeds([one.membership.address])], tls=False)
    try:
        # Without TLS the name of the cluster is all that is asked for; datagrams are sealed all the same.
        await two.membership.start()
        await one.until_members(2)
        await one.until_refused(5)
        await two.until_refused(5)
        assert (one.lost, two.lost) == (0, 0)
    finally:
        await two.membership.stop()
        await one.membership.stop()
    for node in (one, two):
        assert node.membership.stats()["foreign_key"] == node.refused >= 5
