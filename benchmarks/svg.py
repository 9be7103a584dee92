"""Curves as pictures: a few lines of SVG, for light and for dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["curves"]

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = ("#2a78b8", "#d1662b", "#3c9a5f", "#9a5fb0", "#b0912c")
GREY = "#888"


def _label(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def curves(title: str, across: str, up: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Return a picture of some lines over a logarithmic axis; the other begins at 0.

    Args:
        title: Stands above.
        across: What the points' first numbers are, all greater than 0.
        up: What their second ones are.
        lines: The points by name.
    """
    xs = sorted({x for points in lines.values() for x, _ in points})
    top = max(y for points in lines.values() for _, y in points) * 1.1 or 1.0
    low, high = math.log10(xs[0]), math.log10(xs[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        part = (math.log10(x) - low) / (high - low) if high > low else 0.5
        return LEFT + part * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / top * (HEIGHT - TOP - BOTTOM)

    def text(x: float, y: float, said: str, anchor: str = "middle", colour: str = GREY) -> str:
        return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{escape(said)}</text>'

    font = 'font-family="sans-serif" font-size="12"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" {font}>'
    made = [head, text(WIDTH / 2, 20, title), text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, across)]
    for step in range(5):
        y = top * step / 4
        height = at(xs[0], y)[1]
        made.append(f'<path d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-opacity=".3"/>')
        made.append(text(LEFT - 6, height + 4, _label(y), "end"))
    made.append(text(LEFT, TOP - 6, up))
    made += [text(at(x, 0)[0], HEIGHT - BOTTOM + 18, _label(x)) for x in xs]
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        placed = [at(x, y) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        made.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        made += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed]
        made.append(text(WIDTH - RIGHT + 10, TOP + 10 + 18 * number, name, "start", colour))
    return "\n".join([*made, "</svg>", ""])
