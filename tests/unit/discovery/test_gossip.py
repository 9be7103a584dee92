from ringcast.discovery.claim import Claim, Status
from ringcast.discovery.gossip import GossipQueue, retransmit_limit, wire_bytes
from ringcast.discovery.profile import LOCAL
from ringcast.discovery.relay import Relays

PLENTY = 10_000


def claim(node_id: str, incarnation: int = 1) -> Claim:
    return Claim(node_id, "h:1", incarnation)


def test_limit_grows_with_the_logarithm_of_the_cluster() -> None:
    assert [retransmit_limit(n, 4) for n in (1, 9, 10, 99, 100)] == [4, 4, 8, 8, 12]


def test_each_piece_is_told_up_to_the_limit() -> None:
    queue = GossipQueue()
    queue.push(claim("a"))
    assert queue.take(PLENTY, limit=2) == (claim("a"),)
    assert len(queue) == 1
    assert queue.take(PLENTY, limit=2) == (claim("a"),)
    assert len(queue) == 0
    assert queue.take(PLENTY, limit=2) == ()


def test_newer_news_replaces_older_and_is_told_anew() -> None:
    queue = GossipQueue()
    queue.push(claim("a", 1))
    queue.take(PLENTY, limit=2)
    queue.push(claim("a", 2))
    assert [queue.take(PLENTY, limit=2) for _ in range(3)] == [(claim("a", 2),), (claim("a", 2),), ()]


def test_least_told_goes_first_then_newest_and_what_does_not_fit_waits() -> None:
    queue = GossipQueue()
    queue.push(claim("old"))
    queue.take(PLENTY, limit=5)
    queue.push(claim("a"))
    queue.push(claim("b"))
    room = wire_bytes(claim("a")) * 2
    assert queue.take(room, limit=5) == (claim("b"), claim("a"))
    assert queue.take(PLENTY, limit=5) == (claim("b"), claim("a"), claim("old"))


def test_what_is_dropped_is_told_no_more() -> None:
    queue = GossipQueue()
    queue.push(claim("a"))
    queue.drop("a")
    queue.drop("a")
    assert queue.take(PLENTY, limit=5) == ()


def test_claims_are_totally_ordered_and_only_a_goodbye_is_final() -> None:
    rising = [
        Claim("x", "h:1", 1),
        Claim("x", "h:1", 1, 0, Status.SUSPECT, "a"),
        Claim("x", "h:1", 1, 0, Status.DEAD),
        Claim("x", "h:1", 1, 1),
        Claim("x", "h:1", 1, 1, Status.SUSPECT, "a"),
        Claim("x", "h:1", 1, 1, Status.DEAD),
        Claim("x", "h:1", 1, 0, Status.LEFT),
        Claim("x", "h:1", 2),
    ]
    for i, lower in enumerate(rising):
        assert not lower.supersedes(lower)
        for higher in rising[i + 1 :]:
            assert higher.supersedes(lower)
            assert not lower.supersedes(higher)
    assert Claim("x", "h:1", 1, 99).supersedes(Claim("x", "h:1", 1, 1, Status.DEAD))
    assert not Claim("x", "h:1", 1, 99).supersedes(Claim("x", "h:1", 1, 0, Status.LEFT))


ASKER = Claim("asker", "asker:1", 1)


def test_a_relay_sends_one_nack_and_still_passes_on_a_late_ack() -> None:
    relays = Relays(LOCAL)
    assert relays.next_deadline() == float("inf")
    relays.add(7, ASKER, 40, now=10.0)
    nack_at = relays.next_deadline()
    assert 10.0 < nack_at < 10.0 + LOCAL.probe_timeout
    assert relays.silent(nack_at - 0.001) == []
    assert relays.silent(nack_at) == [(ASKER, 40)]
    assert relays.silent(nack_at + 0.001) == []
    assert relays.answered(7) == (ASKER, 40)
    assert relays.answered(7) is None


def test_a_relay_ends() -> None:
    relays = Relays(LOCAL)
    relays.add(7, ASKER, 40, now=10.0)
    relays.silent(10.1)
    ends_at = relays.next_deadline()
    assert relays.silent(ends_at) == []
    assert relays.answered(7) is None
    assert relays.next_deadline() == float("inf")
