"""The page of results: sections that commands write, each its own."""

from pathlib import Path

from benchmarks.page import put


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    page = tmp_path / "bench.md"
    page.write_text("# Results\n\n<!-- begin one -->\nold\n<!-- end one -->\n\nwords\n")
    put(page, "one", "| new \\1 |", ["--rounds", "5"])
    put(page, "two", "added", ["startup"])
    put(page, "one", "newer", ["R2"])
    text = page.read_text()
    assert "old" not in text
    assert "new \\1" not in text
    assert text.startswith("# Results\n\n<!-- begin one -->\nnewer\n\n`python -m benchmarks R2` wrote this. CPython")
    assert "<!-- end one -->\n\nwords\n\n<!-- begin two -->\nadded\n" in text
    assert text.endswith("<!-- end two -->\n")


def test_a_page_that_is_not_there_is_begun(tmp_path: Path) -> None:
    put(tmp_path / "bench.md", "one", "text", [])
    assert (tmp_path / "bench.md").read_text().startswith("# Benchmark results\n\n<!-- begin one -->\ntext\n")
