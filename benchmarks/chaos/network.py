"""What goes wrong on a LAN of namespaces: packets are dropped by nftables, cables are unplugged.

A host has one table of its own; each function here replaces it, and `heal` removes it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable

from benchmarks.namespaces import Host
from benchmarks.namespaces import why_not as no_namespaces

__all__ = ["cut_off", "deaf_to", "heal", "lossy", "plug", "silent", "unplug", "why_not", "without_udp"]


def why_not() -> str | None:
    """Return why this machine cannot do it, or None if it can."""
    if shutil.which("nft") is None:
        return "there is no `nft` command (Debian: nftables)"
    return no_namespaces()


def silent(host: Host) -> None:
    """Drop all that the host sends and receives."""
    _rules(host, ["drop"], ["drop"])


def cut_off(host: Host, others: Iterable[Host]) -> None:
    """Drop all between the host and these others, both ways."""
    addresses = _addresses(others)
    _rules(host, [f"ip saddr {addresses} drop"], [f"ip daddr {addresses} drop"])


def deaf_to(host: Host, others: Iterable[Host]) -> None:
    """Drop what these others send to the host; what it sends to them arrives."""
    _rules(host, [f"ip saddr {_addresses(others)} drop"], [])


def lossy(host: Host, percent: int) -> None:
    """Drop so many of a hundred datagrams that arrive at the host, at random."""
    _rules(host, [f"meta l4proto udp numgen random mod 100 < {percent} drop"], [])


def without_udp(host: Host) -> None:
    """Drop all datagrams; connections stay."""
    _rules(host, ["meta l4proto udp drop"], ["meta l4proto udp drop"])


def heal(host: Host) -> None:
    """Drop nothing any more."""
    _nft(host, "table inet chaos\ndelete table inet chaos\n")


def unplug(host: Host) -> None:
    """Take the host's interface down."""
    subprocess.run(["ip", "-n", host.namespace, "link", "set", "eth0", "down"], check=True)


def plug(host: Host) -> None:
    """Bring it up again."""
    subprocess.run(["ip", "-n", host.namespace, "link", "set", "eth0", "up"], check=True)


def _addresses(hosts: Iterable[Host]) -> str:
    return f"{{ {', '.join(host.address for host in hosts)} }}"


def _rules(host: Host, incoming: list[str], outgoing: list[str]) -> None:
    chains = "".join(
        f"chain {name} {{\ntype filter hook {name} priority 0; policy accept;\niifname lo accept\noifname lo accept\n"
        + "".join(f"{rule}\n" for rule in rules)
        + "}\n"
        for name, rules in (("input", incoming), ("output", outgoing))
    )
    _nft(host, f"table inet chaos\ndelete table inet chaos\ntable inet chaos {{\n{chains}}}\n")


def _nft(host: Host, text: str) -> None:
    done = subprocess.run(host.command("nft", "-f", "-"), input=text, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"nft: {done.stderr.strip()}")
