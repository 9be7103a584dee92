"""Who may knock: rations, and who gives way."""

from __future__ import annotations

import pytest

from ringcast.discovery import admission
from ringcast.discovery.admission import STRANGERS_AT_ONCE, Admission, Pending, Rates, origin_of

LIMITS = Admission(pending=8, pending_each=3, rate=10, local_rate=100)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("", "others"),
        ("no address", "others"),
    ],
)
def test_what_an_address_counts_as(host: str, origin: str) -> None:
    assert origin_of(host) == origin


def taken(rates: Rates, origin: str, count: int, now: float, *, is_near: bool = False) -> int:
    return sum(rates.takes(origin, is_near=is_near, now=now) for _ in range(count))


def test_an_address_has_a_ration_that_fills_with_time() -> None:
    rates = Rates(LIMITS)
    assert taken(rates, "a", 50, 0.0) == 20
    assert taken(rates, "a", 50, 0.0) == 0
    assert taken(rates, "b", 50, 0.0) == 20
    assert taken(rates, "a", 50, 0.5) == 5
    assert taken(rates, "a", 50, 60.0) == 20
    assert taken(rates, "near", 500, 0.0, is_near=True) == 200


def test_addresses_are_forgotten_and_the_rest_share_one_ration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "HOSTS_MAX", 10)
    monkeypatch.setattr(admission, "STRANGERS_AT_ONCE", 1000)
    rates = Rates(LIMITS)
    for n in range(10):
        assert taken(rates, f"host {n}", 30, 0.0) == 20
    assert sum(taken(rates, f"other {n}", 1, 0.0) for n in range(100)) == 20
    assert taken(rates, "a member", 1, 0.0, is_near=True) == 1
    assert len(rates) == 12
    assert taken(rates, "host 1", 1, 0.0) == 0
    assert taken(rates, "late", 30, 10.0) == 20
    assert len(rates) == 1


def test_many_addresses_share_one_ration_which_members_do_not_need() -> None:
    rates = Rates(LIMITS)
    assert sum(taken(rates, f"host {n}", 5, 0.0) for n in range(100)) == STRANGERS_AT_ONCE
    assert taken(rates, "a member", 150, 0.0, is_near=True) == 150
    assert sum(taken(rates, f"later {n}", 5, 2.0) for n in range(100)) == 2 * LIMITS.strangers_rate
    assert taken(rates, "much later", 50, 1000.0) == 20


def test_the_oldest_of_an_address_gives_way() -> None:
    pending = Pending[str](LIMITS)
    assert [pending.add(one, "a", is_near=False) for one in "1234"] == [None, None, None, "1"]
    assert pending.add("5", "b", is_near=False) is None
    assert pending.all() == ("2", "3", "4", "5")
    pending.discard("3")
    pending.discard("3")
    assert "3" not in pending
    assert pending.add("6", "a", is_near=False) is None
    assert len(pending) == 4


def test_strangers_have_half_of_the_places_and_members_the_others() -> None:
    pending = Pending[int](LIMITS)
    assert [pending.add(n, f"host {n}", is_near=False) for n in range(6)] == [None] * 4 + [0, 1]
    assert [pending.add(n, "near", is_near=True) for n in range(10, 14)] == [None] * 4
    assert pending.add(20, "far", is_near=False) == 2
    assert pending.add(14, "near", is_near=True) == 3
    assert [pending.add(n, "near", is_near=True) for n in range(15, 18)] == [4, 5, 20]
    assert pending.add(18, "near", is_near=True) == 10
    assert pending.add(21, "far", is_near=False) == 11
    assert len(pending) == 8


def test_one_place_is_enough() -> None:
    pending = Pending[int](Admission(pending=1))
    assert pending.add(1, "a", is_near=False) is None
    assert pending.add(2, "b", is_near=False) == 1
    assert pending.add(3, "near", is_near=True) == 2
