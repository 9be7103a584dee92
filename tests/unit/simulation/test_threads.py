"""The same for both: a node's threads as they are, and as they are simulated."""

from __future__ import annotations

import asyncio

import pytest

from ringcast.discovery import threads
from ringcast.discovery.threads import LoopThread, TickThread

from .worlds import Run, both


@both
def test_a_loop_thread_runs_to_its_end_and_tells(run: Run[None]) -> None:
    async def main() -> None:
        here, ended, told = asyncio.get_running_loop(), asyncio.Event(), list[object]()

        async def work(loop: asyncio.AbstractEventLoop) -> None:
            assert asyncio.get_running_loop() is loop
            assert loop is not here
            told.append("begun")
            await asyncio.sleep(0.05)
            raise ValueError("the end")

        def on_end(error: BaseException | None) -> None:
            told.append(str(error))
            here.call_soon_threadsafe(ended.set)

        thread = threads.LoopThread("one", work, on_end)
        thread.start()
        thread.call(told.append, "called")
        await ended.wait()
        thread.join()
        assert told[-1] == "the end"
        assert set(told) == {"begun", "called", "the end"}
        assert not thread.is_alive()
        thread.call(told.append, "too late")
        assert "too late" not in told

    run(main)


@both
def test_a_tick_thread_ticks_until_it_is_told_or_has_enough(run: Run[None]) -> None:
    async def main() -> None:
        counts = {"stopped": 0, "enough": 0}

        def tick() -> bool:
            counts["stopped"] += 1
            return True

        def few() -> bool:
            counts["enough"] += 1
            return counts["enough"] < 3

        one, other = threads.TickThread("one", 0.01, tick), threads.TickThread("other", 0.01, few)
        one.start()
        other.start()
        async with asyncio.timeout(20):
            while counts["stopped"] < 5 or counts["enough"] < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        one.stop()
        await asyncio.sleep(0.05)
        stopped_at = counts["stopped"]
        await asyncio.sleep(0.1)
        assert counts == {"stopped": stopped_at, "enough": 3}

    run(main)


def test_the_real_ones_are_there_outside_of_a_simulation() -> None:
    assert threads.LoopThread is LoopThread
    assert threads.TickThread is TickThread
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
