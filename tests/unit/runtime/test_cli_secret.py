"""`ringcast secret` as its user sees it: files, what is printed, what is refused. No nodes run here."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ringcast.runtime.cli import cli
from ringcast.security.credential import Credential
from ringcast.security.secret import Secret


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("RINGCAST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["secret", *arguments])


def told(*arguments: str) -> str:
    result = said(*arguments)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = said(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    return result.stderr


def test_a_new_secret_is_printed_or_put_into_a_private_file(here: Path) -> None:
    printed = told("new")
    assert len(printed.splitlines()) == 1
    key = Secret.parse(printed.encode(), "it").signing
    assert abs(key.made - time.time()) < 60
    shown = told("new", "secret")
    path = here / "secret"
    assert path.stat().st_mode & 0o777 == 0o600
    held = Secret.read(path).signing
    assert held.id in shown
    assert held != key
    assert held.line() not in shown


def test_a_file_that_is_there_is_not_overwritten(here: Path) -> None:
    told("new", "secret")
    before = (here / "secret").read_bytes()
    assert "is there already; `ringcast secret rotate secret` changes its key" in refused("new", "secret")
    assert (here / "secret").read_bytes() == before


def test_a_secret_is_shown_without_its_keys(here: Path) -> None:
    told("new", "secret")
    told("rotate", "secret")
    keys = Secret.read(here / "secret").keys
    table, document = told("show", "secret"), told("show", "secret", "--json")
    for key in keys:
        assert key.id in table
        for text in (table, document):
            assert key.line().rpartition(".")[2] not in text
    assert json.loads(document) == {
        "file": str(here / "secret"),
        "keys": [
            {"id": keys[0].id, "made": keys[0].made, "signs": True},
            {"id": keys[1].id, "made": keys[1].made, "signs": False},
        ],
    }


def test_without_a_file_it_is_the_one_that_a_node_would_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "cannot be read: No such file" in refused("show")
    assert not (here / "data").exists()  # looking makes none
    told("new", "data/ringcast/secret")
    assert json.loads(told("show", "--json"))["file"] == str(here / "data/ringcast/secret")
    told("new", "other")
    monkeypatch.setenv("RINGCAST_SECRET_FILE", str(here / "other"))
    assert json.loads(told("show", "--json"))["file"] == str(here / "other")
    monkeypatch.delenv("RINGCAST_SECRET_FILE")
    monkeypatch.setenv("RINGCAST_SECRET", told("new").strip())
    assert "the secret stands in RINGCAST_SECRET and not in a file" in refused("show")


def test_an_open_file_is_refused(here: Path) -> None:
    told("new", "secret")
    (here / "secret").chmod(0o640)
    for command in (["show", "secret"], ["rotate", "secret"]):
        assert "is open to others (mode 0640): chmod 600" in refused(*command)
    code = said("issue", "--role", "client", "--name", "web", "--secret", "secret", "--out", "web").exit_code
    assert code == 1
    assert not (here / "web").exists()


def issue(*arguments: str, name: str = "web", out: str = "web.pem") -> list[str]:
    return ["issue", "--name", name, "--out", out, "--secret", "secret", *arguments]


def test_a_clients_credential_says_what_it_may_and_until_when(here: Path) -> None:
    told("new", "secret")
    before = time.time()
    line = told(
        *issue("--role", "client", "--allow", "Cart.*", "--allow", "Shop.list", "--ttl", "30m", "--cluster", "shop")
    )
    assert "client web of cluster 'shop', until " in line
    assert "it may call Cart.*, Shop.list" in line
    path = here / "web.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    made = Credential.read(path)
    assert (made.identity.role, made.identity.cluster, made.identity.allow) == (
        "client",
        "shop",
        ("Cart.*", "Shop.list"),
    )
    assert abs(made.until - before - 1800) < 60
    shown = json.loads(told("show", "web.pem", "--json"))
    assert (shown["role"], shown["name"], shown["allow"]) == ("client", "web", ["Cart.*", "Shop.list"])
    assert shown["signed_by"] == Secret.read(here / "secret").signing.id
    assert "PRIVATE" not in told("show", "web.pem")


def test_a_credential_of_the_same_name_is_renewed_with_its_key(here: Path) -> None:
    told("new", "secret")
    told(*issue("--role", "node", "--ttl", "1h"))
    first = Credential.read(here / "web.pem")
    assert "renewed until" in told(*issue("--role", "node", "--ttl", "7d", "--allow", "Cart.*"))
    second = Credential.read(here / "web.pem")
    assert second.identity.key == first.identity.key
    assert second.leaf.key == first.leaf.key
    assert second.until > first.until
    assert second.identity.allow == ("Cart.*",)


@pytest.mark.parametrize(
    "other",
    [["--role", "client"], ["--role", "node", "--cluster", "elsewhere"], ["--role", "node", "--name", "till"]],
)
def test_another_ones_credential_and_other_files_are_not_overwritten(here: Path, other: list[str]) -> None:
    told("new", "secret")
    told(*issue("--role", "node"))
    before = (here / "web.pem").read_bytes()
    assert "is there already, and is the credential of node web of cluster 'default'" in refused(*issue(*other))
    assert (here / "web.pem").read_bytes() == before
    secret = (here / "secret").read_bytes()
    assert "is no credential" in refused(*issue("--role", "node", out="secret"))
    assert (here / "secret").read_bytes() == secret


@pytest.mark.parametrize("ttl", ["", "24", "h", "0h", "-1h", "1w", "9999d", "1e9s"])
def test_times_that_are_none_are_not_understood(here: Path, ttl: str) -> None:
    told("new", "secret")
    result = said(*issue("--role", "client", "--ttl", ttl))
    assert result.exit_code == 2
    assert "is no time such as 30m, 24h or 7d" in result.stderr


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800)])
def test_times(here: Path, text: str, seconds: float) -> None:
    told("new", "secret")
    told(*issue("--role", "client", "--ttl", text))
    assert abs(Credential.read(here / "web.pem").until - time.time() - seconds) < 60


def test_a_name_that_is_none_is_refused(here: Path) -> None:
    told("new", "secret")
    assert "it takes letters, digits" in refused(*issue("--role", "client", name="a/b"))
    assert not (here / "web.pem").exists()


def test_who_has_a_credential_only_can_neither_issue_nor_rotate(here: Path) -> None:
    told("new", "secret")
    told(*issue("--role", "node"))
    made = ["issue", "--role", "node", "--name", "x", "--out", "x.pem", "--secret", "web.pem"]
    assert "is a credential itself: only who has the secret can issue one" in refused(*made)
    assert "is a credential: `ringcast secret issue` renews it" in refused("rotate", "web.pem")


def test_adding_a_key_needs_no_node_and_promoting_it_does(here: Path) -> None:
    told("new", "secret")
    old = Secret.read(here / "secret")
    document = json.loads(told("rotate", "secret", "--json"))
    added = Secret.read(here / "secret")
    assert document == {
        "file": str(here / "secret"),
        "step": "add",
        "signs": old.signing.id,
        "accepts": [key.id for key in added.keys],
        "next": "promote",
    }
    assert added.keys[0] == old.signing
    nobody = refused("rotate", "secret", "--node", "127.0.0.1:9")
    assert "node 127.0.0.1:9: cannot be reached" in nobody
    assert "The nodes must be asked before this step is done" in nobody
    assert Secret.read(here / "secret") == added


def test_a_link_to_the_file_is_followed(here: Path) -> None:
    told("new", "real")
    (here / "link").symlink_to(here / "real")
    told("rotate", "link")
    assert (here / "link").is_symlink()
    assert len(Secret.read(here / "real").keys) == 2
