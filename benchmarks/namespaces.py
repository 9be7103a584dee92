"""A small LAN inside this machine: network namespaces on one bridge.

Each host has an interface ``eth0`` with an address of its own and a loopback of its own; nothing is
routed anywhere else. All of it is gone at the end, whatever happened.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """One host of the LAN."""

    namespace: str
    address: str

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs `words` on this host."""
        return ["ip", "netns", "exec", self.namespace, *words]


def why_not() -> str | None:
    """Return why this machine cannot make namespaces, or None if it can."""
    if shutil.which("ip") is None:
        return "there is no `ip` command (Debian: iproute2)"
    name = f"rct{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces cannot be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return None


@contextlib.contextmanager
def lan(count: int) -> Iterator[Sequence[Host]]:
    """Make a bridge with so many hosts, 10.77.0.1 and on; remove everything at the end."""
    stem = f"rc{os.getpid()}"
    switch = f"{stem}s"
    hosts = [Host(f"{stem}h{number}", f"10.77.0.{number}") for number in range(1, count + 1)]
    with contextlib.ExitStack() as undo:
        _add(undo, switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        _ip("-n", switch, "link", "set", "br0", "up")
        for number, host in enumerate(hosts, 1):
            _add(undo, host.namespace)
            port = f"p{number}"
            peer = ("peer", "name", "eth0", "netns", host.namespace)
            _ip("-n", switch, "link", "add", port, "type", "veth", *peer)
            _ip("-n", switch, "link", "set", port, "master", "br0", "up")
            _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "lo", "up")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
        yield hosts


def _add(undo: contextlib.ExitStack, namespace: str) -> None:
    _ip("netns", "add", namespace)
    undo.callback(_ip, "netns", "delete", namespace)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")
