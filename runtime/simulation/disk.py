"""A simulated disk: a `Disk` that loses in a crash what was not synced.

What a crash leaves of an unsynced file is drawn: nothing of the change, all of it, or a part. Names that
were given or taken without `sync_folder` may be as before, each of the changes by itself being done or not
in the order in which they came.

A machine has one disk, and the nodes on it have folders there. A lock is the process's that took it: it
ends with that process, and outlasts nothing.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable


class _File:
    """One file's content: as programs see it, and as it is sure to be after a crash."""

    __slots__ = ("content", "synced")

    def __init__(self) -> None:
        self.content = b""
        self.synced = b""


class VirtualDisk:
    """The disk of one machine.

    Attributes:
        syncs: How often a file or the folder was synced.
        on_sync: Is called at each; a simulation may let it take time.
    """

    def __init__(self, rng: random.Random) -> None:
        """Be empty; what a crash leaves is drawn from `rng`."""
        self._rng = rng
        self._files: dict[str, _File] = {}
        self._synced: dict[str, _File] = {}
        self._changes: list[dict[str, _File]] = []
        self._locked: set[str] = set()
        self.syncs = 0
        self.on_sync: Callable[[], None] = _at_once

    def read(self, path: str) -> bytes:
        """See `Disk`."""
        return self._file(path).content

    def write(self, path: str, data: bytes) -> None:
        """See `Disk`."""
        file = self._files.get(path)
        if file is None:
            file = self._files[path] = _File()
            self._changed()
        file.content = bytes(data)

    def append(self, path: str, data: bytes) -> None:
        """See `Disk`."""
        self.write(path, (self._files[path].content if path in self._files else b"") + data)

    def sync(self, path: str) -> None:
        """See `Disk`."""
        file = self._file(path)
        self.syncs += 1
        self.on_sync()
        file.synced = file.content

    def rename(self, path: str, name: str) -> None:
        """See `Disk`."""
        file = self._file(path)
        del self._files[path]
        self._files[name] = file
        self._changed()

    def remove(self, path: str) -> None:
        """See `Disk`."""
        self._file(path)
        del self._files[path]
        self._changed()

    def sync_folder(self) -> None:
        """See `Disk`."""
        self.syncs += 1
        self.on_sync()
        self._synced = dict(self._files)
        self._changes.clear()

    def names(self) -> list[str]:
        """See `Disk`."""
        return sorted(self._files)

    def lock(self, path: str = "") -> None:
        """See `Disk`; each folder, by its path, has a lock of its own."""
        if path in self._locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "another process has locked it")
        self._locked.add(path)

    def unlock(self, path: str = "") -> None:
        """See `Disk`."""
        self._locked.discard(path)

    def unlock_all(self) -> None:
        """The process is gone that had locked anything."""
        self._locked.clear()

    def crash(self) -> None:
        """The machine has lost its power: keep what was synced, and of the rest what the seed says."""
        kept = self._rng.randint(0, len(self._changes))
        self._files = dict(self._changes[kept - 1] if kept else self._synced)
        for path in sorted(self._files):
            file = self._files[path]
            if file.content != file.synced:
                file.content = self._left_of(file)
            file.synced = file.content
        self._synced = dict(self._files)
        self._changes.clear()

    def erase(self) -> None:
        """Be another disk, with nothing on it."""
        self._files, self._synced = {}, {}
        self._changes.clear()

    def _left_of(self, file: _File) -> bytes:
        match self._rng.randrange(3):
            case 0:
                return file.synced
            case 1:
                return file.content
            case _:
                return file.content[: self._rng.randint(0, len(file.content))]

    def _changed(self) -> None:
        self._changes.append(dict(self._files))

    def _file(self, path: str) -> _File:
        file = self._files.get(path)
        if file is None:
            raise FileNotFoundError(path)
        return file


class VirtualFolder:
    """One folder on the disk of a machine: what `Folder` is on a real one."""

    def __init__(self, disk: VirtualDisk, path: str) -> None:
        """Use that folder."""
        self._disk = disk
        self._path = path.rstrip("/")
        self._has_lock = False

    def __str__(self) -> str:
        """Show where it is."""
        return self._path

    def read(self, path: str) -> bytes:
        """See `Disk`."""
        return self._disk.read(self._at(path))

    def write(self, path: str, data: bytes) -> None:
        """See `Disk`."""
        self._disk.write(self._at(path), data)

    def append(self, path: str, data: bytes) -> None:
        """See `Disk`."""
        self._disk.append(self._at(path), data)

    def sync(self, path: str) -> None:
        """See `Disk`."""
        self._disk.sync(self._at(path))

    def rename(self, path: str, name: str) -> None:
        """See `Disk`."""
        self._disk.rename(self._at(path), self._at(name))

    def remove(self, path: str) -> None:
        """See `Disk`."""
        self._disk.remove(self._at(path))

    def sync_folder(self) -> None:
        """See `Disk`."""
        self._disk.sync_folder()

    def names(self) -> list[str]:
        """See `Disk`."""
        within = self._at("")
        names = (name.removeprefix(within) for name in self._disk.names() if name.startswith(within))
        return [name for name in names if "/" not in name]

    def lock(self) -> None:
        """See `Disk`."""
        self._disk.lock(self._path)
        self._has_lock = True

    def unlock(self) -> None:
        """See `Disk`."""
        if self._has_lock:
            self._has_lock = False
            self._disk.unlock(self._path)

    def _at(self, path: str) -> str:
        return f"{self._path}/{path}"


def _at_once() -> None:
    """Take no time."""
