"""Knocks: told from messages, and remembered for a while only."""

import pytest

from ringcast.discovery.claim import Claim
from ringcast.discovery.codec import Codec
from ringcast.discovery.knock import TOKEN_BYTES, Knocks, knock, knocker, token_in
from ringcast.discovery.messages import Envelope, Gossip

TOKEN = bytes(range(TOKEN_BYTES))


def test_a_knock_is_told_by_its_token() -> None:
    assert token_in(knock(TOKEN)) == TOKEN
    assert knocker(TOKEN) == (TOKEN.hex(), 0)


@pytest.mark.parametrize("data", [b"", TOKEN, knock(TOKEN)[:-1], knock(TOKEN) + b"\0", b"\x00" + knock(TOKEN)])
def test_other_bytes_are_none(data: bytes) -> None:
    assert token_in(data) is None


def test_no_message_is_taken_for_a_knock_nor_a_knock_for_a_message() -> None:
    codec = Codec("shop")
    message = codec.encode(Envelope(Claim("one", "127.0.0.1:1", 1), Gossip()))
    assert token_in(message) is None
    assert not isinstance(codec.decode(knock(TOKEN)), Envelope)


def test_only_the_latest_are_remembered() -> None:
    knocks = Knocks()
    tokens = [number.to_bytes(TOKEN_BYTES, "big") for number in range(100)]
    for token in tokens:
        knocks.hear(token)
    assert [token in knocks for token in tokens] == [False] * 36 + [True] * 64
