"""The second process: it says where it listens, and ends with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from types import TracebackType
from typing import Self


class Child:
    """Runs ``python -m MODULE server`` until the block ends.

    Attributes:
        address: What the child gave to `ready`.
    """

    def __init__(self, module: str, cpu: int | None = None, *more: str) -> None:
        """Start it; on core `cpu` alone, if that is given. `more` is for the module."""
        command = [sys.executable, "-m", module, "server", "" if cpu is None else str(cpu), *more]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip()
        if not self.address:
            raise RuntimeError("the server process ended before it was ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with self._process as process:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def ready(address: str) -> None:
    """Tell the parent, from the child, and end the process when the parent closes its end."""

    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    print(address, flush=True)
    threading.Thread(target=watch, daemon=True).start()


def pin(cpu: int) -> None:
    """Keep this process, and whatever it starts from now on, on one core."""
    os.sched_setaffinity(0, {cpu})
