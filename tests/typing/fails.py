"""A program with mistakes: mypy --strict and pyright must see one in each line that says so, and no other."""

from __future__ import annotations

from ringcast import Actor, Client, DurableActor, Every, Node, Ref, broadcast, handler, props, submit, tell, using


class Counter(Actor):
    async def add(self, n: int = 1) -> int:
        return n

    @handler(read_only=True)
    async def name(self) -> str:
        return ""


class Total(DurableActor[dict[str, int]]):
    async def add(self, name: str) -> None:
        self.state[name] = "1"  # error: the state has a type
        await self.context.remind("add", Every(1.0), self.add, 1)  # error: remind checks arguments
        await self.context.remind("add", Every(1.0, misfire="never"), self.add, "a")  # error: no such misfire


class Worker(Actor):
    def __init__(self, queue: str, *, retries: int = 3) -> None: ...

    async def work(self) -> int:
        return 1


@handler(idempotent=True)  # error: no such option
async def wrong(self: Counter) -> None: ...


async def takes(counter: Ref[Counter]) -> None:
    await counter.add("1")  # error: an argument of another type


async def main(node: Node) -> None:
    hits = node.ref(Counter, "hits")
    await hits.add("2")  # error: an argument of another type
    await hits.add(1, 2)  # error: too many arguments
    await hits.subtract(1)  # error: no such message
    text: str = await hits.add(1)  # error: a result of another type
    number: int = await hits.name()  # error: a decorated method keeps its type
    await tell(hits.add, "1")  # error: tell checks arguments
    await tell(hits.add, m=1)  # error: tell checks names
    await tell(hits.add(1))  # error: tell takes the method
    result: str = await submit(hits.add, 1)  # error: submit keeps the result's type
    await using(hits, timeout="1").add()  # error: a limit is a number
    await using(hits, timeout=1).subtract()  # error: using keeps the type
    answers: list[str] = await broadcast([hits], Counter.add)  # error: broadcast keeps the result's type
    props(Worker)  # error: an argument is missing
    props(Worker, 3)  # error: an argument of another type
    props(Worker, "q", retry=3)  # error: no such argument
    worker: Counter = await node.spawn(props(Worker, "q"))  # error: spawn is typed as its class
    await takes(node.ref(Worker, "w"))  # error: a ref of another class
    print(text, number, result, answers, worker)


async def outside(client: Client) -> None:
    hits = client.ref(Counter, "hits")
    await hits.add("2")  # error: an argument of another type
    await hits.subtract(1)  # error: no such message
    Node(authorize=lambda caller: True)  # error: a hook takes caller, actor and method
    Client(5)  # error: addresses are text
    await client.spawn(props(Worker, "q"))  # error: clients call, and do nothing else
