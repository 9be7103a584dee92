"""Names of rows: no two actors share one, and the actor is found again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringcast.runtime.rownames import ROW_BYTES_MAX, actor_of_row, reply_key, row_id

keys: st.SearchStrategy[Any] = st.recursive(
    st.text() | st.integers() | st.binary() | st.uuids(), lambda parts: st.lists(parts, max_size=3).map(tuple)
)


@given(st.text(min_size=1, max_size=50), keys, keys)
def test_rows_are_named_in_one_way_only(name: str, key: Any, other: Any) -> None:
    row = row_id(name, key)
    row.encode()
    assert "\0" not in row
    assert len(row.encode()) <= ROW_BYTES_MAX
    found = actor_of_row(row)
    assert found in ((name, key), None)
    if (type(key), key) != (type(other), other):
        assert row_id(name, other) != row


def test_people_can_read_them() -> None:
    assert row_id("bank.Account", "Ann ä") == '["bank.Account","Ann ä"]'
    assert row_id("bank.Account", (1, b"\xff", UUID(int=1))) == (
        '["bank.Account",[1,{"bytes":"ff"},{"uuid":"00000000000000000000000000000001"}]]'
    )


def test_one_that_would_be_too_long_is_a_digest() -> None:
    rows = {row_id("A", "x" * length) for length in (1600, 1601)}
    assert len(rows) == 2
    assert {actor_of_row(row) for row in rows} == {None}
    assert actor_of_row(row_id("A", "\udc80")) == ("A", "\udc80")


@pytest.mark.parametrize("row", ["", "x", "[1]", "[]", '["A",null]', '["A",{"bytes":"zz"}]', '["A",1.5]'])
def test_what_is_no_row(row: str) -> None:
    assert actor_of_row(row) is None


def test_replies_are_found_by_method_and_key() -> None:
    assert reply_key("add", "k") == 'add "k"'
    assert "\0" not in reply_key("add", "\0")
    long = [reply_key("add", "k" * length) for length in (1023, 1024)]
    assert long[0] != long[1]
    assert max(map(len, long)) <= 1000
