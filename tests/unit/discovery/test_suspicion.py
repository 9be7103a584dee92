import math

import pytest

from ringcast.discovery.health import Health
from ringcast.discovery.profile import LAN, LOCAL, WAN, Profile
from ringcast.discovery.suspicion import Suspicion, suspicion_timeout


@pytest.mark.parametrize(
    ("confirmations", "members", "profile", "seconds"),
    [
        (0, 2, LOCAL, 0.75),  # Nobody else could confirm: the short time at once.
        (0, 3, LOCAL, 1.5),
        (1, 3, LOCAL, 0.75),
        (5, 3, LOCAL, 0.75),
        (0, 10, LAN, 3.0),
        (0, 100, LAN, 6.0),
        (0, 10, WAN, 60.0),
        (3, 10, WAN, 15.0),
        (0, 4, WAN, 15.0),
    ],
)
def test_timeout_shrinks_with_confirmations_and_grows_with_the_cluster(
    confirmations: int, members: int, profile: Profile, seconds: float
) -> None:
    assert suspicion_timeout(confirmations, members, profile) == pytest.approx(seconds)


def test_timeout_shrinks_by_the_logarithm_of_accusers() -> None:
    one, two = (suspicion_timeout(n, 10, WAN) for n in (1, 2))
    assert one == pytest.approx(60 - 45 * math.log(2) / math.log(4))
    assert 15 < two < one < 60


def test_each_accuser_counts_once() -> None:
    suspicion = Suspicion("a", now=10.0)
    assert suspicion.deadline(3, LOCAL) == pytest.approx(11.5)
    assert not suspicion.confirm("a")
    assert suspicion.deadline(3, LOCAL) == pytest.approx(11.5)
    assert suspicion.confirm("b")
    assert not suspicion.confirm("b")
    assert suspicion.deadline(3, LOCAL) == pytest.approx(10.75)


def test_sleep_is_taken_out_of_the_count() -> None:
    suspicion = Suspicion("a", now=10.0)
    suspicion.postpone(8.0)
    assert suspicion.deadline(2, LOCAL) == pytest.approx(18.75)


def test_health_saturates_at_both_ends() -> None:
    health = Health(3)
    health.improve()
    assert health.multiplier == 1
    health.worsen()
    assert health.multiplier == 2
    health.worsen(9)
    assert health.multiplier == 3
    health.worsen(0)
    assert health.score == 2
    health.improve()
    assert health.multiplier == 2


@pytest.mark.parametrize("profile", [LOCAL, LAN, WAN])
def test_profiles_keep_the_ratios_that_the_protocol_rests_on(profile: Profile) -> None:
    assert profile.probe_timeout < profile.probe_interval
    assert suspicion_timeout(9, 2, profile) >= 3 * profile.probe_interval
    assert profile.renewal == profile.lease / 4
    assert profile.settle_departure < profile.settle < profile.discovery_window
