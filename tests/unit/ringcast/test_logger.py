"""Loggers are there before structlog is, and say what structlog's would."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import structlog

from ringcast.logger import before_first, get_logger, load

MADE = "from ringcast import Node; import sys; node = Node(discovery=[], tls=False); "


def said(program: str, level: str = "info") -> tuple[str, str]:
    """Return what a program says on its output, and in its log."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "RINGCAST_LOG": level},
    )
    return done.stdout.strip(), done.stderr.strip()


def test_a_logger_says_what_was_bound_to_it() -> None:
    logger = get_logger("ringcast").bind(node="a").bind(peer="b")
    with structlog.testing.capture_logs() as logs:
        logger.info("met", times=2)
    assert logs == [{"node": "a", "peer": "b", "event": "met", "times": 2, "log_level": "info"}]


def test_values_are_bound_to_the_new_logger_only() -> None:
    logger = get_logger("ringcast").bind(node="a")
    with structlog.testing.capture_logs() as logs:
        logger.bind(peer="b").warning("one")
        logger.warning("two")
    assert [log.get("peer") for log in logs] == ["b", None]


def test_what_configures_is_called_at_once_where_structlog_is_loaded() -> None:
    called: list[str] = []
    before_first(lambda: called.append("now"))
    assert called == ["now"]
    load()
    assert called == ["now"]


def test_a_node_is_made_before_structlog_is_loaded() -> None:
    assert said(MADE + "print('structlog' in sys.modules)") == ("False", "")


def test_the_first_event_is_logged_as_the_level_says() -> None:
    logs = "from ringcast.logger import get_logger; get_logger('x').info('first'); get_logger('x').error('second')"
    _, log = said(MADE + logs, level="error")
    assert "second" in log
    assert "first" not in log


def test_an_application_may_still_configure_structlog_its_own_way() -> None:
    own = "import structlog; structlog.configure(processors=[lambda *event: repr(event[2]['event'])]); "
    printed, _ = said(MADE + own + "from ringcast.logger import get_logger; get_logger('x').info('mine')")
    assert printed == "'mine'"


@pytest.mark.parametrize("loaded", ["", "import structlog; "])
def test_a_level_that_is_none_is_refused_when_the_node_is_made(loaded: str) -> None:
    program = loaded + "from ringcast import Node\ntry:\n Node(tls=False)\nexcept Exception as error:\n print(error)"
    assert said(program, level="loud")[0] == "RINGCAST_LOG='loud': it takes debug, info, warning or error"
