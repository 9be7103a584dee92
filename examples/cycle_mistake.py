"""A mistake on purpose: two actors that ask each other in one chain of calls.

    python examples/cycle_mistake.py

Expect ``CallCycle`` at once, naming the actors, instead of a call that waits until its time is
over; then ``the log of Left: ['told']``. An actor handles one message at a time: while Left waits
for the answer of Right, Right would wait for Left. The ways out: tell and do not wait, as the second
try does, or mark a handler that may run meanwhile with ``@handler(reentrant=True)``.
"""

from __future__ import annotations

from ringcast import Actor, CallCycle, Node, run, tell


class Left(Actor):
    def __init__(self) -> None:
        self._log: list[str] = []

    async def play(self) -> str:
        return await self.context.ref(Right, "r").reply()

    async def play_told(self) -> None:
        await tell(self.context.ref(Right, "r").reply_told)

    async def note(self, what: str) -> None:
        self._log.append(what)

    async def log(self) -> list[str]:
        return self._log


class Right(Actor):
    async def reply(self) -> str:
        await self.context.ref(Left, "l").note("asked")  # the mistake: Left waits for us
        return "never"

    async def reply_told(self) -> None:
        await self.context.ref(Left, "l").note("told")  # Left's turn is over: nobody waits

    async def idle(self) -> None:
        """Answer once all messages before this one are handled."""


async def main() -> None:
    async with Node(cluster="cycle-example") as node:
        left, right = node.ref(Left, "l"), node.ref(Right, "r")
        try:
            await left.play()
        except CallCycle as error:
            print(f"{type(error).__name__}: {error}")
        await left.play_told()
        await right.idle()
        print(f"the log of Left: {await left.log()}")


if __name__ == "__main__":
    run(main())
