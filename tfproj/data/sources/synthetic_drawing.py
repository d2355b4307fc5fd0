"""How a synthetic facade is drawn: buildings, windows, balconies, street, and their mask.

Everything is drawn on a canvas of SIDE x SIDE pixels, picture and mask together. A box is
(left, top, right, bottom) in canvas pixels.

As in the CMP Facade Database, masks are made of rectangles: an arched window is labelled with
its bounding box, a balcony hides the window behind its railing, and mouldings, shutters, shops,
doors, roofs and the street are ``others``.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

SIZE = 256
SIDE = 2 * SIZE  # one bilinear sample then is a mean of 2 x 2 pixels: smooth edges
OTHERS, FACADE, PILLAR, WINDOW, BALCONY = range(5)

# fmt: off
WALLS = ((226, 214, 184), (214, 186, 136), (206, 172, 160), (176, 178, 176), (232, 230, 224),
         (186, 198, 168), (158, 90, 68), (122, 96, 78), (200, 186, 160), (168, 184, 198),
         (142, 136, 124), (222, 202, 164), (96, 90, 86), (196, 190, 182))
FRAMES = ((238, 238, 234), (225, 222, 210), (98, 70, 52), (60, 62, 66), (150, 140, 128))
PAINTS = ((74, 96, 80), (112, 78, 58), (120, 140, 160), (210, 208, 200), (140, 40, 36),
          (40, 42, 48), (190, 192, 196))
ROOFS = ((128, 76, 60), (84, 80, 82), (104, 84, 70), (120, 124, 128))
SKIES = ((150, 186, 228), (206, 218, 230), (238, 240, 242), (186, 194, 202))
LEAVES = ((66, 84, 44), (92, 104, 56), (50, 62, 40), (120, 112, 60))
# fmt: on

Rng = np.random.Generator
Box = tuple[float, float, float, float]
Color = tuple[int, ...]


class Canvas:
    """A picture and its mask; what has no label goes into the picture only."""

    def __init__(self):
        self.picture, self.mask = Image.new("RGB", (SIDE, SIDE)), Image.new("L", (SIDE, SIDE))
        self.ink, self.labels = ImageDraw.Draw(self.picture), ImageDraw.Draw(self.mask)

    def put(self, kind: str, where, color: Color | None, label: int | None = None):
        """A Pillow shape in a color, or with none in the mask only."""
        if color is not None:
            getattr(self.ink, kind)(where, color)
        if label is not None:
            getattr(self.labels, kind)(where, label)

    def box(self, box: Box, color: Color | None, label: int | None = None):
        self.put("rectangle", _pixels(box), color, label)

    def line(self, x0: float, y0: float, x1: float, y1: float, color: Color, width: float = 2):
        self.ink.line((x0, y0, x1, y1), color, round(width))

    def smooth(self, box: Box, grid: np.ndarray, label: int | None = None):
        """Interpolate a coarse (rows, columns, 3) grid of colours over a box."""
        x0, y0, x1, y1 = _pixels(box)
        patch = Image.fromarray(np.clip(grid, 0, 255).astype(np.uint8))
        patch = patch.resize((x1 - x0 + 1, y1 - y0 + 1), Image.Resampling.BILINEAR)
        self.picture.paste(patch, (x0, y0))
        self.box(box, None, label)


def _pixels(box: Box) -> tuple[int, int, int, int]:
    """Whole pixels, the last ones included, never empty."""
    x0, y0, x1, y1 = (round(v) for v in box)
    return x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)


def _tone(color: Color, factor: float, shift: float = 0) -> Color:
    return tuple(int(min(255, max(0, v * factor + shift))) for v in color)


def _pick(rng: Rng, colors: tuple, spread: float = 12) -> Color:
    return _tone(colors[rng.integers(len(colors))], rng.uniform(0.88, 1.1), rng.normal(0, spread))


class _Style:
    """What the walls and windows of one building share; sizes are shares of a bay or a floor."""

    def __init__(self, rng: Rng):
        self.wall = _pick(rng, WALLS)
        self.trim = _tone(self.wall, rng.uniform(0.8, 1.15), rng.uniform(-5, 25))
        self.frame = _pick(rng, FRAMES, 6)
        self.glass = _tone((44, 50, 58), rng.uniform(0.6, 1.9), rng.uniform(-5, 25))
        self.twin = rng.random() < 0.25
        self.arch = rng.random() < 0.15
        self.shuttered = not self.twin and rng.random() < 0.22
        self.shutter = _pick(rng, PAINTS)
        self.width = rng.uniform(0.5, 0.74) if self.twin else rng.uniform(0.3, 0.54)
        self.height = rng.uniform(0.46, 0.68)
        self.sill = rng.choice([0.06, 0.1, 0.2, 0.3])
        self.lintel = rng.choice(["none", "flat", "flat", "gable", "deep"])
        self.panes = rng.choice([1, 2, 2, 2, 3])
        self.transom = rng.choice([0, 0.28, 0.35, 0.5])
        self.rail = rng.choice(["bars", "bars", "solid", "stone"])


def draw_scene(c: Canvas, rng: Rng) -> None:
    """Sky, neighbours, one building, street, and what stands in front."""
    sky = _pick(rng, SKIES, 6)
    c.smooth((0, 0, SIDE, SIDE), np.array(sky) + rng.normal(0, 6, (5, 4, 1)))
    seen = rng.random(4) < (0.3, 0.5, 0.3, 0.55)  # does the side end within the picture?
    ends = rng.uniform((0.06, 0.08, 0.8, 0.85), (0.18, 0.24, 0.94, 0.95))
    beyond = rng.uniform((-0.12, -0.12, 1, 1), (0, 0, 1.12, 1.12))
    left, top, right, bottom = np.where(seen, ends, beyond) * SIDE
    for x0, x1, shown in ((left - 200, left, seen[0]), (right, right + 200, seen[2])):
        if shown and rng.random() < 0.75:
            _building(c, rng, (x0, rng.uniform(-50, 150), x1, bottom), 2, OTHERS)
    if seen[1] and rng.random() < 0.75:
        _roof(c, rng, left, top, right)
    _building(c, rng, (left, top, right, bottom), int(rng.choice([2, 3, 4, 5, 5, 6, 7])), FACADE)
    if seen[3]:
        _street(c, rng, bottom)
    _foreground(c, rng, bottom)


def _building(c: Canvas, rng: Rng, box: Box, columns: int, label: int) -> None:
    """Wall, then floor by floor; ``label`` is the class of the wall."""
    x0, y0, x1, y1 = box
    style = _Style(rng)
    _wall(c, rng, box, style.wall, label)
    aspect = columns * (y1 - y0) / (x1 - x0)
    floors = int(np.clip(round(aspect * rng.uniform(0.65, 1)), 2, 6))
    ys = np.linspace(y0 + 0.03 * SIDE, y1, floors + 1)
    margin = rng.uniform(0, 0.25) * (x1 - x0) / columns
    xs = np.linspace(x0 + margin, x1 - margin, columns + 1)
    bands = rng.uniform(0.03, 0.16, floors) * (rng.random() < 0.75) * (rng.random(floors) < 0.7)
    bands *= ys[1] - ys[0]
    for y, band in zip(ys, bands, strict=False):
        _cornice(c, style, (x0, y, x1, y + band))
    shop, door = rng.random() < 0.4, rng.random() < 0.5
    upper = floors - (shop or door)
    cells = [
        [(xs[i], ys[k] + bands[k], xs[i + 1], ys[k + 1]) for i in range(columns)]
        for k in range(upper)
    ]
    for cell in sum(cells, []):
        _bay(c, rng, cell, style)
    if upper < floors:
        _ground(c, rng, (x0, ys[-2], x1, y1), xs, style, shop)
    _cornice(c, style, (x0 - 4, y0 - 5, x1 + 4, y0 + 0.04 * SIDE))
    if rng.random() < 0.45:
        _pillars(c, rng, xs, ys[: upper + 1], style)
    if rng.random() < 0.46:
        _balconies(c, rng, cells[: floors - 1], style)  # none on the ground


def _wall(c: Canvas, rng: Rng, box: Box, color: Color, label: int) -> None:
    """Brick, blocks or plaster: one patch of texture, repeated."""
    brick = color[0] > 1.5 * color[2]
    h = int(rng.integers(5, 9) if brick else rng.integers(16, 34))
    w = round(2.3 * h)
    shade = np.repeat(np.repeat(rng.normal(0, 9 if brick else 3, (6, 6)), h, 0), w, 1)
    if brick or rng.random() < 0.4:
        shade[::h] += 14 if brick else -22
        shade[:, ::w] += 8 if brick else -12
        courses = shade.reshape(6, h, -1)
        courses[1::2] = np.roll(courses[1::2], w // 2, axis=2)
    else:
        shade = rng.normal(0, 4, (90, 90))
    patch = np.clip(shade[..., None] + color, 0, 255).astype(np.uint8)
    x0, y0, x1, y1 = (min(SIDE, max(0, round(v))) for v in box)
    tiles = (y1 - y0) // shade.shape[0] + 1, (x1 - x0) // shade.shape[1] + 1, 1
    c.picture.paste(Image.fromarray(np.tile(patch, tiles)[: y1 - y0, : x1 - x0]), (x0, y0))
    c.box(box, None, label)


def _cornice(c: Canvas, style: _Style, box: Box) -> None:
    """A moulding across the wall: lit above, its shadow below, teeth where it is high."""
    x0, y0, x1, y1 = box
    if y1 - y0 < 3:
        return
    c.box((x0, y1, x1, y1 + 4), _tone(style.wall, 0.62))
    c.box(box, style.trim, OTHERS)
    for share, tone in ((0.12, 1.15), (0.45, 0.82), (0.85, 0.7)):
        y = y0 + share * (y1 - y0)
        c.line(x0, y, x1, y, _tone(style.trim, tone))
    for x in range(int(x0), int(x1), 9) if y1 - y0 > 14 else ():
        c.line(x, y0 + 0.5 * (y1 - y0), x, y0 + 0.8 * (y1 - y0), _tone(style.trim, 0.75), 4)


def _bay(c: Canvas, rng: Rng, cell: Box, style: _Style) -> None:
    """One or two windows in their cell, with lintel, sill and shutters."""
    x0, y0, x1, y1 = cell
    w, h = (x1 - x0) * style.width, (y1 - y0) * style.height
    left, top = (x0 + x1 - w) / 2, y0 + (y1 - y0 - h) * 0.5
    right, base, over = left + w, top + h, 0.12 * w
    thick = min(0.1 * h, 0.45 * (top - y0)) * (2 if style.lintel == "deep" else 1)
    if style.lintel == "gable":
        points = ((left - over, top - thick), ((left + right) / 2, top - 2.2 * thick))
        c.put("polygon", (*points, (right + over, top - thick)), style.trim, OTHERS)
    if style.lintel != "none":
        c.box((left - over, top - thick, right + over, top), style.trim, OTHERS)
        c.line(left - over, top - 2, right + over, top - 2, _tone(style.trim, 0.65), 3)
    sill = base + min(style.sill * h, 0.9 * (y1 - base))
    c.box((left - over, base, right + over, sill + 4), _tone(style.wall, 0.7))
    c.box((left - over, base, right + over, sill), style.trim, OTHERS)
    c.line(left - over, base + 1, right + over, base + 1, _tone(style.trim, 1.2, 10))
    if style.shuttered and rng.random() < 0.85:
        leaf = min(0.42 * w, 0.48 * (x1 - x0 - w))
        slats = np.multiply.outer(np.resize((1, 0.7), (int(h / 3) + 1, 1)), style.shutter)
        for x in (left - leaf, right):
            c.smooth((x, top, x + leaf, base), slats, OTHERS)
    for share in (0, 0.54) if style.twin else (0,):
        x = left + share * w
        _window(c, rng, (x, top, x + (0.46 * w if style.twin else w), base), style)


def _window(c: Canvas, rng: Rng, box: Box, style: _Style) -> None:
    """Reveal, frame, glass with reflections and curtains, glazing bars; label: the whole box."""
    x0, y0, x1, y1 = box
    t = max(2, 0.05 * (x1 - x0))
    c.box((x0 - 3, y0 - 3, x1, y1), _tone(style.wall, 0.55))
    c.box(box, style.frame, WINDOW)
    glass = np.array(style.glass) * rng.uniform(0.6, 1.5) + rng.normal(0, 16, (5, 3, 1))
    if rng.random() < 0.3:  # the sky or the house opposite, mirrored
        glass[: rng.integers(1, 5)] += rng.uniform(20, 110) * np.array([0.9, 1, 1.12])
    left, top, right, base = x0 + t, y0 + t, x1 - t, y1 - t
    c.smooth((left, top, right, base), glass)
    draped, cloth = rng.random(), _tone((200, 196, 186), rng.uniform(0.5, 1.1))
    if draped < 0.4:
        fold = (0.15 + draped * 0.6) * (x1 - x0)
        c.box((left, top, left + fold, base), cloth)
        c.box((right - fold, top, right, base), _tone(cloth, 0.9))
    elif draped < 0.55:  # a blind, half down
        c.box((left, top, right, top + rng.uniform(0.15, 0.8) * (base - top)), cloth)
    for x in np.linspace(x0, x1, style.panes + 1)[1:-1]:
        c.line(x, y0, x, y1, style.frame, t)
    if style.transom:
        y = y0 + style.transom * (y1 - y0)
        c.line(x0, y, x1, y, style.frame, t)
    c.line(x0, y0 + 1, x1, y0 + 1, _tone(style.glass, 0.5), 3)
    if style.arch:  # a ring over the upper corners leaves a round head
        k = 0.21 * (x1 - x0)
        c.ink.arc((x0 - k, y0 - k, x1 + k, y0 + x1 - x0 + k), 180, 360, style.trim, round(k))


def _ground(c: Canvas, rng: Rng, box: Box, xs: np.ndarray, style: _Style, shop: bool) -> None:
    """Ground floor: shop windows under a sign, or windows with a door among them."""
    x0, y0, x1, y1 = box
    h = y1 - y0
    c.box(box, _tone(style.wall, rng.uniform(0.6, 1.1)))
    paint = _pick(rng, PAINTS)
    for left, right in zip(xs[:-1], xs[1:], strict=True):
        if not shop and rng.random() < 0.8:
            _bay(c, rng, (left, y0, right, y1 - 0.12 * h), style)
            continue
        inset = rng.uniform(0.1, 0.2) * (right - left)
        opening = (left + inset, y0 + 0.28 * h, right - inset, y1 - 0.03 * h)
        c.box(opening, _tone(paint, 0.6), OTHERS)
        goods = rng.normal(10, 25, (4, 5, 1)) + rng.normal(0, 10, (4, 5, 3))
        c.smooth(np.add(opening, (3, 3, -3, -10)), style.glass + goods)
    if shop:
        c.box((x0, y0 + 0.06 * h, x1, y0 + 0.24 * h), paint, OTHERS)
        for x in range(max(0, int(xs[0])), min(SIDE, int(xs[-1])), 9):
            if rng.random() < 0.5:  # letters, as far as a blur can tell
                y = y0 + rng.uniform(0.09, 0.13) * h
                c.box((x, y, x + 5, y0 + 0.21 * h), _tone(paint, 0.5, 120))


def _pillars(c: Canvas, rng: Rng, xs: np.ndarray, ys: np.ndarray, style: _Style) -> None:
    """Pilasters between the columns, over one or more floors, with base and capital."""
    first = int(rng.integers(0, len(ys) - 1))
    top, bottom = ys[first] + 0.02 * SIDE, ys[rng.integers(first + 1, len(ys))]
    bay = xs[1] - xs[0]
    w = min(40, bay * rng.uniform(0.25, 0.6) * (1 - style.width))
    color = _tone(style.trim, rng.uniform(0.95, 1.12))
    rounded = np.multiply.outer(np.array([[0.95, 1.1, 1.02, 0.8]]), color)
    for x in xs[:: int(rng.choice([1, 1, 2]))]:
        c.box((x + w / 2, top, x + w / 2 + 4, bottom), _tone(style.wall, 0.6))
        c.smooth((x - w / 2, top, x + w / 2, bottom), rounded, PILLAR)
        for y in (top, bottom - 0.6 * w):
            c.box((x - 0.7 * w, y, x + 0.7 * w, y + 0.6 * w), _tone(color, 0.93), PILLAR)
            c.line(x - 0.7 * w, y + 1, x + 0.7 * w, y + 1, _tone(color, 1.12))


def _balconies(c: Canvas, rng: Rng, cells: list[list[Box]], style: _Style) -> None:
    """One to a window in some columns, and sometimes one along a whole floor."""
    chosen = rng.random(len(cells[0])) < rng.uniform(0.3, 0.8)
    reach = rng.uniform(0.38, 0.52)
    for row in cells:
        fate = rng.random()
        if fate < 0.15:
            _balcony(c, rng, (*row[0][:2], *row[-1][2:]), reach, style)
        elif fate < 0.8:
            for i in np.flatnonzero(chosen):
                _balcony(c, rng, row[i], reach, style)


def _balcony(c: Canvas, rng: Rng, cell: Box, reach: float, style: _Style) -> None:
    """Railing before the lower part of the windows, slab, and the shadow under it."""
    x0, y0, x1, y1 = cell
    top, base = y1 - reach * (y1 - y0), y1 - 0.03 * (y1 - y0)
    slab = base - 0.12 * (base - top)
    iron = _tone(style.frame, 0.45) if style.rail == "bars" else _tone(style.trim, 0.8)
    c.box((x0, base, x1, base + 7), _tone(style.wall, 0.5))
    c.box((x0, top, x1, base), None, BALCONY)
    if style.rail == "solid":
        c.smooth((x0, top, x1, slab), np.array(iron) + rng.normal(0, 5, (3, 4, 1)))
    else:
        step, width = (5, 1) if style.rail == "bars" else (9, 5)
        if style.rail == "stone":  # too thick to look through
            c.box((x0, top, x1, slab), _tone(style.wall, 0.6))
        for x in np.arange(x0 + 1, x1, step):
            c.line(x, top, x, slab, iron, width)
    c.line(x0, top, x1, top, _tone(iron, 1.15), 4)
    c.box((x0, slab, x1, base), _tone(style.trim, 0.7))


def _roof(c: Canvas, rng: Rng, x0: float, y0: float, x1: float) -> None:
    """Tiles and chimneys between the sky and the cornice."""
    color, ridge, lean = _pick(rng, ROOFS), y0 * rng.uniform(0.1, 0.7), rng.uniform(0, 40)
    for x in rng.uniform(x0, x1, rng.integers(0, 4)):
        c.box((x, ridge - 14, x + 18, y0), _tone(color, 0.8))
    c.put("polygon", ((x0, y0), (x0 + lean, ridge), (x1 - lean, ridge), (x1, y0)), color)
    for y in np.arange(ridge, y0, 5):
        c.line(x0 + lean, y, x1 - lean, y, _tone(color, rng.uniform(0.8, 1.05)))


def _street(c: Canvas, rng: Rng, y: float) -> None:
    """Pavement, road and parked cars."""
    ground = rng.uniform(70, 170) + rng.normal(0, 9, (3, 5, 1)) + np.zeros(3)
    c.smooth((0, y, SIDE, SIDE), ground, OTHERS)
    for x in rng.uniform(0, SIDE, rng.integers(0, 4)):
        paint, w, h = _pick(rng, PAINTS), rng.uniform(70, 120), rng.uniform(26, 40)
        low = y + rng.uniform(10, 30)
        c.put("ellipse", (x + 0.15 * w, low - h, x + 0.8 * w, low), paint, OTHERS)
        c.box((x + 0.25 * w, low - 0.85 * h, x + 0.7 * w, low - 0.5 * h), (40, 46, 54))
        c.box((x, low - 0.5 * h, x + w, low), paint, OTHERS)
        for hub in (x + 0.12 * w, x + 0.72 * w):
            c.put("ellipse", (hub, low - 8, hub + 16, low + 8), (24, 24, 26), OTHERS)


def _foreground(c: Canvas, rng: Rng, ground: float) -> None:
    """A leafy tree (``others``), and thin things that annotators look through."""
    if rng.random() < 0.3:
        x, y, r = rng.uniform(0, SIDE), rng.uniform(0.6, 1) * ground, rng.uniform(30, 90)
        leaf = _pick(rng, LEAVES)
        core = (x - 0.6 * r, y - 0.6 * r, x + 0.6 * r, y + 0.6 * r)
        c.put("ellipse", core, _tone(leaf, 0.75), OTHERS)
        for dx, dy, size in rng.normal(0, 1, (160, 3)):
            a, b, q = x + 0.5 * r * dx, y + 0.5 * r * dy, r * (0.07 + 0.03 * abs(size))
            shade = _tone(leaf, 1 - 0.2 * dy + 0.2 * size)
            c.put("ellipse", (a - q, b - q, a + q, b + q), shade, OTHERS)
    for x in rng.uniform(0, SIDE, rng.poisson(0.4)):  # rain pipes and lamp posts
        c.line(x, rng.uniform(-0.5, 0.6) * SIDE, x, SIDE, (int(rng.uniform(40, 150)),) * 3, 5)
    for y in rng.uniform(0, 0.8 * SIDE, rng.poisson(0.5)):  # wires
        c.line(0, y, SIDE, y + rng.normal(0, 50), (50, 50, 52), 1)
