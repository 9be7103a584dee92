"""A client outside of the cluster: it may call what its credential, and the class, allow.

    python examples/client.py

Expect the shop's process to take an order from this one, which is no member, and two refusals: of a
handler that is closed to clients, and of one that the credential leaves out. All is on this machine; on
others the three steps are the same: ``ringcast secret new``, nodes with the secret, and ``ringcast
secret issue`` for those who are to call and not to have it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from ringcast import Actor, Client, Node, NotAllowed, handler, run

COMMAND = [sys.executable, "-m", "ringcast", "secret"]


class Cart(Actor, expose=True):
    """Open to clients, `empty` excepted."""

    def __init__(self) -> None:
        self._items: list[str] = []

    async def add(self, item: str) -> int:
        self._items.append(item)
        self.context.log.info("added", item=item, by=str(self.context.caller))
        return len(self._items)

    @handler(read_only=True)
    async def items(self) -> list[str]:
        return self._items

    @handler(expose=False)
    async def empty(self) -> None:
        self._items.clear()


async def shop(secret: str) -> None:
    """Run a node, in a process of its own, until that is ended."""
    async with Node(cluster="shop", secret=secret, discovery=[]) as node:
        print(node.address, flush=True)
        await asyncio.Event().wait()


async def customer(address: str, credential: Path) -> None:
    async with Client([address], credential=credential) as client:
        cart = client.ref(Cart, "ann")
        print("items in the cart:", await cart.add("tea"))
        for call in (cart.empty(), cart.items()):
            try:
                await call
            except NotAllowed as error:
                print("refused:", error)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        secret, credential = str(folder / "secret"), folder / "web.credential"
        subprocess.run([*COMMAND, "new", secret], check=True, stdout=subprocess.DEVNULL)
        issue = ["issue", "--role", "client", "--name", "web", "--allow", "Cart.add", "--allow", "Cart.empty"]
        issue += ["--cluster", "shop", "--secret", secret, "--out", str(credential)]
        subprocess.run([*COMMAND, *issue], check=True, stdout=subprocess.DEVNULL)
        with subprocess.Popen([sys.executable, __file__, secret], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                run(customer(process.stdout.readline().strip(), credential))
            finally:
                process.terminate()


if __name__ == "__main__":
    run(shop(sys.argv[1])) if sys.argv[1:] else main()
