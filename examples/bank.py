"""Accounts, and transfers that are finished although nodes are killed all the time.

    python examples/bank.py [--transfers 1000] [--kills 4]

Expect four kills, each with the time at which it came, and a last line that begins with
``money: 2,000,000 cents before, 2,000,000 after``. Takes half a minute.

A transfer is a saga: a durable actor that takes the money from one account, and then gives it to
another one. It saves after each step how far it is, and both steps carry an idempotency key: a step
that is repeated, since nobody knows whether it was done, is done once. A reminder, which is part of
the saga's state, goes on with a transfer whose node was killed, also when nobody asks any more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field

from ringcast import CallError, DurableActor, Every, Node, StoreError, handler, run, using

NODES, ACCOUNTS, EACH, AT_ONCE, LIMIT = 3, 20, 100_000, 10, 120.0


@dataclass
class Balance:
    cents: int = EACH


class Account(DurableActor[Balance], name="bank.Account"):
    async def add(self, cents: int) -> None:
        if self.state.cents + cents < 0:
            raise ValueError(f"account {self.context.key} has {self.state.cents} cents")
        self.state.cents += cents

    @handler(read_only=True)
    async def balance(self) -> int:
        return self.state.cents


@dataclass
class Order:
    source: int = 0
    target: int = 0
    cents: int = 0
    step: str = "new"


class Transfer(DurableActor[Order], name="bank.Transfer"):
    """A saga; its key is the transfer's number."""

    async def start(self, source: int, target: int, cents: int) -> str:
        """Move money; return ``done``, or ``refused`` if there is not enough of it."""
        if self.state.step == "new":
            self.state = Order(source, target, cents, "begun")
            await self.context.remind("go on", Every(2.0), self.go_on)
            await self.context.save()
        await self.go_on()
        return self.state.step

    async def go_on(self) -> None:
        order = self.state
        if order.step == "begun":
            try:
                await self._account(order.source, "take").add(-order.cents)
                order.step = "taken"
            except ValueError:
                order.step = "refused"
            await self.context.save()
        if order.step == "taken":
            await self._account(order.target, "give").add(order.cents)
            order.step = "done"
        await self.context.forget("go on")

    def _account(self, number: int, step: str) -> Account:
        return using(self.context.ref(Account, number), idempotency_key=f"{step} {self.context.key}", timeout=5.0)


async def serve(cluster: str, store: str) -> None:
    async with Node(cluster=cluster, store=store) as node:
        print(node.id, flush=True)
        await asyncio.to_thread(sys.stdin.read)  # ends when the driver closes it, or dies


async def start(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, *arguments, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    await process.stdout.readline()
    return process


@dataclass
class Bank:
    """Drives the transfers, and kills nodes meanwhile."""

    node: Node
    plan: list[tuple[int, int, int]]
    kills: int
    ended: dict[int, str] = field(default_factory=dict[int, str])
    repeated: int = 0

    async def transfer(self, numbers: list[int]) -> None:
        while numbers:
            number = numbers.pop()
            while number not in self.ended:
                try:
                    ref = using(self.node.ref(Transfer, number), idempotency_key="start", timeout=5.0)
                    self.ended[number] = await ref.start(*self.plan[number])
                except (CallError, StoreError):
                    self.repeated += 1
                    await asyncio.sleep(0.05)

    async def kill(self, processes: list[asyncio.subprocess.Process], *arguments: str) -> None:
        began = time.monotonic()
        for kill in range(self.kills):
            while len(self.ended) < len(self.plan) * (kill + 1) // (self.kills + 1):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            victim = processes.pop(random.randrange(len(processes)))
            victim.kill()
            await victim.wait()
            print(f"killed a node after {time.monotonic() - began:.1f} s, {len(self.ended)} transfers were done")
            processes.append(await start(*arguments))


async def main(transfers: int, kills: int) -> int:
    pairs = [random.sample(range(ACCOUNTS), 2) for _ in range(transfers)]
    plan = [(source, target, random.randrange(EACH // 2)) for source, target in pairs]
    with tempfile.TemporaryDirectory() as folder:
        arguments = "--serve", f"bank-{os.getpid()}", f"sqlite:///{folder}/bank.db"
        processes = list(await asyncio.gather(*(start(*arguments) for _ in range(NODES))))
        try:
            async with asyncio.timeout(LIMIT), Node(cluster=arguments[1], hosts=[]) as node:
                await node.wait_for_members(NODES + 1)
                bank, numbers = Bank(node, plan, kills), list(range(transfers))
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(bank.kill(processes, *arguments))
                    for _ in range(AT_ONCE):
                        tasks.create_task(bank.transfer(numbers))
                found = [await node.ref(Account, account).balance() for account in range(ACCOUNTS)]
        finally:
            for process in processes:
                process.kill()
            await asyncio.gather(*(process.wait() for process in processes))
    expected = [EACH] * ACCOUNTS
    for number, (source, target, cents) in enumerate(plan):
        if bank.ended[number] == "done":
            expected[source] -= cents
            expected[target] += cents
    ends = Counter(bank.ended.values())
    print(f"transfers: {ends['done']} done, {ends['refused']} refused; {bank.repeated} calls were repeated")
    is_right = found == expected
    each = "each account right" if is_right else "ACCOUNTS ARE WRONG"
    print(f"money: {EACH * ACCOUNTS:,} cents before, {sum(found):,} after, {each}")
    return 0 if is_right else 1


if __name__ == "__main__":
    os.environ.setdefault("RINGCAST_LOG", "critical")
    if sys.argv[1:2] == ["--serve"]:
        run(serve(*sys.argv[2:4]))
        sys.exit(0)
    parser = argparse.ArgumentParser(description="Move money between accounts while nodes are killed.")
    parser.add_argument("--transfers", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=4)
    given = parser.parse_args()
    sys.exit(run(main(given.transfers, given.kills)))
