"""Names and keys: bounded where they are made, and where they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

import msgpack
import pytest

from ringcast import Actor, CodecError, ConfigError, Node, submit, using
from ringcast.actors.actor import imported_types
from ringcast.runtime import kinds as kinds_module
from ringcast.runtime import wire
from ringcast.runtime.extensions import Code
from ringcast.runtime.ring import KEY_BYTES_MAX, check_key
from ringcast.runtime.streams import WINDOW
from tests.unit.runtime.places import Place, eventually, raised
from tests.unit.runtime.test_limits_connection import ECHO, Echo, packed, rogue

_ExtType: Any = msgpack.ExtType


class Counting(Actor):
    async def count(self) -> AsyncIterator[int]:
        yield 1


def test_names_on_the_wire_have_an_end() -> None:
    long = "x" * 257
    with pytest.raises(TypeError, match=r"it may have 224: give it the class keyword name"):
        type(long, (Actor,), {})
    with pytest.raises(TypeError, match=r"name of 257 characters, it may have 256"):
        type("Short", (Actor,), {long: lambda: None})
    named: Any = type(long, (Actor,), {}, name="short")
    assert named.__class_options__.name == "short"


@pytest.mark.parametrize("key", ["x" * 1000, b"x" * 1000, 1 << 8000, ("a",) * 100, "", 0])
def test_keys_within_the_limit_are_fine(key: Any) -> None:
    check_key(key)


@pytest.mark.parametrize(
    "key", ["x" * 1100, b"x" * 1100, 1 << 9000, ("a",) * 300, "ü" * 600, (("x" * 500,), "y" * 600)], ids=range(6)
)
async def test_keys_beyond_it_are_refused_in_words(here: Place, key: Any) -> None:
    with pytest.raises(TypeError, match=f"may have {KEY_BYTES_MAX}"):
        here.node.ref(Echo, key)


@pytest.mark.parametrize("key", ["x" * 2000, ["a", "list"], 1.5, None, True], ids=str)
async def test_keys_that_are_none_end_the_connection_and_make_no_actor(here: Place, key: Any) -> None:
    for frame in ([wire.REQUEST, 7, 1, key, 5000, 1, 1], [wire.TELL, 1, key, 1, 1]):
        async with rogue(here.node) as peer:
            peer.define()
            peer.say(frame)
            assert "no frame" in await peer.cut_off()
    assert here.node.stats()["actors"] == 0


@pytest.mark.parametrize(
    "parts",
    [[ECHO, "x" * 2000, None], ["m:" + "x" * 300, "k", None], [5, "k", None], [ECHO, "k", 5], [ECHO, 1.5, None], []],
    ids=str,
)
async def test_a_reference_that_is_none_is_refused_in_words(here: Place, parts: list[Any]) -> None:
    async with rogue(here.node) as peer:
        peer.define()
        peer.say([wire.REQUEST, 7, 1, "k", 5000, 1, _ExtType(Code.REF, packed(parts))])
        code, number, _ = await peer.answer()
        assert (code, number) == (wire.ERROR, 7)
        assert peer.link.is_up


async def test_peers_cannot_fill_the_memory_with_names(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = here.node._host.kinds
    monkeypatch.setattr(kinds_module, "KINDS_MAX", len(kinds.by_name) + 10)
    for n in range(10):
        kinds.named(f"nowhere:Class{n}")
    with pytest.raises(CodecError, match="one too many"):
        kinds.named("nowhere:Another")
    assert kinds.named("nowhere:Class3") is kinds.by_name["nowhere:Class3"]
    assert kinds.named(ECHO).is_here


async def test_a_class_that_is_not_here_is_not_looked_for_each_time(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds, looks = here.node._host.kinds, 0

    def counted() -> Any:
        nonlocal looks
        looks += 1
        return imported_types()

    monkeypatch.setattr(kinds_module, "imported_types", counted)
    begun = perf_counter()
    for _ in range(10_000):
        kinds.named("nowhere:Missing")
    assert looks <= 1 + (perf_counter() - begun) / kinds_module.LOOK_AGAIN


async def test_a_stream_that_is_sent_more_than_it_asked_for_is_left(there: Place) -> None:
    items: Any = there.node.ref(Counting, "c").count()
    assert await anext(items) == 1
    for n in range(2 * WINDOW + 1):
        items.feed(n)
    assert "more items than it was asked for" in str(await raised(anext(items)))


async def test_labels_are_few_and_short() -> None:
    for labels in ({str(n): "" for n in range(65)}, {"a": "x" * 257}, {"x" * 257: ""}):
        with pytest.raises(ConfigError, match="at most 64"):
            Node(labels=labels)


async def test_cancels_of_nothing_are_forgotten(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from ringcast.runtime import arrivals

    monkeypatch.setattr(arrivals, "CANCELLED_MAX", 100)
    async with rogue(here.node) as peer:
        peer.define()
        for n in range(1000):
            peer.say([wire.CANCEL, n, 1, "k", False])
        peer.say([wire.REQUEST, 2000, 1, "k", 5000, 1, "done"])
        assert await peer.answer() == [wire.REPLY, 2000, "done"]
        assert len(peer.link.cancelled) <= 100


async def test_the_answer_to_what_is_fine_still_comes(there: Place) -> None:
    running = [submit(there.node.ref(Echo, ("a", n)).say, n) for n in range(10)]
    assert [await one for one in running] == list(range(10))
    await eventually(lambda: there.owner.stats()["in_flight_bytes"] == 0)


@pytest.mark.parametrize("once", [5, "x" * 1025], ids=str)
async def test_idempotency_keys_are_short_texts(here: Place, once: Any) -> None:
    with pytest.raises(ConfigError, match="idempotency_key"):
        using(here.node.ref(Echo, "e"), idempotency_key=once)


NONE: list[Any] = []
META: list[Any] = [[1], {}, NONE, None, None, 0, None]
ODD: dict[str, list[Any]] = {
    "a list as a number": [wire.REQUEST, NONE, 1, "warm", 5000, 1, 1],
    "a number as text": [wire.REQUEST, "7", 1, "warm", 5000, 1, 1],
    "a limit that is none": [wire.REQUEST, 7, 1, "warm", None, 1, 1],
    "a limit that is complex": [wire.REQUEST, 7, 1, "warm", _ExtType(Code.COMPLEX, packed([1, 1])), 1, 1],
    "a list as a number, cold": [wire.REQUEST, NONE, 1, "cold", 5000, 1, 1],
    "a limit of text, cold": [wire.REQUEST_X, 7, 1, "cold", "soon", 1, META],
    "arguments of text": [wire.REQUEST_X, 7, 1, "warm", 5000, 1, ["ab", *META[1:]]],
    "arguments of a dict": [wire.TELL_X, 1, "warm", 1, [{0: 1}, {}, 100, None, 0]],
    "names that are numbers": [wire.REQUEST_X, 7, 1, "warm", 5000, 1, [[1], {5: 1}, *META[2:]]],
    "a chain of text": [wire.REQUEST_X, 7, 1, "warm", 5000, 1, [*META[:2], ["abc"], *META[3:]]],
    "a trace of a list": [wire.REQUEST_X, 7, 1, "warm", 5000, 1, [*META[:3], NONE, *META[4:]]],
    "an origin of a number": [wire.REQUEST_X, 7, 1, "warm", 5000, 1, [*META[:4], 5, *META[5:]]],
    "hops of text": [wire.REQUEST_X, 7, 1, "warm", 5000, 1, [*META[:5], "a", *META[6:]]],
    "a key of a list": [wire.REQUEST_X, 7, 1, "warm", 5000, 1, [*META[:6], NONE]],
    "a verb of a number": [wire.SYSTEM, 7, 5],
    "a verb of nobody": [wire.SYSTEM, NONE, "watch"],
    "a client's call of numbers": [wire.FOR_CLIENT, 7, 1, 2, "k", 5000, 1, [b"", b"", False, None, None, 0, None]],
    "a client's call of text": [wire.FOR_CLIENT, 7, ECHO, "say", "k", 5000, 1, ["", b"", False, None, None, 0, None]],
}


@pytest.mark.parametrize("what", ODD)
async def test_a_message_of_odd_parts_ends_the_connection_and_harms_no_actor(here: Place, what: str) -> None:
    warm = here.node.ref(Echo, "warm")
    assert await warm.say(1) == 1
    async with rogue(here.node) as peer:
        peer.define()
        peer.say(ODD[what])
        assert "no frame" in await peer.cut_off()
    assert await warm.say(2) == 2
    assert here.node.stats()["restarts"] == 0


async def test_nodes_that_are_made_up_are_few(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from ringcast.runtime import arrivals

    monkeypatch.setattr(arrivals, "STRANGERS_MAX", 5)
    async with rogue(here.node) as peer:
        peer.define()
        for n in range(20):
            peer.say([wire.REQUEST_X, n, 1, "k", 5000, 1, [*META[:4], f"made up {n}", *META[5:]]])
        assert "none of the members" in await peer.cut_off()
    assert len(here.node._peers.links) < 10
