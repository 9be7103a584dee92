"""`ringcast up --workers N`: N processes, each a node, and one more that keeps them.

Each worker holds one end of a socket, its *lifeline*, and the supervisor the other. The worker
says on it that it is ready; the supervisor's end closes when the supervisor is gone, however it
went, and then the worker leaves. So no worker outlives its supervisor, even one that was killed.

A worker that ends, in whatever way, is started again, later and later while it fails. Workers
that end one after another before any was ready cannot start at all: then everything stops.

Workers are in process groups of their own: Ctrl-C at a terminal reaches the supervisor alone,
which tells each worker once. Only processes that were started here are ever ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Mapping, Sequence

from ringcast.logger import get_logger

READY = b"R"
ATTEMPTS = 3
"""Workers in a row that end before they are ready, until the supervisor gives up."""
FIRST_DELAY = 0.2
LAST_DELAY = 30.0
"""Seconds before a worker is started again: doubles with each end in a row."""
STEADY = 30.0
"""Seconds after which a worker that was ready has shown that it runs."""


class Workers:
    """Keeps `count` processes of one command running."""

    def __init__(self, command: Sequence[str], count: int, environment: Mapping[str, str]) -> None:
        """Take the command, which must accept a lifeline as its standard input, and its environment."""
        self._command = command
        self._count = count
        self._environment = environment
        self._processes: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._never_ready = 0
        self._gave_up = False
        self._log = get_logger("ringcast.workers")

    async def run(self) -> int:
        """Run until told to stop; return the exit code: 0, or 1 if the workers cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        await asyncio.gather(*(self._keep() for _ in range(self._count)))
        return 1 if self._gave_up else 0

    def _stop(self) -> None:
        """Tell every worker to leave; the second time it ends them at once, as a second signal does."""
        self._stopping.set()
        for process in self._processes:
            _tell(process)

    async def _keep(self) -> None:
        delay = FIRST_DELAY
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            begun = loop.time()
            code, was_ready, pid = await self._run_one()
            if self._stopping.is_set():
                return
            self._never_ready = 0 if was_ready else self._never_ready + 1
            if self._never_ready >= ATTEMPTS:
                self._gave_up = True
                self._log.critical("workers end before they are ready, so all stop", attempts=ATTEMPTS)
                self._stop()
                return
            if was_ready and loop.time() - begun > STEADY:
                delay = FIRST_DELAY
            self._log.error("a worker has ended and is started again", pid=pid, exit_code=code, after_s=delay)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            delay = min(2 * delay, LAST_DELAY)

    async def _run_one(self) -> tuple[int, bool, int]:
        """Run one worker to its end; return its exit code, whether it ever was ready, and its pid."""
        lifeline, its_end = socket.socketpair()
        with lifeline:
            lifeline.setblocking(False)
            with its_end:
                process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=its_end.fileno(), process_group=0, env=self._environment
                )
            self._processes.add(process)
            if self._stopping.is_set():  # told while it was being made
                _tell(process)
            ready = asyncio.create_task(_said(lifeline))
            ready.add_done_callback(self._ready)
            code = await process.wait()
            self._processes.discard(process)
            ready.cancel()
            await asyncio.wait({ready})
            return code, not ready.cancelled() and ready.result(), process.pid

    def _ready(self, said: asyncio.Task[bool]) -> None:
        if not said.cancelled() and said.result():
            self._never_ready = 0


def _tell(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)


async def _said(lifeline: socket.socket) -> bool:
    """Return whether the worker says that it is ready, before its end of the lifeline closes."""
    with contextlib.suppress(OSError):
        return await asyncio.get_running_loop().sock_recv(lifeline, 1) == READY
    return False
