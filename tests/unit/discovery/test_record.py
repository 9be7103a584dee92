import pytest

from ringcast.discovery import record as record_file
from ringcast.discovery.agreement_messages import Ballot, Vote
from ringcast.discovery.effects import Record
from ringcast.discovery.member import Member, View
from ringcast.discovery.record import decode_record, encode_record

VIEW = View("x", 3, (Member("a", "a:1", {"rack": "1"}, 7, frozenset({"shop:Cart"}), key=b"k" * 32, has_record=True),))
FULL = Record(9, VIEW, Ballot(4, "b", 2), Vote(Ballot(3, "a", 7), VIEW))


@pytest.mark.parametrize("record", [Record(1), FULL])
def test_what_was_written_is_read(record: Record) -> None:
    assert decode_record(encode_record(record)) == record


def test_what_is_damaged_is_not_taken_for_nothing() -> None:
    data = encode_record(FULL)
    for damaged in (b"", data[:-1], data[:40] + b"\0" + data[41:], b"\0" + data[1:]):
        with pytest.raises(ValueError, match="damaged"):
            decode_record(damaged)


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode_record(FULL)
    monkeypatch.setattr(record_file, "_VERSION", 2)
    with pytest.raises(ValueError, match="has version 1, and this is 2"):
        decode_record(data)
