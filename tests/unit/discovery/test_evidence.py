from ringcast.discovery.effects import Check
from ringcast.discovery.evidence import Evidence
from ringcast.discovery.profile import LOCAL

NOW = 100.0
X = ("x", 1)
AGAIN = ("x", 2)
AT = "x:1"


def ended(*, trusts_refusal: bool = True, by_peer: bool = True) -> Evidence:
    evidence = Evidence(LOCAL, trusts_refusal=trusts_refusal)
    evidence.connected(X, AT)
    evidence.ended(X, NOW, by_peer=by_peer)
    return evidence


def test_an_ended_connection_a_refusal_and_no_objection_are_proof() -> None:
    evidence = ended()
    assert evidence.next_deadline() == NOW
    assert evidence.tick(NOW) == [Check(AT)]
    assert evidence.refused("y:1", NOW) == []
    assert evidence.refused(AT, NOW) == [X]
    assert evidence.refused(AT, NOW) == []
    assert evidence.next_deadline() == NOW + 0.05
    assert evidence.tick(NOW + 0.04) == []
    assert evidence.proven == {}
    evidence.tick(NOW + 0.05)
    assert evidence.proven == {X: NOW + 0.05}
    assert evidence.next_deadline() == float("inf")


def test_a_refusal_alone_is_no_proof_nor_is_a_time_limit() -> None:
    assert Evidence(LOCAL, trusts_refusal=True).refused(AT, NOW) == []
    assert ended(by_peer=False).refused(AT, NOW) == []
    assert ended(trusts_refusal=False).refused(AT, NOW) == []


def test_it_tries_a_few_times_and_then_seldom() -> None:
    evidence = ended()
    at: list[float] = []
    for _ in range(5):
        at.append(evidence.next_deadline() - NOW)
        assert evidence.tick(evidence.next_deadline()) == [Check(AT)]
    assert [round(seconds, 3) for seconds in at] == [0.0, 0.2, 0.4, 1.4, 2.4]


def test_another_run_at_the_address_is_as_good_as_a_refusal() -> None:
    assert ended().answered(AT, AGAIN, NOW) == [X]


def test_the_run_itself_at_the_address_is_the_contrary() -> None:
    evidence = ended()
    assert evidence.answered(AT, X, NOW) == []
    assert evidence.refused(AT, NOW) == []


def test_a_word_after_the_end_starts_the_case_over() -> None:
    evidence = ended()
    evidence.refused(AT, NOW)
    evidence.heard(X, NOW)
    assert evidence.tick(NOW + 0.5) == []
    assert evidence.refused(AT, NOW + 0.5) == []
    assert evidence.tick(NOW + LOCAL.lease) == [Check(AT)]
    assert evidence.refused(AT, NOW + LOCAL.lease) == [X]


def test_a_new_connection_ends_the_case() -> None:
    evidence = ended()
    evidence.connected(X, AT)
    assert evidence.is_connected(X)
    assert evidence.refused(AT, NOW) == []


def test_a_newer_run_and_the_word_of_a_proposer_are_proof_without_trust() -> None:
    evidence = Evidence(LOCAL, trusts_refusal=False)
    evidence.connected(X, AT)
    evidence.replaced(X, NOW)
    evidence.replaced(("y", 1), NOW)
    evidence.believe(("z", 1), NOW)
    assert sorted(evidence.proven) == [X, ("y", 1), ("z", 1)]
    assert not evidence.is_connected(X)


def test_proof_is_withdrawn_and_gathered_again() -> None:
    evidence = ended()
    evidence.refused(AT, NOW)
    evidence.tick(NOW + 1)
    evidence.withdraw(X, NOW + 1)
    assert evidence.proven == {}
    assert evidence.tick(NOW + 1 + LOCAL.lease) == [Check(AT)]
    assert evidence.refused(AT, NOW + 3) == [X]
    # Of one whose connection never ended there is nothing to gather.
    evidence.replaced(("y", 1), NOW)
    evidence.withdraw(("y", 1), NOW)
    assert evidence.proven == {}
    evidence.withdraw(("z", 1), NOW)


def test_what_concerns_no_member_is_forgotten() -> None:
    evidence = ended()
    evidence.replaced(("y", 1), NOW)
    evidence.replaced(("z", 1), NOW)
    evidence.forget({("z", 1)}, NOW + 61)
    assert sorted(evidence.proven) == [("z", 1)]
    assert evidence.tick(NOW + 61) == []
    assert evidence.next_deadline() == float("inf")
