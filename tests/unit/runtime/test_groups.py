from __future__ import annotations

from ringcast.discovery.member import Member, View
from ringcast.discovery.share import PARTITIONS, bits_of
from ringcast.runtime.groups import Groups, digest_of, owners_of, share_of, travellers
from ringcast.runtime.ring import Ring

ALL = (1 << PARTITIONS) - 1


def member(name: str, *hosts: str, by_value: bool = False, leaving: bool = False, **labels: str) -> Member:
    return Member(name, f"{name}:1", labels, 1, frozenset(hosts), by_value, leaving)


def view(*members: Member) -> View:
    return View("x", 3, members)


def test_a_class_is_shared_by_those_that_host_it() -> None:
    groups = Groups()
    seen = view(member("c", "Cart"), member("a", "Cart", "Bill"), member("b"))
    assert groups.hosts(seen) == {"Cart": ("a", "c"), "Bill": ("a",), "@": ()}
    shares = {name: groups.shares_of(seen, name) for name in "abc"}
    assert shares["b"] == {}
    assert shares["a"]["Bill"] == ALL
    assert shares["a"]["Cart"] | shares["c"]["Cart"] == ALL
    assert shares["a"]["Cart"] & shares["c"]["Cart"] == 0
    owners = Ring(["a", "c"]).owners
    assert all(owners[partition] == "a" for partition in bits_of(shares["a"]["Cart"]))


def test_who_leaves_owns_nothing() -> None:
    seen = view(member("a", "Cart", leaving=True), member("b", "Cart"))
    assert Groups().shares_of(seen, "a") == {}
    assert Groups().shares_of(seen, "b") == {"Cart": ALL}


def test_classes_that_travel_have_a_share_for_each_wish_of_labels() -> None:
    groups = Groups()
    changes: list[str] = []
    groups.changed = lambda: changes.append("changed")
    seen = view(member("a", by_value=True), member("b", by_value=True, gpu="1"), member("c", gpu="1"))
    assert groups.hosts(seen) == {"@": ("a", "b")}
    assert groups.learn(()) == "@"
    assert changes == []
    assert groups.learn((("gpu", "1"),)) == travellers((("gpu", "1"),)) == "@gpu=1"
    assert groups.learn((("gpu", "1"),)) == "@gpu=1"
    assert changes == ["changed"]
    assert groups.hosts(seen) == {"@": ("a", "b"), "@gpu=1": ("b",)}
    assert groups.shares_of(seen, "b")["@gpu=1"] == ALL


def test_nobody_owns_anything_without_the_static_quorum() -> None:
    one, two = member("a", "Cart"), member("b", "Cart", leaving=True)
    assert Groups(2).shares_of(view(one), "a") == {}
    assert Groups(2).shares_of(view(one, two), "a") == {"Cart": ALL}


def test_without_hosts_there_are_no_owners() -> None:
    assert owners_of(()) == ()
    assert share_of((), "a") == 0


def test_the_digest_tells_what_ownership_rests_on() -> None:
    assert digest_of("majority") == digest_of("majority")
    assert digest_of("majority") != digest_of("static:3")
