"""Print the files of the pure modules, as coverage wants them: one line, commas between.

The list itself stands in pyproject.toml, where import-linter keeps these modules from I/O and
from clocks; whatever is on it must also be covered, branch by branch.
"""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def pure_files() -> list[str]:
    """Return paths relative to the checkout, such as ``discovery/swim.py``."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    modules: list[str] = next(c["source_modules"] for c in contracts if c["type"] == "forbidden")
    return [module.removeprefix("ringcast.").replace(".", "/") + ".py" for module in modules]


if __name__ == "__main__":
    print(",".join(pure_files()))
