"""The plugin for pytest: which seeds the tests of `ringcast.testing.simulated` run with.

pytest --ringcast-seeds=100                     each such test, a hundred times
pytest --ringcast-seed=17 -k test_of_that_name  the one that has failed, as it has failed
"""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the options."""
    group = parser.getgroup("ringcast", "simulated clusters")
    group.addoption(
        "--ringcast-seeds",
        type=int,
        default=1,
        metavar="N",
        help="run each @simulated test with N seeds, each of which is another interleaving (default: 1)",
    )
    group.addoption("--ringcast-seed", type=int, default=0, metavar="S", help="the first of the seeds (default: 0)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each seed."""
    if getattr(metafunc.function, "is_ringcast_simulated", False):
        first, count = metafunc.config.getoption("ringcast_seed"), metafunc.config.getoption("ringcast_seeds")
        seeds = range(first, first + count)
        metafunc.parametrize("ringcast_seed", seeds, ids=[f"seed {seed}" for seed in seeds])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> object:
    """Say how a failure is replayed."""
    try:
        return (yield)
    except Exception as error:
        callspec = getattr(item, "callspec", None)
        seed = None if callspec is None else callspec.params.get("ringcast_seed")
        if seed is not None:
            error.add_note(f"replay it with: pytest {item.nodeid.partition('[')[0]} --ringcast-seed={seed}")
        raise
