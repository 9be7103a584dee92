"""The servers of tests: installed if need be, and who needs one is skipped where that cannot be, and told why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from benchmarks import servers
from benchmarks.servers import NoServer, Server

__all__ = ["Server", "postgresql_server", "redis_server"]


def postgresql_server() -> AbstractContextManager[Server]:
    """Run a PostgreSQL."""
    return _or_skip(servers.postgresql_server(install=True))


def redis_server() -> AbstractContextManager[Server]:
    """Run a Redis."""
    return _or_skip(servers.redis_server(install=True))


@contextmanager
def _or_skip(server: AbstractContextManager[Server]) -> Iterator[Server]:
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        except NoServer as error:
            pytest.skip(str(error))
        yield running
