"""Logs: structlog events, for people in a terminal and as JSON elsewhere.

An application that has configured structlog keeps its own way; otherwise the first node sets one
up, on stderr, at the level of ``RINGCAST_LOG`` (debug, info, warning, error; default info).
"""

from __future__ import annotations

import logging
import os
import sys

import structlog

from ringcast.errors import ConfigError


def set_up_logs() -> None:
    """Configure structlog unless the application has done so.

    Raises:
        ConfigError: If ``RINGCAST_LOG`` is no level.
    """
    if structlog.is_configured():
        return
    name = os.environ.get("RINGCAST_LOG", "info")
    level = logging.getLevelNamesMapping().get(name.upper())
    if level is None:
        raise ConfigError(f"RINGCAST_LOG={name!r}: it takes debug, info, warning or error")
    for_people = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if for_people else "iso", utc=not for_people),
            *([] if for_people else [_TRACEBACKS]),
            _for_people() if for_people else structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_stderr_logger,
        cache_logger_on_first_use=False,
    )


_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)  # they hold what users send
)


def _for_people() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.RichTracebackFormatter(show_locals=False))


def _stderr_logger(*_: object) -> structlog.PrintLogger:
    return structlog.PrintLogger(sys.stderr)  # looked up at each use: tests replace it
