"""Logs of failures say where, and not what users sent."""

import io
import sys
from collections.abc import Iterator

import pytest
import structlog

from ringcast.runtime.logs import set_up_logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_in_a_new_process() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_traceback_names_the_line_and_shows_no_values(
    stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = stream()
    monkeypatch.setattr(sys, "stderr", printed)
    set_up_logs()

    def pay(card: str) -> None:
        raise ValueError("refused")

    try:
        pay("4111" + "2222")
    except ValueError as error:
        structlog.get_logger().error("actor failed", exc_info=error)
    assert "refused" in printed.getvalue()
    assert "test_logs.py" in printed.getvalue()
    assert "41112222" not in printed.getvalue()
