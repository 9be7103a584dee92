"""Machines that fall silent, one after the other: each is missed as soon as the first was."""

from __future__ import annotations

import asyncio

from ringcast import NodeConfig
from ringcast.testing import cluster, simulated

LONGEST = 4.5
"""Seconds until nobody has a silent machine in its view; 6 is promised, on machines that do other things, too."""


@simulated
async def test_who_was_silent_itself_does_not_hold_up_the_finding_of_others() -> None:
    """It had missed the answers of all others, and took itself for the one in trouble long after it was back."""
    async with cluster(5, config=NodeConfig(profile="lan")) as c:
        for number in range(8):
            victim = number % 5
            others = [one for one in range(5) if one != victim]
            silent = c.node(victim).node.id

            def is_missed(others: list[int] = others, silent: str = silent) -> bool:
                return all(silent not in {member.id for member in c.node(one).node.members} for one in others)

            await c.partition([victim], others)
            assert await c.until(is_missed, 20, "the view without the silent one") < LONGEST
            await c.heal()
            await c.settled()
            await asyncio.sleep(1)
