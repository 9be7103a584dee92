"""Other actor systems beside ours: scripts from outside this repository, each in an environment of its own.

The scripts stand in ``shared/bench`` beside the checkout, or where RINGCAST_PEER_SCRIPTS says, and their
``run_all.py`` is what runs one. PEERS_HOME names the folder of their environments; ``make peers`` makes those that a
plain package index has. Erlang needs ``erl``, ``erlc`` and ``epmd`` on the path. Whatever is missing is a reason in
the report, and no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "Peer", "absent", "main", "measure"]

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(os.environ.get("RINGCAST_PEER_SCRIPTS") or ROOT.parent / "shared" / "bench")
HOME = Path(os.environ.get("PEERS_HOME") or ROOT / ".venv-peers")
LOCAL = ("L1", "L2", "L3", "S1")
REMOTE = ("R1", "R1s", "R2", "R3", "R4")
LIMIT_S = 90


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them.

    Attributes:
        packages: What its environment holds; none for Erlang.
        python: The least version that they run on.
        share: Of the benchmarks' numbers of messages: the slow ones would take minutes.
    """

    name: str
    works: tuple[str, ...]
    packages: tuple[str, ...] = ()
    python: str = "3.11"
    share: float = 0.05


PEERS = (
    Peer("erlang", (*LOCAL, *REMOTE), share=1.0),
    Peer("casty", (*LOCAL, *REMOTE), ("casty", "uvloop"), "3.13", share=0.5),
    Peer("lapinbeam", (*LOCAL, *REMOTE), ("lapinbeam", "uvloop"), share=0.2),
    Peer("xoscar", (*LOCAL, *REMOTE), ("xoscar", "uvloop")),
    Peer("pykka", LOCAL, ("pykka",)),
    Peer("thespian", (*REMOTE, "S1"), ("thespian", "setproctitle")),
    Peer("ray", (*REMOTE, "S1"), ("ray",)),
)


def absent(peer: Peer) -> str | None:
    """Return why a peer cannot be measured here, or None."""
    if not (SCRIPTS / "run_all.py").is_file():
        return "its script is not beside the checkout (shared/bench, or RINGCAST_PEER_SCRIPTS)"
    if peer.packages:
        return None if (HOME / peer.name / "bin" / "python").exists() else "it has no environment: `make peers`"
    missing = [name for name in ("erl", "erlc", "epmd") if shutil.which(name) is None]
    return f"{', '.join(missing)} not on the path (erlang-base)" if missing else None


def measure(peer: Peer, work: str, unit: str, scale: str) -> float:
    """Run a peer's workload once, in fresh processes; return it in the row's unit.

    Raises:
        RuntimeError: With what it said, if it has no result.
    """
    share = float(scale) * peer.share
    scaled = {} if share == 1 else {"PEERS_SCALE": f"{share:g}"}
    env = {**os.environ, "PEERS_HOME": str(HOME), "PEERS_RUNS": "1", "PEERS_LIMIT_S": str(LIMIT_S), **scaled}
    command = [sys.executable, str(SCRIPTS / "run_all.py"), f"{peer.name}:{work}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S + 10, env=env)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no result within {LIMIT_S} s") from None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    key = {"us p50": "p50_us", "MB/s": "mb_s"}.get(unit, "ops_s")
    if key not in found:
        failures: list[dict[str, str]] = found.get("errors") or [{"error": f"exit {done.returncode}"}]
        tail = failures[0].get("tail", done.stderr).strip().splitlines()
        raise RuntimeError(f"{failures[0]['error']}: {tail[-1] if tail else 'no word'}"[:200])
    return float(found[key])


def _python(version: str) -> str | None:
    if sys.version_info >= tuple(map(int, version.split("."))):
        return sys.executable
    candidates = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}.*/bin/python")]
    return next((str(python) for python in candidates if python), None)


def main() -> int:
    """Make the environments of the peers that are named, or of all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="Make the peers' environments.")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=" ".join(p.name for p in PEERS if p.packages))
    wanted = parser.parse_args().peers
    failed = 0
    for peer in PEERS:
        folder = HOME / peer.name
        if not peer.packages or (wanted and peer.name not in wanted) or (folder / "bin" / "python").exists():
            continue
        python = _python(peer.python)
        print(f"{peer.name}: {'no Python ' + peer.python if python is None else folder}", flush=True)
        made = python is not None and not subprocess.run([python, "-m", "venv", str(folder)]).returncode
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *peer.packages]
        if not made or subprocess.run(pip).returncode:
            shutil.rmtree(folder, ignore_errors=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
