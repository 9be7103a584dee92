"""A program that must pass mypy --strict and pyright; it is checked, never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import assert_type

from ringcast import (
    PERMANENT,
    Actor,
    ActorName,
    At,
    Authorize,
    ChildSpec,
    Client,
    DurableActor,
    Every,
    Fatal,
    Identity,
    Labels,
    Local,
    Member,
    Node,
    OneForOne,
    Props,
    Ref,
    RestForOne,
    Seeds,
    Supervisor,
    Timer,
    broadcast,
    handler,
    is_ref,
    props,
    submit,
    tell,
    using,
    watching,
)


class Total(DurableActor[dict[str, int]], name="t.Total"):
    schema = 2

    def migrate(self, old: dict[str, int], schema: int) -> dict[str, int]:
        return {**old, "from": schema}

    async def on_start(self) -> None:
        await self.context.remind("add", Every(60.0, misfire="skip"), self.add, "a", 1)
        await self.context.remind("end", At(1.8e9), self.add, "a")

    async def add(self, name: str, n: int = 1) -> int:
        assert_type(self.state, dict[str, int])
        self.state[name] = self.state.get(name, 0) + n
        await self.context.save()
        assert_type(await self.context.forget("add"), bool)
        return self.state[name]


async def durable(node: Node) -> None:
    total = node.ref(Total, "t")
    assert_type(await total.add("a", 1), int)
    assert_type(await using(total, idempotency_key="k").add("a"), int)


class Counter(Actor, mailbox=10, idle_after=None, supervision=OneForOne(), restart_on=(ValueError,), name="t.Counter"):
    def __init__(self) -> None:
        self._value = 0

    async def add(self, n: int = 1) -> int:
        self._value += n
        return self._value

    @handler(read_only=True, timeout=3.0)
    async def names(self) -> list[str]:
        return []

    @handler
    async def plain(self) -> None: ...

    @handler(read_only=True)
    async def count_to(self, upto: int) -> AsyncGenerator[int, None]:
        for n in range(upto):
            yield n

    async def words(self) -> AsyncIterator[str]:
        yield "word"


class Worker(Actor, placement=Labels(gpu="1")):
    # Not at `self._counter` in the method: there pyright 1.1.414 does not take an alias of a bare type variable.
    _counter: Ref[Counter]

    def __init__(self, queue: str, *, retries: int = 3) -> None:
        self._queue = queue
        self._counter = self.context.ref(Counter, "hits")
        self._timer: Timer | None = None

    async def on_start(self) -> None:
        self._timer = self.context.after(1.5, self.flush, 3)
        self.context.every(2, self.work)
        self.context.log.info("started", key=self.context.key, epoch=self.context.epoch)

    async def on_stop(self, reason: str) -> None: ...

    async def flush(self, n: int) -> None:
        if n > 3:
            raise Fatal

    async def work(self) -> int:
        child = await self.context.spawn(props(Worker, "other", retries=1), name="child", restart=PERMANENT)
        assert_type(child, Worker)
        await self.context.watch(child)
        await self.context.stop(child)
        return await self._counter.add()


async def add_to(counter: Ref[Counter]) -> int:
    return await counter.add(1)


class Shop(Supervisor, supervision=RestForOne(max_restarts=3)):
    def children(self) -> Sequence[ChildSpec]:
        return [ChildSpec(props(Worker, "queue"), name="w", restart=PERMANENT, on=Local())]

    async def open_hours(self) -> int:
        return len(self.context.children)


async def main() -> None:
    async with Node(cluster="c", labels={"gpu": "1"}) as node:
        hits = node.ref(Counter, "hits")
        assert_type(hits, Counter)
        assert_type(await hits.add(2), int)
        assert_type(await hits.names(), list[str])
        assert_type(await hits.plain(), None)
        assert_type(await add_to(hits), int)
        async for n in hits.count_to(3):
            assert_type(n, int)
        async for word in hits.words():
            assert_type(word, str)

        assert_type(await tell(hits.add, 1), None)
        await tell(hits.add, n=1)
        assert_type(using(hits, timeout=1.0, detached=True, idempotency_key="k"), Counter)
        assert_type(await using(hits, timeout=1.0).add(), int)
        assert_type(submit(hits.add, 2), asyncio.Task[int])
        assert_type(await submit(hits.names), list[str])
        assert_type(await broadcast([hits, hits], Counter.add, 2), list[int])
        assert_type(await asyncio.gather(hits.add(), hits.names()), tuple[int, list[str]])

        description = props(Worker, "queue", retries=2)
        assert_type(description, Props[Worker])
        worker = await node.spawn(description, name="w", on=Local())
        assert_type(worker, Worker)
        assert_type(await worker.work(), int)
        assert_type(await node.locate(worker), Member)
        shop = await node.supervise(Shop, name="shop")
        assert_type(shop, Shop)
        assert_type(await shop.open_hours(), int)
        assert_type(await shop.remove_child("w"), bool)
        await node.stop(worker)
        async with watching(worker) as ended:
            assert_type(await ended, str)
        if is_ref(hits):
            print(hits)


class Open(Actor, expose=True):
    @handler(expose=False)
    async def closed(self) -> None: ...

    async def who(self) -> Identity | None:
        return self.context.caller


def authorize(caller: Identity, actor: ActorName, method: str) -> bool | str:
    return caller.name == "web" or f"{caller.role} may not {method} {actor}"


async def outside() -> None:
    hook: Authorize = authorize
    Node(authorize=hook)
    async with Client(["10.0.0.5:7400", Seeds(["10.0.0.6:7400"])], credential="web.credential") as client:
        hits = client.ref(Counter, "hits")
        assert_type(hits, Counter)
        assert_type(await hits.add(2), int)
        async for n in hits.count_to(3):
            assert_type(n, int)
        await tell(hits.add, 1)
        assert_type(await client.ref(Open, "o").who(), Identity | None)
        assert_type(client.node, str | None)
    Client("10.0.0.5:7400")
