"""Files that only their owner may read, and one for each user that is made when it is first needed."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from pathlib import Path

from ringcast.errors import ConfigError

__all__ = ["create_private", "read_private", "user_data", "write_private"]

_BYTES_MAX = 1 << 20


def read_private(path: Path, what: str) -> bytes:
    """Return what the file holds.

    Args:
        path: Where it is; links are followed.
        what: What it is called in errors, such as "the cluster secret".

    Raises:
        ConfigError: If it cannot be read, is no file, or others than its owner may read or write it.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise ConfigError(f"{what} {path} is no file; `ringcast secret new` makes one")
            if os.name == "posix":
                _check_private(path, what, found)
            data = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    if len(data) > _BYTES_MAX:
        raise ConfigError(f"{what} {path} is longer than {_BYTES_MAX} bytes: it is something else")
    return data


def _check_private(path: Path, what: str, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise ConfigError(f"{what} {path} is open to others (mode {mode:04o}): chmod 600 {path}")
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"{what} {path} belongs to user {found.st_uid}, not to user {os.geteuid()} who runs this")


def write_private(path: Path, text: str) -> None:
    """Replace the file at once and whole; a reader finds the old or the new one.

    Raises:
        ConfigError: If it cannot be written.
    """
    _put(path, text, os.replace)


def create_private(path: Path, text: str) -> bool:
    """Make the file whole, unless it is there: then return False.

    Raises:
        ConfigError: If it cannot be written.
    """
    try:
        _put(path, text, os.link if hasattr(os, "link") else os.rename)
    except FileExistsError:
        return False
    return True


def _put(path: Path, text: str, move: object) -> None:
    assert callable(move)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            move(name, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
    except FileExistsError:
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror or error}") from error


def user_data() -> Path:
    """Return the folder for this user's data of ringcast; it need not be there.

    Raises:
        ConfigError: If this user has no home.
    """
    if named := os.environ.get("XDG_DATA_HOME"):
        return Path(named) / "ringcast"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ConfigError(
            "this user has no home folder for a secret: name a file with RINGCAST_SECRET_FILE or Node(secret=…)"
        ) from error
    return home / ("Library/Application Support" if sys.platform == "darwin" else ".local/share") / "ringcast"
