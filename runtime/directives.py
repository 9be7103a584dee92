"""What a supervisor decides: the directives that `Family` returns and the runtime carries out.

Each names a child by the id under which the family knows it (the runtime's ids are refs).
"""

from __future__ import annotations

from collections.abc import Hashable

from ringcast.values import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """Make the child, in `delay` seconds; answer with `Family.up` or `Family.failed`.

    Attributes:
        child: Whom.
        delay: Seconds to wait before.
        cause: Whose failure or end is the reason; the child itself, or a sibling. None at a first start.
        restarts: How many restarts there are in the window, this one included.
        is_failing: Whether the child is past the root's intensity, and is retried at the backoff's limit.
    """

    child: Hashable
    delay: float
    cause: Hashable | None
    restarts: int
    is_failing: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """End the child's activation; answer with `Family.halted`, or `Family.gone` if it is for good.

    Attributes:
        child: Whom.
        is_final: Whether it is not to be started again; otherwise its mailbox is kept.
    """

    child: Hashable
    is_final: bool


@dataclass(frozen=True, slots=True)
class End:
    """The child is down already and is not started again: its watchers hear of it."""

    child: Hashable


@dataclass(frozen=True, slots=True)
class Escalate:
    """There were too many restarts: the supervisor itself has failed; `Family.close` is to follow.

    Attributes:
        child: Whose failure was one too many.
        restarts: How many there were in the window.
    """

    child: Hashable
    restarts: int


@dataclass(frozen=True, slots=True)
class Ready:
    """What `Family.declare` took has been started once: the supervisor itself is up."""


@dataclass(frozen=True, slots=True)
class Closed:
    """What `Family.close` asked for is done: no child runs any more."""


Directive = Start | Stop | End | Escalate | Ready | Closed
