"""Real PostgreSQL and Redis servers, from Debian's packages: on the loopback, each in a folder of its own.

They are gone with what was in them when the block ends. Packages that are absent are installed for whoever wants that,
if it is possible.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NoServer", "Server", "postgresql_server", "redis_server"]

START = 30.0
"""Seconds for a server to answer."""


class NoServer(Exception):
    """There is no such server here; the text says why, and what to do."""


@dataclass
class Server:
    """A server that can be stopped and started again, on the same port with the same data.

    Attributes:
        address: What ``store=`` takes.
        port: Where it listens.
    """

    address: str
    port: int
    command: list[str]
    log: Path
    user: str | None = None
    goodbye: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return when it takes connections."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd="/", user=self.user)
        end = time.monotonic() + START
        while True:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"{self.command[0]} did not start:\n{self.log.read_text()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)  # a process of its own: there is nothing to wait for but its port

    def kill(self) -> None:
        """Kill it: what it had not written is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.send_signal(self.goodbye)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
            self.process = None


@contextmanager
def redis_server(*, install: bool = False) -> Iterator[Server]:
    """Run a Redis that loses nothing.

    Raises:
        NoServer: If it is not on this machine.
    """
    program = _program("redis-server", "redis-server", Path("/usr/bin"), install)
    with _folder(None) as folder:
        port = _free_port()
        server = Server(f"redis://127.0.0.1:{port}/0", port, [], folder / "log")
        options = {"port": port, "bind": "127.0.0.1", "dir": folder, "appendonly": "yes", "appendfsync": "always"}
        server.command = [program, *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
        server.command += ["--save", "", "--daemonize", "no"]
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def postgresql_server(*, install: bool = False) -> Iterator[Server]:
    """Run a PostgreSQL, as somebody else if we are root, which it refuses to be.

    Raises:
        NoServer: If it is not on this machine.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    program = _program("postgres", "postgresql", found[-1] if found else Path("/usr/lib/postgresql/15/bin"), install)
    user = _somebody() if os.getuid() == 0 else None
    with _folder(user) as folder:
        port = _free_port()
        data = folder / "data"
        make = [str(Path(program).parent / "initdb"), "-D", str(data), "-U", "ringcast", "-A", "trust", "--no-sync"]
        made = subprocess.run(make, capture_output=True, text=True, cwd="/", user=user, check=False)
        assert made.returncode == 0, made.stderr
        options = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": str(folder)}
        command = [
            program,
            "-D",
            str(data),
            *(part for one in options.items() for part in ("-c", "=".join(map(str, one)))),
        ]
        server = Server(f"postgresql://ringcast@127.0.0.1:{port}/postgres", port, command, folder / "log", user)
        server.goodbye = signal.SIGINT  # the one after which it does not wait for its clients
        server.start()
        _wait_until_ready(Path(program).parent, port)
        try:
            yield server
        finally:
            server.stop()


def _wait_until_ready(programs: Path, port: int) -> None:
    ask = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "10"]
    end = time.monotonic() + START
    while subprocess.run(ask, check=False).returncode:
        assert time.monotonic() < end, "PostgreSQL takes connections, and is not ready"
        time.sleep(0.05)


def _program(name: str, package: str, folder: Path, install: bool) -> str:
    """Return where a server's program is, after installing its package if that is wanted."""
    if (found := _find(name, folder)) is not None:
        return found
    if not install or os.getuid() or shutil.which("apt-get") is None:
        raise NoServer(f"{name} is not here: let root do apt-get install {package}")
    command = ["apt-get", "install", "-y", "--no-install-recommends", package]
    # The package's own service is not wanted.
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "RUNLEVEL": "1"})
    if (found := _find(name, folder)) is None:
        raise NoServer(f"{name} is not here, and apt-get install {package} failed: {done.stderr[-200:]}")
    return found


def _find(name: str, folder: Path) -> str | None:
    if (folder / name).exists():
        return str(folder / name)
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(newest[-1]) if newest else shutil.which(name)


def _somebody() -> str:
    """Return a user that servers may run as."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise NoServer("PostgreSQL does not run as root, and there is neither a user postgres nor nobody")


@contextmanager
def _folder(user: str | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ringcast-server-", ignore_cleanup_errors=True) as name:
        if user is not None:
            shutil.chown(name, user)
        yield Path(name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
