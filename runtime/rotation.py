"""How the key of a cluster's secret is changed without a pause: three steps, each everywhere before the next.

    add       a new key, which everybody accepts from then on
    promote   the new key signs and seals
    drop      the old key is worth nothing any more

Where the secret stands is told by its file alone: with one key, the next step is to add; if the
newest key is not the first, to promote it; else to drop the others. So whoever has the file can go
on, whoever began. A step is refused until each live node has what the one before has changed: it
could not talk with the rest otherwise. Who does not answer counts as one that has not.
"""

from __future__ import annotations

import enum
import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ringcast.errors import ConfigError
from ringcast.values import dataclass

from ..security.private import write_private
from ..security.secret import Key, Secret, new_key
from .inquiry import Answer, NoAnswerError

__all__ = ["Behind", "Step", "behind", "changed", "newest", "next_step", "replace_secret"]


class Step(enum.Enum):
    """What can be done next."""

    ADD = "add"
    PROMOTE = "promote"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Behind:
    """A live node that does not have what the file has."""

    node: str
    address: str
    reason: str


def newest(secret: Secret) -> Key:
    """Return the key that was made last."""
    return max(secret.keys, key=lambda key: key.made)


def next_step(secret: Secret) -> Step:
    """Return what is to be done next."""
    if len(secret.keys) == 1:
        return Step.ADD
    return Step.DROP if secret.signing == newest(secret) else Step.PROMOTE


def changed(secret: Secret, now: float) -> Secret:
    """Return the secret after the next step; `now` is in seconds since 1970."""
    match next_step(secret):
        case Step.ADD:
            # Whatever the clock says: the order of the keys is told by when they were made.
            return Secret((*secret.keys, new_key(max(now, secret.signing.made + 1))))
        case Step.PROMOTE:
            first = newest(secret)
            return Secret((first, *(key for key in secret.keys if key != first)))
        case Step.DROP:
            return Secret((secret.signing,))


def behind(secret: Secret, told: Iterable[tuple[Mapping[str, Any], Answer | NoAnswerError]]) -> list[Behind]:
    """Return who has not caught up with what the last step has written.

    Args:
        secret: As the file has it.
        told: Of each member its answer to ``status``.
    """
    found: list[Behind] = []
    for member, answer in told:
        reason = _reason(secret, answer)
        if reason is not None:
            found.append(Behind(member["id"], member["address"], reason))
    return found


def _reason(secret: Secret, answer: Answer | NoAnswerError) -> str | None:
    if isinstance(answer, NoAnswerError):
        return f"does not answer, and may use the old key: {answer}"
    has = answer["secret"]
    new = newest(secret).id
    match next_step(secret):
        case Step.ADD if has["accepts"] != [new]:
            return f"still accepts {', '.join(key for key in has['accepts'] if key != new)}"
        case Step.PROMOTE if new not in has["accepts"]:
            return f"does not accept the new key {new} yet"
        case Step.DROP if has["signs"] != new:
            return f"still signs with {has['signs']}"
        case _:
            return None


def replace_secret(path: Path, old: Secret, new: Secret) -> None:
    """Replace the secret in a file by another, if it is still the old one.

    Raises:
        ConfigError: If somebody else has changed it since, or it cannot be written.
    """
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # whoever waits here finds the file replaced, and is refused
        if not os.path.samestat(os.fstat(file.fileno()), path.stat()) or Secret.read(path) != old:
            raise ConfigError(f"{path} was changed meanwhile; look at it with `ringcast secret show {path}`")
        write_private(path, new.render())
