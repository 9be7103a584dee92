"""Logs: structlog events, for people in a terminal and as JSON elsewhere.

An application that has configured structlog keeps its own way; otherwise the first node sets one
up, on stderr, at the level of ``RINGCAST_LOG`` (debug, info, warning, error; default info).
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from typing import TYPE_CHECKING

from ringcast.errors import ConfigError
from ringcast.logger import before_first

if TYPE_CHECKING:
    import structlog


def set_up_logs() -> None:
    """Configure structlog, when it is loaded, unless the application has done so by then.

    Raises:
        ConfigError: If ``RINGCAST_LOG`` is no level.
    """
    if "structlog" in sys.modules and sys.modules["structlog"].is_configured():
        return
    name = os.environ.get("RINGCAST_LOG", "info")
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ConfigError(f"RINGCAST_LOG={name!r}: it takes debug, info, warning or error")
    before_first(partial(_configure, level))


def _configure(level: int) -> None:
    import structlog  # not at the top: see ringcast.logger

    if structlog.is_configured():
        return
    for_people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if for_people else "iso", utc=not for_people),
            *(_for_people() if for_people else _for_machines()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_stderr_logger,
        cache_logger_on_first_use=False,
    )


def _for_people() -> list[structlog.typing.Processor]:
    from structlog.dev import ConsoleRenderer, RichTracebackFormatter

    return [ConsoleRenderer(exception_formatter=RichTracebackFormatter(show_locals=False))]


def _for_machines() -> list[structlog.typing.Processor]:
    from structlog.processors import ExceptionRenderer, JSONRenderer
    from structlog.tracebacks import ExceptionDictTransformer

    tracebacks = ExceptionDictTransformer(show_locals=False)  # they hold what users send
    return [ExceptionRenderer(tracebacks), JSONRenderer(default=str)]


def _stderr_logger(*_: object) -> structlog.PrintLogger:
    import structlog

    return structlog.PrintLogger(sys.stderr)  # looked up at each use: tests replace it
