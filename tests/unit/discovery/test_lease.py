from dataclasses import replace

import pytest

from ringcast.discovery.lease import LocalLease, promise_seconds
from ringcast.discovery.member import Member, View
from ringcast.discovery.profile import LAN, LOCAL, WAN, Profile
from ringcast.discovery.tenure import Tenure

VIEW = View("x", 3, tuple(Member(name, f"{name}:1", {}, i) for i, name in enumerate("abc")))


@pytest.mark.parametrize("profile", [LOCAL, LAN, WAN, replace(LAN, clock_drift=0.2)])
def test_a_promise_outlasts_the_lease_on_clocks_that_drift_apart(profile: Profile) -> None:
    slowest_member = profile.lease / (1 - profile.clock_drift)
    fastest_voter = promise_seconds(profile) / (1 + profile.clock_drift)
    assert fastest_voter >= slowest_member


def test_a_lease_runs_from_the_sending_of_a_round_that_enough_have_renewed() -> None:
    lease = LocalLease(LOCAL)
    lease.begin(3, 2)
    first, second = lease.ask(10.0), lease.ask(10.3)
    assert not lease.grant(3, first, "a")
    assert not lease.grant(3, first, "a")
    assert not lease.grant(3, second, "b")
    assert not lease.is_valid(10.4)
    assert lease.grant(3, first, "b")
    assert lease.until == 10.0 + LOCAL.lease
    assert lease.grant(3, second, "a")
    assert lease.is_valid(11.2)
    assert not lease.is_valid(11.3)
    # A late answer to the older round takes nothing away.
    assert not lease.grant(3, first, "c")
    assert lease.until == 10.3 + LOCAL.lease


def test_a_lease_outlasts_a_new_view_and_old_answers_count_for_nothing() -> None:
    lease = LocalLease(LOCAL)
    lease.begin(3, 1)
    old = lease.ask(10.0)
    assert lease.grant(3, old, "a")
    lease.begin(4, 1)
    assert lease.until == 10.0 + LOCAL.lease
    assert not lease.grant(3, old, "a")
    assert not lease.grant(4, old, "a")
    assert lease.grant(4, lease.ask(10.5), "a")
    assert lease.until == 10.5 + LOCAL.lease
    lease.end()
    assert not lease.is_valid(10.6)


def test_only_the_last_rounds_are_kept() -> None:
    lease = LocalLease(LOCAL)
    lease.begin(3, 1)
    rounds = [lease.ask(10.0 + i / 100) for i in range(9)]
    assert not lease.grant(3, rounds[0], "a")
    assert lease.grant(3, rounds[1], "a")


def test_the_view_is_sent_to_those_who_have_not_answered_under_it() -> None:
    tenure = Tenure(LOCAL, 10.0)
    tenure.begin(VIEW, 10.0)
    assert {ask.views for _, ask in tenure.ask(VIEW, 10.0)} == {(VIEW,)}
    assert not tenure.grant(3, 1, "a")
    assert [ask.views for _, ask in tenure.ask(VIEW, 10.2)] == [(), (VIEW,), (VIEW,)]
    assert tenure.renew_at == 10.2 + LOCAL.renewal


def test_it_knows_for_how_long_it_has_not_served() -> None:
    tenure = Tenure(LOCAL, 10.0)
    tenure.begin(VIEW, 10.0)
    assert tenure.unserved(12.0) == 2.0
    tenure.ask(VIEW, 12.0)
    tenure.grant(3, 1, "a")
    assert tenure.grant(3, 1, "b")
    assert tenure.is_serving(12.5)
    assert tenure.unserved(12.5) == 0.0
    assert tenure.unserved(14.0) == 1.0
    tenure.begin(VIEW, 12.5)
    assert tenure.unserved(14.0) == 1.0
    tenure.end(12.5)
    assert tenure.unserved(14.0) == 1.5
