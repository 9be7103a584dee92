"""When frames leave: at once, when all is taken in that has arrived, or at the end of the loop's tick."""

from __future__ import annotations

import asyncio
from typing import Any

from ringcast import Actor, submit, tell
from ringcast.runtime import wire
from ringcast.runtime.link import Link
from tests.unit.runtime.places import Place, eventually, gates


class Echo(Actor):
    async def say(self, what: Any) -> Any:
        return what

    async def wait(self, gate: str) -> str:
        await gates.passing(gate)
        return gate


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
    number = next(number for number, (_, message) in link.messages.items() if message.name == "say")
    seen = writes_of(link)
    hear(link, *([wire.REQUEST, 1, number, key, 1000, 0, "x"] for key in "ef"))
    assert seen == [2], "both answers in one write, in the same step of the loop"


async def test_answers_of_messages_that_wait_leave_together(there: Place) -> None:
    echo, link = there.node.ref(Echo, "e"), link_from(there)
    await echo.say("defined")
    waiting = submit(echo.wait, "gate")
    await gates.entered("gate")
    number = next(number for number, (_, message) in link.messages.items() if message.name == "say")
    seen = writes_of(link)
    hear(link, *([wire.REQUEST, 1, number, "e", 1000, 0, "x"] for _ in range(3)))
    assert seen == []
    gates.let_go("gate")
    assert await waiting == "gate"
    await eventually(lambda: sum(seen) >= 4)
    assert seen == [4], "of the turn that ran, and of those that waited"


async def test_a_lost_connection_leaves_nothing_gathered(there: Place) -> None:
    echo, link = there.node.ref(Echo, "e"), link_to(there)
    await echo.say("defined")
    assert link.connection is not None
    link.connection.abort("cut by the test")
    assert await echo.say("again") == "again"


ECHO = f"{__name__}:Echo"
