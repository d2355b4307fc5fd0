"""How a synthetic facade is drawn: a building with what stands around it, and the mask.

Everything is drawn on a canvas of SIDE x SIDE pixels, picture and mask together. A box is
(left, top, right, bottom) in canvas pixels.

As in the CMP Facade Database, masks are made of rectangles: a balcony hides the window behind its
railing, and cornices, sills, shutters, shops, doors, roofs and the street are ``others``.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

SIZE = 256
SIDE = 2 * SIZE  # a pixel of the example is a mean of 2 x 2 of these: smooth edges
OTHERS, FACADE, PILLAR, WINDOW, BALCONY = range(5)

# fmt: off
WALLS = ((226, 214, 184), (214, 186, 136), (206, 172, 160), (176, 178, 176), (232, 230, 224),
         (186, 198, 168), (158, 90, 68), (122, 96, 78), (168, 184, 198), (96, 90, 86))
PAINTS = ((238, 238, 234), (98, 70, 52), (60, 62, 66), (74, 96, 80), (120, 140, 160), (140, 40, 36))
ROOFS = ((128, 76, 60), (84, 80, 82), (120, 124, 128))
SKIES = ((150, 186, 228), (206, 218, 230), (238, 240, 242))
# fmt: on

Rng = np.random.Generator
Box = tuple[float, float, float, float]


class Canvas:
    """A picture and its mask; what has no label goes into the picture only."""

    def __init__(self):
        self.picture, self.mask = Image.new("RGB", (SIDE, SIDE)), Image.new("L", (SIDE, SIDE))

    def box(self, box: Box, color: np.ndarray, label: int | None = None) -> None:
        """Fill a box with a colour (3,), or with a grid (rows, columns, 3) of them, blended."""
        x0, y0, x1, y1 = (round(v) for v in box)
        size = (max(1, x1 - x0), max(1, y1 - y0))
        corners = (x0, y0, x0 + size[0], y0 + size[1])
        fill = np.clip(color, 0, 255).astype(np.uint8)
        if fill.ndim == 3:
            patch = Image.fromarray(fill).resize(size, Image.Resampling.BILINEAR)
            self.picture.paste(patch, corners)
        else:
            self.picture.paste(tuple(fill.tolist()), corners)
        if label is not None:
            self.mask.paste(label, corners)


def _pick(rng: Rng, colors: tuple, spread: float = 12) -> np.ndarray:
    return np.array(colors[rng.integers(len(colors))]) + rng.normal(0, spread)


class _Style:
    """What the walls and windows of one building share; sizes are shares of a bay or a floor."""

    def __init__(self, rng: Rng):
        self.wall = _pick(rng, WALLS)
        self.trim = self.wall * rng.uniform(0.8, 1.15) + 10
        self.frame = _pick(rng, PAINTS, 6)
        self.paint = _pick(rng, PAINTS)
        self.glass = np.array((44, 50, 58)) * rng.uniform(0.6, 1.9)
        self.width, self.height = rng.uniform(0.36, 0.6), rng.uniform(0.46, 0.68)
        self.sill, self.lintel = rng.choice([0.06, 0.1, 0.2]), rng.choice([0.02, 0.08, 0.16])
        self.panes, self.transom = rng.choice([1, 2, 2, 3]), rng.choice([0.3, 0.5])
        self.shuttered = rng.random() < 0.2
        self.barred = rng.random() < 0.6  # balconies: an iron railing, or a parapet


def draw_scene(c: Canvas, rng: Rng) -> None:
    """Sky, roof, street, and a building whose sides may end within the picture."""
    c.box((0, 0, SIDE, SIDE), _pick(rng, SKIES, 6) + rng.normal(0, 6, (5, 4, 1)))
    seen = rng.random(4) < (0.3, 0.5, 0.3, 0.55)
    ends = rng.uniform((0.06, 0.08, 0.8, 0.85), (0.18, 0.24, 0.94, 0.95))
    beyond = rng.uniform((-0.12, -0.12, 1, 1), (0, 0, 1.12, 1.12))
    left, top, right, bottom = np.where(seen, ends, beyond) * SIDE
    if top > 0:
        tiles = np.multiply.outer(np.resize((1, 0.8), (20, 1)), _pick(rng, ROOFS))
        c.box((left + 9, top * rng.uniform(0.1, 0.7), right - 9, top), tiles)
    _building(c, rng, (left, top, right, bottom), int(rng.choice([2, 3, 4, 5, 5, 6, 7])))
    c.box((0, bottom, SIDE, SIDE), rng.uniform(70, 170, (3, 1, 1)) * np.ones(3), OTHERS)


def _building(c: Canvas, rng: Rng, box: Box, columns: int) -> None:
    """Wall, then floor by floor, then what stands in front of the windows."""
    x0, y0, x1, y1 = box
    style = _Style(rng)
    _wall(c, rng, box, style)
    floors = columns * (y1 - y0) / (x1 - x0) * rng.uniform(0.65, 1)
    ys = np.linspace(y0 + 0.03 * SIDE, y1, int(np.clip(round(floors), 2, 6)) + 1)
    margin = rng.uniform(0, 0.25) * (x1 - x0) / columns
    xs = np.linspace(x0 + margin, x1 - margin, columns + 1)
    band = rng.choice([0.02, 0.05, 0.12]) * (ys[1] - ys[0])
    ground = rng.choice(["windows", "door", "shop"])
    door = rng.integers(columns)
    for top, base in zip(ys[:-1], ys[1:], strict=True):
        _cornice(c, (x0, top, x1, top + band), style)
        for i in range(columns):
            cell = (xs[i], top + band, xs[i + 1], base)
            opens = base == y1 and (ground == "shop" or (ground == "door" and i == door))
            (_opening if opens else _bay)(c, rng, cell, style)
    _cornice(c, (x0 - 4, y0 - 5, x1 + 4, y0 + 0.04 * SIDE), style)
    if rng.random() < 0.5:
        _pillars(c, rng, xs, ys if ground == "windows" else ys[:-1], style)
    if rng.random() < 0.46:
        _balconies(c, rng, xs, ys[:-1], style)  # none on the ground floor


def _wall(c: Canvas, rng: Rng, box: Box, style: _Style) -> None:
    """Courses of brick or stone, or plaster."""
    c.box(box, style.wall, FACADE)
    x0, y0, x1, y1 = (min(SIDE, max(0, round(v))) for v in box)
    course = int(rng.choice([7, 24]))
    shade = 4 * rng.standard_normal((SIDE, SIDE), np.float32)
    if rng.random() < 0.6:
        stones = rng.normal(0, 60 / course, (80, 40)).repeat(course, 0).repeat(2 * course, 1)
        shade += stones[:SIDE, :SIDE]
        shade[::course] -= 16
    c.box((x0, y0, x1, y1), shade[y0:y1, x0:x1, None] + style.wall)


def _cornice(c: Canvas, box: Box, style: _Style) -> None:
    """A moulding across the wall: lit above, dark below, with its shadow on the wall."""
    x0, y0, x1, y1 = box
    c.box((x0, y1, x1, y1 + 4), style.wall * 0.62)
    c.box(box, np.multiply.outer([[1.15], [1], [0.72]], style.trim), OTHERS)


def _bay(c: Canvas, rng: Rng, cell: Box, style: _Style) -> None:
    """A window in its cell, with lintel, sill and shutters."""
    x0, y0, x1, y1 = cell
    w, h = (x1 - x0) * style.width, (y1 - y0) * style.height
    left, top = (x0 + x1 - w) / 2, (y0 + y1 - h) / 2
    right, base, over = left + w, top + h, 0.12 * w
    for y, thick in ((top - style.lintel * h, style.lintel * h), (base, style.sill * h)):
        c.box((left - over, y, right + over, y + thick + 4), style.wall * 0.65)
        c.box((left - over, y, right + over, y + thick), style.trim, OTHERS)
    if style.shuttered:
        leaf = min(0.42 * w, 0.48 * (x1 - x0 - w))
        slats = np.multiply.outer(np.resize((1, 0.7), (int(h / 3) + 1, 1)), style.paint)
        for x in (left - leaf, right):
            c.box((x, top, x + leaf, base), slats, OTHERS)
    _window(c, rng, (left, top, right, base), style)


def _window(c: Canvas, rng: Rng, box: Box, style: _Style) -> None:
    """Reveal, frame, glass with reflections and curtains, glazing bars; label: the whole box."""
    x0, y0, x1, y1 = box
    t = max(2, 0.05 * (x1 - x0))
    left, top, right, base = x0 + t, y0 + t, x1 - t, y1 - t
    c.box((x0 - 3, y0 - 3, x1, y1), style.wall * 0.55)
    c.box(box, style.frame, WINDOW)
    glass = style.glass * rng.uniform(0.6, 1.5) + rng.normal(0, 16, (5, 3, 1))
    if rng.random() < 0.3:  # the sky or the house opposite, mirrored
        glass[: rng.integers(1, 5)] += rng.uniform(20, 110)
    c.box((left, top, right, base), glass)
    if rng.random() < 0.4:
        fold, curtain = rng.uniform(0.15, 0.4) * (x1 - x0), np.full(3, rng.uniform(100, 210))
        c.box((left, top, left + fold, base), curtain)
        c.box((right - fold, top, right, base), curtain * 0.9)
    for x in np.linspace(x0, x1, style.panes + 1)[1:-1]:
        c.box((x - t / 2, y0, x + t / 2, y1), style.frame)
    bar = y0 + style.transom * (y1 - y0)
    c.box((x0, bar, x1, bar + t), style.frame)


def _opening(c: Canvas, rng: Rng, cell: Box, style: _Style) -> None:
    """A door or shop window with what stands behind the glass, and the sign above."""
    x0, y0, x1, y1 = cell
    inset, h = rng.uniform(0.1, 0.2) * (x1 - x0), y1 - y0
    c.box((x0 + inset / 2, y0 + 0.06 * h, x1 - inset / 2, y0 + 0.22 * h), style.paint, OTHERS)
    c.box((x0 + inset, y0 + 0.28 * h, x1 - inset, y1), style.paint * 0.6, OTHERS)
    goods = rng.normal(10, 25, (4, 5, 1)) + rng.normal(0, 10, (4, 5, 3))
    c.box((x0 + inset + 3, y0 + 0.28 * h + 3, x1 - inset - 3, y1 - 10), style.glass + goods)


def _pillars(c: Canvas, rng: Rng, xs: np.ndarray, ys: np.ndarray, style: _Style) -> None:
    """Pilasters between the columns, over one or more floors, with base and capital."""
    first = int(rng.integers(0, len(ys) - 1))
    top, bottom = ys[first] + 0.02 * SIDE, ys[rng.integers(first + 1, len(ys))]
    w = min(44, (xs[1] - xs[0]) * rng.uniform(0.3, 0.6) * (1 - style.width))
    rounded = np.multiply.outer([[0.95, 1.1, 1.02, 0.8]], style.trim)
    for x in xs[:: int(rng.choice([1, 1, 2]))]:
        c.box((x + w / 2, top, x + w / 2 + 4, bottom), style.wall * 0.6)
        c.box((x - w / 2, top, x + w / 2, bottom), rounded, PILLAR)
        for y in (top, bottom - 0.6 * w):
            c.box((x - 0.7 * w, y, x + 0.7 * w, y + 0.6 * w), style.trim * 0.93, PILLAR)


def _balconies(c: Canvas, rng: Rng, xs: np.ndarray, ys: np.ndarray, style: _Style) -> None:
    """One to a window in some columns, the same on most floors, and at times in all columns."""
    chosen = rng.random(len(xs) - 1) < rng.uniform(0.3, 0.8)
    reach = rng.uniform(0.35, 0.5)
    for y0, y1 in zip(ys[:-1], ys[1:], strict=True):
        fate = rng.random()
        for i in np.flatnonzero(chosen | (fate < 0.15)) if fate < 0.8 else ():
            _balcony(c, (xs[i], y1 - reach * (y1 - y0), xs[i + 1], y1), style)


def _balcony(c: Canvas, box: Box, style: _Style) -> None:
    """Railing before the lower part of the windows, slab, and the shadow under it."""
    x0, top, x1, base = box
    slab = base - 0.12 * (base - top)
    rail = style.frame * 0.45 if style.barred else style.trim * 0.8
    c.mask.paste(BALCONY, tuple(round(v) for v in box))
    c.box((x0, base, x1, base + 7), style.wall * 0.5)
    c.box((x0, slab, x1, base), style.trim * 0.7)
    for x in np.arange(x0, x1, 5) if style.barred else ():
        c.box((x, top, x + 2, slab), rail)
    c.box((x0, top, x1, top + 4 if style.barred else slab), rail)
