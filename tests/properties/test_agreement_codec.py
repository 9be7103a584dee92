"""Every message of agreement survives its way over the wire; nothing else is taken for one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringcast.discovery.agreement_codec import AGREEMENT_KINDS, pack_agreement, unpack_agreement
from ringcast.discovery.agreement_messages import Ballot, Charter, Denial, Vote
from ringcast.discovery.claim import Claim
from ringcast.discovery.codec import Codec
from ringcast.discovery.fields import array_of, pack_member, unpack_member
from ringcast.discovery.handoff import Drained
from ringcast.discovery.member import Member, View
from ringcast.discovery.messages import Envelope

numbers = st.integers(0, (1 << 63) - 1)
ids = st.sampled_from(["a", "node-7", "ключ", "x" * 100])
addresses = st.integers(1, 65535).map(lambda port: f"host:{port}")
members = st.builds(
    Member,
    ids,
    addresses,
    st.dictionaries(ids, ids, max_size=2),
    numbers,
    st.frozensets(ids, max_size=2),
    st.booleans(),
    st.booleans(),
    st.sampled_from([b"", b"k" * 32]),
    st.booleans(),
)
views = st.builds(View, ids, numbers, st.lists(members, max_size=2).map(tuple))
ballots = st.builds(Ballot, numbers, ids, numbers)
identities = st.tuples(ids, numbers)
parts: dict[str, st.SearchStrategy[Any]] = {
    "Member": members,
    "str": ids,
    "bool": st.booleans(),
    "int": numbers,
    "tuple[str, ...]": st.lists(addresses, max_size=3).map(tuple),
    "Charter": st.builds(Charter, ids, numbers),
    "Identity": identities,
    "tuple[View, ...]": st.lists(views, max_size=1).map(tuple),
    "Denial": st.sampled_from(Denial),
    "Ballot": ballots,
    "tuple[Identity, ...]": st.lists(identities, max_size=3).map(tuple),
    "Vote | None": st.none() | st.builds(Vote, ballots, views),
    "View": views,
    "Ballot | None": st.none() | ballots,
}


@pytest.mark.parametrize("kind", AGREEMENT_KINDS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_is_sent_arrives(kind: type[Any], data: st.DataObject) -> None:
    fields = kind.__dataclass_fields__.values()
    message = kind(*(data.draw(parts[field.type]) for field in fields))
    envelope = Envelope(Claim("me", "me:1", 3), message)
    codec = Codec("test")
    assert codec.decode(codec.encode(envelope)) == envelope
    with pytest.raises(ValueError, match="fields instead of"):
        unpack_agreement(kind, [*pack_agreement(message), 0])


def test_labels_are_a_map() -> None:
    packed = list(pack_member(Member("x", "x:1")))
    packed[2] = []
    with pytest.raises(ValueError, match="labels"):
        unpack_member(packed)


def test_parts_that_do_not_fit_are_refused() -> None:
    packed = list(pack_member(Member("x", "x:1")))
    with pytest.raises(ValueError, match="fingerprint"):
        unpack_member([*packed[:7], b"short", False, ""])
    with pytest.raises(ValueError, match="more than 2"):
        array_of([1, 2, 3], most=2)


@pytest.mark.parametrize("held", ["text", b"\0" * 129], ids=["no bytes", "too many partitions"])
def test_what_is_no_set_of_partitions_is_refused(held: object) -> None:
    lineage, number, seq, _ = pack_agreement(Drained("l", 1, 2, 1 << 1023))
    with pytest.raises(ValueError, match="set of partitions"):
        unpack_agreement(Drained, [lineage, number, seq, held])
