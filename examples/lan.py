"""Nodes of a LAN that find each other, with one secret and nothing else to set up.

    ringcast secret new lan.secret          # once; then copy it to each machine: scp -p lan.secret …
    python examples/lan.py lan.secret       # on each machine, or in two terminals of one

Expect each to say within seconds who is there, and all to write on one board, which lives on one of
them: end that one with Ctrl-C, and see the board begin anew on another. A machine with another secret
sees nobody, and is seen by nobody. Without multicast (clouds, some WLANs) name a node:
``python examples/lan.py lan.secret --seed 10.0.0.5:7400``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket

from ringcast import Actor, CallError, MemberJoined, MemberLeft, MemberLost, Node, Seeds, Zeroconf, run


class Board(Actor):
    def __init__(self) -> None:
        self._lines: list[str] = []

    async def write(self, line: str) -> tuple[int, str]:
        self._lines.append(line)
        return len(self._lines), self._lines[max(0, len(self._lines) - 2)]


async def tell_who_comes_and_goes(node: Node) -> None:
    events = node.events()
    for member in node.members:
        print(f"+ {member.id} at {member.address}", flush=True)
    async for event in events:
        match event:
            case MemberJoined(member):
                print(f"+ {member.id} at {member.address}", flush=True)
            case MemberLeft(member) | MemberLost(member):
                print(f"- {member.id} at {member.address}", flush=True)
            case _:
                pass


async def write_now_and_then(node: Node, interval: float) -> None:
    board = node.ref(Board, "hall")
    while True:
        with contextlib.suppress(CallError):  # its node was just lost: the next line finds it elsewhere
            number, before = await board.write(f"{socket.gethostname()} {node.id}")
            where = await node.locate(board)
            print(f"line {number}, on {where.id}; the one before is by {before}", flush=True)
        await asyncio.sleep(interval)


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("secret", help="the file that `ringcast secret new` made")
    options.add_argument("--listen", default="0.0.0.0:7400-7419", help="where to listen [default: %(default)s]")
    options.add_argument("--seed", action="append", default=[], metavar="HOST:PORT", help="a node, without multicast")
    options.add_argument("--interval", type=float, default=1.0, help="seconds between two lines [default: 1]")
    given = options.parse_args()

    discovery = [Seeds(given.seed)] if given.seed else [Zeroconf()]
    node = Node(cluster="lan-example", listen=given.listen, secret=given.secret, discovery=discovery)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with node, asyncio.TaskGroup() as work:
        print(f"this is {node.id} at {node.address}", flush=True)
        doing = tell_who_comes_and_goes(node), write_now_and_then(node, given.interval)
        tasks = [work.create_task(one) for one in doing]
        await stop.wait()
        for task in tasks:
            task.cancel()


if __name__ == "__main__":
    run(main())
