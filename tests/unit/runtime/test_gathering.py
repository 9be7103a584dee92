"""When frames leave: at once, when all is taken in that has arrived, or at the end of the loop's tick."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from ringcast import Actor, Unreachable, submit, tell
from ringcast.runtime import wire
from ringcast.runtime.link import Link
from tests.unit.runtime.places import Place, eventually, gates, raised


class Narrow(Actor, mailbox=2):
    async def note(self, what: Any) -> None:
        gates.seen.append(what)

    async def mark(self, what: Any) -> None:
        gates.seen.append(f"marked {what}")

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate


class Echo(Actor):
    async def say(self, what: Any) -> Any:
        return what

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate


ECHO, NARROW = f"{__name__}:Echo", f"{__name__}:Narrow"


def message_number(link: Link, name: str) -> int:
    """Return the peer's number for a message that it has defined."""
    return next(number for number, (_, message) in link.messages.items() if message.name == name)


def link_to(place: Place) -> Link:
    """Return the caller's link to the owner."""
    return place.node._peers.link(place.owner.id)


def link_from(place: Place) -> Link:
    """Return the owner's link to the caller."""
    return place.owner._peers.link(place.node.id)


def writes_of(link: Link) -> list[int]:
    """Note how many frames each write has from now on."""
    connection = link.connection
    assert connection is not None
    write, seen = connection.write, list[int]()

    def noted(frames: list[bytes], is_traffic: bool = True) -> None:
        seen.append(len(frames))
        write(frames, is_traffic)

    connection.write = noted  # type: ignore[method-assign]
    return seen


def quiet(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of what a test has broken."""


def hear(link: Link, *frames: list[Any]) -> None:
    """Let frames arrive, as one batch."""
    assert link.connection is not None
    data = b"".join(map(link.pack, frames))
    link.connection.data_received(wire.HEAD.pack(len(data)) + data)


async def test_a_question_after_an_answer_is_written_at_once(there: Place) -> None:
    echo, link = there.node.ref(Echo, "e"), link_to(there)
    await echo.say("defined")
    link.flush()
    hear(link)
    seen = writes_of(link)
    first = submit(echo.say, 1)
    await asyncio.sleep(0)  # it is in a task of its own, which asks now
    assert seen == [1], "the first one waits for no tick"
    assert await first == 1


async def test_what_follows_it_is_gathered(there: Place) -> None:
    echo, link = there.node.ref(Echo, "e"), link_to(there)
    await echo.say("defined")
    link.flush()
    hear(link)
    seen = writes_of(link)
    for number in range(5):
        await tell(echo.say, number)  # no tick passes: there is credit
    assert seen == [1]
    await eventually(lambda: sum(seen) == 5)
    assert seen == [1, 4], "one write for what follows in the tick"
    assert await echo.say("last") == "last"


async def test_answers_leave_when_all_is_taken_in(there: Place) -> None:
    echo, link = there.node.ref(Echo, "e"), link_from(there)
    await asyncio.gather(echo.say("defined"), there.node.ref(Echo, "f").say("here"))
    await eventually(lambda: all(cell.task is None for cell in there.owner._host.kinds.named(ECHO).cells.values()))
    number = message_number(link, "say")
    seen = writes_of(link)
    hear(link, *([wire.REQUEST, 1, number, key, 1000, 0, "x"] for key in "ef"))
    assert seen == [2], "both answers in one write, in the same step of the loop"


async def test_answers_of_messages_that_wait_leave_together(there: Place) -> None:
    echo, link = there.node.ref(Echo, "e"), link_from(there)
    await echo.say("defined")
    waiting = submit(echo.wait, "gate")
    await gates.entered("gate")
    number = message_number(link, "say")
    seen = writes_of(link)
    hear(link, *([wire.REQUEST, 1, number, "e", 1000, 0, "x"] for _ in range(3)))
    assert seen == []
    gates.let_go("gate")
    assert await waiting == "gate"
    await eventually(lambda: sum(seen) >= 4)
    assert seen == [4], "of the turn that ran, and of those that waited"


async def test_a_link_that_broke_while_it_heard_speaks_again(there: Place) -> None:
    echo, link = there.node.ref(Echo, "e"), link_to(there)
    await echo.say("defined")

    def broken(frames: Iterable[list[Any]]) -> None:
        raise RuntimeError("what nobody has thought of")

    link.receive = broken  # type: ignore[method-assign]
    asyncio.get_running_loop().set_exception_handler(quiet)
    lost = await raised(echo.say("lost"))
    assert isinstance(lost, Unreachable), repr(lost)
    del link.receive
    assert await echo.say("again") == "again"


async def test_a_lost_connection_leaves_nothing_gathered(there: Place) -> None:
    echo, link = there.node.ref(Echo, "e"), link_to(there)
    await echo.say("defined")
    assert link.connection is not None
    link.connection.abort("cut by the test")
    assert await echo.say("again") == "again"


async def test_a_batch_keeps_the_order_of_each_actor(there: Place) -> None:
    one, two = there.node.ref(Narrow, 1), there.node.ref(Narrow, 2)
    link = link_from(there)
    await asyncio.gather(one.note("made"), two.note("made"))
    await tell(one.note, "told")
    await eventually(lambda: gates.seen == ["made", "made", "told"])
    gates.seen.clear()
    note = message_number(link, "note")

    def request(key: int, what: str) -> list[Any]:
        return [wire.REQUEST, 1, note, key, 1000, 0, what]

    def told(key: int, what: str) -> list[Any]:
        return [wire.TELL, note, key, 0, what]

    sent = [told(1, "a"), told(1, "b"), request(1, "c"), told(2, "A"), request(1, "d"), request(2, "B"), told(1, "e")]
    hear(link, *sent, told(3, "new"), [wire.CANCEL, 99, note, 1, False], told(1, "f"), told(2, "C"))
    await eventually(lambda: len(gates.seen) == 10)
    assert [what for what in gates.seen if what in "abcdef"] == list("abcdef")
    assert [what for what in gates.seen if what in "ABC"] == list("ABC")


async def test_told_messages_of_a_batch_are_what_they_are(there: Place) -> None:
    """Those that are like the one before are not looked up again."""
    link = link_from(there)
    for key in (1, 2):
        await there.node.ref(Narrow, key).note("made")
        await there.node.ref(Narrow, key).mark("made")
    await there.node.ref(Echo, 1).say("made")
    gates.seen.clear()
    note, mark, say = (message_number(link, name) for name in ("note", "mark", "say"))
    told = [(note, 1, "a"), (note, 1, "b"), (mark, 1, "c"), (note, 1, "d"), (say, 1, "nothing"), (note, 1, "e")]
    hear(link, *([wire.TELL, number, key, 0, what] for number, key, what in [*told, (mark, 2, "C"), (mark, 1, "f")]))
    await eventually(lambda: len(gates.seen) == 7)
    assert [what for what in gates.seen if "C" not in what] == ["a", "b", "marked c", "d", "e", "marked f"]
    assert "marked C" in gates.seen


async def test_what_a_batch_puts_into_a_full_mailbox_gives_no_credit_back(there: Place) -> None:
    narrow, link = there.node.ref(Narrow, "n"), link_from(there)
    await narrow.note("made")
    waiting = submit(narrow.wait, "gate")
    await gates.entered("gate")
    note = message_number(link, "note")
    cell = there.owner._host.kinds.named(NARROW).cells["n"]
    owed = (cell.debts or {}).get(link, 0)
    hear(link, *([wire.TELL, note, "n", 0, number] for number in range(5)))
    assert len(cell.deferred or ()) == 3, "two have found room"
    assert (cell.debts or {})[link] == owed + 2
    gates.let_go("gate")
    assert await waiting == "gate"
    await eventually(lambda: gates.seen[-5:] == list(range(5)))
    assert not cell.deferred


async def test_a_batch_with_a_frame_that_is_none_delivers_what_came_before(there: Place) -> None:
    narrow, link = there.node.ref(Narrow, "n"), link_from(there)
    await narrow.note("made")
    note = message_number(link, "note")
    hear(link, [wire.TELL, note, "n", 0, "before"], [wire.REQUEST, "no number", note, "n", 1000, 0, "bad"])
    await eventually(lambda: gates.seen[-1] == "before")
    assert link.connection is None, "it was no request"
