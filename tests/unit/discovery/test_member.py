from ringcast.discovery.member import Member


def test_members_hash_by_identity_and_compare_by_record() -> None:
    one = Member("a", "h:1", {"x": "1"}, incarnation=5)
    assert hash(one) == hash(Member("a", "h:1", {"x": "2"}, incarnation=5))
    assert one != Member("a", "h:1", {"x": "2"}, incarnation=5)
    assert one.started_ms == 5
