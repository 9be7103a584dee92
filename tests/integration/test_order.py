"""Messages of one sender to one actor are handled in the order sent, whatever their size."""

from ringcast import Actor, Node, Seeds, tell


class Scroll(Actor):
    def __init__(self) -> None:
        self._lengths: list[int] = []

    async def append(self, text: str | bytes) -> int:
        self._lengths.append(len(text))
        return len(self._lengths)

    async def lengths(self) -> list[int]:
        return self._lengths


async def test_small_message_does_not_overtake_a_large_one() -> None:
    large = bytes(4 << 20)  # many pieces, of which only a window's worth may be under way
    async with (
        Node(cluster="order", discovery=[]) as server,
        Node(cluster="order", discovery=[Seeds([server.address])], hosts=[]) as client,
    ):
        await server.wait_for_members(2, timeout=10)
        await client.wait_for_members(2, timeout=10)
        scroll = client.ref(Scroll, "one")
        await tell(scroll.append, "x")
        await tell(scroll.append, large)
        await scroll.append("yy")
        await tell(scroll.append, large)
        await tell(scroll.append, "zzz")
        assert await scroll.lengths() == [1, len(large), 2, len(large), 3]
