"""The curves of the benchmarks."""

from xml.etree import ElementTree

from benchmarks.svg import curves

NAME = "{http://www.w3.org/2000/svg}"


def test_a_picture_has_each_line_with_its_points_in_the_frame() -> None:
    lines = {"p50 & more": [(3.0, 1.0), (30.0, 2.0), (300.0, 4.0)], "p99": [(3.0, 0.0), (300.0, 8.0)]}
    root = ElementTree.fromstring(curves("Title", "nodes", "seconds", lines))
    drawn = [line.get("points", "").split() for line in root.iter(f"{NAME}polyline")]
    assert [len(points) for points in drawn] == [3, 2]
    xs = [float(point.split(",")[0]) for point in drawn[0]]
    ys = [float(point.split(",")[1]) for point in drawn[0]]
    assert xs[1] - xs[0] == xs[2] - xs[1], "tenfold is as far each time"
    assert ys == sorted(ys, reverse=True), "more is higher"
    assert len(list(root.iter(f"{NAME}circle"))) == 5
    assert {"Title", "nodes", "seconds", "p50 & more", "300"} <= {text.text for text in root.iter(f"{NAME}text")}


def test_one_point_is_a_picture_too() -> None:
    assert "circle" in curves("t", "x", "y", {"one": [(1.0, 0.0)]})
