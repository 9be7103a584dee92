"""The ring's values, written down: a change of any of them is a change of the protocol."""

import enum
import hashlib
import subprocess
import sys
from typing import NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast.discovery.share import PARTITIONS
from ringcast.runtime import ring as module
from ringcast.runtime.ring import VNODES, Key, Ring, _reach, check_key, foresee, key_hash, partition_of

GOLDEN_KEYS: list[tuple[Key, int]] = [
    ("", 0x3F3726888A5B407E),
    ("ann", 0x17F00F52D2AFCD06),
    ("é", 0x9543E8DBB763EB24),
    (0, 0xE8BDCD569C609618),
    (1, 0x9EBDC85FE0F69E81),
    (-1, 0x05B09E7BA7A6752D),
    (1 << 70, 0x2FB4EDB046A388E1),
    (b"", 0x324A49EA8A4F466E),
    (b"ann", 0x90B00EC028DBAFED),
    (UUID(int=7), 0x19D77F1A9D1BDF56),
    ((), 0xE86910A71F9CA4A7),
    (("ann", 7), 0x1ED293EC0FECB0EA),
    ((("a",), b"b"), 0x54E1C1505D4ADDEC),
    ("1", 0x2D967B9A99416A9B),
    (b"1", 0xD7F173860EF9266D),
]


class Plan(enum.StrEnum):
    FREE = "free"


class Seat(NamedTuple):
    hall: str
    number: int


@pytest.mark.parametrize(("key", "expected"), GOLDEN_KEYS)
def test_hash_of_a_key_is_what_it_always_was(key: Key, expected: int) -> None:
    assert key_hash("shop:Cart", key) == expected


def test_owners_are_what_they_always_were() -> None:
    owners = "".join(Ring(["a", "b", "c"]).owners)
    assert (
        hashlib.sha256(owners.encode()).hexdigest()
        == "ef5b5e5aca544a223d045d4c84315caf2b705b3184a5c2bbe4e9e7d058fb09fd"
    )


def test_another_process_computes_the_same() -> None:
    code = (
        "from ringcast.runtime.ring import *;"
        "print(key_hash('shop:Cart', ('ann', 7)), ''.join(Ring(['a', 'b', 'c']).owners))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(key_hash("shop:Cart", ("ann", 7))), "".join(Ring(["c", "b", "a"]).owners)]


def test_class_is_part_of_the_hash() -> None:
    assert key_hash("shop:Cart", "ann") != key_hash("shop:Wish", "ann")
    assert key_hash("ab", "c") != key_hash("a", "bc")


def test_equal_keys_have_equal_hashes() -> None:
    assert key_hash("c", Plan.FREE) == key_hash("c", "free")
    assert key_hash("c", Seat("A", 4)) == key_hash("c", ("A", 4))


@pytest.mark.parametrize("key", ["", "é\ud800", 0, -1, 1 << 4000, b"", UUID(int=5), (), ("a", (1, b"x")), Plan.FREE])
def test_allowed_keys_pass_and_can_be_hashed(key: Key) -> None:
    check_key(key)
    assert 0 <= key_hash("c", key) < 1 << 64


@pytest.mark.parametrize(
    "key", [None, True, 1.0, ["a"], ("a", False), ("a", (1, 2.5)), bytearray(b"a"), frozenset("a")]
)
def test_other_keys_are_refused_with_what_is_allowed(key: object) -> None:
    with pytest.raises(TypeError, match="use a str, an int, bytes, a UUID, or a tuple of these"):
        check_key(key)


def test_refusal_names_the_part_that_is_wrong() -> None:
    with pytest.raises(TypeError, match=r"2\.5 \(float\)"):
        check_key(("a", (1, 2.5)))


def test_partitions_are_even_slices() -> None:
    width = (1 << 64) // PARTITIONS
    for i in (0, 1, 511, PARTITIONS - 1):
        assert partition_of(i * width) == i
        assert partition_of((i + 1) * width - 1) == i


def test_order_and_repetition_of_nodes_do_not_matter() -> None:
    ring = Ring(["b", "a", "c", "a"])
    assert ring.nodes == ("a", "b", "c")
    assert ring.owners == Ring(["c", "b", "a"]).owners


def test_single_node_owns_everything() -> None:
    assert set(Ring(["only"]).owners) == {"only"}


def test_ring_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one node"):
        Ring([])


def test_owner_is_the_first_vnode_clockwise() -> None:
    """The definition, spelled out with one sorted list of all virtual nodes."""
    nodes, vnodes = ["a", "b", "c"], 16
    points = sorted(
        (int.from_bytes(digest[8 * i : 8 * i + 8], "big"), node)
        for node in nodes
        for digest in [hashlib.shake_128(b"ringcast vnodes 1\0" + node.encode()).digest(8 * vnodes)]
        for i in range(vnodes)
    )
    ring = Ring(nodes, partitions=64, vnodes=vnodes)
    for partition in range(64):
        start = partition << 58
        clockwise = [node for point, node in points if point >= start] + [node for _, node in points]
        assert ring.owner(partition) == clockwise[0]
        assert ring.successors(partition, 3) == list(dict.fromkeys(clockwise))


def test_successors_begin_with_the_owner_and_end_with_the_nodes() -> None:
    ring = Ring(["a", "b", "c"])
    for partition in (0, 500, 1023):
        assert ring.successors(partition, 1) == [ring.owner(partition)]
        assert sorted(ring.successors(partition, 9)) == ["a", "b", "c"]


@given(st.sets(st.integers(0, 11), min_size=1), st.lists(st.integers(0, 11), max_size=12))
def test_owners_do_not_depend_on_the_rings_before(first: set[int], changes: list[int]) -> None:
    """A ring that differs from a former one by a node is made of it; afresh it is the same."""
    nodes = set(first)
    for change in changes:
        if (nodes ^ {change}) != set():
            nodes ^= {change}
        names = [f"n{node}" for node in nodes]
        by_distance = [
            min((_reach(name, PARTITIONS, VNODES)[p], name) for name in names)[1] for p in range(0, 1024, 37)
        ]
        assert [Ring(names).owner(p) for p in range(0, 1024, 37)] == by_distance


def test_of_equal_distances_the_lower_id_owns(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(node_id: str, partitions: int, vnodes: int) -> list[int]:
        return [7] * partitions

    monkeypatch.setattr(module, "_recent", ())
    monkeypatch.setattr(module, "_reach", reach)
    assert set(Ring(["b", "c"]).owners) == {"b"}
    assert set(Ring(["a", "b", "c"]).owners) == {"a"}
    assert set(Ring(["a", "b", "c", "d"]).owners) == {"a"}
    assert set(Ring(["b", "c", "d"]).owners) == {"b"}


def test_what_is_foreseen_is_not_computed_with_the_ring() -> None:
    foresee("a node that comes")
    before = _reach.cache_info().misses
    assert set(Ring(["a node that comes"]).owners) == {"a node that comes"}
    assert _reach.cache_info().misses == before
