"""What ``store=`` takes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ringcast.errors import ConfigError
from ringcast.runtime.stores import store_at


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("memory:", "memory:"),
        ("sqlite:///state.db", "sqlite:///state.db"),
        ("sqlite:////var/lib/a%20b.db", "sqlite:////var/lib/a b.db"),
        ("postgresql://ann:pw@db:6432/shop?sslmode=require", "postgresql://db:6432/shop"),
        ("postgres://db/shop", "postgresql://db:5432/shop"),
        ("redis://:pw@cache/3", "redis://cache:6379/3"),
        ("rediss://cache:7000", "rediss://cache:7000"),
    ],
)
def test_addresses(address: str, name: str) -> None:
    assert store_at(address).name == name


def test_a_path_may_begin_at_home() -> None:
    assert store_at("sqlite:///~/x.db").name == f"sqlite:///{Path.home()}/x.db"


@pytest.mark.parametrize(
    "address", ["", "memory", "sqlite:", "sqlite:///", "sqlite://x", "mysql://x/y", "redis:", "redis:///0"]
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ConfigError, match=r"it takes memory:, sqlite:///path"):
        store_at(address)


def test_a_wrong_address_does_not_show_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        store_at("mysql://ann:secret@db/shop")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("scheme", "package"), [("postgresql", "asyncpg"), ("redis", "redis")])
def test_a_driver_that_is_missing_is_named_with_its_extra(
    scheme: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(sys.modules, f"ringcast.runtime.stores.{scheme}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=rf"pip install 'ringcast\[{scheme}\]'"):
        store_at(f"{scheme}://host/0")
