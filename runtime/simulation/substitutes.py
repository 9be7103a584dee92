"""What stands in for the outside world while a simulation runs: clocks, chance, sockets, files, threads and logs.

The runtime has no parameter for each of these, and pays nothing for being simulated: its modules import
`time.monotonic`, `socket`, `os.urandom` and so on as any program does. While a simulation runs, each of
these names in the modules of ringcast, and in those that define actors, stands for a substitute; at the end
every name is what it was. A module that is loaded meanwhile is found at the next node's start.

Tried and rejected: a clock as a parameter (one look-up more on each call's way), and replacing functions in
`time` itself (threads and test runners read it, too).
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import structlog

from ringcast import logger

from ...actors.actor import defined_modules
from ...discovery import archive, membership
from ...discovery.disk import Folder
from ...discovery.profile import Profile
from ...discovery.share import Share
from ...discovery.threads import LoopThread, TickThread
from ...security import authority
from ..config import PROFILES
from ..logs import set_up_logs
from ..stores import sqlite
from .disk import VirtualFolder
from .threads import ContestedShare, VirtualLoopThread, VirtualTickThread

if TYPE_CHECKING:
    from .machine import Clock, Process
    from .world import World

OURS = "ringcast."
LATE = (archive, authority, membership, sqlite)
"""What else a node would load while the simulation runs: here before, so that no name in them is missed."""

NOT_OURS = ("ringcast.runtime.simulation", "ringcast.testing", "ringcast.pytest_plugin")


class StandIn:
    """A module with some names replaced; the others are the real one's."""

    def __init__(self, real: ModuleType, names: dict[str, Any]) -> None:
        """Stand in for `real`."""
        self.__dict__.update(names)
        self._real = real

    def __getattr__(self, name: str) -> Any:
        """Return what the real module has."""
        return getattr(self._real, name)


class Substitutes:
    """What stands in for what, in one simulation."""

    def __init__(self, world: World, log: Callable[..., None], profile: Profile, modules: Iterable[str]) -> None:
        """Make the substitutes; `install` puts them in place.

        Args:
            world: Whose time it is.
            log: Takes each log entry: level, event, and its values.
            profile: The membership's numbers.
            modules: Names of further modules that are to see the simulated world.
        """
        self._world = world
        self._entropy = world.random("entropy")
        self._modules = tuple(modules)
        self._replaced: list[tuple[dict[str, Any], str, Any]] = []
        self._seen: set[int] = set()
        self._table = self._made(log, profile)

    def _made(self, log: Callable[..., None], profile: Profile) -> dict[int, tuple[Any, Any]]:
        world, entropy = self._world, self._entropy

        def process() -> Process:
            assert world.current is not None, "nobody's code runs now"
            return world.current.process

        def clock() -> Clock:
            return process().machine.clock

        def monotonic() -> float:
            loop = world.current
            assert loop is not None
            return loop.time()

        def wall() -> float:
            loop = world.current
            assert loop is not None
            return clock().wall + (world.now + loop.lead) * clock().rate

        def sleep(seconds: float) -> None:
            assert world.current is not None
            world.current.block(seconds)

        def unpredictable(seed: object = None) -> random.Random:
            return random.Random(entropy.getrandbits(64) if seed is None else seed)  # type: ignore[arg-type]

        def uuid4() -> uuid.UUID:
            return uuid.UUID(int=entropy.getrandbits(128), version=4)

        def open_socket(
            family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0, fileno: object = None
        ) -> Any:
            return process().open_socket(family, kind, proto)

        def getaddrinfo(host: object, port: object, *args: int, **options: int) -> list[Any]:
            return process().machine.resolve(host, port, options.get("type", socket.SOCK_STREAM))

        def folder(path: str | os.PathLike[str]) -> VirtualFolder:
            return VirtualFolder(process().machine.disk, os.fspath(path))

        def number() -> int:
            return process().number

        def clock_gettime(which: int) -> float:
            return monotonic()

        def get_logger(*names: object, **values: Any) -> Log:
            return Log(log, values)

        functions: dict[Any, Any] = {
            time.monotonic: monotonic,
            time.perf_counter: monotonic,
            time.time: wall,
            time.time_ns: lambda: int(wall() * 1e9),
            time.monotonic_ns: lambda: int(monotonic() * 1e9),
            time.clock_gettime: clock_gettime,
            time.sleep: sleep,
            os.urandom: entropy.randbytes,
            os.getpid: number,
            uuid.uuid4: uuid4,
            secrets.token_bytes: lambda count=32: entropy.randbytes(count),
            secrets.token_hex: lambda count=32: entropy.randbytes(count).hex(),
            socket.socket: open_socket,
            socket.getaddrinfo: getaddrinfo,
            random.Random: unpredictable,
            Folder: folder,
            Share: partial(ContestedShare, world),
            LoopThread: partial(VirtualLoopThread, world),
            TickThread: partial(VirtualTickThread, world),
            structlog.get_logger: get_logger,
            logger.get_logger: get_logger,
            set_up_logs: lambda: None,
        }
        for name in (
            "random",
            "randint",
            "randrange",
            "choice",
            "choices",
            "shuffle",
            "sample",
            "uniform",
            "getrandbits",
        ):
            functions[getattr(random, name)] = getattr(entropy, name)
        table = {id(real): (real, substitute) for real, substitute in functions.items()}
        for real in (time, os, uuid, secrets, socket, random, structlog):
            names = {name: table[id(value)][1] for name, value in vars(real).items() if id(value) in table}
            table[id(real)] = (real, StandIn(real, names))
        # All machines have loopback addresses.
        table[id(PROFILES)] = (PROFILES, {**PROFILES, "local": profile})
        return table

    def install(self) -> None:
        """Put the substitutes in place, in modules that do not have them yet."""
        theirs = {*self._modules, *defined_modules()}
        table = self._table
        for name, module in list(sys.modules.items()):
            if id(module) in self._seen or not (name.startswith(OURS) or name in theirs) or name.startswith(NOT_OURS):
                continue
            self._seen.add(id(module))
            names = vars(module)
            for key, value in list(names.items()):
                found = table.get(id(value))
                if found is not None and found[0] is value:
                    self._replaced.append((names, key, value))
                    names[key] = found[1]

    def remove(self) -> None:
        """Put every name back."""
        for names, key, value in reversed(self._replaced):
            names[key] = value
        self._replaced.clear()
        self._seen.clear()


class Log:
    """A logger that keeps what is said for whoever runs the simulation."""

    __slots__ = ("_take", "_values")

    def __init__(self, take: Callable[..., None], values: dict[str, Any]) -> None:
        """Say these values with each entry."""
        self._take = take
        self._values = values

    def bind(self, **values: Any) -> Log:
        """Return one that says these values, too."""
        return Log(self._take, {**self._values, **values})

    def debug(self, event: str, **values: Any) -> None:
        """Nobody asked for it."""

    def info(self, event: str, **values: Any) -> None:
        """Log."""
        self._take("info", event, {**self._values, **values})

    def warning(self, event: str, **values: Any) -> None:
        """Log."""
        self._take("warning", event, {**self._values, **values})

    def error(self, event: str, **values: Any) -> None:
        """Log."""
        self._take("error", event, {**self._values, **values})

    def exception(self, event: str, **values: Any) -> None:
        """Log, with the error that is being handled."""
        self._take("error", event, {**self._values, "exc_info": sys.exc_info()[1], **values})

    def critical(self, event: str, **values: Any) -> None:
        """Log."""
        self._take("critical", event, {**self._values, **values})


_running = threading.Lock()
"""Held while a simulation runs: two at a time would have one set of names."""


def claim() -> None:
    """Begin a simulation.

    Raises:
        RuntimeError: If one runs already in this process.
    """
    if not _running.acquire(blocking=False):
        raise RuntimeError("a simulation runs already in this process: one at a time")


def release() -> None:
    """End it."""
    _running.release()
