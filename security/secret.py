"""The cluster's secret: one key, or several while it is being changed.

Whoever holds it is a member of the cluster. It is kept in a file of lines, each one key; the first
signs and seals, all are accepted. So a key is changed without a pause: the new one is added, then
put first, then the old one is taken away, each step everywhere before the next.

    # made by `ringcast secret new`
    rc1.1795344000.bTGv…        the version, when it was made (seconds), 32 random bytes in base64

A secret may also be given as bytes. Those are measured first: what is short or repeats itself is
refused, and so is what reads like a passphrase, for a cluster's secret can be guessed at leisure by
whoever has recorded one datagram.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import os
import re
import secrets
import time
from collections import Counter
from collections.abc import MutableMapping
from functools import cached_property
from pathlib import Path

from ringcast.errors import ConfigError
from ringcast.logger import get_logger
from ringcast.values import dataclass

from .keys import key_id
from .private import create_private, read_private, user_data

__all__ = ["Key", "Secret", "Where", "find_secret", "new_key"]

MATERIAL_BYTES = 32
KEYS_MAX = 8
_BITS_MIN = 128
_VERSION = "rc1"
_MAKE_ONE = "`ringcast secret new FILE` makes a good one"
_HEADER = """\
# The secret of a ringcast cluster: whoever can read this file is a member. Keep it private (mode 600).
# The first key signs, all are accepted; `ringcast secret rotate` changes it without a pause.
"""

Where = str | bytes | os.PathLike[str]
"""How a secret is given: a path, or its bytes."""

_taken: dict[str, bytes] = {}
"""Secrets that stood in the environment, and were removed from it: the process's next node needs them, too."""


@dataclass(frozen=True)
class Key:
    """One key of a secret.

    Attributes:
        material: The secret bytes, 32 or more.
        made: When it was made, in seconds since 1970; 0 if that is not known.
    """

    material: bytes
    made: int = 0

    @cached_property
    def id(self) -> str:
        """The eight hex digits that name the key; they tell nothing about it."""
        return key_id(self.material)

    def __repr__(self) -> str:
        """Show the id only: keys must not get into logs."""
        return f"<Key {self.id}>"

    def line(self) -> str:
        """Return the key as a line of the file."""
        return f"{_VERSION}.{self.made}.{base64.urlsafe_b64encode(self.material).decode().rstrip('=')}"


def new_key(now: float) -> Key:
    """Return a new random key; `now` is in seconds since 1970."""
    return Key(secrets.token_bytes(MATERIAL_BYTES), int(now))


@dataclass(frozen=True, slots=True)
class Secret:
    """The keys of a cluster; the first signs, all are accepted."""

    keys: tuple[Key, ...]

    @property
    def signing(self) -> Key:
        """The key that signs and seals."""
        return self.keys[0]

    @property
    def oldest(self) -> Key:
        """The key that everybody knows who knows any: while a key is being changed, clients know this one."""
        return min(reversed(self.keys), key=lambda key: key.made)

    def render(self) -> str:
        """Return the text of a file that holds this secret."""
        return _HEADER + "".join(f"{key.line()}\n" for key in self.keys)

    @classmethod
    def parse(cls, data: bytes, what: str) -> Secret:
        """Return the secret that the bytes hold: lines of keys, or one key as it is.

        Args:
            data: From a file or an argument.
            what: What it is called in errors.

        Raises:
            ConfigError: If a key is short, can be guessed, comes twice, or a line is something else.
        """
        if not _is_text(data):
            return cls((Key(_measured(bytes(data), what)),))
        text = data.strip()
        lines = [line.strip() for line in text.split(b"\n")]
        lines = [line for line in lines if line and not line.startswith(b"#")]
        if not lines:
            raise ConfigError(f"{what} is empty; {_MAKE_ONE}")
        if any(line.startswith(f"{_VERSION}.".encode()) for line in lines):
            keys = tuple(_key_of(line, what) for line in lines)
        else:
            keys = (Key(_strong(text, what)),)
        if len(keys) > KEYS_MAX:
            raise ConfigError(f"{what} holds {len(keys)} keys; {KEYS_MAX} are the most, and two are enough")
        if len({key.material for key in keys}) < len(keys):
            raise ConfigError(f"{what} holds a key twice")
        return cls(keys)

    @classmethod
    def read(cls, path: Path) -> Secret:
        """Return the secret in a file.

        Raises:
            ConfigError: If it cannot be read, others may read it, or it holds no good secret.
        """
        return cls.parse(read_private(path, "the cluster secret"), f"the cluster secret {path}")


def _is_text(data: bytes) -> bool:
    """Return whether the bytes were written as text; random ones are taken as they are, blanks at their ends, too."""
    return data.isascii() and all(byte >= 32 or byte in b"\t\r\n" for byte in data)


def _key_of(line: bytes, what: str) -> Key:
    match = re.fullmatch(rb"rc1\.(\d{1,12})\.([A-Za-z0-9_-]+)", line)
    if match is None:
        raise ConfigError(f"{what} has a line that is no key; {_MAKE_ONE}")
    encoded = match[2]
    try:
        material = base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4))
    except binascii.Error as error:
        raise ConfigError(f"{what} has a key that was cut off: {error}") from error
    return Key(_measured(material, what), int(match[1]))


def _strong(data: bytes, what: str) -> bytes:
    """Return a key that was given as it is, unless it is weak."""
    _measured(data, what)
    if not re.fullmatch(rb"[0-9a-fA-F]+", data):
        kinds = (rb"[a-z]", rb"[A-Z]", rb"[0-9]")
        if b" " in data or not all(re.search(kind, data) for kind in kinds):
            raise ConfigError(f"{what} reads like a passphrase, which can be guessed; {_MAKE_ONE}")
    return data


def _measured(data: bytes, what: str) -> bytes:
    if len(data) < MATERIAL_BYTES:
        raise ConfigError(f"{what} has {len(data)} bytes; {MATERIAL_BYTES} random ones are the least. {_MAKE_ONE}")
    steps = bytes((b - a) % 256 for a, b in itertools.pairwise(data))
    if min(_bits(data), _bits(steps)) < _BITS_MIN:
        raise ConfigError(f"{what} repeats itself and can be guessed; {_MAKE_ONE}")
    return data


def _bits(data: bytes) -> float:
    """Return an upper bound of the information in the bytes, were they drawn independently."""
    return -sum(count * math.log2(count / len(data)) for count in Counter(data).values())


def find_secret(
    given: Where | None, environment: MutableMapping[str, str] = os.environ
) -> tuple[bytes, Path | None, bool]:
    """Find the secret that a node was given, or make this user's own.

    The order: the argument, ``RINGCAST_SECRET_FILE``, ``RINGCAST_SECRET`` (which is removed from the
    environment, for children and dumps would show it), and a file in this user's data folder that is
    made on first use.

    Args:
        given: A path, or the bytes of a secret.
        environment: Where variables are looked up.

    Returns:
        The bytes, the file that they came from (or None), and whether somebody named it: the one that
        was made for this user serves nodes on the loopback only.

    Raises:
        ConfigError: If there is one that cannot be used.
    """
    if isinstance(given, (bytes, bytearray)):
        return bytes(given), None, True
    if given is not None and not isinstance(given, (str, os.PathLike)):
        raise ConfigError(f"secret={type(given).__name__}: it takes the path of a file, or bytes")
    if "RINGCAST_SECRET" in environment:
        _taken["RINGCAST_SECRET"] = environment.pop("RINGCAST_SECRET").encode()
        get_logger("ringcast").warning(
            "RINGCAST_SECRET was taken from the environment and removed there; other processes may have seen it: "
            "prefer a private file and RINGCAST_SECRET_FILE"
        )
    named = given if given is not None else environment.get("RINGCAST_SECRET_FILE")
    if named is not None:
        path = Path(named).expanduser()
        return read_private(path, "the cluster secret"), path, True
    if taken := _taken.get("RINGCAST_SECRET"):
        return taken, None, True
    path = user_data() / "secret"
    if not path.exists():
        create_private(path, Secret((new_key(time.time()),)).render())
    return read_private(path, "this user's own secret"), path, False
