"""`import ringcast` loads what a program that only defines actors needs, and nothing that takes long."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATER = {
    "rich": "when logs are set up (structlog brings it)",
    "structlog": "when there is a node or a client, which log",
    "cryptography": "when there is a secret or a certificate",
    "sqlite3": "when the store is a file",
    "asyncpg": "when the store is PostgreSQL",
    "redis": "when the store is Redis",
    "zeroconf": "when a node looks for others by multicast",
    "cloudpickle": "when something is pickled",
    "uvloop": "when `run` makes a loop",
    "click": "for the command only",
    "numpy": "when the application has it",
    "pydantic": "when the application has it",
    "msgspec": "when the application has it",
    "uvicorn": "never",
    "pytest": "for tests only",
    "ringcast.discovery.membership": "when there is a node",
    "ringcast.discovery.agreement_messages": "with the membership",
    "ringcast.runtime.cli": "for the command only",
    "ringcast.runtime.simulation": "for tests only",
    "ringcast.security.authority": "when something is signed",
    "ringcast.testing": "for tests only",
}
"""By module: when it is loaded."""

SHOW = "import sys; before = set(sys.modules); import ringcast; print(*(set(sys.modules) - before))"


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Return what the import has loaded, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", LATER)
def test_what_takes_long_is_loaded_when_it_is_needed(module: str, loaded: set[str]) -> None:
    assert module not in loaded, f"it is to be loaded {LATER[module]}; `python -X importtime` shows who does"


def test_what_is_public_is_there(loaded: set[str]) -> None:
    assert {"ringcast", "ringcast.runtime.node", "ringcast.runtime.client"} <= loaded
