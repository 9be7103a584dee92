"""A node as a process of its own: commands come in on stdin, answers and events go out on stdout, as JSON lines.

``{"id": 1, "do": "locate", "keys": [3]}`` is answered with ``{"id": 1, "result": …}`` or
``{"id": 1, "error": "…"}``. Events are ``{"event": "view" | "lost" | "suspected" | "left", "at": …}``;
the last one comes after SIGTERM, when the node has left. The process ends when stdin does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from ringcast import (
    Local,
    MemberLost,
    MemberSuspected,
    Node,
    NodeConfig,
    Seeds,
    View,
    ViewChanged,
    props,
    run,
    using,
)

from .actors import Collector, Worker, effects, handled
from .load import Asks, answers

__all__ = ["main"]


SAID_AFTER = 0.15
"""Seconds after which a view is told to the parent."""


def say(**words: Any) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def node_of(given: dict[str, Any]) -> Node:
    """Make a node as the parent describes it; what is not given is the default."""
    kept: dict[str, Any] = {name: given[name] for name in ("cluster", "listen", "secret", "hosts") if name in given}
    if "seeds" in given:
        kept["discovery"] = [Seeds(given["seeds"])]
    return Node(config=NodeConfig(**given["config"]), **kept)


def cost(node_id: str) -> dict[str, float]:
    """Return the seconds of processor that this process and its membership's thread have used, and the host's bytes."""
    threads = Path("/proc/self/task").iterdir()
    spent = {path.name: int((path / "schedstat").read_text().split()[0]) / 1e9 for path in threads}
    [membership] = [thread for thread in threading.enumerate() if thread.name == f"ringcast {node_id}"]
    counters = [line.split(":") for line in Path("/proc/self/net/dev").read_text().splitlines() if ":" in line]
    outside = [numbers.split() for name, numbers in counters if name.strip() != "lo"]
    return {
        "process": sum(spent.values()),
        "membership": spent[str(membership.native_id)],
        "received": sum(int(numbers[0]) for numbers in outside),
        "sent": sum(int(numbers[8]) for numbers in outside),
    }


class Child:
    """The node, and what it is told to do."""

    def __init__(self, given: dict[str, Any]) -> None:
        """Make the node; it joins when it is told to."""
        self.node = node_of(given)
        self.stop = asyncio.Event()
        self._asks: Asks | None = None
        self._collector: Collector | None = None
        self._background: set[asyncio.Task[Any]] = set()

    async def obey(self, command: dict[str, Any]) -> None:
        """Carry out a command, and answer it."""
        number, do = command.pop("id"), command.pop("do")
        try:
            result = await getattr(self, f"do_{do}")(**command)
        except Exception as error:
            say(id=number, error=f"{do}: {type(error).__name__}: {error}")
        else:
            say(id=number, result=result)

    def keep(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def do_join(self) -> str:
        await self.node.start()
        self.keep(self._watch())
        return self.node.id

    async def do_locate(self, keys: list[int]) -> list[str]:
        return [(await self.node.locate(self.node.ref(Worker, key))).id for key in keys]

    async def do_answers(self, keys: list[int], limit: float, show: bool = False) -> list[list[Any]]:
        return await answers(self.node, keys, limit, self._collector if show else None)

    async def do_asks(self, keys: list[int], rate: float, turn: float, limit: float, tell_every: int = 0) -> None:
        self._asks = Asks(self.node, keys, rate, turn, limit, tell_every)
        self._asks.begin()

    async def do_end_asks(self) -> dict[str, Any]:
        assert self._asks is not None, "there are asks to end"
        await self._asks.end()
        return {"rows": self._asks.rows, "told": self._asks.told, "refused": self._asks.refused}

    async def do_collect(self) -> None:
        self._collector = await self.node.spawn(props(Collector), on=Local())

    async def do_hide(self, keys: list[int]) -> None:
        await asyncio.gather(*(self.node.ref(Worker, key).hide() for key in keys))

    async def do_effects(self) -> list[tuple[float, int, int, int]]:
        taken, effects[:] = list(effects), []
        return taken

    async def do_handled(self) -> list[str]:
        return handled

    async def do_freeze(self, key: int, how: str, seconds: float) -> None:
        """Have a worker keep its event loop (``block``), or the global lock (``hold``); do not wait for it."""
        worker = using(self.node.ref(Worker, key), timeout=seconds + 20)
        self.keep(
            asyncio.wait([asyncio.ensure_future(worker.block(seconds) if how == "block" else worker.hold(seconds))])
        )

    async def do_stats(self) -> dict[str, float]:
        return self.node.stats()

    async def do_cost(self) -> dict[str, float]:
        return cost(self.node.id)

    async def _watch(self) -> None:
        events = self.node.events()
        self._say_view(self.node.view)
        async for event in events:
            match event:
                case ViewChanged(view):
                    self._say_view(view)
                case MemberLost(member):
                    say(event="lost", at=time.monotonic(), member=member.identity)
                case MemberSuspected(member):
                    say(event="suspected", at=time.monotonic(), member=member.identity)
                case _:
                    pass

    def _say_view(self, view: View) -> None:
        """Say that a view is here, and since when, a little later: nodes and parent have other work in that moment."""
        asyncio.get_running_loop().call_later(SAID_AFTER, self._say_it, view, time.monotonic())

    def _say_it(self, view: View, at: float) -> None:
        members = [[*member.identity, member.leaving] for member in view.members]
        say(event="view", at=at, lineage=view.lineage, number=view.number, members=members)


async def live(given: dict[str, Any]) -> None:
    """Obey until SIGTERM, then leave."""
    loop = asyncio.get_running_loop()
    child = Child(given)
    loop.add_signal_handler(signal.SIGTERM, child.stop.set)

    def read() -> None:
        # Not sys.stdin: the interpreter cannot end while a thread waits in it.
        unread = b""
        while more := os.read(0, 1 << 16):
            *lines, unread = (unread + more).split(b"\n")
            for line in lines:
                loop.call_soon_threadsafe(lambda command: child.keep(child.obey(command)), json.loads(line))
        os._exit(1)  # the parent has ended

    threading.Thread(target=read, daemon=True).start()
    say(event="ready")
    await child.stop.wait()
    await child.node.leave()
    say(event="left", at=time.monotonic(), handled=handled)


def main() -> None:
    run(live(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
