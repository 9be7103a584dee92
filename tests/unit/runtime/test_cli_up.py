"""`ringcast up` before it runs: its options, and the modules that it imports."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner, Result

from ringcast.runtime import cli_up
from ringcast.runtime.cli import cli
from ringcast.runtime.cli_up import Up, import_modules, serve, up
from ringcast.runtime.node import Node
from ringcast.runtime.workers import READY


def ringcast_up(*arguments: str) -> Result:
    named = ("CLUSTER", "LISTEN", "ADVERTISE", "DISCOVERY", "LABELS", "HOSTS", "SECRET", "SECRET_FILE")
    cleared: dict[str, str | None] = {f"RINGCAST_{name}": None for name in named}
    return CliRunner().invoke(cli, ["up", *arguments], env=cleared)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--listen", "7400"], "takes 'host:port'"),
        (["--listen", "0.0.0.0:0"], "is open to other machines"),
        (["--label", "gpu"], "'gpu' is not of the form name=value"),
        (["--label", "=1"], "'=1' is not of the form name=value"),
        (["--dns", "shop"], "'shop' is not of the form name:port"),
        (["--seed", "there"], "Seeds takes a list of 'host:port'"),
        (["--alone", "--seed", "127.0.0.1:7400"], "--alone looks for nobody"),
        (["--cluster", ""], "it takes a name of 1 to 100 characters"),
        (["--cluster", "a\nb"], "characters that can be read"),
        (["--workers", "0"], "0 is not in the range x>=1"),
        (["--secret", "/nowhere/secret"], "the cluster secret /nowhere/secret cannot be read"),
        (["--tls-ca", "ca.pem", "--tls-key", "key.pem"], "--tls-ca, --tls-cert and --tls-key go together"),
        (["--workers", "3", "--listen", "127.0.0.1:7400-7401"], "names 2 port(s) for 3 workers"),
    ],
)
def test_wrong_options_are_exit_code_2_and_say_what_is_taken(arguments: list[str], said: str) -> None:
    result = ringcast_up(*arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["shop", "shop.carts"],
        ["--alone", "--json", "--", "-shop"],
        ["shop", "--cluster", "a b", "--listen", "127.0.0.1:7400-7401", "--advertise", "localhost"],
        ["shop", "--secret", "a file", "--tls-ca", "ca.pem", "--tls-cert", "cert.pem", "--tls-key", "key.pem"],
        [
            "--seed",
            "127.0.0.1:1",
            "--seed",
            "127.0.0.1:2",
            "--dns",
            "shop.svc:7400",
            "--label",
            "a=b=c",
            "--label",
            "d=",
        ],
    ],
)
def test_a_worker_is_asked_for_the_same(arguments: list[str]) -> None:
    wanted = parsed(arguments)
    assert parsed(wanted.arguments()) == wanted


def parsed(arguments: list[str]) -> Up:
    params: dict[str, Any] = up.make_context("up", list(arguments)).params
    return Up(**{name: value for name, value in params.items() if name not in ("workers", "lifeline")})


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


def test_modules_of_the_current_directory_come_first(here: Path) -> None:
    (here / "shop_of_here.py").write_text("found = True\n")
    import_modules(["shop_of_here"])
    assert sys.modules["shop_of_here"].found
    assert sys.path[0] == str(here)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing_shop", "cannot import module 'missing_shop': there is no 'missing_shop' in "),
        ("missing_shop.carts", "cannot import module 'missing_shop.carts': there is no 'missing_shop' in "),
        ("broken_shop", "cannot import module 'broken_shop': ZeroDivisionError: division by zero ("),
        (
            "needy_shop",
            "cannot import module 'needy_shop': ModuleNotFoundError: No module named 'missing_part'",
        ),
        ("broken_shop.py", "cannot import module 'broken_shop.py': "),
        ("empty_shop.py", "give the module's name, empty_shop"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_reason(here: Path, name: str, said: str) -> None:
    (here / "broken_shop.py").write_text("1 / 0\n")
    (here / "needy_shop.py").write_text("import missing_part\n")
    (here / "empty_shop.py").write_text("")
    with pytest.raises(click.ClickException) as caught:
        import_modules([name])
    assert said in caught.value.message


def test_the_place_of_an_error_is_the_users_own_line(here: Path) -> None:
    (here / "broken_shop.py").write_text("\n\n1 / 0\n")
    with pytest.raises(click.ClickException, match=r"broken_shop\.py, line 3\)"):
        import_modules(["broken_shop"])


def test_a_module_that_cannot_be_imported_is_exit_code_1(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(main: object) -> None:
        pytest.fail("it must not start")

    monkeypatch.setattr(cli_up, "run", run)
    result = ringcast_up("missing_shop", "--alone")
    assert result.exit_code == 1
    assert "cannot import module 'missing_shop'" in result.stderr


class FakeNode:
    """Starts and ends when the test says so."""

    id, address, cluster, members = "one", "127.0.0.1:1", "shop", ()
    was_drained = False

    def __init__(self) -> None:
        self.may_start = asyncio.Event()
        self.ended = asyncio.Event()
        self.did: list[str] = []

    async def start(self) -> None:
        self.did.append("start")
        try:
            await self.may_start.wait()
        except asyncio.CancelledError:
            self.did.append("cancelled")
            raise

    async def events(self) -> AsyncIterator[None]:
        await self.ended.wait()
        for _ in range(0):
            yield None

    async def leave(self) -> None:
        self.did.append("leave")


def serving(node: FakeNode, lifeline: socket.socket | None = None) -> asyncio.Task[bool]:
    return asyncio.create_task(serve(cast("Node", node), parsed(["--json"]), lifeline))


async def test_a_worker_says_that_it_is_ready_and_leaves_when_its_supervisor_is_gone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    node = FakeNode()
    node.may_start.set()
    ours, its = socket.socketpair()
    with ours:
        ours.setblocking(False)
        task = serving(node, its)
        assert await asyncio.get_running_loop().sock_recv(ours, 1) == READY
        assert json.loads(capsys.readouterr().out)["event"] == "ready"
        assert node.did == ["start"]
    assert await task
    assert node.did == ["start", "leave"]


async def test_told_while_it_starts_it_starts_no_further() -> None:
    node = FakeNode()
    ours, its = socket.socketpair()
    task = serving(node, its)
    ours.close()
    assert await task
    assert node.did == ["start", "cancelled"]


async def test_a_node_that_stops_by_itself_was_not_told() -> None:
    node = FakeNode()
    node.may_start.set()
    node.ended.set()
    assert not await serving(node)
