from __future__ import annotations

import uuid
from typing import Any

import pytest

from ringcast import Node
from ringcast.runtime import wire
from ringcast.runtime.effect import Answer, Effect, Request, Told, effect_in
from tests.unit.runtime.places import new_cluster

CHAIN = [["Cart", ("a", uuid.UUID(int=1)), 5, 7]]


FRAMES: list[tuple[list[Any], Effect | None]] = [
    ([wire.REPLY, 3, {("a", 1): {1, 2}}], Answer(3)),
    ([wire.ITEM, 3, 1 << 100], Answer(3)),
    ([wire.END, 3], Answer(3)),
    ([wire.ERROR, 3, ["ValueError", "no", ""]], None),
    ([wire.REQUEST, 3, 9, "key", 100, 1, "arg"], None),
    ([wire.TELL, 9, ("key", 2), 1, "arg"], None),
    ([wire.REQUEST_X, 3, 9, ("key", 2), 100, 1, [[{(1, 2): "\ud800"}], {}, CHAIN, "t", None, 0, None]], Request(3)),
    ([wire.REQUEST_X, 3, 9, "key", 100, 1, [[], {}, [], "a detached call", None, 0, None]], Request(3)),
    ([wire.REQUEST_X, 3, 9, "key", 100, 1, [[], {"b": 1}, [], None, None, 0, "once"]], None),
    ([wire.REQUEST_X, 3, 9, "key", 100, 1, [[], {}, CHAIN, "t", "sent on", 1, None]], None),
    ([wire.TELL_X, 9, "key", 1, [[1], {}, None, "t", 0]], Told(9)),
    ([wire.TELL_X, 9, "key", 1, [[1], {}, 100, None, 0]], None),
    ([wire.TELL_X, 9, "key", 1, [[1], {}, None, "sent on", 2]], None),
    ([wire.GRANT, 9, "key", 32], None),
    ([wire.CANCEL, 3, 9, "key", False], None),
    ([wire.SYSTEM, 3, "spawn", "Cart"], None),
    ([wire.HOLD, True], None),
]


@pytest.mark.parametrize(("frame", "effect"), FRAMES, ids=lambda value: str(value)[:20])
def test_which_frames_are_effects_of_turns(frame: list[Any], effect: Effect | None) -> None:
    codec = Node(cluster=new_cluster(), discovery=[])._codec
    assert effect_in(codec.pack(frame)) == effect
