from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringcast.discovery import seal as module
from ringcast.discovery.seal import OVERHEAD_BYTES_MAX, START_RANDOM_BYTES, Seal, Unopened, start_of
from ringcast.discovery.window import WINDOW_SIZE

OLD = (b"old!", bytes(range(32)))
NEW = (b"new!", bytes(range(32, 64)))
ME = ("me", 1_700_000_000_000)
HEADER_BYTES = OVERHEAD_BYTES_MAX - 16


def seal(number: int = 1, keys: Sequence[tuple[bytes, bytes]] = (OLD,)) -> Seal:
    """Return the seal of the start with this number; higher numbers started later."""
    return Seal(keys, start_of(number, number.to_bytes(START_RANDOM_BYTES, "big")))


unhurried = settings(deadline=None)  # whoever comes first waits until the cryptographic library is loaded
payloads = st.binary(max_size=1100)
recipients = st.tuples(st.text(min_size=1, max_size=25), st.integers(0, 2**63 - 1))


@unhurried
@given(payloads, recipients)
def test_the_recipient_opens_it_once(data: bytes, recipient: tuple[str, int]) -> None:
    sealed = seal().seal(data, *recipient)
    assert len(sealed) == len(data) + OVERHEAD_BYTES_MAX
    receiver = seal(2)
    assert receiver.open(sealed, *recipient) == data
    assert receiver.open(sealed, *recipient) is Unopened.REPLAYED


@unhurried
@given(st.lists(payloads, min_size=1, max_size=30), st.data())
def test_any_order_with_repetitions_is_accepted_exactly_once(messages: list[bytes], data: st.DataObject) -> None:
    sender, receiver = seal(), seal(2)
    sealed = [sender.seal(message, *ME) for message in messages]
    repeated = data.draw(st.lists(st.sampled_from(sealed), max_size=10))
    opened = [receiver.open(datagram, *ME) for datagram in data.draw(st.permutations(sealed + repeated))]
    accepted = [message for message in opened if isinstance(message, bytes)]
    assert sorted(accepted) == sorted(messages)
    assert opened.count(Unopened.REPLAYED) == len(repeated)


@unhurried
@given(payloads, st.data())
def test_any_damage_is_refused_and_leaves_nothing_behind(message: bytes, data: st.DataObject) -> None:
    sealed = seal().seal(message, *ME)
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    damaged = bytearray(sealed)
    damaged[bit // 8] ^= 1 << bit % 8
    receiver = seal(2)
    assert isinstance(receiver.open(bytes(damaged), *ME), Unopened)
    assert isinstance(receiver.open(sealed[: data.draw(st.integers(0, len(sealed) - 1))], *ME), Unopened)
    assert isinstance(receiver.open(sealed + b"\0", *ME), Unopened)
    assert len(receiver) == 0
    assert receiver.open(sealed, *ME) == message


@unhurried
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert isinstance(seal().open(data, *ME), Unopened)
    # Also under a header that looks right.
    sealed = seal().seal(b"", *ME)
    assert isinstance(seal(2).open(sealed[:HEADER_BYTES] + data, *ME), Unopened)


@unhurried
@given(recipients, recipients)
def test_nobody_else_can_open_it(recipient: tuple[str, int], other: tuple[str, int]) -> None:
    opened = seal(2).open(seal().seal(b"hello", *recipient), *other)
    assert opened == (b"hello" if recipient == other else Unopened.UNSEALED)


def test_the_same_node_after_a_restart_opens_nothing_of_before() -> None:
    captured = [seal().seal(b"hello", *ME) for _ in range(3)]
    assert {seal(3).open(datagram, "me", ME[1] + 1) for datagram in captured} == {Unopened.UNSEALED}


def test_what_is_older_than_the_window_is_refused() -> None:
    sender, receiver = seal(), seal(2)
    late, *_, in_time, newest = [sender.seal(b"hello", *ME) for _ in range(WINDOW_SIZE + 1)]
    assert receiver.open(newest, *ME) == b"hello"
    assert receiver.open(in_time, *ME) == b"hello"
    assert receiver.open(late, *ME) is Unopened.REPLAYED


def test_a_forged_counter_or_start_does_not_stop_what_is_true() -> None:
    sender, receiver = seal(), seal(2)
    first, second = sender.seal(b"first", *ME), sender.seal(b"second", *ME)
    assert receiver.open(first, *ME) == b"first"
    forged = bytearray(second)
    forged[HEADER_BYTES - 8 : HEADER_BYTES] = b"\xff" * 8
    assert receiver.open(bytes(forged), *ME) is Unopened.UNSEALED
    forged = bytearray(second)
    forged[5:21] = b"\xff" * 16
    assert receiver.open(bytes(forged), *ME) is Unopened.UNSEALED
    assert len(receiver) == 1
    assert receiver.open(second, *ME) == b"second"


def test_keys_change_step_by_step_and_no_number_is_used_twice() -> None:
    sender, receiver = seal(), seal(2)
    captured = [sender.seal(b"1", *ME)]
    assert receiver.open(captured[0], *ME) == b"1"
    receiver.use([OLD, NEW])  # add
    sender.use([NEW, OLD])  # promote, elsewhere first
    captured.append(sender.seal(b"2", *ME))
    assert captured[1][1:5] == NEW[0]
    assert receiver.open(captured[1], *ME) == b"2"
    receiver.use([NEW])  # drop
    sender.use([OLD])  # somebody who has not heard of it
    captured.append(sender.seal(b"3", *ME))
    assert receiver.open(captured[2], *ME) is Unopened.FOREIGN_KEY
    assert receiver.open(captured[0], *ME) is Unopened.FOREIGN_KEY
    receiver.use([OLD, NEW])  # and back
    assert receiver.open(captured[0], *ME) is Unopened.REPLAYED
    assert receiver.open(captured[1], *ME) is Unopened.REPLAYED
    assert receiver.open(captured[2], *ME) == b"3"
    counters = [int.from_bytes(datagram[HEADER_BYTES - 8 : HEADER_BYTES], "big") for datagram in captured]
    assert counters == [0, 1, 2]


def test_a_counter_that_would_wrap_is_refused() -> None:
    sender, receiver = seal(), seal(2)
    sender._counter = 2**64 - 1
    assert receiver.open(sender.seal(b"the last", *ME), *ME) == b"the last"
    for _ in range(2):
        with pytest.raises(OverflowError, match="started anew"):
            sender.seal(b"one too many", *ME)


def test_at_the_bound_the_longest_silent_gives_way_and_can_never_be_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STARTS_MAX", 3)
    receiver, senders = seal(99), {number: seal(number) for number in range(1, 9)}
    captured = {number: [sender.seal(b"hello", *ME) for _ in range(3)] for number, sender in senders.items()}

    def hear(number: int, which: int = 0) -> bytes | Unopened:
        return receiver.open(captured[number][which], *ME)

    assert [hear(number) for number in (3, 4, 5)] == [b"hello"] * 3
    assert hear(3, 1) == b"hello"  # so that 4 is now the longest silent
    assert hear(6) == b"hello"
    assert len(receiver) == 3
    # The start that gave way, and every start before it, is refused for ever.
    assert [hear(4, which) for which in range(3)] == [Unopened.REPLAYED] * 3
    assert [hear(number) for number in (1, 2)] == [Unopened.REPLAYED] * 2
    # Those that have their windows still, and later starts, are heard; also an earlier one with a window.
    assert [hear(3, 2), hear(5, 1), hear(7), hear(8)] == [b"hello"] * 4
    assert [hear(number, which) for number in (3, 6) for which in range(3)] == [Unopened.REPLAYED] * 6
    assert len(receiver) == 3


@pytest.mark.parametrize("keys", [[], [(b"id", bytes(32))], [(b"four", bytes(16))], [OLD, (b"four", bytes(33))]])
def test_wrong_keys_are_refused_and_change_nothing(keys: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(ValueError, match="gossip key"):
        seal(1, keys)
    sender = seal()
    with pytest.raises(ValueError, match="gossip key"):
        sender.use(keys)
    assert seal(2).open(sender.seal(b"hello", *ME), *ME) == b"hello"


def test_a_start_has_one_length_and_later_ones_sort_later() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Seal([OLD], b"short")
    drawn = bytes(START_RANDOM_BYTES)
    assert start_of(255, b"\xff" * START_RANDOM_BYTES) < start_of(256, drawn) < start_of(2**40, drawn)
