"""Where loggers come from: structlog, loaded when the first one is asked for, for it brings a tenth of a second."""

from __future__ import annotations

from typing import Any


def get_logger(name: str) -> Any:
    """Return the structlog logger of this name."""
    import structlog

    return structlog.get_logger(name)
