"""`ringcast` as a process: a module of actors, a cluster of its own, and what the commands say."""

import asyncio
import contextlib
import importlib
import json
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ringcast import Node, Seeds

LIMIT = 20.0
"""Seconds for anything here to happen: much longer than it takes, much shorter than for ever."""

SHOP = """
import asyncio
from ringcast import Actor, handler

class Counter(Actor):
    def __init__(self) -> None:
        self.count = 0

    async def add(self, n: int) -> int:
        self.count += n
        return self.count

    @handler(cancellable=True)
    async def sit(self) -> None:
        await asyncio.Event().wait()
"""


@dataclass
class Up:
    """A running `ringcast up --json`."""

    process: asyncio.subprocess.Process

    async def ready(self) -> dict[str, Any]:
        """Return what the next node to be ready says."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT):
            line = await self.process.stdout.readline()
        assert line, "it ended without being ready"
        told: dict[str, Any] = json.loads(line)
        assert told["event"] == "ready"
        return told

    async def code(self) -> int:
        """Return the exit code."""
        async with asyncio.timeout(LIMIT):
            return await self.process.wait()


@dataclass(frozen=True)
class Shop:
    """A directory with a module of actors, for a cluster of its own."""

    folder: Path
    module: str
    cluster: str

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        cleared = {name: value for name, value in os.environ.items() if not name.startswith("RINGCAST_")}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ringcast",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
            env=cleared | {"RINGCAST_CLUSTER": self.cluster, "RINGCAST_LOG": "error"} | environment,
        )

    async def say(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command to its end; return its exit code and what it wrote on stdout and stderr."""
        process = await self.start(*arguments)
        async with asyncio.timeout(LIMIT):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def tell(self, *arguments: str) -> dict[str, Any]:
        """Return the JSON document of a listing that finds nothing wrong."""
        code, out, err = await self.say(*arguments, "--json")
        assert (code, err) == (0, "")
        document: dict[str, Any] = json.loads(out)
        return document

    @asynccontextmanager
    async def up(self, *arguments: str, **environment: str) -> AsyncGenerator[Up, None]:
        process = await self.start("up", self.module, "--json", *arguments, **environment)
        try:
            yield Up(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(LIMIT):
                await process.communicate()

    def beside(self, address: str) -> Node:
        """Return a node that joins by that address, and hosts nothing itself."""
        return Node(cluster=self.cluster, discovery=[Seeds([address])], hosts=[])

    def load(self) -> ModuleType:
        return importlib.import_module(self.module)
