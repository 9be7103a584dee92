"""Where loggers come from: structlog, which is loaded with the first event, for it brings a tenth of a second.

A node is made without it, and loads it while it waits whether others are there (`load`). What
configures structlog is kept here until then.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Lock
from typing import Any, Self

__all__ = ["Logger", "before_first", "get_logger", "load"]

_waiting: list[Callable[[], None]] = []
_configuring = Lock()
"""No event of one thread passes what another one is configuring."""


class Logger:
    """A logger with values bound to it; what it has else is structlog's, and there from the first use on."""

    __slots__ = ("_bound", "_name", "_values")

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        """Keep both for later."""
        self._name = name
        self._values = values
        self._bound: Any = None

    def bind(self, **values: Any) -> Self:
        """Return a logger that says these besides."""
        return type(self)(self._name, {**self._values, **values})

    def __getattr__(self, name: str) -> Any:
        """Return what structlog's logger has under that name: ``info``, ``warning`` and the like."""
        bound = self._bound
        if bound is None:
            load()
            import structlog

            bound = self._bound = structlog.get_logger(self._name).bind(**self._values)
        return getattr(bound, name)


def get_logger(name: str) -> Any:
    """Return the structlog logger of this name."""
    return Logger(name, {})


def before_first(configure: Callable[[], None]) -> None:
    """Have structlog configured before the first event; at once if it is loaded."""
    _waiting.append(configure)
    if "structlog" in sys.modules:
        load()


def load() -> None:
    """Load and configure structlog, so that the first event need not."""
    import structlog  # noqa: F401 (it is in `sys.modules` from here on)

    with _configuring:
        while _waiting:
            _waiting.pop()()
