"""The rules of the house that no linter knows."""

import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import ringcast

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("actors", "discovery", "runtime", "security")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def tracked(*patterns: str) -> list[Path]:
    """Return the files that git knows; whatever else lies about is nobody's business."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_every_package_on_disk_is_in_the_wheel() -> None:
    folders = {file.parent.relative_to(ROOT) for part in PARTS for file in (ROOT / part).rglob("*.py")}
    on_disk = {"ringcast", *(".".join(("ringcast", *folder.parts)) for folder in folders)}
    setuptools = PYPROJECT["tool"]["setuptools"]
    assert set(setuptools["packages"]) == on_disk
    places = {name: setuptools["package-dir"].get(name) for name in on_disk - {"ringcast"}}
    assert places == {name: name.removeprefix("ringcast.").replace(".", "/") for name in places}


@pytest.mark.parametrize("part", PARTS)
def test_checkout_shows_the_same_names_as_the_wheel(part: str) -> None:
    link = ROOT / "ringcast" / part
    assert link.is_symlink()
    assert link.resolve() == ROOT / part


def test_everything_exported_is_documented() -> None:
    exported = {name: getattr(ringcast, name).__doc__ or "" for name in ringcast.__all__}
    assert [name for name, doc in exported.items() if not doc] == []
    made_by_dataclass = [name for name, doc in exported.items() if doc.startswith(f"{name}(")]
    assert made_by_dataclass == []


@pytest.mark.parametrize(
    "module",
    [
        m
        for c in PYPROJECT["tool"]["importlinter"]["contracts"]
        if c["type"] == "forbidden"
        for m in c["source_modules"]
    ],
)
def test_pure_modules_exist(module: str) -> None:
    importlib.import_module(module)


def test_no_module_is_named_for_nothing() -> None:
    vague = {"utils", "util", "helpers", "common", "manager", "impl", "misc"}
    assert [file for file in tracked("*.py") if file.stem in vague] == []


def test_links_of_every_page_lead_somewhere() -> None:
    dead: list[str] = []
    for page in tracked("*.md"):
        targets = re.findall(r"\]\(([^)#\s]+)", page.read_text())
        files = [target for target in targets if not re.match(r"[a-z]+:", target)]
        dead += [f"{page.name}: {target}" for target in files if not (page.parent / target).exists()]
    assert dead == []


def test_examples_are_short() -> None:
    """Those that also start and kill processes may be longer."""
    lines = {file.name: len(file.read_text().splitlines()) for file in tracked("examples/*.py")}
    assert {name: n for name, n in lines.items() if n >= 80 and name not in ("census.py", "bank.py")} == {}


def test_no_file_knows_one_machine_or_one_registry() -> None:
    places = "|".join(
        (
            "/" + "root/",
            "/" + "work/",
            "/" + "home/[a-z]",
            "pypi" + r"\.org",
            "python" + "hosted",
            "npm" + "js",
        )
    )
    texts = [file for file in tracked() if file.suffix not in {".png", ".svg", ".gif"}]
    assert [str(f.relative_to(ROOT)) for f in texts if re.search(places, f.read_text(errors="replace"))] == []
