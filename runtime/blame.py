"""Who an error belongs to.

Errors belong to whoever waits for them. An asked message has somebody who waits: its error is
raised there, and the actor goes on. A told message, a hook and a timer have nobody: the error is a
failure of the actor, and its supervisor decides. Errors that the actor's author has named
(subclasses of `Fatal`, and ``restart_on``) are both. Arguments that the handler does not take are
the sender's own mistake; nothing has run, so nothing of the actor can be broken.

References:
    Armstrong. "Making reliable distributed systems in the presence of software errors". 2003,
    section 4.3: let some other process do the error recovery.
"""

from __future__ import annotations

import enum


class Blame(enum.Flag):
    """Who hears of an error."""

    NOBODY = 0
    """The sender has gone on, and nothing has run: a dead letter."""
    CALLER = 1
    """It is raised where somebody waits for the answer."""
    SUPERVISOR = 2
    """It is a failure of the actor."""


def blame(error: BaseException, *, is_asked: bool, has_run: bool, failures: tuple[type[BaseException], ...]) -> Blame:
    """Return who hears of an error that came out of a message.

    Args:
        error: What came out.
        is_asked: Whether somebody waits for the answer.
        has_run: Whether the handler was entered; False if it does not take the arguments.
        failures: What fails the actor in any case: `Fatal`, and the ``restart_on`` of its class.
    """
    caller = Blame.CALLER if is_asked else Blame.NOBODY
    if has_run and (not is_asked or isinstance(error, failures)):
        return caller | Blame.SUPERVISOR
    return caller
