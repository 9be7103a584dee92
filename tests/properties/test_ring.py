"""What consistent hashing promises: even shares, and little movement."""

import random
from collections import Counter
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ringcast.discovery.share import PARTITIONS
from ringcast.runtime.ring import Key, Ring, key_hash, partition_of

CLUSTERS = 300

nodes = st.sets(st.text(max_size=12), min_size=1, max_size=8)
keys: st.SearchStrategy[Key] = st.recursive(
    st.text() | st.integers() | st.binary() | st.uuids(),
    lambda part: st.lists(part, max_size=4).map(tuple),
    max_leaves=8,
)


def clusters(size: int) -> list[list[str]]:
    """Return random clusters of node ids as nodes draw them: 64 random bits, in hex."""
    rng = random.Random(1971)
    return [[f"{rng.getrandbits(64):016x}" for _ in range(size)] for _ in range(CLUSTERS)]


def test_largest_of_ten_shares_is_at_most_1_35_times_the_mean() -> None:
    for ids in clusters(10):
        assert max(Counter(Ring(ids).owners).values()) <= 1.35 * PARTITIONS / 10


def test_join_moves_at_most_1_3_times_an_even_share() -> None:
    for ids in clusters(11):
        before, after = Ring(ids[:-1]).owners, Ring(ids).owners
        moved = [new for old, new in zip(before, after, strict=True) if old != new]
        assert set(moved) == {ids[-1]}
        assert len(moved) <= 1.3 * PARTITIONS / 11


def test_keys_spread_over_the_partitions() -> None:
    counts = Counter(partition_of(key_hash("shop:Cart", i)) for i in range(64 * PARTITIONS))
    assert len(counts) == PARTITIONS
    # 64 on average with a deviation of 8: more than 6 deviations off would be a bad hash.
    assert all(16 <= n <= 112 for n in counts.values())


@settings(max_examples=50, deadline=None)
@given(nodes, st.text(max_size=12))
def test_join_takes_only_for_the_newcomer_and_leave_undoes_it(ids: set[str], newcomer: str) -> None:
    before = Ring(sorted(ids - {newcomer}) or ["someone"]).owners
    after = Ring(sorted({*before, newcomer})).owners
    assert all(new in (old, newcomer) for old, new in zip(before, after, strict=True))


@settings(max_examples=50, deadline=None)
@given(nodes, st.data())
def test_leave_moves_only_what_the_leaver_had(ids: set[str], data: st.DataObject) -> None:
    ids |= {"stays"}
    leaver = data.draw(st.sampled_from(sorted(ids)))
    before, after = Ring(sorted(ids)), Ring(sorted(ids - {leaver}) or ["stays"])
    for partition, (old, new) in enumerate(zip(before.owners, after.owners, strict=True)):
        if old != leaver:
            assert new == old
        elif len(ids) > 1:  # what the leaver had goes to the next node clockwise
            assert new == before.successors(partition, 2)[1]


@given(keys, keys)
def test_different_keys_have_different_hashes(a: Key, b: Key) -> None:
    """The encoding is injective; that two 64-bit hashes collide by chance is not to be seen."""
    same = a == b and _types(a) == _types(b)
    assert (key_hash("c", a) == key_hash("c", b)) == same


def _types(key: Key) -> object:
    return tuple(map(_types, key)) if isinstance(key, tuple) else type(key)


def test_types_are_told_apart() -> None:
    alike: list[Key] = [
        "1",
        1,
        b"1",
        UUID(int=1),
        ("1",),
        (1,),
        ((1,),),
        (b"1",),
        "",
        b"",
        (),
        0,
        -1,
        255,
        256,
    ]
    assert len({key_hash("c", key) for key in alike}) == len(alike)
