"""Nodes on a LAN of namespaces that falls apart, loses packets, or has lost a cable."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from benchmarks.chaos import network
from benchmarks.chaos.cluster import Cluster, asked, cluster
from benchmarks.chaos.partitions import parted
from benchmarks.chaos.process import NodeProcess
from benchmarks.chaos.strain import evicted, warnings_each
from benchmarks.namespaces import Host, lan
from ringcast.discovery.profile import LOCAL

KEYS = range(60)
WARNED = 25
"""Seconds within which each node must have missed three datagrams of each peer."""


@pytest.fixture(autouse=True)
def _needs_root_and_nft() -> None:  # pyright: ignore[reportUnusedFunction]
    reason = network.why_not()
    if reason is not None:
        pytest.skip(reason)


@asynccontextmanager
async def a_cluster_on(count: int, profile: str) -> AsyncIterator[tuple[Cluster, Sequence[Host]]]:
    with lan(count) as hosts:
        async with cluster(count, hosts, profile=profile) as found:
            yield found, hosts


def host_of(process: NodeProcess) -> Host:
    assert process.host is not None, "it is on a LAN"
    return process.host


async def test_the_minority_stops_and_the_majority_goes_on() -> None:
    split = await parted(1, 6.0, profile="local")
    assert max(split.served) <= LOCAL.lease + 0.5
    assert max(split.answered) <= 6.0
    assert max(split.healed) <= 5.0


def _deaf(victim: Host, others: Sequence[Host]) -> Callable[[], None]:
    network.deaf_to(victim, others)
    return functools.partial(network.heal, victim)


def _mute(victim: Host, others: Sequence[Host]) -> Callable[[], None]:
    for other in others:
        network.deaf_to(other, [victim])

    def heal() -> None:
        for other in others:
            network.heal(other)

    return heal


def _unplugged(victim: Host, others: Sequence[Host]) -> Callable[[], None]:
    network.unplug(victim)
    return functools.partial(network.plug, victim)


@pytest.mark.parametrize("lose", [_deaf, _mute, _unplugged], ids=lambda lose: lose.__name__[1:])
async def test_a_node_that_is_not_reached_both_ways_is_replaced_and_comes_back(
    lose: Callable[[Host, Sequence[Host]], Callable[[], None]],
) -> None:
    async with a_cluster_on(3, "local") as (found, _):
        victim, *others = found.processes
        keys = (await found.owners(KEYS, others[0]))[victim.node_id]
        await asked(others, keys)
        began = time.monotonic()
        heal = lose(host_of(victim), [host_of(other) for other in others])
        answers = await asked(others, keys, 6.0)
        assert {pid for _, _, pid, _ in answers} <= {other.pid for other in others}
        heal()
        await found.settled()
        assert victim.view is not None
        assert victim.view.ids == {process.node_id for process in found.processes}
        assert time.monotonic() - began < 20.0


async def test_a_fifth_of_the_datagrams_may_be_lost() -> None:
    async with a_cluster_on(3, "lan") as (found, hosts):
        for host in hosts:
            network.lossy(host, 20)
        assert await evicted(found, 5.0) == (0, 0)
        assert len(await asked(found.processes, KEYS)) == len(KEYS)


async def test_a_cluster_without_datagrams_goes_on_and_says_so_once_for_each_peer() -> None:
    async with a_cluster_on(2, "lan") as (found, hosts):
        for host in hosts:
            network.without_udp(host)
        for _ in range(WARNED):
            assert await evicted(found, 1.0) == (0, 0)
            if warnings_each(found)[0]:
                break
        assert len(await asked(found.processes, KEYS)) == len(KEYS)
        assert warnings_each(found) == (1, 1)
