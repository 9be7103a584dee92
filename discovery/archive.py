"""What a node finds again after a restart: its id, and what it owes as a voter.

One folder belongs to one node. It holds the id, which is made once; the voter's record, which is
written anew before each vote leaves; and a lock that keeps a second process out, for two voters
under one name could decide twice.
"""

from __future__ import annotations

import uuid
from dataclasses import replace

from ringcast.errors import ConfigError

from .disk import Disk, replace_file
from .effects import Record
from .record import decode_record, encode_record

__all__ = ["Archive"]

_NODE = "node"
_VOTER = "voter"


class Archive:
    """The folder of one node."""

    def __init__(self, disk: Disk) -> None:
        """Use a folder; the id is made if there is none.

        Raises:
            ConfigError: If what is there is no node's id.
        """
        self._disk = disk
        try:
            self.node_id = disk.read(_NODE).decode("ascii")
        except FileNotFoundError:
            self.node_id = uuid.uuid4().hex[:12]
            replace_file(disk, _NODE, self.node_id.encode("ascii"))
        except ValueError:
            self.node_id = ""
        if not (self.node_id.isalnum() and len(self.node_id) <= 32):
            raise ConfigError(
                f"the file {_NODE!r} in {disk} holds no node's id; is this the data_dir of something else? "
                f"Give Node(data_dir=…) a folder of its own"
            )

    def claim(self) -> None:
        """Take the folder for this process, until it ends or gives it back.

        Raises:
            ConfigError: If another process has it.
        """
        try:
            self._disk.lock()
        except BlockingIOError:
            raise ConfigError(
                f"data_dir {self._disk} is in use by another process: each node needs a folder of its own"
            ) from None

    def release(self) -> None:
        """Give it back."""
        self._disk.unlock()

    def begin(self, now_ms: int) -> Record:
        """Return the record to go on with, under an incarnation above all before, which is on disk.

        Args:
            now_ms: The wall clock; it may have been set back since the last run.

        Raises:
            ConfigError: If the record is damaged.
        """
        try:
            found = decode_record(self._disk.read(_VOTER))
        except FileNotFoundError:
            record = Record(now_ms)
        except ValueError as error:
            raise ConfigError(
                f"{_VOTER} in data_dir {self._disk}: {error}. A voter that has forgotten its votes must not vote "
                f"again under its old name: start this node with a new, empty data_dir"
            ) from None
        else:
            record = replace(found, incarnation=max(now_ms, found.incarnation + 1))
        self.save(record)
        return record

    def save(self, record: Record) -> None:
        """Return when the record is sure to outlast a crash.

        Raises:
            OSError: If it cannot be written.
        """
        replace_file(self._disk, _VOTER, encode_record(record))
