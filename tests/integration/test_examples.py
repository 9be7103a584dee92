"""Each example runs as its first lines say, and prints what they promise."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import ModuleType

import httpx
import pytest
from fastapi import FastAPI

from ringcast.security.private import write_private
from ringcast.security.secret import Secret, new_key

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def output_of(example: str, *arguments: str) -> str:
    """Run an example to its end; return what it prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{example}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "RINGCAST_LOG": "warning"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def loaded(example: str) -> ModuleType:
    """Import an example, which stays importable for as long as its actors are in use."""
    found = importlib.util.spec_from_file_location(example, EXAMPLES / f"{example}.py")
    assert found is not None
    assert found.loader is not None
    module = sys.modules[example] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_counter() -> None:
    assert output_of("counter") == "2\n3\n0 1 2\n"


def test_chat_is_heard_by_all_in_one_order() -> None:
    heard = "['ann: hello', 'bob: hello, ann', 'ann: bye']"
    *hearers, last = output_of("chat").splitlines()
    assert sorted(hearers) == [f"ann hears {heard}", f"bob hears {heard}"]
    assert last == "the room has 0 listeners"


def test_a_notebook_class_runs_in_a_process_that_never_saw_its_code() -> None:
    assert output_of("notebook") == "mean 2.0, counted by another process: True\nmedian 3.0\n"


def test_a_client_calls_what_it_may_from_outside() -> None:
    taken, closed, left_out = output_of("client").splitlines()
    assert taken == "items in the cart: 1"
    assert closed.startswith("refused: client:Cart['ann']: Cart.empty is not exposed to clients")
    assert left_out == "refused: the credential of client web allows Cart.add, Cart.empty; not Cart.items"


def test_the_mistake_says_what_it_is_and_what_to_do() -> None:
    error, after = output_of("cycle_mistake").splitlines()
    assert error.startswith("CallCycle: cycle_mistake:Left['l'].note was called by a chain of asks")
    assert "make the call with tell()" in error
    assert after == "the log of Left: ['told']"


def test_supervision_restarts_in_order_and_says_why() -> None:
    command = [sys.executable, str(EXAMPLES / "supervision.py")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "RINGCAST_LOG": "info"}
    )
    up = [f"  {name} is up" for name in ("database", "cache", "web")]
    assert done.stdout.splitlines() == [
        *up,
        "started, 200 OK",
        "  cache stops: failed",
        "  web stops: restarting",
        *up[1:],
        "the cache is back, 200 OK",
        "  database stops: failed",
        "  web stops: restarting",
        "  cache stops: restarting",
        "the database comes back",
        *up,
        "the page, 200 OK",
        "restarts are no ends: True",
        "stopping, the last that was started first",
        "  web stops: stopped",
        "  cache stops: stopped",
        "  database stops: stopped",
    ]
    assert "actor starts again" in done.stderr
    assert "the database is away" in done.stderr


def test_no_cent_is_lost_by_kills() -> None:
    *kills, transfers, money = output_of("bank", "--transfers", "150", "--kills", "2").splitlines()
    assert [line.split()[:2] for line in kills] == [["killed", "a"]] * 2
    done, refused = (int(part.split()[-2]) for part in transfers.split(";")[0].split(","))
    assert done + refused == 150
    assert done > 0
    assert money == "money: 2,000,000 cents before, 2,000,000 after, each account right"


def test_service_under_uvicorn() -> None:
    assert output_of("service") == "{'visits': 1}\n{'visits': 2}\n"


async def test_service_in_process() -> None:
    app = loaded("service").app
    assert isinstance(app, FastAPI)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        assert (await client.get("/ready")).status_code == 503
        async with app.router.lifespan_context(app):
            assert (await client.get("/ready")).json() == "ready"
            visits = [(await client.get(f"/visit/{page}")).json() for page in ("a", "b", "a")]
            assert visits == [{"visits": 1}, {"visits": 1}, {"visits": 2}]
        assert (await client.get("/ready")).status_code == 503


def test_two_processes_with_one_secret_share_a_board(tmp_path: Path) -> None:
    secret = tmp_path / "lan.secret"
    write_private(secret, Secret((new_key(time.time()),)).render())
    command = [sys.executable, str(EXAMPLES / "lan.py"), str(secret), "--listen", "127.0.0.1:0", "--interval", "0.05"]
    quiet = {**os.environ, "RINGCAST_LOG": "error"}
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=quiet))
            for _ in range(2)
        )
        for process in (first, second):
            stack.callback(process.terminate)
            limit = threading.Timer(60, process.kill)
            limit.start()
            stack.callback(limit.cancel)
        assert first.stdout is not None
        assert second.stdout is not None
        of_second = second.stdout.readline().split()[2]
        wanted = [f"+ {of_second} at 127.0.0.1:", f"the one before is by {socket.gethostname()} {of_second}"]
        for line in first.stdout:  # it sees the other come, and reads what that one has written
            wanted = [words for words in wanted if words not in line]
            if not wanted:
                break
        assert wanted == []


def test_each_example_has_a_test() -> None:
    here = Path(__file__)
    tests = here.read_text() + here.with_name("test_census.py").read_text()
    untested = [file.stem for file in EXAMPLES.glob("*.py") if f'"{file.stem}' not in tests]
    assert untested == []


@pytest.mark.parametrize("example", [file.stem for file in sorted(EXAMPLES.glob("*.py"))])
def test_the_first_lines_say_how_to_run_it_and_what_to_expect(example: str) -> None:
    text = (EXAMPLES / f"{example}.py").read_text().split('"""')[1]
    assert f"python examples/{example}.py" in text
    assert "Expect " in text
