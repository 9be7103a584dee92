"""A supervision tree: what fails is started again, with what depends on it, while callers wait.

    python examples/supervision.py

Expect the shop to come up in order; the cache to fail, and the web, which was started after it, to be
taken along; and then a database that is away for a while: it is retried, and a page that was asked
for meanwhile is served as soon as it is back. The log on stderr names each restart, and why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ringcast import Actor, Backoff, ChildSpec, Node, RestForOne, Supervisor, props, run, submit, tell, watching

database_is_there = asyncio.Event()
web_has_stopped = asyncio.Event()


class Part(Actor):
    def __init__(self, needs_database: bool) -> None:
        self._needs_database = needs_database

    async def on_start(self) -> None:
        if self._needs_database and not database_is_there.is_set():
            raise ConnectionError("the database is away")
        print(f"  {self.context.key} is up")

    async def on_stop(self, reason: str) -> None:
        print(f"  {self.context.key} stops: {reason}")
        if self.context.key == "web":
            web_has_stopped.set()

    async def page(self) -> str:
        return "200 OK"

    async def crash(self) -> None:
        raise RuntimeError("somebody tripped over the cable")


class Shop(Supervisor, supervision=RestForOne(max_restarts=5, within=60.0, backoff=Backoff(first=0.05))):
    def children(self) -> Sequence[ChildSpec]:
        return [
            ChildSpec(props(Part, needs_database=True), name="database"),
            ChildSpec(props(Part, needs_database=False), name="cache"),
            ChildSpec(props(Part, needs_database=False), name="web"),
        ]


async def main() -> None:
    database_is_there.set()
    async with Node(cluster="supervision-example") as node:
        shop = await node.supervise(Shop, name="shop")
        database, cache, web = [await shop.child(name) for name in ("database", "cache", "web")]
        print("started,", await web.page())

        await tell(cache.crash)  # nobody waits for a told message: its error is the actor's failure
        await cache.page()
        print("the cache is back,", await web.page())

        async with watching(web) as ended:
            database_is_there.clear()
            web_has_stopped.clear()
            await tell(database.crash)
            await web_has_stopped.wait()
            page = submit(web.page)  # it waits for the web, which waits for the database
            await asyncio.sleep(0.5)
            print("the database comes back")
            database_is_there.set()
            print("the page,", await page)
            print("restarts are no ends:", not ended.done())
        print("stopping, the last that was started first")
        await node.stop(shop)


if __name__ == "__main__":
    run(main())
