"""What tests of the command line share."""

import sys
import uuid
from pathlib import Path

import pytest

from tests.integration.shops import SHOP, Shop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    name = uuid.uuid4().hex[:12]
    (tmp_path / f"shop_{name}.py").write_text(SHOP)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return Shop(tmp_path, f"shop_{name}", f"cli-{name}")
