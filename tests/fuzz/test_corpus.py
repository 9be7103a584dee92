"""The corpus, replayed: each file was right bytes, or has found a fault once."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from tests.fuzz.run import HERE
from tests.fuzz.targets import TARGETS

CORPUS = HERE / "corpus"
FILES = sorted(file.relative_to(CORPUS) for file in CORPUS.glob("*/*"))
MOST = 512 * 1024
"""Bytes of memory that a decoder may take, beside what it makes of the file: its own buffers, and a link's."""


def test_each_target_has_a_corpus_and_each_corpus_a_target() -> None:
    assert {file.parts[0] for file in FILES} == set(TARGETS)
    assert sum((CORPUS / file).stat().st_size for file in FILES) < 256 * 1024


@pytest.mark.parametrize("file", FILES, ids=str)
def test_nothing_but_the_decoders_own_errors_comes_out(file: Path) -> None:
    target, data = TARGETS[file.parts[0]], (CORPUS / file).read_bytes()
    target(data)
    gc.collect()
    tracemalloc.start()
    try:
        target(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MOST + 100 * len(data)


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has wheels for CPython on Linux and x86-64 only"
)
def test_the_harness_runs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.run", "--seconds", "1", "preamble"],
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "found nothing" in done.stdout
