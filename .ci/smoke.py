"""What must hold for the wheel, away from the checkout: real files, a command, one call."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import ringcast
from ringcast import Actor, Node, tell


class Counter(Actor):
    """Counts."""

    def __init__(self) -> None:
        self._value = 0

    async def add(self, n: int = 1) -> int:
        self._value += n
        return self._value


async def call() -> int:
    async with Node(discovery=[]) as node:
        hits = node.ref(Counter, "hits")
        await tell(hits.add, 1)
        return await hits.add(2)


def main() -> None:
    package = Path(ringcast.__file__).parent
    assert package.is_relative_to(sys.prefix), f"{package} is not the installed wheel"
    for part in ("actors", "discovery", "runtime"):
        assert (package / part / "__init__.py").is_file(), f"{part} is missing in the wheel"
        assert not (package / part).is_symlink(), f"{part} is a link in the wheel"
    assert (package / "py.typed").is_file()

    command = shutil.which("ringcast", path=str(Path(sys.executable).parent))
    assert command, "the wheel installs no command"
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert "0." in version, version

    assert asyncio.run(call()) == 3
    print("the wheel works:", version.strip())


if __name__ == "__main__":
    main()
