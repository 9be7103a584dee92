"""The port to a node's files: what it must find again after a crash.

A file that was written is certain to be there after a crash of the machine only when it was synced, and
a name that was given or taken only when its folder was. `write` does both, in the one order that leaves
either the old content or the new: it writes beside, syncs, renames, and syncs the folder.

Paths are relative, with ``/`` between names; they stand for files in one folder of the node's own.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Protocol

__all__ = ["Disk", "Folder", "replace_file"]


class Disk(Protocol):
    """What a node does with files."""

    def read(self, path: str) -> bytes:
        """Return a file's content.

        Raises:
            FileNotFoundError: If there is none.
        """
        ...

    def write(self, path: str, data: bytes) -> None:
        """Make the file hold this, and nothing else; lost in a crash unless it is synced."""
        ...

    def append(self, path: str, data: bytes) -> None:
        """Add to the file's end; lost, or half there, after a crash unless it is synced."""
        ...

    def sync(self, path: str) -> None:
        """Return when the file's content is sure to outlast a crash.

        Raises:
            FileNotFoundError: If there is none.
        """
        ...

    def rename(self, path: str, name: str) -> None:
        """Give the file another name, whoever has it; undone by a crash unless the folder is synced.

        Raises:
            FileNotFoundError: If there is none.
        """
        ...

    def remove(self, path: str) -> None:
        """Take the file away; undone by a crash unless the folder is synced.

        Raises:
            FileNotFoundError: If there is none.
        """
        ...

    def sync_folder(self) -> None:
        """Return when names are sure to outlast a crash."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        ...

    def lock(self) -> None:
        """Keep other processes from locking the folder, until `unlock` or this one's end.

        Raises:
            BlockingIOError: If another one has it.
        """
        ...

    def unlock(self) -> None:
        """Let others lock it."""
        ...


def replace_file(disk: Disk, path: str, data: bytes) -> None:
    """Make the file hold this: after a crash it holds the old or the new, and once this returns the new."""
    beside = f"{path}.new"
    disk.write(beside, data)
    disk.sync(beside)
    disk.rename(beside, path)
    disk.sync_folder()


class Folder:
    """The `Disk` of a real node: one folder."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Use a folder, which is made if it is not there."""
        self._path = Path(path)
        self._path.mkdir(parents=True, exist_ok=True)
        self._lock: int | None = None

    def __str__(self) -> str:
        """Show where it is."""
        return str(self._path)

    def read(self, path: str) -> bytes:
        """See `Disk`."""
        return (self._path / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """See `Disk`."""
        (self._path / path).write_bytes(data)

    def append(self, path: str, data: bytes) -> None:
        """See `Disk`."""
        with (self._path / path).open("ab") as file:
            file.write(data)

    def sync(self, path: str) -> None:
        """See `Disk`."""
        with (self._path / path).open("rb+") as file:
            os.fsync(file.fileno())

    def rename(self, path: str, name: str) -> None:
        """See `Disk`."""
        os.replace(self._path / path, self._path / name)

    def remove(self, path: str) -> None:
        """See `Disk`."""
        (self._path / path).unlink()

    def sync_folder(self) -> None:
        """See `Disk`."""
        folder = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def names(self) -> list[str]:
        """See `Disk`."""
        return sorted(entry.name for entry in self._path.iterdir() if entry.is_file())

    def lock(self) -> None:
        """See `Disk`."""
        lock = os.open(self._path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock

    def unlock(self) -> None:
        """See `Disk`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
