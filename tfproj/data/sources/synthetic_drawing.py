"""How a synthetic facade is drawn: a building with sky, roof and street, and the mask.

Everything is drawn on a canvas of SIDE x SIDE pixels, picture and mask together. A box is
(left, top, right, bottom) in canvas pixels.

As in the CMP Facade Database, masks are made of rectangles: a balcony hides the window behind its
railing, and cornices, sills, doors, roofs and the street are ``others``.
"""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
from PIL import Image

SIZE = 256
SIDE = 2 * SIZE  # a pixel of the example is a mean of 2 x 2 of these: smooth edges
OTHERS, FACADE, PILLAR, WINDOW, BALCONY = range(5)
WALLS = ((226, 214, 184), (206, 172, 160), (176, 178, 176), (186, 198, 168), (140, 92, 74))
SKIES = ((150, 186, 228), (206, 218, 230), (238, 240, 242))
PAINTS = ((238, 238, 234), (98, 70, 52), (60, 62, 66), (74, 96, 80), (140, 40, 36))

Rng = np.random.Generator
Box = tuple[float, float, float, float]


class Canvas:
    """A picture and its mask; what has no label goes into the picture only."""

    def __init__(self) -> None:
        self.picture, self.mask = Image.new("RGB", (SIDE, SIDE)), Image.new("L", (SIDE, SIDE))

    def box(self, box: Box, color: np.ndarray, label: int | None = None) -> None:
        """Fill a box with a colour (3,), or with a grid (rows, columns, 3) of them, blended."""
        x0, y0, x1, y1 = (round(v) for v in box)
        x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
        grid = Image.fromarray(np.array(color, ndmin=3).clip(0, 255).astype(np.uint8))
        patch = grid.resize((x1 - x0, y1 - y0), Image.Resampling.BILINEAR)
        self.picture.paste(patch, (x0, y0, x1, y1))
        if label is not None:
            self.mask.paste(label, (x0, y0, x1, y1))


class _Style:
    """What the walls and windows of one building share; sizes are shares of a bay or a floor."""

    def __init__(self, rng: Rng):
        self.wall, self.frame = _pick(rng, WALLS), _pick(rng, PAINTS)
        self.trim = self.wall * rng.uniform(0.8, 1.15) + 10
        self.moulding = np.multiply.outer([[1.1], [1], [0.6]], self.trim)  # lit above, dark below
        self.glass = np.array((44, 50, 58)) * rng.uniform(0.6, 2)
        self.width, self.height = rng.uniform(0.36, 0.6), rng.uniform(0.46, 0.68)
        self.sill, self.panes = rng.uniform(0.04, 0.2), rng.choice([1, 2, 3])


def _pick(rng: Rng, colors: tuple) -> np.ndarray:
    return np.array(colors[rng.integers(len(colors))]) + rng.normal(0, 14)


def draw_scene(c: Canvas, rng: Rng) -> None:
    """Sky, roof, street, and a building whose sides may end within the picture."""
    c.box((0, 0, SIDE, SIDE), _pick(rng, SKIES) + rng.normal(0, 6, (5, 4, 1)))
    ends = rng.uniform((0.06, 0.08, 0.8, 0.85), (0.18, 0.24, 0.94, 0.95))
    seen = rng.random(4) < (0.3, 0.5, 0.3, 0.55)
    left, top, right, bottom = SIDE * np.where(seen, ends, (-0.06, -0.06, 1.06, 1.06))
    tiles = np.multiply.outer(np.resize((1, 0.8), (20, 1)), _pick(rng, PAINTS))
    c.box((left + 9, top * rng.uniform(0.1, 0.7), right - 9, top), tiles)
    columns = rng.integers(2, 8)
    floors = np.clip(columns * (bottom - top) / (right - left) * rng.uniform(0.65, 1), 2, 6)
    xs, ys = np.linspace(left, right, columns + 1), np.linspace(top, bottom, round(floors) + 1)
    _building(c, rng, xs, ys)
    c.box((0, bottom, SIDE, SIDE), rng.uniform(70, 170, (3, 1, 1)) * np.ones(3), OTHERS)


def _building(c: Canvas, rng: Rng, xs: np.ndarray, ys: np.ndarray) -> None:
    """Wall, then bay by bay, then what stands in front of the windows."""
    style = _Style(rng)
    courses = rng.normal(0, 8, (64, 48, 1)) - np.resize((0, 9), (64, 1, 1))
    c.box((xs[0], ys[0], xs[-1], ys[-1]), style.wall + rng.uniform(0.2, 1) * courses, FACADE)
    band = rng.uniform(0.02, 0.12) * (ys[1] - ys[0])
    door = rng.choice(xs)  # where it begins; the last of them is the end of the wall
    for (x0, x1), (y0, y1) in product(pairwise(xs), pairwise(ys)):
        c.box((x0, y0 - 3, x1, y0 + band), style.moulding, OTHERS)
        draw = _door if y1 == ys[-1] and x0 == door else _window
        draw(c, rng, (x0, y0 + band, x1, y1), style)
    if rng.random() < 0.5:
        _pillars(c, rng, xs, ys, style)
    if rng.random() < 0.5:
        _balconies(c, rng, xs, ys[:-1], style)  # none on the ground floor


def _window(c: Canvas, rng: Rng, cell: Box, style: _Style) -> None:
    """Lintel, sill, and frame with panes, some before curtains or the mirrored sky."""
    x0, y0, x1, y1 = cell
    w, h = (x1 - x0) * style.width, (y1 - y0) * style.height
    left, top = (x0 + x1 - w) / 2, (y0 + y1 - h) / 2
    over, bar, sill = 0.1 * w, max(2, 0.06 * w), style.sill * h
    for y in (top - sill, top + h):
        c.box((left - over, y, left + w + over, y + sill), style.moulding, OTHERS)
    c.box((left, top, left + w, top + h), style.frame, WINDOW)
    for x, end in pairwise(np.linspace(left, left + w - bar, style.panes + 1)):
        for y, base in pairwise((top, top + 0.4 * h, top + h - bar)):
            light = rng.choice([0, 0, 0, 60, 120]) + rng.normal(0, 12, (3, 2, 1))
            c.box((x + bar, y + bar, end, base), style.glass + light)


def _door(c: Canvas, rng: Rng, cell: Box, style: _Style) -> None:
    """A door or a shop window with what stands behind the glass."""
    x0, y0, x1, y1 = cell
    inset, top = rng.uniform(0.1, 0.25) * (x1 - x0), y0 + 0.25 * (y1 - y0)
    c.box((x0 + inset, top, x1 - inset, y1), style.frame * 0.6, OTHERS)
    goods = rng.normal(10, 25, (4, 5, 1))
    c.box((x0 + inset + 5, top + 5, x1 - inset - 5, y1 - 9), style.glass + goods)


def _pillars(c: Canvas, rng: Rng, xs: np.ndarray, ys: np.ndarray, style: _Style) -> None:
    """Pilasters between the columns, over one or more floors, with base and capital."""
    first = rng.integers(len(ys) - 1)
    top, bottom = ys[first] + 0.02 * SIDE, ys[rng.integers(first + 1, len(ys))]
    w = min(44, (xs[1] - xs[0]) * rng.uniform(0.3, 0.6) * (1 - style.width))
    rounded = np.multiply.outer([[0.95, 1.1, 1.02, 0.7]], style.trim)
    for x in xs[:: rng.integers(1, 3)]:
        c.box((x - w / 2, top, x + w / 2, bottom), rounded, PILLAR)
        for y in (top, bottom - 0.6 * w):
            c.box((x - 0.7 * w, y, x + 0.7 * w, y + 0.6 * w), rounded, PILLAR)


def _balconies(c: Canvas, rng: Rng, xs: np.ndarray, ys: np.ndarray, style: _Style) -> None:
    """In some columns the same on most floors: a parapet or a railing, and its shadow."""
    chosen = np.flatnonzero(rng.random(len(xs) - 1) < rng.uniform(0.3, 1))
    reach, gap = rng.uniform(0.35, 0.5), rng.choice([1, 0.3])
    rail = np.multiply.outer(np.resize((gap, 0.6), (1, 24)), style.trim)
    for (y0, y1), i in product(pairwise(ys), chosen):
        c.box((xs[i], y1, xs[i + 1], y1 + 7), style.wall * 0.5)
        c.box((xs[i], y1 - reach * (y1 - y0), xs[i + 1], y1), rail, BALCONY)
        c.box((xs[i], y1 - 8, xs[i + 1], y1), style.trim * 0.7)
