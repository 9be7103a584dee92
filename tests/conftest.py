"""What all tests share: a data folder of their own, so that no test makes a secret in the user's home."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _data_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        for name in ("RINGCAST_SECRET", "RINGCAST_SECRET_FILE"):
            patch.delenv(name, raising=False)
        yield
