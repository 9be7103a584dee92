"""The table that is printed, and the page that shows one."""

from pathlib import Path

from benchmarks.report import beside_peers, cells, markdown
from benchmarks.row import WORKS, Row
from benchmarks.workloads import Measurement

BY_NAME = {work.name: work for work in WORKS}
DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "benchmarks.md").read_text()
RESULTS = (DOCS / "bench.md").read_text()


def mixed() -> Row:
    def run(p99_us: float, beside_mb_s: float | None = None) -> Measurement:
        return Measurement(1, 1.0, p99_us=p99_us, beside_mb_s=beside_mb_s)

    ours = {"simple": [run(110, 250)], "general": [run(110, 240), run(120, 240), run(190, 300)]}
    return Row(BY_NAME["M1"], limit=[run(100)], ours=ours)


def test_cells_have_the_median_above_and_the_rest_below() -> None:
    assert cells(mixed()) == [
        ("M1",),
        ("us p99",),
        ("100.0",),
        ("110.0",),
        ("1.10", "at 250 MB/s"),
        ("120.0", "110.0 to 190.0"),
        ("1.20", "at 240 MB/s"),
        ("<= 3",),
        ("yes",),
    ]


def test_what_was_not_measured_is_a_dash_and_a_failure_is_said() -> None:
    row = Row(BY_NAME["S1"], errors=["no"])
    assert cells(row)[2:] == [("-",), ("-",), ("-",), ("-",), ("-",), (">= 120,000", "<= 1,024 B"), ("failed",)]


def test_markdown_is_one_line_a_row() -> None:
    head, rule, row, empty, machine = markdown([mixed()], 3).splitlines()
    assert head.count("|") == rule.count("|") == row.count("|")
    assert "| 120.0<br>110.0 to 190.0 | 1.20<br>at 240 MB/s | <= 3 | yes |" in row
    assert empty == ""
    assert machine.startswith("Medians of 3 rounds; below, the least and the greatest. ")


def rows_of(text: str) -> list[list[str]]:
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("|")]
    return lines[2:]


def test_the_page_explains_every_row_with_its_limit_and_target() -> None:
    explained = rows_of(PAGE.split("## How to read it")[0].split("## Other commands")[0])
    assert [row[0] for row in explained] == [work.name for work in WORKS]
    for (_, _, limit, *_, target), work in zip(explained, WORKS, strict=True):
        assert limit == (work.limit or "none"), work.name
        aim = work.aim.replace("<=", "≤").replace(">=", "≥") or "none"
        assert target.partition(",")[0] == aim or target.startswith(f"{aim}/s"), work.name


def test_the_page_shows_a_result_of_every_row_against_todays_target() -> None:
    result = rows_of(RESULTS.split("<!-- begin rows -->")[1].split("### Beside others")[0])
    assert [(row[0], row[-2].partition("<br>")[0]) for row in result] == [(work.name, work.aim) for work in WORKS]


def test_peers_stand_beside_with_how_many_times_ours_is_better() -> None:
    rate = [Measurement(count=100, seconds=1.0)]
    row = Row(BY_NAME["R2"], ours={"simple": rate, "general": rate}, peers={"erlang": [50.0], "casty": [200.0]})
    table, why = beside_peers([row], {"ray": "it has no environment"}).split("\n\n")
    assert table.splitlines()[-1] == "| R2 | /s | 100 | 50<br>x 2.00 | 200<br>x 0.50 |"
    assert why == "* ray: not measured, it has no environment"


def test_a_latency_is_better_when_it_is_less() -> None:
    own = [Measurement(1, 1.0, p50_us=20.0)]
    row = Row(BY_NAME["R1"], ours={"simple": own, "general": own}, peers={"erlang": [30.0]})
    assert beside_peers([row], {}).splitlines()[-1] == "| R1 | us p50 | 20.0 | 30.0<br>x 1.50 |"
