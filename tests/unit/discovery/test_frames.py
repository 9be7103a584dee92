from __future__ import annotations

import pytest

from ringcast.discovery.frames import HEAD_BYTES, Frames, framed


def taken(frames: Frames) -> list[bytes]:
    found: list[bytes] = []
    while (frame := frames.take()) is not None:
        found.append(frame)
    return found


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_frames_come_out_as_they_went_in_however_they_are_cut(step: int) -> None:
    said = [b"", b"a", b"hello", b"\0" * 300]
    stream = b"".join(map(framed, said))
    frames, found = Frames(300), list[bytes]()
    for start in range(0, len(stream), step):
        frames.add(stream[start : start + step])
        found += taken(frames)
    assert found == said
    assert len(frames) == 0


def test_a_frame_longer_than_the_limit_is_an_error_before_its_first_byte() -> None:
    frames = Frames(10)
    frames.add(framed(bytes(10)) + (11).to_bytes(HEAD_BYTES, "big"))
    assert frames.take() == bytes(10)
    with pytest.raises(ValueError, match="11 bytes, where 10 are the most"):
        frames.take()


def test_nothing_is_kept_for_a_length_that_is_only_claimed() -> None:
    frames = Frames(1 << 30)
    frames.add((1 << 30).to_bytes(HEAD_BYTES, "big"))
    assert frames.take() is None
    assert len(frames) == HEAD_BYTES
    assert frames._held.__alloc__() < 64


def test_the_limit_may_rise_between_two_frames() -> None:
    frames = Frames(1)
    frames.add(framed(b"a") + framed(b"bc"))
    assert frames.take() == b"a"
    frames.limit = 2
    assert frames.take() == b"bc"


def test_what_waits_can_be_looked_at() -> None:
    frames = Frames(5)
    frames.add(b"\x16\x03")
    assert frames.starts_with(b"\x16")
    assert not frames.starts_with(b"\x15")
