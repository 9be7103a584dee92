"""Who has no business in a cluster gets nothing from a real node's port; `benchmarks.hostile_tls` prints it."""

from __future__ import annotations

from benchmarks.hostile_tls import LIMIT, matrix

CASES = {
    "no certificate",
    "another secret",
    "expired",
    "client as server",
    "wrong name",
    "wrong cluster",
    "TLS 1.2",
    "no ALPN",
    "pinned-key mismatch",
}


async def test_nine_of_nine_are_refused_on_both_channels_and_reach_no_decoder() -> None:
    figures = await matrix()
    assert [(attempt.channel, attempt.refused) for attempt in figures.accepted] == [("A", False), ("M", False)]
    for channel in "AM":
        tried = [attempt for attempt in figures.attempts if attempt.channel == channel]
        assert {attempt.name for attempt in tried} == CASES
        assert [attempt for attempt in tried if not attempt.refused or attempt.seconds > LIMIT] == []
    assert figures.decoded == 0
    assert figures.is_untouched
    assert figures.is_met


async def test_who_is_refused_a_link_is_told_why() -> None:
    said = {attempt.name: attempt.words for attempt in (await matrix()).attempts if attempt.channel == "A"}
    for name, words in {
        "no certificate": "wants a certificate",
        "another secret": "another secret",
        "expired": "expired",
        "client as server": "another secret, or none of this cluster",
        "wrong name": "its certificate is that of node stranger",
        "wrong cluster": "cluster 'another'",
        "TLS 1.2": "does not speak TLS 1.3",
        "no ALPN": "None",
        "pinned-key mismatch": "has the key",
    }.items():
        assert words in said[name]
