from collections.abc import Callable
from typing import cast

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast.discovery.agreement_messages import Hello
from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.codec import PROTOCOL, Codec, Rejected, cluster_tag
from ringcast.discovery.gossip import wire_bytes
from ringcast.discovery.member import KEY_BYTES, Member
from ringcast.discovery.messages import (
    Ack,
    Envelope,
    Exchange,
    Gossip,
    Message,
    Nack,
    Ping,
    PingRequest,
    Refused,
)

pack = cast("Callable[[object], bytes]", msgpack.packb)  # pyright: ignore[reportUnknownMemberType]

ids = st.text(min_size=1, max_size=25)
counts = st.integers(0, 2**63 - 1)
addresses = st.from_regex(r"[a-z]{1,9}:[1-5]?[0-9]{0,3}[1-9]", fullmatch=True)
claims = st.builds(Claim, ids, addresses, counts, counts, st.sampled_from(Status), st.just("") | ids)
senders = st.builds(Claim, ids, addresses, counts, counts)
members = st.builds(
    Member,
    ids,
    addresses,
    st.dictionaries(st.text(), st.text()),
    counts,
    st.frozensets(st.text()),
    st.booleans(),
    st.booleans(),
    st.just(b"") | st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES),
    st.booleans(),
)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, counts, ids),
    st.builds(Ack, counts),
    st.builds(Nack, counts),
    st.builds(PingRequest, counts, ids, counts, addresses),
    st.builds(Gossip),
    st.builds(Exchange, st.booleans()),
    st.builds(Hello, members, st.text(), st.booleans()),
    st.builds(Refused, st.text(), counts),
)
envelopes = st.builds(Envelope, senders, messages, st.lists(claims).map(tuple))

ME = Claim("me", "h:1", 5)


@given(envelopes)
def test_what_is_encoded_comes_back(envelope: Envelope) -> None:
    codec = Codec("shop")
    assert codec.decode(codec.encode(envelope)) == envelope


@given(claims)
def test_the_bound_of_a_claims_bytes_holds(claim: Claim) -> None:
    codec = Codec("shop")
    with_it, without = (codec.encode(Envelope(ME, Gossip(), known)) for known in ((claim,), ()))
    assert len(with_it) - len(without) <= wire_bytes(claim)


@given(envelopes)
def test_other_clusters_get_nothing_but_a_refusal_across(envelope: Envelope) -> None:
    expected = envelope if isinstance(envelope.message, Refused) else Rejected.FOREIGN
    assert Codec("bank").decode(Codec("shop").encode(envelope)) == expected


@given(st.binary(max_size=200))
def test_random_bytes_never_raise(data: bytes) -> None:
    assert isinstance(Codec("shop").decode(data), Rejected)


@given(envelopes, st.data())
def test_damaged_messages_never_raise(envelope: Envelope, data: st.DataObject) -> None:
    encoded = bytearray(Codec("shop").encode(envelope))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(encoded)))
    Codec("shop").decode(bytes(encoded))
    assert isinstance(Codec("shop").decode(bytes(encoded[:cut])[:-1]), Rejected)


SENDER: list[object] = ["me", "h:1", 5, 0]
MEMBER: list[object] = ["a", "h:1", {}, 1, [], False, False, b"", False]


WRONG: list[object] = [
    7,
    [],
    [PROTOCOL, cluster_tag("shop"), 99, SENDER, [], []],
    [PROTOCOL, cluster_tag("shop"), -1, SENDER, [], []],
    [PROTOCOL, cluster_tag("shop"), True, SENDER, [5], []],
    [PROTOCOL, cluster_tag("shop"), 1, SENDER, [2.5], []],
    [PROTOCOL, cluster_tag("shop"), 1, SENDER, [5, 6], []],
    [PROTOCOL, cluster_tag("shop"), 4, SENDER, [1], []],
    [PROTOCOL, cluster_tag("shop"), 4, SENDER, [], {}],
    [PROTOCOL, cluster_tag("shop"), 4, ["", "h:1", 5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 4, ["x" * 101, "h:1", 5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 4, ["me", "nowhere", 5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 4, ["me", "h:99999", 5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 4, ["me", "h:0", 5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 4, ["me", "h\0:1", 5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 4, ["me", "h:1", -5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 4, [7, "h:1", 5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 4, SENDER, [], [["a", "h:1", 1, 0, 9, ""]]],
    [PROTOCOL, cluster_tag("shop"), 5, SENDER, [1], []],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [[*MEMBER[:2], [], *MEMBER[3:]], "", True], []],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [[*MEMBER[:2], {"a": 1}, *MEMBER[3:]], "", True], []],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [[*MEMBER[:4], [1], *MEMBER[5:]], "", True], []],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [[*MEMBER[:7], b"x" * 31, False], "", True], []],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [[*MEMBER[:7], "x" * 32, False], "", True], []],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [[*MEMBER[:2], {"a": "x" * 257}, *MEMBER[3:]], "", True], []],
    [
        PROTOCOL,
        cluster_tag("shop"),
        7,
        SENDER,
        [[*MEMBER[:2], {f"{n}": "" for n in range(65)}, *MEMBER[3:]], "", True],
        [],
    ],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [[*MEMBER[:4], ["x" * 257], *MEMBER[5:]], "", True], []],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [[*MEMBER[:4], [""] * 10_001, *MEMBER[5:]], "", True], []],
    [PROTOCOL, cluster_tag("shop"), 4, ["me", "h" * 300 + ":1", 5, 0], [], []],
    [PROTOCOL, cluster_tag("shop"), 7, SENDER, [MEMBER, "", 1], []],
    [[[[[[[[]]]]]]]],
]


@pytest.mark.parametrize("fields", WRONG)
def test_wrong_fields_are_malformed(fields: object) -> None:
    assert Codec("shop").decode(pack(fields)) is Rejected.MALFORMED


def test_a_true_message_of_another_protocol_is_foreign() -> None:
    good: list[object] = [PROTOCOL, cluster_tag("shop"), 4, SENDER, [], []]
    assert Codec("shop").decode(pack(good)) == Envelope(ME, Gossip())
    assert Codec("shop").decode(pack([PROTOCOL + 1, *good[1:]])) is Rejected.FOREIGN


def test_a_claimed_length_allocates_nothing() -> None:
    # An array that claims 2^32 - 1 entries, a text that claims as many bytes.
    for head in (b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        assert Codec("shop").decode(head) is Rejected.MALFORMED
